/**
 * Changing the list of VMAs: insert, split, merge, change flags.
 *
 * Holds: the list is sorted and disjoint; no huge PMD crosses a VMA edge: an edge that comes to lie inside one splits it
 *        first (ANON-047, ANON-048).
 */

import { type Addr, HUGE_SIZE, isAligned, PAGE_SIZE, regionOf } from "../base/address.ts";
import { ENOMEM, type Err } from "../base/errno.ts";
import { areAnonVmasCompatible, copyChain, relinkAnonVmas, unlinkAnonVmas } from "./anon-vma.ts";
import { dropFileVma } from "./file-object.ts";
import { pmdSlotOf } from "./page-tables.ts";
import { isHugeEntry, splitPmd } from "./pmd.ts";
import type { Mm, MmState } from "./state.ts";
import { createVma, firstVmaIndex, VM_STICKY, type Vma } from "./vma.ts";

/** vm.max_map_count: a split or a new mapping beyond it fails with ENOMEM. */
export const MAX_MAP_COUNT = 65530;

/** Adds a VMA to the list and merges it with equal neighbours. Returns the VMA that now covers it. */
export function insertVma(m: MmState, mm: Mm, vma: Vma): Vma {
  mm.vmas.splice(firstVmaIndex(mm.vmas, vma.start), 0, vma);
  if (vma.file !== null) vma.file.nrVmas++;
  return mergeAround(m, mm, vma);
}

/** Takes a VMA out of the list; its pages are already unmapped. */
export function removeVma(m: MmState, mm: Mm, vma: Vma): void {
  mm.vmas.splice(firstVmaIndex(mm.vmas, vma.start), 1);
  forgetVma(m, mm, vma);
}

function forgetVma(m: MmState, mm: Mm, vma: Vma): void {
  unlinkAnonVmas(m, vma);
  dropFileVma(m.unmappedFiles, vma.file);
  if (mm.lastVma === vma) mm.lastVma = null;
}

/** Splits a VMA at `at`, strictly inside it; the lower part keeps the record. 0 or -ENOMEM. */
export function splitVma(m: MmState, mm: Mm, vma: Vma, at: Addr): Err {
  if (mm.vmas.length >= MAX_MAP_COUNT) return -ENOMEM;
  splitPmdAt(m, mm, at);
  const pgoff = vma.pgoff + (at - vma.start) / PAGE_SIZE;
  const upper = createVma(vma.mmId, at, vma.end, vma.flags, vma.file, pgoff);
  upper.pgoffDelta = vma.pgoffDelta;
  upper.anonVma = vma.anonVma;
  copyChain(vma, upper);
  if (vma.file !== null) vma.file.nrVmas++;
  vma.end = at;
  relinkAnonVmas(vma);
  mm.vmas.splice(firstVmaIndex(mm.vmas, vma.start) + 1, 0, upper);
  return 0;
}

/** An edge comes to lie at `at`: a huge entry that would cross it is split. */
export function splitPmdAt(m: MmState, mm: Mm, at: Addr): void {
  if (isAligned(at, HUGE_SIZE)) return;
  const region = regionOf(at);
  const slot = pmdSlotOf(m.tables, mm.root, region);
  if (slot >= 0 && isHugeEntry(m.tables.flags[slot])) splitPmd(m, mm, region, slot);
}

/** Makes `start` and `end` edges wherever VMAs cross them. 0 or -ENOMEM. */
export function isolateRange(m: MmState, mm: Mm, start: Addr, end: Addr): Err {
  for (const at of [start, end]) {
    const vma = mm.vmas[firstVmaIndex(mm.vmas, at)];
    if (vma === undefined || vma.start >= at || vma.end <= at) continue;
    const failed = splitVma(m, mm, vma, at);
    if (failed !== 0) return failed;
  }
  return 0;
}

/**
 * Gives the part [start, end) of one VMA other flags: splits at its edges as needed, merges with equal neighbours.
 * Nothing happens if the flags are already so (ANON-046). 0 or -ENOMEM.
 */
export function changeVmaFlags(
  m: MmState,
  mm: Mm,
  vma: Vma,
  start: Addr,
  end: Addr,
  flags: number,
): Err {
  if (vma.flags === flags) return 0;
  const failed = isolateRange(m, mm, start, end);
  if (failed !== 0) return failed;
  const part = mm.vmas[firstVmaIndex(mm.vmas, start)];
  part.flags = flags;
  mergeAround(m, mm, part);
  return 0;
}

/**
 * Merges a VMA with the equal ones before and after it; where their anon_vmas allow only one of the two, with the one before
 * (ANON-046). Returns the VMA that remains.
 */
export function mergeAround(m: MmState, mm: Mm, vma: Vma): Vma {
  const nrBefore = mm.vmas.length;
  const merged = rejoin(m, mm, vma);
  if (mm.vmas.length < nrBefore) m.vmaObserver?.vmaGrew(m, mm, merged);
  return merged;
}

/** mergeAround where the kernel never split: nobody is told of a VMA that is as it was. */
export function rejoin(m: MmState, mm: Mm, vma: Vma): Vma {
  let at = firstVmaIndex(mm.vmas, vma.start);
  let merged = vma;
  const prev = mm.vmas[at - 1];
  if (prev !== undefined && canMerge(prev, vma)) {
    absorb(m, mm, prev, vma, at);
    merged = prev;
    at--;
  }
  const next = mm.vmas[at + 1];
  const hasNext = next !== undefined && canMerge(merged, next);
  if (hasNext) absorb(m, mm, merged, next, at + 1);
  return merged;
}

function canMerge(low: Vma, high: Vma): boolean {
  return (
    low.end === high.start &&
    ((low.flags ^ high.flags) & ~VM_STICKY) === 0 &&
    low.file === high.file &&
    low.pgoffDelta === high.pgoffDelta &&
    areAnonVmasCompatible(low, high)
  );
}

function absorb(m: MmState, mm: Mm, low: Vma, high: Vma, highIndex: number): void {
  copyChain(high, low);
  low.anonVma ??= high.anonVma;
  low.flags |= high.flags & VM_STICKY;
  low.end = high.end;
  relinkAnonVmas(low);
  mm.vmas.splice(highIndex, 1);
  forgetVma(m, mm, high);
}
