/**
 * What an allocation does when its own migratetype has no block left in a zone: claim a pageblock, or steal one block.
 *
 * Entry: takeFromBuddy: own type first, then takeFallback.
 * Owns:  nothing; changes pageblock labels and free lists through buddy.ts.
 * Holds: claiming relabels a pageblock and moves its free blocks before anything of it is listed again.
 */

import type { Pfn } from "../base/address.ts";
import { EVENT } from "../base/events.ts";
import { listHead } from "../base/int-list.ts";
import {
  freeListOf,
  movePageblock,
  pageblockTypeOf,
  relabelBlock,
  rowsOfAllocated,
  smallestOrder,
  takeBlock,
  takeListed,
} from "./buddy.ts";
import { NO_PFN, PG } from "./frame-table.ts";
import {
  MAX_ORDER,
  MIGRATE,
  type MigrateType,
  PAGEBLOCK_ORDER,
  PAGEBLOCK_PAGES,
  type PhysState,
  type Zone,
} from "./state.ts";
import { boostWatermark } from "./watermarks.ts";

/** Whether types may be mixed inside a pageblock to serve a request (PHYS-031). */
export type Mixing = "no-fragment" | "any";

/** PHYS-026: whom a type takes from, in this order. */
const FALLBACKS: readonly (readonly MigrateType[])[] = [
  [MIGRATE.RECLAIMABLE, MIGRATE.MOVABLE],
  [MIGRATE.RECLAIMABLE, MIGRATE.UNMOVABLE],
  [MIGRATE.UNMOVABLE, MIGRATE.MOVABLE],
];

/** From this order on any type may claim the pageblock of a block (PHYS-028). */
const CLAIM_ORDER = PAGEBLOCK_ORDER >> 1;

/** A block of `order` for `type`: from its own lists, else from others. NO_PFN if neither has one. */
export function takeFromBuddy(
  m: PhysState,
  zone: Zone,
  order: number,
  type: MigrateType,
  mixing: Mixing,
): Pfn {
  const pfn = takeBlock(m, zone, order, type);
  return pfn !== NO_PFN ? pfn : takeFallback(m, zone, order, type, mixing);
}

/** PHYS-027: a block of `order` for `type`, whose own lists have none, out of another type's. NO_PFN if none. */
export function takeFallback(
  m: PhysState,
  zone: Zone,
  order: number,
  type: MigrateType,
  mixing: Mixing,
): Pfn {
  const claimed = claim(m, zone, order, type, mixing);
  if (claimed !== NO_PFN || mixing === "no-fragment") return claimed;
  return steal(m, zone, order, type);
}

/** PHYS-028: whether `type` may claim the pageblock in which a block of `order` is free. */
export function mayClaim(order: number, type: MigrateType): boolean {
  return order >= CLAIM_ORDER || type === MIGRATE.UNMOVABLE || type === MIGRATE.RECLAIMABLE;
}

/** PHYS-027 (1): the largest block there is, with its whole pageblock. */
function claim(m: PhysState, zone: Zone, order: number, type: MigrateType, mixing: Mixing): Pfn {
  const lowest = mixing === "no-fragment" ? Math.max(order, PAGEBLOCK_ORDER) : order;
  for (let from = MAX_ORDER; from >= lowest; from--) {
    const victim = victimAt(m, zone, from, type);
    if (victim < 0) continue;
    if (!mayClaim(from, type)) return NO_PFN;

    const pfn = listHead(m.links, freeListOf(zone, from, victim));
    if (from >= PAGEBLOCK_ORDER) relabelBlock(m, zone, pfn, from, type);
    else if (!claimPageblock(m, zone, pfn, type)) continue;
    m.events?.emit(EVENT.mm_page_alloc_extfrag, order, from, 1);
    return takeBlock(m, zone, order, type);
  }
  return NO_PFN;
}

/** PHYS-029, PHYS-030: claims the pageblock of a smaller free block if at least half of it suits `type`. */
function claimPageblock(m: PhysState, zone: Zone, pfn: Pfn, type: MigrateType): boolean {
  boostWatermark(m, zone);
  const start = pfn & -PAGEBLOCK_PAGES;
  if (suitablePages(m, zone, start, type) < PAGEBLOCK_PAGES / 2) return false;
  movePageblock(m, zone, start, type);
  return true;
}

/** PHYS-029: free pages of a pageblock, and those that a type can live with. */
function suitablePages(m: PhysState, zone: Zone, start: Pfn, type: MigrateType): number {
  const end = Math.min(start + PAGEBLOCK_PAGES, zone.startPfn + zone.spannedPages);
  let free = 0;
  let movable = 0;
  for (let pfn = start; pfn < end; ) {
    const flags = m.frames.flags[pfn];
    const rows = (flags & PG.BUDDY) !== 0 ? 1 << m.frames.order[pfn] : rowsOfAllocated(m, pfn);
    const pages = Math.min(rows, end - pfn);
    if ((flags & PG.BUDDY) !== 0) free += pages;
    else if ((flags & PG.LRU) !== 0) movable += pages;
    pfn += pages;
  }
  if (type === MIGRATE.MOVABLE) return free + movable;
  if (pageblockTypeOf(m, start) !== MIGRATE.MOVABLE) return free;
  return free + (PAGEBLOCK_PAGES - free - movable);
}

/** PHYS-027 (2): one block of the smallest order there is; remainder and label stay with the old type. */
function steal(m: PhysState, zone: Zone, order: number, type: MigrateType): Pfn {
  for (let from = order; from <= MAX_ORDER; from++) {
    const victim = victimAt(m, zone, from, type);
    if (victim < 0) continue;
    const pfn = listHead(m.links, freeListOf(zone, from, victim));
    takeListed(m, zone, pfn, from, order, victim);
    m.events?.emit(EVENT.mm_page_alloc_extfrag, order, from, 0);
    return pfn;
  }
  return NO_PFN;
}

/** First fallback type of `type` that has a block of exactly this order, or -1. */
function victimAt(m: PhysState, zone: Zone, order: number, type: MigrateType): MigrateType {
  for (const victim of FALLBACKS[type]) {
    if ((zone.nonEmpty[victim] & (1 << order)) !== 0) return victim;
    // At the top order Movable has more than what is listed.
    const isTop = order === MAX_ORDER && victim === MIGRATE.MOVABLE;
    if (isTop && smallestOrder(m, zone, order, victim) === order) return victim;
  }
  return -1;
}
