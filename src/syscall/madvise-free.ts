/**
 * MADV_FREE: pages that may be dropped without swap until they are written again.
 *
 * Rules: ANON-261..264. A huge entry that is only partly covered has its folio split first; if that fails nothing is done.
 */

import { type Addr, type Pfn, PTES_PER_REGION } from "../base/address.ts";
import { EINVAL, type Err } from "../base/errno.ts";
import type { HugeState } from "../huge/knobs.ts";
import { ENTRY } from "../mm/page-tables.ts";
import { isHugeEntry } from "../mm/pmd.ts";
import { folioMapcount, isMaybeMappedShared, runOfFolio } from "../mm/rmap.ts";
import type { Mm } from "../mm/state.ts";
import { clearEntry } from "../mm/table-alloc.ts";
import { isAnonymous, VM, type Vma } from "../mm/vma.ts";
import { dropSwapEntry } from "../mm/zap.ts";
import { headOf, PG } from "../phys/frame-table.ts";
import { lruLazyFree } from "../phys/lru.ts";
import { isFolioBusy } from "../sched/locks.ts";
import { freeSwapOf } from "../swap/cache.ts";
import { eachRegion, splitForAdvice } from "./advised-folio.ts";

/** MADV_FREE on part of one VMA. */
export function lazyFreeRange(m: HugeState, mm: Mm, vma: Vma, start: Addr, end: Addr): Err {
  if (!isAnonymous(vma) || (vma.flags & (VM.LOCKED | VM.PFNMAP)) !== 0) return -EINVAL;
  eachRegion(m, mm, start, end, (slot, first, last) => {
    lazyFreeRegion(m, mm, slot, first, last);
  });
  return 0;
}

function lazyFreeRegion(m: HugeState, mm: Mm, slot: number, first: number, last: number): void {
  const entry = m.tables.flags[slot];
  if (isHugeEntry(entry)) {
    if ((entry & (ENTRY.SPECIAL | ENTRY.MIGRATION)) !== 0) return; // ANON-087, ANON-263
    const head = m.tables.payload[slot];
    if (folioMapcount(m, head) !== 1 || isFolioBusy(m, head)) return; // ANON-263
    if (last - first === PTES_PER_REGION) {
      markLazyFree(m, head);
      m.tables.flags[slot] = entry & ~(ENTRY.YOUNG | ENTRY.DIRTY);
      return;
    }
    if (!splitForAdvice(m, head)) return;
  }
  lazyFreePtes(m, mm, m.tables.payload[slot] * 512, first, last);
}

function lazyFreePtes(m: HugeState, mm: Mm, base: number, first: number, last: number): void {
  const { flags, payload } = m.tables;
  const { frames } = m;
  for (let i = first; i < last; ) {
    const slot = base + i;
    const isPage = (flags[slot] & (ENTRY.PRESENT | ENTRY.SPECIAL)) === ENTRY.PRESENT;
    const head = isPage ? headOf(frames, payload[slot]) : 0;
    if (!isPage || (frames.flags[head] & PG.ANON) === 0) {
      if ((flags[slot] & ENTRY.SWAP) !== 0) freeSwapEntry(m, mm, slot);
      i++;
      continue;
    }
    const nrFolio = 1 << frames.order[head];
    const nr = nrFolio === 1 ? 1 : runOfFolio(m, slot, base + last, payload[slot]);
    if (nr < nrFolio) {
      // After the split the same entries are looked at again, as pages of their own or the zero page.
      const isSplit = !isMaybeMappedShared(m, head) && splitForAdvice(m, head); // ANON-263
      i += isSplit ? 0 : nr;
      continue;
    }
    i += nr;
    // A shared folio stays dirty for the others; one that is dirty in the entries alone is marked all the same.
    const isDirtyItself = (frames.flags[head] & (PG.DIRTY | PG.SWAPCACHE)) !== 0;
    if (isDirtyItself && (folioMapcount(m, head) !== nr || isFolioBusy(m, head))) continue;
    if (!leavesSwapCache(m, head)) continue;
    markLazyFree(m, head);
    for (let k = slot; k < slot + nr; k++) flags[k] &= ~(ENTRY.YOUNG | ENTRY.DIRTY);
  }
}

/** ANON-264: contents that are on a device are not needed either. */
function freeSwapEntry(m: HugeState, mm: Mm, slot: number): void {
  const entry = m.tables.payload[slot];
  clearEntry(m.tables, slot);
  dropSwapEntry(m, mm, entry);
}

/** A page whose slot others need stays as it is. */
function leavesSwapCache(m: HugeState, head: Pfn): boolean {
  return (m.frames.flags[head] & PG.SWAPCACHE) === 0 || freeSwapOf(m, head);
}

/** The folio becomes clean and droppable; one that is lazy already only loses the dirtiness of later writes. */
function markLazyFree(m: HugeState, head: Pfn): void {
  const frames = m.frames;
  if ((frames.flags[head] & PG.SWAPBACKED) === 0) frames.flags[head] &= ~PG.DIRTY;
  else lruLazyFree(m, head);
}
