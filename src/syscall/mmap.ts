/**
 * The mapping system calls: argument checks in the kernel's order, then mm/ does the work.
 *
 * Returns: an address, 0, or a negative errno. Lengths are bytes and need not be page multiples.
 */

import { type Addr, alignUp, isAligned, PAGE_SIZE, TASK_SIZE } from "../base/address.ts";
import { EAGAIN, EFAULT, EINVAL, ENOMEM, EPERM, type Err } from "../base/errno.ts";
import { type FaultObserver, populateVma } from "../fault/fault.ts";
import type { HugeState } from "../huge/knobs.ts";
import type { FileObject } from "../mm/file-object.ts";
import { mayLock } from "../mm/mlock.ts";
import { mapRange, setBrk, unmapRange } from "../mm/mmap.ts";
import { enterMm } from "../mm/mmap-lock.ts";
import { protectRange } from "../mm/mprotect.ts";
import { remapRange } from "../mm/mremap.ts";
import type { Mm } from "../mm/state.ts";
import { findVma, firstVmaIndex, VM, VM_ACCESS, type Vma } from "../mm/vma.ts";
import { createFile, releaseUnusedShmem } from "../shmem/page-cache.ts";

/** PROT bits of mmap and mprotect. */
export const PROT = { NONE: 0, READ: 1, WRITE: 2, EXEC: 4 } as const;

/** MAP bits by Linux's values. */
export const MAP = {
  SHARED: 0x01,
  PRIVATE: 0x02,
  /** Anonymous memory that may be dropped under pressure: not locked, wiped at fork (ANON-029). */
  DROPPABLE: 0x08,
  /** Mask of the three above. */
  TYPE: 0x0f,
  FIXED: 0x10,
  ANONYMOUS: 0x20,
  GROWSDOWN: 0x100,
  LOCKED: 0x2000,
  NORESERVE: 0x4000,
  POPULATE: 0x8000,
  STACK: 0x20000,
  FIXED_NOREPLACE: 0x100000,
} as const;

/** MREMAP bits by Linux's values. */
export const MREMAP = { MAYMOVE: 1, FIXED: 2, DONTUNMAP: 4 } as const;

export interface MmapArguments {
  readonly address: Addr;
  readonly length: number;
  readonly prot: number;
  /** MAP bits; one of SHARED and PRIVATE. */
  readonly flags: number;
  /** Without MAP_ANONYMOUS: what to map, from byte `offset` (a page multiple). */
  readonly file?: FileObject;
  readonly offset?: number;
}

/** mmap(2). `observe` sees the faults of MAP_POPULATE and MAP_LOCKED. */
export function sysMmap(
  m: HugeState,
  mm: Mm,
  args: MmapArguments,
  observe: FaultObserver | null = null,
): Addr | Err {
  enterMm(m, mm, "write");
  const { flags } = args;
  const offset = args.offset ?? 0;
  if (args.length <= 0 || !isAligned(offset, PAGE_SIZE)) return -EINVAL;
  const length = alignUp(args.length, PAGE_SIZE);
  if (length > TASK_SIZE) return -ENOMEM;
  const isFixed = (flags & (MAP.FIXED | MAP.FIXED_NOREPLACE)) !== 0;
  if (isFixed && !isAligned(args.address, PAGE_SIZE)) return -EINVAL;
  const sharing = flags & MAP.TYPE;
  if (sharing !== MAP.SHARED && sharing !== MAP.PRIVATE && sharing !== MAP.DROPPABLE)
    return -EINVAL;
  const vmFlags = vmFlagsOf(args.prot, flags) | mm.defaultFlags;
  const refused = refuseDroppable(flags) || refuseLocked(mm, vmFlags, flags, length);
  if (refused !== 0) return refused;
  const start = mapRange(m, mm, {
    length,
    flags: vmFlags,
    file: backingOf(m, args),
    filePage: offset / PAGE_SIZE,
    placement: placementOf(args),
    address: args.address,
  });
  if (start >= 0 && ((flags & MAP.POPULATE) !== 0 || (vmFlags & VM.LOCKED) !== 0))
    populateMapping(m, mm, start, start + length, observe);
  return start;
}

