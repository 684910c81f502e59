/**
 * Finding every mapping of an anonymous folio: from the page to its anon_vma, from there to each VMA that may map it.
 */

import { type Pfn, PTES_PER_REGION } from "../base/address.ts";
import { assert } from "../base/assert.ts";
import { ENTRY, pmdSlotOf } from "./page-tables.ts";
import { indexOf } from "./rmap.ts";
import type { Mm, MmState } from "./state.ts";
import type { Vma } from "./vma.ts";

/** Called with the slot of a PMD entry that maps the whole folio. */
export type PmdVisitor = (mm: Mm, vma: Vma, region: number, pmdSlot: number) => void;
/** Called with the slot of a PTE that stands for a page of the folio, and the page number it translates. */
export type PteVisitor = (mm: Mm, vma: Vma, pteSlot: number, page: number) => void;

/** Where rmap looks for the pages of a folio. Kept by operations: once a folio is broken up, no row says it any more. */
export interface RmapPlace {
  /** Id of the anon_vma its first mapping belonged to. */
  readonly anonVma: number;
  /** Page index of its first page in the owner. */
  readonly index: number;
  readonly nrPages: number;
}

/** The place of a folio that is whole. */
export function placeOf(m: MmState, head: Pfn): RmapPlace {
  return {
    anonVma: m.frames.owner[head],
    index: indexOf(m, head),
    nrPages: 1 << m.frames.order[head],
  };
}

/** Visits every huge entry of the folio. The visitor may split the entry. */
export function forEachPmdMapping(m: MmState, head: Pfn, visit: PmdVisitor): void {
  forEachRegion(m, placeOf(m, head), (mm, vma, region, slot) => {
    const isMapping = (m.tables.flags[slot] & HUGE_MAPPING) === HUGE_MAPPING;
    if (isMapping && m.tables.payload[slot] === head) visit(mm, vma, region, slot);
  });
}

/** Visits every PTE of the folio. The visitor may clear the entry. */
export function forEachPteMapping(m: MmState, head: Pfn, visit: PteVisitor): void {
  const place = placeOf(m, head);
  forEachPte(m, place, ENTRY.PRESENT | ENTRY.SPECIAL, ENTRY.PRESENT, head, visit);
}

/** Visits every PTE that holds a migration entry for one of the pages from `head` on. The visitor may change the entry. */
export function forEachMigrationPte(
  m: MmState,
  place: RmapPlace,
  head: Pfn,
  visit: PteVisitor,
): void {
  forEachPte(m, place, ENTRY.MIGRATION, ENTRY.MIGRATION, head, visit);
}

/** Visits every PMD entry that is a migration entry for the folio as a whole. The visitor may change the entry. */
export function forEachMigrationPmd(
  m: MmState,
  place: RmapPlace,
  head: Pfn,
  visit: PmdVisitor,
): void {
  forEachRegion(m, place, (mm, vma, region, slot) => {
    const isMigration = (m.tables.flags[slot] & HUGE_MIGRATION) === HUGE_MIGRATION;
    if (isMigration && m.tables.payload[slot] === head) visit(mm, vma, region, slot);
  });
}

const HUGE_MAPPING = ENTRY.HUGE | ENTRY.PRESENT;
const HUGE_MIGRATION = ENTRY.HUGE | ENTRY.MIGRATION;

/** PTEs whose flags under `mask` are `wanted` and whose payload is a page of the place. */
function forEachPte(
  m: MmState,
  place: RmapPlace,
  mask: number,
  wanted: number,
  head: Pfn,
  visit: PteVisitor,
): void {
  const last = head + place.nrPages - 1;
  forEachRegion(m, place, (mm, vma, region, slot, firstPage, endPage) => {
    if ((m.tables.flags[slot] & ENTRY.TABLE) === 0) return;
    const base = m.tables.payload[slot] * 512 - region * PTES_PER_REGION;
    for (let page = firstPage; page < endPage; page++) {
      if ((m.tables.flags[base + page] & mask) !== wanted) continue;
      const pfn = m.tables.payload[base + page];
      if (pfn >= head && pfn <= last) visit(mm, vma, base + page, page);
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

function forEachRegion(m: MmState, place: RmapPlace, visit: RegionVisitor): void {
  const anonVma = m.anonVmas[place.anonVma];
  assert(anonVma !== null && anonVma !== undefined, "an anonymous folio has no anon_vma");
  const { index, nrPages } = place;
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
