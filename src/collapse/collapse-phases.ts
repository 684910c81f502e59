/**
 * Collapse of one 2 MiB region of private memory into one huge folio, as a phase table.
 *
 * Entry: collapsePhases, called by khugepaged's pass and by MADV_COLLAPSE; beginCollapse for a task of its own.
 * Owns:  thp_collapse_alloc and thp_collapse_alloc_failed.
 * Locks: named per phase. The windows of COLL-200..214: W0 "scan"; W1 before "allocate" and before "revalidate"; W2 before
 *        "swapIn"; W3 before "lock"; W4 and W5 before "isolate"; W6 before "copy" and before "install", with every source
 *        folio locked.
 * Holds: until "install" has run, "undo" can put the old PTE table back as it was. Each phase that begins without a lock
 *        revalidates: anybody may have been there.
 * Rules: COLL-100..158.
 */

import { VMSTAT } from "../base/counters.ts";
import { EVENT } from "../base/events.ts";
import { FAULT_WAIT } from "../fault/kinds.ts";
import { faultSwap } from "../fault/swap-in.ts";
import type { HugeState } from "../huge/knobs.ts";
import { putFolio } from "../mm/folio.ts";
import { ENTRY, NO_TABLE, pmdSlotOf } from "../mm/page-tables.ts";
import type { Mm } from "../mm/state.ts";
import { clearEntry, setTableEntry } from "../mm/table-alloc.ts";
import type { Vma } from "../mm/vma.ts";
import { allocFolio } from "../phys/alloc.ts";
import { NO_PFN } from "../phys/frame-table.ts";
import { GFP, GFP_TRANSHUGE, GFP_TRANSHUGE_LIGHT } from "../phys/gfp.ts";
import { chargeFolio, memcgOf } from "../phys/memcg.ts";
import { definePhases, type FrameHold, type Phase, type TableHold } from "../sched/phase-table.ts";
import { letOthersRun, startOperation } from "../sched/runner.ts";
import { type CollapseOp, collapseFields, reportCollapse, reportScan } from "./collapse-op.ts";
import { revalidate, vmaOf } from "./eligible.ts";
import { copyPages, replaceByHuge } from "./replace-pages.ts";
import { findTable, scanRegion } from "./scan.ts";
import { ACTOR, type Actor, SCAN, type ScanResult, traceNumber } from "./scan-result.ts";
import { givePagesBack, hasTaken, takePages } from "./take-pages.ts";

const HUGE_ORDER = 9;
const PAGES = 512;

type CollapsePhase =
  | "scan"
  | "allocate"
  | "revalidate"
  | "swapIn"
  | "lock"
  | "isolate"
  | "copy"
  | "install"
  | "undo"
  | "release"
  | "done";
type CollapseRows = Readonly<
  Record<Exclude<CollapsePhase, "done">, Phase<HugeState, CollapseOp, CollapsePhase>>
>;

const rows: CollapseRows = {
  scan: { holds: "mmap:read", run: scan },
  allocate: { holds: "", run: allocate },
  revalidate: { holds: "mmap:read", run: lookAgain },
  swapIn: { holds: "mmap:read", run: swapIn },
  lock: { holds: "mmap:write", run: lookOnceMore },
  isolate: { holds: "mmap:write anonVma", run: isolate },
  copy: { holds: "mmap:write", run: copy },
  install: { holds: "mmap:write", run: install },
  undo: { holds: "mmap:write", run: putTableBack },
  release: { holds: "", run: release },
};

export const collapsePhases = definePhases<HugeState, CollapseOp>({
  name: "collapse",
  about: "the 4K pages of an aligned 2 MiB become one huge page, if nobody else uses them",
  first: "scan",
  phases: rows,
  lockId: (op, name) => (name === "mmap" ? op.mmId : op.anonVma),
  takesCallerLocks: true,
  locksFolio: hasTaken,
  mustWait: (m, op) => op.phase === "swapIn" && meetsMigration(m, op),
  frames: (_m, op): readonly FrameHold[] =>
    op.folio === NO_PFN ? [] : [{ pfn: op.folio, nrMigrating: 0, references: 1 }],
  tables: (op): readonly TableHold[] =>
    op.pteTable === NO_TABLE ? [] : [{ mmId: op.mmId, table: op.pteTable, region: op.region }],
});

