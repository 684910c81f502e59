/**
 * The reserve of pageblocks for high-order requests that may not sleep (PHYS-047).
 *
 * Entry: reserveHighAtomic after such a request succeeded; unreserveHighAtomic when memory is short.
 * Owns:  zone.nrReservedHighAtomic; labels HighAtomic.
 */

import type { Pfn } from "../base/address.ts";
import { listHead } from "../base/int-list.ts";
import { freeListOf, movePageblock, pageblockTypeOf } from "./buddy.ts";
import { MIGRATE, NR_PCP_TYPES, PAGEBLOCK_PAGES, type PhysState, type Zone } from "./state.ts";

/** PHYS-047: pages a zone may reserve; 0 if 1 % of it is less than a pageblock. */
export function highAtomicLimit(managed: number): number {
  const share = Math.floor(managed / 100);
  if (share < PAGEBLOCK_PAGES) return 0;
  return Math.ceil(share / PAGEBLOCK_PAGES) * PAGEBLOCK_PAGES;
}

/** Reserves the pageblock of `pfn`, head of a block just taken and its order written, unless the zone has reserved enough. */
export function reserveHighAtomic(m: PhysState, zone: Zone, pfn: Pfn): void {
  if (zone.nrReservedHighAtomic >= highAtomicLimit(zone.managedPages)) return;
  if (pageblockTypeOf(m, pfn) >= NR_PCP_TYPES) return;
  zone.nrReservedHighAtomic += PAGEBLOCK_PAGES;
  movePageblock(m, zone, pfn, MIGRATE.HIGHATOMIC);
}

/** Gives one reserved pageblock with free pages back as `Movable`; each zone keeps one unless forced. True if one was found. */
export function unreserveHighAtomic(m: PhysState, how: "keep one" | "force"): boolean {
  const kept = how === "force" ? 0 : PAGEBLOCK_PAGES;
  for (const zone of m.zones) {
    if (zone.nrReservedHighAtomic <= kept) continue;
    const orders = zone.nonEmpty[MIGRATE.HIGHATOMIC];
    if (orders === 0) continue;
    const list = freeListOf(zone, 31 - Math.clz32(orders), MIGRATE.HIGHATOMIC);
    zone.nrReservedHighAtomic -= PAGEBLOCK_PAGES;
    movePageblock(m, zone, listHead(m.links, list), MIGRATE.MOVABLE);
    return true;
  }
  return false;
}
