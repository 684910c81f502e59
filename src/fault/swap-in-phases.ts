/**
 * Swap-in by a fault as a phase table.
 *
 * Entry: swapInPhases, called by the fault table; faultSwap runs it at once.
 * Locks: mmap shared is its caller's; here only the lock of a folio in the swap cache. While contents are read nobody is kept
 *        out but other readers of the same slots, by a claim on them.
 * Holds: one reference on the page it has found or allocated. Whatever happened meanwhile, nothing is mapped unless the entry
 *        is still the one that faulted; else all is given back and the access is made again (ANON-332).
 * Rules: ANON-267, PHYS-087, 112, 113, 115, 116. Devices answer at once, as zram does, so a slot that only this entry names is
 *        read past the swap cache and freed; one that others name goes through the cache, so that all get the same page. No page
 *        is read ahead of its use.
 */

import { addrOf, PAGE_SIZE, type Pfn } from "../base/address.ts";
import { VMSTAT } from "../base/counters.ts";
import type { HugeState } from "../huge/knobs.ts";
import { putFolio } from "../mm/folio.ts";
import { ENTRY, NO_TABLE, pteTableOf } from "../mm/page-tables.ts";
import type { Mm } from "../mm/state.ts";
import { findVma } from "../mm/vma.ts";
import { headOf, NO_PFN, PG } from "../phys/frame-table.ts";
import { definePhases, type FrameHold, type Phase } from "../sched/phase-table.ts";
import type { Operation } from "../sched/state.ts";
import { claimSlots, dropClaim, isClaimed } from "../swap/entries.ts";
import { type SwapEntry, swapCachedPage, swapCountOf, typeOf } from "../swap/state.ts";
import { readFromSwap } from "../swap/transfer.ts";
import { noteRefault } from "../swap/workingset.ts";
import { faultPteWrite } from "./cow.ts";
import { FAULT, FAULT_MARK, FAULT_OOM, FAULT_ORDER_SHIFT } from "./kinds.ts";
import { allocForSwapIn, readIntoCache } from "./swap-in-alloc.ts";
import { mapFresh, mapFromCache, type SwapPlace } from "./swap-in-map.ts";

/** `result` is a packed fault result. */
export interface SwapInOp extends Operation {
  readonly mmId: number;
  readonly region: number;
  readonly pteIndex: number;
  readonly access: "read" | "write";
  /** The entry that faulted, and its bits. */
  readonly entry: SwapEntry;
  readonly bits: number;
  /** The page it has a reference to, NO_PFN if none, and the head of its folio. */
  page: Pfn;
  head: Pfn;
  /** FAULT_MARK.MAJOR once contents were read from the device. */
  marks: number;
}

const SWAP_IN = FAULT["swap-in"];

type SwapInPhase = "lookUp" | "readIn" | "take" | "allocate" | "read" | "install" | "done";
type SwapInRows = Readonly<
  Record<Exclude<SwapInPhase, "done">, Phase<HugeState, SwapInOp, SwapInPhase>>
>;

const rows: SwapInRows = {
  lookUp: { holds: "", run: lookUp },
  readIn: { holds: "", run: readIn },
  take: { holds: "folio", run: takeCached },
  allocate: { holds: "", run: allocate },
  read: { holds: "", run: readPast },
  install: { holds: "", run: install },
};

export const swapInPhases = definePhases<HugeState, SwapInOp>({
  name: "swapIn",
  about: "a page comes back from the swap cache or its device",
  first: "lookUp",
  phases: rows,
  lockId: (op) => op.head,
  frames: (_m, op): readonly FrameHold[] =>
    op.page === NO_PFN ? [] : [{ pfn: op.page, nrMigrating: 0, references: 1 }],
});

/** What a fault on the swap entry in `slot` starts with. */
export function swapInFields(
  m: HugeState,
  mm: Mm,
  region: number,
  pteIndex: number,
  slot: number,
  access: "read" | "write",
) {
  const entry = m.tables.payload[slot];
  const bits = m.tables.flags[slot];
  return {
    mmId: mm.id,
    region,
    pteIndex,
    access,
    entry,
    bits,
    page: NO_PFN,
    head: NO_PFN,
    marks: 0,
  };
}

/** In the swap cache; or on the device, and only here; or there for others too. */
function lookUp(m: HugeState, op: SwapInOp): SwapInPhase {
  if (placeOf(m, op) === null) return again(op);
  const pfn = swapCachedPage(m, op.entry);
  if (pfn !== NO_PFN) return found(m, op, pfn);
  if (isClaimed(m, op.entry)) return again(op); // another thread reads it: its page will be there
  return swapCountOf(m, op.entry) === 1 ? "allocate" : "readIn";
}

function found(m: HugeState, op: SwapInOp, pfn: Pfn): SwapInPhase {
  op.page = pfn;
  op.head = headOf(m.frames, pfn);
  m.frames.refcount[op.head]++;
  return "take";
}

/** Into the swap cache, so that all who share the page find it. */
function readIn(m: HugeState, op: SwapInOp): SwapInPhase {
  const place = placeOf(m, op);
  if (place === null) return again(op);
  const pfn = swapCachedPage(m, op.entry);
  if (pfn !== NO_PFN) return found(m, op, pfn);
  if (isClaimed(m, op.entry)) return again(op);
  const fresh = readIntoCache(m, place.mm.memcg, op.entry);
  if (fresh === NO_PFN) return end(op, FAULT_OOM);
  noteMajor(m, op);
  return found(m, op, fresh);
}

