/**
 * madvise(2): argument checks in the kernel's order, the walk over VMAs, and each advice.
 *
 * Rules: ANON-040..046, 061, 260..271; COLL-240. MADV_COLLAPSE of shared memory returns -ENOSYS, which no kernel does, so
 *        that a caller can tell "not modelled" from an error.
 */

import { type Addr, alignUp, isAligned, PAGE_SIZE } from "../base/address.ts";
import { EAGAIN, EFAULT, EHWPOISON, EINVAL, ENOMEM, EPERM, type Err } from "../base/errno.ts";
import { beginMadviseCollapse, madviseCollapse } from "../collapse/madvise-collapse.ts";
import { type FaultObserver, populatePages } from "../fault/fault.ts";
import { FAULT_OOM, poisonOf } from "../fault/kinds.ts";
import { offerToKhugepaged } from "../huge/khugepaged-thread.ts";
import type { HugeState } from "../huge/knobs.ts";
import { installGuards, removeGuards } from "../mm/guard.ts";
import { enterMm } from "../mm/mmap-lock.ts";
import type { Mm } from "../mm/state.ts";
import { firstVmaIndex, isAnonymous, VM, VM_SPECIAL, type Vma } from "../mm/vma.ts";
import { changeVmaFlags } from "../mm/vma-edit.ts";
import { dropRange, freeEmptiedPteTables } from "../mm/zap.ts";
import type { Operation } from "../sched/state.ts";
import { adviseRange, beginAdvise } from "./advise-phases.ts";
import type { AdviceKind } from "./advised-folio.ts";
import { isSealedReadOnly } from "./madvise-free.ts";
import { poisonRange } from "./madvise-poison.ts";
import { willNeedRange } from "./madvise-willneed.ts";

/** MADV numbers of Linux. */
export const MADV = {
  NORMAL: 0,
  RANDOM: 1,
  SEQUENTIAL: 2,
  WILLNEED: 3,
  DONTNEED: 4,
  FREE: 8,
  REMOVE: 9,
  DONTFORK: 10,
  DOFORK: 11,
  MERGEABLE: 12,
  UNMERGEABLE: 13,
  HUGEPAGE: 14,
  NOHUGEPAGE: 15,
  DONTDUMP: 16,
  DODUMP: 17,
  WIPEONFORK: 18,
  KEEPONFORK: 19,
  COLD: 20,
  PAGEOUT: 21,
  POPULATE_READ: 22,
  POPULATE_WRITE: 23,
  DONTNEED_LOCKED: 24,
  COLLAPSE: 25,
  HWPOISON: 100,
  SOFT_OFFLINE: 101,
  GUARD_INSTALL: 102,
  GUARD_REMOVE: 103,
} as const;

/** Lengths that wrap around the 64-bit address space are not valid; beyond user space nothing is mapped. */
const ADDRESS_SPACE = 2 ** 64;
const KNOWN: ReadonlySet<number> = new Set(Object.values(MADV));
const ABOUT_HUGE_PAGES: ReadonlySet<number> = new Set([
  MADV.HUGEPAGE,
  MADV.NOHUGEPAGE,
  MADV.COLLAPSE,
]);

/** Advice by which memory loses its contents, now or in a child; MADV_FREE looks itself. */
const DISCARDS: ReadonlySet<number> = new Set([
  MADV.DONTNEED,
  MADV.REMOVE,
  MADV.DONTFORK,
  MADV.WIPEONFORK,
  MADV.DONTNEED_LOCKED,
  MADV.GUARD_INSTALL,
]);

/** Advice that a phase table carries out. */
const IN_PHASES: ReadonlyMap<number, AdviceKind> = new Map([
  [MADV.COLD, "cold"],
  [MADV.PAGEOUT, "pageOut"],
  [MADV.FREE, "free"],
]);

/** VMAs that MADV_MERGEABLE silently leaves alone (ANON-272). */
const NOT_MERGEABLE = VM.SHARED | VM_SPECIAL | VM.DROPPABLE;

