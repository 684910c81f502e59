/**
 * What MADV_COLD, MADV_PAGEOUT and MADV_FREE share about a large folio that their range covers only partly.
 *
 * Entry: AdviceWalk, the part of the operation that a region's walk sees; askForSplit, isSplitStuck.
 */

import type { Pfn } from "../base/address.ts";
import type { HugeState } from "../huge/knobs.ts";
import { isFolioBusy } from "../sched/locks.ts";
import { isLockStuck } from "../sched/runner.ts";
import { CALLER, type Operation } from "../sched/state.ts";

export type AdviceKind = "cold" | "pageOut" | "free";

/** What the walk over one region tells the operation. */
export interface AdviceWalk {
  readonly advice: AdviceKind;
  /** Folios taken off the LRU, to be reclaimed at the end of the region. */
  readonly isolated: Pfn[];
  /** The folio that must be split before the walk can go on, and the pages to pass over if it cannot be. */
  splitHead: Pfn;
  nrSkipped: number;
}

/** A region's walk is through; else it gives the page index at which a split is needed. */
export const REGION_DONE = -1;

/** The walk stops at page `index` until the folio is split. */
export function askForSplit(walk: AdviceWalk, head: Pfn, index: number, nrSkipped: number): number {
  walk.splitHead = head;
  walk.nrSkipped = nrSkipped;
  return index;
}

/** A plain call would wait for ever for what somebody has who is held; a task waits. */
export function isSplitStuck(m: HugeState, op: Operation, head: Pfn): boolean {
  if (op.task !== CALLER) return false;
  return isFolioBusy(m, head) || isLockStuck(m, "anonVma", m.frames.owner[head]);
}
