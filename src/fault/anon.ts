/**
 * Faults on private anonymous memory where nothing is mapped yet.
 *
 * Entry: faultAnonHuge (empty PMD entry), faultAnonPte (empty PTE).
 * Rules: ANON-060..072, 080, 100..107. A failed larger folio always falls back; the program never notices (ANON-115).
 */

import { addrOf, HUGE_ORDER, type Pfn, PTES_PER_REGION } from "../base/address.ts";
import { NR_THP_STATS, THP_STAT, VMSTAT } from "../base/counters.ts";
import { allowedOrders, fitsOrder, hugeGfp } from "../huge/eligibility.ts";
import { useHugeZero } from "../huge/huge-zero.ts";
import type { HugeState } from "../huge/knobs.ts";
import { prepareAnonVma } from "../mm/anon-vma.ts";
import { putFolio, queueMaybeUnderused } from "../mm/folio.ts";
import { registerWithKhugepaged } from "../mm/khugepaged-list.ts";
import { mlockFolio } from "../mm/mlock.ts";
import { ENTRY, LEVEL_PTE, NO_TABLE } from "../mm/page-tables.ts";
import { setHugeEntry } from "../mm/pmd.ts";
import { addAnonPmd, addAnonPtes, mapNewAnonPage, setAnonOwner } from "../mm/rmap.ts";
import type { Mm } from "../mm/state.ts";
import { allocTable, freeTable } from "../mm/table-alloc.ts";
import { VM, VM_SPECIAL, VM_UFFD, type Vma } from "../mm/vma.ts";
import { allocFolio } from "../phys/alloc.ts";
import { NO_PFN, PG } from "../phys/frame-table.ts";
import { GFP, GFP_HIGHUSER_MOVABLE } from "../phys/gfp.ts";
import { lruAdd } from "../phys/lru.ts";
import { chargeFolio } from "../phys/memcg.ts";
import { FAULT, FAULT_MARK, FAULT_OOM, FAULT_ORDER_SHIFT, FAULT_SIGBUS } from "./kinds.ts";

const SPURIOUS = FAULT.spurious;
const ANON_4K = FAULT["anon 4k"];
const ZERO_4K = FAULT["zero 4k"];
const ANON_MTHP = FAULT["anon mTHP"];
const ANON_2M = FAULT["anon 2M"] | (HUGE_ORDER << FAULT_ORDER_SHIFT);
const ZERO_2M = FAULT["zero 2M"] | (HUGE_ORDER << FAULT_ORDER_SHIFT);
/** Orders 2..8: those PTEs map. */
const MTHP_ORDERS = 0x1fc;
/** No huge mapping was made; the fault goes on with PTEs. */
export const FALLBACK = -1;
/** Of lookAgain: go on. */
const ALL_CLEAR = -2;
const NEW_ANON = PG.ANON | PG.SWAPBACKED | PG.UPTODATE | PG.ANON_EXCLUSIVE;

/** True if an empty PMD entry here may become huge. */
export function mayFaultHuge(m: HugeState, mm: Mm, vma: Vma, region: number): boolean {
  const isAllowed = (allowedOrders(m, mm, vma) & (1 << HUGE_ORDER)) !== 0;
  return isAllowed && fitsOrder(vma, addrOf(region, 0), HUGE_ORDER);
}

