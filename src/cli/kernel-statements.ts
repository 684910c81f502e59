/**
 * Statements of a scenario as requests to the native supervisor.
 *
 * Entry: carryOut. What runs is the real system call with the scenario's own arguments; results are translated to those of the
 *        scenario language (0 for success, negative errno).
 * Owns:  KernelRun, what is known about the scenario under way: layout, channels of tasks, slots of pins.
 * Units: addresses and lengths in bytes.
 */

import { PAGE_SIZE } from "../base/address.ts";
import { assert } from "../base/assert.ts";
import { ENOMEM } from "../base/errno.ts";
import type { StepResult, TracedEvent } from "../scenario/backend.ts";
import {
  addressesOf,
  elementsOf,
  HEAP,
  type Layout,
  noteRange,
  nrPagesNamed,
  placeOf,
} from "../scenario/layout.ts";
import type { Shadow } from "../scenario/shadow.ts";
import { noteAdvice, noteProcessAdvice, pagesTouched } from "../scenario/shadow-advice.ts";
import type { Action, MapFlag, Span, Statement } from "../scenario/syntax.ts";
import { MADV } from "../syscall/madvise.ts";
import { readEvent } from "./kernel-events.ts";
import { knobPath } from "./kernel-knobs.ts";
import type { Supervisor } from "./kernel-supervisor.ts";
import { FrameWriter, VERB } from "./kernel-wire.ts";

/** Where the supervisor's actors have their heap (HEAP_START of native/scenario/protocol.h). */
export const HEAP_START = 0x555555600000;

/** VALUES_MAX of native/scenario/protocol.h. */
const PAGES_AT_ONCE = 8192;
/** ZERO_FD of native/scenario/protocol.h. */
const ZERO_FD = 499;

/** System calls of x86-64. */
const SYS = {
  mmap: 9,
  mprotect: 10,
  munmap: 11,
  brk: 12,
  mremap: 25,
  madvise: 28,
  mlock: 149,
  munlock: 150,
  mlockall: 151,
  munlockall: 152,
  prctl: 157,
  mlock2: 325,
  mseal: 462,
} as const;

const MAP = { SHARED: 1, PRIVATE: 2, DROPPABLE: 8, FIXED: 0x10, ANONYMOUS: 0x20 } as const;
const MAP_FLAGS: Readonly<Record<MapFlag, number>> = {
  shared: 0,
  populate: 0x8000,
  locked: 0x2000,
  stack: 0x20000,
  noreserve: 0x4000,
  growsdown: 0x100,
  droppable: 0,
  zerofile: 0,
  anywhere: 0,
};
const MREMAP = { MAYMOVE: 1, FIXED: 2, DONTUNMAP: 4 } as const;
const MLOCK_FLAGS = { current: 1, future: 2, onfault: 4 } as const;
const PR = { SET_THP_DISABLE: 41, GET_THP_DISABLE: 42 } as const;
const SIGNALS: Readonly<Record<number, "SIGSEGV" | "SIGBUS">> = { 11: "SIGSEGV", 7: "SIGBUS" };

/** A process or thread of the scenario. */
export interface KernelTask {
  readonly name: string;
  readonly channel: number;
  /** Name of the process it is or belongs to. */
  readonly process: string;
}

export interface KernelRun {
  readonly supervisor: Supervisor;
  readonly layout: Layout;
  /** What the memory of each process must hold. */
  readonly shadows: Map<string, Shadow>;
  /** The next value that nobody has written yet. */
  nextValue: number;
  /** Length of each process's heap, 0 if it is not here. */
  readonly heapPages: Map<string, number>;
  /** Living ones by name, in the order of their creation. */
  readonly tasks: Map<string, KernelTask>;
  /** Slot and owner of each pin and hold. */
  readonly pins: Map<string, { readonly channel: number; readonly slot: number }>;
  nrPins: number;
  /** Of the last statement; null if this host cannot trace them. */
  events: readonly TracedEvent[] | null;
  /** Whether the huge zero page was there before the scenario used it. */
  hugeZeroBefore: "unknown" | "absent" | "present";
}

