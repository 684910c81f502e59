/**
 * Looking at a region as the pivot of a shared collapse: which pages, who maps them, and may it be afforded.
 *
 * Entry: findSources, findSharers.
 * Locks: mmap shared; findSharers takes the anon_vma's as well. Changes nothing but the operation's record.
 * Rules: COLL-410..423. What no rule of theirs names is as in the ordinary scan for khugepaged (scan.ts).
 */

import { addrOf, HUGE_ORDER, type Pfn, PTES_PER_REGION } from "../base/address.ts";
import type { HugeState } from "../huge/knobs.ts";
import { ENTRY, pmdSlotOf } from "../mm/page-tables.ts";
import { indexOf, isMaybeMappedShared } from "../mm/rmap.ts";
import type { Mm } from "../mm/state.ts";
import { VM_UFFD, type Vma } from "../mm/vma.ts";
import { NO_PFN, PG } from "../phys/frame-table.ts";
import { isFolioBusy } from "../sched/locks.ts";
import { type SwapEntry, swapCountOf } from "../swap/state.ts";
import { collapseRefusal, revalidate, vmaOf } from "./eligible.ts";
import { findTable, isYoungElsewhere } from "./scan.ts";
import { ACTOR, SCAN, type ScanResult } from "./scan-result.ts";
import { modeOf, type SharedOp } from "./shared-op.ts";
import { SHARED, type SharedResult } from "./shared-result.ts";
import { firstPageOf, forEachMapped } from "./shared-walk.ts";

const KIND = ENTRY.PRESENT | ENTRY.SPECIAL;
/** With swapped pages around, so many of the others must be in use (COLL-102). */
const LEAST_REFERENCED = PTES_PER_REGION / 2;

/** What the walk over the pivot's 512 entries has seen. */
interface Pivot {
  readonly mm: Mm;
  readonly vma: Vma;
  /** Slot of the first entry. */
  readonly base: number;
  nrHoles: number;
  nrReferenced: number;
}

/** SUCCEED with the record's sources, heads and their place filled in; or the first reason against it. */
export function findSources(m: HugeState, op: SharedOp): SharedResult {
  op.scan = revalidate(m, op.mmId, op.region, ACTOR.khugepaged);
  if (op.scan !== SCAN.SUCCEED) return SHARED.NOT_CANDIDATE;
  const mm = m.mms[op.mmId]!;
  const pmdSlot = pmdSlotOf(m.tables, mm.root, op.region);
  op.scan = findTable(m, pmdSlot);
  if (op.scan !== SCAN.SUCCEED) return SHARED.NOT_CANDIDATE;
  const base = m.tables.payload[pmdSlot] * 512;
  if (!hasSharedPage(m, base)) return SHARED.NOT_SHARED;
  if (isOneFolio(m, base)) return SHARED.ALREADY;
  const vma = vmaOf(mm, op.region);
  const pivot: Pivot = { mm, vma, base, nrHoles: 0, nrReferenced: 0 };
  op.index = op.region * PTES_PER_REGION + vma.pgoffDelta;
  const result = lookAtEntries(m, op, pivot);
  if (result !== SHARED.SUCCEED) return result;
  const isIdle = pivot.nrReferenced === 0;
  const isHalfIdle = op.nrSwapped > 0 && pivot.nrReferenced < LEAST_REFERENCED;
  return isIdle || isHalfIdle
    ? noCandidate(op, SCAN.LACK_REFERENCED_PAGE)
    : forgetIfUnshared(m, op);
}

/** COLL-415. A large folio may be shared by its other pages only; what counts is the pages themselves. */
function forgetIfUnshared(m: HugeState, op: SharedOp): SharedResult {
  const { mapcount } = m.frames;
  const isShared = op.sources.some((pfn) => pfn !== NO_PFN && mapcount[pfn] > 1);
  return isShared ? SHARED.SUCCEED : SHARED.NOT_SHARED;
}

function noCandidate(op: SharedOp, reason: ScanResult): SharedResult {
  op.scan = reason;
  return SHARED.NOT_CANDIDATE;
}

/** A first look, so that memory of one process costs little: is any page mapped more than once? */
function hasSharedPage(m: HugeState, base: number): boolean {
  const { flags, payload } = m.tables;
  const { order, mapcount } = m.frames;
  for (let slot = base; slot < base + PTES_PER_REGION; slot++) {
    if ((flags[slot] & KIND) !== ENTRY.PRESENT) continue;
    const pfn = payload[slot];
    if (mapcount[pfn] > 1) return true;
    if (order[pfn] > 0 && isMaybeMappedShared(m, pfn & -(1 << order[pfn]))) return true;
  }
  return false;
}

