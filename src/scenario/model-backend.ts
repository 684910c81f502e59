/**
 * The model as a back end: carries out the statements of a scenario on a machine of its own.
 *
 * Entry: createModelBackend. What each verb does is in model-verbs.ts and model-calls.ts; this file holds the machine, its
 *        processes and what is outside their page tables.
 * Holds: after every statement the whole machine is checked; a broken invariant is an AssertionFailure.
 */

import { alignUp, HUGE_SIZE, PAGE_SIZE, pteIndexOf, regionOf } from "../base/address.ts";
import { AssertionFailure, assert } from "../base/assert.ts";
import { ENOENT } from "../base/errno.ts";
import { PROFILES } from "../base/profile.ts";
import { readKnob, writeKnob } from "../huge/knobs.ts";
import { pageTag } from "../machine/access.ts";
import { checkMachine } from "../machine/check.ts";
import { createMachine } from "../machine/machine.ts";
import { execProcess, setBrkStart } from "../machine/process.ts";
import { explainWindow } from "../machine/reason.ts";
import { sysSwapon } from "../syscall/swap.ts";
import {
  type Backend,
  CannotDo,
  type PageContents,
  type StepResult,
  type TracedEvent,
} from "./backend.ts";
import { addressesOf, createLayout } from "./layout.ts";
import { EventLog } from "./model-events.ts";
import type { ModelState } from "./model-state.ts";
import { carryOut } from "./model-verbs.ts";
import { MAIN } from "./names.ts";
import type { Observation } from "./observation.ts";
import { createObserver, observe } from "./observe-model.ts";
import { Shadow } from "./shadow.ts";
import type { Header, Span, Statement } from "./syntax.ts";

/** What every scenario begins with; the header's knobs come after. */
export const START_KNOBS: readonly (readonly [name: string, value: string])[] = [
  ["thp.enabled", "madvise"],
  ["thp.defrag", "madvise"],
  ["thp.use_zero_page", "1"],
  ["thp.shrink_underused", "1"],
  ["khugepaged.max_ptes_none", "511"],
];

/** How thoroughly the model looks at itself. */
export interface ModelOptions {
  /** Invariants are checked after every n-th statement; 0 never. */
  readonly checkEvery: number;
}

/** A back end that can be asked for its machine between steps, for dumps. */
export interface ModelBackend extends Backend {
  readonly name: "model";
  /** State of the running scenario. */
  readonly state: ModelState;
}

export function createModelBackend(options: ModelOptions = { checkEvery: 1 }): ModelBackend {
  return new Model(options);
}

class Model implements ModelBackend {
  readonly name = "model";
  private readonly options: ModelOptions;
  private current: ModelState | null = null;
  private nrSteps = 0;

  constructor(options: ModelOptions) {
    this.options = options;
  }

  get state(): ModelState {
    assert(this.current !== null, "the model is used before begin");
    return this.current;
  }

  begin(header: Header): void {
    this.current = startModel(header);
    this.nrSteps = 0;
  }

  step(statement: Statement): StepResult {
    const { state } = this;
    state.eventLog.clear();
    const result = carryOut(state, statement);
    this.nrSteps++;
    const { checkEvery } = this.options;
    if (checkEvery > 0 && this.nrSteps % checkEvery === 0) checkState(state, statement.line);
    return result;
  }

  observe(): Observation {
    const { state } = this;
    const processes = [...state.processes].map(([name, { mm }]) => ({
      name,
      mm,
      nrPinned: nrPinnedBy(state, name),
    }));
    return observe(state.observer, state.layout, processes);
  }

  peek(actor: string, span: Span): readonly PageContents[] {
    const { state } = this;
    const { mm } = state.processes.get(state.tasks.get(actor)!)!;
    const { start, end } = addressesOf(state.layout, span);
    const seen: PageContents[] = [];
    for (let at = start; at < end; at += span.step * PAGE_SIZE) {
      const tag = pageTag(state.m, mm, regionOf(at), pteIndexOf(at));
      if (tag < 0) seen.push("none");
      else seen.push(tag === 0 ? "zero" : "written");
    }
    return seen;
  }

  events(): readonly TracedEvent[] {
    const { processes, eventLog } = this.state;
    const names = new Map([...processes].map(([name, { mm }]) => [mm.id, name]));
    return eventLog.events((mmId) => names.get(mmId) ?? "");
  }

  reasonOf(actor: string, span: Span): string {
    const { state } = this;
    const { mm } = state.processes.get(state.tasks.get(actor)!)!;
    const { start } = addressesOf(state.layout, span);
    return explainWindow(state.m, mm, regionOf(start)).reason?.name ?? "";
  }

  readKnob(name: string): string {
    const text = readKnob(this.state.m, name);
    if (typeof text === "number") throw new CannotDo(0, `the model has no knob ${name} yet`);
    return text;
  }

  end(): void {
    this.current = null;
  }
}

function startModel(header: Header): ModelState {
  const { machine } = header;
  const profile = PROFILES.find(({ name }) => name === machine.profile);
  assert(profile !== undefined, "the parser let an unknown profile through");
  const m = createMachine({
    memoryBytes: machine.memoryBytes,
    nrCpus: machine.nrCpus,
    nrNodes: machine.nrNodes,
    profile,
    seed: machine.seed,
    memoryFailure: machine.hasMemoryFailure ? "on" : "off",
    randomizeAddresses: false,
  });
  const eventLog = new EventLog(profile);
  m.events = eventLog;
  for (const [name, value] of START_KNOBS) writeKnob(m, name, value); // one that is missing has no effect
  for (const { name, value } of header.knobs)
    if (writeKnob(m, name, value) === -ENOENT)
      throw new CannotDo(0, `the model has no knob ${name} yet`);
  const nrSwapSlots = header.swapBytes / PAGE_SIZE;
  if (nrSwapSlots > 0 && sysSwapon(m, { nrSlots: nrSwapSlots }) < 0)
    throw new CannotDo(0, "a swap device cannot be that small or large");
  const image = execProcess(m, 16);
  assert(image !== null, "no memory for the first process");
  setBrkStart(image.mm, alignUp(image.mm.brkStart, HUGE_SIZE));
  return {
    m,
    layout: createLayout(),
    processes: new Map([[MAIN, { mm: image.mm, shadow: new Shadow() }]]),
    tasks: new Map([[MAIN, MAIN]]),
    pins: new Map(),
    holds: new Map(),
    memcgs: new Map(),
    blocks: [],
    nrSwapSlots,
    snapshots: new Map(),
    extra: new Map(),
    nextTag: 1,
    observer: createObserver(m),
    eventLog,
  };
}

function nrPinnedBy(state: ModelState, process: string): number {
  let nr = 0;
  for (const pin of state.pins.values()) if (pin.process === process) nr += pin.nrCharged;
  return nr;
}

function checkState(state: ModelState, line: number): void {
  const problems = checkMachine(state.m, state.extra);
  if (problems.length === 0) return;
  const more = problems.length > 3 ? ` and ${problems.length - 3} more` : "";
  throw new AssertionFailure(
    `after line ${line}, seed ${state.m.seed}: ${problems.slice(0, 3).join("; ")}${more}`,
  );
}
