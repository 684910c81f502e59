/**
 * What writing 2 to drop_caches does, as a phase table: passes over every shrinker until a pass frees little.
 *
 * Entry: beginDropCaches for a task that is to be held in the middle; dropSlab of shrinkers.ts runs it at once.
 * Holds: nothing of its own between phases; each pass over a queue is an operation that it calls.
 * Rules: ANON-082, 195..197.
 */

import { definePhases, type Phase } from "../sched/phase-table.ts";
import { startOperation } from "../sched/runner.ts";
import type { Operation } from "../sched/state.ts";
import { shrinkWithin } from "./deferred-split-phases.ts";
import { shrinkHugeZero } from "./huge-zero.ts";
import type { HugeState } from "./knobs.ts";

/** `result` is the number of folios split. */
export interface DropCachesOp extends Operation {
  readonly maxPtesNone: number;
  pass: number;
  /** The queue that is next in this pass. */
  queue: number;
  /** Freed in this pass. */
  nrFreed: number;
}

type DropPhase = "zero" | "queue" | "sum" | "done";
type DropRows = Readonly<
  Record<Exclude<DropPhase, "done">, Phase<HugeState, DropCachesOp, DropPhase>>
>;

const rows: DropRows = {
  zero: { holds: "", run: shrinkZero },
  queue: { holds: "", run: shrinkQueue },
  sum: { holds: "", run: sumUp },
};

export const dropCachesPhases = definePhases<HugeState, DropCachesOp>({
  name: "dropCaches",
  about: "the huge zero folio and every deferred split queue are shrunk, in passes",
  first: "zero",
  phases: rows,
  lockId: () => 0,
  frames: () => [],
});

/** drop_caches of `task`, of which nothing has run yet. */
export function beginDropCaches(m: HugeState, task: number, maxPtesNone: number): DropCachesOp {
  return startOperation(m, dropCachesPhases, task, dropFields(maxPtesNone));
}

export function dropFields(maxPtesNone: number) {
  return { maxPtesNone, pass: 0, queue: 0, nrFreed: 0 };
}

function shrinkZero(m: HugeState, op: DropCachesOp): DropPhase {
  op.nrFreed = shrinkHugeZero(m);
  op.queue = 0;
  return "queue";
}

function shrinkQueue(m: HugeState, op: DropCachesOp): DropPhase {
  while (op.queue < m.deferredLength.length && m.deferredLength[op.queue] === 0) op.queue++;
  if (op.queue < m.deferredLength.length) {
    shrinkWithin(m, op, op.queue, m.deferredLength[op.queue], op.maxPtesNone);
    return "sum";
  }
  if (op.nrFreed >> op.pass <= 1) return "done";
  op.pass++;
  return "zero";
}

function sumUp(_m: HugeState, op: DropCachesOp): DropPhase {
  op.nrFreed += op.callResult;
  op.result += op.callResult;
  op.queue++;
  return "queue";
}
