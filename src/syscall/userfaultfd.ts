/**
 * userfaultfd as far as it touches memory: registering ranges, filling pages, write-protecting them.
 *
 * Every context here has the SIGBUS feature: a fault that would be delivered to a handler ends in SIGBUS, so nobody waits.
 * Rules: ANON-064, 106, 222. Numbers and errors are those of the ioctls. Private anonymous memory only.
 */

import {
  type Addr,
  isAligned,
  PAGE_SIZE,
  pteIndexOf,
  regionOf,
  TASK_SIZE,
} from "../base/address.ts";
import { EEXIST, EINVAL, ENOENT, ENOMEM, type Err } from "../base/errno.ts";
import { newAnonPage, newEntryFlags } from "../fault/anon.ts";
import type { HugeState } from "../huge/knobs.ts";
import { prepareAnonVma } from "../mm/anon-vma.ts";
import { enterMm } from "../mm/mmap-lock.ts";
import { ENTRY, NO_TABLE } from "../mm/page-tables.ts";
import type { Mm } from "../mm/state.ts";
import { ensurePmdSlot, ensurePteTable } from "../mm/table-alloc.ts";
import { clearUffdWp, setUffdWp } from "../mm/uffd-wp.ts";
import { findVma, firstVmaIndex, isAnonymous, VM, VM_UFFD, type Vma } from "../mm/vma.ts";
import { changeVmaFlags } from "../mm/vma-edit.ts";
import { NO_PFN } from "../phys/frame-table.ts";

/** UFFDIO_REGISTER_MODE bits, and one of ours for the feature UFFD_FEATURE_WP_ASYNC. */
export const UFFD_MODE = { MISSING: 1, WP: 2, WP_ASYNC: 0x100 } as const;

/** UFFDIO_REGISTER: 0, -EINVAL or -ENOMEM. VMAs split at the edges; holes behind the first VMA are passed over. */
export function registerRange(
  m: HugeState,
  mm: Mm,
  start: Addr,
  length: number,
  mode: number,
): Err {
  const bits = vmBitsOf(mode);
  const end = start + length;
  if (bits === 0 || !isRange(start, length)) return -EINVAL;
  enterMm(m, mm, "write");
  const inRange = vmasWithin(mm, start, end);
  if (inRange.length === 0 || inRange[0].start > start) return -EINVAL;
  if (inRange.some((vma) => !isAnonymous(vma) || (vma.flags & VM.DROPPABLE) !== 0)) return -EINVAL;
  return eachVma(m, mm, start, end, (vma) => {
    prepareAnonVma(m, mm, vma); // so that pages can be put there before the first fault
    return (vma.flags & bits) === bits ? vma.flags : (vma.flags & ~VM_UFFD) | bits;
  });
}

/** UFFDIO_UNREGISTER: what was write-protected no longer is. 0, -EINVAL or -ENOMEM. */
export function unregisterRange(m: HugeState, mm: Mm, start: Addr, length: number): Err {
  if (!isRange(start, length)) return -EINVAL;
  enterMm(m, mm, "write");
  const end = start + length;
  for (const vma of vmasWithin(mm, start, end))
    if ((vma.flags & VM.UFFD_WP) !== 0)
      clearUffdWp(m, mm, vma, Math.max(start, vma.start), Math.min(end, vma.end));
  return eachVma(m, mm, start, end, (vma) => vma.flags & ~VM_UFFD);
}

/** What UFFDIO_COPY and UFFDIO_ZEROPAGE fill a range with. */
export interface UffdFill {
  readonly start: Addr;
  /** Bytes, a page multiple. */
  readonly length: number;
  /** Contents of each page (its tag), or the shared zero page. */
  readonly contents: number | "zeroPage";
  /** UFFDIO_COPY_MODE_WP: the pages arrive write-protected. */
  readonly isWriteProtected?: boolean;
}

/**
 * UFFDIO_COPY and UFFDIO_ZEROPAGE: bytes filled, or if the first page fails -EEXIST, -ENOMEM; -EINVAL, -ENOENT for the
 * arguments. Always 4K pages, also for a whole aligned 2 MiB (ANON-064).
 */
