/**
 * Phase tables: long operations as named phases over a plain record (docs/decisions/0009-phase-tables.md).
 *
 * Entry: definePhases. A row is a phase: the locks it runs under, and a function that does its work and names the next row.
 * Holds: between two phases others may run, inside one nobody. A lock named in successive rows stays held between them; one
 *        that is not named in the next row is dropped when the phase ends, one that is new is taken before it begins.
 */

import { assert } from "../base/assert.ts";
import { type LockName, type LockNeed, parseHolds } from "./lock-order.ts";
import type { Operation, SchedState } from "./state.ts";

/** The name of the end, which has no row. */
export const DONE = "done";

/** One row. `run` is a method, so that a table over more of the machine fits where less of it is known. */
export interface Phase<
  State extends SchedState,
  Op extends Operation,
  Next extends string = string,
> {
  /** Locks held while it runs, top down, e.g. "mmap:read folio"; "" none. */
  readonly holds: string;
  /** The phase that follows, or "done". */
  run(m: State, op: Op): Next;
}

/** What an operation keeps from being freed or found while it is between phases: the invariant walk reads it. */
export interface FrameHold {
  /** First page of the run. */
  readonly pfn: number;
  /** Pages whose mappings it may have replaced by migration entries, from `pfn` on; 0 none. */
  readonly nrMigrating: number;
  /** References it holds on the folio of `pfn`. */
  readonly references: number;
}

/** A page table that an operation has made and not yet put anywhere. */
export interface TableHold {
  readonly mmId: number;
  readonly table: number;
  /** The region whose entries it has kept, if it was taken out of the page tables; absent: it is empty. */
  readonly region?: number;
}

export interface PhaseTable<State extends SchedState, Op extends Operation> {
  readonly name: string;
  /** What the operation does, one line for people. */
  readonly about: string;
  /** The first phase. */
  readonly first: string;
  readonly phases: Readonly<Record<string, Phase<State, Op>>>;
  /** Locks of each phase, read from `holds`. */
  readonly needs: Readonly<Record<string, readonly LockNeed[]>>;
  /** Which lock of a kind this operation means now. */
  lockId(op: Op, name: LockName): number;
  /**
   * Called by another operation it takes over the locks of the caller's phase: it may drop them, and at its end gives back those
   * it still has. Absent: it runs under them and they stay the caller's.
   */
  readonly takesCallerLocks?: true;
  /** True if the operation has the lock of this folio now; for those that hold so many that they are not listed. */
  locksFolio?(m: State, op: Op, head: number): boolean;
  /**
   * True if the next phase has to wait for something that is no lock: an entry that somebody migrates. Its locks are taken then. Not
   * asked of an operation without a task, which lets the others go on itself.
   */
  mustWait?(m: State, op: Op): boolean;
  /** What it holds now. */
  frames(m: State, op: Op): readonly FrameHold[];
  /** Page tables it holds now; left out if it never does. */
  tables?(op: Op): readonly TableHold[];
}

/** What a table is made from. */
export type PhaseTableSpec<State extends SchedState, Op extends Operation> = Omit<
  PhaseTable<State, Op>,
  "needs"
>;

/** A table with its `holds` texts read and checked. */
export function definePhases<State extends SchedState, Op extends Operation>(
  spec: PhaseTableSpec<State, Op>,
): PhaseTable<State, Op> {
  assert(spec.first in spec.phases, "a phase table begins with a phase it does not have");
  const entries = Object.entries(spec.phases);
  return {
    ...spec,
    needs: Object.fromEntries(entries.map(([name, phase]) => [name, parseHolds(phase.holds)])),
  };
}

/** One row for people: `hugelab list phases`. */
export interface PhaseRow {
  readonly operation: string;
  readonly phase: string;
  readonly holds: string;
}

/** Every phase of a table in its order. */
export function listPhases(table: PhaseTable<SchedState, Operation>): readonly PhaseRow[] {
  return Object.entries(table.phases).map(([phase, { holds }]) => ({
    operation: table.name,
    phase,
    holds,
  }));
}
