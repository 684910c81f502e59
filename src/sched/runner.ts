/**
 * The phase runner: begins an operation, makes it go on phase by phase, holds it where it is wanted, and ends it.
 *
 * Entry: startOperation and stepOperation (tasks, scenarios, the explorer), runToPhase and release (hold at a named phase),
 *        runToEnd, runAtOnce (a plain call whose work is a phase table), callOperation (from inside a phase),
 *        letOthersRun (a plain call that has to wait).
 * Holds: an operation runs under the locks of its phase, and holds between two phases those that both name.
 *
 * Who may make an operation go on: one that is held only its owner; one that is not also a plain call that would otherwise
 * wait for it for ever, because a plain call has nobody else to give the processor to.
 */

import { assert } from "../base/assert.ts";
import { EVENT } from "../base/events.ts";
import type { LockMode, LockName, LockNeed } from "./lock-order.ts";
import { dropLock, dropLocks, lockHolder, takeLock } from "./locks.ts";
import { DONE, type PhaseTable } from "./phase-table.ts";
import { CALLER, type HeldLock, NO_OPERATION, type Operation, type SchedState } from "./state.ts";
import { taskOf } from "./tasks.ts";

/** What a step came to: a phase ran; a lock is not to be had; the operation is over. */
export type StepResult = "ran" | "blocked" | "done";

/** The fields of a record that its table adds; `phase` may be given to begin elsewhere. */
export type OperationFields<Op extends Operation> = Omit<Op, keyof Operation>;

/**
 * Begins an operation of `task`; nothing of it has run yet. Its owner steps it. A task is in the middle of one operation at a
 * time.
 */
export function startOperation<State extends SchedState, Op extends Operation>(
  m: State,
  table: PhaseTable<State, Op>,
  task: number,
  fields: OperationFields<Op>,
): Op {
  const owner = taskOf(m, task);
  assert(owner.operation === NO_OPERATION, "a task begins an operation in the middle of another");
  const op = begin(m, table, task, NO_OPERATION, fields);
  owner.operation = op.id;
  return op;
}

/**
 * From inside a phase of `caller`: an operation that runs, phase by phase, before the caller's next phase; its result is then
 * in `callResult`. It runs under the caller's locks of this phase, which stay held until it is done.
 */
export function callOperation<State extends SchedState, Op extends Operation>(
  m: State,
  table: PhaseTable<State, Op>,
  caller: Operation,
  fields: OperationFields<Op>,
): Op {
  const op = begin(m, table, caller.task, caller.id, fields);
  if (caller.task !== CALLER) taskOf(m, caller.task).operation = op.id;
  if (table.takesCallerLocks === true) passLocks(m, caller.id, op.id);
  return op;
}

/** What one operation holds another holds from now on. The number of locks. */
function passLocks(m: SchedState, from: number, to: number): number {
  let nr = 0;
  for (const held of m.sched.locks) {
    if (held.operation !== from) continue;
    held.operation = to;
    nr++;
  }
  return nr;
}

function begin<State extends SchedState, Op extends Operation>(
  m: State,
  table: PhaseTable<State, Op>,
  task: number,
  caller: number,
  fields: OperationFields<Op>,
): Op {
  const op = {
    id: m.sched.nextOperation++,
    table: table.name,
    task,
    caller,
    phase: table.first,
    isHeld: false,
    result: 0,
    callResult: 0,
    callLocks: 0,
    ...fields,
  } as Operation as Op;
  m.sched.operations.push(op);
  return op;
}

/** The record of an operation that is under way; null once it is over. */
export function findOperation(m: SchedState, id: number): Operation | null {
  for (const op of m.sched.operations) if (op.id === id) return op;
  return null;
}

/** The operation whose phase runs next if `id` is stepped: itself, or the innermost it has called. */
export function innermostOf(m: SchedState, id: number): Operation | null {
  let op = findOperation(m, id);
  for (let called = op; called !== null; called = calleeOf(m, called.id)) op = called;
  return op;
}

function calleeOf(m: SchedState, id: number): Operation | null {
  for (const op of m.sched.operations) if (op.caller === id) return op;
  return null;
}

/**
 * Runs one phase of the operation, or of what it called. "blocked": no phase ran, and its task waits for a lock, with those
 * above it taken. "done" is said once, by the step that ran the last phase of `id` itself.
 */
