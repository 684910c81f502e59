/**
 * A fault as a phase table, for a task that is to be held in the middle of one: a huge fault in its own phases, a swap-in by the
 * table it calls. Huge faults of plain calls do the same work in one step (anon.ts, whose functions these rows call).
 *
 * Entry: beginFault.
 * Locks: mmap shared throughout, so that no VMA changes; other threads fault in the same region meanwhile.
 * Holds: nothing is visible before "install"; whoever finds the region populated there gives everything back (ANON-331).
 * Rules: ANON-062, 066, 068, 331, 332.
 */

import { addrOf, type Pfn } from "../base/address.ts";
import { VMSTAT } from "../base/counters.ts";
import type { HugeState } from "../huge/knobs.ts";
import { prepareAnonVma } from "../mm/anon-vma.ts";
import { putFolio } from "../mm/folio.ts";
import { LEVEL_PTE, NO_TABLE, pmdSlotOf } from "../mm/page-tables.ts";
import { isHugeEntry, setHugeEntry } from "../mm/pmd.ts";
import type { Mm } from "../mm/state.ts";
import { allocTable, ensurePmdSlot, freeTable } from "../mm/table-alloc.ts";
import { findVma, VM, VM_ACCESS, type Vma } from "../mm/vma.ts";
import { NO_PFN } from "../phys/frame-table.ts";
import { definePhases, type FrameHold, type Phase, type TableHold } from "../sched/phase-table.ts";
import { callOperation, startOperation } from "../sched/runner.ts";
import type { Operation } from "../sched/state.ts";
import { chargeHugeFolio, mapNewHuge, mayFaultHuge, newEntryFlags, takeHugeFolio } from "./anon.ts";
import { faultPages, handleFault, swapSlotOf } from "./fault.ts";
import { FAULT, FAULT_MARK, FAULT_OOM, FAULT_ORDER_SHIFT, FAULT_SIGBUS } from "./kinds.ts";
import { swapInFields, swapInPhases } from "./swap-in-phases.ts";

export interface HugeFaultOp extends Operation {
  readonly mmId: number;
  readonly region: number;
  readonly pteIndex: number;
  readonly access: "read" | "write";
  /** What it has taken and not yet mapped; NO_PFN and NO_TABLE if nothing. */
  folio: Pfn;
  deposit: number;
}

const HUGE_RESULT = FAULT["anon 2M"] | (9 << FAULT_ORDER_SHIFT);

type FaultPhase =
  | "enter"
  | "allocate"
  | "charge"
  | "deposit"
  | "install"
  | "pages"
  | "swapped"
  | "undo"
  | "done";
type FaultRows = Readonly<
  Record<Exclude<FaultPhase, "done">, Phase<HugeState, HugeFaultOp, FaultPhase>>
>;

const rows: FaultRows = {
  enter: { holds: "mmap:read", run: enterFault },
  allocate: { holds: "mmap:read", run: allocate },
  charge: { holds: "mmap:read", run: charge },
  deposit: { holds: "mmap:read", run: allocDeposit },
  install: { holds: "mmap:read", run: install },
  pages: { holds: "mmap:read", run: fallBack },
  swapped: { holds: "mmap:read", run: endSwapIn },
  undo: { holds: "mmap:read", run: giveBack },
};

export const hugeFaultPhases = definePhases<HugeState, HugeFaultOp>({
  name: "fault",
  about: "a page fault; one that may map a huge page can be held in the middle",
  first: "enter",
  phases: rows,
  lockId: (op) => op.mmId,
  frames: (_m, op): readonly FrameHold[] =>
    op.folio === NO_PFN ? [] : [{ pfn: op.folio, nrMigrating: 0, references: 1 }],
  tables: (op): readonly TableHold[] =>
    op.deposit === NO_TABLE ? [] : [{ mmId: op.mmId, table: op.deposit }],
});

/** A fault of `task` on a page, of which nothing has run yet. Its result is handleFault's. */
export function beginFault(
  m: HugeState,
  task: number,
  mm: Mm,
  region: number,
  pteIndex: number,
  access: "read" | "write",
): HugeFaultOp {
  const fields = { mmId: mm.id, region, pteIndex, access, folio: NO_PFN, deposit: NO_TABLE };
  return startOperation(m, hugeFaultPhases, task, fields);
}

