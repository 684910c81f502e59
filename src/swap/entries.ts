/**
 * The swap map: how many page-table entries need a slot, in all address spaces.
 *
 * Entry: dupEntry (fork, unmapping), freeEntry (a fault takes the page back), freeEntryAndCache (the entry is dropped).
 * Owns:  `count` of devices.
 * Holds: a slot is in use while its count is above 0 or its page is in the swap cache.
 */

import { assert } from "../base/assert.ts";
import { NO_PFN } from "../phys/frame-table.ts";
import { freeSwapOf } from "./cache.ts";
import { releaseSlot } from "./slots.ts";
import {
  BAD_SLOT,
  deviceOf,
  isSwapFull,
  type SwapEntry,
  type SwapState,
  slotOf,
  swapCachedPage,
} from "./state.ts";

/** One more page-table entry names the slot (PHYS-116). */
export function dupEntry(m: SwapState, entry: SwapEntry): void {
  const device = deviceOf(m, entry);
  const slot = slotOf(entry);
  assert(device.inUse[slot] === 1, "an entry names a swap slot that is free");
  assert(device.count[slot] < BAD_SLOT - 1, "a swap slot has too many entries");
  device.count[slot]++;
}

/** One less; a slot that nobody needs is free. A page in the swap cache stays there. */
export function freeEntry(m: SwapState, entry: SwapEntry): void {
  const device = deviceOf(m, entry);
  const slot = slotOf(entry);
  const count = device.count[slot];
  assert(count > 0 && count !== BAD_SLOT, "more swap entries dropped than there were");
  device.count[slot] = count - 1;
  if (count === 1 && device.cached[slot] === NO_PFN) releaseSlot(m, entry);
}

/**
 * freeEntry for an entry that is unmapped, not faulted: with the last one a cached page that nobody maps is dropped too; a
 * mapped one leaves the cache only if swap is more than half full.
 */
export function freeEntryAndCache(m: SwapState, entry: SwapEntry): void {
  const pfn = swapCachedPage(m, entry);
  freeEntry(m, entry);
  if (pfn === NO_PFN) return;
  if (m.frames.mapcount[pfn] === 0 || isSwapFull(m)) freeSwapOf(m, pfn);
}
