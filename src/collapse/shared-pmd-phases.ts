/**
 * After a shared collapse: one address space's 512 PTEs of a compound become one huge entry, in place. The second half of the
 * mode that no kernel has.
 *
 * Entry: sharedPmdPhases; shared-collapse.ts runs it for the queue, khugepaged at the start of its pass.
 * Why:   the compound is mapped under the anon_vma lock, and building an entry wants the mmap lock, which stands above it; so
 *        it is done later, from the other end (COLL-460).
 * Locks: mmap exclusive, tried and never waited for; then anon_vma, so that nobody splits or moves the folio meanwhile.
 * Rules: COLL-460..465.
 */

import { HUGE_ORDER, type Pfn, PTES_PER_REGION } from "../base/address.ts";
import type { HugeState } from "../huge/knobs.ts";
import type { DeferredPmd } from "../huge/shared-knobs.ts";
import { ENTRY, pmdSlotOf } from "../mm/page-tables.ts";
import { joinPtes } from "../mm/pmd.ts";
import type { Mm } from "../mm/state.ts";
import { NO_PFN, PG } from "../phys/frame-table.ts";
import { isFolioBusy, tryLock } from "../sched/locks.ts";
import { definePhases, type Phase } from "../sched/phase-table.ts";
import type { Operation } from "../sched/state.ts";
import { revalidate, vmaOf } from "./eligible.ts";
import { ACTOR, SCAN } from "./scan-result.ts";
import { modeOf } from "./shared-op.ts";

/** Results. */
export const SHARED_PMD = {
  BUILT: 0,
  /** Its mmap lock was taken: it is at the end of the queue again. */
  REQUEUED: 1,
  /** Requeued three times already: dropped. */
  BUSY: 2,
  /** The address space has ended. */
  GONE: 3,
  /** It stays mapped by PTEs (COLL-461). */
  REFUSED: 4,
} as const;

export type SharedPmdResult = (typeof SHARED_PMD)[keyof typeof SHARED_PMD];

const MOST_REQUEUES = 3;

export interface SharedPmdOp extends Operation {
  /** What was taken from the queue; -1 before. */
  mmId: number;
  region: number;
  record: number;
  /** Whose anon_vma is locked while the entry is built. */
  anonVma: number;
}

type PmdPhase = "take" | "check" | "install" | "done";
type PmdRows = Readonly<Record<Exclude<PmdPhase, "done">, Phase<HugeState, SharedPmdOp, PmdPhase>>>;

const rows: PmdRows = {
  take: { holds: "", run: take },
  check: { holds: "mmap", run: check },
  install: { holds: "mmap anonVma", run: install },
};

export const sharedPmdPhases = definePhases<HugeState, SharedPmdOp>({
  name: "sharedPmd",
  about: "512 PTEs of a folio that a shared collapse made become one huge entry (no kernel has it)",
  first: "take",
  phases: rows,
  lockId: (op, name) => (name === "mmap" ? op.mmId : op.anonVma),
  frames: () => [],
});

/** What an operation on the first mapping of the queue starts with. */
export function sharedPmdFields() {
  return { mmId: -1, region: -1, record: -1, anonVma: 0 };
}

/** The next mapping, if its mmap lock is to be had. */
function take(m: HugeState, op: SharedPmdOp): PmdPhase {
  const { queue } = modeOf(m);
  const next = queue.shift();
  if (next === undefined || (m.mms[next.mmId] ?? null) === null) return end(op, SHARED_PMD.GONE);
  op.mmId = next.mmId;
  op.region = next.region;
  op.record = next.record;
  const wanted = { name: "mmap", id: next.mmId, mode: "write" } as const;
  if (tryLock(m, { ...wanted, task: op.task, operation: op.id })) return "check";
  return requeue(queue, op, next);
}

function requeue(queue: DeferredPmd[], op: SharedPmdOp, entry: DeferredPmd): PmdPhase {
  if (entry.nrRequeued === MOST_REQUEUES) return end(op, SHARED_PMD.BUSY);
  queue.push({ ...entry, nrRequeued: entry.nrRequeued + 1 });
  return end(op, SHARED_PMD.REQUEUED);
}

function check(m: HugeState, op: SharedPmdOp): PmdPhase {
  if (revalidate(m, op.mmId, op.region, ACTOR.khugepaged) !== SCAN.SUCCEED)
    return end(op, SHARED_PMD.REFUSED);
  const mm = m.mms[op.mmId]!;
  const folio = folioOfAll(m, mm, op.region);
  if (folio === NO_PFN) return end(op, SHARED_PMD.REFUSED);
  op.anonVma = m.frames.owner[folio];
  return "install";
}

/** COLL-462. Whoever works on the folio by rmap was kept out only now, so the entries are looked at again. */
function install(m: HugeState, op: SharedPmdOp): PmdPhase {
  const mm = m.mms[op.mmId]!;
  const folio = folioOfAll(m, mm, op.region);
  if (folio === NO_PFN || m.frames.owner[folio] !== op.anonVma || isFolioBusy(m, folio))
    return end(op, SHARED_PMD.REFUSED);
  const isAlone = isExclusive(m, folio);
  // Others may rely on an exclusive page that they have pinned to stay its owner's.
  if (!isAlone && m.frames.pincount[folio] > 0 && hasExclusive(m, folio))
    return end(op, SHARED_PMD.REFUSED);
  const vma = vmaOf(mm, op.region);
  joinPtes(m, mm, vma, op.region, isAlone ? "exclusive" : "shared");
  const mode = modeOf(m);
  mode.stats.shared_pmds++;
  const record = mode.records[op.record - mode.firstRecord];
  if (record !== undefined) record.nrPmds++;
  return end(op, SHARED_PMD.BUILT);
}

/** COLL-461: the one folio of PMD order that the 512 entries map in its order, none write-protected for a userfaultfd. */
function folioOfAll(m: HugeState, mm: Mm, region: number): Pfn {
  const { flags, payload } = m.tables;
  const pmdSlot = pmdSlotOf(m.tables, mm.root, region);
  if (pmdSlot < 0 || (flags[pmdSlot] & ENTRY.TABLE) === 0) return NO_PFN;
  const base = payload[pmdSlot] * 512;
  const head = payload[base];
  if ((flags[base] & ENTRY.PRESENT) === 0 || m.frames.order[head] !== HUGE_ORDER) return NO_PFN;
  if (head % PTES_PER_REGION !== 0 || (m.frames.flags[head] & PG.ANON) === 0) return NO_PFN;
  for (let i = 0; i < PTES_PER_REGION; i++) {
    if ((flags[base + i] & MAPPING) !== ENTRY.PRESENT || payload[base + i] !== head + i)
      return NO_PFN;
  }
  return head;
}

const MAPPING = ENTRY.PRESENT | ENTRY.SPECIAL | ENTRY.UFFD_WP;

function isExclusive(m: HugeState, folio: Pfn): boolean {
  for (let page = folio; page < folio + PTES_PER_REGION; page++)
    if ((m.frames.flags[page] & PG.ANON_EXCLUSIVE) === 0) return false;
  return true;
}

function hasExclusive(m: HugeState, folio: Pfn): boolean {
  for (let page = folio; page < folio + PTES_PER_REGION; page++)
    if ((m.frames.flags[page] & PG.ANON_EXCLUSIVE) !== 0) return true;
  return false;
}

function end(op: SharedPmdOp, result: SharedPmdResult): PmdPhase {
  op.result = result;
  return "done";
}
