/**
 * MADV_WILLNEED on anonymous memory: swapped pages are read into the swap cache; nothing is mapped (ANON-270).
 */

import { type Addr, HUGE_SIZE, PTES_PER_REGION, pteIndexOf, regionOf } from "../base/address.ts";
import { readIntoCache } from "../fault/swap-in-alloc.ts";
import type { HugeState } from "../huge/knobs.ts";
import { ENTRY, pteTableOf } from "../mm/page-tables.ts";
import type { Mm } from "../mm/state.ts";
import { NO_PFN } from "../phys/frame-table.ts";
import { isClaimed } from "../swap/entries.ts";
import { swapCachedPage } from "../swap/state.ts";

/** MADV_WILLNEED on part of one VMA. What there is no memory for is left on the device. */
export function willNeedRange(m: HugeState, mm: Mm, start: Addr, end: Addr): void {
  if (mm.nrSwapEntries === 0) return;
  const lastRegion = regionOf(end - 1);
  for (let region = regionOf(start); region <= lastRegion; region++) {
    const table = pteTableOf(m.tables, mm.root, region);
    const first = region * HUGE_SIZE < start ? pteIndexOf(start) : 0;
    const last = (region + 1) * HUGE_SIZE > end ? pteIndexOf(end) : PTES_PER_REGION;
    for (let slot = table * 512 + first; slot < table * 512 + last; slot++) {
      if ((m.tables.flags[slot] & ENTRY.SWAP) === 0) continue;
      const entry = m.tables.payload[slot];
      if (swapCachedPage(m, entry) === NO_PFN && !isClaimed(m, entry))
        readIntoCache(m, mm.memcg, entry);
    }
  }
}
