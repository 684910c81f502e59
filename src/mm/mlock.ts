/**
 * Locked memory: which folios are mlocked, and so stand on the unevictable list.
 *
 * Entry: mlockFolio and munlockFolio where a mapping in a locked VMA comes or goes; lockMapped and unlockMapped for what is
 *        mapped already when a VMA becomes locked or unlocked; mayLock for the limit.
 * Owns:  flag MLOCKED, column mlockCount, nr_mlock; moves folios to and from the unevictable list.
 * Holds: a mapping that covers a whole folio locks it once, taking any mapping away unlocks it once (ANON-235). So a 4K
 *        page is mlocked exactly while a locked VMA maps it; a larger folio may lose the lock while it is still mapped.
 */

import {
  type Addr,
  HUGE_SIZE,
  PAGE_SIZE,
  type Pfn,
  PTES_PER_REGION,
  pteIndexOf,
  regionOf,
} from "../base/address.ts";
import { VMSTAT } from "../base/counters.ts";
import { headOf, PG } from "../phys/frame-table.ts";
import { lruSetEvictable, lruSetUnevictable } from "../phys/lru.ts";
import { ENTRY, NO_TABLE, pmdTableOf } from "./page-tables.ts";
import { runOfFolio } from "./rmap.ts";
import type { Mm, MmState } from "./state.ts";
import { findVma, nrPagesOf, VM, type Vma } from "./vma.ts";

const NR_MLOCK = VMSTAT.nr_mlock;

/** Both bits that mlock sets. */
export const VM_LOCK_BITS = VM.LOCKED | VM.LOCKONFAULT;

/** A locked VMA maps the whole folio from now on. */
export function mlockFolio(m: MmState, head: Pfn): void {
  const frames = m.frames;
  frames.mlockCount[head]++;
  if ((frames.flags[head] & PG.MLOCKED) !== 0) return;
  frames.flags[head] |= PG.MLOCKED;
  m.vmstat[NR_MLOCK] += 1 << frames.order[head];
  lruSetUnevictable(m, head);
}

/** A mapping in a locked VMA goes, or its VMA is unlocked. No effect on a folio that is not mlocked. */
export function munlockFolio(m: MmState, head: Pfn): void {
  const frames = m.frames;
  if ((frames.flags[head] & PG.MLOCKED) === 0) return;
  if (--frames.mlockCount[head] > 0) return;
  frames.flags[head] &= ~PG.MLOCKED;
  m.vmstat[NR_MLOCK] -= 1 << frames.order[head];
  lruSetEvictable(m, head);
}

/** All locks of a folio go: its mappings are about to be taken away together. */
export function munlockAll(m: MmState, head: Pfn): void {
  if ((m.frames.flags[head] & PG.MLOCKED) === 0) return;
  m.frames.mlockCount[head] = 1;
  munlockFolio(m, head);
}

/** Locks what [start, end) of a VMA that just became locked maps: pages, and folios that lie wholly inside (ANON-232). */
export function lockMapped(m: MmState, mm: Mm, start: Addr, end: Addr): void {
  forEachRun(m, mm, start, end, (head, isWhole) => {
    if (isWhole) mlockFolio(m, head);
  });
}

/** Unlocks every folio that [start, end) maps any page of (ANON-233). */
export function unlockMapped(m: MmState, mm: Mm, start: Addr, end: Addr): void {
  forEachRun(m, mm, start, end, (head) => munlockFolio(m, head));
}

/** Before [start, end) of one VMA is unmapped. Costs nothing while no memory of the machine is locked. */
export function unlockBeforeZap(m: MmState, mm: Mm, start: Addr, end: Addr): void {
  if (m.vmstat[NR_MLOCK] === 0 || !isLockedAt(mm, start)) return;
  unlockMapped(m, mm, start, end);
}

/** A huge entry of a mlocked folio is split: on 6.12 the 512 PTEs do not take the lock over (ANON-235). */
export function unlockAtPmdSplit(m: MmState, mm: Mm, region: number, head: Pfn): void {
  if (m.profile.mlocksPteMappedFolio || (m.frames.flags[head] & PG.MLOCKED) === 0) return;
  if (isLockedAt(mm, region * HUGE_SIZE)) munlockFolio(m, head);
}

function isLockedAt(mm: Mm, addr: Addr): boolean {
  const vma = findVma(mm.vmas, addr);
  return vma !== null && (vma.flags & VM.LOCKED) !== 0;
}

/** Called once per run of consecutive pages of one folio; `isWhole`: the run is all of the folio. */
type RunVisitor = (head: Pfn, isWhole: boolean) => void;

function forEachRun(m: MmState, mm: Mm, start: Addr, end: Addr, visit: RunVisitor): void {
  const { tables } = m;
  const lastRegion = regionOf(end - 1);
  for (let region = regionOf(start); region <= lastRegion; region++) {
    const pmdTable = pmdTableOf(tables, mm.root, region);
    if (pmdTable === NO_TABLE) {
      region |= 511;
      continue;
    }
    const slot = pmdTable * 512 + (region & 511);
    const entry = tables.flags[slot];
    const first = region * HUGE_SIZE < start ? pteIndexOf(start) : 0;
    const last = (region + 1) * HUGE_SIZE > end ? pteIndexOf(end) : PTES_PER_REGION;
    if ((entry & ENTRY.TABLE) !== 0) {
      const base = tables.payload[slot] * 512;
      forEachPteRun(m, base + first, base + last, visit);
    } else if (isPage(entry)) {
      visit(tables.payload[slot], last - first === PTES_PER_REGION);
    }
  }
}

function forEachPteRun(m: MmState, firstSlot: number, endSlot: number, visit: RunVisitor): void {
  const { payload, flags } = m.tables;
  for (let slot = firstSlot; slot < endSlot; ) {
    const pfn = payload[slot];
    if (!isPage(flags[slot])) {
      slot++;
      continue;
    }
    const nr = runOfFolio(m, slot, endSlot, pfn);
    visit(headOf(m.frames, pfn), nr === 1 << m.frames.order[pfn]);
    slot += nr;
  }
}

function isPage(entry: number): boolean {
  return (entry & (ENTRY.PRESENT | ENTRY.SPECIAL)) === ENTRY.PRESENT;
}

/** Pages in locked VMAs (VmLck). */
export function lockedPages(mm: Mm): number {
  return pagesLockedBy(mm.vmas);
}

/** Pages of [start, end) that are in locked VMAs. */
export function lockedPagesIn(mm: Mm, start: Addr, end: Addr): number {
  let nr = 0;
  for (const vma of mm.vmas) {
    if ((vma.flags & VM.LOCKED) === 0 || vma.end <= start || vma.start >= end) continue;
    nr += (Math.min(end, vma.end) - Math.max(start, vma.start)) / PAGE_SIZE;
  }
  return nr;
}

function pagesLockedBy(vmas: readonly Vma[]): number {
  let nr = 0;
  for (const vma of vmas) if ((vma.flags & VM.LOCKED) !== 0) nr += nrPagesOf(vma);
  return nr;
}

/** True if RLIMIT_MEMLOCK leaves room for `nr` more locked pages. */
export function mayLock(mm: Mm, nr: number): boolean {
  const { lockLimitBytes } = mm;
  if (lockLimitBytes === Number.POSITIVE_INFINITY) return true;
  return (lockedPages(mm) + nr) * PAGE_SIZE <= lockLimitBytes;
}
