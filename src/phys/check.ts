/**
 * Walks all of physical memory and compares every list, label and counter with what the rows say (PHYS-246).
 *
 * Entry: checkPhys. Reads only. Cost: a few ns per frame that was ever taken from the untaken range, and per list entry.
 * Units: problems are sentences for people; an empty list means that everything agrees.
 */

import type { Pfn } from "../base/address.ts";
import { VMSTAT } from "../base/counters.ts";
import { ringAt } from "../base/int-ring.ts";
import { freeListOf, pageblockTypeOf, zoneOf } from "./buddy.ts";
import { describeFrame } from "./describe.ts";
import { NO_PFN, PG } from "./frame-table.ts";
import { lruListNumber, lruListOfFlags } from "./lru.ts";
import { pcpListOrder } from "./pcp.ts";
import {
  LRU_NAMES,
  MAX_ORDER,
  MIGRATE,
  MIGRATE_NAMES,
  NO_MEMCG,
  NR_LRU_LISTS,
  NR_MIGRATE_TYPES,
  NR_ORDERS,
  NR_PCP_TYPES,
  PAGEBLOCK_ORDER,
  type PhysState,
  ZONE_NAMES,
  type Zone,
} from "./state.ts";

/** More than this many are not worth reading. */
const MOST_PROBLEMS = 50;

/** What the rows of one zone add up to. */
interface Tally {
  freeBlocks: number;
  pcpPages: number;
  lruFolios: number;
  allocatedPages: number;
}

/** All that is wrong, at most 50 sentences; empty if physical memory is consistent. */
export function checkPhys(m: PhysState): string[] {
  const problems: string[] = [];
  let nrFree = 0;
  let lruFolios = 0;
  const charged = new Float64Array(m.memcgs.length);
  for (const zone of m.zones) {
    nrFree += zone.nrFree;
    const tally = checkRows(m, zone, charged, problems);
    checkFreeLists(m, zone, tally, problems);
    checkPcps(m, zone, tally, problems);
    lruFolios += tally.lruFolios;
  }
  expectEqual(problems, "nr_free_pages", m.vmstat[VMSTAT.nr_free_pages], nrFree);
  checkLrus(m, lruFolios, problems);
  checkMemcgs(m, charged, problems);
  return problems.slice(0, MOST_PROBLEMS);
}

/** Every taken frame is reserved, in one free or per-CPU block, or in one allocated folio. */
function checkRows(m: PhysState, zone: Zone, charged: Float64Array, problems: string[]): Tally {
  const tally: Tally = { freeBlocks: 0, pcpPages: 0, lruFolios: 0, allocatedPages: 0 };
  const end = zone.startPfn + zone.spannedPages;
  const { flags, order } = m.frames;
  for (let pfn = zone.startPfn; pfn < end && problems.length < MOST_PROBLEMS; ) {
    if (pfn === zone.untakenStart && pfn < zone.untakenEnd) {
      pfn = zone.untakenEnd;
      continue;
    }
    const bits = flags[pfn];
    if ((bits & PG.RESERVED) !== 0) {
      pfn++;
      continue;
    }
    const pages = 1 << order[pfn];
    if (pfn % pages !== 0) problems.push(`misaligned: ${describeFrame(m, pfn)}`);
    if ((bits & PG.BUDDY) !== 0) {
      tally.freeBlocks++;
      checkFreeRow(m, zone, pfn, PG.BUDDY, problems);
      checkMerged(m, zone, pfn, problems);
    } else if ((bits & PG.PCP) !== 0) {
      tally.pcpPages += pages;
      checkFreeRow(m, zone, pfn, PG.PCP, problems);
    } else {
      tally.allocatedPages += pages;
      if ((bits & PG.LRU) !== 0) tally.lruFolios++;
      charged[m.frames.memcg[pfn]] += pages;
      checkFolioRows(m, pfn, pages, problems);
    }
    pfn += pages;
  }
  return tally;
}

/** A free block's rows carry nothing but its own flag and order. */
function checkFreeRow(m: PhysState, zone: Zone, pfn: Pfn, kind: number, problems: string[]): void {
  const { flags, refcount, mapcount, owner, memcg, tag } = m.frames;
  const { entireMapcount, mlockCount } = m.frames;
  if (zoneOf(m, pfn) !== zone) problems.push(`frame ${pfn} is in another zone than its neighbours`);
  const end = pfn + (1 << m.frames.order[pfn]);
  for (let page = pfn; page < end; page++) {
    const allowed = page === pfn ? kind : 0;
    const isClean =
      flags[page] === allowed &&
      (refcount[page] | mapcount[page] | owner[page] | memcg[page] | tag[page]) === 0 &&
      (entireMapcount[page] | mlockCount[page]) === 0;
    if (!isClean) problems.push(`free but not clean: ${describeFrame(m, page)}`);
  }
}

