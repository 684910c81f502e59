/**
 * Folios: the frames of one allocation with their rows set up, and their way back.
 *
 * Entry: allocFolio, freeFolio, getFolio, putFolio; freeFolios of free-batch.ts for many at once.
 * Owns:  of a folio's rows: flags (all cleared on free), order, refcount, tag (0 on both ways); numa_* and pg* counters;
 *        nr_anon and nr_anon_partially_mapped of a large folio that is freed.
 * Holds: a frame that is free has refcount, mapcounts, owner, memcg and tag 0 and no flag but BUDDY or PCP; its index is
 *        stale, as wherever `owner` is 0.
 * Cost:  allocates no object; order 0 writes only the head's row.
 */

import type { Pfn } from "../base/address.ts";
import { assert } from "../base/assert.ts";
import { NR_THP_STATS, THP_STAT, VMSTAT } from "../base/counters.ts";
import { EVENT } from "../base/events.ts";
import { popHead } from "../base/int-ring.ts";
import { freeBlock, pageblockTypeOf, zoneOf } from "./buddy.ts";
import { failsAlloc } from "./failing.ts";
import { NO_PFN, PG } from "./frame-table.ts";
import { migrateTypeOf, zoneClassOf } from "./gfp.ts";
import { lruDel } from "./lru.ts";
import { unchargeFolio } from "./memcg.ts";
import { freePcp, isPcpOrder } from "./pcp.ts";
import { takeSlow } from "./slow-path.ts";
import { type NodeId, NR_PCP_TYPES, NR_ZONE_KINDS, type PhysState, type Zone } from "./state.ts";
import { takeFast } from "./zone-walk.ts";

export {
  GFP,
  GFP_ATOMIC,
  GFP_HIGHUSER_MOVABLE,
  GFP_KERNEL,
  GFP_PGTABLE,
  GFP_TRANSHUGE,
  GFP_TRANSHUGE_LIGHT,
} from "./gfp.ts";

const NOT_ALLOCATED = PG.BUDDY | PG.PCP | PG.RESERVED;
/** Flags by which a folio is on a list or in a statistic; freeing undoes what it can. */
const ACCOUNTED = PG.LRU | PG.DEFERRED | PG.ANON | PG.PARTIALLY_MAPPED;

/**
 * Head of a new folio of 2^order pages, or NO_PFN. Contents are zero (tag 0), flags 0, refcount 1, not charged, on no
 * list. `node` is preferred; with GFP.THISNODE it is the only one. May reclaim and compact if `gfp` allows (PHYS-054).
 */
export function allocFolio(m: PhysState, order: number, gfp: number, node: NodeId): Pfn {
  if (m.failing !== null && failsAlloc(m.failing, order)) return NO_PFN;
  let pfn = order === 0 ? takeEasy(m, gfp, node) : NO_PFN;
  if (pfn === NO_PFN) {
    pfn = takeFast(m, order, gfp, node);
    if (pfn === NO_PFN) pfn = takeSlow(m, order, gfp, node);
    if (pfn === NO_PFN) return NO_PFN;
    if (order > 0) m.frames.order.fill(order, pfn, pfn + (1 << order));
    else m.frames.order[pfn] = 0;
    countAlloc(m, zoneOf(m, pfn), order, node);
  }
  m.frames.refcount[pfn] = 1;
  m.events?.emit(EVENT.mm_page_alloc, pfn, order, migrateTypeOf(gfp));
  return pfn;
}

/** Order 0 from a per-CPU list of the first zone, if that has plenty: what takeFast would do, in a few steps. */
function takeEasy(m: PhysState, gfp: number, node: NodeId): Pfn {
  if (m.pcpMode === "off") return NO_PFN;
  const zoneClass = zoneClassOf(gfp);
  const zone = m.zones[m.firstZone[node * NR_ZONE_KINDS + zoneClass]];
  if (zone.nrFree - zone.nrFreeHighAtomic <= zone.easyMarks[zoneClass]) return NO_PFN;
  const pcp = zone.pcps[m.cpu];
  const list = pcp.lists[migrateTypeOf(gfp)];
  if (list.size === 0) return NO_PFN;

  const pfn = popHead(list);
  pcp.count--;
  m.frames.flags[pfn] = 0;
  countAlloc(m, zone, 0, node);
  return pfn;
}

