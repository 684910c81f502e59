/**
 * mlock(2), mlock2(2), munlock(2), mlockall(2), munlockall(2): argument checks, the limit, flags of VMAs, population.
 *
 * Rules: ANON-230..238. Capability and RLIMIT_MEMLOCK are one number of the address space (mm.lockLimitBytes).
 * Locks: mmap lock exclusive for the flags, then shared for the population.
 */

import { type Addr, alignDown, alignUp, PAGE_SIZE } from "../base/address.ts";
import { EAGAIN, EINVAL, ENOMEM, EPERM, type Err } from "../base/errno.ts";
import { type FaultObserver, populateVma } from "../fault/fault.ts";
import { FAULT_OOM } from "../fault/kinds.ts";
import type { HugeState } from "../huge/knobs.ts";
import { lockedPages, lockedPagesIn, lockMapped, unlockMapped, VM_LOCK_BITS } from "../mm/mlock.ts";
import { enterMm } from "../mm/mmap-lock.ts";
import type { Mm } from "../mm/state.ts";
import { findVma, firstVmaIndex, nrPagesOf, VM, VM_SPECIAL, type Vma } from "../mm/vma.ts";
import { changeVmaFlags } from "../mm/vma-edit.ts";

/** Flag of mlock2. */
export const MLOCK_ONFAULT = 1;
/** Flags of mlockall. */
export const MCL = { CURRENT: 1, FUTURE: 2, ONFAULT: 4 } as const;

const ADDRESS_SPACE = 2 ** 64;

/** VMAs that are never locked: the call passes over them and still returns 0. */
const NOT_LOCKABLE = VM_SPECIAL | VM.DROPPABLE;

/** mlock(2). `observe` sees the faults of the population. */
export function sysMlock(
  m: HugeState,
  mm: Mm,
  address: Addr,
  length: number,
  observe: FaultObserver | null = null,
): Err {
  return lockRange(m, mm, address, length, VM.LOCKED, observe);
}

/** mlock2(2). With MLOCK_ONFAULT nothing is populated (ANON-236). */
export function sysMlock2(
  m: HugeState,
  mm: Mm,
  address: Addr,
  length: number,
  flags: number,
  observe: FaultObserver | null = null,
): Err {
  if ((flags & ~MLOCK_ONFAULT) !== 0) return -EINVAL;
  const bits = (flags & MLOCK_ONFAULT) !== 0 ? VM_LOCK_BITS : VM.LOCKED;
  return lockRange(m, mm, address, length, bits, observe);
}

/** munlock(2). */
export function sysMunlock(m: HugeState, mm: Mm, address: Addr, length: number): Err {
  enterMm(m, mm, "write");
  const start = alignDown(address, PAGE_SIZE);
  return changeLocks(m, mm, start, alignUp(address + length, PAGE_SIZE), 0);
}

function lockRange(
  m: HugeState,
  mm: Mm,
  address: Addr,
  length: number,
  bits: number,
  observe: FaultObserver | null,
): Err {
  if (mm.lockLimitBytes === 0) return -EPERM;
  enterMm(m, mm, "write");
  const start = alignDown(address, PAGE_SIZE);
  const end = alignUp(address + length, PAGE_SIZE);
  const nrNew = (end - start) / PAGE_SIZE - lockedPagesIn(mm, start, end);
  if ((lockedPages(mm) + nrNew) * PAGE_SIZE > mm.lockLimitBytes) return -ENOMEM;
  const failed = changeLocks(m, mm, start, end, bits);
  return failed === 0 ? populateRange(m, mm, start, end, observe) : failed;
}

/** Sets the lock bits of every VMA up to the first hole, where it stops with -ENOMEM. */
function changeLocks(m: HugeState, mm: Mm, start: Addr, end: Addr, bits: number): Err {
  if (end >= ADDRESS_SPACE) return -EINVAL; // wraps around
  for (let at = start; at < end; ) {
    const vma = findVma(mm.vmas, at);
    if (vma === null) return -ENOMEM;
    const to = Math.min(end, vma.end);
    const failed = setLockBits(m, mm, vma, at, to, bits);
    if (failed !== 0) return failed;
    at = to;
  }
  return 0;
}

/** Part of one VMA. Locking what is locked already changes its flags only: locking twice would be wrong. */
function setLockBits(m: HugeState, mm: Mm, vma: Vma, start: Addr, end: Addr, bits: number): Err {
  const flags = (vma.flags & ~VM_LOCK_BITS) | bits;
  if (flags === vma.flags || (vma.flags & NOT_LOCKABLE) !== 0) return 0;
  const wasLocked = (vma.flags & VM.LOCKED) !== 0;
  const failed = changeVmaFlags(m, mm, vma, start, end, flags);
  if (failed !== 0) return failed;
  if (bits === 0) unlockMapped(m, mm, start, end);
  else if (!wasLocked) lockMapped(m, mm, start, end);
  return 0;
}

/** A page that cannot be had: inaccessible memory is reported as -ENOMEM, no frame as a passing shortage. */
function populateRange(
  m: HugeState,
  mm: Mm,
  start: Addr,
  end: Addr,
  observe: FaultObserver | null,
): Err {
  for (let at = start; at < end; ) {
    const vma = findVma(mm.vmas, at);
    if (vma === null) return -ENOMEM;
    const to = Math.min(end, vma.end);
    const failed = populateVma(m, mm, vma, at, to, observe);
    if (failed !== 0) return failed === FAULT_OOM ? -EAGAIN : -ENOMEM;
    at = to;
  }
  return 0;
}

/** mlockall(2). MCL_CURRENT populates as far as it can and reports no failure of it. */
export function sysMlockall(
  m: HugeState,
  mm: Mm,
  flags: number,
  observe: FaultObserver | null = null,
): Err {
  const isKnown = (flags & ~(MCL.CURRENT | MCL.FUTURE | MCL.ONFAULT)) === 0;
  if (!isKnown || (flags & (MCL.CURRENT | MCL.FUTURE)) === 0) return -EINVAL;
  if (mm.lockLimitBytes === 0) return -EPERM;
  enterMm(m, mm, "write");
  const isCurrent = (flags & MCL.CURRENT) !== 0;
  if (isCurrent && totalPages(mm) * PAGE_SIZE > mm.lockLimitBytes) return -ENOMEM;
  const bits = (flags & MCL.ONFAULT) !== 0 ? VM_LOCK_BITS : VM.LOCKED;
  mm.defaultFlags = (flags & MCL.FUTURE) !== 0 ? bits : 0;
  if (!isCurrent) return 0;
  changeAll(m, mm, bits);
  for (const vma of [...mm.vmas]) populateVma(m, mm, vma, vma.start, vma.end, observe);
  return 0;
}

/** munlockall(2): also ends MCL_FUTURE. */
export function sysMunlockall(m: HugeState, mm: Mm): Err {
  enterMm(m, mm, "write");
  mm.defaultFlags = 0;
  changeAll(m, mm, 0);
  return 0;
}

/** Every VMA there is; those that cannot be changed are left as they are. */
function changeAll(m: HugeState, mm: Mm, bits: number): void {
  let at = 0;
  for (;;) {
    const vma = mm.vmas[firstVmaIndex(mm.vmas, at)];
    if (vma === undefined) return;
    const { start, end } = vma;
    setLockBits(m, mm, vma, Math.max(at, start), end, bits);
    at = end;
  }
}

function totalPages(mm: Mm): number {
  return mm.vmas.reduce((sum, vma) => sum + nrPagesOf(vma), 0);
}
