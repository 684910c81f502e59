/**
 * Mapping and unmapping: mmap's placement and VMAs, munmap, brk, stack growth.
 *
 * Entry: mapRange, unmapRange, setBrk, growStack. Argument checks of the system calls are in syscall/.
 */

import { type Addr, alignDown, alignUp, isAligned, PAGE_SIZE, TASK_SIZE } from "../base/address.ts";
import { EEXIST, ENOMEM, EPERM, type Err } from "../base/errno.ts";
import { findFreeRange, isRangeFree, STACK_GUARD_GAP } from "./address-choice.ts";
import { relinkAnonVmas } from "./anon-vma.ts";
import type { FileObject } from "./file-object.ts";
import { mayLock, VM_LOCK_BITS } from "./mlock.ts";
import type { Mm, MmState } from "./state.ts";
import { createVma, findVma, firstVmaIndex, VM, type Vma } from "./vma.ts";
import {
  insertVma,
  isolateRange,
  MAX_MAP_COUNT,
  removeVma,
  splitPmdAt,
  splitVma,
} from "./vma-edit.ts";
import { freeTablesBetween, zapRange } from "./zap.ts";

/** What to map. `length` in bytes, a page multiple. */
export interface MapRequest {
  readonly length: number;
  /** VM bits. */
  readonly flags: number;
  readonly file: FileObject | null;
  /** Page index of the mapping's first page in the file. */
  readonly filePage: number;
  /** "any": the kernel chooses. "hint": there if free. "fixed": replaces what is there. "fixedNoReplace": or EEXIST. */
  readonly placement: "any" | "hint" | "fixed" | "fixedNoReplace";
  /** For all but "any": byte address (a hint is rounded down to a page). */
  readonly address: Addr;
}

/** Start of the new mapping, or -ENOMEM, -EEXIST. */
export function mapRange(m: MmState, mm: Mm, request: MapRequest): Addr | Err {
  const start = choosePlace(mm, request);
  if (start < 0) return start;
  const end = start + request.length;
  if (request.placement === "fixed") {
    const failed = unmapRange(m, mm, start, end);
    if (failed !== 0) return failed;
  }
  if (mm.vmas.length >= MAX_MAP_COUNT) return -ENOMEM;
  // Asked for or by default, memory that may be dropped is never locked.
  const isDroppable = (request.flags & VM.DROPPABLE) !== 0;
  const flags = isDroppable ? request.flags & ~VM_LOCK_BITS : request.flags;
  const pgoff = request.file === null ? start / PAGE_SIZE : request.filePage;
  insertVma(m, mm, createVma(mm.id, start, end, flags, request.file, pgoff));
  return start;
}

function choosePlace(mm: Mm, request: MapRequest): Addr | Err {
  const { length, placement } = request;
  const wanted = alignDown(request.address, PAGE_SIZE);
  switch (placement) {
    case "any":
      return findFreeRange(mm, length, isHugeAlignable(request));
    case "hint":
      // A hint that cannot be kept gets plain placement, without alignment (ANON-122).
      return isRangeFree(mm, wanted, length) ? wanted : findFreeRange(mm, length, false);
    case "fixed":
      return wanted + length <= TASK_SIZE ? wanted : -ENOMEM;
    case "fixedNoReplace":
      if (wanted + length > TASK_SIZE) return -ENOMEM;
      return isRangeEmpty(mm, wanted, wanted + length) ? wanted : -EEXIST;
  }
}

/** Private anonymous and shared anonymous memory alike (ANON-122); files have no huge pages here. */
function isHugeAlignable(request: MapRequest): boolean {
  return request.file === null || request.file.kind === "shmem";
}

function isRangeEmpty(mm: Mm, start: Addr, end: Addr): boolean {
  const next = mm.vmas[firstVmaIndex(mm.vmas, start)];
  return next === undefined || next.start >= end;
}

