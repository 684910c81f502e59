/**
 * Tasks of the model that are held in the middle of an operation.
 *
 * Entry: holdTask, continueTask, wouldWait.
 * Holds: what can be held is a statement that is an operation (model-operations.ts), at a phase of its table or of one that it
 *        calls; a task that would have to wait for one that is held does nothing, and the statement gives EAGAIN.
 */

import type { Addr } from "../base/address.ts";
import { assert } from "../base/assert.ts";
import { blockingLock } from "../sched/locks.ts";
import { release, runToEnd, runToPhase } from "../sched/runner.ts";
import { createTask, endTask, taskOf } from "../sched/tasks.ts";
import { locksOf, locksOfAdvice } from "../syscall/call-locks.ts";
import { CannotDo, type StepResult } from "./backend.ts";
import { addressesOf } from "./layout.ts";
import {
  endStatement,
  isOver,
  OPERATION_VERBS,
  phasesByTable,
  startStatement,
} from "./model-operations.ts";
import type { ModelProcess, ModelState } from "./model-state.ts";
import type { Action, Statement } from "./syntax.ts";

/** Begins the statement and holds it before `phase`. Throws CannotDo for what has no such phase, or does not come to it. */
export function holdTask(
  state: ModelState,
  { phase, statement }: Extract<Action, { verb: "hold" }>,
): void {
  const { actor, line } = statement;
  checkPhase(state, phase, line);
  const started = startStatement(state, statement);
  if (started === null) throw new CannotDo(line, notHeld(statement));
  const table = state.m.sched.operations.at(-1)!.table;
  const reached = runToPhase(state.m, started.operation, phase);
  if (reached !== "ran") {
    const what = reached === "done" ? "ended without coming to" : "waits for another before";
    throw new CannotDo(line, `${table} ${what} ${phase}`);
  }
  state.holds.set(actor, started);
}

function checkPhase(state: ModelState, phase: string, line: number): void {
  const known = phasesByTable(state);
  if ([...known.values()].some((phases) => phases.includes(phase))) return;
  const list = [...known].map(([table, phases]) => `${table}: ${phases.join(" ")}`);
  throw new CannotDo(line, `no operation has a phase ${phase}; there are ${list.join("; ")}`);
}

function notHeld({ action: { verb } }: Statement): string {
  return OPERATION_VERBS.includes(verb)
    ? `this ${verb} is over in one step; hold a touch of one page that faults, or an operation that has something to do`
    : `${verb} is no operation of several phases; those of ${OPERATION_VERBS.join(", ")} can be held`;
}

/**
 * Runs a held statement on to its end. "again": it is to be carried out as a whole now. Null: it waits for another that is
 * held.
 */
export function continueTask(
  state: ModelState,
  actor: string,
): { readonly statement: Statement; readonly result: StepResult | "again" } | null {
  const held = state.holds.get(actor);
  assert(held !== undefined, "a task that is not held runs on");
  release(state.m, held.operation);
  if (!isOver(state, held) && runToEnd(state.m, held.operation) === null) return null;
  state.holds.delete(actor);
  return { statement: held.statement, result: endStatement(state, held) };
}

/** True if the statement would have to wait for a task that is held. */
export function wouldWait(state: ModelState, { mm }: ModelProcess, action: Action): boolean {
  const { m, holds } = state;
  if (holds.size === 0) return false;
  if (action.verb === "exit" && hasHeldTask(state, mm)) return true;
  const wanted = locksWanted(state, mm, action);
  const probe = createTask(m, "probe", mm.id);
  const isBlocked = blockingLock(m, taskOf(m, probe.id), wanted) !== null;
  endTask(m, probe.id);
  return isBlocked;
}

/** A process ends only after its threads: one of them is in the middle of something. */
function hasHeldTask(state: ModelState, mm: ModelProcess["mm"]): boolean {
  return [...state.holds.values()].some(({ task }) => taskOf(state.m, task).mmId === mm.id);
}

/** The locks that the statement takes as a plain call. */
export function locksWanted(state: ModelState, mm: ModelProcess["mm"], action: Action) {
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
