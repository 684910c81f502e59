/**
 * Getting user pages: the kernel, a device or a debugger reaches into a program's memory.
 *
 * Entry: getUserPage (with faults), getUserPageFast (without), pinUserPages and dropPin.
 * Holds: none of these splits a folio, and a PMD only where a program's own access would (ANON-255, 256). What is handed out
 *        is never a page that a later write by the program would leave behind: a pin for reading of a page that others
 *        share takes it over or copies it first (ANON-167).
 */

import { addrOf, type Pfn, pteIndexOf, regionOf } from "../base/address.ts";
import { EAGAIN, EFAULT, ENOMEM, type Err } from "../base/errno.ts";
import type { HugeState } from "../huge/knobs.ts";
import { ENTRY, pmdSlotOf } from "../mm/page-tables.ts";
import { pinPages, unpinPages } from "../mm/pins.ts";
import type { Mm } from "../mm/state.ts";
import { findVma, VM, VM_ACCESS, type Vma } from "../mm/vma.ts";
import { headOf, PG } from "../phys/frame-table.ts";
import { faultHugeWrite, faultPteWrite } from "./cow.ts";
import { faultReach, isAccessible, translateToPfn } from "./fault.ts";
import { FAULT_OOM } from "./kinds.ts";

/** What is wanted of a page. */
export interface GupHow {
  readonly access: "read" | "write";
  /** FOLL_FORCE: rights of a private mapping do not matter, as for ptrace and /proc/PID/mem (ANON-166). */
  readonly rights: "respected" | "forced";
}

export const GUP_READ: GupHow = { access: "read", rights: "respected" };
export const GUP_WRITE: GupHow = { access: "write", rights: "respected" };

/**
 * Frame of the page at (region, pteIndex), faulted in as needed; -EFAULT or -ENOMEM. The entry is young afterwards, and
 * dirty after a write. No reference is taken.
 */
export function getUserPage(
  m: HugeState,
  mm: Mm,
  region: number,
  pteIndex: number,
  how: GupHow,
): Pfn | Err {
  const vma = findVma(mm.vmas, addrOf(region, pteIndex));
  if (vma === null || !mayReach(vma, how)) return -EFAULT;
  // A fault may have to be taken twice: a forced write of a zero page first makes a page.
  for (let nrTries = 0; !isReady(m, mm, region, pteIndex, how); nrTries++) {
    if (nrTries === 8) return -EFAULT;
    const result = faultReach(m, mm, vma, region, pteIndex, how.access);
    if (result < 0) return result === FAULT_OOM ? -ENOMEM : -EFAULT;
  }
  const slot = leafSlot(m, mm, region, pteIndex);
  m.tables.flags[slot] |= how.access === "write" ? ENTRY.YOUNG | ENTRY.DIRTY : ENTRY.YOUNG;
  return translateToPfn(m, mm, region, pteIndex);
}

function mayReach(vma: Vma, how: GupHow): boolean {
  if ((vma.flags & (VM.IO | VM.PFNMAP)) !== 0) return false;
  const needed = how.access === "write" ? VM.WRITE : VM_ACCESS;
  if ((vma.flags & needed) !== 0) return true;
  // Memory without any rights is out of reach here, forced or not; Linux would let a debugger in.
  if ((vma.flags & VM_ACCESS) === 0) return false;
  return how.rights === "forced" && (how.access === "read" || (vma.flags & VM.SHARED) === 0);
}

/** Writable, or for a forced write: a page of our own that only the rights of the mapping protect. */
function isReady(m: HugeState, mm: Mm, region: number, pteIndex: number, how: GupHow): boolean {
  if (isAccessible(m, mm, region, pteIndex, how.access)) return true;
  if (how.rights === "respected") return false;
  const slot = leafSlot(m, mm, region, pteIndex);
  if (slot < 0) return false;
  const entry = m.tables.flags[slot];
  if (how.access === "read") return true;
  return (entry & (ENTRY.SPECIAL | ENTRY.UFFD_WP)) === 0 && anonState(m, slot) === "exclusive";
}

/** Of the page or huge page that a present entry maps. */
function anonState(m: HugeState, slot: number): "exclusive" | "shared" | "notAnonymous" {
  const { flags } = m.frames;
  // A huge entry's payload is the head, which carries the flag for all of it (ANON-138).
  const pfn = m.tables.payload[slot];
  if ((flags[headOf(m.frames, pfn)] & PG.ANON) === 0) return "notAnonymous";
  return (flags[pfn] & PG.ANON_EXCLUSIVE) !== 0 ? "exclusive" : "shared";
}

