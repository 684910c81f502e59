/**
 * Soft offline as a phase table: a page that is about to fail is emptied and taken out of use; nobody is told.
 *
 * Entry: softOfflinePhases; memory-failure.ts runs it.
 * Rules: ANON-285.
 */

import type { Pfn } from "../base/address.ts";
import { EBUSY, EHWPOISON, EOPNOTSUPP } from "../base/errno.ts";
import type { HugeState } from "../huge/knobs.ts";
import { splitWithin } from "../huge/split-folio.ts";
import { putFolio } from "../mm/folio.ts";
import { markPoisoned, retirePage } from "../mm/poison.ts";
import { headOf, PG } from "../phys/frame-table.ts";
import { definePhases, type Phase } from "../sched/phase-table.ts";
import type { Operation } from "../sched/state.ts";
import { migrateWithin } from "./migrate-phases.ts";

export interface SoftOfflineOp extends Operation {
  readonly pfn: Pfn;
  /** Head of the folio the page is in now. */
  head: Pfn;
}

type OfflinePhase = "take" | "split" | "migrate" | "retire" | "done";
type OfflineRows = Readonly<
  Record<Exclude<OfflinePhase, "done">, Phase<HugeState, SoftOfflineOp, OfflinePhase>>
>;

const rows: OfflineRows = {
  take: { holds: "", run: takePage },
  split: { holds: "folio", run: splitAround },
  migrate: { holds: "", run: migratePage },
  retire: { holds: "", run: retire },
};

export const softOfflinePhases = definePhases<HugeState, SoftOfflineOp>({
  name: "softOffline",
  about: "a page that is about to fail is emptied and taken out of use",
  first: "take",
  phases: rows,
  lockId: (op) => op.head,
  frames: (_m, op) => (op.phase === "take" ? [] : [{ pfn: op.pfn, nrMigrating: 0, references: 1 }]),
});

function takePage(m: HugeState, op: SoftOfflineOp): OfflinePhase {
  const { frames } = m;
  op.head = headOf(frames, op.pfn);
  const isFailed = (frames.flags[op.pfn] & PG.HWPOISON) !== 0;
  const isAnon = (frames.flags[op.head] & PG.ANON) !== 0;
  if (!m.poison.canSoftOffline) op.result = -EOPNOTSUPP;
  else if (isFailed) op.result = -EHWPOISON;
  else if (!isAnon) op.result = -EBUSY;
  if (op.result !== 0) return "done";
  frames.refcount[op.head]++;
  return "split";
}

function splitAround(m: HugeState, op: SoftOfflineOp): OfflinePhase {
  op.head = headOf(m.frames, op.pfn);
  op.callResult = 0;
  if (m.frames.order[op.head] > 0) splitWithin(m, op, op.head, 0, op.pfn);
  return "migrate";
}

function migratePage(m: HugeState, op: SoftOfflineOp): OfflinePhase {
  op.head = headOf(m.frames, op.pfn);
  if (op.callResult !== 0) return giveUp(m, op);
  // If everybody unmapped it meanwhile, the reference is the last one and there is nothing to move.
  if (m.frames.refcount[op.pfn] > 1) migrateWithin(m, op, op.pfn);
  return "retire";
}

function retire(m: HugeState, op: SoftOfflineOp): OfflinePhase {
  if (op.callResult !== 0) return giveUp(m, op);
  markPoisoned(m, op.pfn, op.pfn);
  retirePage(m, op.pfn);
  return "done";
}

function giveUp(m: HugeState, op: SoftOfflineOp): OfflinePhase {
  op.result = -EBUSY;
  putFolio(m, op.head, 1);
  return "done";
}
