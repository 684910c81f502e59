/**
 * Visiting every entry, in all address spaces, that maps one of the source pages of a shared collapse or stands for it.
 *
 * Entry: forEachMapped, forEachFrozen.
 * Locks: anon_vma. One walk serves all pages, for they have one anon_vma and follow each other in it (COLL-411).
 * Units: `index` is the page's place among the 512; `page` the page number that the entry translates.
 */

import { type Pfn, PTES_PER_REGION } from "../base/address.ts";
import type { HugeState } from "../huge/knobs.ts";
import { ENTRY, NO_TABLE, pteTableOf } from "../mm/page-tables.ts";
import type { Mm } from "../mm/state.ts";
import type { Vma } from "../mm/vma.ts";

/** Called with the slot of a PTE. It may change the entry. */
export type SharedVisitor = (mm: Mm, vma: Vma, slot: number, index: number, page: number) => void;

/** Where the pages are found, and which they are. */
export interface SharedPlace {
  /** Id of the anon_vma. */
  readonly anonVma: number;
  /** Page index of the first of the 512 in it. */
  readonly index: number;
  /** 512 pages, NO_PFN for a hole. */
  readonly sources: readonly Pfn[];
}

const KIND = ENTRY.PRESENT | ENTRY.SPECIAL | ENTRY.MIGRATION;

/** Every PTE that maps a source page. The number of VMAs that were looked at. */
export function forEachMapped(m: HugeState, place: SharedPlace, visit: SharedVisitor): number {
  return forEachEntry(m, place, ENTRY.PRESENT, visit);
}

/** Every migration entry that names a source page. The number of VMAs that were looked at. */
export function forEachFrozen(m: HugeState, place: SharedPlace, visit: SharedVisitor): number {
  return forEachEntry(m, place, ENTRY.MIGRATION, visit);
}

function forEachEntry(
  m: HugeState,
  place: SharedPlace,
  kind: number,
  visit: SharedVisitor,
): number {
  // If all who mapped the pages are gone, so may be the anon_vma.
  const anonVma = m.anonVmas[place.anonVma] ?? null;
  if (anonVma === null) return 0;
  let nrVmas = 0;
  for (const vma of anonVma.vmas) {
    const mm = m.mms[vma.mmId] ?? null;
    const first = firstPageOf(vma, place);
    const start = Math.max(first, vma.start / 4096);
    const end = Math.min(first + PTES_PER_REGION, vma.end / 4096);
    if (mm === null || start >= end) continue;
    nrVmas++;
    visitPart(m, place, kind, mm, vma, start, end, visit);
  }
  return nrVmas;
}

/** Page number at which the first of the 512 would be in `vma`; it may lie outside. */
export function firstPageOf(vma: Vma, place: SharedPlace): number {
  return place.index - vma.pgoffDelta;
}

function visitPart(
  m: HugeState,
  place: SharedPlace,
  kind: number,
  mm: Mm,
  vma: Vma,
  start: number,
  end: number,
  visit: SharedVisitor,
): void {
  const { tables } = m;
  const first = firstPageOf(vma, place);
  for (let page = start; page < end; ) {
    const region = Math.floor(page / PTES_PER_REGION);
    const stop = Math.min(end, (region + 1) * PTES_PER_REGION);
    const table = pteTableOf(tables, mm.root, region);
    const base = table * 512 - region * PTES_PER_REGION;
    for (; table !== NO_TABLE && page < stop; page++) {
      if ((tables.flags[base + page] & KIND) !== kind) continue;
      if (tables.payload[base + page] === place.sources[page - first])
        visit(mm, vma, base + page, page - first, page);
    }
    page = stop;
  }
}
