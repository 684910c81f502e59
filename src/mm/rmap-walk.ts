/**
 * Finding every mapping of an anonymous folio: from the page to its anon_vma, from there to each VMA that may map it.
 */

import { type Pfn, PTES_PER_REGION } from "../base/address.ts";
import { assert } from "../base/assert.ts";
import { ENTRY, pmdSlotOf } from "./page-tables.ts";
import { isHugeEntry } from "./pmd.ts";
import { indexOf } from "./rmap.ts";
import type { Mm, MmState } from "./state.ts";
import type { Vma } from "./vma.ts";

/** Called with the slot of a PMD entry that maps the whole folio. */
export type PmdVisitor = (mm: Mm, vma: Vma, region: number, pmdSlot: number) => void;
/** Called with the slot of a PTE that maps a page of the folio, and the page number it translates. */
export type PteVisitor = (mm: Mm, vma: Vma, pteSlot: number, page: number) => void;

/** Visits every huge entry of the folio. The visitor may split the entry. */
export function forEachPmdMapping(m: MmState, head: Pfn, visit: PmdVisitor): void {
  forEachRegion(m, head, (mm, vma, region, slot) => {
    if (isHugeEntry(m.tables.flags[slot]) && m.tables.payload[slot] === head)
      visit(mm, vma, region, slot);
  });
}

/** Visits every PTE of the folio. The visitor may clear the entry. */
export function forEachPteMapping(m: MmState, head: Pfn, visit: PteVisitor): void {
  const last = head + (1 << m.frames.order[head]) - 1;
  forEachRegion(m, head, (mm, vma, region, slot, firstPage, endPage) => {
    if ((m.tables.flags[slot] & ENTRY.TABLE) === 0) return;
    const base = m.tables.payload[slot] * 512 - region * PTES_PER_REGION;
    for (let page = firstPage; page < endPage; page++) {
      const pfn = m.tables.payload[base + page];
      const entry = m.tables.flags[base + page];
      const isPage = (entry & (ENTRY.PRESENT | ENTRY.SPECIAL)) === ENTRY.PRESENT;
      if (isPage && pfn >= head && pfn <= last) visit(mm, vma, base + page, page);
    }
  });
}

type RegionVisitor = (
  mm: Mm,
  vma: Vma,
  region: number,
  pmdSlot: number,
  /** Page numbers of the part of this region where the folio can be mapped. */
  firstPage: number,
  endPage: number,
) => void;

function forEachRegion(m: MmState, head: Pfn, visit: RegionVisitor): void {
  const anonVma = m.anonVmas[m.frames.owner[head]];
  assert(anonVma !== null && anonVma !== undefined, "an anonymous folio has no anon_vma");
  const index = indexOf(m, head);
  const nrPages = 1 << m.frames.order[head];
  for (const vma of anonVma.vmas) {
    const mm = m.mms[vma.mmId];
    if (mm === null || mm === undefined) continue;
    const start = Math.max(index - vma.pgoffDelta, vma.start / 4096);
    const end = Math.min(index - vma.pgoffDelta + nrPages, vma.end / 4096);
    for (let page = start; page < end; ) {
      const region = Math.floor(page / PTES_PER_REGION);
      const stop = Math.min(end, (region + 1) * PTES_PER_REGION);
      const slot = pmdSlotOf(m.tables, mm.root, region);
      if (slot >= 0 && m.tables.flags[slot] !== 0) visit(mm, vma, region, slot, page, stop);
      page = stop;
    }
  }
}