/** PHYS-246: two free buddies of one order stand apart only where types forbid merging. */
function checkMerged(m: PhysState, zone: Zone, pfn: Pfn, problems: string[]): void {
  const { flags, order } = m.frames;
  const own = order[pfn];
  const buddy = pfn ^ (1 << own);
  if (own >= MAX_ORDER || buddy < pfn || (flags[buddy] & PG.BUDDY) === 0 || order[buddy] !== own) {
    return;
  }
  const types = [pageblockTypeOf(m, pfn), pageblockTypeOf(m, buddy)];
  const mayMerge = types[0] === types[1] || types.every((type) => type < NR_PCP_TYPES);
  if (mayMerge) problems.push(`${ZONE_NAMES[zone.kind]}: free buddies ${pfn}, ${buddy} unmerged`);
}

/** The pages of a folio agree on its order; references and the list flag are the head's alone. */
function checkFolioRows(m: PhysState, pfn: Pfn, pages: number, problems: string[]): void {
  const { flags, refcount, order } = m.frames;
  if (refcount[pfn] <= 0) problems.push(`allocated without a reference: ${describeFrame(m, pfn)}`);
  const headOnly = PG.LRU | PG.DEFERRED | PG.BUDDY | PG.PCP;
  for (let tail = pfn + 1; tail < pfn + pages; tail++) {
    const isTail =
      order[tail] === order[pfn] && refcount[tail] === 0 && (flags[tail] & headOnly) === 0;
    if (!isTail) problems.push(`not a tail of ${pfn}: ${describeFrame(m, tail)}`);
  }
}

function checkFreeLists(m: PhysState, zone: Zone, tally: Tally, problems: string[]): void {
  const name = ZONE_NAMES[zone.kind];
  let listed = 0;
  let free = zone.untakenEnd - zone.untakenStart;
  let freeHighAtomic = 0;
  for (let order = 0; order < NR_ORDERS; order++) {
    for (let type = 0; type < NR_MIGRATE_TYPES; type++) {
      const label = `${name} order ${order} ${MIGRATE_NAMES[type]}`;
      const nr = walkList(m, freeListOf(zone, order, type), label, problems, (pfn) => {
        const isRight =
          m.frames.flags[pfn] === PG.BUDDY &&
          m.frames.order[pfn] === order &&
          isBlockOfType(m, pfn, order, type);
        if (!isRight) problems.push(`${label} holds ${describeFrame(m, pfn)}`);
      });
      expectEqual(
        problems,
        `${label}: blocks`,
        zone.freeBlocks[order * NR_MIGRATE_TYPES + type],
        nr,
      );
      const isMarked = (zone.nonEmpty[type] & (1 << order)) !== 0;
      if (isMarked !== nr > 0) problems.push(`${label}: mark of the list is wrong`);
      listed += nr;
      if (type !== MIGRATE.ISOLATE) free += nr << order;
      if (type === MIGRATE.HIGHATOMIC) freeHighAtomic += nr << order;
    }
  }
  expectEqual(problems, `${name}: blocks on lists and in rows`, listed, tally.freeBlocks);
  expectEqual(problems, `${name}: nrFree`, zone.nrFree, free);
  expectEqual(problems, `${name}: nrFreeHighAtomic`, zone.nrFreeHighAtomic, freeHighAtomic);
  checkSum(m, zone, tally, free, problems);
}

/** PHYS-246: free + per-CPU + allocated = managed. Isolated blocks are free but not counted. */
function checkSum(m: PhysState, zone: Zone, tally: Tally, free: number, problems: string[]): void {
  let isolated = 0;
  for (let order = 0; order < NR_ORDERS; order++) {
    isolated += zone.freeBlocks[order * NR_MIGRATE_TYPES + MIGRATE.ISOLATE] << order;
  }
  const total = free + isolated + tally.pcpPages + tally.allocatedPages;
  expectEqual(problems, `${ZONE_NAMES[zone.kind]}: managed pages`, zone.managedPages, total);
  if (m.pcpMode === "off" && tally.pcpPages > 0)
    problems.push("pages on per-CPU lists that are off");
}

/** All pageblocks of a free block carry the list's type. */
function isBlockOfType(m: PhysState, pfn: Pfn, order: number, type: number): boolean {
  const first = pfn >>> PAGEBLOCK_ORDER;
  const nr = order > PAGEBLOCK_ORDER ? 1 << (order - PAGEBLOCK_ORDER) : 1;
  for (let block = first; block < first + nr; block++) {
    if (m.pageblockType[block] !== type) return false;
  }
  return true;
}

