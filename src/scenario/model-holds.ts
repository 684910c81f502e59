/**
 * Tasks of the model that are held in the middle of an operation.
 *
 * Entry: holdTask, continueTask, wouldWait.
 * Holds: what can be held is a touch of one page, at a phase of its page fault (docs/scenarios.md); a task that would have to wait for
 *        one that is held does nothing, and the statement gives EAGAIN.
 */

import { type Addr, PAGE_SIZE, pteIndexOf, regionOf } from "../base/address.ts";
import { assert } from "../base/assert.ts";
import { beginFault, hugeFaultPhases } from "../fault/huge-fault-phases.ts";
import { blockingLock } from "../sched/locks.ts";
import { release, runToEnd, runToPhase } from "../sched/runner.ts";
import { createTask, endTask, taskOf } from "../sched/tasks.ts";
import { locksOf, locksOfAdvice } from "../syscall/call-locks.ts";
import { CannotDo } from "./backend.ts";
import { addressesOf } from "./layout.ts";
import type { ModelProcess, ModelState } from "./model-state.ts";
import type { Action, Statement } from "./syntax.ts";

/** A statement that stands still. */
export interface ModelHold {
  readonly statement: Statement;
  /** Ids in the machine's scheduler. */
  readonly task: number;
  readonly operation: number;
}

/** Begins the statement and holds it before `phase`. Throws CannotDo for what has no such phase, or does not come to it. */
export function holdTask(
  state: ModelState,
  { mm }: ModelProcess,
  { phase, statement }: Extract<Action, { verb: "hold" }>,
): void {
  const { action, actor, line } = statement;
  const phases = Object.keys(hugeFaultPhases.phases);
  if (action.verb !== "read" && action.verb !== "write")
    throw new CannotDo(line, `only a read or write can be held, at one of ${phases.join(", ")}`);
  if (!phases.includes(phase))
    throw new CannotDo(line, `a page fault has no phase ${phase}, only ${phases.join(", ")}`);
  const { start, end } = addressesOf(state.layout, action.span);
  if (end !== start + PAGE_SIZE) throw new CannotDo(line, "a touch of one page can be held");
  const { m } = state;
  const task = createTask(m, actor, mm.id);
  const place = [regionOf(start), pteIndexOf(start)] as const;
  const operation = beginFault(m, task.id, mm, ...place, action.verb);
  const reached = runToPhase(m, operation.id, phase);
  if (reached !== "ran")
    throw new CannotDo(line, `the fault ${reached === "done" ? "ended" : "waits"} before ${phase}`);
  state.holds.set(actor, { statement, task: task.id, operation: operation.id });
}

/** Runs a held fault on to its end; the statement is to be carried out again then. Null: it waits for another that is held. */
export function continueTask(state: ModelState, actor: string): Statement | null {
  const held = state.holds.get(actor);
  assert(held !== undefined, "a task that is not held runs on");
  release(state.m, held.operation);
  if (runToEnd(state.m, held.operation) === null) return null;
  state.holds.delete(actor);
  endTask(state.m, held.task);
  return held.statement;
}

/** True if the statement would have to wait for a task that is held. */
export function wouldWait(state: ModelState, { mm }: ModelProcess, action: Action): boolean {
  const { m, holds } = state;
  if (holds.size === 0) return false;
  const wanted = locksWanted(state, mm, action);
  const probe = createTask(m, "probe", mm.id);
  const isBlocked = blockingLock(m, taskOf(m, probe.id), wanted) !== null;
  endTask(m, probe.id);
  return isBlocked;
}

function locksWanted(state: ModelState, mm: ModelProcess["mm"], action: Action) {
  const span = "span" in action ? addressesOf(state.layout, action.span) : null;
  const [start, end]: [Addr, Addr] = span === null ? [0, 2 ** 47] : [span.start, span.end];
  switch (action.verb) {
    case "madvise":
      return locksOfAdvice(mm, action.advice, start, end);
    case "read":
    case "write":
    case "mincore":
      return locksOf(mm, "fault", start, end);
    case "map":
    case "brk":
      return locksOf(mm, "mmap", 0, 0);
    case "unmap":
      return locksOf(mm, "munmap", start, end);
    case "remap":
      return locksOf(mm, "mremap", start, end);
    case "protect":
    case "mlock":
    case "mlock2":
    case "munlock":
    case "mseal":
      return locksOf(mm, "mprotect", start, end);
    case "fork":
    case "exit":
      return locksOf(mm, action.verb, start, end);
    default:
      return [];
  }
}
