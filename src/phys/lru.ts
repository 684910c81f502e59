/**
 * LRU lists as data: five per node and memory cgroup. The code that scans them is in reclaim/.
 *
 * Entry: lruAdd, lruDel and the moves between lists.
 * Owns:  flags LRU, ACTIVE, UNEVICTABLE of heads; m.lruPages, zone.lruPages, nr_inactive_anon .. nr_unevictable.
 * Holds: a folio is one entry, every size counts its base pages (PHYS-086). Which list a folio is on follows from its
 *        flags: UNEVICTABLE, else SWAPBACKED (anon) or not (file), else ACTIVE. So the flags change only while the folio
 *        is off the list, or through this file. A folio's memcg does not change while it is on a list.
 */

import type { Pfn } from "../base/address.ts";
import { assert } from "../base/assert.ts";
import { VMSTAT } from "../base/counters.ts";
import { addAfter, addHead, addTail, listTail, unlink } from "../base/int-list.ts";
import { zoneOf } from "./buddy.ts";
import { PG } from "./frame-table.ts";
import {
  LRU,
  type LruList,
  type MemcgId,
  type NodeId,
  NR_LRU_LISTS,
  PAGEBLOCK_ORDER,
  type PhysState,
  type Zone,
} from "./state.ts";

/** nr_inactive_anon and the four after it stand in the order of the lists. */
const FIRST_COUNTER = VMSTAT.nr_inactive_anon;
/** Flags that decide on which list a folio is. */
const LISTED_BY = PG.UNEVICTABLE | PG.SWAPBACKED | PG.ACTIVE;

/** The list a folio belongs on by its flags. */
export function lruListOfFlags(flags: number): LruList {
  if ((flags & PG.UNEVICTABLE) !== 0) return LRU.UNEVICTABLE;
  const active = (flags & PG.ACTIVE) !== 0 ? 1 : 0;
  return ((flags & PG.SWAPBACKED) !== 0 ? LRU.INACTIVE_ANON : LRU.INACTIVE_FILE) + active;
}

/** Number in `m.links` of a memory cgroup's list on a node. */
export function lruListNumber(m: PhysState, memcg: MemcgId, node: NodeId, list: LruList): number {
  return m.firstLruList + lruSlot(m, memcg, node, list);
}

/** Base pages on a memory cgroup's list on a node. */
export function lruSize(m: PhysState, memcg: MemcgId, node: NodeId, list: LruList): number {
  return m.lruPages[lruSlot(m, memcg, node, list)];
}

/** The folio that has been on the list longest, or -1. */
export function lruOldest(m: PhysState, memcg: MemcgId, node: NodeId, list: LruList): Pfn {
  return listTail(m.links, lruListNumber(m, memcg, node, list));
}

/** Puts a folio that is on no list at the head of the one its flags say (PHYS-087: inactive unless ACTIVE is set). */
export function lruAdd(m: PhysState, pfn: Pfn): void {
  const flags = m.frames.flags[pfn];
  assert((flags & PG.LRU) === 0, "folio is on an LRU list already");
  m.frames.flags[pfn] = flags | PG.LRU;
  const list = lruListOfFlags(flags);
  addHead(m.links, count(m, pfn, list, 1), pfn);
}

/** Takes a folio off its list; its other flags stay, so that lruAdd would put it on the same list again. */
export function lruDel(m: PhysState, pfn: Pfn): void {
  const flags = m.frames.flags[pfn];
  assert((flags & PG.LRU) !== 0, "folio is on no LRU list");
  m.frames.flags[pfn] = flags & ~PG.LRU;
  unlink(m.links, pfn);
  count(m, pfn, lruListOfFlags(flags), -1);
}

/**
 * lruDel for the first `nr` of `heads`. Folios that stand beside each other on their list, as pages faulted in order do, are
 * unlinked together, and what shares pageblock, memory cgroup and list is counted together.
 */
