/**
 * Emptying a swap device as a phase table: every page that has its only copy there comes back into memory.
 *
 * Entry: swapOffPhases; swapOff runs it at once, beginSwapOff is for a task that is to be held in the middle.
 * Locks: mmap shared of one address space after the other; the folio lock of the page that is mapped.
 * Holds: one reference on the page in hand. Nothing is swapped out to the device from the first phase on; if it cannot be
 *        emptied it is used again.
 * Rules: PHYS-118. Pages come back as single pages, old and write-protected: the next write finds out whether they are
 *        shared. A page keeps its exclusive mark.
 */

import { type Pfn, PTES_PER_REGION } from "../base/address.ts";
import { EINTR, EINVAL, ENOMEM, type Err } from "../base/errno.ts";
import type { HugeState } from "../huge/knobs.ts";
import { putFolio } from "../mm/folio.ts";
import { mlockFolio } from "../mm/mlock.ts";
import { ENTRY, NO_TABLE, pteTableOf } from "../mm/page-tables.ts";
import { addAnonPtes } from "../mm/rmap.ts";
import type { Mm } from "../mm/state.ts";
import { findVma, firstVmaIndex, VM, VM_ACCESS, type Vma } from "../mm/vma.ts";
import { headOf, NO_PFN, PG } from "../phys/frame-table.ts";
import { definePhases, type FrameHold, type Phase } from "../sched/phase-table.ts";
import { isLockStuck, letOthersRun, runAtOnce, startOperation } from "../sched/runner.ts";
import { CALLER, type Operation } from "../sched/state.ts";
import { freeSwapOf } from "../swap/cache.ts";
import { removeDevice } from "../swap/devices.ts";
import { freeEntry, isClaimed } from "../swap/entries.ts";
import { type SwapDevice, type SwapEntry, swapCachedPage, typeOf } from "../swap/state.ts";
import { readIntoCache } from "./swap-in-alloc.ts";
import { nameSwappedPage } from "./swap-in-map.ts";

/** `result` is 0 or a negative errno. */
export interface SwapOffOp extends Operation {
  readonly type: number;
  /** Address space that is walked, and the page number to look at next. */
  mmId: number;
  at: number;
  /** Slots in use when this round over all address spaces began. */
  nrBefore: number;
  /** The entry in hand, and its page once there is one; NO_PFN if none. */
  entry: SwapEntry;
  page: Pfn;
  head: Pfn;
}

type SwapOffPhase = "close" | "next" | "walk" | "read" | "map" | "sweep" | "drop" | "undo" | "done";
type SwapOffRows = Readonly<
  Record<Exclude<SwapOffPhase, "done">, Phase<HugeState, SwapOffOp, SwapOffPhase>>
>;

const rows: SwapOffRows = {
  close: { holds: "", run: closeDevice },
  next: { holds: "", run: nextMm },
  walk: { holds: "mmap:read", run: walkMm },
  read: { holds: "mmap:read", run: readPage },
  map: { holds: "mmap:read folio", run: mapPage },
  sweep: { holds: "", run: sweepCache },
  drop: { holds: "folio", run: dropCached },
  undo: { holds: "", run: openDevice },
};

export const swapOffPhases = definePhases<HugeState, SwapOffOp>({
  name: "swapOff",
  about: "a swap device is emptied, one address space after the other, and removed",
  first: "close",
  phases: rows,
  lockId: (op, name) => (name === "mmap" ? op.mmId : op.head),
  frames: (_m, op): readonly FrameHold[] =>
    op.page === NO_PFN ? [] : [{ pfn: op.page, nrMigrating: 0, references: 1 }],
});

/**
 * Empties and removes a device. 0; -EINVAL for no device; -ENOMEM, and -EINTR if it would wait for ever for somebody who is
 * held: then the device stays in use.
 */
export function swapOff(m: HugeState, type: number): Err {
  return runAtOnce(m, swapOffPhases, fieldsFor(type)) ?? -EINTR;
}

/** The same as an operation of `task`, of which nothing has run yet. */
export function beginSwapOff(m: HugeState, task: number, type: number): SwapOffOp {
  return startOperation(m, swapOffPhases, task, fieldsFor(type));
}

