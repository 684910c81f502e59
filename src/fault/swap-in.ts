/**
 * Faults on swap entries: the page comes back from the swap cache or from its device.
 *
 * Entry: faultSwap; readIntoCache for MADV_WILLNEED and swapoff, nameSwappedPage for swapoff.
 * Rules: ANON-267, PHYS-087, 112, 113, 115, 116. Devices answer at once, as zram does, so a slot that only this entry names is
 *        read past the swap cache and freed; one that others name goes through the cache, so that all get the same page.
 *        No page is read ahead of its use.
 */

import { addrOf, type Pfn } from "../base/address.ts";
import { NR_THP_STATS, THP_STAT, VMSTAT } from "../base/counters.ts";
import { allowedOrders, fitsOrder, hugeGfp } from "../huge/eligibility.ts";
import type { HugeState } from "../huge/knobs.ts";
import { putFolio } from "../mm/folio.ts";
import { mlockFolio } from "../mm/mlock.ts";
import { ENTRY } from "../mm/page-tables.ts";
import { addAnonPtes, setAnonOwner } from "../mm/rmap.ts";
import type { Mm } from "../mm/state.ts";
import { VM, VM_ACCESS, VM_UFFD, type Vma } from "../mm/vma.ts";
import { allocFolio } from "../phys/alloc.ts";
import { NO_PFN, PG } from "../phys/frame-table.ts";
import { GFP_HIGHUSER_MOVABLE } from "../phys/gfp.ts";
import { lruAdd } from "../phys/lru.ts";
import { chargeFolio } from "../phys/memcg.ts";
import { addToSwapCache, freeSwapOf } from "../swap/cache.ts";
import { freeEntry } from "../swap/entries.ts";
import {
  deviceOf,
  isSwapFull,
  type SwapEntry,
  slotOf,
  swapCachedPage,
  swapCountOf,
} from "../swap/state.ts";
import { readFromSwap } from "../swap/transfer.ts";
import { noteRefault } from "../swap/workingset.ts";
import { faultPteWrite } from "./cow.ts";
import { FAULT, FAULT_MARK, FAULT_OOM, FAULT_ORDER_SHIFT } from "./kinds.ts";

const SWAP_IN = FAULT["swap-in"];
/** Orders 2..8: those PTEs map. */
const MTHP_ORDERS = 0x1fc;

/** A fault on the swap entry in `slot`. The packed result or a negative signal. */
export function faultSwap(
  m: HugeState,
  mm: Mm,
  vma: Vma,
  region: number,
  pteIndex: number,
  slot: number,
  access: "read" | "write",
): number {
  const entry = m.tables.payload[slot];
  let pfn = swapCachedPage(m, entry);
  if (pfn === NO_PFN && swapCountOf(m, entry) === 1)
    return readPastCache(m, mm, vma, region, pteIndex, slot, access);
  const marks = pfn === NO_PFN ? FAULT_MARK.MAJOR : 0;
  if (pfn === NO_PFN) {
    pfn = readIntoCache(m, mm.memcg, entry);
    if (pfn === NO_PFN) return FAULT_OOM;
    m.vmstat[VMSTAT.pgmajfault]++;
  }
  m.frames.refcount[pfn]++; // the mapping's
  nameSwappedPage(m, pfn, vma, entry, region, pteIndex);
  const isExclusive = takeFromCache(m, vma, slot, pfn, access);
  mapSwappedIn(m, mm, vma, slot, pfn, isExclusive, access);
  return access === "write"
    ? goOnWriting(m, mm, vma, region, pteIndex, slot, marks)
    : SWAP_IN | marks;
}

/** The page is there; where others may see it, or writes are watched, the same fault goes on as a write to a mapped page. */
function goOnWriting(
  m: HugeState,
  mm: Mm,
  vma: Vma,
  region: number,
  pteIndex: number,
  slot: number,
  marks: number,
): number {
  if ((m.tables.flags[slot] & ENTRY.WRITE) !== 0) return SWAP_IN | marks;
  const result = faultPteWrite(m, mm, vma, region, pteIndex, slot);
  return result < 0 ? result : result | marks;
}

