/**
 * A pass of the deferred-split shrinker as a phase table: what is queued and worth it is split, one folio after the other.
 *
 * Entry: shrinkDeferred runs it at once; beginShrink for a task that is to be held in the middle; shrinkWithin for a phase of
 *        another table.
 * Holds: one reference on the folio that is being split.
 * Rules: ANON-195.
 */

import type { Pfn } from "../base/address.ts";
import { listHead } from "../base/int-list.ts";
import { leaveDeferredQueue, requeueDeferred } from "../mm/folio.ts";
import { NO_PFN, PG } from "../phys/frame-table.ts";
import { isFolioBusy } from "../sched/locks.ts";
import { definePhases, type FrameHold, type Phase } from "../sched/phase-table.ts";
import { callOperation, isLockStuck, runAtOnce, startOperation } from "../sched/runner.ts";
import { CALLER, type Operation } from "../sched/state.ts";
import { reasonToSplit, type SplitReason, settleSplit } from "./deferred-split.ts";
import type { HugeState } from "./knobs.ts";
import { splitWithin } from "./split-folio.ts";

/** `result` is the number of folios split. */
export interface ShrinkOp extends Operation {
  readonly queue: number;
  readonly maxPtesNone: number;
  /** Folios it may still look at. */
  nrToScan: number;
  /** The folio in hand, NO_PFN if none. */
  head: Pfn;
  why: SplitReason;
}

type ShrinkPhase = "choose" | "split" | "settle" | "done";
type ShrinkRows = Readonly<
  Record<Exclude<ShrinkPhase, "done">, Phase<HugeState, ShrinkOp, ShrinkPhase>>
>;

const rows: ShrinkRows = {
  choose: { holds: "", run: choose },
  split: { holds: "folio", run: split },
  settle: { holds: "", run: settle },
};

export const shrinkPhases = definePhases<HugeState, ShrinkOp>({
  name: "shrinkDeferred",
  about: "a pass over a deferred split queue",
  first: "choose",
  phases: rows,
  lockId: (op) => op.head,
  frames: (_m, op): readonly FrameHold[] =>
    op.head === NO_PFN ? [] : [{ pfn: op.head, nrMigrating: 0, references: 1 }],
});

/** Looks at up to `nrToScan` folios that are on the queue now, from its head. Returns the number split. */
export function shrinkDeferred(
  m: HugeState,
  queue: number,
  nrToScan: number,
  maxPtesNone: number,
): number {
  if (m.deferredLength[queue] === 0) return 0;
  return runAtOnce(m, shrinkPhases, fieldsFor(m, queue, nrToScan, maxPtesNone)) ?? 0;
}

/** The same as an operation of `task`; nothing of it has run yet. */
export function beginShrink(
  m: HugeState,
  task: number,
  queue: number,
  nrToScan: number,
  maxPtesNone: number,
): ShrinkOp {
  return startOperation(m, shrinkPhases, task, fieldsFor(m, queue, nrToScan, maxPtesNone));
}

/** The same called by a phase of `caller`, which finds the number split in `callResult`. */
export function shrinkWithin(
  m: HugeState,
  caller: Operation,
  queue: number,
  nrToScan: number,
  maxPtesNone: number,
): ShrinkOp {
  return callOperation(m, shrinkPhases, caller, fieldsFor(m, queue, nrToScan, maxPtesNone));
}

function fieldsFor(m: HugeState, queue: number, nrToScan: number, maxPtesNone: number) {
  const nr = Math.min(nrToScan, m.deferredLength[queue]);
  return { queue, maxPtesNone, nrToScan: nr, head: NO_PFN, why: "partial" as SplitReason };
}

/** The first folio of the queue that is worth it; a locked one is passed over, others leave the queue (ANON-195). */
function choose(m: HugeState, op: ShrinkOp): ShrinkPhase {
  while (op.nrToScan-- > 0) {
    const head = listHead(m.deferred, op.queue);
    if (head < 0) break;
    const why = reasonToSplit(m, head, op.maxPtesNone);
    if (why !== null && !isBusy(m, op, head)) {
      m.frames.refcount[head]++;
      op.head = head;
      op.why = why;
      return "split";
    }
    if (why === "partial") requeueDeferred(m, head);
    else leaveDeferredQueue(m, head);
  }
  return "done";
}

/** A plain call would wait for ever for an anon_vma that somebody holds; a task waits. */
function isBusy(m: HugeState, op: ShrinkOp, head: Pfn): boolean {
  if (isFolioBusy(m, head)) return true;
  return op.task === CALLER && isLockStuck(m, "anonVma", m.frames.owner[head]);
}

function split(m: HugeState, op: ShrinkOp): ShrinkPhase {
  const { frames } = m;
  // Nobody held its lock until now: another may have split it, and freed what was not mapped.
  const isWhole = frames.order[op.head] > 0 && (frames.flags[op.head] & PG.ANON) !== 0;
  op.callResult = isWhole ? 0 : -1;
  if (isWhole) splitWithin(m, op, op.head, 0, op.head);
  return "settle";
}

function settle(m: HugeState, op: ShrinkOp): ShrinkPhase {
  if (op.callResult === 0) op.result++;
  settleSplit(m, op.head, op.why, op.callResult);
  op.head = NO_PFN;
  return "choose";
}