/** A fault in a region where mayFaultHuge holds. The packed result, or FALLBACK. */
export function faultAnonHuge(
  m: HugeState,
  mm: Mm,
  vma: Vma,
  region: number,
  slot: number,
  access: "read" | "write",
): number {
  // Also for the zero folio: fork copies only VMAs that have an anon_vma (ANON-062, ANON-087).
  prepareAnonVma(m, mm, vma);
  if ((vma.flags & VM_SPECIAL) === 0) registerWithKhugepaged(m, mm);
  if (access === "read" && m.knobs.useZeroPage) return mapHugeZero(m, mm, vma, slot);
  const head = allocHugeFolio(m, mm, vma);
  if (head === NO_PFN) return FALLBACK;
  const table = allocTable(m, mm, LEVEL_PTE);
  if (table === NO_TABLE) {
    putFolio(m, head, 1);
    return FAULT_OOM;
  }
  const refused = lookAgain(m, mm, vma, slot);
  if (refused !== ALL_CLEAR) {
    freeTable(m, mm, table);
    putFolio(m, head, 1);
    return refused;
  }
  mapNewHuge(m, mm, vma, region, head);
  // A folio made for a read fault is marked dirty all the same (ANON-070).
  setHugeEntry(m, slot, head, newEntryFlags(vma), table);
  return ANON_2M;
}

/**
 * Under the page-table lock, after memory was found: another thread may have been faster (ANON-331), the address space may be
 * ending (ANON-337), or the fault may be a userfaultfd's (ANON-064). ALL_CLEAR, or the fault's result.
 */
function lookAgain(m: HugeState, mm: Mm, vma: Vma, slot: number): number {
  if (m.tables.flags[slot] !== 0) return SPURIOUS;
  const isRefused = mm.isUnstable || (vma.flags & VM.UFFD_MISSING) !== 0;
  return isRefused ? FAULT_SIGBUS : ALL_CLEAR;
}

function mapHugeZero(m: HugeState, mm: Mm, vma: Vma, slot: number): number {
  if (!useHugeZero(m, mm)) {
    m.vmstat[VMSTAT.thp_fault_fallback]++; // ANON-080: not the per-size counter
    return FALLBACK;
  }
  const table = allocTable(m, mm, LEVEL_PTE);
  if (table === NO_TABLE) return FAULT_OOM;
  const refused = lookAgain(m, mm, vma, slot);
  if (refused !== ALL_CLEAR) {
    freeTable(m, mm, table);
    return refused;
  }
  setHugeEntry(m, slot, m.hugeZero.pfn, ENTRY.SPECIAL | ENTRY.YOUNG, table);
  return ZERO_2M;
}

/** A zeroed, charged order-9 folio for a fault, or NO_PFN with the fallback counted (ANON-065, ANON-066). */
export function allocHugeFolio(m: HugeState, mm: Mm, vma: Vma): Pfn {
  const head = takeHugeFolio(m, vma);
  return head === NO_PFN || chargeHugeFolio(m, mm, vma, head) ? head : NO_PFN;
}

/** A zeroed order-9 folio that is charged to nobody yet, or NO_PFN with the fallback counted (ANON-065). */
export function takeHugeFolio(m: HugeState, vma: Vma): Pfn {
  const head = allocNearFirst(m, hugeGfp(m, vma));
  if (head !== NO_PFN) return head;
  m.vmstat[VMSTAT.thp_fault_fallback]++;
  m.thpStats[HUGE_ORDER * NR_THP_STATS + THP_STAT.anon_fault_fallback]++;
  return NO_PFN;
}

/** False if the group has no room: the folio is freed and the fallback counted (ANON-066). */
export function chargeHugeFolio(m: HugeState, mm: Mm, vma: Vma, head: Pfn): boolean {
  if (mm.memcg === 0 || chargeFolio(m, head, mm.memcg, hugeGfp(m, vma)) === 0) return true;
  m.vmstat[VMSTAT.thp_fault_fallback]++;
  m.vmstat[VMSTAT.thp_fault_fallback_charge]++;
  m.thpStats[HUGE_ORDER * NR_THP_STATS + THP_STAT.anon_fault_fallback]++;
  m.thpStats[HUGE_ORDER * NR_THP_STATS + THP_STAT.anon_fault_fallback_charge]++;
  putFolio(m, head, 1);
  return false;
}

/** The local node with one light try; all nodes only if the effort includes direct reclaim (ANON-111). */
function allocNearFirst(m: HugeState, gfp: number): Pfn {
  const node = m.nodeOfCpu[m.cpu];
  const head = allocFolio(m, HUGE_ORDER, gfp | GFP.THISNODE | GFP.NORETRY, node);
  if (head !== NO_PFN || (gfp & GFP.DIRECT_RECLAIM) === 0) return head;
  return allocFolio(m, HUGE_ORDER, gfp, node);
}

