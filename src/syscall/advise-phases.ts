/**
 * MADV_COLD, MADV_PAGEOUT and MADV_FREE as a phase table: the walk over a range of mapped folios.
 *
 * Entry: adviseRange runs it at once; beginAdvise is for a task that is to be held in the middle. What happens to a region is in
 *        madvise-cold.ts and madvise-free.ts.
 * Locks: mmap shared throughout, so that no VMA changes; faults go on beside it, so entries are read anew after each split.
 * Holds: one reference on each folio that it has isolated, and on the one that is being split.
 * Rules: ANON-044, 253, 261..268; PHYS-104.
 */

import {
  type Addr,
  addrOf,
  HUGE_SIZE,
  PAGE_SIZE,
  PTES_PER_REGION,
  pteIndexOf,
  regionOf,
} from "../base/address.ts";
import { EAGAIN, ENOMEM, type Err } from "../base/errno.ts";
import type { HugeState } from "../huge/knobs.ts";
import { splitWithin } from "../huge/split-folio.ts";
import { putFolio } from "../mm/folio.ts";
import { pmdSlotOf } from "../mm/page-tables.ts";
import type { Mm } from "../mm/state.ts";
import { firstVmaIndex, type Vma } from "../mm/vma.ts";
import { NO_PFN } from "../phys/frame-table.ts";
import { reclaimWithin } from "../reclaim/reclaim-phases.ts";
import { definePhases, type FrameHold, type Phase } from "../sched/phase-table.ts";
import { runAtOnce, startOperation } from "../sched/runner.ts";
import type { Operation } from "../sched/state.ts";
import { type AdviceKind, type AdviceWalk, isSplitStuck, REGION_DONE } from "./advised-folio.ts";
import { ageRegion, refuseCold } from "./madvise-cold.ts";
import { lazyFreeRegion, refuseFree } from "./madvise-free.ts";

/** `result` is 0 or a negative errno. */
export interface AdviseOp extends Operation, AdviceWalk {
  readonly mmId: number;
  readonly end: Addr;
  /** The next address to look at, and the end of the part of its VMA that was accepted. */
  at: Addr;
  vmaEnd: Addr;
  hasHole: boolean;
}

type AdvisePhase = "walk" | "split" | "goOn" | "done";
type AdviseRows = Readonly<
  Record<Exclude<AdvisePhase, "done">, Phase<HugeState, AdviseOp, AdvisePhase>>
>;

const rows: AdviseRows = {
  walk: { holds: "mmap:read", run: walk },
  split: { holds: "mmap:read", run: split },
  goOn: { holds: "mmap:read", run: goOn },
};

export const advisePhases = definePhases<HugeState, AdviseOp>({
  name: "madvise",
  about: "MADV_COLD, PAGEOUT or FREE of a range; a large folio that it covers partly is split",
  first: "walk",
  phases: rows,
  lockId: (op) => op.mmId,
  frames: heldFrames,
});

/** The advice on [start, end), which is valid and not empty. 0 or a negative errno. */
export function adviseRange(m: HugeState, mm: Mm, start: Addr, end: Addr, advice: AdviceKind): Err {
  return runAtOnce(m, advisePhases, fieldsFor(mm, start, end, advice)) ?? -EAGAIN;
}

/** The same as an operation of `task`, of which nothing has run yet. */
export function beginAdvise(
  m: HugeState,
  task: number,
  mm: Mm,
  start: Addr,
  end: Addr,
  advice: AdviceKind,
): AdviseOp {
  return startOperation(m, advisePhases, task, fieldsFor(mm, start, end, advice));
}

function fieldsFor(mm: Mm, start: Addr, end: Addr, advice: AdviceKind) {
  return {
    mmId: mm.id,
    end,
    advice,
    at: start,
    vmaEnd: start,
    hasHole: false,
    isolated: [],
    splitHead: NO_PFN,
    nrSkipped: 0,
  };
}

/** Region by region, until a folio must be split or isolated ones are to be reclaimed. */
function walk(m: HugeState, op: AdviseOp): AdvisePhase {
  const mm = m.mms[op.mmId] ?? null;
  if (mm === null) return "done";
  while (op.at < op.end) {
    if (op.at >= op.vmaEnd && !enterVma(m, mm, op)) return "done";
    const region = regionOf(op.at);
    const stop = Math.min(op.vmaEnd, (region + 1) * HUGE_SIZE);
    const slot = pmdSlotOf(m.tables, mm.root, region);
    if (slot >= 0 && m.tables.flags[slot] !== 0) {
      const last = stop === (region + 1) * HUGE_SIZE ? PTES_PER_REGION : pteIndexOf(stop);
      const page = adviseRegion(m, mm, op, slot, pteIndexOf(op.at), last);
      if (page !== REGION_DONE) {
        op.at = addrOf(region, page);
        m.frames.refcount[op.splitHead]++;
        return "split";
      }
    }
    op.at = stop;
    if (op.isolated.length > 0) {
      reclaimWithin(m, op, op.isolated.splice(0), "ignore");
      return "walk";
    }
  }
  op.result = op.hasHole ? -ENOMEM : 0;
  return "done";
}

/** The VMA at or behind the cursor. False if there is none, or it refuses the advice (ANON-044). */
function enterVma(m: HugeState, mm: Mm, op: AdviseOp): boolean {
  const vma = mm.vmas[firstVmaIndex(mm.vmas, op.at)];
  if (vma === undefined || vma.start >= op.end) {
    op.result = -ENOMEM;
    return false;
  }
  if (vma.start > op.at) op.hasHole = true;
  op.result = refusalOf(vma, op);
  if (op.result !== 0) return false;
  op.at = Math.max(op.at, vma.start);
  op.vmaEnd = Math.min(op.end, vma.end);
  m.mmuNotifier?.invalidateRange(mm.id, op.at / PAGE_SIZE, op.vmaEnd / PAGE_SIZE);
  return true;
}

function refusalOf(vma: Vma, { advice }: AdviseOp): Err {
  return advice === "free" ? refuseFree(vma) : refuseCold(vma);
}

function adviseRegion(
  m: HugeState,
  mm: Mm,
  op: AdviseOp,
  slot: number,
  first: number,
  last: number,
): number {
  return op.advice === "free"
    ? lazyFreeRegion(m, mm, op, slot, first, last)
    : ageRegion(m, op, slot, first, last);
}

function split(m: HugeState, op: AdviseOp): AdvisePhase {
  const { frames } = m;
  op.callResult = -EAGAIN;
  // Between the phases another may have split it, or have it now.
  const isLarge = frames.order[op.splitHead] > 0;
  if (isLarge && !isSplitStuck(m, op, op.splitHead))
    splitWithin(m, op, op.splitHead, 0, op.splitHead);
  return "goOn";
}

/** The same entries are looked at again, as pages of their own; if it could not be split they are left alone. */
function goOn(m: HugeState, op: AdviseOp): AdvisePhase {
  if (op.callResult !== 0) op.at += op.nrSkipped * PAGE_SIZE;
  const head = op.splitHead;
  op.splitHead = NO_PFN;
  putFolio(m, head, 1);
  return "walk";
}

function heldFrames(_m: HugeState, op: AdviseOp): readonly FrameHold[] {
  const held: FrameHold[] = op.isolated.map((pfn) => ({ pfn, nrMigrating: 0, references: 1 }));
  if (op.splitHead !== NO_PFN) held.push({ pfn: op.splitHead, nrMigrating: 0, references: 1 });
  return held;
}