/** What an advice does to the flags of a VMA: bits to clear, bits to set. */
const FLAG_ADVICE: ReadonlyMap<number, { readonly clear: number; readonly set: number }> = new Map([
  [MADV.NORMAL, { clear: VM.SEQ_READ | VM.RAND_READ, set: 0 }],
  [MADV.SEQUENTIAL, { clear: VM.RAND_READ, set: VM.SEQ_READ }],
  [MADV.RANDOM, { clear: VM.SEQ_READ, set: VM.RAND_READ }],
  [MADV.DONTFORK, { clear: 0, set: VM.DONTFORK }],
  [MADV.DOFORK, { clear: VM.DONTFORK, set: 0 }],
  [MADV.MERGEABLE, { clear: 0, set: VM.MERGEABLE }],
  [MADV.UNMERGEABLE, { clear: VM.MERGEABLE, set: 0 }],
  [MADV.HUGEPAGE, { clear: VM.NOHUGEPAGE, set: VM.HUGEPAGE }],
  [MADV.NOHUGEPAGE, { clear: VM.HUGEPAGE, set: VM.NOHUGEPAGE }],
  [MADV.DONTDUMP, { clear: 0, set: VM.DONTDUMP }],
  [MADV.DODUMP, { clear: VM.DONTDUMP, set: 0 }],
  [MADV.WIPEONFORK, { clear: 0, set: VM.WIPEONFORK }],
  [MADV.KEEPONFORK, { clear: VM.WIPEONFORK, set: 0 }],
]);

/** madvise(2): 0 or a negative errno. `observe` sees the faults of MADV_POPULATE_*. */
export function sysMadvise(
  m: HugeState,
  mm: Mm,
  start: Addr,
  length: number,
  advice: number,
  observe: FaultObserver | null = null,
): Err {
  if (!KNOWN.has(advice)) return -EINVAL;
  if (m.thpSupport === "notBuilt" && ABOUT_HUGE_PAGES.has(advice)) return -EINVAL; // ANON-042
  if (!m.profile.guardPages && advice >= MADV.GUARD_INSTALL) return -EINVAL;
  if (advice === MADV.HWPOISON || advice === MADV.SOFT_OFFLINE) {
    const how = advice === MADV.HWPOISON ? "fail" : "offline";
    return isAligned(start, PAGE_SIZE) && length >= 0
      ? poisonRange(m, mm, start, start + length, how)
      : -EINVAL;
  }
  if (!isAligned(start, PAGE_SIZE)) return -EINVAL;
  const end = start + alignUp(length, PAGE_SIZE);
  if (length < 0 || end >= ADDRESS_SPACE) return -EINVAL;
  if (start === end) return 0;
  if (advice === MADV.COLLAPSE) return madviseCollapse(m, mm, start, end);
  enterMm(m, mm, FLAG_ADVICE.has(advice) ? "write" : "read");
  if (advice === MADV.POPULATE_READ || advice === MADV.POPULATE_WRITE)
    return populate(m, mm, start, end, advice, observe);
  const kind = IN_PHASES.get(advice);
  return kind === undefined
    ? walkVmas(m, mm, start, end, advice)
    : adviseRange(m, mm, start, end, kind);
}

/**
 * The same call as an operation of `task`, of which nothing has run yet. Null if it is not one: no phase table carries this
 * advice out, or its arguments are refused.
 */
export function beginMadvise(
  m: HugeState,
  task: number,
  mm: Mm,
  start: Addr,
  length: number,
  advice: number,
): Operation | null {
  const end = start + alignUp(length, PAGE_SIZE);
  if (!isAligned(start, PAGE_SIZE) || length <= 0 || end >= ADDRESS_SPACE) return null;
  if (advice === MADV.COLLAPSE && m.thpSupport !== "notBuilt")
    return beginMadviseCollapse(m, task, mm, start, end);
  const kind = IN_PHASES.get(advice);
  return kind === undefined ? null : beginAdvise(m, task, mm, start, end, kind);
}

/** Every VMA of the range gets the advice; a hole makes it -ENOMEM at the end, an error stops at once (ANON-044). */
function walkVmas(m: HugeState, mm: Mm, start: Addr, end: Addr, advice: number): Err {
  let hasHole = false;
  for (let at = start; at < end; ) {
    const vma = mm.vmas[firstVmaIndex(mm.vmas, at)];
    if (vma === undefined || vma.start >= end) return -ENOMEM;
    if (vma.start > at) hasHole = true;
    const from = Math.max(at, vma.start);
    const to = Math.min(end, vma.end);
    const failed = adviseVma(m, mm, vma, from, to, advice);
    if (failed !== 0) return failed;
    at = to;
  }
  return hasHole ? -ENOMEM : 0;
}

