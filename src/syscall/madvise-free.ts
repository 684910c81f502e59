/**
 * MADV_FREE: pages that may be dropped without swap until they are written again.
 *
 * Entry: lazyFreeRegion, for the walk of advise-phases.ts; refuseFree.
 * Rules: ANON-261..264. A huge entry that is only partly covered has its folio split first; if that fails nothing is done.
 */

import { type Pfn, PTES_PER_REGION } from "../base/address.ts";
import { EINVAL, EPERM, type Err } from "../base/errno.ts";
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
import { type AdviceWalk, askForSplit, REGION_DONE } from "./advised-folio.ts";

/** 0 or a negative errno for a VMA that the advice is not for. */
export function refuseFree(vma: Vma): Err {
  if (isSealedReadOnly(vma)) return -EPERM;
  return !isAnonymous(vma) || (vma.flags & (VM.LOCKED | VM.PFNMAP)) !== 0 ? -EINVAL : 0;
}

/** Sealed memory may be emptied only by whoever could overwrite it anyway (ANON-275). */
export function isSealedReadOnly(vma: Vma): boolean {
  return isAnonymous(vma) && (vma.flags & (VM.SEALED | VM.WRITE)) === VM.SEALED;
}

/** Pages first..last-1 below the PMD entry in `slot`: REGION_DONE, or the page at which a folio must be split first. */
export function lazyFreeRegion(
  m: HugeState,
  mm: Mm,
  walk: AdviceWalk,
  slot: number,
  first: number,
  last: number,
): number {
  const entry = m.tables.flags[slot];
  if (!isHugeEntry(entry))
    return lazyFreePtes(m, mm, walk, m.tables.payload[slot] * 512, first, last);
  if ((entry & (ENTRY.SPECIAL | ENTRY.MIGRATION)) !== 0) return REGION_DONE; // ANON-087, ANON-263
  const head = m.tables.payload[slot];
  if (folioMapcount(m, head) !== 1 || isFolioBusy(m, head)) return REGION_DONE; // ANON-263
  if (last - first < PTES_PER_REGION) return askForSplit(walk, head, first, last - first);
  markLazyFree(m, head);
  m.tables.flags[slot] = entry & ~(ENTRY.YOUNG | ENTRY.DIRTY);
  return REGION_DONE;
}

function lazyFreePtes(
  m: HugeState,
  mm: Mm,
  walk: AdviceWalk,
  base: number,
  first: number,
  last: number,
): number {
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
      // ANON-263
      if (!isMaybeMappedShared(m, head) && !isFolioBusy(m, head))
        return askForSplit(walk, head, i, nr);
      i += nr;
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
  return REGION_DONE;
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
