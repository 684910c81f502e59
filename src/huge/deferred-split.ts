/**
 * Which queued folios the deferred-split shrinker splits, to free what nobody uses: partially mapped ones and underused ones.
 *
 * Entry: reasonToSplit before a split, settleSplit after it; the pass is in deferred-split-phases.ts. The queues live in mm/,
 *        which feeds them.
 * Rules: ANON-195, 196, 200..202.
 */

import { HUGE_ORDER, type Pfn, PTES_PER_REGION } from "../base/address.ts";
import { VMSTAT } from "../base/counters.ts";
import type { Err } from "../base/errno.ts";
import { leaveDeferredQueue, putFolio, requeueDeferred } from "../mm/folio.ts";
import { PG } from "../phys/frame-table.ts";
import type { HugeState } from "./knobs.ts";

/** Why a queued folio is to be split; null if it is not. */
export type SplitReason = "partial" | "underused";

export function reasonToSplit(m: HugeState, head: Pfn, maxPtesNone: number): SplitReason | null {
  if ((m.frames.flags[head] & PG.PARTIALLY_MAPPED) !== 0) return "partial";
  return isUnderused(m, head, maxPtesNone) ? "underused" : null;
}

/** After an attempt: a partially mapped folio that is still whole waits at the end of the queue. Drops the reference. */
export function settleSplit(m: HugeState, head: Pfn, why: SplitReason, result: Err): void {
  const isQueued = (m.frames.flags[head] & PG.DEFERRED) !== 0;
  if (result === 0 && why === "underused") m.vmstat[VMSTAT.thp_underused_split_page]++;
  if (result !== 0 && isQueued) {
    // It may have become partially mapped while it was looked at.
    if ((m.frames.flags[head] & PG.PARTIALLY_MAPPED) !== 0) requeueDeferred(m, head);
    else leaveDeferredQueue(m, head);
  }
  putFolio(m, head, 1);
}

/** More than max_ptes_none of the folio's pages hold only zeroes; off at 511 (ANON-200). */
export function isUnderused(m: HugeState, head: Pfn, maxPtesNone: number): boolean {
  const { flags, order, tag } = m.frames;
  if (maxPtesNone === PTES_PER_REGION - 1 || order[head] !== HUGE_ORDER) return false;
  if ((flags[head] & (PG.HAS_HWPOISONED | PG.MLOCKED)) !== 0) return false;
  let nrZero = 0;
  for (let page = head; page < head + PTES_PER_REGION; page++) if (tag[page] === 0) nrZero++;
  return nrZero > maxPtesNone;
}
