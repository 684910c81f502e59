/**
 * Freeing many folios at once, as unmapping a range does: what freeFolio does one by one, with everything that is shared
 * by neighbours settled once.
 *
 * Entry: freeFolios.
 * Owns:  nothing of its own; the same rows and counters as alloc.ts.
 * Holds: the state afterwards is that of freeFolio called in the same order, except that without per-CPU lists frames which
 *        follow each other enter the buddy as one block, so that blocks may stand in another order on its lists.
 */

import { assert } from "../base/assert.ts";
import { VMSTAT } from "../base/counters.ts";
import { freeFolio } from "./alloc.ts";
import { freeRun, pageblockTypeOf, zoneOf } from "./buddy.ts";
import { NO_PFN, PG } from "./frame-table.ts";
import { lruForget, lruListOfFlags } from "./lru.ts";
import { unchargePages } from "./memcg.ts";
import { freePagesPcp } from "./pcp.ts";
import { NO_MEMCG, NR_PCP_TYPES, PAGEBLOCK_ORDER, type PhysState, type Zone } from "./state.ts";

/** With one of these a folio is freed on its own. */
const UNUSUAL = PG.BUDDY | PG.PCP | PG.RESERVED | PG.DEFERRED;

/** Frees the first `nr` folios of `heads`; each must be free to go as for freeFolio. */
export function freeFolios(m: PhysState, heads: Int32Array, nr: number): void {
  const { flags, order } = m.frames;
  for (let i = 0; i < nr; ) {
    const head = heads[i];
    if (order[head] !== 0 || (flags[head] & UNUSUAL) !== 0 || m.events !== null) {
      freeFolio(m, head);
      i++;
    } else {
      const end = endOfAlike(m, heads, i, nr);
      freeAlike(m, heads, i, end);
      i = end;
    }
  }
}

/** Where single pages end that share pageblock, LRU list and memory cgroup with the first. */
function endOfAlike(m: PhysState, heads: Int32Array, start: number, nr: number): number {
  const { flags, order, memcg } = m.frames;
  const first = heads[start];
  const block = first >>> PAGEBLOCK_ORDER;
  const group = memcg[first];
  const kind = kindOf(flags[first]);
  let i = start + 1;
  for (; i < nr; i++) {
    const pfn = heads[i];
    const isAlike =
      pfn >>> PAGEBLOCK_ORDER === block &&
      order[pfn] === 0 &&
      memcg[pfn] === group &&
      kindOf(flags[pfn]) === kind;
    if (!isAlike) break;
  }
  return i;
}

/** What decides how a page is freed: its LRU list if it is on one, and whether it must be freed on its own. */
function kindOf(flags: number): number {
  return flags & (PG.LRU | PG.UNEVICTABLE | PG.SWAPBACKED | PG.ACTIVE | UNUSUAL);
}

function freeAlike(m: PhysState, heads: Int32Array, start: number, end: number): void {
  const { flags, refcount, mapcount, owner, memcg, tag } = m.frames;
  const { next, prev } = m.links;
  const first = heads[start];
  const bits = flags[first];
  const group = memcg[first];
  const isOnLru = (bits & PG.LRU) !== 0;
  const nr = end - start;
  const zone = zoneOf(m, first);
  const type = pageblockTypeOf(m, first);
  const isToPcp = m.pcpMode === "on" && type < NR_PCP_TYPES;
  const freeFlags = isToPcp ? PG.PCP : 0;
  for (let i = start; i < end; i++) {
    const pfn = heads[i];
    assert(refcount[pfn] === 0, "freeing a folio that is referenced");
    assert(mapcount[pfn] === 0, "freeing a page that is mapped");
    if (isOnLru) {
      const after = next[pfn];
      const before = prev[pfn];
      next[before] = after;
      prev[after] = before;
    }
    flags[pfn] = freeFlags;
    owner[pfn] = 0;
    tag[pfn] = 0;
    if (group !== NO_MEMCG) memcg[pfn] = NO_MEMCG;
  }
  if (isOnLru) lruForget(m, zone, group, lruListOfFlags(bits), nr);
  if (group !== NO_MEMCG) unchargePages(m, group, nr);
  m.vmstat[VMSTAT.pgfree] += nr;
  if (isToPcp) freePagesPcp(m, zone, type, heads, start, end);
  else freeRuns(m, zone, heads, start, end);
}

/** Frames of one pageblock to the buddy; those that follow each other together. */
function freeRuns(m: PhysState, zone: Zone, heads: Int32Array, start: number, end: number): void {
  let runStart = NO_PFN;
  let runEnd = NO_PFN;
  for (let i = start; i < end; i++) {
    if (heads[i] !== runEnd) {
      freeRun(m, zone, runStart, runEnd);
      runStart = heads[i];
    }
    runEnd = heads[i] + 1;
  }
  freeRun(m, zone, runStart, runEnd);
}