/** True if every page that is there belongs to one folio of PMD order: that is what a collapse would make of it. */
function isOneFolio(m: HugeState, base: number): boolean {
  const { flags, payload } = m.tables;
  let folio = NO_PFN;
  for (let slot = base; slot < base + PTES_PER_REGION; slot++) {
    if ((flags[slot] & KIND) !== ENTRY.PRESENT) continue;
    const pfn = payload[slot];
    const head = pfn & -PTES_PER_REGION;
    if (m.frames.order[pfn] !== HUGE_ORDER || (folio !== NO_PFN && folio !== head)) return false;
    folio = head;
  }
  return folio !== NO_PFN;
}

function lookAtEntries(m: HugeState, op: SharedOp, pivot: Pivot): SharedResult {
  const { flags } = m.tables;
  op.sources = new Array<Pfn>(PTES_PER_REGION).fill(NO_PFN);
  op.heads = [];
  op.nrSwapped = 0;
  op.anonVma = 0;
  for (let i = 0; i < PTES_PER_REGION; ) {
    const entry = flags[pivot.base + i];
    let nr = 1;
    let result: SharedResult;
    if (entry === 0 || (entry & ENTRY.SPECIAL) !== 0) result = lookAtHole(m, op, pivot);
    else if ((entry & ENTRY.PRESENT) === 0) result = lookAtAbsent(m, op, pivot.base + i);
    else {
      nr = 1 << m.frames.order[m.tables.payload[pivot.base + i]];
      result = lookAtFolio(m, op, pivot, i, nr);
    }
    if (result !== SHARED.SUCCEED) return result;
    i += nr;
  }
  return SHARED.SUCCEED;
}

/** COLL-412. */
function lookAtHole(m: HugeState, op: SharedOp, pivot: Pivot): SharedResult {
  if ((pivot.vma.flags & VM_UFFD) !== 0) return SHARED.UFFD;
  pivot.nrHoles++;
  const isTooMany = pivot.nrHoles > m.knobs.khugepaged.max_ptes_none;
  return isTooMany ? noCandidate(op, SCAN.EXCEED_NONE_PTE) : SHARED.SUCCEED;
}

/** COLL-413: what only this process has in swap space is brought back later; of the rest nothing may be absent. */
function lookAtAbsent(m: HugeState, op: SharedOp, slot: number): SharedResult {
  const entry = m.tables.flags[slot];
  if ((entry & ENTRY.UFFD_WP) !== 0) return SHARED.UFFD;
  if ((entry & ENTRY.MIGRATION) !== 0) return SHARED.LOCK;
  if ((entry & ENTRY.SWAP) === 0) return noCandidate(op, SCAN.PTE_NON_PRESENT);
  if (swapCountOf(m, m.tables.payload[slot]) > 1) return SHARED.SWAP_SHARED;
  op.nrSwapped++;
  const isTooMany = op.nrSwapped > m.knobs.khugepaged.max_ptes_swap;
  return isTooMany ? noCandidate(op, SCAN.EXCEED_SWAP_PTE) : SHARED.SUCCEED;
}

/** The folio of page `i`, all of whose `size` pages must follow from there on (COLL-414). */
function lookAtFolio(
  m: HugeState,
  op: SharedOp,
  pivot: Pivot,
  i: number,
  size: number,
): SharedResult {
  const { frames, tables } = m;
  const head = tables.payload[pivot.base + i];
  const isPlaced = (head & (size - 1)) === 0 && (i & (size - 1)) === 0;
  if (!isPlaced || size === PTES_PER_REGION) return SHARED.COMPOUND;
  for (let k = 0; k < size; k++) {
    const entry = tables.flags[pivot.base + i + k];
    if ((entry & KIND) !== ENTRY.PRESENT || tables.payload[pivot.base + i + k] !== head + k)
      return SHARED.COMPOUND;
    if ((entry & ENTRY.UFFD_WP) !== 0) return SHARED.UFFD;
    if ((frames.flags[head + k] & PG.HWPOISON) !== 0) return SHARED.COPY_MC;
    op.sources[i + k] = head + k;
    if (isUsed(m, op, pivot, i + k, head)) pivot.nrReferenced++;
  }
  op.heads.push(head);
  if (op.anonVma === 0) {
    op.anonVma = frames.owner[head];
    op.memcg = frames.memcg[head];
  }
  return judgeFolio(m, op, head, op.index + i);
}

