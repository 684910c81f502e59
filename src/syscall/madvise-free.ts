/**
 * MADV_FREE: pages that may be dropped without swap until they are written again.
 *
 * Rules: ANON-261..264. A huge entry that is only partly covered has its folio split first; if that fails nothing is done.
 */

import {
  type Addr,
  HUGE_SIZE,
  type Pfn,
  PTES_PER_REGION,
  pteIndexOf,
  regionOf,
} from "../base/address.ts";
import { EINVAL, type Err } from "../base/errno.ts";
import type { HugeState } from "../huge/knobs.ts";
import { splitFolio } from "../huge/split-folio.ts";
import { putFolio } from "../mm/folio.ts";
import { ENTRY, NO_TABLE, pmdTableOf } from "../mm/page-tables.ts";
import { isHugeEntry } from "../mm/pmd.ts";
import { folioMapcount, isMaybeMappedShared } from "../mm/rmap.ts";
import type { Mm } from "../mm/state.ts";
import { isAnonymous, VM, type Vma } from "../mm/vma.ts";
import { headOf, PG } from "../phys/frame-table.ts";
import { lruLazyFree } from "../phys/lru.ts";

/** MADV_FREE on part of one VMA. */
export function lazyFreeRange(m: HugeState, mm: Mm, vma: Vma, start: Addr, end: Addr): Err {
  if (!isAnonymous(vma) || (vma.flags & (VM.LOCKED | VM.PFNMAP)) !== 0) return -EINVAL;
  m.mmuNotifier?.invalidateRange(mm.id, start / 4096, end / 4096);
  const lastRegion = regionOf(end - 1);
  for (let region = regionOf(start); region <= lastRegion; region++) {
    const pmdTable = pmdTableOf(m.tables, mm.root, region);
    if (pmdTable === NO_TABLE) {
      region |= 511;
      continue;
    }
    const slot = pmdTable * 512 + (region & 511);
    const first = region * HUGE_SIZE < start ? pteIndexOf(start) : 0;
    const last = (region + 1) * HUGE_SIZE > end ? pteIndexOf(end) : PTES_PER_REGION;
    if (m.tables.flags[slot] !== 0) lazyFreeRegion(m, slot, first, last);
  }
  return 0;
}

function lazyFreeRegion(m: HugeState, slot: number, first: number, last: number): void {
  const entry = m.tables.flags[slot];
  if (isHugeEntry(entry)) {
    if ((entry & (ENTRY.SPECIAL | ENTRY.MIGRATION)) !== 0) return; // ANON-087, ANON-263
    const head = m.tables.payload[slot];
    if (folioMapcount(m, head) !== 1) return; // ANON-263
    if (last - first === PTES_PER_REGION) {
      markLazyFree(m, head);
      m.tables.flags[slot] = entry & ~(ENTRY.YOUNG | ENTRY.DIRTY);
      return;
    }
    if (!splitForAdvice(m, head)) return;
  }
  lazyFreePtes(m, m.tables.payload[slot] * 512, first, last);
}

function lazyFreePtes(m: HugeState, base: number, first: number, last: number): void {
  const { flags, payload } = m.tables;
  const frames = m.frames;
  for (let i = first; i < last; i++) {
    const entry = flags[base + i];
    if ((entry & (ENTRY.PRESENT | ENTRY.SPECIAL)) !== ENTRY.PRESENT) continue;
    const pfn = payload[base + i];
    const head = headOf(frames, pfn);
    const nr = 1 << frames.order[head];
    if ((frames.flags[head] & PG.ANON) === 0) continue;
    if (nr > 1) {
      const covers = pfn === head && i + nr <= last && mapsWhole(m, base + i, head, nr);
      if (covers && frames.largeMapcount[head] === nr) {
        markLazyFree(m, head);
        for (let k = 0; k < nr; k++) flags[base + i + k] &= ~(ENTRY.YOUNG | ENTRY.DIRTY);
        i += nr - 1;
        continue;
      }
      if (isMaybeMappedShared(m, head) || !splitForAdvice(m, head)) continue; // ANON-263
      i--; // look again: the page is a folio of its own now, or the zero page
      continue;
    }
    if (frames.mapcount[pfn] !== 1) continue;
    markLazyFree(m, pfn);
    flags[base + i] = entry & ~(ENTRY.YOUNG | ENTRY.DIRTY);
  }
}

function mapsWhole(m: HugeState, slot: number, head: Pfn, nr: number): boolean {
  for (let k = 0; k < nr; k++) {
    const isNext = m.tables.payload[slot + k] === head + k;
    if (!isNext || (m.tables.flags[slot + k] & ENTRY.PRESENT) === 0) return false;
  }
  return true;
}

/** A folio split on behalf of madvise, with the reference it needs. False if the folio is in use elsewhere. */
function splitForAdvice(m: HugeState, head: Pfn): boolean {
  m.frames.refcount[head]++;
  const isSplit = splitFolio(m, head) === 0;
  putFolio(m, head, 1);
  return isSplit;
}

/** The folio becomes clean and droppable; one that is lazy already only loses the dirtiness of later writes. */
function markLazyFree(m: HugeState, head: Pfn): void {
  const frames = m.frames;
  if ((frames.flags[head] & PG.SWAPBACKED) === 0) frames.flags[head] &= ~PG.DIRTY;
  else lruLazyFree(m, head);
}