/** Unmaps [start, end), VMAs and pages. 0, -EPERM if sealed, or -ENOMEM if a VMA would have to be split beyond the limit. */
export function unmapRange(m: MmState, mm: Mm, start: Addr, end: Addr): Err {
  if (start === end || isRangeEmpty(mm, start, end)) return 0;
  if (isSealedWithin(mm, start, end)) return refuseSealed(m, mm, start);
  const failed = isolateRange(m, mm, start, end);
  if (failed !== 0) return failed;
  const first = firstVmaIndex(mm.vmas, start);
  let last = first;
  while (last < mm.vmas.length && mm.vmas[last].start < end) last++;
  const floor = first > 0 ? mm.vmas[first - 1].end : 0;
  const ceiling = last < mm.vmas.length ? mm.vmas[last].start : Number.MAX_SAFE_INTEGER;
  const gone = mm.vmas.slice(first, last);
  for (const vma of gone) zapRange(m, mm, vma.start, vma.end);
  freeTablesBetween(m, mm, gone[0].start, gone[gone.length - 1].end, floor, ceiling);
  for (const vma of gone) removeVma(m, mm, vma);
  return 0;
}

/** The first VMA is cut at the start of the range before a seal behind it is met (ANON-275). */
function refuseSealed(m: MmState, mm: Mm, start: Addr): Err {
  const first = mm.vmas[firstVmaIndex(mm.vmas, start)];
  const isCut = first.start < start && (first.flags & VM.SEALED) === 0;
  return (isCut && splitVma(m, mm, first, start)) || -EPERM;
}

/** mseal: a range with any sealed VMA cannot be unmapped or mapped over, and none of its pages is touched (ANON-275). */
function isSealedWithin(mm: Mm, start: Addr, end: Addr): boolean {
  const { vmas } = mm;
  for (let i = firstVmaIndex(vmas, start); i < vmas.length && vmas[i].start < end; i++)
    if ((vmas[i].flags & VM.SEALED) !== 0) return true;
  return false;
}

/** Sets the program break to `brk` bytes. Returns the break in force afterwards: the old one if it cannot be done. */
export function setBrk(m: MmState, mm: Mm, brk: Addr): Addr {
  if (brk < mm.brkStart) return mm.brk;
  const oldEnd = alignUp(mm.brk, PAGE_SIZE);
  const newEnd = alignUp(brk, PAGE_SIZE);
  if (newEnd > oldEnd && !growHeap(m, mm, oldEnd, newEnd)) return mm.brk;
  if (newEnd < oldEnd && unmapRange(m, mm, newEnd, oldEnd) !== 0) return mm.brk;
  mm.brk = brk;
  return brk;
}

function growHeap(m: MmState, mm: Mm, oldEnd: Addr, newEnd: Addr): boolean {
  if (!isRangeFree(mm, oldEnd, newEnd - oldEnd) || mm.vmas.length >= MAX_MAP_COUNT) return false;
  const flags = VM.READ | VM.WRITE | VM.ACCOUNT | mm.defaultFlags;
  insertVma(m, mm, createVma(mm.id, oldEnd, newEnd, flags, null, oldEnd / PAGE_SIZE));
  return true;
}

/** A touch below a stack: extends it down to `addr`'s page. The VMA, or null if it may not grow that far. */
export function growStack(m: MmState, mm: Mm, addr: Addr): Vma | null {
  const at = firstVmaIndex(mm.vmas, addr);
  const vma = mm.vmas[at];
  if (vma === undefined || (vma.flags & VM.GROWSDOWN) === 0) return null;
  const start = alignDown(addr, PAGE_SIZE);
  const below = mm.vmas[at - 1];
  if (vma.end - start > m.layout.stackLimitBytes) return null;
  if (below !== undefined && start - below.end < STACK_GUARD_GAP) return null;
  const isLocked = (vma.flags & VM.LOCKED) !== 0;
  if (isLocked && !mayLock(mm, (vma.start - start) / PAGE_SIZE)) return null;
  splitPmdAt(m, mm, start);
  vma.pgoff -= (vma.start - start) / PAGE_SIZE;
  vma.start = start;
  relinkAnonVmas(vma);
  return vma;
}

/** True if every byte of [start, end) is mapped. */
export function isRangeMapped(mm: Mm, start: Addr, end: Addr): boolean {
  for (let at = start; at < end; ) {
    const vma = findVma(mm.vmas, at);
    if (vma === null) return false;
    at = vma.end;
  }
  return isAligned(start, PAGE_SIZE);
}