const DONE: StepResult = { kind: "value", value: 0 };

function valued(value: number): StepResult {
  return { kind: "value", value };
}

/** 0 for any success. */
function zeroed(result: number): StepResult {
  return valued(Math.min(result, 0));
}

export function carryOut(run: KernelRun, statement: Statement): StepResult {
  const { action } = statement;
  const task = taskNamed(run, statement.actor);
  if (!mayCollapse(action)) {
    run.events = [];
    return carryOutIn(run, task, action);
  }
  // Every process is known by now, so that what is emitted can be told from what others emit.
  const isTraced = run.supervisor.ask(new FrameWriter(VERB.TRACE)).s64() === 1;
  const result = carryOutIn(run, task, action);
  run.events = isTraced ? takeEvents(run) : null;
  return result;
}

function mayCollapse(action: Action): boolean {
  if (action.verb === "madvise") return action.advice === MADV.COLLAPSE;
  return action.verb === "process-madvise" || action.verb === "khugepaged";
}

function takeEvents(run: KernelRun): TracedEvent[] {
  const answer = run.supervisor.ask(new FrameWriter(VERB.EVENTS));
  const names = new Map([...run.tasks.values()].map((task) => [task.channel, task.process]));
  return Array.from({ length: answer.u32() }, () => {
    const process = names.get(answer.u32()) ?? "";
    return readEvent(process, answer.text());
  });
}

function carryOutIn(run: KernelRun, task: KernelTask, action: Action): StepResult {
  switch (action.verb) {
    case "map":
      return map(run, task, action);
    case "remap":
      return remap(run, task, action);
    case "brk":
      return moveBreak(run, task, action.sizeBytes);
    case "read":
    case "write":
      return touch(run, task, action.span, action.verb);
    case "mincore":
      return mincore(run, task, action.span);
    case "fork":
    case "thread":
      return start(run, task, action);
    case "exit":
      return exit(run, task);
    case "pin":
    case "hold-page":
      return pin(run, task, action);
    case "release":
      return release(run, action.name);
    case "mark":
      return DONE;
    case "process-madvise":
      return processMadvise(run, task, action);
    case "khugepaged":
      return zeroed(
        run.supervisor.ask(new FrameWriter(VERB.KHUGEPAGED).u32(action.nrPasses)).s64(),
      );
    case "unmap":
    case "protect":
    case "madvise":
    case "mlock":
    case "mlock2":
    case "munlock":
    case "mseal":
      return spanCall(run, task, action);
    case "mlockall":
      return zeroed(call(run, task, SYS.mlockall, flagSum(action.flags, MLOCK_FLAGS)));
    case "munlockall":
      return zeroed(call(run, task, SYS.munlockall));
    case "prctl": {
      const op = action.op === "set" ? PR.SET_THP_DISABLE : PR.GET_THP_DISABLE;
      return valued(call(run, task, SYS.prctl, op, ...action.args));
    }
    default:
      return systemWide(run, task, action);
  }
}

/** What is done to the whole system, or to it by a task. */
function systemWide(run: KernelRun, task: KernelTask, action: Action): StepResult {
  const ask = (frame: FrameWriter) => zeroed(run.supervisor.ask(frame).s64());
  switch (action.verb) {
    case "knob":
      return ask(new FrameWriter(VERB.WRITE_KNOB).text(knobPath(action.name)).text(action.value));
    case "memcg":
    case "limit":
      return ask(new FrameWriter(VERB.MEMCG).text(action.name).s64(action.maxBytes ?? -1));
    case "join":
      return ask(new FrameWriter(VERB.JOIN).u32(task.channel).text(action.name));
    case "swapon":
    case "swapoff":
      return ask(new FrameWriter(VERB.SWAP).u32(action.verb === "swapon" ? 1 : 0));
    case "drop-caches":
      return ask(new FrameWriter(VERB.DROP_CACHES));
    default:
      assert(false, "a statement that only the model can carry out came to the kernel");
      return DONE;
  }
}

export function taskNamed(run: KernelRun, name: string): KernelTask {
  const task = run.tasks.get(name);
  assert(task !== undefined, "a statement of a task that does not live");
  return task;
}

