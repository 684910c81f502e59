/**
 * Folio split as a phase table: every mapping becomes a migration entry, the folio is broken up, the entries become mappings
 * of the pieces.
 *
 * Entry: splitPhases; split-folio.ts runs it. Whoever begins it holds one reference, which stays with page `keep`.
 * Locks: folio and anon_vma exclusive throughout. The anon_vma lock makes the walks complete: a VMA that a fork adds is
 *        appended behind those that are there, so a walk either comes to it, or fork copied an entry that the walk had already
 *        replaced (ANON-333).
 * Holds: before "breakUp" returned, "undo" can put everything back; after it nothing can fail.
 * Rules: ANON-172, 199, 203, 205, 210..214, 333.
 */

import { HUGE_ORDER, type Pfn } from "../base/address.ts";
import { assert } from "../base/assert.ts";
import { NR_THP_STATS, THP_STAT, VMSTAT } from "../base/counters.ts";
import { EAGAIN, EBUSY, EINVAL, type Err } from "../base/errno.ts";
import { EVENT } from "../base/events.ts";
import { forgetAnonVmaIfUnused } from "../mm/anon-vma.ts";
import { markPartiallyMapped, putFolio } from "../mm/folio.ts";
import { freezePte, restorePte, restorePteAsZero } from "../mm/migration.ts";
import { splitPmdToMigration } from "../mm/pmd.ts";
import { folioMapcount } from "../mm/rmap.ts";
import { forEachMigrationPte, forEachPmdMapping, forEachPteMapping } from "../mm/rmap-walk.ts";
import { VM, type Vma } from "../mm/vma.ts";
import { PG } from "../phys/frame-table.ts";
import { definePhases, type FrameHold, type Phase } from "../sched/phase-table.ts";
import type { Operation } from "../sched/state.ts";
import { freeSwapIfUnmapped } from "../swap/cache.ts";
import type { HugeState } from "./knobs.ts";
import { breakUpRows } from "./split-rows.ts";

export interface SplitOp extends Operation {
  readonly head: Pfn;
  /** Order of the folio, and of the pieces. */
  readonly order: number;
  readonly newOrder: number;
  /** The page whose piece keeps the caller's reference. */
  readonly keep: Pfn;
  /** Where rmap finds the pages: anon_vma id and page index of the first. */
  readonly anonVma: number;
  readonly index: number;
}

type SplitPhase = "check" | "unmap" | "breakUp" | "remap" | "release" | "undo" | "done";
type SplitRows = Readonly<
  Record<Exclude<SplitPhase, "done">, Phase<HugeState, SplitOp, SplitPhase>>
>;

const rows: SplitRows = {
  check: { holds: "folio anonVma", run: checkFolio },
  unmap: { holds: "folio anonVma", run: unmapFolio },
  breakUp: { holds: "folio anonVma", run: breakUp },
  remap: { holds: "folio anonVma", run: remapPieces },
  release: { holds: "folio anonVma", run: releasePieces },
  undo: { holds: "folio anonVma", run: putBack },
};

export const splitPhases = definePhases<HugeState, SplitOp>({
  name: "splitFolio",
  about: "a large folio becomes small ones; fails if anybody else refers to it",
  first: "check",
  phases: rows,
  lockId: (op, name) => (name === "folio" ? op.head : op.anonVma),
  frames: heldFrames,
});

/** Refuses what cannot be split before anything is changed (ANON-211: a failed attempt leaves huge mappings huge). */
function checkFolio(m: HugeState, op: SplitOp): SplitPhase {
  const { head, order } = op;
  // No lock was held until now: somebody else may have split it.
  if (m.frames.order[head] !== order) return refuse(op, -EAGAIN);
  const wrong = refusalOf(m, op);
  if (wrong !== 0) return refuse(op, wrong);

  const anonVma = m.anonVmas[op.anonVma];
  const isVanished = anonVma === null || anonVma === undefined || folioMapcount(m, head) === 0;
  if (isVanished || m.frames.refcount[head] !== folioMapcount(m, head) + ownReferences(m, op)) {
    countSplit(m, order, "failed");
    return refuse(op, isVanished ? -EBUSY : -EAGAIN);
  }
  return "unmap";
}

/** What is wrong with the request itself; such a refusal counts nothing (ANON-210). */
function refusalOf(m: HugeState, op: SplitOp): Err {
  const flags = m.frames.flags[op.head];
  if ((flags & PG.ZERO) !== 0) return -EBUSY;
  if (op.newOrder >= op.order || op.newOrder === 1) return -EINVAL;
  if ((flags & PG.SWAPCACHE) !== 0 && op.newOrder !== 0) return -EINVAL;
  return (flags & PG.WRITEBACK) !== 0 ? -EBUSY : 0;
}

function refuse(op: SplitOp, result: Err): SplitPhase {
  op.result = result;
  return "done";
}

/** References that are neither mappings nor foreign: the caller's, and one per page in the swap cache (ANON-211). */
function ownReferences(m: HugeState, op: SplitOp): number {
  const isCached = (m.frames.flags[op.head] & PG.SWAPCACHE) !== 0;
  return isCached ? 1 + (1 << op.order) : 1;
}

