/**
 * mincore(2): which pages would be found without reading from a disk (ANON-239).
 *
 * Looks at the tables as they are; a huge entry answers for all its pages and nothing is split.
 */

import {
  type Addr,
  alignUp,
  HUGE_SIZE,
  isAligned,
  PAGE_SIZE,
  PTES_PER_REGION,
  pteIndexOf,
  regionOf,
  TASK_SIZE,
} from "../base/address.ts";
import { EINVAL, ENOMEM, type Err } from "../base/errno.ts";
import type { HugeState } from "../huge/knobs.ts";
import { enterMm } from "../mm/mmap-lock.ts";
import { ENTRY, isPoison, pmdSlotOf } from "../mm/page-tables.ts";
import type { Mm } from "../mm/state.ts";
import { findVma, type Vma } from "../mm/vma.ts";
import { NO_PFN } from "../phys/frame-table.ts";
import { swapCachedPage } from "../swap/state.ts";

/**
 * One byte per page into `residency`: 1 resident, 0 not. 0, -EINVAL, or -ENOMEM at the first page that is not mapped; the
 * bytes before it are filled in.
 */
export function sysMincore(
  m: HugeState,
  mm: Mm,
  address: Addr,
  length: number,
  residency: Uint8Array,
): Err {
  if (!isAligned(address, PAGE_SIZE)) return -EINVAL;
  const end = address + alignUp(length, PAGE_SIZE);
  if (end > TASK_SIZE) return -ENOMEM;
  enterMm(m, mm, "read");
  for (let at = address; at < end; ) {
    const vma = findVma(mm.vmas, at);
    if (vma === null) return -ENOMEM;
    const stop = Math.min(end, vma.end, (regionOf(at) + 1) * HUGE_SIZE);
    fillRegion(m, mm, vma, at, stop, residency, (at - address) / PAGE_SIZE);
    at = stop;
  }
  return 0;
}

/** Pages [start, end) lie in one VMA and one region; `first` is the index of the first one's byte. */
function fillRegion(
  m: HugeState,
  mm: Mm,
  vma: Vma,
  start: Addr,
  end: Addr,
  residency: Uint8Array,
  first: number,
): void {
  const { tables } = m;
  const slot = pmdSlotOf(tables, mm.root, regionOf(start));
  const nr = (end - start) / PAGE_SIZE;
  const entry = slot < 0 ? 0 : tables.flags[slot];
  if ((entry & ENTRY.HUGE) !== 0) {
    residency.fill(1, first, first + nr);
    return;
  }
  const table = (entry & ENTRY.TABLE) !== 0 ? tables.payload[slot] * 512 : -1;
  for (let i = 0; i < nr; i++) {
    const pteIndex = pteIndexOf(start) + i;
    const pte = table < 0 ? 0 : tables.flags[table + pteIndex];
    let isResident = pte === 0 ? isCached(vma, start, i) : isMapped(pte);
    // A guard hides nothing: what a file has cached behind it counts, as if nothing were mapped.
    if ((pte & ENTRY.MARKER) !== 0)
      isResident = isPoison(tables, table + pteIndex) || isCached(vma, start, i);
    if ((pte & ENTRY.SWAP) !== 0)
      isResident = swapCachedPage(m, tables.payload[table + pteIndex]) !== NO_PFN;
    residency[first + i] = isResident ? 1 : 0;
  }
}

/** Also pages without rights, and pages on the move; not guards. */
function isMapped(entry: number): boolean {
  return (entry & (ENTRY.PRESENT | ENTRY.MIGRATION)) !== 0;
}

/** Nothing mapped: a file's page may be cached all the same. */
function isCached(vma: Vma, start: Addr, page: number): boolean {
  if (vma.file === null) return false;
  const index = regionOf(start) * PTES_PER_REGION + pteIndexOf(start) + page + vma.pgoffDelta;
  return (vma.file.pages[index] ?? NO_PFN) !== NO_PFN;
}
