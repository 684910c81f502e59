/**
 * What each verb does to the model, but for the system calls about mappings (model-calls.ts).
 *
 * Entry: carryOut. Holds: results are as backend.ts says.
 */

import { PAGE_SIZE, type Pfn, pteIndexOf, regionOf } from "../base/address.ts";
import { EAGAIN, EBUSY, EFAULT, EINVAL, ENOENT, ENOMEM, ENOSPC } from "../base/errno.ts";
import { runKhugepagedPass } from "../collapse/khugepaged.ts";
import {
  dirtyMapped,
  handleFault,
  isAccessible,
  isHugeMapped,
  translateToPfn,
} from "../fault/fault.ts";
import { FAULT_SIGBUS, FAULT_SIGSEGV, FAULT_WAIT, poisonOf } from "../fault/kinds.ts";
import { shrinkDeferred } from "../huge/deferred-split-phases.ts";
import { writeKnob } from "../huge/knobs.ts";
import { dropSlab } from "../huge/shrinkers.ts";
import { splitPage } from "../huge/split-page-phases.ts";
import { NO_FAULT, pageTag, readPage, writePage } from "../machine/access.ts";
import { exitProcess, forkProcess } from "../machine/process.ts";
import { restore, snapshot } from "../machine/snapshot.ts";
import { getPage, pinPages, putPage, unpinPages } from "../mm/pins.ts";
import { allocFolio, GFP_HIGHUSER_MOVABLE } from "../phys/alloc.ts";
import { failNextAllocs, failNextCharges } from "../phys/failing.ts";
import { headOf, NO_PFN, PG } from "../phys/frame-table.ts";
import { lruMarkAccessed } from "../phys/lru.ts";
import { createMemcg } from "../phys/memcg.ts";
import { MADV, sysMadvise } from "../syscall/madvise.ts";
import { sysMincore } from "../syscall/mincore.ts";
import { sysMunlockall } from "../syscall/mlock.ts";
import { sysGetThpDisable, sysSetThpDisable } from "../syscall/prctl.ts";
import { sysSwapoff, sysSwapon } from "../syscall/swap.ts";
import { CannotDo, type StepResult } from "./backend.ts";
import { addressesOf } from "./layout.ts";
import {
  callBrk,
  callLock,
  callMadvise,
  callMap,
  callMlockall,
  callMseal,
  callProcessMadvise,
  callProtect,
  callRemap,
  callUnmap,
} from "./model-calls.ts";
import { continueTask, holdTask, wouldWait } from "./model-holds.ts";
import type { ModelProcess, ModelState } from "./model-state.ts";
import type { SharedObject } from "./shadow.ts";
import type { Action, Span, Statement } from "./syntax.ts";

/** Reference count that one pin of a small folio adds. */
const SMALL_PIN_BIAS = 1024;

/** Carries out one statement. Throws CannotDo for what is not modelled. */
export function carryOut(state: ModelState, statement: Statement): StepResult {
  const { action, actor } = statement;
  const processName = state.tasks.get(actor)!;
  const process = state.processes.get(processName)!;
  if (wouldWait(state, process, action)) return value(-EAGAIN);
  switch (action.verb) {
    case "hold":
      return hold(state, action);
    case "continue":
      return resume(state, action.name);
    case "read":
    case "write":
      return touch(state, process, action.verb, action.span);
    case "map":
      return value(callMap(state, process, action));
    case "remap":
      return value(callRemap(state, process, action));
    case "unmap":
      return value(callUnmap(state, process, action.span));
    case "protect":
      return value(callProtect(state, process, action));
    case "brk":
      return value(callBrk(state, process, action.sizeBytes));
    case "madvise":
      return value(callMadvise(state, process, action, statement.line));
    case "process-madvise":
      return value(callProcessMadvise(state, process, action, statement.line));
    case "mlock":
    case "munlock":
      return value(callLock(state, process, action.span, action.verb));
    case "mlock2": {
      const how = action.flags.length > 0 ? "mlock2 onfault" : "mlock2";
      return value(callLock(state, process, action.span, how));
    }
    case "mlockall":
      return value(callMlockall(state, process, action));
    case "munlockall":
      return value(sysMunlockall(state.m, process.mm));
    case "mseal":
      return value(callMseal(state, process, action.span));
    case "mincore":
      return mincore(state, process, action.span);
    case "prctl":
      return value(prctl(state, process, action));
    case "fork":
      return value(fork(state, process, action.name));
    case "thread":
      state.tasks.set(action.name, processName);
      return value(0);
    case "exit":
      exit(state, actor, processName);
      return value(0);
    case "pin":
    case "hold-page":
      return value(takePages(state, process, processName, action));
    case "release":
      dropPin(state, action.name);
      return value(0);
    default:
      return value(carryOutOnMachine(state, process, statement));
  }
}

