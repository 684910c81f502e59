/**
 * Reclaim of anonymous folios: swapped out whole, split and swapped out page by page, or dropped if lazily freed.
 *
 * Entry: isolateFolio, then reclaimFolios for what was isolated.
 * Owns:  pgactivate for what stays, pglazyfreed, thp_swpout_fallback and swpout_fallback.
 * Locks: folio lock of one folio at a time; unmap.ts takes those below it. Devices answer at once, so nothing is written
 *        while others run.
 * Rules: ANON-253, 265, 267, 268; PHYS-091, 097..104.
 */

import type { Pfn } from "../base/address.ts";
import { assert } from "../base/assert.ts";
import { NR_THP_STATS, THP_STAT, VMSTAT } from "../base/counters.ts";
import type { HugeState } from "../huge/knobs.ts";
import { splitFolio } from "../huge/split-folio.ts";
import { putFolio } from "../mm/folio.ts";
import { isMaybePinned } from "../mm/pins.ts";
import { folioMapcount } from "../mm/rmap.ts";
import { PG } from "../phys/frame-table.ts";
import { lruAdd, lruDel } from "../phys/lru.ts";
import { isFolioBusy } from "../sched/locks.ts";
import { addToSwapCache, freeSwapOf, removeFromSwapCache } from "../swap/cache.ts";
import { allocSlots, releaseSlot } from "../swap/slots.ts";
import { isSwapFull, NO_SWAP_ENTRY } from "../swap/state.ts";
import { writeToSwap } from "../swap/transfer.ts";
import { noteEviction } from "../swap/workingset.ts";
import { ageFolio } from "./references.ts";
import { discardLazyFree, isMappedLocked, unmapToSwap } from "./unmap.ts";

const HUGE_ORDER = 9;

/** "check": what was used since the last look stays (PHYS-091). "ignore": MADV_PAGEOUT knows better. */
export type ReferenceMode = "check" | "ignore";

/** What became of a folio: freed; put back on the list it was on; put on the active list. */
type Outcome = "freed" | "keep" | "activate";

/** Takes a folio off its LRU list with a reference. False if it is on none, or may not be reclaimed. */
export function isolateFolio(m: HugeState, head: Pfn): boolean {
  const flags = m.frames.flags[head];
  if ((flags & PG.LRU) === 0 || (flags & PG.UNEVICTABLE) !== 0) return false;
  lruDel(m, head);
  m.frames.refcount[head]++;
  return true;
}

/** Tries to free isolated folios, the first one first; the others go back to the LRU. Returns the number of pages freed. */
export function reclaimFolios(m: HugeState, heads: readonly Pfn[], mode: ReferenceMode): number {
  const { frames } = m;
  let nrFreed = 0;
  // Pages of a folio that had to be split come before the rest, the last page first.
  const stack = [...heads].reverse();
  for (let head = stack.pop(); head !== undefined; head = stack.pop()) {
    if (head < 0) {
      reclaimUnmapped(m);
      continue;
    }
    // A folio that was active shows it deserves that again, or not.
    frames.flags[head] &= ~PG.ACTIVE;
    const outcome = reclaimFolio(m, head, mode, stack);
    if (outcome === "freed") nrFreed += 1 << frames.order[head];
    if (outcome === "activate") activate(m, head);
    if (outcome !== "freed") lruAdd(m, head);
    putFolio(m, head, 1);
  }
  return nrFreed;
}

function reclaimFolio(m: HugeState, head: Pfn, mode: ReferenceMode, stack: Pfn[]): Outcome {
  const { flags } = m.frames;
  if (isFolioBusy(m, head)) return "keep";
  if ((flags[head] & PG.MLOCKED) !== 0) return "activate";
  if (mode === "check") {
    const verdict = ageFolio(m, head);
    if (verdict !== "reclaim") return verdict;
  }
  if ((flags[head] & PG.SWAPBACKED) === 0) return reclaimLazyFree(m, head);
  if ((flags[head] & PG.SWAPCACHE) === 0) {
    const outcome = findSwap(m, head, stack);
    if (outcome !== "ready") return outcome;
  }
  if (isMappedLocked(m, head)) return "activate";
  unmapToSwap(m, head);
  return writeAndFree(m, head);
}

