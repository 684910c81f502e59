/**
 * Moving contents between frames and slots, and what is counted for it.
 *
 * Entry: writeToSwap, readFromSwap.
 * Owns:  `tag` and `isZero` of devices; pswpin, pswpout, swpin_zero, swpout_zero, thp_swpout, nr_vmscan_write.
 * Rules: PHYS-098, PHYS-100: a folio that is all zeroes is only marked, in its slots' map, and costs no device write.
 */

import type { Pfn } from "../base/address.ts";
import { NR_THP_STATS, THP_STAT, VMSTAT } from "../base/counters.ts";
import { deviceOf, type SwapEntry, type SwapState, slotOf } from "./state.ts";

const HUGE_ORDER = 9;

/** Writes a folio in the swap cache to its slots. */
export function writeToSwap(m: SwapState, head: Pfn): void {
  const { frames, vmstat, swap } = m;
  const order = frames.order[head];
  const nr = 1 << order;
  const entry = swap.entryOf[head];
  const device = deviceOf(m, entry);
  const slot = slotOf(entry);
  const isZero = isZeroFilled(m, head, nr);
  device.isZero.fill(isZero ? 1 : 0, slot, slot + nr);
  for (let i = 0; i < nr; i++) device.tag[slot + i] = frames.tag[head + i];
  vmstat[VMSTAT.nr_vmscan_write] += nr;
  if (isZero) {
    vmstat[VMSTAT.swpout_zero] += nr;
    return;
  }
  vmstat[VMSTAT.pswpout] += nr;
  if (order > 0) m.thpStats[order * NR_THP_STATS + THP_STAT.swpout]++;
  if (order === HUGE_ORDER) vmstat[VMSTAT.thp_swpout]++;
}

function isZeroFilled(m: SwapState, head: Pfn, nr: number): boolean {
  const { tag } = m.frames;
  for (let page = head; page < head + nr; page++) if (tag[page] !== 0) return false;
  return true;
}

/** Reads the slots from `entry` on into a folio that is not mapped yet. */
export function readFromSwap(m: SwapState, entry: SwapEntry, head: Pfn): void {
  const nr = 1 << m.frames.order[head];
  const device = deviceOf(m, entry);
  const slot = slotOf(entry);
  for (let i = 0; i < nr; i++) m.frames.tag[head + i] = device.tag[slot + i];
  const counter = device.isZero[slot] === 1 ? VMSTAT.swpin_zero : VMSTAT.pswpin;
  m.vmstat[counter] += nr;
}
