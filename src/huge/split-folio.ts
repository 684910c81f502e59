/**
 * Splitting a large anonymous folio into smaller ones. Can fail, unlike splitPmd.
 *
 * Entry: splitFolio, splitFolioTo: plain calls that run the phases of split-phases.ts at once; beginSplit for a task that is
 *        to be watched or held between them; splitWithin for a phase of another table.
 * Rules: ANON-196, 199, 203, 210..214.
 */

import type { Pfn } from "../base/address.ts";
import { assert } from "../base/assert.ts";
import { EAGAIN, type Err } from "../base/errno.ts";
import { indexOf } from "../mm/rmap.ts";
import { headOf } from "../phys/frame-table.ts";
import { isFolioBusy } from "../sched/locks.ts";
import { callOperation, runAtOnce, startOperation } from "../sched/runner.ts";
import type { Operation } from "../sched/state.ts";
import type { HugeState } from "./knobs.ts";
import { type SplitOp, splitPhases } from "./split-phases.ts";

/**
 * Splits the folio to order 0. The caller holds one reference, which stays with the first page.
 * 0; -EBUSY for the huge zero folio; -EAGAIN if anyone else holds a reference (a pin) or its lock, and then nothing has
 * changed.
 */
export function splitFolio(m: HugeState, head: Pfn): Err {
  return splitFolioTo(m, head, 0, head);
}

/**
 * Splits to folios of `newOrder`; the caller's reference stays with the one that has page `keep`. -EINVAL for an order that
 * is not below the folio's, or 1, which anonymous memory does not have (ANON-210).
 */
export function splitFolioTo(m: HugeState, head: Pfn, newOrder: number, keep: Pfn): Err {
  // Whoever splits has the folio's lock or tries for it; nobody waits.
  if (isFolioBusy(m, head)) return -EAGAIN;
  return runAtOnce(m, splitPhases, fieldsFor(m, head, newOrder, keep)) ?? -EAGAIN;
}

/** The same as an operation of `task`, of which nothing has run yet. */
export function beginSplit(
  m: HugeState,
  task: number,
  head: Pfn,
  newOrder: number,
  keep: Pfn,
): SplitOp {
  return startOperation(m, splitPhases, task, fieldsFor(m, head, newOrder, keep));
}

/** The same called by a phase of `caller`, which finds the result in `callResult` in its next phase. */
export function splitWithin(
  m: HugeState,
  caller: Operation,
  head: Pfn,
  newOrder: number,
  keep: Pfn,
): SplitOp {
  return callOperation(m, splitPhases, caller, fieldsFor(m, head, newOrder, keep));
}

function fieldsFor(m: HugeState, head: Pfn, newOrder: number, keep: Pfn) {
  const { frames } = m;
  assert(frames.order[head] > 0, "a folio of order 0 is split");
  assert(headOf(frames, keep) === head, "the page to keep is not one of the folio");
  return {
    head,
    order: frames.order[head],
    newOrder,
    keep,
    anonVma: frames.owner[head],
    index: indexOf(m, head),
  };
}
