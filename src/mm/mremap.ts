/**
 * mremap: growing, shrinking and moving a mapping, with huge entries moved as units where both ends are aligned.
 *
 * Entry: remapRange. Pages keep their index (pgoff) when they move, so rmap still finds them (ANON-223..227).
 */

import {
  type Addr,
  HUGE_SIZE,
  isAligned,
  PAGE_SIZE,
  pteIndexOf,
  regionOf,
  TASK_SIZE,
} from "../base/address.ts";
import { assert } from "../base/assert.ts";
import { EFAULT, EINVAL, ENOMEM, EPERM, type Err } from "../base/errno.ts";
import { findFreeRange, isRangeFree } from "./address-choice.ts";
import { copyChain, relinkAnonVmas, unlinkAnonVmas } from "./anon-vma.ts";
import { VM_LOCK_BITS } from "./mlock.ts";
import { unmapRange } from "./mmap.ts";
import { ENTRY, NO_TABLE, pmdSlotOf } from "./page-tables.ts";
import { isHugeEntry, moveHugePmd, splitPmd } from "./pmd.ts";
import type { Mm, MmState } from "./state.ts";
import {
  clearEntry,
  ensurePmdSlot,
  ensurePteTable,
  freeTable,
  setTableEntry,
} from "./table-alloc.ts";
import { clearUffdWp } from "./uffd-wp.ts";
import { createVma, findVma, firstVmaIndex, VM, VM_UFFD, type Vma } from "./vma.ts";
import { insertVma, isolateRange, mergeAround, rejoin } from "./vma-edit.ts";

/** Lengths in bytes, page multiples. */
export interface RemapRequest {
  readonly address: Addr;
  readonly oldLength: number;
  readonly newLength: number;
  readonly mayMove: boolean;
  /** MREMAP_FIXED's target, or null. */
  readonly target: Addr | null;
  /** MREMAP_DONTUNMAP: the old range stays mapped and empty. */
  readonly keepsSource: boolean;
}

/** The new address, or -EFAULT (not one VMA), -EPERM (sealed), -EINVAL, -ENOMEM. */
export function remapRange(m: MmState, mm: Mm, request: RemapRequest): Addr | Err {
  const { address, oldLength, newLength } = request;
  const vma = findVma(mm.vmas, address);
  if (vma === null) return -EFAULT;
  if ((vma.flags & VM.SEALED) !== 0) return -EPERM;
  if (oldLength === 0 && (vma.flags & VM.SHARED) === 0) return -EINVAL;
  const mayStay = request.target === null && !request.keepsSource;
  // Shrinking is an munmap: what is cut off may be several VMAs and holes.
  if (mayStay && newLength < oldLength) {
    const failed = unmapRange(m, mm, address + newLength, address + oldLength);
    return failed === 0 ? address : failed;
  }
  if (mayStay && newLength === oldLength) return address;
  // What a move would cut off is unmapped first, and may be several VMAs.
  if (address + Math.min(oldLength, newLength) > vma.end) return moveSeveral(m, mm, request);
  if (mayStay) {
    if (address + oldLength > vma.end) return -EFAULT;
    if (growsInPlace(m, mm, vma, request)) return address;
    if (!request.mayMove) return -ENOMEM;
  }
  return moveRange(m, mm, request);
}

/** A move of unchanged length to a fixed place takes the VMAs one by one, and leaves holes as they are at both ends (ANON-228). */
function moveSeveral(m: MmState, mm: Mm, request: RemapRequest): Addr | Err {
  const { address, oldLength, newLength, target } = request;
  const isAllowed = m.profile.remapMovesSeveralVmas && target !== null && newLength === oldLength;
  if (!isAllowed) return -EFAULT;
  if (target < address + oldLength && address < target + newLength) return -EINVAL;
  const end = address + oldLength;
  for (let at = address; at < end; ) {
    const vma = mm.vmas[firstVmaIndex(mm.vmas, at)];
    if (vma === undefined || vma.start >= end) break;
    if ((vma.flags & VM.SEALED) !== 0) return -EPERM;
    if ((vma.flags & VM_UFFD) !== 0) return -EFAULT;
    const from = Math.max(at, vma.start);
    const length = Math.min(end, vma.end) - from;
    const to = target + (from - address);
    const part = { ...request, address: from, oldLength: length, newLength: length, target: to };
    const moved = moveRange(m, mm, part);
    if (moved < 0) return moved; // what was moved stays moved
    at = from + length;
  }
  return target;
}