/** Slot of the present entry, huge or not, that maps the page; -1 if there is none. */
function leafSlot(m: HugeState, mm: Mm, region: number, pteIndex: number): number {
  const { flags, payload } = m.tables;
  let slot = pmdSlotOf(m.tables, mm.root, region);
  if (slot < 0) return -1;
  if ((flags[slot] & ENTRY.TABLE) !== 0) slot = payload[slot] * 512 + pteIndex;
  return (flags[slot] & ENTRY.PRESENT) !== 0 ? slot : -1;
}

/**
 * The fast way: what is mapped with the wanted rights, without locks and faults; -EAGAIN if that is not enough. The folio is
 * marked as referenced, so that memory only a device looks at does not seem idle; in 2011 the entry became young (ANON-257).
 */
export function getUserPageFast(
  m: HugeState,
  mm: Mm,
  region: number,
  pteIndex: number,
  access: "read" | "write",
): Pfn | Err {
  if (!isAccessible(m, mm, region, pteIndex, access)) return -EAGAIN;
  const pfn = translateToPfn(m, mm, region, pteIndex);
  if (m.profile.fastGupMarksEntry) m.tables.flags[leafSlot(m, mm, region, pteIndex)] |= ENTRY.YOUNG;
  else m.frames.flags[headOf(m.frames, pfn)] |= PG.REFERENCED;
  return pfn;
}

/**
 * Pins `nr` pages from `start` for a device (FOLL_PIN). Their frames, or -EFAULT, -ENOMEM with nothing pinned. Pages of the
 * zero folios are handed out unpinned: nobody frees them.
 */
export function pinUserPages(
  m: HugeState,
  mm: Mm,
  start: number,
  nr: number,
  access: "read" | "write",
): Pfn[] | Err {
  const pfns: Pfn[] = [];
  for (let at = start; at < start + nr * 4096; at += 4096) {
    const pfn = pinPage(m, mm, regionOf(at), pteIndexOf(at), access);
    if (pfn < 0) {
      for (const taken of pfns) dropPin(m, taken);
      return pfn;
    }
    pfns.push(pfn);
  }
  return pfns;
}

function pinPage(
  m: HugeState,
  mm: Mm,
  region: number,
  pteIndex: number,
  access: "read" | "write",
): Pfn | Err {
  let pfn = getUserPage(m, mm, region, pteIndex, access === "read" ? GUP_READ : GUP_WRITE);
  if (pfn < 0) return pfn;
  // The next write of a sharer, or of the program itself, would leave a shared page to the device alone.
  if (anonState(m, leafSlot(m, mm, region, pteIndex)) === "shared") {
    const vma = findVma(mm.vmas, addrOf(region, pteIndex))!;
    if (unshare(m, mm, vma, region, pteIndex) < 0) return -ENOMEM;
    pfn = translateToPfn(m, mm, region, pteIndex);
  }
  if ((m.frames.flags[headOf(m.frames, pfn)] & PG.ZERO) === 0) pinPages(m, mm, pfn, 1);
  return pfn;
}

/**
 * ANON-167: decides as a write would, but the entry stays read-only. Taken over without a copy, it keeps all its bits.
 * 0 or a negative signal.
 */
function unshare(m: HugeState, mm: Mm, vma: Vma, region: number, pteIndex: number): number {
  const { tables } = m;
  const before = leafSlot(m, mm, region, pteIndex);
  const entry = tables.flags[before];
  const pfn = tables.payload[before];
  const isHuge = (entry & ENTRY.HUGE) !== 0;
  const result = isHuge
    ? faultHugeWrite(m, mm, vma, region, pteIndex, before)
    : faultPteWrite(m, mm, vma, region, pteIndex, before);
  if (result < 0) return result;
  const slot = leafSlot(m, mm, region, pteIndex);
  const isTakenOver = slot === before && tables.payload[slot] === pfn;
  tables.flags[slot] = isTakenOver ? entry : tables.flags[slot] & ~(ENTRY.WRITE | ENTRY.DIRTY);
  return 0;
}

/** Gives back what pinUserPages handed out. */
export function dropPin(m: HugeState, pfn: Pfn): void {
  if ((m.frames.flags[headOf(m.frames, pfn)] & PG.ZERO) === 0) unpinPages(m, pfn, 1);
}
