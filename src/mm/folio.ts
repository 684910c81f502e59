/**
 * The life of an anonymous folio as memory management sees it: references, and what must happen before its frames go
 * back to the allocator.
 */

import type { Pfn } from "../base/address.ts";
import { assert } from "../base/assert.ts";
import { NR_THP_STATS, THP_STAT, VMSTAT } from "../base/counters.ts";
import { addTail, unlink } from "../base/int-list.ts";
import { freeFolio } from "../phys/alloc.ts";
import { zoneOf } from "../phys/buddy.ts";
import { PG } from "../phys/frame-table.ts";
import type { MmState } from "./state.ts";

const NR_ANON_PARTIALLY_MAPPED = THP_STAT.nr_anon_partially_mapped;
const SPLIT_DEFERRED = THP_STAT.split_deferred;
const HUGE_ORDER = 9;

/** Drops `nr` references of the folio with head `head`; frees it with the last. */
export function putFolio(m: MmState, head: Pfn, nr: number): void {
  const refcount = m.frames.refcount[head] - nr;
  assert(refcount >= 0, "more references dropped than were held");
  m.frames.refcount[head] = refcount;
  if (refcount === 0) releaseFolio(m, head);
}

/** The last reference is gone. The allocator takes it off the LRU and settles its statistics. */
function releaseFolio(m: MmState, head: Pfn): void {
  if ((m.frames.flags[head] & PG.DEFERRED) !== 0) leaveDeferredQueue(m, head);
  freeFolio(m, head);
}

/** Clears what a large folio remembers of its mappers (ANON-139). */
export function forgetSharers(m: MmState, head: Pfn): void {
  const frames = m.frames;
  frames.sharer0[head] = 0;
  frames.sharer0Mapcount[head] = 0;
  frames.sharer1[head] = 0;
  frames.sharer1Mapcount[head] = 0;
}

/** Puts a folio on its node's queue without the flag: maybe underused (ANON-194). No counters. */
export function queueMaybeUnderused(m: MmState, head: Pfn): void {
  if (!m.queuesUnderused || (m.frames.flags[head] & PG.DEFERRED) !== 0) return;
  joinDeferredQueue(m, head);
}

/** A page lost its last mapping while others are mapped: counted the first time only (ANON-190). */
export function markPartiallyMapped(m: MmState, head: Pfn): void {
  const frames = m.frames;
  const flags = frames.flags[head];
  const order = frames.order[head];
  if ((flags & PG.SWAPCACHE) !== 0 || order < 2) return;
  if ((flags & PG.PARTIALLY_MAPPED) === 0) {
    frames.flags[head] = flags | PG.PARTIALLY_MAPPED;
    if (order === HUGE_ORDER) m.vmstat[VMSTAT.thp_deferred_split_page]++;
    m.thpStats[order * NR_THP_STATS + SPLIT_DEFERRED]++;
    m.thpStats[order * NR_THP_STATS + NR_ANON_PARTIALLY_MAPPED]++;
  }
  if ((flags & PG.DEFERRED) === 0) joinDeferredQueue(m, head);
}

/** Takes a folio off its queue; a partially mapped one stops being counted as such. */
export function leaveDeferredQueue(m: MmState, head: Pfn): void {
  const frames = m.frames;
  const flags = frames.flags[head];
  unlink(m.deferred, head);
  m.deferredLength[deferredQueueOf(m, head)]--;
  if ((flags & PG.PARTIALLY_MAPPED) !== 0)
    m.thpStats[frames.order[head] * NR_THP_STATS + NR_ANON_PARTIALLY_MAPPED]--;
  frames.flags[head] = flags & ~(PG.DEFERRED | PG.PARTIALLY_MAPPED);
}

/** A folio that could not be split goes to the end of its queue. */
export function requeueDeferred(m: MmState, head: Pfn): void {
  unlink(m.deferred, head);
  addTail(m.deferred, deferredQueueOf(m, head), head);
}

/** The queue of the folio's memcg and node: its list number in m.deferred. */
export function deferredQueueOf(m: MmState, head: Pfn): number {
  return m.frames.memcg[head] * m.nodes.length + zoneOf(m, head).node;
}

function joinDeferredQueue(m: MmState, head: Pfn): void {
  const queue = deferredQueueOf(m, head);
  addTail(m.deferred, queue, head);
  m.deferredLength[queue]++;
  m.frames.flags[head] |= PG.DEFERRED;
}
