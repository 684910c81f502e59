/**
 * Looking at one region of anonymous memory: may its 512 entries become one?
 *
 * Entry: scanRegion.
 * Owns:  thp_scan_exceed_* for what it refuses; the entries in khugepaged's account of its work.
 * Locks: mmap shared, the page table's for the walk. Changes nothing but counters.
 * Rules: COLL-100..111; the order of the checks is the kernel's.
 * Cost:  allocates nothing.
 */

import { PTES_PER_REGION } from "../base/address.ts";
import { VMSTAT } from "../base/counters.ts";
import type { HugeState } from "../huge/knobs.ts";
import { ENTRY, pmdSlotOf } from "../mm/page-tables.ts";
import { isMaybeMappedShared } from "../mm/rmap.ts";
import type { Mm } from "../mm/state.ts";
import { VM_UFFD, type Vma } from "../mm/vma.ts";
import { zoneOf } from "../phys/buddy.ts";
import { PG } from "../phys/frame-table.ts";
import { isFolioBusy, mayFoliosBeBusy } from "../sched/locks.ts";
import type { RegionScan } from "./collapse-op.ts";
import { ACTOR, SCAN, type ScanResult } from "./scan-result.ts";

/** No number of entries exceeds it: MADV_COLLAPSE knows no limits (COLL-014). */
export const NO_LIMIT = PTES_PER_REGION;
/** With swapped pages around, so many of the others must be in use (COLL-102). */
const LEAST_REFERENCED = PTES_PER_REGION / 2;
/** A page: neither the zero page nor something that is not there. */
const KIND = ENTRY.PRESENT | ENTRY.SPECIAL;

/** SUCCEED, or why not; what was seen stands in the record. */
export function scanRegion(m: HugeState, mm: Mm, vma: Vma, op: RegionScan): ScanResult {
  const slot = pmdSlotOf(m.tables, mm.root, op.region);
  const found = findTable(m, slot);
  if (found !== SCAN.SUCCEED) return found;
  const table = m.tables.payload[slot];
  const result = scanPtes(m, mm, vma, op, table * 512);
  if (result !== SCAN.SUCCEED) return result;
  op.nodes = busiestNodes(m, table);
  return judge(m, op);
}

/** SUCCEED if the PMD entry is a PTE table (COLL-100). */
export function findTable(m: HugeState, pmdSlot: number): ScanResult {
  if (pmdSlot < 0) return SCAN.PMD_NULL;
  const entry = m.tables.flags[pmdSlot];
  if (entry === 0) return SCAN.PMD_NONE;
  if ((entry & ENTRY.TABLE) !== 0) return SCAN.SUCCEED;
  return (entry & ENTRY.PRESENT) !== 0 ? SCAN.PMD_MAPPED : SCAN.PMD_NULL;
}