/** Everything but a huge fault that needs a folio of its own, and a swap-in, is over in one step. */
function enterFault(m: HugeState, op: HugeFaultOp): FaultPhase {
  const { region, pteIndex, access } = op;
  const mm = m.mms[op.mmId]!;
  const vma = findVma(mm.vmas, addrOf(region, pteIndex));
  const swapSlot = swapSlotOf(m, mm, region, pteIndex);
  if (vma !== null && swapSlot >= 0 && mayAccess(vma, access)) {
    m.vmstat[VMSTAT.pgfault]++;
    mm.minflt++;
    callOperation(m, swapInPhases, op, swapInFields(m, mm, region, pteIndex, swapSlot, access));
    return "swapped";
  }
  if (vma === null || !needsHugeFolio(m, mm, vma, op)) {
    op.result = handleFault(m, mm, region, pteIndex, access);
    return "done";
  }
  if (ensurePmdSlot(m, mm, region) < 0) return end(op, FAULT_OOM);
  m.vmstat[VMSTAT.pgfault]++;
  mm.minflt++;
  prepareAnonVma(m, mm, vma);
  return "allocate";
}

function mayAccess(vma: Vma, access: "read" | "write"): boolean {
  return (vma.flags & (access === "write" ? VM.WRITE : VM_ACCESS)) !== 0;
}

/** A fault that read from a device is a major one. */
function endSwapIn(m: HugeState, op: HugeFaultOp): FaultPhase {
  const mm = m.mms[op.mmId] ?? null;
  const result = op.callResult;
  if (mm !== null && result >= 0 && (result & FAULT_MARK.MAJOR) !== 0) {
    mm.minflt--;
    mm.majflt++;
  }
  return end(op, result);
}

function needsHugeFolio(m: HugeState, mm: Mm, vma: Vma, op: HugeFaultOp): boolean {
  const slot = pmdSlotOf(m.tables, mm.root, op.region);
  const isEmpty = slot < 0 || m.tables.flags[slot] === 0;
  const isAllowed = (vma.flags & (op.access === "write" ? VM.WRITE : VM.READ)) !== 0;
  const takesZero = op.access === "read" && m.knobs.useZeroPage;
  const isPrivate = vma.file === null;
  return isEmpty && isAllowed && isPrivate && !takesZero && mayFaultHuge(m, mm, vma, op.region);
}

function allocate(m: HugeState, op: HugeFaultOp): FaultPhase {
  op.folio = takeHugeFolio(m, placeOf(m, op).vma);
  return op.folio === NO_PFN ? "pages" : "charge";
}

function charge(m: HugeState, op: HugeFaultOp): FaultPhase {
  const { mm, vma } = placeOf(m, op);
  if (chargeHugeFolio(m, mm, vma, op.folio)) return "deposit";
  op.folio = NO_PFN;
  return "pages";
}

function allocDeposit(m: HugeState, op: HugeFaultOp): FaultPhase {
  op.deposit = allocTable(m, placeOf(m, op).mm, LEVEL_PTE);
  if (op.deposit !== NO_TABLE) return "install";
  op.result = FAULT_OOM;
  return "undo";
}

/** Under the page-table lock: is the entry still as it was read? If not, the access is simply made again (ANON-332). */
function install(m: HugeState, op: HugeFaultOp): FaultPhase {
  const { mm, vma, slot } = placeOf(m, op);
  const isArmed = (vma.flags & VM.UFFD_MISSING) !== 0;
  if (m.tables.flags[slot] !== 0 || isArmed) {
    op.result = isArmed ? FAULT_SIGBUS : FAULT.spurious;
    return "undo";
  }
  mapNewHuge(m, mm, vma, op.region, op.folio);
  setHugeEntry(m, slot, op.folio, newEntryFlags(vma), op.deposit);
  op.folio = NO_PFN;
  op.deposit = NO_TABLE;
  return end(op, HUGE_RESULT);
}

/** No huge folio: pages, unless somebody has mapped a huge one meanwhile. */
function fallBack(m: HugeState, op: HugeFaultOp): FaultPhase {
  const { mm, vma, slot } = placeOf(m, op);
  if (isHugeEntry(m.tables.flags[slot])) return end(op, FAULT.spurious);
  const result = faultPages(m, mm, vma, op.region, op.pteIndex, slot, op.access);
  return end(op, result < 0 ? result : result | FAULT_MARK.FELL_BACK);
}

function giveBack(m: HugeState, op: HugeFaultOp): FaultPhase {
  if (op.deposit !== NO_TABLE) freeTable(m, placeOf(m, op).mm, op.deposit);
  putFolio(m, op.folio, 1);
  op.deposit = NO_TABLE;
  op.folio = NO_PFN;
  return "done";
}

function end(op: HugeFaultOp, result: number): FaultPhase {
  op.result = result;
  return "done";
}

/** The mmap lock has been held since "enter", so the VMA is there. */
function placeOf(m: HugeState, op: HugeFaultOp): { mm: Mm; vma: Vma; slot: number } {
  const mm = m.mms[op.mmId]!;
  const vma = findVma(mm.vmas, addrOf(op.region, op.pteIndex))!;
  return { mm, vma, slot: ensurePmdSlot(m, mm, op.region) };
}
