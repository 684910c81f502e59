/**
 * The swap map: how many page-table entries need a slot, in all address spaces.
 *
 * Entry: dupEntry (fork, unmapping), freeEntry (a fault takes the page back), freeEntryAndCache (the entry is dropped);
 *        claimSlots and dropClaim around a read past the swap cache.
 * Owns:  `count` and `claimed` of devices.
 * Holds: a slot is in use while its count is above 0, its page is in the swap cache, or it is claimed.
 */

import { assert } from "../base/assert.ts";
import { headOf, NO_PFN } from "../phys/frame-table.ts";
import { freeSwapOf, isUnmapped } from "./cache.ts";
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
  if (count === 1 && device.cached[slot] === NO_PFN && device.claimed[slot] === 0)
    releaseSlot(m, entry);
}

/** True if somebody is reading the slot past the swap cache. */
export function isClaimed(m: SwapState, entry: SwapEntry): boolean {
  return deviceOf(m, entry).claimed[slotOf(entry)] === 1;
}

/** The caller will read the slots from `entry` on past the swap cache. False if one is free by now, cached, or claimed. */
export function claimSlots(m: SwapState, entry: SwapEntry, nr: number): boolean {
  const { count, cached, claimed } = deviceOf(m, entry);
  const first = slotOf(entry);
  for (let slot = first; slot < first + nr; slot++)
    if (count[slot] === 0 || cached[slot] !== NO_PFN || claimed[slot] === 1) return false;
  claimed.fill(1, first, first + nr);
  return true;
}

/** Ends a claim; slots that no entry names any more are free. */
export function dropClaim(m: SwapState, entry: SwapEntry, nr: number): void {
  const { count, claimed } = deviceOf(m, entry);
  const first = slotOf(entry);
  claimed.fill(0, first, first + nr);
  for (let i = 0; i < nr; i++) if (count[first + i] === 0) releaseSlot(m, entry + i);
}

/**
 * freeEntry for an entry that is unmapped, not faulted: with the last one a cached page that nobody maps is dropped too; a
 * mapped one leaves the cache only if swap is more than half full.
 */
export function freeEntryAndCache(m: SwapState, entry: SwapEntry): void {
  const pfn = swapCachedPage(m, entry);
  freeEntry(m, entry);
  if (pfn === NO_PFN) return;
  const head = headOf(m.frames, pfn);
  if (isUnmapped(m, head) || isSwapFull(m)) freeSwapOf(m, head);
}
