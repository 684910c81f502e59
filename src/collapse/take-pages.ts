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
import { lruAdd, lruDelAll } from "../phys/lru.ts";
import { isFolioBusy, mayFoliosBeBusy } from "../sched/locks.ts";
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
  const mayBeLocked = mayFoliosBeBusy(m);
  const base = op.pteTable * 512;
  const isolated = m.toFree;
  let nrIsolated = 0;
  let lastHead = -1;
  let none = 0;
  let shared = 0;
  let referenced = 0;
  let writable = 0;
  let result: ScanResult = SCAN.SUCCEED;
  let i = 0;
  for (; i < PTES_PER_REGION; i++) {
    const entry = flags[base + i];
    if ((entry & KIND) !== ENTRY.PRESENT) {
      if (entry === 0 || (entry & ENTRY.SPECIAL) !== 0) {
        none++;
        if (none <= maxNone && !isArmed) continue;
        result = SCAN.EXCEED_NONE_PTE;
      } else {
        result = SCAN.PTE_NON_PRESENT;
      }
      break;
    }
    if ((entry & ENTRY.UFFD_WP) !== 0) {
      result = SCAN.PTE_UFFD_WP;
      break;
    }
    if ((entry & ENTRY.WRITE) !== 0) writable++;
    const pfn = payload[base + i];
    const size = 1 << order[pfn];
    const head = pfn & -size;
    const bits = folioFlags[head];
    lastHead = head;
    if (size === 1 ? mapcount[pfn] > 1 : isMaybeMappedShared(m, head)) {
      shared++;
      if (shared > maxShared) {
        result = SCAN.EXCEED_SHARED_PTE;
        break;
      }
    }
    // A small page that is here a second time meets our own lock (COLL-158).
    if ((bits & PG.LOCKED) === 0 || size === 1 || !isTaken(m, base, i, head)) {
      const nrMappings = size === 1 ? mapcount[pfn] : largeMapcount[head];
      if ((bits & PG.LOCKED) !== 0 || (mayBeLocked && isFolioBusy(m, head)))
        result = SCAN.PAGE_LOCK;
      else if (refcount[head] !== nrMappings + ((bits & PG.SWAPCACHE) !== 0 ? size : 0))
        result = SCAN.PAGE_COUNT;
      else if ((bits & PG.LRU) === 0) result = SCAN.DEL_PAGE_LRU;
      if (result !== SCAN.SUCCEED) break;
      folioFlags[head] = bits | PG.LOCKED;
      isolated[nrIsolated++] = head;
    }
    if (!isKhugepaged) continue;
    if ((entry & ENTRY.YOUNG) !== 0 || (bits & PG.REFERENCED) !== 0) referenced++;
    else if (m.mmuNotifier !== null && isYoungElsewhere(m, mm, op.region, base + i)) referenced++;
  }
  lruDelAll(m, isolated, nrIsolated);
  op.nrTaken = i;
  taken.lastHead = lastHead;
  taken.none = none;
  taken.referenced = referenced;
  taken.writable = writable;
  return result;
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