function placementOf(args: MmapArguments): "any" | "hint" | "fixed" | "fixedNoReplace" {
  if ((args.flags & MAP.FIXED_NOREPLACE) !== 0) return "fixedNoReplace";
  if ((args.flags & MAP.FIXED) !== 0) return "fixed";
  return args.address === 0 ? "any" : "hint";
}

/** Droppable memory is anonymous, never locked and no stack. */
function refuseDroppable(flags: number): Err {
  if ((flags & MAP.TYPE) !== MAP.DROPPABLE) return 0;
  const isAnonymous = (flags & MAP.ANONYMOUS) !== 0;
  return !isAnonymous || (flags & (MAP.LOCKED | MAP.GROWSDOWN)) !== 0 ? -EINVAL : 0;
}

function vmFlagsOf(prot: number, flags: number): number {
  let vm = prot & VM_ACCESS;
  if ((flags & MAP.SHARED) !== 0) vm |= VM.SHARED;
  else if ((prot & PROT.WRITE) !== 0) vm |= VM.ACCOUNT;
  if ((flags & MAP.GROWSDOWN) !== 0) vm |= VM.GROWSDOWN;
  if ((flags & MAP.LOCKED) !== 0) vm |= VM.LOCKED;
  if ((flags & MAP.NORESERVE) !== 0) vm = (vm | VM.NORESERVE) & ~VM.ACCOUNT;
  if ((flags & MAP.TYPE) === MAP.DROPPABLE)
    vm = (vm | VM.DROPPABLE | VM.NORESERVE | VM.WIPEONFORK | VM.DONTDUMP) & ~VM.ACCOUNT;
  if ((flags & MAP.STACK) !== 0) vm |= VM.NOHUGEPAGE; // ANON-026
  return vm;
}

/** Shared anonymous memory is an object of its own; private anonymous memory has none (ANON-024). */
function backingOf(m: HugeState, args: MmapArguments): FileObject | null {
  if ((args.flags & MAP.ANONYMOUS) === 0) return args.file ?? null;
  if ((args.flags & MAP.SHARED) === 0) return null;
  return createFile(m, "shmem", "/dev/zero", alignUp(args.length, PAGE_SIZE) / PAGE_SIZE);
}

/** Populates part of what was just mapped; what cannot be had is left to later faults. */
function populateMapping(
  m: HugeState,
  mm: Mm,
  start: Addr,
  end: Addr,
  observe: FaultObserver | null,
): void {
  const vma = findVma(mm.vmas, start);
  if (vma !== null) populateVma(m, mm, vma, start, end, observe);
}

/** 0, or why memory that is locked from the start cannot be had: -EPERM, -EAGAIN. */
function refuseLocked(mm: Mm, vmFlags: number, mapFlags: number, length: number): Err {
  if ((mapFlags & MAP.LOCKED) !== 0 && mm.lockLimitBytes === 0) return -EPERM;
  return (vmFlags & VM.LOCKED) !== 0 && !mayLock(mm, length / PAGE_SIZE) ? -EAGAIN : 0;
}

/** munmap(2). */
export function sysMunmap(m: HugeState, mm: Mm, address: Addr, length: number): Err {
  if (!isAligned(address, PAGE_SIZE) || length <= 0) return -EINVAL;
  const end = address + alignUp(length, PAGE_SIZE);
  if (address >= TASK_SIZE || end > TASK_SIZE) return -EINVAL;
  enterMm(m, mm, "write");
  const failed = unmapRange(m, mm, address, end);
  releaseUnusedShmem(m);
  return failed;
}