function shadowOf(run: KernelRun, task: KernelTask): Shadow {
  const shadow = run.shadows.get(task.process);
  assert(shadow !== undefined, "a process without a record of its memory");
  return shadow;
}

/** A system call in the task; negative errno or what it returned. */
function call(run: KernelRun, task: KernelTask, number: number, ...args: number[]): number {
  const frame = new FrameWriter(VERB.CALL).u32(task.channel).u64(number);
  for (let i = 0; i < 6; i++) frame.s64(args[i] ?? 0);
  return run.supervisor.ask(frame).s64();
}

function flagSum<F extends string>(flags: readonly F[], bits: Readonly<Record<F, number>>): number {
  return flags.reduce((sum, flag) => sum | bits[flag], 0);
}

function protOf(letters: string): number {
  return flagSum([...letters] as ("r" | "w" | "x")[], { r: 1, w: 2, x: 4 });
}

// ---- Mappings ---------------------------------------------------------------------------------

type MapAction = Extract<Action, { verb: "map" }>;
type RemapAction = Extract<Action, { verb: "remap" }>;

function map(run: KernelRun, task: KernelTask, action: MapAction): StepResult {
  const place = placeOf(run.layout, action);
  const has = (flag: MapFlag) => action.flags.includes(flag);
  const type = has("shared") ? MAP.SHARED : has("droppable") ? MAP.DROPPABLE : MAP.PRIVATE;
  const source = has("zerofile") ? 0 : MAP.ANONYMOUS;
  const flags = type | source | (place === null ? 0 : MAP.FIXED) | flagSum(action.flags, MAP_FLAGS);
  const fd = has("zerofile") ? ZERO_FD : -1;
  const prot = protOf(action.prot);
  const result = call(run, task, SYS.mmap, place ?? 0, action.sizeBytes, prot, flags, fd, 0);
  const start = result < 0 ? place : result;
  const nrPages = nrPagesNamed(run.layout, action);
  if (start !== null) noteRange(run.layout, action.range, start, nrPages);
  const shadow = shadowOf(run, task);
  if (result < 0) {
    if (place !== null) shadow.doubt(place / PAGE_SIZE, nrPages);
  } else {
    shadow.map(result / PAGE_SIZE, nrPages, has("shared") ? { written: new Map() } : null);
  }
  return zeroed(result);
}

function remap(run: KernelRun, task: KernelTask, action: RemapAction): StepResult {
  const { start, end } = addressesOf(run.layout, action.span);
  const place = placeOf(run.layout, action);
  const has = (flag: RemapAction["flags"][number]) => action.flags.includes(flag);
  const newBytes = action.sizeBytes ?? end - start;
  const isFixed = place !== null && !has("inplace");
  const flags =
    (has("inplace") ? 0 : MREMAP.MAYMOVE) |
    (isFixed ? MREMAP.FIXED : 0) |
    (has("dontunmap") ? MREMAP.DONTUNMAP : 0);
  const nrPages = nrPagesNamed(run.layout, action);
  const to = isFixed ? place : 0;
  const result = call(run, task, SYS.mremap, start, end - start, newBytes, flags, to);
  const at = result < 0 ? place : result;
  if (at !== null) noteRange(run.layout, action.to, at, nrPages);
  const [first, nrOld] = [start / PAGE_SIZE, (end - start) / PAGE_SIZE];
  const shadow = shadowOf(run, task);
  if (result < 0) {
    // A fixed target, and what the range is shortened by, may be gone even if the call then fails.
    if (isFixed) shadow.doubt(place / PAGE_SIZE, nrPages);
    shadow.doubt(first, nrOld);
  } else {
    shadow.move(first, nrOld, result / PAGE_SIZE, nrPages, has("dontunmap"));
  }
  return zeroed(result);
}