export function lruDelAll(m: PhysState, heads: Int32Array, nr: number): void {
  const { flags, order, memcg } = m.frames;
  const { next, prev } = m.links;
  for (let i = 0; i < nr; ) {
    const first = heads[i];
    const bits = flags[first];
    const list = lruListOfFlags(bits);
    const group = memcg[first];
    const block = first >>> PAGEBLOCK_ORDER;
    let nrPages = 0;
    while (i < nr) {
      const pfn = heads[i];
      const isAlike = pfn >>> PAGEBLOCK_ORDER === block && memcg[pfn] === group;
      if (!isAlike || ((flags[pfn] ^ bits) & LISTED_BY) !== 0) break;
      // From `pfn` towards the head of the list: that is how pages stand that were added one after the other.
      let last = pfn;
      for (;;) {
        assert((flags[last] & PG.LRU) !== 0, "folio is on no LRU list");
        flags[last] &= ~PG.LRU;
        nrPages += 1 << order[last];
        i++;
        const beside = prev[last];
        if (i === nr || beside !== heads[i] || beside >>> PAGEBLOCK_ORDER !== block) break;
        last = beside;
      }
      const after = next[pfn];
      const before = prev[last];
      next[before] = after;
      prev[after] = before;
    }
    lruForget(m, zoneOf(m, first), group, list, nrPages);
  }
}

/** Takes pages of folios that were unlinked by the caller out of the sizes of their list. */
export function lruForget(
  m: PhysState,
  zone: Zone,
  memcg: MemcgId,
  list: LruList,
  nrPages: number,
): void {
  m.lruPages[lruSlot(m, memcg, zone.node, list)] -= nrPages;
  zone.lruPages[list] -= nrPages;
  m.vmstat[FIRST_COUNTER + list] -= nrPages;
}

/** To the head of its list: it will be looked at last. */
export function lruRefresh(m: PhysState, pfn: Pfn): void {
  unlink(m.links, pfn);
  addHead(m.links, currentList(m, pfn), pfn);
}

/** To the tail of its list: it will be looked at next. */
export function lruRotate(m: PhysState, pfn: Pfn): void {
  unlink(m.links, pfn);
  addTail(m.links, currentList(m, pfn), pfn);
}

/** To the head of the active list; counts pgactivate. No effect on active and unevictable folios. */
export function lruActivate(m: PhysState, pfn: Pfn): void {
  if ((m.frames.flags[pfn] & (PG.ACTIVE | PG.UNEVICTABLE)) !== 0) return;
  relist(m, pfn, 0, PG.ACTIVE);
  m.vmstat[VMSTAT.pgactivate] += 1 << m.frames.order[pfn];
}

/**
 * The kernel looked a page up for its owner: the folio is referenced the first time, the second time it goes to the active
 * list, not referenced. Active and unevictable ones are only referenced (ANON-071).
 */
export function lruMarkAccessed(m: PhysState, pfn: Pfn): void {
  const { flags } = m.frames;
  const bits = flags[pfn];
  if ((bits & PG.REFERENCED) === 0) {
    flags[pfn] = bits | PG.REFERENCED;
  } else if ((bits & (PG.ACTIVE | PG.UNEVICTABLE | PG.LRU)) === PG.LRU) {
    lruActivate(m, pfn);
    flags[pfn] &= ~PG.REFERENCED;
  }
}

/** To the head of the inactive list; counts pgdeactivate. No effect on inactive and unevictable folios. */
export function lruDeactivate(m: PhysState, pfn: Pfn): void {
  if ((m.frames.flags[pfn] & (PG.ACTIVE | PG.UNEVICTABLE)) !== PG.ACTIVE) return;
  relist(m, pfn, PG.ACTIVE, 0);
  m.vmstat[VMSTAT.pgdeactivate] += 1 << m.frames.order[pfn];
}