function adviseVma(m: HugeState, mm: Mm, vma: Vma, start: Addr, end: Addr, advice: number): Err {
  if (DISCARDS.has(advice) && isSealedReadOnly(vma)) return -EPERM;
  const flagChange = FLAG_ADVICE.get(advice);
  if (flagChange !== undefined) {
    const refused = refuseFlagAdvice(m, vma, advice);
    if (refused !== 0) return refused;
    if (advice === MADV.MERGEABLE && (vma.flags & NOT_MERGEABLE) !== 0) return 0; // ANON-272
    const flags = (vma.flags & ~flagChange.clear) | flagChange.set;
    // The whole VMA is tested as if all of it had the advice, also if it had it before (COLL-042).
    if (advice === MADV.HUGEPAGE) offerToKhugepaged(m, mm, { ...vma, flags });
    const failed = changeVmaFlags(m, mm, vma, start, end, flags);
    // Running out of VMAs is reported as a passing shortage (ANON-045).
    return failed === -ENOMEM ? -EAGAIN : failed;
  }
  switch (advice) {
    case MADV.DONTNEED:
    case MADV.DONTNEED_LOCKED:
      return dontneed(m, mm, vma, start, end, advice);
    case MADV.GUARD_INSTALL:
      if ((vma.flags & (VM_SPECIAL | VM.LOCKED)) !== 0) return -EINVAL;
      return installGuards(m, mm, vma, start, end);
    case MADV.GUARD_REMOVE:
      if ((vma.flags & VM_SPECIAL) !== 0) return -EINVAL;
      removeGuards(m, mm, start, end);
      return 0;
    case MADV.WILLNEED:
      willNeedRange(m, mm, start, end);
      return 0;
    case MADV.REMOVE:
      return -EINVAL; // no file here can be punched; anonymous memory never can (ANON-270)
    default:
      return 0;
  }
}

function refuseFlagAdvice(m: HugeState, vma: Vma, advice: number): Err {
  const isHugeAdvice = advice === MADV.HUGEPAGE || advice === MADV.NOHUGEPAGE;
  if (isHugeAdvice && !isAnonymous(vma) && m.profile.hugepageAdviceOnFile === "EINVAL")
    return -EINVAL; // ANON-041
  if (advice === MADV.WIPEONFORK && (!isAnonymous(vma) || (vma.flags & VM.SHARED) !== 0))
    return -EINVAL; // ANON-271
  const undoesDroppable = advice === MADV.KEEPONFORK || advice === MADV.DODUMP;
  if (undoesDroppable && (vma.flags & VM.DROPPABLE) !== 0) return -EINVAL; // ANON-029
  if (advice === MADV.DOFORK && (vma.flags & VM.IO) !== 0) return -EINVAL;
  return 0;
}

function dontneed(m: HugeState, mm: Mm, vma: Vma, start: Addr, end: Addr, advice: number): Err {
  const isLocked = (vma.flags & VM.LOCKED) !== 0;
  if ((vma.flags & VM.PFNMAP) !== 0 || (isLocked && advice === MADV.DONTNEED)) return -EINVAL;
  dropRange(m, mm, start, end);
  if (m.profile.dontneedFreesTables) freeEmptiedPteTables(m, mm, start, end);
  return 0;
}

/** MADV_POPULATE_READ and _WRITE (ANON-269). */
function populate(
  m: HugeState,
  mm: Mm,
  start: Addr,
  end: Addr,
  advice: number,
  observe: FaultObserver | null,
): Err {
  const access = advice === MADV.POPULATE_WRITE ? "write" : "read";
  const needed = access === "write" ? VM.WRITE : VM.READ;
  for (let at = start; at < end; ) {
    const vma = mm.vmas[firstVmaIndex(mm.vmas, at)];
    if (vma === undefined || vma.start > at) return -ENOMEM;
    if ((vma.flags & needed) === 0 || (vma.flags & (VM.PFNMAP | VM.IO)) !== 0) return -EINVAL;
    const to = Math.min(end, vma.end);
    const failed = populatePages(m, mm, at, to, access, observe);
    if (failed !== 0) return populateError(failed);
    at = to;
  }
  return 0;
}

/** ANON-269. */
function populateError(signal: number): Err {
  if (signal === FAULT_OOM) return -ENOMEM;
  return poisonOf(signal) === null ? -EFAULT : -EHWPOISON;
}
