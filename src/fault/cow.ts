/**
 * Write faults on what is mapped read-only: take it over if nobody else uses it, else copy.
 *
 * Entry: faultHugeWrite (huge entry), faultPteWrite (PTE).
 * Rules: ANON-084, 085, 157..164.
 */

import { HUGE_ORDER, type Pfn, PTES_PER_REGION } from "../base/address.ts";
import type { HugeState } from "../huge/knobs.ts";
import { prepareAnonVma } from "../mm/anon-vma.ts";
import { putFolio } from "../mm/folio.ts";
import { munlockFolio } from "../mm/mlock.ts";
import { ENTRY } from "../mm/page-tables.ts";
import { splitPmd } from "../mm/pmd.ts";
import { isMaybeMappedShared, removeAnonPmd, removeAnonPtes, removeFilePte } from "../mm/rmap.ts";
import type { Mm } from "../mm/state.ts";
import { VM, type Vma } from "../mm/vma.ts";
import { headOf, NO_PFN, PG } from "../phys/frame-table.ts";
import { freeSwapIfUnmapped, freeSwapOf } from "../swap/cache.ts";
import { allocHugeFolio, mapNewHuge, newAnonPage, newEntryFlags } from "./anon.ts";
import { FAULT, FAULT_MARK, FAULT_OOM, FAULT_ORDER_SHIFT, FAULT_SIGBUS } from "./kinds.ts";

const ORDER_9 = HUGE_ORDER << FAULT_ORDER_SHIFT;
const ANON_2M = FAULT["anon 2M"] | ORDER_9;
const REUSE_2M = FAULT["reuse 2M"] | ORDER_9;
const COW_2M = FAULT["copy-on-write 2M"] | ORDER_9;
const ANON_4K = FAULT["anon 4k"];
const REUSE_4K = FAULT["reuse 4k"];
const COW_4K = FAULT["copy-on-write 4k"];
const FILE_COW = FAULT["file copy-on-write"];

/** A write to a write-protected huge entry. The packed result or a negative signal. */
export function faultHugeWrite(
  m: HugeState,
  mm: Mm,
  vma: Vma,
  region: number,
  pteIndex: number,
  slot: number,
): number {
  const entry = m.tables.flags[slot];
  if ((entry & ENTRY.UFFD_WP) !== 0) {
    if ((vma.flags & VM.UFFD_WP_ASYNC) === 0) return FAULT_SIGBUS;
    return splitAndWrite(m, mm, vma, region, pteIndex, slot, 0); // ANON-222
  }
  if ((entry & ENTRY.SPECIAL) !== 0) return writeHugeZero(m, mm, vma, region, pteIndex, slot);
  const head = m.tables.payload[slot];
  if (canReuseHuge(m, head)) {
    m.frames.flags[head] |= PG.ANON_EXCLUSIVE;
    m.tables.flags[slot] = entry | newEntryFlags(vma);
    return REUSE_2M;
  }
  if (m.profile.hugeCow === "copy" && copyHuge(m, mm, vma, region, slot, head)) return COW_2M;
  return splitAndWrite(m, mm, vma, region, pteIndex, slot, 0);
}

/** ANON-157: the exclusive flag, or the only reference. */
function canReuseHuge(m: HugeState, head: Pfn): boolean {
  return (m.frames.flags[head] & PG.ANON_EXCLUSIVE) !== 0 || isOnlyReference(m, head);
}

/** One mapping and nothing else holds the folio; the swap cache does not count if it can be made to let go. */
function isOnlyReference(m: HugeState, head: Pfn): boolean {
  const { flags, order, refcount } = m.frames;
  if ((flags[head] & PG.SWAPCACHE) === 0) return refcount[head] === 1;
  return refcount[head] === 1 + (1 << order[head]) && freeSwapOf(m, head);
}

function writeHugeZero(
  m: HugeState,
  mm: Mm,
  vma: Vma,
  region: number,
  pteIndex: number,
  slot: number,
): number {
  prepareAnonVma(m, mm, vma);
  if (m.profile.hugeZeroWrite === "split")
    return splitAndWrite(m, mm, vma, region, pteIndex, slot, 0);
  const before = m.tables.flags[slot];
  const head = allocHugeFolio(m, mm, vma);
  if (m.tables.flags[slot] !== before) {
    if (head !== NO_PFN) putFolio(m, head, 1);
    return FAULT.spurious; // ANON-332: somebody else was here; the access is tried again
  }
  if (head === NO_PFN)
    return splitAndWrite(m, mm, vma, region, pteIndex, slot, FAULT_MARK.FELL_BACK);
  invalidate(m, mm, region, 0, PTES_PER_REGION);
  mapNewHuge(m, mm, vma, region, head);
  // The zero entry's deposit serves the new one.
  m.tables.payload[slot] = head;
  m.tables.flags[slot] = newEntryFlags(vma) | ENTRY.HUGE;
  return ANON_2M;
}

/** seed-2011: a new huge folio with the contents of the old (ANON-159). False if none can be had. */
function copyHuge(
  m: HugeState,
  mm: Mm,
  vma: Vma,
  region: number,
  slot: number,
  from: Pfn,
): boolean {
  prepareAnonVma(m, mm, vma);
  const head = allocHugeFolio(m, mm, vma);
  if (head === NO_PFN) return false;
  invalidate(m, mm, region, 0, PTES_PER_REGION);
  m.frames.tag.copyWithin(head, from, from + PTES_PER_REGION);
  mm.rssAnon -= PTES_PER_REGION; // mapNewHuge adds the same again
  mapNewHuge(m, mm, vma, region, head);
  m.tables.payload[slot] = head;
  m.tables.flags[slot] = newEntryFlags(vma) | ENTRY.HUGE;
  if ((vma.flags & VM.LOCKED) !== 0) munlockFolio(m, from);
  removeAnonPmd(m, mm, from);
  putFolio(m, from, 1);
  return true;
}