/** COLL-101: the walk, in the order of its steps a to l. */
function scanPtes(m: HugeState, mm: Mm, vma: Vma, op: RegionScan, base: number): ScanResult {
  const { flags, payload } = m.tables;
  const { order, mapcount, largeMapcount, refcount } = m.frames;
  const folioFlags = m.frames.flags;
  const isKhugepaged = op.actor === ACTOR.khugepaged;
  const { max_ptes_none, max_ptes_swap, max_ptes_shared } = m.knobs.khugepaged;
  const maxNone = isKhugepaged ? max_ptes_none : NO_LIMIT;
  const maxSwap = isKhugepaged ? max_ptes_swap : NO_LIMIT;
  const maxShared = isKhugepaged ? max_ptes_shared : NO_LIMIT;
  const isArmed = (vma.flags & VM_UFFD) !== 0;
  const mayBeLocked = mayFoliosBeBusy(m);
  let none = 0;
  let unmapped = 0;
  let shared = 0;
  let referenced = 0;
  let writable = 0;
  let lastHead = -1;
  let result: ScanResult = SCAN.SUCCEED;
  let slot = base;
  for (; slot < base + PTES_PER_REGION; slot++) {
    const entry = flags[slot];
    if ((entry & KIND) !== ENTRY.PRESENT) {
      if (entry === 0 || (entry & ENTRY.SPECIAL) !== 0) {
        none++;
        if (none <= maxNone && !isArmed) continue;
        result = SCAN.EXCEED_NONE_PTE;
        break;
      }
      unmapped++;
      if (unmapped <= maxSwap && (entry & ENTRY.UFFD_WP) === 0) continue;
      result = unmapped > maxSwap ? SCAN.EXCEED_SWAP_PTE : SCAN.PTE_UFFD_WP;
      break;
    }
    if ((entry & ENTRY.UFFD_WP) !== 0) {
      result = SCAN.PTE_UFFD_WP;
      break;
    }
    if ((entry & ENTRY.WRITE) !== 0) writable++;
    const pfn = payload[slot];
    const size = 1 << order[pfn];
    const head = pfn & -size;
    const bits = folioFlags[head];
    lastHead = head;
    if ((bits & PG.ANON) === 0) {
      result = SCAN.PAGE_ANON;
      break;
    }
    if (size === 1 ? mapcount[pfn] > 1 : isMaybeMappedShared(m, head)) {
      shared++;
      if (shared > maxShared) {
        result = SCAN.EXCEED_SHARED_PTE;
        break;
      }
    }
    if ((bits & PG.LRU) === 0) {
      result = SCAN.PAGE_LRU;
      break;
    }
    if ((bits & PG.LOCKED) !== 0 || (mayBeLocked && isFolioBusy(m, head))) {
      result = SCAN.PAGE_LOCK;
      break;
    }
    const nrMappings = size === 1 ? mapcount[pfn] : largeMapcount[head];
    if (refcount[head] !== nrMappings + ((bits & PG.SWAPCACHE) !== 0 ? size : 0)) {
      result = SCAN.PAGE_COUNT;
      break;
    }
    if (!isKhugepaged) continue;
    if ((entry & ENTRY.YOUNG) !== 0 || (bits & PG.REFERENCED) !== 0) referenced++;
    else if (m.mmuNotifier !== null && isYoungElsewhere(m, mm, op.region, slot)) referenced++;
  }
  if (isKhugepaged) m.khugepaged.work.nrPtesScanned += Math.min(slot - base + 1, PTES_PER_REGION);
  op.lastHead = lastHead;
  op.none = none;
  op.unmapped = unmapped;
  op.referenced = referenced;
  op.writable = writable;
  countRefusal(m, result);
  return result;
}

/** COLL-109: used through a secondary MMU. */
export function isYoungElsewhere(m: HugeState, mm: Mm, region: number, slot: number): boolean {
  const page = region * PTES_PER_REGION + (slot & 511);
  return m.mmuNotifier?.testYoung?.(mm.id, page, page + 1) === true;
}

/** COLL-111: once per refused region. */
export function countRefusal(m: HugeState, result: ScanResult): void {
  if (result === SCAN.EXCEED_NONE_PTE) m.vmstat[VMSTAT.thp_scan_exceed_none_pte]++;
  if (result === SCAN.EXCEED_SWAP_PTE) m.vmstat[VMSTAT.thp_scan_exceed_swap_pte]++;
  if (result === SCAN.EXCEED_SHARED_PTE) m.vmstat[VMSTAT.thp_scan_exceed_share_pte]++;
}

/** COLL-102: after the walk. */
function judge(m: HugeState, op: RegionScan): ScanResult {
  if (!m.profile.collapsesReadOnly && op.writable === 0) return SCAN.PAGE_RO;
  if (op.actor !== ACTOR.khugepaged) return SCAN.SUCCEED;
  const isIdle = op.referenced === 0;
  const isHalfIdle = op.unmapped > 0 && op.referenced < LEAST_REFERENCED;
  return isIdle || isHalfIdle ? SCAN.LACK_REFERENCED_PAGE : SCAN.SUCCEED;
}

/** A bit for each node that has as many of the pages as any other (COLL-122). */
export function busiestNodes(m: HugeState, table: number): number {
  if (m.nodes.length === 1) return 1;
  let most = 0;
  let nodes = 0;
  for (let node = 0; node < m.nodes.length; node++) {
    const nr = pagesOnNode(m, table, node);
    if (nr > most) nodes = 0;
    if (nr >= most) nodes |= 1 << node;
    most = Math.max(most, nr);
  }
  return nodes;
}

/** How many entries of a PTE table map pages of the node. */
function pagesOnNode(m: HugeState, table: number, node: number): number {
  const { flags, payload } = m.tables;
  let nr = 0;
  for (let slot = table * 512; slot < (table + 1) * 512; slot++)
    if ((flags[slot] & KIND) === ENTRY.PRESENT && zoneOf(m, payload[slot]).node === node) nr++;
  return nr;
}
