/**
 * MADV_COLLAPSE: the walk over the VMAs of a range and their regions, as a phase table that calls `collapse` for each region.
 *
 * Entry: madviseCollapse (a plain call), beginMadviseCollapse (a task's).
 * Locks: mmap shared, dropped while a region is collapsed; so each region is looked at anew (COLL-245).
 * Units: pages and regions by number.
 * Rules: COLL-241..253. Nothing is registered with khugepaged, and no knob matters.
 */

import { type Addr, HUGE_SIZE, PAGE_SIZE, PTES_PER_REGION } from "../base/address.ts";
import { EAGAIN, EINVAL, ENOMEM, ENOSYS, type Err } from "../base/errno.ts";
import type { HugeState } from "../huge/knobs.ts";
import type { Mm } from "../mm/state.ts";
import { firstVmaIndex } from "../mm/vma.ts";
import { definePhases, type Phase } from "../sched/phase-table.ts";
import { callOperation, isLockStuck, runAtOnce, startOperation } from "../sched/runner.ts";
import type { Operation } from "../sched/state.ts";
import { collapseFields } from "./collapse-op.ts";
import { collapsePhases } from "./collapse-phases.ts";
import { collapseRefusal, revalidate, vmaOf } from "./eligible.ts";
import { ACTOR, continuesMadvise, isHugeResult, madviseErrno, SCAN } from "./scan-result.ts";

export interface MadviseCollapseOp extends Operation {
  readonly mmId: number;
  /** Pages [at, end) are still to be walked. */
  at: number;
  readonly end: number;
  /** 1 if some of the range is in no VMA. */
  hasGap: number;
  /** Of the piece in the VMA that is being worked on: regions [region, endRegion) are left, from firstRegion on. */
  firstRegion: number;
  region: number;
  endRegion: number;
  /** Regions of it that are huge now. */
  nrHuge: number;
  /** SCAN number of its last failure. */
  lastFailure: number;
}

type MadvisePhase = "findVma" | "region" | "judge" | "done";
type MadviseRows = Readonly<
  Record<Exclude<MadvisePhase, "done">, Phase<HugeState, MadviseCollapseOp, MadvisePhase>>
>;

const rows: MadviseRows = {
  findVma: { holds: "mmap:read", run: findPiece },
  region: { holds: "mmap:read", run: tryRegion },
  judge: { holds: "mmap:read", run: judgeRegion },
};

export const madviseCollapsePhases = definePhases<HugeState, MadviseCollapseOp>({
  name: "madviseCollapse",
  about:
    "MADV_COLLAPSE: every aligned 2 MiB of a range becomes a huge page now, or the call says why not",
  first: "findVma",
  phases: rows,
  lockId: (op) => op.mmId,
  frames: () => [],
});

/** What the operation starts with, for bytes [start, end). */
export function madviseFields(mmId: number, start: Addr, end: Addr) {
  const range = { mmId, at: start / PAGE_SIZE, end: end / PAGE_SIZE, hasGap: 0 };
  return { ...range, firstRegion: 0, region: 0, endRegion: 0, nrHuge: 0, lastFailure: SCAN.FAIL };
}

/** MADV_COLLAPSE of [start, end) by a task, of which nothing has run yet. */
export function beginMadviseCollapse(
  m: HugeState,
  task: number,
  mm: Mm,
  start: Addr,
  end: Addr,
): MadviseCollapseOp {
  return startOperation(m, madviseCollapsePhases, task, madviseFields(mm.id, start, end));
}

/** The plain call: 0 or an errno of COLL-241..247; -EAGAIN with nothing done if a lock is held by somebody who is held. */
export function madviseCollapse(m: HugeState, mm: Mm, start: Addr, end: Addr): Err {
  if (isStuck(m, mm, start, end)) return -EAGAIN;
  return runAtOnce(m, madviseCollapsePhases, madviseFields(mm.id, start, end)) ?? -EAGAIN;
}

function isStuck(m: HugeState, mm: Mm, start: Addr, end: Addr): boolean {
  if (m.sched.locks.length === 0) return false;
  if (isLockStuck(m, "mmap", mm.id)) return true;
  return mm.vmas.some(
    ({ anonVma, start: first, end: last }) =>
      first < end && last > start && anonVma !== null && isLockStuck(m, "anonVma", anonVma.id),
  );
}

/** The next VMA of the range; an error ends the walk and is more important than gaps (COLL-241). */
function findPiece(m: HugeState, op: MadviseCollapseOp): MadvisePhase {
  const mm = m.mms[op.mmId] ?? null;
  if (mm === null) return finish(op, -EINVAL);
  if (op.at >= op.end) return finish(op, op.hasGap === 1 ? -ENOMEM : 0);
  const vma = mm.vmas[firstVmaIndex(mm.vmas, op.at * PAGE_SIZE)];
  if (vma === undefined || vma.start / PAGE_SIZE >= op.end) return finish(op, -ENOMEM);
  if (vma.start / PAGE_SIZE > op.at) op.hasGap = 1;
  const from = Math.max(op.at, vma.start / PAGE_SIZE);
  op.at = Math.min(op.end, vma.end / PAGE_SIZE);

  const refusal = collapseRefusal(m, mm, vma, ACTOR.madvise);
  // The one place where memory of other kinds goes its own way; shared memory cannot be collapsed here yet.
  if (refusal === "file" && vma.file!.kind === "shmem") return finish(op, -ENOSYS);
  if (refusal !== null) return finish(op, -EINVAL);
  op.firstRegion = Math.ceil(from / PTES_PER_REGION);
  op.region = op.firstRegion;
  op.endRegion = Math.floor(op.at / PTES_PER_REGION);
  op.nrHuge = 0;
  op.lastFailure = SCAN.FAIL;
  return "region";
}

function tryRegion(m: HugeState, op: MadviseCollapseOp): MadvisePhase {
  if (op.region >= op.endRegion) return endPiece(op);
  // Nothing has changed unless the lock was dropped; then the VMA may be gone, or shorter (COLL-245).
  const found = revalidate(m, op.mmId, op.region, ACTOR.madvise);
  if (found !== SCAN.SUCCEED) {
    op.lastFailure = found;
    return endPiece(op);
  }
  const { end } = vmaOf(m.mms[op.mmId]!, op.region);
  op.endRegion = Math.min(op.endRegion, Math.floor(end / HUGE_SIZE));
  callOperation(m, collapsePhases, op, collapseFields(op.mmId, op.region, ACTOR.madvise));
  return "judge";
}

/** COLL-246. */
function judgeRegion(_m: HugeState, op: MadviseCollapseOp): MadvisePhase {
  op.region++;
  if (isHugeResult(op.callResult)) {
    op.nrHuge++;
    return "region";
  }
  op.lastFailure = op.callResult;
  return continuesMadvise(op.callResult) ? "region" : endPiece(op);
}

/** COLL-243: all of it, or the errno of the last failure. A piece inside one region would need -1 regions. */
function endPiece(op: MadviseCollapseOp): MadvisePhase {
  if (op.nrHuge === op.endRegion - op.firstRegion) return "findVma";
  return finish(op, madviseErrno(op.lastFailure));
}

function finish(op: MadviseCollapseOp, result: Err): MadvisePhase {
  op.result = result;
  return "done";
}