function growsInPlace(m: MmState, mm: Mm, vma: Vma, request: RemapRequest): boolean {
  const { address, oldLength, newLength } = request;
  if (address + oldLength !== vma.end) return false;
  if (!isRangeFree(mm, vma.end, newLength - oldLength)) return false;
  vma.end = address + newLength;
  relinkAnonVmas(vma);
  const merged = mergeAround(m, mm, vma);
  m.vmaObserver?.vmaGrew(m, mm, merged);
  return true;
}

function moveRange(m: MmState, mm: Mm, request: RemapRequest): Addr | Err {
  const { address, oldLength, newLength } = request;
  const to = request.target ?? chooseTarget(mm, newLength);
  if (to < 0) return to;
  if (to + newLength > TASK_SIZE) return -EINVAL;
  if (to < address + oldLength && address < to + newLength) return -EINVAL;
  let failed = unmapRange(m, mm, to, to + newLength);
  if (failed === 0 && newLength < oldLength)
    failed = unmapRange(m, mm, address + newLength, address + oldLength);
  const moved = Math.min(oldLength, newLength);
  const whole = findVma(mm.vmas, address)!;
  const isWhole = whole.start === address && whole.end === address + moved;
  // Length 0 makes a second mapping of shared memory: the first stays as it is.
  if (failed === 0 && moved > 0) failed = isolateRange(m, mm, address, address + moved);
  if (failed !== 0) return failed;
  const source = findVma(mm.vmas, address)!;
  insertVma(m, mm, targetVma(source, address, to, newLength));
  m.mmuNotifier?.invalidateRange(mm.id, address / PAGE_SIZE, (address + moved) / PAGE_SIZE);
  if ((source.flags & VM.UFFD_WP) !== 0 && moved > 0)
    clearUffdWp(m, mm, source, address, address + moved);
  failed = movePageTables(m, mm, address, to, moved);
  if (failed !== 0) {
    // The tables of the old place still exist, so the way back cannot run out of memory.
    const undone = movePageTables(m, mm, to, address, moved);
    assert(undone === 0, "pages could not be moved back");
    unmapRange(m, mm, to, to + newLength);
    return failed;
  }
  if (request.keepsSource)
    leaveSource(m, mm, findVma(mm.vmas, address)!, isWhole ? "whole" : "part");
  else failed = unmapRange(m, mm, address, address + moved);
  return failed === 0 ? to : failed;
}

/** MREMAP_DONTUNMAP: what stays behind is empty and no longer locked; a VMA moved whole begins anew without an anon_vma (ANON-223). */
function leaveSource(m: MmState, mm: Mm, source: Vma, moved: "whole" | "part"): void {
  source.flags &= ~VM_LOCK_BITS;
  if (moved === "whole") unlinkAnonVmas(m, source);
  else rejoin(m, mm, source); // the part was split off only to be moved
}

function chooseTarget(mm: Mm, length: number): Addr | Err {
  return findFreeRange(mm, length, true);
}

/** The moved VMA: same flags and indices, but registered with no userfaultfd. One without pages starts afresh, as if mapped there. */
function targetVma(source: Vma, from: Addr, to: Addr, length: number): Vma {
  const isFresh = source.file === null && source.anonVma === null;
  const pgoff = isFresh ? to / PAGE_SIZE : source.pgoff + (from - source.start) / PAGE_SIZE;
  const target = createVma(
    source.mmId,
    to,
    to + length,
    source.flags & ~VM_UFFD,
    source.file,
    pgoff,
  );
  target.anonVma = source.anonVma;
  copyChain(source, target);
  return target;
}