function fieldsFor(type: number) {
  return { type, mmId: -1, at: 0, nrBefore: 0, entry: 0, page: NO_PFN, head: NO_PFN };
}

function closeDevice(m: HugeState, op: SwapOffOp): SwapOffPhase {
  const device = m.swap.devices[op.type] ?? null;
  if (device === null || !device.isWritable) {
    op.result = -EINVAL;
    return "done";
  }
  device.isWritable = false;
  op.nrBefore = device.nrUsed;
  return "next";
}

/** The next address space that has swap entries at all. */
function nextMm(m: HugeState, op: SwapOffOp): SwapOffPhase {
  for (op.mmId++; op.mmId < m.mms.length; op.mmId++) {
    const mm = m.mms[op.mmId];
    if (mm === null || mm.nrSwapEntries === 0) continue;
    if (isStuck(m, op, "mmap", op.mmId)) return giveUp(op, -EINTR);
    op.at = 0;
    return "walk";
  }
  return "sweep";
}

/** Goes on to the next entry of the device in this address space. */
function walkMm(m: HugeState, op: SwapOffOp): SwapOffPhase {
  const mm = m.mms[op.mmId] ?? null;
  if (mm === null || !findEntry(m, mm, op)) return "next";
  const pfn = swapCachedPage(m, op.entry);
  if (pfn !== NO_PFN) return found(m, op, pfn);
  if (isClaimed(m, op.entry)) {
    op.at++; // a fault is reading it; the next round will see what became of it
    return "walk";
  }
  return "read";
}

/** True if there is one from page `at` on: `at` and `entry` say which. */
function findEntry(m: HugeState, mm: Mm, op: SwapOffOp): boolean {
  const { flags, payload } = m.tables;
  for (let i = firstVmaIndex(mm.vmas, op.at * 4096); i < mm.vmas.length; i++) {
    const vma = mm.vmas[i];
    const end = vma.end / 4096;
    for (op.at = Math.max(op.at, vma.start / 4096); op.at < end; ) {
      const region = Math.floor(op.at / PTES_PER_REGION);
      const stop = Math.min(end, (region + 1) * PTES_PER_REGION);
      const table = pteTableOf(m.tables, mm.root, region);
      const base = table * 512 - region * PTES_PER_REGION;
      for (; table !== NO_TABLE && op.at < stop; op.at++) {
        const isSwap = (flags[base + op.at] & ENTRY.SWAP) !== 0;
        if (!isSwap || typeOf(payload[base + op.at]) !== op.type) continue;
        op.entry = payload[base + op.at];
        return true;
      }
      op.at = stop;
    }
  }
  return false;
}

function found(m: HugeState, op: SwapOffOp, pfn: Pfn): SwapOffPhase {
  const head = headOf(m.frames, pfn);
  if (isStuck(m, op, "folio", head)) return giveUp(op, -EINTR);
  op.page = pfn;
  op.head = head;
  m.frames.refcount[head]++;
  return "map";
}

function readPage(m: HugeState, op: SwapOffOp): SwapOffPhase {
  const mm = m.mms[op.mmId] ?? null;
  if (mm === null || placeOf(m, mm, op) === null) return "walk";
  const pfn = swapCachedPage(m, op.entry);
  if (pfn !== NO_PFN) return found(m, op, pfn);
  if (isClaimed(m, op.entry)) return "walk";
  const fresh = readIntoCache(m, mm.memcg, op.entry);
  return fresh === NO_PFN ? giveUp(op, -ENOMEM) : found(m, op, fresh);
}

/** Under the folio's lock: it may have left the cache, and the entry may be gone. */
function mapPage(m: HugeState, op: SwapOffOp): SwapOffPhase {
  const mm = m.mms[op.mmId] ?? null;
  const place = mm === null ? null : placeOf(m, mm, op);
  const { page, head } = op;
  op.page = NO_PFN;
  if (mm !== null && place !== null && swapCachedPage(m, op.entry) === page) {
    const { vma, slot } = place;
    const region = Math.floor(op.at / PTES_PER_REGION);
    nameSwappedPage(m, page, vma, op.entry, region, op.at % PTES_PER_REGION);
    mapOld(m, mm, vma, slot, page, head);
    freeEntry(m, op.entry);
    freeSwapOf(m, head); // with the last entry
    op.at++;
  } else putFolio(m, head, 1);
  return "walk";
}

