/**
 * MADV_COLD and MADV_PAGEOUT: memory that will not be needed for a while, or not at all soon.
 *
 * Entry: coldRange, pageOutRange.
 * Rules: ANON-087, 238, 253, 263, 266..268; PHYS-104, 105. Both walk alike: entries become old; folios that another process
 *        maps too are left alone; one that the range covers only partly is split first. COLD then moves folios to the
 *        inactive list, PAGEOUT reclaims them, region by region. Pages of files are left alone.
 */

import { type Addr, type Pfn, PTES_PER_REGION } from "../base/address.ts";
import { EINVAL, type Err } from "../base/errno.ts";
import type { HugeState } from "../huge/knobs.ts";
import { ENTRY } from "../mm/page-tables.ts";
import { isHugeEntry } from "../mm/pmd.ts";
import { folioMapcount, isMaybeMappedShared, runOfFolio } from "../mm/rmap.ts";
import type { Mm } from "../mm/state.ts";
import { VM, type Vma } from "../mm/vma.ts";
import { headOf, PG } from "../phys/frame-table.ts";
import { lruDeactivate } from "../phys/lru.ts";
import { isolateFolio, reclaimFolios } from "../reclaim/page-out.ts";
import { eachRegion, splitForAdvice } from "./advised-folio.ts";

/** What happens to each folio that the walk accepts. */
type Fate = (m: HugeState, head: Pfn) => void;

/** MADV_COLD on part of one VMA. 0 or -EINVAL. */
export function coldRange(m: HugeState, mm: Mm, vma: Vma, start: Addr, end: Addr): Err {
  if (isRefused(vma)) return -EINVAL;
  eachRegion(m, mm, start, end, (slot, first, last) => {
    ageRegion(m, slot, first, last, lruDeactivate);
  });
  return 0;
}

/** MADV_PAGEOUT on part of one VMA. 0 or -EINVAL; what cannot be reclaimed stays (ANON-253). */
export function pageOutRange(m: HugeState, mm: Mm, vma: Vma, start: Addr, end: Addr): Err {
  if (isRefused(vma)) return -EINVAL;
  const isolated: Pfn[] = [];
  const isolate: Fate = (_m, head) => {
    if (isolateFolio(m, head)) isolated.push(head);
  };
  eachRegion(m, mm, start, end, (slot, first, last) => {
    ageRegion(m, slot, first, last, isolate);
    reclaimFolios(m, isolated, "ignore");
    isolated.length = 0;
  });
  return 0;
}

function isRefused(vma: Vma): boolean {
  return (vma.flags & (VM.LOCKED | VM.PFNMAP)) !== 0;
}

function ageRegion(m: HugeState, slot: number, first: number, last: number, fate: Fate): void {
  const entry = m.tables.flags[slot];
  if (isHugeEntry(entry)) {
    if ((entry & (ENTRY.PRESENT | ENTRY.SPECIAL)) !== ENTRY.PRESENT) return; // ANON-087
    const head = m.tables.payload[slot];
    if (isMaybeMappedShared(m, head)) return; // ANON-263
    if (last - first === PTES_PER_REGION) {
      m.tables.flags[slot] = entry & ~ENTRY.YOUNG;
      decide(m, head, fate);
      return;
    }
    if (!splitForAdvice(m, head)) return;
  }
  agePtes(m, m.tables.payload[slot] * 512, first, last, fate);
}

function agePtes(m: HugeState, base: number, first: number, last: number, fate: Fate): void {
  const { flags, payload } = m.tables;
  const { frames } = m;
  for (let i = first; i < last; ) {
    const slot = base + i;
    const isPage = (flags[slot] & (ENTRY.PRESENT | ENTRY.SPECIAL)) === ENTRY.PRESENT;
    const head = isPage ? headOf(frames, payload[slot]) : 0;
    if (!isPage || (frames.flags[head] & PG.ANON) === 0) {
      i++;
      continue;
    }
    const nrFolio = 1 << frames.order[head];
    const nr = nrFolio === 1 ? 1 : runOfFolio(m, slot, base + last, payload[slot]);
    if (nr < nrFolio) {
      // After the split the same entries are looked at again, as pages of their own or the zero page.
      const isSplit = !isMaybeMappedShared(m, head) && splitForAdvice(m, head);
      i += isSplit ? 0 : nr;
      continue;
    }
    i += nr;
    if (folioMapcount(m, head) !== nr) continue; // mapped elsewhere too
    for (let k = slot; k < slot + nr; k++) flags[k] &= ~ENTRY.YOUNG;
    decide(m, head, fate);
  }
}

function decide(m: HugeState, head: Pfn, fate: Fate): void {
  const { flags } = m.frames;
  flags[head] &= ~PG.REFERENCED;
  if ((flags[head] & PG.ACTIVE) !== 0) flags[head] |= PG.WORKINGSET;
  fate(m, head);
}