/** Everything a new PMD-mapped folio changes besides its entry (ANON-063). */
export function mapNewHuge(m: HugeState, mm: Mm, vma: Vma, region: number, head: Pfn): void {
  m.frames.flags[head] = NEW_ANON;
  setAnonOwner(m, head, vma, vma.anonVma!, region, 0);
  addAnonPmd(m, mm, head);
  lruAdd(m, head);
  if ((vma.flags & VM.LOCKED) !== 0) mlockFolio(m, head);
  queueMaybeUnderused(m, head);
  mm.rssAnon += PTES_PER_REGION;
  m.vmstat[VMSTAT.thp_fault_alloc]++;
  m.thpStats[HUGE_ORDER * NR_THP_STATS + THP_STAT.anon_fault_alloc]++;
  m.thpStats[HUGE_ORDER * NR_THP_STATS + THP_STAT.nr_anon]++;
}

/** Entry bits of a page that was just made for this VMA. */
export function newEntryFlags(vma: Vma): number {
  const isWritable = (vma.flags & VM.WRITE) !== 0;
  return ENTRY.PRESENT | ENTRY.YOUNG | ENTRY.DIRTY | (isWritable ? ENTRY.WRITE : 0);
}

/** A fault on an empty PTE. The packed result or a negative signal. */
export function faultAnonPte(
  m: HugeState,
  mm: Mm,
  vma: Vma,
  region: number,
  pteIndex: number,
  table: number,
  access: "read" | "write",
): number {
  if (mm.isUnstable || (vma.flags & VM.UFFD_MISSING) !== 0) return FAULT_SIGBUS; // ANON-064, 337
  if (access === "read") {
    const slot = table * 512 + pteIndex;
    m.tables.payload[slot] = m.zeroPfn;
    m.tables.flags[slot] = ENTRY.PRESENT | ENTRY.SPECIAL | ENTRY.YOUNG;
    m.tables.nrUsed[table]++;
    return ZERO_4K;
  }
  if (vma.anonVma === null) prepareAnonVma(m, mm, vma);
  let marks = 0;
  const isArmed = (vma.flags & VM_UFFD) !== 0; // ANON-106
  const orders = isArmed ? 0 : allowedOrders(m, mm, vma) & MTHP_ORDERS;
  if (orders !== 0) {
    const order = highestEmptyOrder(m, vma, region, pteIndex, table, orders);
    const result = order > 0 ? faultMthp(m, mm, vma, region, pteIndex, table, orders, order) : 0;
    if (result > 0) return result;
    if (order > 0) marks = FAULT_MARK.FELL_BACK;
  }
  const pfn = newAnonPage(m, mm, vma, region, pteIndex);
  if (pfn === NO_PFN) return FAULT_OOM;
  const slot = table * 512 + pteIndex;
  m.tables.payload[slot] = pfn;
  m.tables.flags[slot] = newEntryFlags(vma);
  m.tables.nrUsed[table]++;
  return ANON_4K | marks;
}

/** A zeroed 4K page, charged, counted as mapped by `mm`, on the LRU; NO_PFN if there is none. */
export function newAnonPage(m: HugeState, mm: Mm, vma: Vma, region: number, pteIndex: number): Pfn {
  const pfn = allocFolio(m, 0, GFP_HIGHUSER_MOVABLE, m.nodeOfCpu[m.cpu]);
  if (pfn === NO_PFN) return NO_PFN;
  if (mm.memcg !== 0 && chargeFolio(m, pfn, mm.memcg, GFP_HIGHUSER_MOVABLE) !== 0) {
    putFolio(m, pfn, 1);
    return NO_PFN;
  }
  m.frames.flags[pfn] = NEW_ANON;
  setAnonOwner(m, pfn, vma, vma.anonVma!, region, pteIndex);
  mapNewAnonPage(m, pfn);
  lruAdd(m, pfn);
  if ((vma.flags & VM.LOCKED) !== 0) mlockFolio(m, pfn);
  mm.rssAnon++;
  return pfn;
}

