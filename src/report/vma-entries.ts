/**
 * The page-table entries of a VMA in address order, as every report that adds up pages walks them.
 *
 * Entry: forEachEntry, forEachTable.
 * Cost:  empty PMD tables and regions are skipped whole, a huge entry is one visit, so 1 GiB takes milliseconds.
 */

import { PTES_PER_REGION, pteIndexOf, regionOf } from "../base/address.ts";
import { ENTRY, NO_TABLE, pmdTableOf } from "../mm/page-tables.ts";
import type { Mm, MmState } from "../mm/state.ts";
import type { Vma } from "../mm/vma.ts";

/**
 * One entry that is not empty. `flags` are ENTRY bits; `payload` its frame, swap slot or marker; `nr` pages it covers: 1, or 512
 * for a huge entry (ENTRY.HUGE is set, or it is the migration entry of one).
 */
export type VisitEntry = (flags: number, payload: number, nr: number) => void;

/** `nr` PTEs from `firstSlot` on, of one table, empty ones among them. */
export type VisitPtes = (firstSlot: number, nr: number) => void;

/** Visits the entries of all pages of `vma`. */
export function forEachEntry(m: MmState, mm: Mm, vma: Vma, visit: VisitEntry): void {
  forEachTable(m, mm, vma, visit, (firstSlot, nr) => {
    const { flags, payload } = m.tables;
    for (let slot = firstSlot; slot < firstSlot + nr; slot++)
      if (flags[slot] !== 0) visit(flags[slot], payload[slot], 1);
  });
}

/** Visits the huge entries of `vma` one by one, and its PTEs table by table. */
export function forEachTable(
  m: MmState,
  mm: Mm,
  vma: Vma,
  visitHuge: VisitEntry,
  visitPtes: VisitPtes,
): void {
  const { tables } = m;
  const lastRegion = regionOf(vma.end - 1);
  for (let region = regionOf(vma.start); region <= lastRegion; region++) {
    const pmdTable = pmdTableOf(tables, mm.root, region);
    if (pmdTable === NO_TABLE) {
      region |= 511; // nothing in all regions of that table
      continue;
    }
    const slot = pmdTable * 512 + (region & 511);
    const flags = tables.flags[slot];
    if (flags === 0) continue;
    if ((flags & ENTRY.TABLE) === 0) {
      visitHuge(flags, tables.payload[slot], PTES_PER_REGION); // a huge entry crosses no edge
      continue;
    }
    const first = region === regionOf(vma.start) ? pteIndexOf(vma.start) : 0;
    const last = region === lastRegion ? pteIndexOf(vma.end - 1) : PTES_PER_REGION - 1;
    visitPtes(tables.payload[slot] * 512 + first, last - first + 1);
  }
}
