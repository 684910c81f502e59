/**
 * One pass of khugepaged as a phase table: one address space after the other, region by region, until the budget is spent.
 *
 * Entry: beginPass; khugepaged.ts makes whole passes of it. Where to look next is in khugepaged-order.ts.
 * Locks: the mmap lock of the address space at the cursor is tried, never waited for, and stays held from region to region
 *        until one passes its scan: the collapse then drops it, and the visit is over (COLL-063, COLL-068).
 * Holds: the cursor is ahead of the region in hand, so that a pass that ends early has nothing to put back.
 * Rules: COLL-060..072, and COLL-422, 464 for the mode `shared_collapse`.
 */

import { assert } from "../base/assert.ts";
import { pauseKhugepaged } from "../huge/khugepaged-thread.ts";
import type { HugeState } from "../huge/knobs.ts";
import { endSleep, NO_MM, NO_TASK } from "../mm/khugepaged-list.ts";
import { tryLock } from "../sched/locks.ts";
import { definePhases, type Phase } from "../sched/phase-table.ts";
import { callOperation, startOperation } from "../sched/runner.ts";
import type { Operation } from "../sched/state.ts";
import { taskOf } from "../sched/tasks.ts";
import { collapseFields } from "./collapse-op.ts";
import { collapsePhases } from "./collapse-phases.ts";
import {
  COUNTER_LIMIT,
  isPassedOver,
  NO_REGION,
  nextRegion,
  REGION_CHARGE,
  startAtHead,
  toNextMm,
  VISIT_CHARGE,
} from "./khugepaged-order.ts";
import { ACTOR, SCAN } from "./scan-result.ts";
import { sharedFields } from "./shared-op.ts";
import { sharedCollapsePhases } from "./shared-phases.ts";
import { sharedPmdFields, sharedPmdPhases } from "./shared-pmd-phases.ts";
import { SHARED } from "./shared-result.ts";

/**
 * `result` is the number of regions collapsed; `callResult` the SCAN number of the last one, or what the mode `shared_collapse`
 * made of it.
 */
export interface PassOp extends Operation {
  /** pages_to_scan as it was when the pass began. */
  budget: number;
  /** Spent of it. */
  progress: number;
  /** How often the cursor was nowhere when a visit was to begin. */
  nrTimesNowhere: number;
  /** 1 once it has waited for memory; the second failure ends the pass (COLL-072). */
  hasWaited: number;
  /** The address space of the visit under way, NO_MM between visits. */
  mmId: number;
  /** The region in hand, and how many there were before it in this pass. */
  region: number;
  nrRegions: number;
  /** Mappings that the mode `shared_collapse` had queued when the pass began, and has not come to. */
  nrDeferred: number;
}

type PassPhase =
  | "begin"
  | "deferred"
  | "visit"
  | "scan"
  | "settleShared"
  | "settle"
  | "wait"
  | "done";
type PassRows = Readonly<Record<Exclude<PassPhase, "done">, Phase<HugeState, PassOp, PassPhase>>>;

const rows: PassRows = {
  begin: { holds: "", run: begin },
  // These two only where the mode `shared_collapse` is on, which no kernel has.
  deferred: { holds: "", run: buildDeferred },
  settleShared: { holds: "mmap:read", run: settleShared },
  visit: { holds: "", run: visit },
  scan: { holds: "mmap:read", run: scan },
  // Only if the region's collapse has left the lock to us; see lockId.
  settle: { holds: "mmap:read", run: settle },
  wait: { holds: "", run: afterWait },
};

export const khugepagedPhases = definePhases<HugeState, PassOp>({
  name: "khugepaged",
  about: "one wake-up of khugepaged: address spaces in turn, region by region",
  first: "begin",
  phases: rows,
  // The lock of no address space is one that nobody else has, or waits for.
  lockId: (op) => (op.phase.startsWith("settle") && op.callLocks === 0 ? NO_MM : op.mmId),
  frames: () => [],
});

/**
 * A pass, of which nothing has run yet; there is a thread, and no other pass under way. `task`: whose operation it is, if not
 * the daemon's own.
 */
export function beginPass(m: HugeState, task = m.khugepaged.task): PassOp {
  assert(m.khugepaged.task !== NO_TASK, "a pass without khugepaged");
  assert(passUnderWay(m) === null, "a second pass of khugepaged");
  m.khugepaged.pause = "none";
  endSleep(m);
  return startOperation(m, khugepagedPhases, task, {
    budget: 0,
    progress: 0,
    nrTimesNowhere: 0,
    hasWaited: 0,
    mmId: NO_MM,
    region: NO_REGION,
    nrRegions: 0,
    nrDeferred: 0,
  });
}

/** The pass between two of its phases, null if there is none. */
export function passUnderWay(m: HugeState): Operation | null {
  for (const op of m.sched.operations) if (op.table === khugepagedPhases.name) return op;
  return null;
}

/** COLL-061. Pages are on their LRU lists at once here: no batches are drained. */
function begin(m: HugeState, op: PassOp): PassPhase {
  m.khugepaged.work.nrPasses++;
  op.budget = m.knobs.khugepaged.pages_to_scan;
  if (!isSharing(m)) return "visit";
  op.nrDeferred = m.sharedCollapse!.queue.length;
  return "deferred";
}

