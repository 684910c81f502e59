/**
 * Virtual memory areas: what a range of an address space is, and the sorted list of them.
 *
 * Owns:  the VMA record and its flags; lookup. Insertion, split and merge are in vma-edit.ts.
 * Units: `start`, `end` byte addresses, half-open, page aligned; `pgoff` a page index in the file, or for private anonymous
 *        memory the page number the VMA was created at, so that a page keeps its index when the VMA moves.
 */

import { type Addr, PAGE_SIZE } from "../base/address.ts";
import type { AnonVma } from "./anon-vma.ts";
import type { FileObject } from "./file-object.ts";

/** Flags of a VMA; names are Linux's without VM_. */
export const VM = {
  READ: 1 << 0,
  WRITE: 1 << 1,
  EXEC: 1 << 2,
  SHARED: 1 << 3,
  GROWSDOWN: 1 << 4,
  LOCKED: 1 << 5,
  LOCKONFAULT: 1 << 6,
  DONTFORK: 1 << 7,
  WIPEONFORK: 1 << 8,
  NORESERVE: 1 << 9,
  ACCOUNT: 1 << 10,
  HUGEPAGE: 1 << 11,
  NOHUGEPAGE: 1 << 12,
  MERGEABLE: 1 << 13,
  SEQ_READ: 1 << 14,
  RAND_READ: 1 << 15,
  DONTDUMP: 1 << 16,
  /** exec is still building the stack: never huge (ANON-025). */
  TEMP_STACK: 1 << 17,
  IO: 1 << 18,
  PFNMAP: 1 << 19,
  DONTEXPAND: 1 << 20,
  MIXEDMAP: 1 << 21,
  SEALED: 1 << 22,
  DROPPABLE: 1 << 23,
  UFFD_MISSING: 1 << 24,
  UFFD_WP: 1 << 25,
  /** May hold guard regions. */
  MAYBE_GUARD: 1 << 26,
  /** With UFFD_WP: a write lifts the protection of its page itself instead of being reported. */
  UFFD_WP_ASYNC: 1 << 27,
} as const;

/** The three bits mprotect changes; equal to PROT_READ, PROT_WRITE, PROT_EXEC. */
export const VM_ACCESS = VM.READ | VM.WRITE | VM.EXEC;

/** Registered with a userfaultfd; lost at fork and mremap. */
export const VM_UFFD = VM.UFFD_MISSING | VM.UFFD_WP | VM.UFFD_WP_ASYNC;

/** Not ordinary memory: device ranges, the vdso, shared rings (ANON-023). */
export const VM_SPECIAL = VM.IO | VM.PFNMAP | VM.DONTEXPAND | VM.MIXEDMAP;

/** Does not keep neighbours apart: what they merge into has it if one of them had (ANON-274). */
export const VM_STICKY = VM.MAYBE_GUARD;

export interface Vma {
  start: Addr;
  end: Addr;
  /** VM bits. */
  flags: number;
  /** See Units. */
  pgoff: number;
  /** pgoff - start / 4096: 0 for private anonymous memory that never moved. */
  pgoffDelta: number;
  /** The anon_vma of pages first mapped here; null until the first write fault. */
  anonVma: AnonVma | null;
  /** Every anon_vma whose pages may be mapped here: own and, after fork, the ancestors'. */
  anonVmaChain: AnonVma[];
  /** What is mapped; null for private anonymous memory (also of /dev/zero). */
  readonly file: FileObject | null;
  /** Address space it belongs to (index in m.mms). */
  readonly mmId: number;
}

/** A VMA that has no pages yet. */
export function createVma(
  mmId: number,
  start: Addr,
  end: Addr,
  flags: number,
  file: FileObject | null,
  pgoff: number,
): Vma {
  return {
    start,
    end,
    flags,
    pgoff,
    pgoffDelta: pgoff - start / PAGE_SIZE,
    anonVma: null,
    anonVmaChain: [],
    file,
    mmId,
  };
}

/** True for memory without a backing object: it alone gets anonymous huge pages (ANON-024). */
export function isAnonymous(vma: Vma): boolean {
  return vma.file === null;
}

/** Index of the first VMA that ends above `addr`; vmas.length if none. */
export function firstVmaIndex(vmas: readonly Vma[], addr: Addr): number {
  let low = 0;
  let high = vmas.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (vmas[middle].end > addr) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** The VMA that contains `addr`, or null. */
export function findVma(vmas: readonly Vma[], addr: Addr): Vma | null {
  const vma = vmas[firstVmaIndex(vmas, addr)];
  return vma !== undefined && vma.start <= addr ? vma : null;
}

/** Length in 4 KiB pages. */
export function nrPagesOf(vma: Vma): number {
  return (vma.end - vma.start) / PAGE_SIZE;
}
