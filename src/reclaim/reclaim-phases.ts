/**
 * Reclaim of isolated anonymous folios as a phase table: each is swapped out whole, split and swapped out page by page, or
 * dropped if lazily freed.
 *
 * Entry: reclaimPhases; page-out.ts runs it at once, reclaimWithin calls it from a phase of another table.
 * Owns:  pgactivate for what stays, pglazyfreed, thp_swpout_fallback and swpout_fallback.
 * Locks: the folio lock of one folio at a time, tried for and not waited for, from "next" until it is settled; the anon_vma only
 *        while mappings are taken away. Devices answer at once, so nothing is written while others run.
 * Holds: one reference on each folio it has not settled yet. Until "free" has seen that nobody else refers to the folio it can
 *        come back from the swap cache as it is.
 * Rules: ANON-253, 265, 267, 268; PHYS-091, 097..104.
 */

import type { Pfn } from "../base/address.ts";
import { assert } from "../base/assert.ts";
import { NR_THP_STATS, THP_STAT, VMSTAT } from "../base/counters.ts";
import type { HugeState } from "../huge/knobs.ts";
import { splitWithin } from "../huge/split-folio.ts";
import { putFolio } from "../mm/folio.ts";
import { isMaybePinned } from "../mm/pins.ts";
import { folioMapcount } from "../mm/rmap.ts";
import { NO_PFN, PG } from "../phys/frame-table.ts";
import { lruAdd } from "../phys/lru.ts";
import { tryLock } from "../sched/locks.ts";
import { definePhases, type FrameHold, type Phase } from "../sched/phase-table.ts";
import { callOperation, isLockStuck } from "../sched/runner.ts";
import { CALLER, type Operation } from "../sched/state.ts";
import { addToSwapCache, freeSwapOf, removeFromSwapCache } from "../swap/cache.ts";
import { allocSlots, releaseSlot } from "../swap/slots.ts";
import { isSwapFull, NO_SWAP_ENTRY } from "../swap/state.ts";
import { writeToSwap } from "../swap/transfer.ts";
import { noteEviction } from "../swap/workingset.ts";
import { ageFolio } from "./references.ts";
import { discardLazyFree, isMappedLocked, unmapToSwap } from "./unmap.ts";

const HUGE_ORDER = 9;

/** "check": what was used since the last look stays (PHYS-091). "ignore": MADV_PAGEOUT knows better. */
export type ReferenceMode = "check" | "ignore";

/** `result` is the number of pages freed. */
export interface ReclaimOp extends Operation {
  readonly mode: ReferenceMode;
  /** Folios still to look at, the next one last; UNMAPPED for a page that a split left unmapped. */
  readonly stack: Pfn[];
  /** The folio in hand, NO_PFN if none. */
  head: Pfn;
  /** Its anon_vma. */
  anonVma: number;
  /** Its order before it was split, 0 if it was not. */
  splitOrder: number;
  /** Why it was split: it had unmapped pages, or no run of slots was left for it. */
  splitReason: "partial" | "fallback";
}

/** What became of a folio: freed; put back on the list it was on; put on the active list. */
type Outcome = "freed" | "keep" | "activate";

/** Stands on the stack for a page that the split left unmapped. */
const UNMAPPED = -1;

type ReclaimPhase = "next" | "swap" | "pieces" | "unmap" | "write" | "free" | "discard" | "done";
type ReclaimRows = Readonly<
  Record<Exclude<ReclaimPhase, "done">, Phase<HugeState, ReclaimOp, ReclaimPhase>>
>;

const rows: ReclaimRows = {
  next: { holds: "", run: nextFolio },
  swap: { holds: "folio", run: findSwap },
  pieces: { holds: "folio", run: takePieces },
  unmap: { holds: "folio anonVma:read", run: unmapFolio },
  write: { holds: "folio", run: writeFolio },
  free: { holds: "folio", run: freeFolio },
  discard: { holds: "folio anonVma:read", run: discardFolio },
};

export const reclaimPhases = definePhases<HugeState, ReclaimOp>({
  name: "reclaim",
  about: "isolated folios are swapped out or dropped; what is in use goes back to its list",
  first: "next",
  phases: rows,
  lockId: (op, name) => (name === "folio" ? op.head : op.anonVma),
  frames: heldFrames,
});