function hold(state: ModelState, action: Extract<Action, { verb: "hold" }>): StepResult {
  holdTask(state, action);
  return value(0);
}

/** What was held ends; a touch is then made again as the processor does. It must give what the held statement says. */
function resume(state: ModelState, task: string): StepResult {
  const ended = continueTask(state, task);
  if (ended === null) return value(-EAGAIN);
  return ended.result === "again" ? carryOut(state, ended.statement) : ended.result;
}

/** Verbs that act on the whole machine, or on its memory cgroups. */
function carryOutOnMachine(
  state: ModelState,
  process: ModelProcess,
  { action, line }: Statement,
): number {
  switch (action.verb) {
    case "mark":
      return 0;
    case "knob":
      return setKnob(state, action, line);
    case "memcg":
      return makeMemcg(state, action.name, action.maxBytes);
    case "join":
      process.mm.memcg = state.memcgs.get(action.name)!;
      return 0;
    case "limit":
      return limitMemcg(state, action.name, action.maxBytes);
    case "drop-caches":
      dropSlab(state.m, state.m.knobs.khugepaged.max_ptes_none);
      return 0;
    case "poison":
      return memoryFailure(state, process, action.span, MADV.HWPOISON);
    case "soft-offline":
      return memoryFailure(state, process, action.span, MADV.SOFT_OFFLINE);
    case "split": {
      const { start } = addressesOf(state.layout, action.span);
      return splitPage(state.m, process.mm, regionOf(start), pteIndexOf(start), action.order);
    }
    case "shrink":
      return shrinkQueues(state, action.nr);
    case "fail":
      if (action.what === "alloc") failNextAllocs(state.m, action.order, action.count);
      else failNextCharges(state.m, action.count);
      return 0;
    case "fragment":
      return fragment(state, action.order);
    case "defragment":
      return giveBlocks(state, () => true);
    case "snapshot":
      return save(state, action.name);
    case "restore":
      return putBack(state, action.name);
    case "khugepaged":
      for (let i = 0; i < action.nrPasses; i++) runKhugepagedPass(state.m);
      return 0;
    case "swapon":
      return switchSwapOn(state, line);
    case "swapoff":
      return sysSwapoff(state.m, 0);
    default:
      throw new CannotDo(line, `the model does not know ${action.verb} yet`);
  }
}

/** The one device of the header. 0 or a negative errno. */
function switchSwapOn({ m, nrSwapSlots }: ModelState, line: number): number {
  if (nrSwapSlots === 0) throw new CannotDo(line, "the header names no swap device");
  if (m.swap.devices.some((device) => device !== null)) return -EBUSY;
  return Math.min(sysSwapon(m, { nrSlots: nrSwapSlots }), 0);
}

function value(number: number): StepResult {
  return { kind: "value", value: number };
}

/** One access to each page of the span, ascending, up to the first that is refused. */
function touch(
  state: ModelState,
  process: ModelProcess,
  verb: "read" | "write",
  span: Span,
): StepResult {
  const { m } = state;
  const { mm, shadow } = process;
  const { start, end } = addressesOf(state.layout, span);
  for (let at = start; at < end; at += span.step * PAGE_SIZE) {
    const region = regionOf(at);
    const pte = pteIndexOf(at);
    const tag = verb === "write" ? state.nextTag++ : 0;
    const result =
      verb === "write" ? writePage(m, mm, region, pte, tag) : readPage(m, mm, region, pte);
    if (result < 0 && result !== NO_FAULT) return refused(result);
    const page = at / PAGE_SIZE;
    if (verb === "write") shadow.write(page, tag);
    else if (!shadow.allows(page, pageTag(m, mm, region, pte)))
      return { kind: "wrongContents", page: span.first + (at - start) / PAGE_SIZE };
  }
  return value(0);
}

function refused(result: number): StepResult {
  if (result === FAULT_WAIT) return value(-EAGAIN); // for a task that is held
  if (result === FAULT_SIGSEGV) return { kind: "signal", signal: "SIGSEGV" };
  return result === FAULT_SIGBUS || poisonOf(result) !== null
    ? { kind: "signal", signal: "SIGBUS" }
    : value(-ENOMEM);
}

