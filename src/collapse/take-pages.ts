/**
 * Taking the pages of a region, so that nobody else can use them while they are copied, and giving them back.
 *
 * Entry: takePages (COLL-130), givePagesBack (COLL-131).
 * Locks: mmap exclusive and anon_vma; the PTE table is out of the page tables, so that nobody comes to its entries.
 * Holds: the first `nrTaken` entries are looked at; the folios that they map are locked (PG.LOCKED) and on no LRU list.
 */

import { PTES_PER_REGION } from "../base/address.ts";
import { EVENT } from "../base/events.ts";
import type { HugeState } from "../huge/knobs.ts";
import { ENTRY } from "../mm/page-tables.ts";
import { isMaybeMappedShared } from "../mm/rmap.ts";
import type { Mm } from "../mm/state.ts";
import { VM_UFFD, type Vma } from "../mm/vma.ts";
import { headOf, PG } from "../phys/frame-table.ts";
import { lruAdd, lruDel } from "../phys/lru.ts";
import { isFolioBusy } from "../sched/locks.ts";
import type { CollapseOp, Seen } from "./collapse-op.ts";
import { countRefusal, isYoungElsewhere, NO_LIMIT } from "./scan.ts";
import { ACTOR, SCAN, type ScanResult, traceNumber } from "./scan-result.ts";

const KIND = ENTRY.PRESENT | ENTRY.SPECIAL;

/** What taking has seen. */
type Taken = Omit<Seen, "unmapped">;

/** SUCCEED with every page taken, or why not; then the record says how far it came. */
export function takePages(m: HugeState, mm: Mm, vma: Vma, op: CollapseOp): ScanResult {
  // Counted anew: what the scan has seen is told at the end as it was then (COLL-280).
  const taken: Taken = { lastHead: -1, none: 0, referenced: 0, writable: 0 };
  let result = takeAll(m, mm, vma, op, taken);
  op.nrFilled = taken.none;
  countRefusal(m, result);
  if (result === SCAN.SUCCEED) result = judge(m, op, taken);
  m.events?.emit(
    EVENT.mm_collapse_huge_page_isolate,
    taken.lastHead,
    taken.none,
    taken.referenced,
    traceNumber(m.profile, result),
    taken.writable > 0 ? 1 : 0,
  );
  return result;
}

/** The walk again, under locks: much can have happened since the scan. */
function takeAll(m: HugeState, mm: Mm, vma: Vma, op: CollapseOp, taken: Taken): ScanResult {
  const { flags, payload } = m.tables;
  const { order, mapcount, largeMapcount, refcount } = m.frames;
  const folioFlags = m.frames.flags;
  const isKhugepaged = op.actor === ACTOR.khugepaged;
  const maxNone = isKhugepaged ? m.knobs.khugepaged.max_ptes_none : NO_LIMIT;
  const maxShared = isKhugepaged ? m.knobs.khugepaged.max_ptes_shared : NO_LIMIT;
  const isArmed = (vma.flags & VM_UFFD) !== 0;
  const mayBeLocked = hasFolioLocks(m, op);
  const base = op.pteTable * 512;
  let shared = 0;
  for (; op.nrTaken < PTES_PER_REGION; op.nrTaken++) {
    const slot = base + op.nrTaken;
    const entry = flags[slot];
    if (entry === 0 || (entry & ENTRY.SPECIAL) !== 0) {
      taken.none++;
      if (isArmed || taken.none > maxNone) return SCAN.EXCEED_NONE_PTE;
      continue;
    }
    if ((entry & ENTRY.PRESENT) === 0) return SCAN.PTE_NON_PRESENT;
    if ((entry & ENTRY.UFFD_WP) !== 0) return SCAN.PTE_UFFD_WP;
    if ((entry & ENTRY.WRITE) !== 0) taken.writable++;
    const pfn = payload[slot];
    const size = 1 << order[pfn];
    const head = pfn & -size;
    const bits = folioFlags[head];
    taken.lastHead = head;
    if (size === 1 ? mapcount[pfn] > 1 : isMaybeMappedShared(m, head)) {
      shared++;
      if (shared > maxShared) return SCAN.EXCEED_SHARED_PTE;
    }
    if ((bits & PG.LOCKED) === 0 || size === 1 || !isTaken(m, base, op.nrTaken, head)) {
      // A small page that is here a second time meets our own lock (COLL-158).
      if ((bits & PG.LOCKED) !== 0 || (mayBeLocked && isFolioBusy(m, head))) return SCAN.PAGE_LOCK;
      const nrMappings = size === 1 ? mapcount[pfn] : largeMapcount[head];
      if (refcount[head] !== nrMappings + ((bits & PG.SWAPCACHE) !== 0 ? size : 0))
        return SCAN.PAGE_COUNT;
      if ((bits & PG.LRU) === 0) return SCAN.DEL_PAGE_LRU;
      lruDel(m, head);
      folioFlags[head] |= PG.LOCKED;
    }
    if (!isKhugepaged) continue;
    if ((entry & ENTRY.YOUNG) !== 0 || (bits & PG.REFERENCED) !== 0) taken.referenced++;
    else if (m.mmuNotifier !== null && isYoungElsewhere(m, mm, op.region, slot)) taken.referenced++;
  }
  return SCAN.SUCCEED;
}

/** COLL-130: of the two tests after the scan only the first is made again. */
function judge(m: HugeState, op: CollapseOp, taken: Taken): ScanResult {
  if (!m.profile.collapsesReadOnly && taken.writable === 0) return SCAN.PAGE_RO;
  const isIdle = op.actor === ACTOR.khugepaged && taken.referenced === 0;
  return isIdle ? SCAN.LACK_REFERENCED_PAGE : SCAN.SUCCEED;
}

/** True if an entry before `index` maps the same large folio, which is taken therefore. */
function isTaken(m: HugeState, base: number, index: number, head: number): boolean {
  for (let i = index - 1; i >= 0; i--)
    if ((m.tables.flags[base + i] & KIND) === ENTRY.PRESENT)
      if (headOf(m.frames, m.tables.payload[base + i]) === head) return true;
  return false;
}

/** True if anybody could have the lock of a folio: then each one is asked for. */
function hasFolioLocks(m: HugeState, op: CollapseOp): boolean {
  if (m.sched.operations.length > 1) return true;
  return m.sched.locks.some((held) => held.operation !== op.id && held.name === "folio");
}

/** Unlocks what was taken and puts it back on its LRU lists. */
export function givePagesBack(m: HugeState, op: CollapseOp): void {
  const { flags, payload } = m.tables;
  const base = op.pteTable * 512;
  for (let slot = base; slot < base + op.nrTaken; slot++)
    if ((flags[slot] & KIND) === ENTRY.PRESENT) giveFolioBack(m, headOf(m.frames, payload[slot]));
  op.nrTaken = 0;
}

/** Unlocks a folio if it is still locked, and puts it on its LRU list. */
export function giveFolioBack(m: HugeState, head: number): void {
  const { flags } = m.frames;
  if ((flags[head] & PG.LOCKED) === 0) return;
  flags[head] &= ~PG.LOCKED;
  lruAdd(m, head);
}

/** True if the operation has locked this folio. */
export function hasTaken(m: HugeState, op: CollapseOp, head: number): boolean {
  if (op.nrTaken === 0 || (m.frames.flags[head] & PG.LOCKED) === 0) return false;
  return isTaken(m, op.pteTable * 512, op.nrTaken, head);
}