/** What an operation on isolated folios starts with, the first one first. */
export function reclaimFields(heads: readonly Pfn[], mode: ReferenceMode) {
  return {
    mode,
    // Pages of a folio that had to be split come before the rest, the last page first.
    stack: heads.toReversed(),
    head: NO_PFN,
    anonVma: 0,
    splitOrder: 0,
    splitReason: "partial" as const,
  };
}

/** Begins it from a phase of `caller`, which finds the number of pages freed in `callResult`. */
export function reclaimWithin(
  m: HugeState,
  caller: Operation,
  heads: readonly Pfn[],
  mode: ReferenceMode,
): ReclaimOp {
  return callOperation(m, reclaimPhases, caller, reclaimFields(heads, mode));
}

/** Takes the next folio in hand, locks it and decides what is to be done with it. */
function nextFolio(m: HugeState, op: ReclaimOp): ReclaimPhase {
  const { frames } = m;
  const head = op.stack.pop();
  if (head === undefined) return "done";
  if (head === UNMAPPED) {
    reclaimUnmapped(m);
    return "next";
  }
  op.head = head;
  op.anonVma = frames.owner[head];
  op.splitOrder = 0;
  // A folio that was active shows it deserves that again, or not.
  frames.flags[head] &= ~PG.ACTIVE;
  if (!lockFolio(m, op)) return settle(m, op, "keep");
  if ((frames.flags[head] & PG.MLOCKED) !== 0) return settle(m, op, "activate");
  if (op.mode === "check") {
    const verdict = ageFolio(m, head);
    if (verdict !== "reclaim") return settle(m, op, verdict);
  }
  if (isUnmapStuck(m, op)) return settle(m, op, "keep");
  if ((frames.flags[head] & PG.SWAPBACKED) === 0) return "discard";
  return (frames.flags[head] & PG.SWAPCACHE) === 0 ? "swap" : "unmap";
}

/** Whoever works on the folio has it: it is left alone. */
function lockFolio(m: HugeState, op: ReclaimOp): boolean {
  const { task, id: operation, head: id } = op;
  return tryLock(m, { name: "folio", id, mode: "write", task, operation });
}

/** A plain call would wait for ever for an anon_vma of somebody who is held; a task waits. */
function isUnmapStuck(m: HugeState, op: ReclaimOp): boolean {
  return op.task === CALLER && isLockStuck(m, "anonVma", op.anonVma);
}

/** Slots for the folio, which is in the swap cache then; it is split before if it must be. */
function findSwap(m: HugeState, op: ReclaimOp): ReclaimPhase {
  const { frames } = m;
  const { head } = op;
  if (isMaybePinned(m, head)) return settle(m, op, "keep");
  const order = frames.order[head];
  if (order > 0) {
    // Somebody holds it: it could be neither freed nor split (ANON-253).
    if (frames.refcount[head] !== folioMapcount(m, head) + 1) return settle(m, op, "activate");
    if ((frames.flags[head] & PG.PARTIALLY_MAPPED) !== 0) return splitFirst(m, op, "partial");
  }
  const entry = allocWhole(m, order);
  if (entry === NO_SWAP_ENTRY && order > 0) return splitFirst(m, op, "fallback");
  if (entry === NO_SWAP_ENTRY) return settle(m, op, "activate");
  addToSwapCache(m, head, entry);
  frames.flags[head] |= PG.DIRTY; // the device does not have it, whatever the mappings say
  return "unmap";
}

function allocWhole(m: HugeState, order: number): number {
  if (order === HUGE_ORDER && !m.profile.swapsHugeWhole) return NO_SWAP_ENTRY;
  return allocSlots(m, order);
}

function splitFirst(m: HugeState, op: ReclaimOp, reason: "partial" | "fallback"): ReclaimPhase {
  op.splitOrder = m.frames.order[op.head];
  op.splitReason = reason;
  splitWithin(m, op, op.head, 0, op.head);
  return "pieces";
}