function mincore({ m, layout }: ModelState, { mm }: ModelProcess, span: Span): StepResult {
  const { start, end } = addressesOf(layout, span);
  const residency = new Uint8Array((end - start) / PAGE_SIZE);
  const result = sysMincore(m, mm, start, end - start, residency);
  return result < 0 ? value(result) : { kind: "value", value: 0, resident: [...residency] };
}

function prctl(
  { m }: ModelState,
  { mm }: ModelProcess,
  { op, args }: Extract<Action, { verb: "prctl" }>,
): number {
  const [a, b, c, d] = args;
  return op === "set" ? sysSetThpDisable(m, mm, a, b, c, d) : sysGetThpDisable(mm, a, b, c, d);
}

function fork(state: ModelState, { mm, shadow }: ModelProcess, child: string): number {
  const childMm = forkProcess(state.m, mm);
  if (childMm === null) return -ENOMEM;
  state.processes.set(child, { mm: childMm, shadow: shadow.fork() });
  state.tasks.set(child, child);
  return 0;
}

/** A thread ends alone; a process with its threads, its pins and its memory. */
function exit(state: ModelState, task: string, process: string): void {
  state.tasks.delete(task);
  if (task !== process) return;
  for (const [name, of] of state.tasks) if (of === process) state.tasks.delete(name);
  for (const [name, pin] of state.pins) if (pin.process === process) dropPin(state, name);
  exitProcess(state.m, state.processes.get(process)!.mm);
  state.processes.delete(process);
}

/**
 * Long-term write pins, or one plain reference for reading. What could not be had undoes the rest. Pages are taken the fast way up to
 * the first that needs a fault; the slow way, from there on, makes folios dirty as populating does (ANON-269).
 */
function takePages(
  state: ModelState,
  { mm }: ModelProcess,
  process: string,
  action: Extract<Action, { verb: "pin" | "hold-page" }>,
): number {
  const { m } = state;
  const access = action.verb === "pin" ? "write" : "read";
  const { start, end } = addressesOf(state.layout, action.span);
  const pfns: Pfn[] = [];
  const heads = new Set<Pfn>();
  const pin = { kind: action.verb, process, pfns, nrCharged: 0 };
  state.pins.set(action.name, pin);
  let isFast = true;
  for (let at = start; at < end; at += PAGE_SIZE) {
    const place = [regionOf(at), pteIndexOf(at)] as const;
    if (!isAccessible(m, mm, ...place, access)) {
      isFast = false;
      if (handleFault(m, mm, ...place, access) < 0) {
        dropPin(state, action.name);
        return -EFAULT;
      }
    } else if (!isFast && access === "write") dirtyMapped(m, mm, ...place);
    const pfn = translateToPfn(m, mm, ...place);
    if ((m.frames.flags[pfn] & PG.ZERO) !== 0) continue; // a reference there is felt by nobody
    if (isFast)
      m.frames.flags[headOf(m.frames, pfn)] |= PG.REFERENCED; // ANON-257
    else if (!isHugeMapped(m, mm, place[0])) lruMarkAccessed(m, headOf(m.frames, pfn)); // ANON-071
    if (action.verb === "pin") pinPages(m, mm, pfn, 1);
    else getPage(m, pfn);
    noteExtra(state, pfn, extraOf(state, pfn, action.verb));
    pfns.push(pfn);
    heads.add(headOf(m.frames, pfn));
  }
  if (action.verb === "pin") for (const head of heads) pin.nrCharged += 1 << m.frames.order[head];
  return 0;
}

/** Nothing if the pin failed or ended with its process. */
function dropPin(state: ModelState, name: string): void {
  const pin = state.pins.get(name);
  if (pin === undefined) return;
  const { kind, pfns } = pin;
  state.pins.delete(name);
  for (const pfn of pfns) {
    noteExtra(state, pfn, -extraOf(state, pfn, kind));
    if (kind === "pin") unpinPages(state.m, pfn, 1);
    else putPage(state.m, pfn);
  }
}

/** What one reference adds to the count of its folio. */
function extraOf({ m }: ModelState, pfn: Pfn, kind: "pin" | "hold-page"): number {
  return kind === "pin" && m.frames.order[pfn] === 0 ? SMALL_PIN_BIAS : 1;
}