/** A collapse by `task`, of which nothing has run yet. Its result is a SCAN number. */
export function beginCollapse(
  m: HugeState,
  task: number,
  mm: Mm,
  region: number,
  actor: Actor,
): CollapseOp {
  return startOperation(m, collapsePhases, task, collapseFields(mm.id, region, actor));
}

/** Phase 0. Whoever called has found the VMA under the same lock; if not, it is found wanting here. */
function scan(m: HugeState, op: CollapseOp): CollapsePhase {
  op.result = revalidate(m, op.mmId, op.region, op.actor);
  if (op.result === SCAN.SUCCEED) {
    const { mm, vma } = placeOf(m, op);
    op.result = scanRegion(m, mm, vma, op);
  }
  if (op.result === SCAN.SUCCEED) return "allocate";
  reportScan(m, op);
  return "done"; // with the mmap lock still held: the caller goes on under it
}

/** Phase 1, without any lock (COLL-120..124). */
function allocate(m: HugeState, op: CollapseOp): CollapsePhase {
  const gfp = gfpOf(m, op.actor);
  op.folio = allocOn(m, gfp, op.nodes);
  if (op.folio === NO_PFN) {
    m.vmstat[VMSTAT.thp_collapse_alloc_failed]++;
    return end(op, SCAN.ALLOC_HUGE_PAGE_FAIL);
  }
  m.vmstat[VMSTAT.thp_collapse_alloc]++;
  const memcg = m.mms[op.mmId]?.memcg ?? 0;
  if (memcg === 0) return "revalidate";
  if (chargeFolio(m, op.folio, memcg, gfp) !== 0) return end(op, SCAN.CGROUP_CHARGE_FAIL);
  memcgOf(m, memcg).collapseAllocs++;
  return "revalidate";
}

/** COLL-121: khugepaged's own defrag decides for it; MADV_COLLAPSE tries hard. */
export function gfpOf(m: HugeState, actor: Actor): number {
  const isLight = actor === ACTOR.khugepaged && m.knobs.khugepaged.defrag === 0;
  return isLight ? GFP_TRANSHUGE_LIGHT : GFP_TRANSHUGE;
}

/** COLL-122: on the lowest of the nodes, then on the others. */
export function allocOn(m: HugeState, gfp: number, nodes: number): number {
  const isAny = nodes === (1 << m.nodes.length) - 1;
  for (let node = 0; node < m.nodes.length; node++) {
    if ((nodes & (1 << node)) === 0) continue;
    const head = allocFolio(m, HUGE_ORDER, isAny ? gfp : gfp | GFP.THISNODE, node);
    if (isAny || head !== NO_PFN) return head;
  }
  return NO_PFN;
}

/** Phase 2, under the mmap lock again. */
function lookAgain(m: HugeState, op: CollapseOp): CollapsePhase {
  const result = revalidate(m, op.mmId, op.region, op.actor);
  if (result !== SCAN.SUCCEED) return end(op, result);
  op.pmdSlot = pmdSlotOf(m.tables, placeOf(m, op).mm.root, op.region);
  const found = findTable(m, op.pmdSlot);
  if (found !== SCAN.SUCCEED) return end(op, found);
  return op.unmapped > 0 ? "swapIn" : "lock";
}

/** COLL-126: every page that is not there comes back, in ascending order. */
function swapIn(m: HugeState, op: CollapseOp): CollapsePhase {
  const { mm } = placeOf(m, op);
  let nr = 0;
  let result: ScanResult = SCAN.SUCCEED;
  for (let i = 0; i < PAGES && result === SCAN.SUCCEED; i++) {
    const slot = m.tables.payload[op.pmdSlot] * 512 + i;
    const entry = m.tables.flags[slot];
    if (entry === 0 || (entry & ENTRY.PRESENT) !== 0) continue;
    result = swapInPage(m, mm, op, i);
    if (result === SCAN.SUCCEED) nr++;
  }
  m.events?.emit(
    EVENT.mm_collapse_huge_page_swapin,
    op.mmId,
    nr,
    op.referenced,
    traceNumber(m.profile, result),
  );
  return result === SCAN.SUCCEED ? "lock" : end(op, result);
}

