/**
 * The deferred-split shrinker: splits queued folios that are partially mapped, or underused, to free what nobody uses.
 *
 * Entry: shrinkDeferred (memory pressure, drop_caches). The queues live in mm/, which feeds them.
 * Rules: ANON-195, 196, 200..202.
 */

import { HUGE_ORDER, type Pfn, PTES_PER_REGION } from "../base/address.ts";
import { VMSTAT } from "../base/counters.ts";
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
  const frames = m.frames;
  const isPartial = (frames.flags[head] & PG.PARTIALLY_MAPPED) !== 0;
  const isUnderusedToo = !isPartial && isUnderused(m, head, maxPtesNone);
  if (!isPartial && !isUnderusedToo) {
    leaveDeferredQueue(m, head);
    return false;
  }
  frames.refcount[head]++;
  const isSplit = splitFolio(m, head) === 0;
  if (isSplit && isUnderusedToo) m.vmstat[VMSTAT.thp_underused_split_page]++;
  if (!isSplit && isPartial) requeueDeferred(m, head);
  if (!isSplit && !isPartial) leaveDeferredQueue(m, head);
  putFolio(m, head, 1);
  return isSplit;
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
