/**
 * Memory for pages that come back from swap: how large a folio may be swapped in at once, and single pages of the swap cache.
 *
 * Entry: allocForSwapIn, isOnePiece, readIntoCache.
 * Rules: PHYS-112, 113.
 */

import { addrOf, type Pfn } from "../base/address.ts";
import { NR_THP_STATS, THP_STAT } from "../base/counters.ts";
import { allowedOrders, fitsOrder, hugeGfp } from "../huge/eligibility.ts";
import type { HugeState } from "../huge/knobs.ts";
import { putFolio } from "../mm/folio.ts";
import { ENTRY } from "../mm/page-tables.ts";
import type { Mm } from "../mm/state.ts";
import { VM_UFFD, type Vma } from "../mm/vma.ts";
import { allocFolio } from "../phys/alloc.ts";
import { NO_PFN, PG } from "../phys/frame-table.ts";
import { GFP_HIGHUSER_MOVABLE } from "../phys/gfp.ts";
import { lruAdd } from "../phys/lru.ts";
import { chargeFolio } from "../phys/memcg.ts";
import { addToSwapCache } from "../swap/cache.ts";
import { deviceOf, type SwapEntry, slotOf } from "../swap/state.ts";
import { readFromSwap } from "../swap/transfer.ts";
import { noteRefault } from "../swap/workingset.ts";

/** Orders 2..8: those PTEs map. */
const MTHP_ORDERS = 0x1fc;

/** A charged folio of the largest order that may be swapped in at once, or of a smaller one; NO_PFN if there is none. */
export function allocForSwapIn(
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
