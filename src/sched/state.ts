/**
 * The machine as the scheduler sees it: virtual time, tasks, operations under way, and locks held between phases.
 *
 * Owns:  the records. They hold numbers, words and null only, so that a snapshot copies them and a digest reads them.
 * Units: times in nanoseconds of virtual time, as doubles.
 */

import type { EventSink } from "../base/events.ts";
import type { LockMode, LockName } from "./lock-order.ts";
import type { PhaseTable } from "./phase-table.ts";

/** Whoever calls a function of the engine directly, outside of any task. */
export const CALLER = 0;
/** No operation. */
export const NO_OPERATION = 0;

/** What a task sleeps on: a lock, or a page table entry that is being migrated. */
export interface WaitFor {
  readonly what: LockName | "entry";
  /** Instance of the lock; for an entry, its page number in the task's address space. */
  readonly id: number;
  /** How a lock is wanted. */
  readonly mode: LockMode;
}

/** One thread of execution: of a program, or of the kernel. */
export interface Task {
  /** From 1; index in m.sched.tasks. */
  readonly id: number;
  readonly name: string;
  /** Address space it runs in, -1 for a thread of the kernel. */
  readonly mmId: number;
  waitsFor: WaitFor | null;
  /** Sleeps until then; Infinity: until it is woken; 0 if it does not. */
  wakeNs: number;
  /** The operation it is in the middle of, innermost of a chain of calls; NO_OPERATION if none. */
  operation: number;
  /** What its last operation came to: 0 or a negative errno. */
  result: number;
}

/**
 * One long operation under way, between two of its phases. A phase table adds fields of its own: ids and integers only.
 */
export interface Operation {
  /** From 1; never used again. */
  readonly id: number;
  /** Name of its phase table. */
  readonly table: string;
  readonly task: number;
  /** The operation that called it and waits for its result; NO_OPERATION if a task began it. */
  readonly caller: number;
  /** The phase that runs next. */
  phase: string;
  /** True while nobody but its owner may make it go on (see runner.ts). */
  isHeld: boolean;
  /** 0 or a negative errno; what it means before the end is the table's. */
  result: number;
  /** Result of the operation it called last. */
  callResult: number;
  /** How many of its locks that operation took over and gave back (PhaseTable.takesCallerLocks). */
  callLocks: number;
}

/** A lock that is held across phases. */
export interface HeldLock {
  readonly name: LockName;
  /** Which of its kind: an mm id, a head pfn, an anon_vma id. */
  readonly id: number;
  readonly mode: LockMode;
  readonly task: number;
  /** The operation that drops it; NO_OPERATION if a task took it directly. */
  operation: number;
}

export interface Sched {
  nowNs: number;
  /** By id; [0] and ended ones are null. */
  readonly tasks: (Task | null)[];
  /** In the order they began. */
  readonly operations: Operation[];
  nextOperation: number;
  /** In the order they were taken. */
  readonly locks: HeldLock[];
  /** Task whose phase runs at this moment; CALLER between phases. */
  current: number;
}

/** Phase tables by name. */
export type PhaseTables = Readonly<Record<string, PhaseTable<SchedState, Operation>>>;

export interface SchedState {
  readonly sched: Sched;
  /** Port: every phase table of the machine; plugged in at its creation and not part of a snapshot. */
  phaseTables: PhaseTables;
  events: EventSink | null;
}

/** Time 0, nobody there. */
export function createSched(): Sched {
  return { nowNs: 0, tasks: [null], operations: [], nextOperation: 1, locks: [], current: CALLER };
}