/** ANON-199: PTEs go one by one, so that a folio mapped by them passes through the partially mapped state. */
function unmapFolio(m: HugeState, op: SplitOp): SplitPhase {
  const { head } = op;
  forEachPmdMapping(m, head, (mm, vma, region, slot) =>
    splitPmdToMigration(m, mm, vma, region, slot),
  );
  forEachPteMapping(m, head, (mm, vma, slot, page) => freezePte(m, mm, vma, slot, page));
  return "breakUp";
}

/** Freezes the count and breaks up: nobody can take a reference in between, so this is one phase. */
function breakUp(m: HugeState, op: SplitOp): SplitPhase {
  const { head } = op;
  // The check before was without the page-table locks: a pin may have been faster.
  if (m.frames.refcount[head] !== ownReferences(m, op)) {
    op.result = -EAGAIN;
    return "undo";
  }
  assert(folioMapcount(m, head) === 0, "a folio nobody refers to is still mapped");
  breakUpRows(m, head, op.order, op.newOrder);
  return "remap";
}

function remapPieces(m: HugeState, op: SplitOp): SplitPhase {
  const { frames, tables } = m;
  forEachMigrationPte(m, placeOf(op), op.head, (mm, vma, slot) => {
    const pfn = tables.payload[slot];
    if (op.newOrder === 0 && mayBecomeZeroPage(frames.flags[pfn], frames.tag[pfn], vma))
      restorePteAsZero(m, mm, vma, slot);
    else restorePte(m, mm, vma, slot, pfn);
  });
  const size = 1 << op.newOrder;
  for (let piece = op.head; piece < op.head + (1 << op.order); piece += size) noteHoles(m, piece);
  return "release";
}

/** Only zeroes in it, and neither locked in memory nor poisoned (ANON-203, 205, 286). */
function mayBecomeZeroPage(flags: number, tag: number, vma: Vma): boolean {
  const isBound = (flags & (PG.MLOCKED | PG.HWPOISON)) !== 0 || (vma.flags & VM.LOCKED) !== 0;
  return tag === 0 && !isBound;
}

/** Every piece loses the reference that breaking up gave it, but the one that has the caller's; unmapped ones are freed. */
function releasePieces(m: HugeState, op: SplitOp): SplitPhase {
  const size = 1 << op.newOrder;
  for (let piece = op.head; piece < op.head + (1 << op.order); piece += size)
    if (piece !== pieceOf(op)) {
      freeSwapIfUnmapped(m, piece);
      putFolio(m, piece, 1);
    }
  forgetAnonVmaIfUnused(m, op.anonVma);
  countSplit(m, op.order, "done");
  m.events?.emit(EVENT.split_folio, op.head, op.order, 0);
  return "done";
}

/** The same mappings as before, by PTEs: huge entries stay split. */
function putBack(m: HugeState, op: SplitOp): SplitPhase {
  forEachMigrationPte(m, placeOf(op), op.head, (mm, vma, slot) =>
    restorePte(m, mm, vma, slot, m.tables.payload[slot]),
  );
  noteHoles(m, op.head);
  forgetAnonVmaIfUnused(m, op.anonVma);
  countSplit(m, op.order, "failed");
  m.events?.emit(EVENT.split_folio, op.head, op.order, op.result);
  return "done";
}

/** Entries that were unmapped meanwhile were no mappings, so that nothing was noted when they went. */
function noteHoles(m: HugeState, head: Pfn): void {
  const { order, nrPagesMapped, flags } = m.frames;
  const isNoted = (flags[head] & PG.PARTIALLY_MAPPED) !== 0;
  const nrMapped = nrPagesMapped[head];
  if (order[head] > 0 && nrMapped > 0 && nrMapped < 1 << order[head] && !isNoted)
    markPartiallyMapped(m, head);
}

function countSplit(m: HugeState, order: number, result: "done" | "failed"): void {
  const stat = result === "done" ? THP_STAT.split : THP_STAT.split_failed;
  m.thpStats[order * NR_THP_STATS + stat]++;
  if (order !== HUGE_ORDER) return;
  m.vmstat[result === "done" ? VMSTAT.thp_split_page : VMSTAT.thp_split_page_failed]++;
}

function placeOf(op: SplitOp) {
  return { anonVma: op.anonVma, index: op.index, nrPages: 1 << op.order };
}

/** Head of the piece that the caller's reference stays with. */
function pieceOf(op: SplitOp): Pfn {
  return op.keep & -(1 << op.newOrder);
}

function heldFrames(_m: HugeState, op: SplitOp): readonly FrameHold[] {
  const nrPages = 1 << op.order;
  const held: FrameHold[] = [{ pfn: op.head, nrMigrating: nrPages, references: 0 }];
  if (op.phase !== "remap" && op.phase !== "release") return held;
  for (let piece = op.head; piece < op.head + nrPages; piece += 1 << op.newOrder) {
    if (piece === pieceOf(op)) continue;
    held.push({ pfn: piece, nrMigrating: 0, references: 1 });
  }
  return held;
}
