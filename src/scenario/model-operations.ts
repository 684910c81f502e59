/**
 * Statements that are long operations: how each begins as an operation of a task, and what its end means for the scenario.
 *
 * Entry: startStatement, then sched's stepOperation, runToPhase or runToEnd on the operation, then endStatement. `hold` and
 *        whoever tries all orders of such statements begin them here; a new phase table gets a line in STARTERS.
 * Holds: what is no operation (startStatement gives null) is one step under its locks: wouldWait, then carryOut.
 */

import { PAGE_SIZE, type Pfn, pteIndexOf, regionOf } from "../base/address.ts";
import { beginPass } from "../collapse/khugepaged-phases.ts";
import { isAccessible, translateToPfn } from "../fault/fault.ts";
import { beginFault } from "../fault/huge-fault-phases.ts";
import { beginSwapOff } from "../fault/swap-off-phases.ts";
import { beginShrink } from "../huge/deferred-split-phases.ts";
import { beginDropCaches } from "../huge/drop-caches-phases.ts";
import { beginSplitPage } from "../huge/split-page-phases.ts";
import { NO_TASK } from "../mm/khugepaged-list.ts";
import { beginFailure, beginOffline } from "../reclaim/memory-failure.ts";
import { listPhases } from "../sched/phase-table.ts";
import { findOperation } from "../sched/runner.ts";
import type { Operation } from "../sched/state.ts";
import { createTask, endTask, taskOf } from "../sched/tasks.ts";
import { beginMadvise } from "../syscall/madvise.ts";
import type { StepResult } from "./backend.ts";
import { addressesOf } from "./layout.ts";
import type { ModelProcess, ModelState } from "./model-state.ts";
import { noteAdvice } from "./shadow-advice.ts";
import type { Action, Span, Statement } from "./syntax.ts";

/** A statement under way. Plain data: ids in the machine's scheduler. */
export interface StartedStatement {
  readonly statement: Statement;
  readonly task: number;
  readonly operation: number;
}

type Verb = Action["verb"];
type ActionOf<V extends Verb> = Extract<Action, { verb: V }>;

/** One statement as an operation. */
interface Starter<V extends Verb> {
  /** Begins it for `task`; null if with these operands it is no operation, or refused at once. */
  begin(
    state: ModelState,
    process: ModelProcess,
    action: ActionOf<V>,
    task: number,
  ): Operation | null;
  /**
   * What its result is for the scenario. "again": the statement is to be carried out as a whole now, as the processor repeats an
   * access after its fault.
   */
  end(
    state: ModelState,
    process: ModelProcess,
    action: ActionOf<V>,
    result: number,
  ): number | "again";
}

const STARTERS: { readonly [V in Verb]?: Starter<V> } = {
  read: { begin: beginTouch, end: () => "again" },
  write: { begin: beginTouch, end: () => "again" },
  madvise: {
    begin: (state, { mm }, { span, advice }, task) => {
      const { start, end } = addressesOf(state.layout, span);
      return beginMadvise(state.m, task, mm, start, end - start, advice);
    },
    end: (state, { shadow }, { span, advice }, result) => {
      noteAdvice(shadow, advice, ...pagesOf(state, span), result);
      return result;
    },
  },
  swapoff: {
    begin: ({ m }, _process, _action, task) =>
      m.swap.devices.length === 0 ? null : beginSwapOff(m, task, 0),
    end: (_state, _process, _action, result) => result,
  },
  poison: {
    begin: (state, { mm }, { span }, task) => {
      const pfn = mappedPage(state, mm, span);
      return pfn < 0 || !state.m.poison.isSupported
        ? null
        : beginFailure(state.m, task, pfn, mm.id);
    },
    end: (state, { shadow }, { span }, result) => {
      shadow.doubt(...pagesOf(state, span));
      return result;
    },
  },
  "soft-offline": {
    begin: (state, { mm }, { span }, task) => {
      const pfn = mappedPage(state, mm, span);
      return pfn < 0 || !state.m.poison.isSupported ? null : beginOffline(state.m, task, pfn);
    },
    end: (_state, _process, _action, result) => result,
  },
  split: {
    begin: ({ m, layout }, { mm }, { span, order }, task) => {
      const { start } = addressesOf(layout, span);
      return beginSplitPage(m, task, mm, regionOf(start), pteIndexOf(start), order);
    },
    end: (_state, _process, _action, result) => result,
  },
  shrink: {
    begin: ({ m }, _process, { nr }, task) => {
      const queues = [...m.deferredLength.keys()].filter((queue) => m.deferredLength[queue] > 0);
      const { max_ptes_none } = m.knobs.khugepaged;
      return queues.length === 1 ? beginShrink(m, task, queues[0], nr, max_ptes_none) : null;
    },
    end: () => 0,
  },
  khugepaged: {
    begin: ({ m }, _process, { nrPasses }, task) =>
      nrPasses === 1 && m.khugepaged.task !== NO_TASK ? beginPass(m, task) : null,
    end: () => 0,
  },
  "drop-caches": {
    begin: ({ m }, _process, _action, task) =>
      beginDropCaches(m, task, m.knobs.khugepaged.max_ptes_none),
    end: () => 0,
  },
};