function noteExtra({ m, extra }: ModelState, pfn: Pfn, nr: number): void {
  const head = headOf(m.frames, pfn);
  const total = (extra.get(head) ?? 0) + nr;
  if (total === 0) extra.delete(head);
  else extra.set(head, total);
}

function memoryFailure(
  { m, layout }: ModelState,
  { mm, shadow }: ModelProcess,
  span: Span,
  advice: number,
): number {
  const { start, end } = addressesOf(layout, span);
  const result = sysMadvise(m, mm, start, end - start, advice);
  if (advice === MADV.HWPOISON) shadow.doubt(start / PAGE_SIZE, (end - start) / PAGE_SIZE);
  return result;
}

function setKnob(
  { m }: ModelState,
  { name, value: text }: Extract<Action, { verb: "knob" }>,
  line: number,
): number {
  const result = writeKnob(m, name, text);
  if (result === -ENOENT) throw new CannotDo(line, `the model has no knob ${name} yet`);
  return result;
}

function makeMemcg(state: ModelState, name: string, maxBytes: number | null): number {
  const id = createMemcg(state.m, name, 0);
  if (id < 0) return -ENOSPC;
  state.memcgs.set(name, id);
  return limitMemcg(state, name, maxBytes);
}

function limitMemcg(state: ModelState, name: string, maxBytes: number | null): number {
  const group = state.m.memcgs[state.memcgs.get(name)!];
  if (group === null) return -EINVAL;
  const max = maxBytes === null ? Number.POSITIVE_INFINITY : maxBytes / PAGE_SIZE;
  if (group.usage > max) return -EBUSY;
  group.max = max;
  return 0;
}

function shrinkQueues({ m }: ModelState, nr: number): number {
  for (let queue = 0; queue < m.deferredLength.length; queue++)
    shrinkDeferred(m, queue, nr, m.knobs.khugepaged.max_ptes_none);
  return 0;
}

/** Takes every other block of half the size, so that half of memory is free and none of it in a block of `order`. */
function fragment(state: ModelState, order: number): number {
  const half = order - 1;
  const before = state.blocks.length;
  takeBlocks(state, half);
  const isFresh = new Set(state.blocks.slice(before));
  giveBlocks(state, (pfn) => isFresh.has(pfn) && ((pfn >>> half) & 1) === 1);
  takeBlocks(state, order); // what the watermarks had kept back whole
  return 0;
}

function takeBlocks(state: ModelState, order: number): void {
  for (;;) {
    const pfn = allocFolio(state.m, order, GFP_HIGHUSER_MOVABLE, 0);
    if (pfn === NO_PFN) return;
    state.blocks.push(pfn);
    noteExtra(state, pfn, 1);
  }
}

function giveBlocks(state: ModelState, isGiven: (pfn: Pfn) => boolean): number {
  const given = state.blocks.filter(isGiven);
  state.blocks = state.blocks.filter((pfn) => !isGiven(pfn));
  for (const pfn of given) {
    noteExtra(state, pfn, -1);
    putPage(state.m, pfn);
  }
  return 0;
}

function save(state: ModelState, name: string): number {
  const objects = new Map<SharedObject, SharedObject>();
  const processes = [...state.processes].map(
    ([key, { mm, shadow }]) => [key, { mmId: mm.id, shadow: shadow.copy(objects) }] as const,
  );
  state.snapshots.set(name, {
    machine: snapshot(state.m),
    processes: new Map(processes),
    tasks: new Map(state.tasks),
    pins: new Map(state.pins),
    holds: new Map(state.holds),
    memcgs: new Map(state.memcgs),
    blocks: [...state.blocks],
    extra: new Map(state.extra),
    nextTag: state.nextTag,
  });
  return 0;
}

function putBack(state: ModelState, name: string): number {
  const saved = state.snapshots.get(name)!;
  const objects = new Map<SharedObject, SharedObject>();
  restore(state.m, saved.machine);
  state.processes = new Map(
    [...saved.processes].map(([key, { mmId, shadow }]) => [
      key,
      { mm: state.m.mms[mmId]!, shadow: shadow.copy(objects) },
    ]),
  );
  state.tasks = new Map(saved.tasks);
  state.pins = new Map(saved.pins);
  state.holds = new Map(saved.holds);
  state.memcgs = new Map(saved.memcgs);
  state.blocks = [...saved.blocks];
  state.extra = new Map(saved.extra);
  state.nextTag = saved.nextTag;
  return 0;
}
