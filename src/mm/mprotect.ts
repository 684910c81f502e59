/**
 * mprotect: access bits of VMAs and of what is mapped in them.
 *
 * Entry: protectRange. Whole huge entries change in place, partly covered ones were split by the VMA edge (ANON-220, 221).
 */

import { type Addr, HUGE_SIZE, PTES_PER_REGION, pteIndexOf, regionOf } from "../base/address.ts";
import { ENOMEM, EPERM, type Err } from "../base/errno.ts";
import { headOf, PG } from "../phys/frame-table.ts";
import { ENTRY, NO_TABLE, pmdTableOf } from "./page-tables.ts";
import { changeHugePmd, isHugeEntry } from "./pmd.ts";
import type { Mm, MmState } from "./state.ts";
import { firstVmaIndex, VM, VM_ACCESS, type Vma } from "./vma.ts";
import { changeVmaFlags } from "./vma-edit.ts";

type Access = "none" | "readOnly" | "writable" | "writableShared";

/**
 * Sets the access bits of [start, end). VMAs before a hole are changed and -ENOMEM is returned for the hole; before a sealed
 * one likewise, with -EPERM.
 * Parts that have the protection already are left alone.
 */
export function protectRange(m: MmState, mm: Mm, start: Addr, end: Addr, access: number): Err {
  let at = start;
  while (at < end) {
    const vma = mm.vmas[firstVmaIndex(mm.vmas, at)];
    if (vma === undefined || vma.start > at) return -ENOMEM;
    if ((vma.flags & VM.SEALED) !== 0) return -EPERM;
    const stop = Math.min(end, vma.end);
    const flags = protectedFlags(vma, access);
    if (flags !== vma.flags) {
      const failed = changeVmaFlags(m, mm, vma, at, stop, flags);
      if (failed !== 0) return failed;
      m.mmuNotifier?.invalidateRange(mm.id, at / 4096, stop / 4096);
      changeEntries(m, mm, at, stop, accessOf(vma, flags));
    }
    at = stop;
  }
  return 0;
}

/** Private memory is accounted once it becomes writable, and no longer if it becomes read-only before its first page. */
function protectedFlags(vma: Vma, access: number): number {
  const flags = (vma.flags & ~VM_ACCESS) | access;
  if ((access & VM.WRITE) === 0) return vma.anonVma === null ? flags & ~VM.ACCOUNT : flags;
  const isExempt = (vma.flags & (VM.WRITE | VM.SHARED | VM.NORESERVE)) !== 0;
  return isExempt ? flags : flags | VM.ACCOUNT;
}

/** A shared file takes write faults, to be told of the first write; shared memory does not need to. */
function accessOf(vma: Vma, vmFlags: number): Access {
  if ((vmFlags & VM_ACCESS) === 0) return "none";
  if ((vmFlags & VM.WRITE) === 0) return "readOnly";
  if ((vmFlags & VM.SHARED) === 0) return "writable";
  return vma.file?.kind === "shmem" ? "writableShared" : "readOnly";
}

function changeEntries(m: MmState, mm: Mm, start: Addr, end: Addr, access: Access): void {
  const lastRegion = regionOf(end - 1);
  for (let region = regionOf(start); region <= lastRegion; region++) {
    const pmdTable = pmdTableOf(m.tables, mm.root, region);
    if (pmdTable === NO_TABLE) {
      region |= 511;
      continue;
    }
    const slot = pmdTable * 512 + (region & 511);
    const entry = m.tables.flags[slot];
    if (entry === 0) continue;
    if (isHugeEntry(entry)) {
      changeHugePmd(m, slot, access === "writableShared" ? "writable" : access);
      continue;
    }
    const first = region * HUGE_SIZE < start ? pteIndexOf(start) : 0;
    const last = (region + 1) * HUGE_SIZE > end ? pteIndexOf(end) : PTES_PER_REGION;
    changePtes(m, m.tables.payload[slot] * 512, first, last, access);
  }
}

function changePtes(m: MmState, base: number, first: number, last: number, access: Access): void {
  const { payload, flags } = m.tables;
  for (let slot = base + first; slot < base + last; slot++) {
    const entry = flags[slot];
    if ((entry & ENTRY.MIGRATION) !== 0 && access !== "writable") flags[slot] &= ~ENTRY.WRITE;
    if ((entry & ENTRY.PRESENT) === 0) continue;
    let changed = entry & ~(ENTRY.WRITE | ENTRY.PROTNONE);
    if (access === "none") changed |= ENTRY.PROTNONE;
    if (access === "writableShared") changed |= ENTRY.WRITE;
    const mayWrite = access === "writable" && (entry & ENTRY.UFFD_WP) === 0;
    if (mayWrite && isExclusiveAnon(m, payload[slot], entry)) changed |= ENTRY.WRITE;
    flags[slot] = changed;
  }
}

function isExclusiveAnon(m: MmState, pfn: number, entry: number): boolean {
  if ((entry & ENTRY.SPECIAL) !== 0) return false;
  if ((m.frames.flags[headOf(m.frames, pfn)] & PG.ANON) === 0) return false;
  return (m.frames.flags[pfn] & PG.ANON_EXCLUSIVE) !== 0;
}
