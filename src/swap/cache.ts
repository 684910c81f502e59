/**
 * The swap cache: frames whose contents also have slots, or are on their way to or from them.
 *
 * Entry: addToSwapCache, removeFromSwapCache, freeSwapOf, freeSwapIfUnmapped, isUnmapped.
 * Owns:  flag SWAPCACHE, `entryOf`, `cached` of devices, nr_swapcached.
 * Locks: folio lock for all but a look-up; freeSwapOf and freeSwapIfUnmapped only try for it.
 * Holds: a folio in the cache has one reference per page for it. A large one is there while it is written, and stays only if
 *        somebody took a reference to it meanwhile.
 */

import type { Pfn } from "../base/address.ts";
import { assert } from "../base/assert.ts";
import { VMSTAT } from "../base/counters.ts";
import { putFolio } from "../phys/alloc.ts";
import { NO_PFN, PG } from "../phys/frame-table.ts";
import { isFolioBusy } from "../sched/locks.ts";
import { releaseSlot } from "./slots.ts";
import { deviceOf, type SwapEntry, type SwapState, slotOf } from "./state.ts";

/** Ties a folio to slots that follow each other from `entry`. */
export function addToSwapCache(m: SwapState, head: Pfn, entry: SwapEntry): void {
  const { frames, swap } = m;
  assert((frames.flags[head] & PG.SWAPCACHE) === 0, "a folio is added to the swap cache twice");
  const nr = 1 << frames.order[head];
  const device = deviceOf(m, entry);
  const slot = slotOf(entry);
  for (let i = 0; i < nr; i++) {
    assert(device.cached[slot + i] === NO_PFN, "a slot has two pages in the swap cache");
    device.cached[slot + i] = head + i;
    device.owner[slot + i] ||= frames.owner[head];
  }
  swap.entryOf[head] = entry;
  frames.flags[head] |= PG.SWAPCACHE;
  frames.refcount[head] += nr;
  m.vmstat[VMSTAT.nr_swapcached] += nr;
}

/** Unties a folio; slots that no entry names are free then. The caller holds a reference of its own, if it needs one. */
export function removeFromSwapCache(m: SwapState, head: Pfn): void {
  const { frames, swap } = m;
  assert((frames.flags[head] & PG.SWAPCACHE) !== 0, "a folio is not in the swap cache");
  const nr = 1 << frames.order[head];
  const entry = swap.entryOf[head];
  const device = deviceOf(m, entry);
  const slot = slotOf(entry);
  swap.entryOf[head] = 0;
  frames.flags[head] &= ~PG.SWAPCACHE;
  m.vmstat[VMSTAT.nr_swapcached] -= nr;
  for (let i = 0; i < nr; i++) {
    device.cached[slot + i] = NO_PFN;
    if (device.count[slot + i] === 0) releaseSlot(m, entry + i);
  }
  frames.refcount[head] -= nr - 1;
  putFolio(m, head);
}

/**
 * Gives back the slots of a folio in the swap cache if no entry needs them; its only copy is in memory then, so it is dirty.
 * False if some entry does, or if somebody works on the folio.
 */
export function freeSwapOf(m: SwapState, head: Pfn): boolean {
  const { frames, swap } = m;
  if (isFolioBusy(m, head)) return false;
  const entry = swap.entryOf[head];
  const { count } = deviceOf(m, entry);
  const slot = slotOf(entry);
  const end = slot + (1 << frames.order[head]);
  for (let i = slot; i < end; i++) if (count[i] > 0) return false;
  frames.flags[head] |= PG.DIRTY;
  removeFromSwapCache(m, head);
  return true;
}

/** A page of a folio in the swap cache lost a mapping: with the last one the cache has no use for it, unless an entry does. */
export function freeSwapIfUnmapped(m: SwapState, head: Pfn): void {
  if ((m.frames.flags[head] & PG.SWAPCACHE) !== 0 && isUnmapped(m, head)) freeSwapOf(m, head);
}

/** True if no page of an anonymous folio is mapped. */
export function isUnmapped(m: SwapState, head: Pfn): boolean {
  const { order, mapcount, largeMapcount } = m.frames;
  return (order[head] === 0 ? mapcount[head] : largeMapcount[head]) === 0;
}
