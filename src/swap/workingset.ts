/**
 * Working set detection: was a page that comes back evicted too early?
 *
 * Entry: noteEviction, noteRefault.
 * Owns:  `shadow` of devices, `age` of the machine; workingset_refault_anon, workingset_activate_anon.
 * Rules: PHYS-087. LRU lists have an age, in pages evicted or activated; the distance of a refault is how much it grew since
 *        the eviction. A page whose distance is within what other lists hold would have stayed had it had their place.
 */

import type { Pfn } from "../base/address.ts";
import { VMSTAT } from "../base/counters.ts";
import { zoneOf } from "../phys/buddy.ts";
import { PG } from "../phys/frame-table.ts";
import { lruSize } from "../phys/lru.ts";
import { LRU } from "../phys/state.ts";
import { deviceOf, type SwapEntry, type SwapState, slotOf } from "./state.ts";

/** A folio is about to be freed because its contents are in the slots from `entry` on. */
export function noteEviction(m: SwapState, head: Pfn, entry: SwapEntry): void {
  const nr = 1 << m.frames.order[head];
  const lists = m.frames.memcg[head] * m.nodes.length + zoneOf(m, head).node;
  const device = deviceOf(m, entry);
  const slot = slotOf(entry);
  device.shadow.fill(m.swap.age[lists] + 1, slot, slot + nr);
  device.shadowLists.fill(lists, slot, slot + nr);
  m.swap.age[lists] += nr;
}

/**
 * A folio, on no list yet, was read from the slots from `entry` on: it becomes active if it was evicted recently. To be
 * called before the slots are freed.
 */
export function noteRefault(m: SwapState, head: Pfn, entry: SwapEntry): void {
  const nr = 1 << m.frames.order[head];
  const device = deviceOf(m, entry);
  const slot = slotOf(entry);
  const shadow = device.shadow[slot];
  if (shadow === 0) return;
  device.shadow.fill(0, slot, slot + nr);
  m.vmstat[VMSTAT.workingset_refault_anon] += nr;
  const lists = device.shadowLists[slot];
  const distance = m.swap.age[lists] - (shadow - 1);
  if (distance > roomOf(m, lists)) return;
  m.swap.age[lists] += nr;
  m.frames.flags[head] |= PG.ACTIVE | PG.WORKINGSET;
  m.vmstat[VMSTAT.workingset_activate_anon] += nr;
}

/** Pages of the lists that an anonymous page competes with. */
function roomOf(m: SwapState, lists: number): number {
  const memcg = Math.floor(lists / m.nodes.length);
  const node = lists % m.nodes.length;
  return (
    lruSize(m, memcg, node, LRU.ACTIVE_ANON) +
    lruSize(m, memcg, node, LRU.ACTIVE_FILE) +
    lruSize(m, memcg, node, LRU.INACTIVE_FILE)
  );
}
