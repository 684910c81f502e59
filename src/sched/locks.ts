/**
 * Locks that are held across phases: taking, trying, dropping, and who has them.
 *
 * Entry: takeLock (in order, or it is an assertion), tryLock (any order: it cannot wait, so it cannot deadlock), dropLock.
 * Owns:  m.sched.locks. What is taken and dropped within one phase is not recorded: nobody could meet it.
 * Holds: one writer or any number of readers per lock; what a task holds already it may name again.
 */

import { assert } from "../base/assert.ts";
import { type LockMode, type LockName, mayTakeInside } from "./lock-order.ts";
import type { HeldLock, SchedState, Task } from "./state.ts";

/** A lock, how it is wanted, and for whom. */
export interface LockRequest {
  readonly name: LockName;
  readonly id: number;
  readonly mode: LockMode;
  readonly task: number;
  readonly operation: number;
}

/** Takes a lock, checking the order. False if another task holds it in a mode that excludes the wanted one. */
export function takeLock(m: SchedState, wanted: LockRequest): boolean {
  if (isHeldByTask(m, wanted)) return true;
  for (const held of m.sched.locks)
    assert(
      held.task !== wanted.task || mayTakeInside(held.name, wanted.name),
      "a lock is taken against the order",
    );
  return tryLock(m, wanted);
}

/** Takes a lock if nobody else has it; no order is checked. */
export function tryLock(m: SchedState, wanted: LockRequest): boolean {
  if (isHeldByTask(m, wanted)) return true;
  if (lockHolder(m, wanted.name, wanted.id, wanted.mode, wanted.task) !== null) return false;
  const { name, id, mode, task, operation } = wanted;
  m.sched.locks.push({ name, id, mode, task, operation });
  return true;
}

/** Drops what `operation` has of a lock; nothing if it named one that its task had before. */
export function dropLock(m: SchedState, name: LockName, operation: number): void {
  const { locks } = m.sched;
  const at = locks.findLastIndex((held) => held.name === name && held.operation === operation);
  if (at >= 0) locks.splice(at, 1);
}

/** Drops everything that `operation` took, last first. */
export function dropLocks(m: SchedState, operation: number): void {
  const { locks } = m.sched;
  for (let i = locks.length - 1; i >= 0; i--)
    if (locks[i].operation === operation) locks.splice(i, 1);
}

/** Whoever keeps `task` from taking the lock in `mode`; null if it is free for that. */
export function lockHolder(
  m: SchedState,
  name: LockName,
  id: number,
  mode: LockMode,
  task: number,
): HeldLock | null {
  for (const held of m.sched.locks) {
    if (held.name !== name || held.id !== id || held.task === task) continue;
    if (mode === "write" || held.mode === "write") return held;
  }
  return name === "folio" ? unlistedHolder(m, id, task) : null;
}

/** The operation of another task that has the folio's lock among so many that they are not listed. */
function unlistedHolder(m: SchedState, head: number, task: number): HeldLock | null {
  for (const op of m.sched.operations) {
    if (op.task === task) continue;
    if (m.phaseTables[op.table].locksFolio?.(m, op, head) !== true) continue;
    return { name: "folio", id: head, mode: "write", task: op.task, operation: op.id };
  }
  return null;
}

/** True if anyone holds the lock, in any mode. */
export function isLocked(m: SchedState, name: LockName, id: number): boolean {
  for (const held of m.sched.locks) if (held.name === name && held.id === id) return true;
  return false;
}

/** True if another task has the lock exclusively, so that the running one could not even share it. */
export function isLockTaken(m: SchedState, name: LockName, id: number): boolean {
  return lockHolder(m, name, id, "read", m.sched.current) !== null;
}

/** False if isFolioBusy is false for every folio, so that a walk over many need not ask for each. */
export function mayFoliosBeBusy(m: SchedState): boolean {
  const { locks, operations, current } = m.sched;
  for (const held of locks) if (held.name === "folio" && held.task !== current) return true;
  for (const op of operations)
    if (op.task !== current && m.phaseTables[op.table].locksFolio !== undefined) return true;
  return false;
}

/** True if the running task would have to wait for the folio's lock: those who only try skip such a folio (ANON-195). */
export function isFolioBusy(m: SchedState, head: number): boolean {
  if (m.sched.operations.length === 0 && m.sched.locks.length === 0) return false;
  return lockHolder(m, "folio", head, "write", m.sched.current) !== null;
}

function isHeldByTask(m: SchedState, wanted: LockRequest): boolean {
  for (const held of m.sched.locks) {
    if (held.task !== wanted.task || held.name !== wanted.name || held.id !== wanted.id) continue;
    assert(
      held.mode === "write" || wanted.mode === "read",
      "a task that holds a lock shared wants it exclusive",
    );
    return true;
  }
  return false;
}

/** A lock that a plain call would take. */
export type CallLock = Pick<LockRequest, "name" | "id" | "mode">;

/**
 * The first of `wanted` that another task has, or null: then the task may make its call now. Nothing is taken. A task that
 * cannot go on is marked as waiting.
 */
export function blockingLock(
  m: SchedState,
  task: Task,
  wanted: readonly CallLock[],
): CallLock | null {
  const blocking =
    wanted.find(({ name, id, mode }) => lockHolder(m, name, id, mode, task.id) !== null) ?? null;
  task.waitsFor =
    blocking === null ? null : { what: blocking.name, id: blocking.id, mode: blocking.mode };
  return blocking;
}