/** The pages of a folio that was split are isolated as it was, and come next. */
function takePieces(m: HugeState, op: ReclaimOp): ReclaimPhase {
  const { frames } = m;
  const { head, splitOrder } = op;
  if (op.callResult !== 0) return settle(m, op, "activate");
  for (let page = head + 1; page < head + (1 << splitOrder); page++) {
    const isMapped = frames.refcount[page] > 0 && (frames.flags[page] & PG.ANON) !== 0;
    op.stack.push(isMapped ? page : UNMAPPED);
    if (!isMapped) continue;
    assert((frames.flags[page] & PG.LRU) === 0, "a piece of an isolated folio is on an LRU list");
    frames.refcount[page]++;
  }
  if (op.splitReason === "fallback") {
    m.thpStats[splitOrder * NR_THP_STATS + THP_STAT.swpout_fallback]++;
    if (splitOrder === HUGE_ORDER) m.vmstat[VMSTAT.thp_swpout_fallback]++;
  }
  return "swap";
}

/** Linux gives such a page a slot before it sees that nobody needs it, and activates it if there is none. */
function reclaimUnmapped(m: HugeState): void {
  const entry = allocSlots(m, 0);
  if (entry === NO_SWAP_ENTRY) {
    m.vmstat[VMSTAT.pgactivate]++;
    return;
  }
  releaseSlot(m, entry);
  m.vmstat[VMSTAT.nr_vmscan_write]++;
}

/** Swap entries take the mappings' place; a page that was pinned meanwhile keeps its own, and the folio stays. */
function unmapFolio(m: HugeState, op: ReclaimOp): ReclaimPhase {
  if (isMappedLocked(m, op.head) || !unmapToSwap(m, op.head)) return settle(m, op, "activate");
  return "write";
}

function writeFolio(m: HugeState, op: ReclaimOp): ReclaimPhase {
  const { frames } = m;
  const { head } = op;
  if ((frames.flags[head] & PG.DIRTY) === 0) return "free";
  const nr = 1 << frames.order[head];
  // Somebody may write to it still: it waits in the swap cache, unmapped.
  if (frames.refcount[head] !== 1 + nr) return settle(m, op, "keep");
  if (freeSwapOf(m, head)) {
    m.vmstat[VMSTAT.nr_vmscan_write] += nr;
    return settle(m, op, "keep");
  }
  writeToSwap(m, head);
  frames.flags[head] &= ~PG.DIRTY;
  return "free";
}

/** Freezes the count: only the swap cache and the isolation may refer to the folio. */
function freeFolio(m: HugeState, op: ReclaimOp): ReclaimPhase {
  const { frames, swap } = m;
  const { head } = op;
  if (frames.refcount[head] !== 1 + (1 << frames.order[head])) return settle(m, op, "keep");
  noteEviction(m, head, swap.entryOf[head]);
  removeFromSwapCache(m, head);
  return settle(m, op, "freed");
}

/** The folio is as wanted: nothing of it is needed, or it stays mapped because it was written again. */
function discardFolio(m: HugeState, op: ReclaimOp): ReclaimPhase {
  const { head } = op;
  if (isMappedLocked(m, head) || !discardLazyFree(m, head)) return settle(m, op, "activate");
  m.vmstat[VMSTAT.pglazyfreed] += 1 << m.frames.order[head];
  return settle(m, op, "freed");
}

function settle(m: HugeState, op: ReclaimOp, outcome: Outcome): ReclaimPhase {
  const { head } = op;
  if (outcome === "freed") op.result += 1 << m.frames.order[head];
  if (outcome === "activate") activate(m, head);
  if (outcome !== "freed") lruAdd(m, head);
  op.head = NO_PFN;
  putFolio(m, head, 1);
  return "next";
}

/** The folio could not be reclaimed: it is worth keeping for a while. */
function activate(m: HugeState, head: Pfn): void {
  const { flags, order } = m.frames;
  const isLocked = (flags[head] & PG.MLOCKED) !== 0;
  const isCached = (flags[head] & PG.SWAPCACHE) !== 0;
  if (isCached && (isLocked || isSwapFull(m) || isMappedLocked(m, head))) freeSwapOf(m, head);
  if (isLocked) return;
  flags[head] |= PG.ACTIVE;
  m.vmstat[VMSTAT.pgactivate] += 1 << order[head];
}

function heldFrames(_m: HugeState, op: ReclaimOp): readonly FrameHold[] {
  const held: FrameHold[] = [];
  if (op.head !== NO_PFN) held.push({ pfn: op.head, nrMigrating: 0, references: 1 });
  // A split that is through, but whose pieces are not isolated yet, changes nothing of that.
  for (const pfn of op.stack)
    if (pfn !== UNMAPPED) held.push({ pfn, nrMigrating: 0, references: 1 });
  return held;
}