function checkPcps(m: PhysState, zone: Zone, tally: Tally, problems: string[]): void {
  let pages = 0;
  zone.pcps.forEach((pcp, cpu) => {
    const label = `${ZONE_NAMES[zone.kind]} per-CPU lists of ${cpu}`;
    let count = 0;
    pcp.lists.forEach((list, index) => {
      const order = pcpListOrder(index);
      for (let i = 0; i < list.size; i++) {
        const pfn = ringAt(list, i);
        const isRight = m.frames.flags[pfn] === PG.PCP && m.frames.order[pfn] === order;
        if (!isRight) problems.push(`${label} hold ${describeFrame(m, pfn)}`);
        count += 1 << order;
      }
    });
    expectEqual(problems, `${label}: count`, pcp.count, count);
    pages += count;
  });
  for (const zoneClass of zone.easyMarks.keys()) {
    const mark = zone.watermarks.low + zone.boost + zone.lowmemReserve[zoneClass];
    expectEqual(problems, `${ZONE_NAMES[zone.kind]}: easy mark`, zone.easyMarks[zoneClass], mark);
  }
  expectEqual(problems, `${ZONE_NAMES[zone.kind]}: pages on per-CPU lists`, pages, tally.pcpPages);
}

function checkLrus(m: PhysState, nrFlagged: number, problems: string[]): void {
  const total = new Float64Array(NR_LRU_LISTS);
  let nrListed = 0;
  for (let memcg = 0; memcg < m.memcgs.length; memcg++) {
    for (const node of m.nodes) {
      for (let list = 0; list < NR_LRU_LISTS; list++) {
        const label = `${LRU_NAMES[list]} of memcg ${memcg}, node ${node.id}`;
        let pages = 0;
        nrListed += walkList(m, lruListNumber(m, memcg, node.id, list), label, problems, (pfn) => {
          pages += 1 << m.frames.order[pfn];
          if (!isOnRightLru(m, pfn, memcg, node.id, list)) {
            problems.push(`${label} holds ${describeFrame(m, pfn)}`);
          }
        });
        const slot = (memcg * m.nodes.length + node.id) * NR_LRU_LISTS + list;
        expectEqual(problems, `${label}: pages`, m.lruPages[slot], pages);
        total[list] += pages;
      }
    }
  }
  expectEqual(problems, "folios on LRU lists and with the flag", nrListed, nrFlagged);
  for (let list = 0; list < NR_LRU_LISTS; list++) {
    const name = LRU_NAMES[list];
    expectEqual(problems, `nr_${name}`, m.vmstat[VMSTAT[`nr_${name}`]], total[list]);
    const byZone = m.zones.reduce((sum, zone) => sum + zone.lruPages[list], 0);
    expectEqual(problems, `nr_zone_${name}`, byZone, total[list]);
  }
}

function isOnRightLru(m: PhysState, pfn: Pfn, memcg: number, node: number, list: number): boolean {
  const flags = m.frames.flags[pfn];
  return (
    (flags & PG.LRU) !== 0 &&
    lruListOfFlags(flags) === list &&
    m.frames.memcg[pfn] === memcg &&
    zoneOf(m, pfn).node === node
  );
}

/** A group's usage is at least what folios charge to it and its descendants; more is charged without a folio. */
function checkMemcgs(m: PhysState, charged: Float64Array, problems: string[]): void {
  const withChildren = Float64Array.from(charged);
  for (const group of m.memcgs) {
    if (group === null) continue;
    for (let id = group.parent; id !== NO_MEMCG; id = m.memcgs[id]?.parent ?? NO_MEMCG) {
      withChildren[id] += charged[group.id];
    }
  }
  for (const group of m.memcgs) {
    if (group === null) continue;
    if (group.usage < withChildren[group.id]) {
      problems.push(
        `memcg ${group.name}: usage ${group.usage} < ${withChildren[group.id]} pages of its folios`,
      );
    }
    if (group.usage > group.peak) problems.push(`memcg ${group.name}: usage above its peak`);
  }
  charged.forEach((pages, id) => {
    const isKnown = id === NO_MEMCG || m.memcgs[id] !== null;
    if (!isKnown && pages > 0)
      problems.push(`${pages} pages charged to memcg ${id}, which is gone`);
  });
}

/** Visits a list's rows in order, both ways of linking checked; returns how many. */
function walkList(
  m: PhysState,
  list: number,
  label: string,
  problems: string[],
  visit: (pfn: Pfn) => void,
): number {
  const { next, prev, firstSentinel } = m.links;
  const sentinel = firstSentinel + list;
  let nr = 0;
  for (let row = sentinel; ; ) {
    const after = next[row];
    if (prev[after] !== row) {
      problems.push(`${label}: links of ${row} and ${after} disagree`);
      return nr;
    }
    if (after === sentinel) return nr;
    if (after >= firstSentinel || after === NO_PFN || nr > m.frames.nrFrames) {
      problems.push(`${label}: runs into row ${after}`);
      return nr;
    }
    visit(after);
    nr++;
    row = after;
  }
}

function expectEqual(problems: string[], what: string, found: number, wanted: number): void {
  if (found !== wanted) problems.push(`${what}: ${found}, by the walk ${wanted}`);
}
