/**
 * Tasks and virtual time: who there is, who could run now, and when the next sleeper wakes.
 *
 * Entry: createTask, endTask, isRunnable; sleepTask and advanceToNextWake for threads that pause between passes.
 */

import { assert } from "../base/assert.ts";
import { lockHolder } from "./locks.ts";
import { NO_OPERATION, type SchedState, type Task } from "./state.ts";

/** Of `wakeNs`: until somebody wakes it. */
export const NEVER = Number.POSITIVE_INFINITY;

/** A task that does nothing yet. `mmId` -1: a thread of the kernel. */
export function createTask(m: SchedState, name: string, mmId = -1): Task {
  const { tasks } = m.sched;
  const free = tasks.indexOf(null, 1);
  const id = free > 0 ? free : tasks.length;
  const task: Task = {
    id,
    name,
    mmId,
    waitsFor: null,
    wakeNs: 0,
    operation: NO_OPERATION,
    result: 0,
  };
  tasks[id] = task;
  return task;
}

/** The record of a task that exists. */
export function taskOf(m: SchedState, id: number): Task {
  const task = m.sched.tasks[id];
  assert(task !== null && task !== undefined, "there is no such task");
  return task;
}

/** The task is gone. It must not be in the middle of anything. */
export function endTask(m: SchedState, id: number): void {
  const task = taskOf(m, id);
  assert(task.operation === NO_OPERATION, "a task ends in the middle of an operation");
  for (const held of m.sched.locks) assert(held.task !== id, "a task ends with a lock held");
  m.sched.tasks[id] = null;
}

/** False while it sleeps or waits for a lock that somebody still has. Who waits for an entry may look at any time. */
export function isRunnable(m: SchedState, task: Task): boolean {
  if (task.wakeNs > m.sched.nowNs) return false;
  const { waitsFor } = task;
  if (waitsFor === null || waitsFor.what === "entry") return true;
  return lockHolder(m, waitsFor.what, waitsFor.id, waitsFor.mode, task.id) === null;
}

/** The task pauses for `durationNs`. */
export function sleepTask(m: SchedState, task: Task, durationNs: number): void {
  assert(durationNs >= 0, "a task sleeps for a negative time");
  task.wakeNs = m.sched.nowNs + durationNs;
}

/** Lets virtual time pass. */
export function advanceClock(m: SchedState, durationNs: number): void {
  assert(durationNs >= 0, "time runs backwards");
  m.sched.nowNs += durationNs;
}

/** Moves time on to the next wake-up and returns that task; null if nobody sleeps. Who sleeps for ever is woken by others. */
export function advanceToNextWake(m: SchedState): Task | null {
  let next: Task | null = null;
  for (const task of m.sched.tasks) {
    if (task === null || task.wakeNs <= m.sched.nowNs || task.wakeNs === NEVER) continue;
    if (next === null || task.wakeNs < next.wakeNs) next = task;
  }
  if (next !== null) m.sched.nowNs = next.wakeNs;
  return next;
}
