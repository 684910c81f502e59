/**
 * The buddy allocator of one zone: free lists per order and migratetype, split on the way out, merge on the way in.
 *
 * Entry: takeBlock (own type only; fallback.ts takes from others), freeBlock, movePageblock.
 * Owns:  flags BUDDY and `order` of free heads, zone.freeBlocks, zone.nonEmpty, zone.nrFree, untakenStart.
 * Holds: a free block is listed under its pageblock's label, always: a label changes only together with the
 *        lists, and before the remainder of a split is listed.
 *
 * Memory joins lazily: whole order-10 blocks that nobody needed yet stand as a range, untakenStart..untakenEnd, and
 * count as free Movable blocks behind all listed ones. What is handed out, and in which order, is the same as if all of
 * them had been listed at boot; only host memory is saved.
 */

import type { Pfn } from "../base/address.ts";
import { assert } from "../base/assert.ts";
import { VMSTAT } from "../base/counters.ts";
import { addHead, addTail, listHead, unlink } from "../base/int-list.ts";
import { NO_PFN, PG } from "./frame-table.ts";
import {
  MAX_ORDER,
  MIGRATE,
  type MigrateType,
  NR_MIGRATE_TYPES,
  NR_PCP_TYPES,
  PAGEBLOCK_ORDER,
  PAGEBLOCK_PAGES,
  type PhysState,
  type Zone,
} from "./state.ts";

/** Frames taken at a time: 128 MiB. */
export const SECTION_PAGES = 32768;

const BLOCK_PAGES = 1 << MAX_ORDER;

/** The zone of a frame. */
export function zoneOf(m: PhysState, pfn: Pfn): Zone {
  return m.zones[m.zoneOfPageblock[pfn >>> PAGEBLOCK_ORDER]];
}

/** The label of a frame's pageblock. */
export function pageblockTypeOf(m: PhysState, pfn: Pfn): MigrateType {
  return m.pageblockType[pfn >>> PAGEBLOCK_ORDER];
}

/** Number in `m.links` of the zone's free list of blocks of an order and type. */
export function freeListOf(zone: Zone, order: number, type: MigrateType): number {
  return zone.firstList + order * NR_MIGRATE_TYPES + type;
}

/** Free blocks of an order and type, as /proc/pagetypeinfo counts them: blocks not yet taken included. */
export function freeBlockCount(zone: Zone, order: number, type: MigrateType): number {
  const listed = zone.freeBlocks[order * NR_MIGRATE_TYPES + type];
  const isUntakenKind = order === MAX_ORDER && type === MIGRATE.MOVABLE;
  return isUntakenKind ? listed + (zone.untakenEnd - zone.untakenStart) / BLOCK_PAGES : listed;
}

/**
 * PHYS-021: takes a block of `order` of exactly this type, splitting the smallest that is large enough. NO_PFN if there
 * is none. The frames are accounted as no longer free; their rows are otherwise untouched (flags 0).
 */
export function takeBlock(m: PhysState, zone: Zone, order: number, type: MigrateType): Pfn {
  const found = smallestOrder(m, zone, order, type);
  if (found < 0) return NO_PFN;

  const pfn = listHead(m.links, freeListOf(zone, found, type));
  takeListed(m, zone, pfn, found, order, type);
  return pfn;
}

/**
 * Takes `pfn`, the head of a listed block of order `found` and `type`, keeps its lowest 2^order pages and lists the rest.
 * `found` must be the smallest order from `order` up with a block of this type: the lists it fills are empty.
 */
export function takeListed(
  m: PhysState,
  zone: Zone,
  pfn: Pfn,
  found: number,
  order: number,
  type: MigrateType,
): void {
  unlistBlock(m, zone, pfn, found, type);
  countFree(m, zone, type, -(1 << order));
  if (found === order) return;

  const { next, prev, firstSentinel } = m.links;
  const { flags, order: orders } = m.frames;
  const freeBlocks = zone.freeBlocks;
  for (let half = found - 1; half >= order; half--) {
    const row = pfn + (1 << half);
    const slot = half * NR_MIGRATE_TYPES + type;
    const sentinel = firstSentinel + zone.firstList + slot;
    flags[row] = PG.BUDDY;
    orders[row] = half;
    next[row] = sentinel;
    prev[row] = sentinel;
    next[sentinel] = row;
    prev[sentinel] = row;
    freeBlocks[slot] = 1;
  }
  zone.nonEmpty[type] |= (1 << found) - (1 << order);
}

/**
 * PHYS-022..024: gives a block back under its pageblock's label, merging it with free buddies. `place` "tail" puts it
 * where it is used last; "auto" decides by PHYS-023.
 */
