/**
 * Where a new mapping goes: Linux's top-down search below mmap_base, with the 2 MiB alignment of large anonymous mappings.
 *
 * Recordings hold no addresses, so this decides every eligibility a replay sees (ANON-120..124).
 */

import {
  type Addr,
  addrOf,
  alignDown,
  alignUp,
  HUGE_SIZE,
  PAGE_SIZE,
  regionOf,
  TASK_SIZE,
} from "../base/address.ts";
import { ENOMEM, type Err } from "../base/errno.ts";
import { nextBelow, type Random } from "../base/random.ts";
import type { AddressLayout, Mm } from "./state.ts";
import { firstVmaIndex, VM, type Vma } from "./vma.ts";

/** Kept free below a stack that may grow. */
export const STACK_GUARD_GAP = 256 * PAGE_SIZE;
/** Lowest address mmap gives out (vm.mmap_min_addr). */
export const MMAP_MIN_ADDR = 64 * 1024;
const MIN_STACK_GAP = 128 * 1024 * 1024;
const UNRANDOMIZED_IMAGE: Addr = 0x555555554000;

/** Fixed points of a new address space (bytes, page aligned). */
export interface AddressPlan {
  /** End of the main stack. */
  readonly stackTop: Addr;
  /** Exclusive top of the mmap area. */
  readonly mmapBase: Addr;
  /** Where a position-independent program is loaded. */
  readonly imageBase: Addr;
  /** Pages between the end of the program's image and the start of its heap. */
  readonly brkGapPages: number;
}

/** Addresses of a new process. Without randomization these are the values Linux shows with randomize_va_space=0. */
export function planAddresses(layout: AddressLayout, random: Random): AddressPlan {
  const gap = Math.max(layout.stackLimitBytes + STACK_GUARD_GAP, MIN_STACK_GAP);
  if (!layout.randomize)
    return {
      stackTop: TASK_SIZE,
      mmapBase: alignDown(TASK_SIZE - gap, PAGE_SIZE),
      imageBase: UNRANDOMIZED_IMAGE,
      brkGapPages: 0,
    };
  const stackTop = TASK_SIZE - nextBelow(random, 2 ** 22) * PAGE_SIZE;
  return {
    stackTop,
    mmapBase:
      alignDown(TASK_SIZE - 2 ** 34 - gap, PAGE_SIZE) - nextBelow(random, 2 ** 28) * PAGE_SIZE,
    imageBase: UNRANDOMIZED_IMAGE + nextBelow(random, 2 ** 28) * PAGE_SIZE,
    brkGapPages: nextBelow(random, 2 ** 13),
  };
}

/**
 * Address for `length` bytes (page multiple) where nothing is mapped, or -ENOMEM.
 * `wantsHugeAlignment`: private anonymous without a hint, whose length is a multiple of 2 MiB, is put on a 2 MiB boundary if
 * a gap of 2 MiB more exists (ANON-120, ANON-121).
 */
export function findFreeRange(mm: Mm, length: number, wantsHugeAlignment: boolean): Addr | Err {
  if (length > TASK_SIZE) return -ENOMEM;
  if (wantsHugeAlignment && length % HUGE_SIZE === 0) {
    const gapEnd = topGapEnd(mm, length + HUGE_SIZE);
    if (gapEnd > 0) return alignDown(gapEnd - length, HUGE_SIZE);
  }
  const gapEnd = topGapEnd(mm, length);
  return gapEnd > 0 ? gapEnd - length : findBottomUp(mm, length);
}

/** True if [start, start + length) is inside user space and nothing is mapped there, guard gaps included. */
export function isRangeFree(mm: Mm, start: Addr, length: number): boolean {
  if (start < MMAP_MIN_ADDR || start + length > TASK_SIZE) return false;
  const next = mm.vmas[firstVmaIndex(mm.vmas, start)];
  return next === undefined || start + length <= effectiveStart(next);
}

/** End of the highest gap below mmapBase that holds `length` bytes, or 0. */
function topGapEnd(mm: Mm, length: number): Addr {
  const vmas = mm.vmas;
  let gapEnd = mm.mmapBase;
  let i = firstVmaIndex(vmas, mm.mmapBase);
  const above = vmas[i];
  if (above !== undefined) gapEnd = Math.min(gapEnd, effectiveStart(above));
  for (i--; ; i--) {
    const gapStart = i >= 0 ? vmas[i].end : MMAP_MIN_ADDR;
    if (gapEnd - gapStart >= length) return gapEnd;
    if (i < 0) return 0;
    gapEnd = Math.min(gapEnd, effectiveStart(vmas[i]));
  }
}

/** When nothing fits below mmapBase: the lowest gap from a third of user space upwards. */
function findBottomUp(mm: Mm, length: number): Addr | Err {
  let start = alignUp(addrOf(regionOf(TASK_SIZE / 3), 0), PAGE_SIZE);
  for (let i = firstVmaIndex(mm.vmas, start); i < mm.vmas.length; i++) {
    const vma = mm.vmas[i];
    if (start + length <= effectiveStart(vma)) return start;
    start = vma.end;
  }
  return start + length <= TASK_SIZE ? start : -ENOMEM;
}

function effectiveStart(vma: Vma): Addr {
  return (vma.flags & VM.GROWSDOWN) !== 0 ? Math.max(0, vma.start - STACK_GUARD_GAP) : vma.start;
}