/** Verbs of statements that can be operations. */
export const OPERATION_VERBS = Object.keys(STARTERS) as readonly Verb[];

/**
 * Begins the statement as an operation of a new task in its process; nothing of it has run yet. Null if it is a plain call:
 * no phase table does it, or it is refused at once.
 */
export function startStatement(state: ModelState, statement: Statement): StartedStatement | null {
  const { actor } = statement;
  const task = createTask(state.m, actor, processOf(state, actor).mm.id);
  const started = startIn(state, statement, task.id);
  if (started === null) endTask(state.m, task.id);
  return started;
}

/** The same for a task that there is, and that goes on afterwards. */
export function startIn(
  state: ModelState,
  statement: Statement,
  task: number,
): StartedStatement | null {
  const starter = starterOf(statement.action);
  if (starter === null) return null;
  const process = processOf(state, statement.actor);
  const operation = starter.begin(state, process, statement.action, task);
  return operation === null ? null : { statement, task, operation: operation.id };
}

/** The operation is over: its task ends. "again" as in Starter. */
export function endStatement(state: ModelState, started: StartedStatement): StepResult | "again" {
  const result = resultIn(state, started);
  endTask(state.m, started.task);
  return result;
}

/** The same of a task that goes on. */
export function resultIn(state: ModelState, started: StartedStatement): StepResult | "again" {
  const { action, actor } = started.statement;
  const { result } = taskOf(state.m, started.task);
  const value = starterOf(action)!.end(state, processOf(state, actor), action, result);
  return value === "again" ? value : { kind: "value", value };
}

/** True once the last phase of it has run, by whomever. */
export function isOver(state: ModelState, started: StartedStatement): boolean {
  return findOperation(state.m, started.operation) === null;
}

/** Names of all phases that `hold ... at` may name, by table. */
export function phasesByTable(state: ModelState): ReadonlyMap<string, readonly string[]> {
  const tables = Object.values(state.m.phaseTables);
  return new Map(tables.map((table) => [table.name, listPhases(table).map((row) => row.phase)]));
}

/** The union over verbs is safe: a starter is looked up by the action's own verb. */
function starterOf(action: Action): Starter<Verb> | null {
  return (STARTERS[action.verb] as Starter<Verb> | undefined) ?? null;
}

function processOf(state: ModelState, actor: string): ModelProcess {
  return state.processes.get(state.tasks.get(actor)!)!;
}

/** A touch of one page is a fault, and the access after it. */
function beginTouch(
  state: ModelState,
  { mm }: ModelProcess,
  { span, verb }: ActionOf<"read" | "write">,
  task: number,
): Operation | null {
  const { start, end } = addressesOf(state.layout, span);
  if (end !== start + PAGE_SIZE) return null;
  const place = [regionOf(start), pteIndexOf(start)] as const;
  if (isAccessible(state.m, mm, ...place, verb)) return null;
  return beginFault(state.m, task, mm, ...place, verb);
}

/** The frame of a span of one page that is mapped; -1 if it is another span, or nothing is there. */
function mappedPage(state: ModelState, mm: ModelProcess["mm"], span: Span): Pfn {
  const { start, end } = addressesOf(state.layout, span);
  if (end !== start + PAGE_SIZE) return -1;
  return translateToPfn(state.m, mm, regionOf(start), pteIndexOf(start));
}

function pagesOf(state: ModelState, span: Span): [first: number, nr: number] {
  const { start, end } = addressesOf(state.layout, span);
  return [start / PAGE_SIZE, (end - start) / PAGE_SIZE];
}