/** mprotect(2). */
export function sysMprotect(
  m: HugeState,
  mm: Mm,
  address: Addr,
  length: number,
  prot: number,
  observe: FaultObserver | null = null,
): Err {
  if (!isAligned(address, PAGE_SIZE)) return -EINVAL;
  if (length === 0) return 0;
  const end = address + alignUp(length, PAGE_SIZE);
  if (end <= address || end > TASK_SIZE) return -ENOMEM;
  if ((prot & ~VM_ACCESS) !== 0) return -EINVAL;
  enterMm(m, mm, "write");
  for (let at = address; at < end; ) {
    const vma = mm.vmas[firstVmaIndex(mm.vmas, at)];
    const stop = vma === undefined || vma.start > at ? end : Math.min(end, vma.end);
    const isCopied = (prot & VM.WRITE) !== 0 && vma !== undefined && isLockedReadOnly(vma);
    const failed = protectRange(m, mm, at, stop, prot);
    if (failed !== 0) return failed;
    // Before the next VMA is changed and may merge with it: what fits into this one decides how large the pages are.
    if (isCopied) populateVma(m, mm, findVma(mm.vmas, at)!, at, stop, observe);
    at = stop;
  }
  return 0;
}

/** Private, locked and not writable: once it is writable, its pages are written at once (ANON-240). */
function isLockedReadOnly(vma: Vma): boolean {
  return (vma.flags & (VM.LOCKED | VM.WRITE | VM.SHARED)) === VM.LOCKED;
}

/** mremap(2). `target` is used with MREMAP_FIXED only. */
export function sysMremap(
  m: HugeState,
  mm: Mm,
  address: Addr,
  oldLength: number,
  newLength: number,
  flags: number,
  target: Addr = 0,
  observe: FaultObserver | null = null,
): Addr | Err {
  const mayMove = (flags & MREMAP.MAYMOVE) !== 0;
  const isFixed = (flags & MREMAP.FIXED) !== 0;
  const keepsSource = (flags & MREMAP.DONTUNMAP) !== 0;
  if ((flags & ~(MREMAP.MAYMOVE | MREMAP.FIXED | MREMAP.DONTUNMAP)) !== 0) return -EINVAL;
  if ((isFixed || keepsSource) && !mayMove) return -EINVAL;
  if (!isAligned(address, PAGE_SIZE) || newLength === 0) return -EINVAL;
  const oldBytes = alignUp(oldLength, PAGE_SIZE);
  const newBytes = alignUp(newLength, PAGE_SIZE);
  if (keepsSource && oldBytes !== newBytes) return -EINVAL;
  if (isFixed && !isAligned(target, PAGE_SIZE)) return -EINVAL;
  if (address >= TASK_SIZE) return -EFAULT;
  enterMm(m, mm, "write");
  const isLocked = ((findVma(mm.vmas, address)?.flags ?? 0) & VM.LOCKED) !== 0;
  const isGrowing = newBytes > oldBytes;
  if (isLocked && isGrowing && !mayLock(mm, (newBytes - oldBytes) / PAGE_SIZE)) return -EAGAIN;
  const to = remapRange(m, mm, {
    address,
    oldLength: oldBytes,
    newLength: newBytes,
    mayMove,
    target: isFixed ? target : null,
    keepsSource,
  });
  if (to >= 0 && isLocked && isGrowing)
    populateMapping(m, mm, to + oldBytes, to + newBytes, observe);
  return to;
}

/** brk(2): the break in force afterwards. After mlockall(MCL_FUTURE) the new part is locked and populated. */
export function sysBrk(
  m: HugeState,
  mm: Mm,
  brk: Addr,
  observe: FaultObserver | null = null,
): Addr {
  enterMm(m, mm, "write");
  const oldEnd = alignUp(mm.brk, PAGE_SIZE);
  const newEnd = alignUp(brk, PAGE_SIZE);
  const isLocked = (mm.defaultFlags & VM.LOCKED) !== 0 && newEnd > oldEnd;
  if (isLocked && !mayLock(mm, (newEnd - oldEnd) / PAGE_SIZE)) return mm.brk;
  const reached = setBrk(m, mm, brk);
  if (isLocked && reached === brk) populateMapping(m, mm, oldEnd, newEnd, observe);
  return reached;
}