/** Moves all entries of `length` bytes from `from` to `to`, where nothing is mapped. 0 or -ENOMEM. */
function movePageTables(m: MmState, mm: Mm, from: Addr, to: Addr, length: number): Err {
  // Below a start that is not at a boundary, where neither end has a VMA, the whole table can move instead (ANON-226).
  const above = from % HUGE_SIZE;
  const isFreeBelow = (at: Addr) => isRangeFree(mm, at - above, above);
  const canWiden = above > 0 && to % HUGE_SIZE === above && isFreeBelow(from) && isFreeBelow(to);
  let done = canWiden ? -above : 0;
  while (done < length) {
    const source = from + done;
    const target = to + done;
    const inSource = HUGE_SIZE - (source % HUGE_SIZE);
    const inTarget = HUGE_SIZE - (target % HUGE_SIZE);
    const step = Math.min(length - done, inSource, inTarget);
    const failed = moveWithinRegion(m, mm, source, target, step);
    if (failed !== 0) return failed;
    done += step;
  }
  return 0;
}

/** Moves a part that lies in one region at either end: as a unit if it is the whole region, else page by page. */
function moveWithinRegion(m: MmState, mm: Mm, from: Addr, to: Addr, length: number): Err {
  const tables = m.tables;
  const fromSlot = pmdSlotOf(tables, mm.root, regionOf(from));
  if (fromSlot < 0 || tables.flags[fromSlot] === 0) return 0;
  const isUnit = length === HUGE_SIZE && isAligned(from, HUGE_SIZE) && isAligned(to, HUGE_SIZE);
  const toSlot = ensurePmdSlot(m, mm, regionOf(to));
  if (toSlot < 0) return -ENOMEM;
  if (isHugeEntry(tables.flags[fromSlot])) {
    if (isUnit && tables.flags[toSlot] === 0) {
      moveHugePmd(m, fromSlot, toSlot);
      return 0;
    }
    splitPmd(m, mm, regionOf(from), fromSlot);
  }
  if (isUnit && moveWholeTable(m, mm, fromSlot, toSlot)) return 0;
  const table = ensurePteTable(m, mm, toSlot);
  if (table === NO_TABLE) return -ENOMEM;
  movePtes(
    m,
    tables.payload[fromSlot],
    pteIndexOf(from),
    table,
    pteIndexOf(to),
    length / PAGE_SIZE,
  );
  return 0;
}

function moveWholeTable(m: MmState, mm: Mm, fromSlot: number, toSlot: number): boolean {
  const tables = m.tables;
  if ((tables.flags[toSlot] & ENTRY.TABLE) !== 0) {
    const old = tables.payload[toSlot];
    if (tables.nrUsed[old] !== 0) return false;
    clearEntry(tables, toSlot);
    freeTable(m, mm, old);
  }
  const table = tables.payload[fromSlot];
  mm.hintRegion = -1;
  clearEntry(tables, fromSlot);
  setTableEntry(tables, toSlot, table);
  return true;
}

function movePtes(
  m: MmState,
  fromTable: number,
  fromIndex: number,
  toTable: number,
  toIndex: number,
  nr: number,
): void {
  const { payload, flags, nrUsed } = m.tables;
  const fromBase = fromTable * 512 + fromIndex;
  const toBase = toTable * 512 + toIndex;
  for (let i = 0; i < nr; i++) {
    const entry = flags[fromBase + i];
    if (entry === 0) continue;
    payload[toBase + i] = payload[fromBase + i];
    flags[toBase + i] = entry | ((entry & ENTRY.PRESENT) !== 0 ? ENTRY.SOFT_DIRTY : 0);
    flags[fromBase + i] = 0;
    nrUsed[fromTable]--;
    nrUsed[toTable]++;
  }
}