function swapInPage(m: HugeState, mm: Mm, op: CollapseOp, pteIndex: number): ScanResult {
  const { tables } = m;
  const slot = tables.payload[op.pmdSlot] * 512 + pteIndex;
  while ((tables.flags[slot] & ENTRY.MIGRATION) !== 0) if (!letOthersRun(m)) return SCAN.PAGE_LOCK;
  if ((tables.flags[slot] & ENTRY.MARKER) !== 0) return SCAN.FAIL; // COLL-110
  if ((tables.flags[slot] & ENTRY.SWAP) === 0) return SCAN.SUCCEED;
  const result = faultSwap(m, mm, op.region, pteIndex, slot, "read");
  if (result === FAULT_WAIT) return SCAN.PAGE_LOCK; // the folio is not waited for under the mmap lock
  return result < 0 ? SCAN.FAIL : SCAN.SUCCEED;
}

/** Who brings pages back waits for those that are being migrated. */
function meetsMigration(m: HugeState, op: CollapseOp): boolean {
  const first = m.tables.payload[op.pmdSlot] * 512;
  for (let slot = first; slot < first + PAGES; slot++)
    if ((m.tables.flags[slot] & ENTRY.MIGRATION) !== 0) return true;
  return false;
}

/** Phase 3, alone in the address space (COLL-128). */
function lookOnceMore(m: HugeState, op: CollapseOp): CollapsePhase {
  const result = revalidate(m, op.mmId, op.region, op.actor);
  if (result !== SCAN.SUCCEED) return end(op, result);
  const { mm, vma } = placeOf(m, op);
  const slot = pmdSlotOf(m.tables, mm.root, op.region);
  const found = findTable(m, slot);
  if (found !== SCAN.SUCCEED) return end(op, found);
  if (slot !== op.pmdSlot) return end(op, SCAN.FAIL);
  op.anonVma = vma.anonVma!.id;
  return "isolate";
}

/**
 * Phases 4 and 5: nobody comes to the pages through this address space any more (COLL-129), and each is taken (COLL-130). One
 * row: in between, only a walk from a page to its mappings could see a difference, and its lock keeps that out.
 */
function isolate(m: HugeState, op: CollapseOp): CollapsePhase {
  const { mm, vma } = placeOf(m, op);
  m.mmuNotifier?.invalidateRange(mm.id, op.region * PAGES, (op.region + 1) * PAGES);
  op.pteTable = m.tables.payload[op.pmdSlot];
  clearEntry(m.tables, op.pmdSlot);
  mm.hintRegion = -1;
  op.result = takePages(m, mm, vma, op);
  return op.result === SCAN.SUCCEED ? "copy" : putTableBack(m, op);
}

/** Phase 6. */
function copy(m: HugeState, op: CollapseOp): CollapsePhase {
  op.result = copyPages(m, op);
  return op.result === SCAN.SUCCEED ? "install" : "undo";
}

/** Phases 7 and 8. */
function install(m: HugeState, op: CollapseOp): CollapsePhase {
  const { mm, vma } = placeOf(m, op);
  replaceByHuge(m, mm, vma, op);
  if (op.actor === ACTOR.khugepaged) {
    m.khugepaged.work.nrPagesFilled += op.nrFilled;
    m.khugepaged.work.nrPagesCopied += PAGES - op.nrFilled;
  }
  return "release";
}

/** COLL-131: everything is as it was. */
function putTableBack(m: HugeState, op: CollapseOp): CollapsePhase {
  givePagesBack(m, op);
  setTableEntry(m.tables, op.pmdSlot, op.pteTable);
  op.pteTable = NO_TABLE;
  return "release";
}

/** COLL-125: a folio that was not used is freed and uncharged. */
function release(m: HugeState, op: CollapseOp): CollapsePhase {
  if (op.folio !== NO_PFN) putFolio(m, op.folio, 1);
  op.folio = NO_PFN;
  reportCollapse(m, op);
  reportScan(m, op);
  return "done";
}

function end(op: CollapseOp, result: ScanResult): CollapsePhase {
  op.result = result;
  return "release";
}

/** After revalidate has found no fault. */
function placeOf(m: HugeState, op: CollapseOp): { mm: Mm; vma: Vma } {
  const mm = m.mms[op.mmId]!;
  return { mm, vma: vmaOf(mm, op.region) };
}
