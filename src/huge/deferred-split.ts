/**
 * The deferred-split shrinker: splits queued folios that are partially mapped, or underused, to free what nobody uses.
 *
 * Entry: shrinkDeferred (memory pressure; dropSlab of shrinkers.ts). The queues live in mm/, which feeds them. The same as
 *        phases: deferred-split-phases.ts.
 * Rules: ANON-195, 196, 200..202.
 */

import { HUGE_ORDER, type Pfn, PTES_PER_REGION } from "../base/address.ts";
import { VMSTAT } from "../base/counters.ts";
import type { Err } from "../base/errno.ts";
import { listHead } from "../base/int-list.ts";
import { leaveDeferredQueue, putFolio, requeueDeferred } from "../mm/folio.ts";
import { PG } from "../phys/frame-table.ts";
import type { HugeState } from "./knobs.ts";
import { splitFolio } from "./split-folio.ts";

/** Looks at up to `nrToScan` folios of one queue from its head. Returns the number split. */
export function shrinkDeferred(
  m: HugeState,
  queue: number,
  nrToScan: number,
  maxPtesNone: number,
): number {
  let nrSplit = 0;
  const nr = Math.min(nrToScan, m.deferredLength[queue]);
  for (let i = 0; i < nr; i++) {
    const head = listHead(m.deferred, queue);
    if (head < 0) break;
    if (shrinkOne(m, head, maxPtesNone)) nrSplit++;
  }
  return nrSplit;
}

function shrinkOne(m: HugeState, head: Pfn, maxPtesNone: number): boolean {
  const why = reasonToSplit(m, head, maxPtesNone);
  if (why === null) {
    leaveDeferredQueue(m, head);
    return false;
  }
  m.frames.refcount[head]++;
  const result = splitFolio(m, head);
  settleSplit(m, head, why, result);
  return result === 0;
}

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