export function freeBlock(
  m: PhysState,
  zone: Zone,
  pfn: Pfn,
  order: number,
  place: "auto" | "tail",
): void {
  const type = m.pageblockType[pfn >>> PAGEBLOCK_ORDER];
  const flags = m.frames.flags;
  const orders = m.frames.order;
  countFree(m, zone, type, 1 << order);

  const { next, prev } = m.links;
  const freeBlocks = zone.freeBlocks;
  // Zones begin and end at multiples of the largest block or at frames that were never free, so a buddy is in the zone.
  while (order < MAX_ORDER) {
    const buddy = pfn ^ (1 << order);
    if ((flags[buddy] & PG.BUDDY) === 0 || orders[buddy] !== order) break;
    if (order >= PAGEBLOCK_ORDER && !absorbLabel(m, zone, buddy, order, type)) break;
    // Below pageblock order both are in one pageblock, so the buddy is of this type as well.
    flags[buddy] = 0;
    const after = next[buddy];
    const before = prev[buddy];
    next[before] = after;
    prev[after] = before;
    if (--freeBlocks[order * NR_MIGRATE_TYPES + type] === 0) zone.nonEmpty[type] &= ~(1 << order);
    pfn &= ~(1 << order);
    order++;
  }
  const isTail = place === "tail" || (order < PAGEBLOCK_ORDER && pairIsAboutToMerge(m, pfn, order));
  listBlock(m, zone, pfn, order, type, isTail ? "tail" : "head");
}

/** Gives the frames start..end-1 of one zone back, in blocks as large as their alignment and pageblock allow. */
export function freeRun(m: PhysState, zone: Zone, start: Pfn, end: Pfn): void {
  while (start < end) {
    const aligned = Math.min(31 - Math.clz32(start & -start), PAGEBLOCK_ORDER);
    const order = Math.min(aligned, 31 - Math.clz32(end - start));
    freeBlock(m, zone, start, order, "auto");
    start += 1 << order;
  }
}

/**
 * Order of the largest block of which takeBlock would hand out the pages one after the other if asked `nrPages` times for
 * order 0; -1 if the type has no block.
 */
export function runOrder(m: PhysState, zone: Zone, nrPages: number, type: MigrateType): number {
  const found = smallestOrder(m, zone, 0, type);
  return Math.min(found, 31 - Math.clz32(nrPages));
}

/** Lists the next section's blocks; false if all memory of the zone is on its lists already. */
export function takeSection(m: PhysState, zone: Zone): boolean {
  const start = zone.untakenStart;
  if (start === zone.untakenEnd) return false;
  const boundary = (Math.floor(start / SECTION_PAGES) + 1) * SECTION_PAGES;
  const end = Math.min(boundary, zone.untakenEnd);
  for (let pfn = start; pfn < end; pfn += BLOCK_PAGES) {
    listBlock(m, zone, pfn, MAX_ORDER, MIGRATE.MOVABLE, "tail");
  }
  zone.untakenStart = end;
  return true;
}

/** Lowest order >= `order` with a block of this type, or -1. Movable blocks that nobody took yet count at order 10. */
export function smallestOrder(m: PhysState, zone: Zone, order: number, type: MigrateType): number {
  let candidates = (zone.nonEmpty[type] >>> order) << order;
  if (candidates === 0) {
    if (type !== MIGRATE.MOVABLE || !takeSection(m, zone)) return -1;
    candidates = (zone.nonEmpty[type] >>> order) << order;
  }
  return 31 - Math.clz32(candidates & -candidates);
}

/**
 * Relabels the pageblocks of a free block of order >= 9 and moves it to the list of `type` (head). Pages free are
 * counted under the new type.
 */
export function relabelBlock(
  m: PhysState,
  zone: Zone,
  pfn: Pfn,
  order: number,
  type: MigrateType,
): void {
  const from = pageblockTypeOf(m, pfn);
  unlistBlock(m, zone, pfn, order, from);
  countFree(m, zone, from, -(1 << order));
  const first = pfn >>> PAGEBLOCK_ORDER;
  const nr = 1 << (order - PAGEBLOCK_ORDER);
  for (let block = first; block < first + nr; block++) m.pageblockType[block] = type;
  countFree(m, zone, type, 1 << order);
  listBlock(m, zone, pfn, order, type, "head");
}

/** Relabels one pageblock and moves its free blocks to the lists of `type`. Returns the free pages moved. */
export function movePageblock(m: PhysState, zone: Zone, pfn: Pfn, type: MigrateType): number {
  const start = pfn & -PAGEBLOCK_PAGES;
  const from = pageblockTypeOf(m, start);
  takeSectionsUpTo(m, zone, start);
  splitMaxOrderBlock(m, zone, start, from);

  m.pageblockType[start >>> PAGEBLOCK_ORDER] = type;
  let moved = 0;
  const end = Math.min(start + PAGEBLOCK_PAGES, zone.startPfn + zone.spannedPages);
  for (let at = start; at < end; ) {
    const order = m.frames.order[at];
    if ((m.frames.flags[at] & PG.BUDDY) === 0) {
      at += rowsOfAllocated(m, at);
      continue;
    }
    unlistBlock(m, zone, at, order, from);
    listBlock(m, zone, at, order, type, "tail");
    moved += 1 << order;
    at += 1 << order;
  }
  countFree(m, zone, from, -moved);
  countFree(m, zone, type, moved);
  if (moved === PAGEBLOCK_PAGES) mergeWhole(m, zone, start, type);
  return moved;
}