/** Gives a folio back. Its refcount must be 0 and nothing may map it; it may be on the LRU but not on a deferred queue. */
export function freeFolio(m: PhysState, pfn: Pfn): void {
  assert(m.frames.refcount[pfn] === 0, "freeing a folio that is referenced");
  release(m, pfn);
}

/** Takes another reference to the folio with this head. */
export function getFolio(m: PhysState, head: Pfn): void {
  assert(m.frames.refcount[head] > 0, "reference to a free folio");
  m.frames.refcount[head]++;
}

/** Gives a reference to the folio with this head back; the last one frees it. */
export function putFolio(m: PhysState, head: Pfn): void {
  const left = m.frames.refcount[head] - 1;
  assert(left >= 0, "more references given back than taken");
  m.frames.refcount[head] = left;
  if (left === 0) release(m, head);
}

/** The last reference is gone: undoes what the folio is counted in, clears its rows, frees the frames. */
function release(m: PhysState, pfn: Pfn): void {
  const frames = m.frames;
  const order = frames.order[pfn];
  const flags = frames.flags[pfn];
  assert((flags & NOT_ALLOCATED) === 0, "freeing a frame that is not allocated");
  assert(frames.mapcount[pfn] === 0, "freeing a folio whose first page is mapped");

  if ((flags & ACCOUNTED) !== 0) dropAccounts(m, pfn, order, flags);
  if (frames.memcg[pfn] !== 0) unchargeFolio(m, pfn);
  frames.owner[pfn] = 0;
  frames.tag[pfn] = 0;
  if (order > 0) clearLargeRows(m, pfn, order);
  m.vmstat[VMSTAT.pgfree] += 1 << order;
  m.events?.emit(EVENT.mm_page_free, pfn, order, 0);
  freeFrames(m, pfn, order);
}

/** PHYS-038, PHYS-145: pages at the allocator's interface; NUMA statistics per block. */
function countAlloc(m: PhysState, zone: Zone, order: number, preferred: NodeId): void {
  const vmstat = m.vmstat;
  vmstat[zone.pgalloc] += 1 << order;
  vmstat[zone.node === preferred ? VMSTAT.numa_hit : VMSTAT.numa_miss]++;
  vmstat[zone.node === m.nodeOfCpu[m.cpu] ? VMSTAT.numa_local : VMSTAT.numa_other]++;
}

function dropAccounts(m: PhysState, pfn: Pfn, order: number, flags: number): void {
  if ((flags & PG.LRU) !== 0) lruDel(m, pfn);
  assert((flags & PG.DEFERRED) === 0, "freeing a folio that waits to be split");
  if (order === 0) return;
  // ANON-137: counted from allocation as anonymous until freed; mm/ counts the birth.
  if ((flags & PG.ANON) !== 0) m.thpStats[order * NR_THP_STATS + THP_STAT.nr_anon]--;
  if ((flags & PG.PARTIALLY_MAPPED) !== 0) {
    m.thpStats[order * NR_THP_STATS + THP_STAT.nr_anon_partially_mapped]--;
  }
}

/** Clears what only large folios have, and the per-page flags and tags of their tails. */
function clearLargeRows(m: PhysState, pfn: Pfn, order: number): void {
  const frames = m.frames;
  assert(frames.entireMapcount[pfn] === 0, "freeing a folio with a huge mapping");
  assert(frames.largeMapcount[pfn] === 0, "freeing a folio that is mapped");
  assert(frames.pincount[pfn] === 0, "freeing a pinned folio");
  const end = pfn + (1 << order);
  frames.flags.fill(0, pfn, end);
  frames.tag.fill(0, pfn, end);
  frames.nrPagesMapped[pfn] = 0;
  frames.sharer0[pfn] = 0;
  frames.sharer0Mapcount[pfn] = 0;
  frames.sharer1[pfn] = 0;
  frames.sharer1Mapcount[pfn] = 0;
}

/** To the running CPU's lists, or to the buddy. */
function freeFrames(m: PhysState, pfn: Pfn, order: number): void {
  const zone = zoneOf(m, pfn);
  const type = pageblockTypeOf(m, pfn);
  if (m.pcpMode === "on" && type < NR_PCP_TYPES && isPcpOrder(order)) {
    freePcp(m, zone, pfn, order, type);
  } else {
    m.frames.flags[pfn] = 0;
    freeBlock(m, zone, pfn, order, "auto");
  }
}
