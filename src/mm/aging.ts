/**
 * Page aging: was this folio used since we last looked?
 *
 * Entry: testAndClearYoung (reclaim looks at a folio), isEntryYoung (khugepaged looks at a range).
 * Holds: the processor's young bits are only half of the answer. Memory that only a guest or a device uses never sets them, so
 *        secondary MMUs are asked too (ANON-291).
 */

import { type Pfn, PTES_PER_REGION } from "../base/address.ts";
import { ENTRY } from "./page-tables.ts";
import { forEachPmdMapping, forEachPteMapping } from "./rmap-walk.ts";
import type { Mm, MmState } from "./state.ts";

/** Mappings of the folio that were used since the last call, each counted once; all of them are old afterwards. */
export function testAndClearYoung(m: MmState, head: Pfn): number {
  let nrYoung = 0;
  forEachPmdMapping(m, head, (mm, _vma, region, slot) => {
    const first = region * PTES_PER_REGION;
    if (clearYoung(m, mm, slot, first, first + PTES_PER_REGION)) nrYoung++;
  });
  forEachPteMapping(m, head, (mm, _vma, slot, page) => {
    if (clearYoung(m, mm, slot, page, page + 1)) nrYoung++;
  });
  return nrYoung;
}

function clearYoung(m: MmState, mm: Mm, slot: number, startPage: number, endPage: number): boolean {
  const { flags } = m.tables;
  const isYoung = (flags[slot] & ENTRY.YOUNG) !== 0;
  flags[slot] &= ~ENTRY.YOUNG;
  // Asked in any case: the other side must forget as well.
  const isYoungThere = m.mmuNotifier?.clearFlushYoung?.(mm.id, startPage, endPage) === true;
  return isYoung || isYoungThere;
}

/** True if the entry, which maps pages [startPage, endPage), was used by the processor or a secondary MMU. Clears nothing. */
export function isEntryYoung(
  m: MmState,
  mm: Mm,
  slot: number,
  startPage: number,
  endPage: number,
): boolean {
  if ((m.tables.flags[slot] & ENTRY.YOUNG) !== 0) return true;
  return m.mmuNotifier?.testYoung?.(mm.id, startPage, endPage) === true;
}