/** A free pageblock that just changed its label may now merge with its buddy. */
function mergeWhole(m: PhysState, zone: Zone, start: Pfn, type: MigrateType): void {
  unlistBlock(m, zone, start, PAGEBLOCK_ORDER, type);
  countFree(m, zone, type, -PAGEBLOCK_PAGES);
  freeBlock(m, zone, start, PAGEBLOCK_ORDER, "tail");
}

/** Pages from `pfn`, not a free head, to where the next folio, per-CPU block or free block of its pageblock may begin. */
export function rowsOfAllocated(m: PhysState, pfn: Pfn): number {
  if ((m.frames.flags[pfn] & PG.RESERVED) !== 0) return 1;
  const pages = 1 << m.frames.order[pfn];
  // The second pageblock of an order-10 folio begins inside it.
  return pages - (pfn & (pages - 1));
}

/** Puts a block on a free list without counting its pages. */
export function listBlock(
  m: PhysState,
  zone: Zone,
  pfn: Pfn,
  order: number,
  type: MigrateType,
  place: "head" | "tail",
): void {
  m.frames.flags[pfn] = PG.BUDDY;
  m.frames.order[pfn] = order;
  const slot = order * NR_MIGRATE_TYPES + type;
  if (place === "head") addHead(m.links, zone.firstList + slot, pfn);
  else addTail(m.links, zone.firstList + slot, pfn);
  if (zone.freeBlocks[slot]++ === 0) zone.nonEmpty[type] |= 1 << order;
}

/** Takes a block off its free list without counting its pages. */
function unlistBlock(m: PhysState, zone: Zone, pfn: Pfn, order: number, type: MigrateType): void {
  m.frames.flags[pfn] = 0;
  unlink(m.links, pfn);
  const slot = order * NR_MIGRATE_TYPES + type;
  if (--zone.freeBlocks[slot] === 0) zone.nonEmpty[type] &= ~(1 << order);
}

function countFree(m: PhysState, zone: Zone, type: MigrateType, pages: number): void {
  // Pages of an isolated pageblock are not there for anybody.
  if (type === MIGRATE.ISOLATE) return;
  zone.nrFree += pages;
  m.vmstat[VMSTAT.nr_free_pages] += pages;
  if (type === MIGRATE.HIGHATOMIC) zone.nrFreeHighAtomic += pages;
}

/**
 * PHYS-022, at pageblock order and above: whether a buddy may merge into a block of `type`; if so it is moved to that
 * type's lists and relabelled, so that the caller takes it off there.
 */
function absorbLabel(
  m: PhysState,
  zone: Zone,
  buddy: Pfn,
  order: number,
  type: MigrateType,
): boolean {
  const buddyType = pageblockTypeOf(m, buddy);
  if (buddyType === type) return true;
  if (buddyType >= NR_PCP_TYPES || type >= NR_PCP_TYPES) return false;
  relabelBlock(m, zone, buddy, order, type);
  return true;
}

/** PHYS-023 (b): the pair that this block will form has its own buddy free already. */
function pairIsAboutToMerge(m: PhysState, pfn: Pfn, order: number): boolean {
  const pair = pfn & ~(1 << order);
  const pairBuddy = pair ^ (1 << (order + 1));
  return (m.frames.flags[pairBuddy] & PG.BUDDY) !== 0 && m.frames.order[pairBuddy] === order + 1;
}

/** Lists sections until the frame is among the taken ones. */
function takeSectionsUpTo(m: PhysState, zone: Zone, pfn: Pfn): void {
  while (pfn >= zone.untakenStart && pfn < zone.untakenEnd) takeSection(m, zone);
}

/** If `start`, a pageblock, is half of a free order-10 block, makes two order-9 blocks of it. */
function splitMaxOrderBlock(m: PhysState, zone: Zone, start: Pfn, type: MigrateType): void {
  const head = start & -BLOCK_PAGES;
  const isWhole = (m.frames.flags[head] & PG.BUDDY) !== 0 && m.frames.order[head] === MAX_ORDER;
  if (!isWhole) return;
  assert(pageblockTypeOf(m, head) === type, "free block of order 10 with two labels");
  unlistBlock(m, zone, head, MAX_ORDER, type);
  listBlock(m, zone, head + PAGEBLOCK_PAGES, PAGEBLOCK_ORDER, type, "head");
  listBlock(m, zone, head, PAGEBLOCK_ORDER, type, "head");
}
