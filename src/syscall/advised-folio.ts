/**
 * What MADV_COLD, MADV_PAGEOUT and MADV_FREE share: the walk over the regions of a range, and the split of a large folio that
 * the range covers only partly.
 *
 * Entry: eachRegion, splitForAdvice.
 */

import {
  type Addr,
  HUGE_SIZE,
  type Pfn,
  PTES_PER_REGION,
  pteIndexOf,
  regionOf,
} from "../base/address.ts";
import type { HugeState } from "../huge/knobs.ts";
import { splitFolio } from "../huge/split-folio.ts";
import { putFolio } from "../mm/folio.ts";
import { NO_TABLE, pmdTableOf } from "../mm/page-tables.ts";
import type { Mm } from "../mm/state.ts";

/**
 * Visits every region of [start, end) whose PMD entry is not empty: the entry's slot, and the pages first..last-1 that the range
 * covers. Translations of the whole range are announced as lessened first.
 */
export function eachRegion(
  m: HugeState,
  mm: Mm,
  start: Addr,
  end: Addr,
  visit: (slot: number, first: number, last: number) => void,
): void {
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
    if (m.tables.flags[slot] !== 0) visit(slot, first, last);
  }
}

/** A folio split on behalf of madvise, with the reference it needs. False if the folio is in use elsewhere. */
export function splitForAdvice(m: HugeState, head: Pfn): boolean {
  m.frames.refcount[head]++;
  const isSplit = splitFolio(m, head) === 0;
  putFolio(m, head, 1);
  return isSplit;
}
