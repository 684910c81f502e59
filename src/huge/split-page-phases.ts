/**
 * Somebody of the kernel finds the large folio that maps a page, takes a reference, and splits it, as reclaim does: without the
 * mmap lock, so that everything may change between finding and splitting.
 *
 * Entry: beginSplitPage, splitPage.
 * Holds: one reference on the folio from "find" to "settle", which stays with the page.
 * Rules: ANON-210, 211.
 */

import { type Pfn, PTES_PER_REGION } from "../base/address.ts";
import { EAGAIN, EFAULT, EINVAL, type Err } from "../base/errno.ts";
import { putFolio } from "../mm/folio.ts";
import { ENTRY, pmdSlotOf } from "../mm/page-tables.ts";
import type { Mm } from "../mm/state.ts";
import { headOf, NO_PFN, PG } from "../phys/frame-table.ts";
import { definePhases, type FrameHold, type Phase } from "../sched/phase-table.ts";
import { runAtOnce, startOperation } from "../sched/runner.ts";
import type { Operation } from "../sched/state.ts";
import type { HugeState } from "./knobs.ts";
import { splitWithin } from "./split-folio.ts";

export interface SplitPageOp extends Operation {
  readonly mmId: number;
  readonly region: number;
  readonly pteIndex: number;
  readonly newOrder: number;
  /** The page and the head of its folio when it was found; NO_PFN while no reference is held. */
  page: Pfn;
  head: Pfn;
}

type SplitPagePhase = "find" | "split" | "settle" | "done";
type SplitPageRows = Readonly<
  Record<Exclude<SplitPagePhase, "done">, Phase<HugeState, SplitPageOp, SplitPagePhase>>
>;

const rows: SplitPageRows = {
  find: { holds: "", run: findFolio },
  split: { holds: "folio", run: split },
  settle: { holds: "", run: settle },
};

export const splitPagePhases = definePhases<HugeState, SplitPageOp>({
  name: "splitPage",
  about: "the large folio that maps a page is found, referenced and split",
  first: "find",
  phases: rows,
  lockId: (op) => op.head,
  frames: (_m, op): readonly FrameHold[] =>
    op.page === NO_PFN ? [] : [{ pfn: op.page, nrMigrating: 0, references: 1 }],
});

/** Of `task`, of which nothing has run yet. Its result: 0; -EFAULT nothing is mapped there; -EINVAL no large folio; -EAGAIN. */
export function beginSplitPage(
  m: HugeState,
  task: number,
  mm: Mm,
  region: number,
  pteIndex: number,
  newOrder: number,
): SplitPageOp {
  return startOperation(m, splitPagePhases, task, fieldsFor(mm, region, pteIndex, newOrder));
}

/** The same at once. */
export function splitPage(
  m: HugeState,
  mm: Mm,
  region: number,
  pteIndex: number,
  newOrder: number,
): Err {
  return runAtOnce(m, splitPagePhases, fieldsFor(mm, region, pteIndex, newOrder)) ?? -EAGAIN;
}

function fieldsFor(mm: Mm, region: number, pteIndex: number, newOrder: number) {
  return { mmId: mm.id, region, pteIndex, newOrder, page: NO_PFN, head: NO_PFN };
}

function findFolio(m: HugeState, op: SplitPageOp): SplitPagePhase {
  const page = pageAt(m, op);
  if (page === NO_PFN) return end(op, -EFAULT);
  const head = headOf(m.frames, page);
  const { order, flags, refcount } = m.frames;
  if ((flags[head] & PG.ANON) === 0 || op.newOrder >= order[head]) return end(op, -EINVAL);
  refcount[head]++;
  op.page = page;
  op.head = head;
  return "split";
}

/** The frame that the page is mapped to; NO_PFN if to none, or the process is gone. */
function pageAt({ mms, tables }: HugeState, { mmId, region, pteIndex }: SplitPageOp): Pfn {
  const mm = mms[mmId] ?? null;
  const slot = mm === null ? -1 : pmdSlotOf(tables, mm.root, region);
  if (slot < 0 || (tables.flags[slot] & ENTRY.PRESENT) === 0) return NO_PFN;
  if ((tables.flags[slot] & ENTRY.HUGE) !== 0) return tables.payload[slot] + pteIndex;
  const pte = tables.payload[slot] * PTES_PER_REGION + pteIndex;
  return (tables.flags[pte] & ENTRY.PRESENT) === 0 ? NO_PFN : tables.payload[pte];
}

/** Nobody held the folio's lock until now: another may have split it. */
function split(m: HugeState, op: SplitPageOp): SplitPagePhase {
  const { frames } = m;
  const isSame = headOf(frames, op.page) === op.head && frames.order[op.head] > op.newOrder;
  op.callResult = -EAGAIN;
  if (isSame) splitWithin(m, op, op.head, op.newOrder, op.page);
  return "settle";
}

function settle(m: HugeState, op: SplitPageOp): SplitPagePhase {
  putFolio(m, headOf(m.frames, op.page), 1);
  op.page = NO_PFN;
  return end(op, op.callResult);
}

function end(op: SplitPageOp, result: Err): SplitPagePhase {
  op.result = result;
  return "done";
}