function splitAndWrite(
  m: HugeState,
  mm: Mm,
  vma: Vma,
  region: number,
  pteIndex: number,
  slot: number,
  marks: number,
): number {
  splitPmd(m, mm, region, slot);
  const table = m.tables.payload[slot];
  const result = faultPteWrite(m, mm, vma, region, pteIndex, table * 512 + pteIndex);
  return result < 0 ? result : result | marks | FAULT_MARK.SPLIT_PMD;
}

/** A write to a write-protected PTE. The packed result or a negative signal. */
export function faultPteWrite(
  m: HugeState,
  mm: Mm,
  vma: Vma,
  region: number,
  pteIndex: number,
  slot: number,
): number {
  let entry = m.tables.flags[slot];
  if ((entry & ENTRY.UFFD_WP) !== 0) {
    if ((vma.flags & VM.UFFD_WP_ASYNC) === 0) return FAULT_SIGBUS; // ANON-222
    entry &= ~ENTRY.UFFD_WP;
  }
  if (vma.anonVma === null && (vma.flags & VM.SHARED) === 0) prepareAnonVma(m, mm, vma);
  if ((entry & ENTRY.SPECIAL) !== 0) return replaceZero(m, mm, vma, region, pteIndex, slot);
  const pfn = m.tables.payload[slot];
  const frames = m.frames;
  if ((frames.flags[headOf(frames, pfn)] & PG.ANON) === 0)
    return writeFilePage(m, mm, vma, region, pteIndex, slot, pfn);
  if ((frames.flags[pfn] & PG.ANON_EXCLUSIVE) === 0) {
    if (!canReusePage(m, pfn)) return copyAnon(m, mm, vma, region, pteIndex, slot, pfn);
    frames.flags[pfn] |= PG.ANON_EXCLUSIVE;
  }
  m.tables.flags[slot] = entry | newEntryFlags(vma);
  return REUSE_4K;
}

/** Nobody else can see the page: no other mapping, no extra reference (ANON-160, ANON-161). */
function canReusePage(m: HugeState, pfn: Pfn): boolean {
  const frames = m.frames;
  const head = headOf(frames, pfn);
  if (frames.order[head] === 0) return isOnlyReference(m, head);
  return (
    m.profile.cowReusesLargeFolio &&
    (frames.flags[head] & PG.SWAPCACHE) === 0 &&
    frames.largeMapcount[head] === frames.refcount[head] &&
    !isMaybeMappedShared(m, head)
  );
}

function copyAnon(
  m: HugeState,
  mm: Mm,
  vma: Vma,
  region: number,
  pteIndex: number,
  slot: number,
  from: Pfn,
): number {
  const pfn = newAnonPage(m, mm, vma, region, pteIndex);
  if (pfn === NO_PFN) return FAULT_OOM;
  const frames = m.frames;
  frames.tag[pfn] = frames.tag[from];
  installCopy(m, mm, vma, region, pteIndex, slot, pfn);
  if ((vma.flags & VM.LOCKED) !== 0) munlockFolio(m, headOf(frames, from));
  mm.rssAnon--;
  if (frames.order[from] === 0 && frames.mapcount[from] > 1 && frames.refcount[from] > 1) {
    // The usual case, a 4K page that others still map: nothing but the two counts changes.
    frames.mapcount[from]--;
    frames.refcount[from]--;
  } else {
    removeAnonPtes(m, mm, from, 1);
    freeSwapIfUnmapped(m, headOf(frames, from));
    putFolio(m, headOf(frames, from), 1);
  }
  return COW_4K;
}

function replaceZero(
  m: HugeState,
  mm: Mm,
  vma: Vma,
  region: number,
  pteIndex: number,
  slot: number,
): number {
  const pfn = newAnonPage(m, mm, vma, region, pteIndex);
  if (pfn === NO_PFN) return FAULT_OOM;
  installCopy(m, mm, vma, region, pteIndex, slot, pfn);
  return ANON_4K;
}

/** Shared mappings write the cached page itself; private ones get an anonymous copy. */
function writeFilePage(
  m: HugeState,
  mm: Mm,
  vma: Vma,
  region: number,
  pteIndex: number,
  slot: number,
  from: Pfn,
): number {
  if ((vma.flags & VM.SHARED) !== 0) {
    m.tables.flags[slot] |= ENTRY.WRITE | ENTRY.YOUNG | ENTRY.DIRTY;
    return REUSE_4K;
  }
  const pfn = newAnonPage(m, mm, vma, region, pteIndex);
  if (pfn === NO_PFN) return FAULT_OOM;
  m.frames.tag[pfn] = m.frames.tag[from];
  installCopy(m, mm, vma, region, pteIndex, slot, pfn);
  if ((m.frames.flags[from] & PG.SWAPBACKED) !== 0) mm.rssShmem--;
  else mm.rssFile--;
  if ((vma.flags & VM.LOCKED) !== 0) munlockFolio(m, from);
  removeFilePte(m, from);
  putFolio(m, from, 1);
  return FILE_COW;
}

function installCopy(
  m: HugeState,
  mm: Mm,
  vma: Vma,
  region: number,
  pteIndex: number,
  slot: number,
  pfn: Pfn,
): void {
  invalidate(m, mm, region, pteIndex, pteIndex + 1);
  m.tables.payload[slot] = pfn;
  m.tables.flags[slot] = newEntryFlags(vma);
}

function invalidate(m: HugeState, mm: Mm, region: number, first: number, end: number): void {
  const page = region * PTES_PER_REGION;
  m.mmuNotifier?.invalidateRange(mm.id, page + first, page + end);
}