function isUsed(m: HugeState, op: SharedOp, pivot: Pivot, index: number, head: Pfn): boolean {
  if ((m.tables.flags[pivot.base + index] & ENTRY.YOUNG) !== 0) return true;
  if ((m.frames.flags[head] & PG.REFERENCED) !== 0) return true;
  return m.mmuNotifier !== null && isYoungElsewhere(m, pivot.mm, op.region, pivot.base + index);
}

/** COLL-411, 416, 417. `index` is where the folio has to be in its anon_vma. */
function judgeFolio(m: HugeState, op: SharedOp, head: Pfn, index: number): SharedResult {
  const { frames } = m;
  const flags = frames.flags[head];
  const isOrdinary = (flags & (PG.ANON | PG.KSM)) === PG.ANON;
  const isAtHome = frames.owner[head] === op.anonVma && indexOf(m, head) === index;
  if (!isOrdinary || !isAtHome) return SHARED.ROOT;
  if (frames.memcg[head] !== op.memcg) return SHARED.MEMCG;
  if (isSwappedByOthers(m, head)) return SHARED.SWAP_SHARED;
  if ((flags & PG.LRU) === 0) return SHARED.LRU;
  if ((flags & PG.LOCKED) !== 0 || isFolioBusy(m, head)) return SHARED.LOCK;
  return frames.refcount[head] === expectedReferences(m, head) ? SHARED.SUCCEED : SHARED.PINNED;
}

/** COLL-106: mappings and the swap cache. More than that is a pin. */
export function expectedReferences(m: HugeState, head: Pfn): number {
  const { order, mapcount, largeMapcount, flags } = m.frames;
  const size = 1 << order[head];
  const nrMappings = size === 1 ? mapcount[head] : largeMapcount[head];
  return nrMappings + ((flags[head] & PG.SWAPCACHE) !== 0 ? size : 0);
}

/** Somebody has in swap space what others have mapped: they would no longer share it. */
function isSwappedByOthers(m: HugeState, head: Pfn): boolean {
  if ((m.frames.flags[head] & PG.SWAPCACHE) === 0) return false;
  const entry: SwapEntry = m.swap.entryOf[head];
  for (let i = 0; i < 1 << m.frames.order[head]; i++)
    if (swapCountOf(m, entry + i) > 0) return true;
  return false;
}

/** COLL-420: P and S, counted before anything is modified; SUCCEED or BUDGET. */
export function findSharers(m: HugeState, op: SharedOp): SharedResult {
  const { shared_collapse_max_ptes, shared_collapse_max_sharers } = modeOf(m).knobs;
  op.nrPtes = 0;
  for (const pfn of op.sources) if (pfn !== NO_PFN) op.nrPtes += m.frames.mapcount[pfn];
  if (op.nrPtes > shared_collapse_max_ptes) return SHARED.BUDGET;
  const mms = new Set<Mm>();
  const mapped = new Map<Vma, number>();
  forEachMapped(m, op, (mm, vma) => {
    mms.add(mm);
    mapped.set(vma, (mapped.get(vma) ?? 0) + 1);
  });
  op.nrSharers = mms.size;
  op.nrPmdsPossible = 0;
  for (const [vma, nr] of mapped)
    if (nr === PTES_PER_REGION && mayBecomeHuge(m, op, vma)) op.nrPmdsPossible++;
  return op.nrSharers > shared_collapse_max_sharers ? SHARED.BUDGET : SHARED.SUCCEED;
}

/** COLL-423: the VMA maps all 512 and stands so that one PMD entry can; the rest is looked at when it is to be built. */
function mayBecomeHuge(m: HugeState, op: SharedOp, vma: Vma): boolean {
  const first = firstPageOf(vma, op);
  if (first % PTES_PER_REGION !== 0) return false;
  const start = addrOf(first / PTES_PER_REGION, 0);
  const isInside = vma.start <= start && vma.end >= addrOf(first / PTES_PER_REGION + 1, 0);
  return isInside && collapseRefusal(m, m.mms[vma.mmId]!, vma, ACTOR.khugepaged) === null;
}
