/**
 * Per-CPU lists of free pages: a few of each small order and of order 9 wait here, out of the buddy's sight.
 *
 * Entry: takePcp, freePcp and freePagesPcp by alloc.ts and free-batch.ts; drainAll by whoever needs free memory whole; decayPcps by a timer.
 * Owns:  flag PCP, Pcp records.
 * Lists: order * 3 + type for orders 0..3, then 12: order 9 other than Movable, 13: order 9 Movable (PHYS-033).
 * Units: `count`, `high`, `batch` are base pages (PHYS-034).
 */

import type { Pfn } from "../base/address.ts";
import {
  type IntRing,
  popHead,
  popTail,
  pushHead,
  pushHeads,
  pushSequence,
} from "../base/int-ring.ts";
import { freeRun, runOrder } from "./buddy.ts";
import { type Mixing, takeFromBuddy } from "./fallback.ts";
import { NO_PFN, PG } from "./frame-table.ts";
import {
  COSTLY_ORDER,
  MIGRATE,
  type MigrateType,
  NR_PCP_LISTS,
  NR_PCP_TYPES,
  PAGEBLOCK_ORDER,
  PAGEBLOCK_PAGES,
  type Pcp,
  type PhysState,
  type Zone,
} from "./state.ts";

/** A refill takes at most batch << 5 pages (PHYS-037). */
const MAX_ALLOC_FACTOR = 5;
/** Pages given back from one list before the next one's turn. */
const TURN_PAGES = PAGEBLOCK_PAGES;
const FIRST_HUGE_LIST = NR_PCP_TYPES * (COSTLY_ORDER + 1);

/** PHYS-033: whether blocks of this order wait on per-CPU lists. */
export function isPcpOrder(order: number): boolean {
  return order <= COSTLY_ORDER || order === PAGEBLOCK_ORDER;
}

/** PHYS-033: which of a CPU's 14 lists. */
export function pcpListIndex(order: number, type: MigrateType): number {
  if (order <= COSTLY_ORDER) return order * NR_PCP_TYPES + type;
  return type === MIGRATE.MOVABLE ? FIRST_HUGE_LIST + 1 : FIRST_HUGE_LIST;
}

/** Order of the blocks on one of the 14 lists. */
export function pcpListOrder(index: number): number {
  return index >= FIRST_HUGE_LIST ? PAGEBLOCK_ORDER : Math.floor(index / NR_PCP_TYPES);
}

/** A block from the running CPU's list, refilled from the buddy if empty. NO_PFN if the buddy has none either. */
export function takePcp(
  m: PhysState,
  zone: Zone,
  order: number,
  type: MigrateType,
  mixing: Mixing,
): Pfn {
  const pcp = zone.pcps[m.cpu];
  const list = pcp.lists[pcpListIndex(order, type)];
  if (list.size === 0) {
    refill(m, zone, pcp, order, type, mixing);
    if (list.size === 0) return NO_PFN;
  }
  const pfn = popHead(list);
  m.frames.flags[pfn] = 0;
  pcp.count -= 1 << order;
  return pfn;
}

/** Puts a block on the running CPU's list; gives a part back to the buddy when the lists are full (PHYS-037). */
export function freePcp(
  m: PhysState,
  zone: Zone,
  pfn: Pfn,
  order: number,
  type: MigrateType,
): void {
  const pcp = zone.pcps[m.cpu];
  m.frames.flags[pfn] = PG.PCP;
  pushHead(pcp.lists[pcpListIndex(order, type)], pfn);
  pcp.count += 1 << order;
  pcp.freeCount += 1 << order;
  pcp.allocFactor >>= 1;
  giveBackIfFull(m, zone, pcp);
}

/** freePcp for single pages heads[start..end-1] of one zone and type, whose flags say PCP already. */
export function freePagesPcp(
  m: PhysState,
  zone: Zone,
  type: MigrateType,
  heads: Int32Array,
  start: number,
  end: number,
): void {
  const pcp = zone.pcps[m.cpu];
  const list = pcp.lists[pcpListIndex(0, type)];
  while (start < end) {
    const nr = Math.min(end - start, Math.max(pcp.high - pcp.count, 1));
    pushHeads(list, heads, start, start + nr);
    pcp.count += nr;
    pcp.freeCount += nr;
    pcp.allocFactor >>= Math.min(nr, MAX_ALLOC_FACTOR);
    giveBackIfFull(m, zone, pcp);
    start += nr;
  }
}