/** The highest of `orders` whose whole aligned block lies in the VMA and has no entry yet; 0 if none (ANON-100). */
function highestEmptyOrder(
  m: HugeState,
  vma: Vma,
  region: number,
  pteIndex: number,
  table: number,
  orders: number,
): number {
  const addr = addrOf(region, pteIndex);
  for (let order = HUGE_ORDER - 1; order >= 2; order--) {
    if ((orders & (1 << order)) === 0 || !fitsOrder(vma, addr, order)) continue;
    const first = table * 512 + (pteIndex & -(1 << order));
    let slot = first;
    while (slot < first + (1 << order) && m.tables.flags[slot] === 0) slot++;
    if (slot === first + (1 << order)) return order;
  }
  return 0;
}

/** Tries `order` and the smaller allowed ones. The packed result, or 0 if none could be allocated (ANON-101). */
function faultMthp(
  m: HugeState,
  mm: Mm,
  vma: Vma,
  region: number,
  pteIndex: number,
  table: number,
  orders: number,
  highest: number,
): number {
  let marks = 0;
  for (let order = highest; order >= 2; order--) {
    if ((orders & (1 << order)) === 0) continue;
    const head = allocMthp(m, mm, vma, order);
    if (head === NO_PFN) {
      marks = FAULT_MARK.FELL_BACK;
      continue;
    }
    mapMthp(m, mm, vma, region, pteIndex & -(1 << order), table, head, order);
    return ANON_MTHP | (order << FAULT_ORDER_SHIFT) | marks;
  }
  return 0;
}

function allocMthp(m: HugeState, mm: Mm, vma: Vma, order: number): Pfn {
  const stats = order * NR_THP_STATS;
  const gfp = hugeGfp(m, vma);
  const head = allocFolio(m, order, gfp, m.nodeOfCpu[m.cpu]);
  if (head !== NO_PFN && mm.memcg !== 0 && chargeFolio(m, head, mm.memcg, gfp) !== 0) {
    m.thpStats[stats + THP_STAT.anon_fault_fallback_charge]++;
    m.thpStats[stats + THP_STAT.anon_fault_fallback]++;
    putFolio(m, head, 1);
    return NO_PFN;
  }
  if (head === NO_PFN) m.thpStats[stats + THP_STAT.anon_fault_fallback]++;
  return head;
}

/** Maps a new folio of order 2..8 by PTEs: one reference and one mapping each (ANON-102). */
function mapMthp(
  m: HugeState,
  mm: Mm,
  vma: Vma,
  region: number,
  firstPte: number,
  table: number,
  head: Pfn,
  order: number,
): void {
  const nr = 1 << order;
  const base = table * 512 + firstPte;
  const entry = newEntryFlags(vma);
  for (let page = head; page < head + nr; page++) m.frames.flags[page] = PG.ANON_EXCLUSIVE;
  m.frames.flags[head] = NEW_ANON;
  m.frames.refcount[head] = nr;
  setAnonOwner(m, head, vma, vma.anonVma!, region, firstPte);
  // The count first: addAnonPtes reads the order.
  m.thpStats[order * NR_THP_STATS + THP_STAT.nr_anon]++;
  m.thpStats[order * NR_THP_STATS + THP_STAT.anon_fault_alloc]++;
  addAnonPtes(m, mm, head, nr);
  lruAdd(m, head);
  if ((vma.flags & VM.LOCKED) !== 0) mlockFolio(m, head);
  for (let i = 0; i < nr; i++) m.tables.payload[base + i] = head + i;
  m.tables.flags.fill(entry, base, base + nr);
  m.tables.nrUsed[table] += nr;
  mm.rssAnon += nr;
}