export function fillRange(m: HugeState, mm: Mm, fill: UffdFill): number | Err {
  const { start, length } = fill;
  if (!isRange(start, length)) return -EINVAL;
  enterMm(m, mm, "read");
  const vma = findVma(mm.vmas, start);
  if (vma === null || start + length > vma.end || (vma.flags & VM_UFFD) === 0) return -ENOENT;
  if (fill.isWriteProtected === true && (vma.flags & VM.UFFD_WP) === 0) return -EINVAL;
  for (let done = 0; done < length; done += PAGE_SIZE) {
    const failed = fillPage(m, mm, vma, start + done, fill);
    if (failed !== 0) return done > 0 ? done : failed;
  }
  return length;
}

function fillPage(m: HugeState, mm: Mm, vma: Vma, at: Addr, fill: UffdFill): Err {
  const { tables } = m;
  const [region, pteIndex] = [regionOf(at), pteIndexOf(at)];
  const pmdSlot = ensurePmdSlot(m, mm, region);
  if (pmdSlot < 0) return -ENOMEM;
  if ((tables.flags[pmdSlot] & ENTRY.HUGE) !== 0) return -EEXIST;
  const table = ensurePteTable(m, mm, pmdSlot);
  if (table === NO_TABLE) return -ENOMEM;
  const slot = table * 512 + pteIndex;
  if (tables.flags[slot] !== 0) return -EEXIST;
  if (fill.contents === "zeroPage") {
    tables.payload[slot] = m.zeroPfn;
    tables.flags[slot] = ENTRY.PRESENT | ENTRY.SPECIAL | ENTRY.YOUNG;
  } else {
    const pfn = newAnonPage(m, mm, vma, region, pteIndex);
    if (pfn === NO_PFN) return -ENOMEM;
    m.frames.tag[pfn] = fill.contents;
    tables.payload[slot] = pfn;
    const entry = newEntryFlags(vma);
    const isProtected = fill.isWriteProtected === true;
    tables.flags[slot] = isProtected ? (entry & ~ENTRY.WRITE) | ENTRY.UFFD_WP : entry;
  }
  tables.nrUsed[table]++;
  return 0;
}

/** UFFDIO_WRITEPROTECT: 0, -EINVAL, or -ENOENT if the range is not wholly registered for it. */
export function protectWrites(
  m: HugeState,
  mm: Mm,
  start: Addr,
  length: number,
  how: "protect" | "resolve",
): Err {
  if (!isRange(start, length)) return -EINVAL;
  enterMm(m, mm, "read");
  const end = start + length;
  for (let at = start; at < end; ) {
    const vma = findVma(mm.vmas, at);
    if (vma === null || (vma.flags & VM.UFFD_WP) === 0) return -ENOENT;
    const stop = Math.min(end, vma.end);
    if (how === "protect") setUffdWp(m, mm, vma, at, stop);
    else clearUffdWp(m, mm, vma, at, stop);
    at = stop;
  }
  return 0;
}

/** VM bits of a mode; 0 for one that does not exist. */
function vmBitsOf(mode: number): number {
  const { MISSING, WP, WP_ASYNC } = UFFD_MODE;
  if ((mode & ~(MISSING | WP | WP_ASYNC)) !== 0) return 0;
  let bits = (mode & MISSING) !== 0 ? VM.UFFD_MISSING : 0;
  if ((mode & WP) !== 0) bits |= VM.UFFD_WP;
  if ((mode & WP_ASYNC) !== 0) bits |= VM.UFFD_WP | VM.UFFD_WP_ASYNC;
  return bits;
}

function isRange(start: Addr, length: number): boolean {
  const isPages = isAligned(start, PAGE_SIZE) && isAligned(length, PAGE_SIZE);
  return isPages && length > 0 && start + length <= TASK_SIZE;
}

function vmasWithin(mm: Mm, start: Addr, end: Addr): Vma[] {
  return mm.vmas.filter((vma) => vma.start < end && vma.end > start);
}

function eachVma(m: HugeState, mm: Mm, start: Addr, end: Addr, flagsOf: (vma: Vma) => number): Err {
  for (let at = start; at < end; ) {
    const vma = mm.vmas[firstVmaIndex(mm.vmas, at)];
    if (vma === undefined || vma.start >= end) return 0;
    const stop = Math.min(end, vma.end);
    const failed = changeVmaFlags(m, mm, vma, Math.max(at, vma.start), stop, flagsOf(vma));
    if (failed !== 0) return failed;
    at = stop;
  }
  return 0;
}