export function stepOperation(m: SchedState, id: number): StepResult {
  const op = innermostOf(m, id);
  assert(op !== null, "an operation that is over is stepped");
  const table = m.phaseTables[op.table];
  const phase = table.phases[op.phase];
  assert(phase !== undefined, "an operation is in a phase that its table does not have");
  if (!takeNeeds(m, table, op) || mustWait(m, op)) return "blocked";

  const { sched } = m;
  const before = sched.current;
  sched.current = op.task;
  m.events?.emit(
    EVENT.operation_phase,
    op.id,
    Object.keys(table.phases).indexOf(op.phase),
    op.task,
  );
  const next = phase.run(m, op);
  sched.current = before;
  // What it called runs under this phase's locks; they change when the caller's next phase begins.
  const hasCalled = calleeOf(m, op.id) !== null;
  assert(!hasCalled || next !== DONE, "an operation ends before what it called");
  const givesBack = next === DONE && table.takesCallerLocks === true && op.caller !== NO_OPERATION;
  if (!hasCalled && !givesBack) dropUnneeded(m, table, op, next);
  op.phase = next;
  if (next !== DONE) return "ran";
  finish(m, op);
  return op.id === id ? "done" : "ran";
}

/**
 * True if a step of `id` would do something: its next phase can run, or take the first of the locks that it still lacks. Nothing
 * is changed.
 */
export function canStep(m: SchedState, id: number): boolean {
  const op = innermostOf(m, id);
  if (op === null) return false;
  const table = m.phaseTables[op.table];
  for (const { name, mode } of table.needs[op.phase]) {
    const lock = table.lockId(op, name);
    if (lockHolder(m, name, lock, mode, op.task) !== null) return false;
    if (!isHeldBy(m, op.task, name, lock)) return true;
  }
  return !mustWait(m, op);
}

/** True if the next phase of the operation waits for an entry. */
function mustWait(m: SchedState, op: Operation): boolean {
  return op.task !== CALLER && m.phaseTables[op.table].mustWait?.(m, op) === true;
}

function isHeldBy(m: SchedState, task: number, name: LockName, id: number): boolean {
  for (const held of m.sched.locks)
    if (held.task === task && held.name === name && held.id === id) return true;
  return false;
}

/** Takes the locks of the phase that are not held yet; those of the phase before that it does not name are dropped first. */
function takeNeeds(
  m: SchedState,
  table: PhaseTable<SchedState, Operation>,
  op: Operation,
): boolean {
  dropUnneeded(m, table, op, op.phase);
  const task = op.task === CALLER ? null : taskOf(m, op.task);
  for (const { name, mode } of table.needs[op.phase]) {
    const id = table.lockId(op, name);
    if (takeLock(m, { name, id, mode, task: op.task, operation: op.id })) continue;
    if (task !== null) task.waitsFor = { what: name, id, mode };
    return false;
  }
  if (task !== null) task.waitsFor = null;
  return true;
}

/** Drops what the operation holds and phase `next` does not name, or names of another instance or in another mode. */
function dropUnneeded(
  m: SchedState,
  table: PhaseTable<SchedState, Operation>,
  op: Operation,
  next: string,
): void {
  const { locks } = m.sched;
  if (locks.length === 0) return;
  const needs = next === DONE ? NOTHING : table.needs[next];
  for (let i = locks.length - 1; i >= 0; i--) {
    const held = locks[i];
    if (held.operation !== op.id) continue;
    const isKept = isNeeded(needs, held) && table.lockId(op, held.name) === held.id;
    if (!isKept) dropLock(m, held.name, op.id);
  }
}

const NOTHING: readonly LockNeed[] = [];

function isNeeded(needs: readonly LockNeed[], held: HeldLock): boolean {
  for (const need of needs) if (need.name === held.name) return need.mode === held.mode;
  return false;
}

function finish(m: SchedState, op: Operation): void {
  const { sched } = m;
  const isCalled = op.caller !== NO_OPERATION;
  const givesBack = isCalled && m.phaseTables[op.table].takesCallerLocks === true;
  const nrGivenBack = givesBack ? passLocks(m, op.id, op.caller) : 0;
  dropLocks(m, op.id);
  sched.operations.splice(sched.operations.indexOf(op), 1);
  if (isCalled) {
    const caller = findOperation(m, op.caller)!;
    caller.callResult = op.result;
    caller.callLocks = nrGivenBack;
  }
  if (op.task === CALLER) return;
  const task = taskOf(m, op.task);
  // Not so for a plain call inside a phase: it is no operation of the task's own.
  if (task.operation !== op.id) return;
  task.operation = op.caller;
  if (op.caller === NO_OPERATION) task.result = op.result;
}