/** Drops the entry in `slot` in favour of its cached page. True if the page is this mapping's alone. */
function takeFromCache(
  m: HugeState,
  vma: Vma,
  slot: number,
  pfn: Pfn,
  access: "read" | "write",
): boolean {
  const { refcount, flags } = m.frames;
  const { tables } = m;
  freeEntry(m, tables.payload[slot]);
  // PHYS-115: slot and page are both kept while there is room, for a page that is not written may be dropped again.
  const isLocked = (vma.flags & VM.LOCKED) !== 0 || (flags[pfn] & PG.MLOCKED) !== 0;
  if (isLocked || isSwapFull(m) || (access === "write" && refcount[pfn] === 2)) freeSwapOf(m, pfn);
  return (tables.flags[slot] & ENTRY.EXCLUSIVE) !== 0 || refcount[pfn] === 1;
}

/** A page that was read before anyone mapped it belongs where the page did that was swapped out. Before its slot is freed. */
export function nameSwappedPage(
  m: HugeState,
  head: Pfn,
  vma: Vma,
  entry: SwapEntry,
  region: number,
  pteIndex: number,
): void {
  const { frames } = m;
  if ((frames.flags[head] & PG.ANON) !== 0) return;
  frames.flags[head] |= PG.ANON;
  // Not the anon_vma of this VMA: the others that share the page must be found from it too.
  const owner = deviceOf(m, entry).owner[slotOf(entry)];
  setAnonOwner(m, head, vma, m.anonVmas[owner]!, region, pteIndex);
}

/** Puts mappings of the folio's pages in the place of as many swap entries from `slot` on. */
function mapSwappedIn(
  m: HugeState,
  mm: Mm,
  vma: Vma,
  slot: number,
  head: Pfn,
  isExclusive: boolean,
  access: "read" | "write",
): void {
  const { tables, frames } = m;
  const nr = 1 << frames.order[head];
  const kept = tables.flags[slot] & (ENTRY.UFFD_WP | ENTRY.SOFT_DIRTY);
  let bits = ENTRY.PRESENT | ENTRY.YOUNG | kept;
  // Memory without rights is brought back by a collapse only (COLL-126).
  if ((vma.flags & VM_ACCESS) === 0) bits |= ENTRY.PROTNONE;
  const mayWrite = isExclusive && (vma.flags & VM.WRITE) !== 0 && (kept & ENTRY.UFFD_WP) === 0;
  if (mayWrite) bits |= ENTRY.WRITE;
  if (mayWrite && access === "write") bits |= ENTRY.DIRTY;
  for (let i = 0; i < nr; i++) {
    tables.payload[slot + i] = head + i;
    tables.flags[slot + i] = bits;
    if (isExclusive) frames.flags[head + i] |= PG.ANON_EXCLUSIVE;
  }
  addAnonPtes(m, mm, head, nr);
  if ((vma.flags & VM.LOCKED) !== 0) mlockFolio(m, head);
  mm.rssAnon += nr;
  mm.nrSwapEntries -= nr;
}

/** PHYS-112: nobody else needs the slot, so it is free as soon as it is read. */
function readPastCache(
  m: HugeState,
  mm: Mm,
  vma: Vma,
  region: number,
  pteIndex: number,
  slot: number,
  access: "read" | "write",
): number {
  const head = allocForSwapIn(m, mm, vma, region, pteIndex, slot);
  if (head === NO_PFN) return FAULT_OOM;
  const order = m.frames.order[head];
  const nr = 1 << order;
  const first = slot - (pteIndex & (nr - 1));
  const entry = m.tables.payload[first];
  m.vmstat[VMSTAT.pgmajfault]++;
  m.frames.flags[head] = PG.SWAPBACKED | PG.UPTODATE;
  m.frames.refcount[head] = nr;
  readFromSwap(m, entry, head);
  noteRefault(m, head, entry);
  nameSwappedPage(m, head, vma, entry, region, pteIndex & -nr);
  for (let i = 0; i < nr; i++) freeEntry(m, entry + i);
  if (order > 0) {
    m.thpStats[order * NR_THP_STATS + THP_STAT.nr_anon]++;
    m.thpStats[order * NR_THP_STATS + THP_STAT.swpin]++;
  }
  mapSwappedIn(m, mm, vma, first, head, true, access);
  lruAdd(m, head);
  const marks = FAULT_MARK.MAJOR | (order << FAULT_ORDER_SHIFT);
  return access === "write"
    ? goOnWriting(m, mm, vma, region, pteIndex, slot, marks)
    : SWAP_IN | marks;
}

