/**
 * Emptying a swap device: every page that has its only copy there comes back into memory.
 *
 * Entry: unuseDevice.
 * Rules: PHYS-118. Pages come back as single pages, old and write-protected: the next write finds out whether they are
 *        shared. A page keeps its exclusive mark.
 */

import type { Pfn } from "../base/address.ts";
import { ENOMEM, type Err } from "../base/errno.ts";
import type { HugeState } from "../huge/knobs.ts";
import { mlockFolio } from "../mm/mlock.ts";
import { ENTRY, NO_TABLE, pteTableOf } from "../mm/page-tables.ts";
import { addAnonPtes } from "../mm/rmap.ts";
import type { Mm } from "../mm/state.ts";
import { VM, VM_ACCESS, type Vma } from "../mm/vma.ts";
import { NO_PFN, PG } from "../phys/frame-table.ts";
import { freeSwapOf } from "../swap/cache.ts";
import { freeEntry } from "../swap/entries.ts";
import { type SwapEntry, swapCachedPage, typeOf } from "../swap/state.ts";
import { nameSwappedPage, readIntoCache } from "./swap-in.ts";

/** Brings back what is on the device. 0, or -ENOMEM with the rest still there. */
export function unuseDevice(m: HugeState, type: number): Err {
  for (const mm of m.mms) {
    if (mm === null || mm.nrSwapEntries === 0) continue;
    for (const vma of mm.vmas) if (!unuseVma(m, mm, vma, type)) return -ENOMEM;
  }
  // Pages in the swap cache that no entry names any more.
  const { cached } = m.swap.devices[type]!;
  for (const pfn of cached) if (pfn !== NO_PFN) freeSwapOf(m, pfn);
  return 0;
}

/** False if memory ran out. */
function unuseVma(m: HugeState, mm: Mm, vma: Vma, type: number): boolean {
  const firstPage = vma.start / 4096;
  const endPage = vma.end / 4096;
  for (let page = firstPage; page < endPage; ) {
    const region = Math.floor(page / 512);
    const stop = Math.min(endPage, (region + 1) * 512);
    const table = pteTableOf(m.tables, mm.root, region);
    for (; table !== NO_TABLE && page < stop; page++) {
      const slot = table * 512 + (page - region * 512);
      if ((m.tables.flags[slot] & ENTRY.SWAP) === 0) continue;
      const entry = m.tables.payload[slot];
      if (typeOf(entry) === type && !unusePte(m, mm, vma, region, page - region * 512, slot, entry))
        return false;
    }
    page = stop;
  }
  return true;
}

function unusePte(
  m: HugeState,
  mm: Mm,
  vma: Vma,
  region: number,
  pteIndex: number,
  slot: number,
  entry: SwapEntry,
): boolean {
  let pfn = swapCachedPage(m, entry);
  if (pfn === NO_PFN) pfn = readIntoCache(m, mm.memcg, entry);
  if (pfn === NO_PFN) return false;
  m.frames.refcount[pfn]++;
  nameSwappedPage(m, pfn, vma, entry, region, pteIndex);
  mapOld(m, mm, vma, slot, pfn);
  freeEntry(m, entry);
  freeSwapOf(m, pfn); // with the last entry
  return true;
}

function mapOld(m: HugeState, mm: Mm, vma: Vma, slot: number, pfn: Pfn): void {
  const { tables, frames } = m;
  const before = tables.flags[slot];
  const isAccessible = (vma.flags & VM_ACCESS) !== 0;
  tables.payload[slot] = pfn;
  tables.flags[slot] =
    ENTRY.PRESENT |
    (isAccessible ? 0 : ENTRY.PROTNONE) |
    (before & (ENTRY.UFFD_WP | ENTRY.SOFT_DIRTY));
  if ((before & ENTRY.EXCLUSIVE) !== 0) frames.flags[pfn] |= PG.ANON_EXCLUSIVE;
  addAnonPtes(m, mm, pfn, 1);
  if ((vma.flags & VM.LOCKED) !== 0) mlockFolio(m, pfn);
  mm.rssAnon++;
  mm.nrSwapEntries--;
}