/** Steps until the phase named `phase` would run next, and holds it there. "done" or "blocked" if it does not get there. */
export function runToPhase(m: SchedState, id: number, phase: string): StepResult {
  for (;;) {
    const op = innermostOf(m, id);
    if (op === null) return "done";
    if (op.phase === phase) {
      hold(m, id);
      return "ran";
    }
    const result = stepOperation(m, id);
    if (result !== "ran") return result;
  }
}

/** From now on only its owner makes it go on. */
export function hold(m: SchedState, id: number): void {
  const op = findOperation(m, id);
  assert(op !== null, "an operation that is over is held");
  op.isHeld = true;
}

/** Ends a hold. */
export function release(m: SchedState, id: number): void {
  const op = findOperation(m, id);
  if (op !== null) op.isHeld = false;
}

/** Steps an operation to its end; waits as a plain call does. Its result, or null if what it waits for is held. */
export function runToEnd(m: SchedState, id: number): number | null {
  const op = findOperation(m, id);
  assert(op !== null, "an operation that is over is run to its end");
  for (;;) {
    const result = stepOperation(m, id);
    if (result === "done") return op.result;
    if (result === "blocked" && !letHolderRun(m, innermostOf(m, id)!)) return null;
  }
}

/**
 * The body of a plain call whose work is a phase table: begins it and runs it to its end with nobody in between. Its task is
 * that of the phase in which the call stands. Null, with nothing done, if the first lock is not to be had.
 */
export function runAtOnce<State extends SchedState, Op extends Operation>(
  m: State,
  table: PhaseTable<State, Op>,
  fields: OperationFields<Op>,
): number | null {
  const op = begin(m, table, m.sched.current, NO_OPERATION, fields);
  const result = runToEnd(m, op.id);
  if (result !== null) return result;
  const isFresh = op.phase === table.first && calleeOf(m, op.id) === null;
  assert(isFresh, "a plain call waits for an operation that is held");
  dropLocks(m, op.id);
  m.sched.operations.splice(m.sched.operations.indexOf(op), 1);
  return null;
}

/** True if a plain call would wait for ever for a lock: its holder is held, or is the very task that calls. */
export function isLockStuck(
  m: SchedState,
  name: LockName,
  id: number,
  mode: LockMode = "write",
): boolean {
  if (m.sched.operations.length === 0 && m.sched.locks.length === 0) return false;
  const holder = lockHolder(m, name, id, mode, m.sched.current);
  return holder !== null && !mayStep(m, holder.operation);
}

/**
 * A plain call needs a lock that others may have: they go on until it is free. False if whoever has it is held, so that the
 * caller's task is what waits.
 */
export function waitForLock(m: SchedState, name: LockName, id: number, mode: LockMode): boolean {
  while (m.sched.locks.length > 0) {
    const holder = lockHolder(m, name, id, mode, m.sched.current);
    if (holder === null) break;
    if (!mayStep(m, holder.operation)) return false;
    if (stepOutermost(m, holder.operation)) continue;
    // It waits itself: for somebody who does not wait for us.
    if (!letHolderRun(m, innermostOf(m, holder.operation)!)) return false;
  }
  return true;
}

/** Steps the operation that has the lock `op` wants. False if that one is held, or cannot go on itself. */
function letHolderRun(m: SchedState, op: Operation): boolean {
  const table = m.phaseTables[op.table];
  for (const { name, mode } of table.needs[op.phase]) {
    const holder = lockHolder(m, name, table.lockId(op, name), mode, op.task);
    if (holder !== null) return mayStep(m, holder.operation) && stepOutermost(m, holder.operation);
  }
  return !mustWait(m, op) || letOthersRun(m);
}

/**
 * A plain call cannot go on until an operation under way has: steps the oldest that may be stepped. False if there is none;
 * the call then returns its verdict "wait".
 */
export function letOthersRun(m: SchedState): boolean {
  for (const op of m.sched.operations)
    if (op.caller === NO_OPERATION && mayStep(m, op.id) && stepOutermost(m, op.id)) return true;
  return false;
}

function mayStep(m: SchedState, id: number): boolean {
  const op = outermostOf(m, id);
  // A phase of that task is running now and is what waits: it cannot be stepped from inside itself.
  if (op === null || op.isHeld || op.task === m.sched.current) return false;
  return op.task === CALLER || taskOf(m, op.task).wakeNs <= m.sched.nowNs;
}

function stepOutermost(m: SchedState, id: number): boolean {
  return stepOperation(m, outermostOf(m, id)!.id) !== "blocked";
}

function outermostOf(m: SchedState, id: number): Operation | null {
  let op = findOperation(m, id);
  while (op !== null && op.caller !== NO_OPERATION) op = findOperation(m, op.caller);
  return op;
}