/** The folio is as wanted: nothing of it is needed, or it stays mapped because it was written again. */
function reclaimLazyFree(m: HugeState, head: Pfn): Outcome {
  if (isMappedLocked(m, head) || !discardLazyFree(m, head)) return "activate";
  m.vmstat[VMSTAT.pglazyfreed] += 1 << m.frames.order[head];
  return "freed";
}

/** Slots for the folio, split if it must be: it is in the swap cache then. */
function findSwap(m: HugeState, head: Pfn, stack: Pfn[]): Outcome | "ready" {
  const { frames } = m;
  if (isMaybePinned(m, head)) return "keep";
  const order = frames.order[head];
  if (order > 0) {
    // Somebody holds it: it could be neither freed nor split (ANON-253).
    if (frames.refcount[head] !== folioMapcount(m, head) + 1) return "activate";
    const isPartial = (frames.flags[head] & PG.PARTIALLY_MAPPED) !== 0;
    if (isPartial && !splitIsolated(m, head, stack)) return "activate";
  }
  let entry = allocWhole(m, frames.order[head]);
  if (entry === NO_SWAP_ENTRY && frames.order[head] > 0) {
    if (!splitIsolated(m, head, stack)) return "activate";
    m.thpStats[order * NR_THP_STATS + THP_STAT.swpout_fallback]++;
    if (order === HUGE_ORDER) m.vmstat[VMSTAT.thp_swpout_fallback]++;
    entry = allocSlots(m, 0);
  }
  if (entry === NO_SWAP_ENTRY) return "activate";
  addToSwapCache(m, head, entry);
  frames.flags[head] |= PG.DIRTY; // the device does not have it, whatever the mappings say
  return "ready";
}

function allocWhole(m: HugeState, order: number): number {
  if (order === HUGE_ORDER && !m.profile.swapsHugeWhole) return NO_SWAP_ENTRY;
  return allocSlots(m, order);
}

/** Stands on the stack for a page that the split left unmapped. */
const UNMAPPED = -1;

/** Splits an isolated folio; its pages are isolated too, and come next. */
function splitIsolated(m: HugeState, head: Pfn, stack: Pfn[]): boolean {
  const { frames } = m;
  const end = head + (1 << frames.order[head]);
  if (splitFolio(m, head) !== 0) return false;
  for (let page = head + 1; page < end; page++) {
    const isMapped = frames.refcount[page] > 0 && (frames.flags[page] & PG.ANON) !== 0;
    stack.push(isMapped ? page : UNMAPPED);
    if (!isMapped) continue;
    assert((frames.flags[page] & PG.LRU) === 0, "a piece of an isolated folio is on an LRU list");
    frames.refcount[page]++;
  }
  return true;
}

/** Linux gives such a page a slot before it sees that nobody needs it, and activates it if there is none. */
function reclaimUnmapped(m: HugeState): void {
  const entry = allocSlots(m, 0);
  if (entry === NO_SWAP_ENTRY) {
    m.vmstat[VMSTAT.pgactivate]++;
    return;
  }
  releaseSlot(m, entry);
  m.vmstat[VMSTAT.nr_vmscan_write]++;
}

/** The folio is in the swap cache and unmapped. */
function writeAndFree(m: HugeState, head: Pfn): Outcome {
  const { frames, swap } = m;
  const nr = 1 << frames.order[head];
  if ((frames.flags[head] & PG.DIRTY) !== 0) {
    // Somebody may write to it still: it waits in the swap cache, unmapped.
    if (frames.refcount[head] !== 1 + nr) return "keep";
    if (freeSwapOf(m, head)) {
      m.vmstat[VMSTAT.nr_vmscan_write] += nr;
      return "keep";
    }
    writeToSwap(m, head);
    frames.flags[head] &= ~PG.DIRTY;
  }
  if (frames.refcount[head] !== 1 + nr) return "keep";
  noteEviction(m, head, swap.entryOf[head]);
  removeFromSwapCache(m, head);
  return "freed";
}

/** The folio could not be reclaimed: it is worth keeping for a while. */
function activate(m: HugeState, head: Pfn): void {
  const { flags, order } = m.frames;
  const isLocked = (flags[head] & PG.MLOCKED) !== 0;
  const isCached = (flags[head] & PG.SWAPCACHE) !== 0;
  if (isCached && (isLocked || isSwapFull(m) || isMappedLocked(m, head))) freeSwapOf(m, head);
  if (isLocked) return;
  flags[head] |= PG.ACTIVE;
  m.vmstat[VMSTAT.pgactivate] += 1 << order[head];
}