/** COLL-464: each mapping that waits to become huge is tried once, and counts as a region. */
function buildDeferred(m: HugeState, op: PassOp): PassPhase {
  const { queue } = m.sharedCollapse!;
  if (op.nrDeferred === 0 || queue.length === 0 || op.progress >= op.budget) return "visit";
  op.nrDeferred--;
  op.progress += REGION_CHARGE;
  callOperation(m, sharedPmdPhases, op, sharedPmdFields());
  return "deferred";
}

/** The mode that no kernel has is there and on. */
function isSharing(m: HugeState): boolean {
  return m.sharedCollapse !== null && m.sharedCollapse.knobs.shared_collapse === 1;
}

/** Between two visits: is the pass over, and who is next (COLL-062, COLL-063). */
function visit(m: HugeState, op: PassOp): PassPhase {
  op.mmId = NO_MM;
  const { khugepaged } = m;
  if (op.progress >= op.budget || khugepaged.isStopping) return end(m);
  if (khugepaged.cursorMm === NO_MM) op.nrTimesNowhere++;
  if (op.nrTimesNowhere === 2 || !m.isKhugepagedRunning || !startAtHead(m)) return end(m);

  const { cursorMm } = khugepaged;
  khugepaged.work.nrVisits++;
  const isFree = tryLock(m, {
    name: "mmap",
    id: cursorMm,
    mode: "read",
    task: op.task,
    operation: op.id,
  });
  if (!isFree) {
    toNextMm(m);
    return "visit";
  }
  op.progress += VISIT_CHARGE;
  op.mmId = cursorMm;
  return "scan";
}

/** The next region of the address space, or the next address space. */
function scan(m: HugeState, op: PassOp): PassPhase {
  const mm = m.mms[op.mmId];
  const region = mm === null || isPassedOver(m, op.mmId) ? NO_REGION : nextRegion(m, mm, op);
  if (region === NO_REGION) {
    toNextMm(m);
    return "visit";
  }
  m.khugepaged.cursorRegion = region + 1;
  m.khugepaged.work.nrRegionsScanned++;
  op.region = region;
  if (isSharing(m)) {
    // The first of a pass may exceed the budget, or it would never be done (COLL-422).
    const left = op.nrRegions === 0 ? Number.MAX_SAFE_INTEGER : op.budget - op.progress;
    callOperation(m, sharedCollapsePhases, op, sharedFields(op.mmId, region, left));
  }
  op.nrRegions++;
  op.progress += REGION_CHARGE;
  return isSharing(m) ? "settleShared" : collapseRegion(m, op);
}

function collapseRegion(m: HugeState, op: PassOp): PassPhase {
  callOperation(m, collapsePhases, op, collapseFields(op.mmId, op.region, ACTOR.khugepaged));
  return "settle";
}

/**
 * What the mode `shared_collapse` leaves to the ordinary collapse goes there, under the same lock. A region with shared pages is
 * the mode's alone: to copy it would end the sharing (COLL-471).
 */
function settleShared(m: HugeState, op: PassOp): PassPhase {
  const result = op.callResult;
  const isOrdinary = result === SHARED.NOT_SHARED || result === SHARED.NOT_CANDIDATE;
  if (isOrdinary && op.callLocks > 0) return collapseRegion(m, op);
  if (result === SHARED.POSTPONED) {
    m.khugepaged.cursorRegion = op.region;
    return end(m);
  }
  if (op.callLocks === 0) {
    m.khugepaged.work.nrTried++;
    op.progress += 2 * m.sharedCollapse!.records.at(-1)!.nrPtes;
  }
  return afterRegion(m, op, result === SHARED.ALLOC);
}

function settle(m: HugeState, op: PassOp): PassPhase {
  const { work } = m.khugepaged;
  if (op.callLocks === 0) work.nrTried++;
  if (op.callResult === SCAN.SUCCEED) {
    const { khugepaged } = m.knobs;
    op.result++;
    work.nrCollapsed++;
    khugepaged.pages_collapsed = (khugepaged.pages_collapsed + 1) % COUNTER_LIMIT;
  }
  return afterRegion(m, op, op.callResult === SCAN.ALLOC_HUGE_PAGE_FAIL);
}

/** On to the next region under the same lock, or to the next visit; or first a sleep, until there may be memory (COLL-072). */
function afterRegion(m: HugeState, op: PassOp, lacksMemory: boolean): PassPhase {
  const isSpent = op.progress >= op.budget;
  if (op.callLocks > 0 && !isSpent) return "scan";
  if (!lacksMemory || isSpent) return "visit";
  if (op.hasWaited === 1) return end(m);
  op.hasWaited = 1;
  pauseKhugepaged(m, "alloc");
  taskOf(m, op.task).wakeNs = taskOf(m, m.khugepaged.task).wakeNs;
  return "wait";
}

/** COLL-072: the pass goes on when the sleep is over. Whoever makes it go on before that lets the time pass. */
function afterWait(m: HugeState): PassPhase {
  const { wakeNs } = taskOf(m, m.khugepaged.task);
  m.sched.nowNs = Math.max(m.sched.nowNs, wakeNs);
  m.khugepaged.pause = "none";
  return "visit";
}

/** COLL-071: what the daemon pauses for next. */
function end(m: HugeState): PassPhase {
  const hasWork = m.isKhugepagedRunning && m.khugepaged.mms.length > 0;
  pauseKhugepaged(m, hasWork ? "scan" : "idle");
  return "done";
}