/** A charged folio of the largest order that may be swapped in at once, or of a smaller one; NO_PFN if there is none. */
function allocForSwapIn(
  m: HugeState,
  mm: Mm,
  vma: Vma,
  region: number,
  pteIndex: number,
  slot: number,
): Pfn {
  const mayBeLarge = m.profile.largeSwapIn && (vma.flags & VM_UFFD) === 0;
  const orders = mayBeLarge ? allowedOrders(m, mm, vma) & MTHP_ORDERS : 0;
  let order = orders === 0 ? 0 : largestSwapIn(m, vma, region, pteIndex, slot, orders);
  for (; order >= 2; order--) {
    if ((orders & (1 << order)) === 0) continue;
    const head = allocLarge(m, mm, vma, order);
    if (head !== NO_PFN) return head;
  }
  return allocCharged(m, mm.memcg);
}

/** PHYS-113: the largest of `orders` whose whole block can come from the device in one piece; 0 if none. */
function largestSwapIn(
  m: HugeState,
  vma: Vma,
  region: number,
  pteIndex: number,
  slot: number,
  orders: number,
): number {
  for (let order = 8; order >= 2; order--) {
    if ((orders & (1 << order)) === 0) continue;
    if (!fitsOrder(vma, addrOf(region, pteIndex), order)) continue;
    if (isOnePiece(m, slot - (pteIndex & ((1 << order) - 1)), 1 << order)) return order;
  }
  return 0;
}

/** Entries that follow each other from an aligned slot, alike, not cached, all marked zero-filled or none. */
function isOnePiece(m: HugeState, firstSlot: number, nr: number): boolean {
  const { payload, flags } = m.tables;
  const bits = flags[firstSlot];
  const entry = payload[firstSlot];
  if ((bits & ENTRY.SWAP) === 0 || slotOf(entry) % nr !== 0) return false;
  const { cached, isZero } = deviceOf(m, entry);
  const at = slotOf(entry);
  for (let i = 0; i < nr; i++) {
    if (flags[firstSlot + i] !== bits || payload[firstSlot + i] !== entry + i) return false;
    if (cached[at + i] !== NO_PFN || isZero[at + i] !== isZero[at]) return false;
  }
  return true;
}

function allocLarge(m: HugeState, mm: Mm, vma: Vma, order: number): Pfn {
  const stats = order * NR_THP_STATS;
  const gfp = hugeGfp(m, vma);
  const head = allocFolio(m, order, gfp, m.nodeOfCpu[m.cpu]);
  if (head !== NO_PFN) {
    if (mm.memcg === 0 || chargeFolio(m, head, mm.memcg, gfp) === 0) return head;
    m.thpStats[stats + THP_STAT.swpin_fallback_charge]++;
    putFolio(m, head, 1);
  }
  m.thpStats[stats + THP_STAT.swpin_fallback]++;
  return NO_PFN;
}

function allocCharged(m: HugeState, memcg: number): Pfn {
  const pfn = allocFolio(m, 0, GFP_HIGHUSER_MOVABLE, m.nodeOfCpu[m.cpu]);
  if (pfn === NO_PFN || memcg === 0) return pfn;
  if (chargeFolio(m, pfn, memcg, GFP_HIGHUSER_MOVABLE) === 0) return pfn;
  putFolio(m, pfn, 1);
  return NO_PFN;
}

/** Reads a slot into a page of the swap cache that nobody maps yet, charged to `memcg`; NO_PFN if there is none. */
export function readIntoCache(m: HugeState, memcg: number, entry: SwapEntry): Pfn {
  const pfn = allocCharged(m, memcg);
  if (pfn === NO_PFN) return NO_PFN;
  m.frames.flags[pfn] = PG.SWAPBACKED | PG.UPTODATE;
  readFromSwap(m, entry, pfn);
  noteRefault(m, pfn, entry);
  addToSwapCache(m, pfn, entry);
  lruAdd(m, pfn);
  putFolio(m, pfn, 1); // the cache's reference stays
  return pfn;
}