function moveBreak(run: KernelRun, task: KernelTask, sizeBytes: number): StepResult {
  const wanted = HEAP_START + sizeBytes;
  const result = call(run, task, SYS.brk, wanted);
  if (result !== wanted) return valued(-ENOMEM);
  const nrPages = Math.ceil(sizeBytes / PAGE_SIZE);
  const before = run.layout.ranges.get(HEAP)?.nrPages ?? 0;
  // Pages that the heap had once are still looked at.
  const nrSeen = Math.max(before, nrPages);
  if (nrSeen > 0) noteRange(run.layout, HEAP, HEAP_START, nrSeen);
  const old = run.heapPages.get(task.process) ?? 0;
  run.heapPages.set(task.process, nrPages);
  const first = HEAP_START / PAGE_SIZE;
  const shadow = shadowOf(run, task);
  if (nrPages > old) shadow.map(first + old, nrPages - old, null);
  else if (nrPages < old) shadow.unmap(first + nrPages, old - nrPages);
  return DONE;
}

type SpanAction = Extract<Action, { span: Span }>;

function spanCall(run: KernelRun, task: KernelTask, action: SpanAction): StepResult {
  const { start, end } = addressesOf(run.layout, action.span);
  const length = end - start;
  switch (action.verb) {
    case "unmap": {
      const result = call(run, task, SYS.munmap, start, length);
      if (result === 0) shadowOf(run, task).unmap(start / PAGE_SIZE, length / PAGE_SIZE);
      else shadowOf(run, task).doubt(start / PAGE_SIZE, length / PAGE_SIZE);
      return zeroed(result);
    }
    case "protect":
      return zeroed(call(run, task, SYS.mprotect, start, length, protOf(action.prot)));
    case "madvise": {
      const { offsetBytes = 0, lengthBytes = length } = action;
      const at = start + offsetBytes;
      const result = call(run, task, SYS.madvise, at, lengthBytes, action.advice);
      const [first, nr] = pagesTouched(at, lengthBytes);
      noteAdvice(shadowOf(run, task), action.advice, first, nr, result);
      return zeroed(result);
    }
    case "mlock2":
      return zeroed(
        call(run, task, SYS.mlock2, start, length, action.flags.includes("onfault") ? 1 : 0),
      );
    case "mseal":
      return zeroed(call(run, task, SYS.mseal, start, length, 0));
    case "mlock":
    case "munlock":
      return zeroed(call(run, task, SYS[action.verb], start, length));
    default:
      assert(false, "a statement with a span that is no call");
      return DONE;
  }
}

type ProcessMadviseAction = Extract<Action, { verb: "process-madvise" }>;

/** PIDFD_* of native/scenario/protocol.h by the language's words. */
const PIDFD = { self: 1, bad: 2, zombie: 3, reaped: 4, "kernel-thread": 5 } as const;

function processMadvise(
  run: KernelRun,
  task: KernelTask,
  action: ProcessMadviseAction,
): StepResult {
  const { target, advice } = action;
  const elements = elementsOf(run.layout, action);
  const other = "process" in target ? taskNamed(run, target.process) : task;
  const frame = new FrameWriter(VERB.PROCESS_MADVISE)
    .u32(task.channel)
    .u32("process" in target ? 0 : PIDFD[target.pidfd])
    .u32(other.channel)
    .u32(elements.length);
  for (const { start, length } of elements) frame.u64(start).s64(length);
  frame.s64(elements.length).s64(advice).s64(action.flags);
  const result = run.supervisor.ask(frame.u32(action.isUnreadable ? 1 : 0)).s64();
  noteProcessAdvice(shadowOf(run, other), advice, elements, result);
  return valued(result);
}

// ---- Touches ----------------------------------------------------------------------------------