/** Under the folio's lock: is it still this entry's page, and the entry still there? */
function takeCached(m: HugeState, op: SwapInOp): SwapInPhase {
  const place = placeOf(m, op);
  if (place === null || swapCachedPage(m, op.entry) !== op.page) return giveBack(m, op);
  const { page } = op;
  op.page = NO_PFN;
  mapFromCache(m, place, page);
  return finish(m, op, place);
}

function allocate(m: HugeState, op: SwapInOp): SwapInPhase {
  const place = placeOf(m, op);
  if (place === null) return again(op);
  const { mm, vma, region, pteIndex, slot } = place;
  op.page = allocForSwapIn(m, mm, vma, region, pteIndex, slot);
  op.head = op.page;
  return op.page === NO_PFN ? end(op, FAULT_OOM) : "read";
}

/** PHYS-112: past the swap cache. No lock was held: another thread may have been faster, or the entry be gone. */
function readPast(m: HugeState, op: SwapInOp): SwapInPhase {
  const isThere = (m.swap.devices[typeOf(op.entry)] ?? null) !== null;
  if (!isThere || !claimSlots(m, firstEntry(m, op), nrPages(m, op))) return giveBack(m, op);
  noteMajor(m, op);
  m.frames.flags[op.head] = PG.SWAPBACKED | PG.UPTODATE;
  readFromSwap(m, firstEntry(m, op), op.head);
  noteRefault(m, op.head, firstEntry(m, op));
  return "install";
}

/** Nobody else needs the slots, so they are free as soon as the page is mapped. */
function install(m: HugeState, op: SwapInOp): SwapInPhase {
  const place = placeOf(m, op);
  const nr = nrPages(m, op);
  const entry = firstEntry(m, op);
  const first = place === null ? -1 : place.slot - (op.pteIndex & (nr - 1));
  const isThere = place !== null && isInside(place, nr) && areSame(m, first, entry, nr, op.bits);
  if (!isThere) {
    dropClaim(m, entry, nr);
    return giveBack(m, op);
  }
  const { head } = op;
  op.page = NO_PFN;
  mapFresh(m, place, first, head, entry);
  op.marks |= m.frames.order[head] << FAULT_ORDER_SHIFT;
  return finish(m, op, place);
}

/** All of the block lies in the VMA still. */
function isInside({ vma, region, pteIndex }: SwapPlace, nr: number): boolean {
  const start = addrOf(region, pteIndex & -nr);
  return vma.start <= start && start + nr * PAGE_SIZE <= vma.end;
}

function areSame(m: HugeState, slot: number, entry: SwapEntry, nr: number, bits: number): boolean {
  const { payload, flags } = m.tables;
  for (let i = 0; i < nr; i++)
    if (payload[slot + i] !== entry + i || flags[slot + i] !== bits) return false;
  return true;
}

/** The page is there; where others may see it, or writes are watched, the same fault goes on as a write to a mapped page. */
function finish(m: HugeState, op: SwapInOp, place: SwapPlace): SwapInPhase {
  const { mm, vma, region, pteIndex, slot, access } = place;
  const isWritable = (m.tables.flags[slot] & ENTRY.WRITE) !== 0;
  if (access === "read" || isWritable) return end(op, SWAP_IN | op.marks);
  const result = faultPteWrite(m, mm, vma, region, pteIndex, slot);
  return end(op, result < 0 ? result : result | op.marks);
}

function noteMajor(m: HugeState, op: SwapInOp): void {
  m.vmstat[VMSTAT.pgmajfault]++;
  op.marks = FAULT_MARK.MAJOR;
}

function nrPages(m: HugeState, op: SwapInOp): number {
  return 1 << m.frames.order[op.head];
}

/** Entry of the first page of a folio that is read as a whole. */
function firstEntry(m: HugeState, op: SwapInOp): SwapEntry {
  return op.entry - (op.pteIndex & (nrPages(m, op) - 1));
}

function giveBack(m: HugeState, op: SwapInOp): SwapInPhase {
  op.page = NO_PFN;
  putFolio(m, op.head, 1);
  return again(op);
}

/** The access is made again. */
function again(op: SwapInOp): SwapInPhase {
  return end(op, FAULT.spurious | op.marks);
}

function end(op: SwapInOp, result: number): SwapInPhase {
  op.result = result;
  return "done";
}

/** Where the entry stands; null if it is not there any more. */
function placeOf(m: HugeState, op: SwapInOp): SwapPlace | null {
  const { region, pteIndex, access } = op;
  const mm = m.mms[op.mmId] ?? null;
  const vma = mm === null ? null : findVma(mm.vmas, addrOf(region, pteIndex));
  if (mm === null || vma === null) return null;
  const table = pteTableOf(m.tables, mm.root, region);
  const slot = table * 512 + pteIndex;
  const isSame =
    table !== NO_TABLE && m.tables.payload[slot] === op.entry && m.tables.flags[slot] === op.bits;
  return isSame ? { mm, vma, region, pteIndex, slot, access } : null;
}