/** PHYS-105: MADV_FREE. An anonymous folio becomes clean, not swap-backed, and goes to inactive_file; counts pglazyfree. */
export function lruLazyFree(m: PhysState, pfn: Pfn): void {
  if ((m.frames.flags[pfn] & (PG.SWAPBACKED | PG.UNEVICTABLE)) !== PG.SWAPBACKED) return;
  relist(m, pfn, PG.SWAPBACKED | PG.ACTIVE | PG.REFERENCED | PG.DIRTY, 0);
  m.vmstat[VMSTAT.pglazyfree] += 1 << m.frames.order[pfn];
}

/** A lazily freed folio that was written again: back to the anonymous lists. */
export function lruSetSwapBacked(m: PhysState, pfn: Pfn): void {
  if ((m.frames.flags[pfn] & PG.SWAPBACKED) === 0) relist(m, pfn, 0, PG.SWAPBACKED);
}

/** PHYS-089: a folio mapped whole into locked memory leaves the evictable lists. nr_mlock is the caller's. */
export function lruSetUnevictable(m: PhysState, pfn: Pfn): void {
  if ((m.frames.flags[pfn] & PG.UNEVICTABLE) === 0) relist(m, pfn, PG.ACTIVE, PG.UNEVICTABLE);
}

/** PHYS-089: the reverse; the folio goes to an inactive list. */
export function lruSetEvictable(m: PhysState, pfn: Pfn): void {
  if ((m.frames.flags[pfn] & PG.UNEVICTABLE) !== 0) relist(m, pfn, PG.UNEVICTABLE, 0);
}

/**
 * A folio on an LRU list was split: the new heads, order 2^newOrder apart, are linked behind the first. To be called when
 * their `order`, `memcg` and flags are those of the pieces, LRU not yet set. Sizes do not change.
 */
export function lruSplit(m: PhysState, head: Pfn, oldOrder: number, newOrder: number): void {
  assert((m.frames.flags[head] & PG.LRU) !== 0, "splitting the list entry of a folio on no list");
  const end = head + (1 << oldOrder);
  let before = head;
  for (let pfn = head + (1 << newOrder); pfn < end; pfn += 1 << newOrder) {
    m.frames.flags[pfn] |= PG.LRU;
    addAfter(m.links, before, pfn);
    before = pfn;
  }
}

/** Moves a folio to the head of the list its changed flags say; off the lists only the flags change. */
function relist(m: PhysState, pfn: Pfn, clear: number, set: number): void {
  const before = m.frames.flags[pfn];
  const after = (before & ~clear) | set;
  m.frames.flags[pfn] = after;
  if ((before & PG.LRU) === 0) return;
  unlink(m.links, pfn);
  count(m, pfn, lruListOfFlags(before), -1);
  addHead(m.links, count(m, pfn, lruListOfFlags(after), 1), pfn);
}

function currentList(m: PhysState, pfn: Pfn): number {
  const flags = m.frames.flags[pfn];
  assert((flags & PG.LRU) !== 0, "folio is on no LRU list");
  return lruListNumber(m, m.frames.memcg[pfn], zoneOf(m, pfn).node, lruListOfFlags(flags));
}

/** Adds the folio's pages, times `sign`, to all sizes of a list; returns the list's number. */
function count(m: PhysState, pfn: Pfn, list: LruList, sign: 1 | -1): number {
  const zone = zoneOf(m, pfn);
  const pages = sign * (1 << m.frames.order[pfn]);
  const slot = lruSlot(m, m.frames.memcg[pfn], zone.node, list);
  m.lruPages[slot] += pages;
  zone.lruPages[list] += pages;
  m.vmstat[FIRST_COUNTER + list] += pages;
  return m.firstLruList + slot;
}

function lruSlot(m: PhysState, memcg: MemcgId, node: NodeId, list: LruList): number {
  return (memcg * m.nodes.length + node) * NR_LRU_LISTS + list;
}