/** The reference of the operation becomes the mapping's. */
function mapOld(m: HugeState, mm: Mm, vma: Vma, slot: number, pfn: Pfn, head: Pfn): void {
  const { tables, frames } = m;
  const before = tables.flags[slot];
  const isAccessible = (vma.flags & VM_ACCESS) !== 0;
  tables.payload[slot] = pfn;
  tables.flags[slot] =
    ENTRY.PRESENT |
    (isAccessible ? 0 : ENTRY.PROTNONE) |
    (before & (ENTRY.UFFD_WP | ENTRY.SOFT_DIRTY));
  if ((before & ENTRY.EXCLUSIVE) !== 0) frames.flags[pfn] |= PG.ANON_EXCLUSIVE;
  addAnonPtes(m, mm, pfn, 1);
  if ((vma.flags & VM.LOCKED) !== 0) mlockFolio(m, head);
  mm.rssAnon++;
  mm.nrSwapEntries--;
}

/** Where the entry in hand stands; null if it is gone. */
function placeOf(m: HugeState, mm: Mm, op: SwapOffOp): { vma: Vma; slot: number } | null {
  const vma = findVma(mm.vmas, op.at * 4096);
  const table = pteTableOf(m.tables, mm.root, Math.floor(op.at / PTES_PER_REGION));
  const slot = table * 512 + (op.at % PTES_PER_REGION);
  const { flags, payload } = m.tables;
  const isSame =
    table !== NO_TABLE && (flags[slot] & ENTRY.SWAP) !== 0 && payload[slot] === op.entry;
  return vma === null || !isSame ? null : { vma, slot };
}

/** Pages in the swap cache that no entry names any more; then another round, if something is left and the last one helped. */
function sweepCache(m: HugeState, op: SwapOffOp): SwapOffPhase {
  const device = m.swap.devices[op.type]!;
  const pfn = device.cached.find((page, slot) => page !== NO_PFN && device.count[slot] === 0);
  const head = pfn === undefined ? NO_PFN : headOf(m.frames, pfn);
  if (head !== NO_PFN && isUnneeded(m, device, head)) {
    if (isStuck(m, op, "folio", head)) return giveUp(op, -EINTR);
    op.head = head;
    op.page = head;
    m.frames.refcount[head]++;
    return "drop";
  }
  if (device.nrUsed === 0) {
    removeDevice(m, op.type);
    return "done";
  }
  // Somebody is in the middle of reading or writing what is left. Who cannot let him go on is ended by a signal.
  const isWaiting = device.nrUsed === op.nrBefore;
  if (isWaiting && !(op.task === CALLER && letOthersRun(m))) return giveUp(op, -EINTR);
  op.nrBefore = device.nrUsed;
  op.mmId = -1;
  return "next";
}

function isUnneeded(m: HugeState, { count }: SwapDevice, head: Pfn): boolean {
  const slot = m.swap.entryOf[head] & (2 ** 27 - 1);
  return count.subarray(slot, slot + (1 << m.frames.order[head])).every((nr) => nr === 0);
}

function dropCached(m: HugeState, op: SwapOffOp): SwapOffPhase {
  if ((m.frames.flags[op.head] & PG.SWAPCACHE) !== 0) freeSwapOf(m, op.head);
  op.page = NO_PFN;
  putFolio(m, op.head, 1);
  return "sweep";
}

function giveUp(op: SwapOffOp, result: Err): SwapOffPhase {
  op.result = result;
  return "undo";
}

function openDevice(m: HugeState, op: SwapOffOp): SwapOffPhase {
  m.swap.devices[op.type]!.isWritable = true;
  return "done";
}

/** A plain call would wait for ever for a lock of somebody who is held; a task waits. */
function isStuck(m: HugeState, op: SwapOffOp, name: "mmap" | "folio", id: number): boolean {
  return op.task === CALLER && isLockStuck(m, name, id, name === "mmap" ? "read" : "write");
}