function giveBackIfFull(m: PhysState, zone: Zone, pcp: Pcp): void {
  if (pcp.count >= pcp.high) giveBack(m, zone, pcp);
}

/** PHYS-037: empties the lists of all CPUs in all zones. */
export function drainAll(m: PhysState): void {
  for (const zone of m.zones) {
    for (const pcp of zone.pcps) freeSome(m, zone, pcp, pcp.count);
  }
}

/** PHYS-036: the timer's part: every `high` falls by an eighth, and what is above it goes back. */
export function decayPcps(m: PhysState): void {
  for (const zone of m.zones) {
    for (const pcp of zone.pcps) {
      pcp.high = Math.max(zone.pcpHighMin, pcp.high - (pcp.high >> 3));
      if (pcp.count > pcp.high) freeSome(m, zone, pcp, pcp.count - pcp.high);
    }
  }
}

/** PHYS-036, PHYS-037: fetches a batch for one list; consecutive refills grow, and `high` with them. */
function refill(
  m: PhysState,
  zone: Zone,
  pcp: Pcp,
  order: number,
  type: MigrateType,
  mixing: Mixing,
): void {
  const batch = zone.pcpBatch;
  let nrBlocks = Math.max(batch >> order, 2);
  if (order === 0) {
    // Never so many that the next free would give them back at once.
    const room = Math.max(pcp.high - pcp.count, batch);
    nrBlocks = Math.min(batch << pcp.allocFactor, room);
    if (pcp.allocFactor < MAX_ALLOC_FACTOR) pcp.allocFactor++;
  }
  pcp.high = Math.min(pcp.high + batch, zone.pcpHighMax);
  pcp.freeCount >>= 1;

  const list = pcp.lists[pcpListIndex(order, type)];
  const { flags, order: orders } = m.frames;
  const wanted = pcp.count + (nrBlocks << order);
  while (pcp.count < wanted) {
    // Pages that would come one by one in ascending order come in one piece.
    const taken = order === 0 ? Math.max(runOrder(m, zone, wanted - pcp.count, type), 0) : order;
    const pfn = takeFromBuddy(m, zone, taken, type, mixing);
    if (pfn === NO_PFN) return;
    const end = pfn + (1 << taken);
    for (let head = pfn; head < end; head += 1 << order) {
      flags[head] = PG.PCP;
      orders[head] = order;
    }
    pushSequence(list, pfn, end, 1 << order);
    pcp.count += 1 << taken;
  }
}

function giveBack(m: PhysState, zone: Zone, pcp: Pcp): void {
  const batch = zone.pcpBatch;
  const most = Math.max(pcp.high - batch, batch);
  freeSome(m, zone, pcp, Math.min(Math.max(pcp.freeCount, batch), most));
  pcp.freeCount = 0;
}

/** Gives at least `nrPages` back to the buddy, or all: oldest first, list by list in turn. */
function freeSome(m: PhysState, zone: Zone, pcp: Pcp, nrPages: number): void {
  const target = Math.max(pcp.count - nrPages, 0);
  for (let index = 0; pcp.count > target; index = (index + 1) % NR_PCP_LISTS) {
    const order = pcpListOrder(index);
    const nrBlocks = Math.max(Math.min(pcp.count - target, TURN_PAGES) >> order, 1);
    freeOldest(m, zone, pcp, pcp.lists[index], order, nrBlocks);
  }
}

/** Gives the `nrBlocks` oldest blocks of a list back, those that follow each other together. */
function freeOldest(
  m: PhysState,
  zone: Zone,
  pcp: Pcp,
  list: IntRing,
  order: number,
  nrBlocks: number,
): void {
  const nr = Math.min(nrBlocks, list.size);
  let runStart = NO_PFN;
  let runEnd = NO_PFN;
  for (let i = 0; i < nr; i++) {
    const pfn = popTail(list);
    m.frames.flags[pfn] = 0;
    if (pfn !== runEnd) {
      freeRun(m, zone, runStart, runEnd);
      runStart = pfn;
    }
    runEnd = pfn + (1 << order);
  }
  freeRun(m, zone, runStart, runEnd);
  pcp.count -= nr << order;
}