function touch(run: KernelRun, task: KernelTask, span: Span, verb: "read" | "write"): StepResult {
  const { start, end } = addressesOf(run.layout, span);
  const stride = span.step * PAGE_SIZE;
  const nrPages = Math.ceil((end - start) / stride);
  const shadow = shadowOf(run, task);
  for (let first = 0; first < nrPages; first += PAGES_AT_ONCE) {
    const nr = Math.min(PAGES_AT_ONCE, nrPages - first);
    const at = start + first * stride;
    const value = verb === "write" ? run.nextValue : 0;
    if (verb === "write") run.nextValue += nr;
    const answer = run.supervisor.ask(
      new FrameWriter(VERB.TOUCH)
        .u32(task.channel)
        .u64(at)
        .u32(nr)
        .u32(span.step)
        .u32(verb === "write" ? 1 : 0)
        .u64(value),
    );
    const signal = answer.s32();
    const nrDone = answer.u32();
    for (let i = 0; i < nrDone; i++) {
      const page = (at + i * stride) / PAGE_SIZE;
      if (verb === "write") shadow.write(page, value + i);
      else if (!shadow.allows(page, answer.u64()))
        return { kind: "wrongContents", page: span.first + (first + i) * span.step };
    }
    if (signal !== 0) return { kind: "signal", signal: SIGNALS[signal] ?? "SIGSEGV" };
  }
  return DONE;
}

function mincore(run: KernelRun, task: KernelTask, span: Span): StepResult {
  const { start, end } = addressesOf(run.layout, span);
  const answer = run.supervisor.ask(
    new FrameWriter(VERB.MINCORE)
      .u32(task.channel)
      .u64(start)
      .u64(end - start),
  );
  const value = answer.s64();
  if (value < 0) return valued(value);
  const resident = Array.from({ length: answer.u32() }, () => answer.u8() & 1);
  return { kind: "value", value: 0, resident };
}

// ---- Processes, threads, pins -----------------------------------------------------------------

type StartAction = Extract<Action, { verb: "fork" | "thread" }>;

function start(run: KernelRun, task: KernelTask, action: StartAction): StepResult {
  const taken = new Set([...run.tasks.values()].map((other) => other.channel));
  let channel = 0;
  while (taken.has(channel)) channel++;
  const verb = action.verb === "fork" ? VERB.FORK : VERB.THREAD;
  const answer = run.supervisor.ask(new FrameWriter(verb).u32(task.channel).u32(channel));
  const result = answer.s64();
  if (result < 0) return valued(result);
  const process = action.verb === "fork" ? action.name : task.process;
  run.tasks.set(action.name, { name: action.name, channel, process });
  if (action.verb === "fork") {
    run.shadows.set(process, shadowOf(run, task).fork());
    run.heapPages.set(process, run.heapPages.get(task.process) ?? 0);
  }
  return DONE;
}

/** A thread ends alone, a process with its threads. Its pins are dropped first: the kernel would drop them some time later. */
function exit(run: KernelRun, task: KernelTask): StepResult {
  const isProcess = task.name === task.process;
  if (isProcess) releaseAll(run, task.process);
  run.supervisor.ask(new FrameWriter(VERB.EXIT).u32(task.channel));
  for (const other of [...run.tasks.values()]) {
    if (other.name !== task.name && !(isProcess && other.process === task.process)) continue;
    run.tasks.delete(other.name);
    for (const [name, { channel }] of run.pins)
      if (channel === other.channel) run.pins.delete(name);
  }
  return DONE;
}

function releaseAll(run: KernelRun, process: string): void {
  const channels = new Set<number>();
  for (const task of run.tasks.values()) if (task.process === process) channels.add(task.channel);
  for (const [name, { channel }] of [...run.pins]) if (channels.has(channel)) release(run, name);
}

type PinAction = Extract<Action, { verb: "pin" | "hold-page" }>;

function pin(run: KernelRun, task: KernelTask, action: PinAction): StepResult {
  const { start, end } = addressesOf(run.layout, action.span);
  const slot = run.nrPins++;
  const verb = action.verb === "pin" ? VERB.PIN : VERB.HOLD;
  const frame = new FrameWriter(verb).u32(task.channel).u32(slot).u64(start);
  const result = run.supervisor.ask(action.verb === "pin" ? frame.u64(end - start) : frame).s64();
  if (result >= 0) run.pins.set(action.name, { channel: task.channel, slot });
  return zeroed(result);
}

function release(run: KernelRun, name: string): StepResult {
  const held = run.pins.get(name);
  if (held === undefined) return DONE; // the pin failed, or ended with its process
  run.pins.delete(name);
  const frame = new FrameWriter(VERB.RELEASE).u32(held.channel).u32(held.slot);
  return zeroed(run.supervisor.ask(frame).s64());
}
