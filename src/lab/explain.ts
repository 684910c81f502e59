/**
 * Why memory of a replay is not huge at a moment of it: each 2 MiB window with its reason, what khugepaged would do, and what that
 * would cost and could gain.
 *
 * Entry: createExplainer gives a sink, which throws MomentReached with the Explanation once the moment has come.
 * Holds: khugepaged's future is no estimate: the machine is run forward, with the program standing still. Counts of walks are the
 *        model's up to the moment.
 * Units: times in ns of virtual time; addresses in bytes.
 */

import { type Addr, HUGE_SIZE, PAGE_SIZE, PTES_PER_REGION, regionOf } from "../base/address.ts";
import { runDueDaemons } from "../collapse/khugepaged.ts";
import { COST, pricesOf } from "../hw/cost-model.ts";
import { HW_COUNTER } from "../hw/translate.ts";
import type { Machine } from "../machine/machine.ts";
import { explainWindow, type Reason } from "../machine/reason.ts";
import { isAnonymous } from "../mm/vma.ts";
import type { Replay } from "../trace/replay/replay.ts";
import { type ReplayTlb, windowKey } from "../trace/replay/replay-tlb.ts";
import { createReplay, type ReplayRequest } from "./replay.ts";

/** How far ahead khugepaged is followed, and in what steps. */
const HORIZON_NS = 600e9;
const STEP_NS = 1e9;

/** Windows that follow each other and are alike. */
export interface ExplainedRun {
  readonly process: number;
  readonly startAddress: Addr;
  readonly nrWindows: number;
  readonly isPermitted: boolean;
  readonly isEligible: boolean;
  readonly isHuge: boolean;
  readonly reason: Reason | null;
  readonly presentBytes: number;
  readonly swappedBytes: number;
  /** When khugepaged has made all of them huge, from now on; null if it does not within the horizon, or need not. */
  readonly collapsedAfterNs: number | null;
  /** What collapsing them would take: khugepaged's time, and memory that holds nothing; null if there is nothing to collapse. */
  readonly collapse: { readonly costNs: number; readonly growthBytes: number } | null;
  /** Cycles of page walks per second of the replay so far: the most that huge pages could save. */
  readonly walkCyclesPerSecond: number;
}

/** The document of `hugelab explain --json`. */
export interface Explanation {
  readonly schema: "hugelab.explain";
  readonly version: 1;
  readonly trace: string;
  readonly atNs: number;
  readonly horizonNs: number;
  readonly isKhugepagedRunning: boolean;
  readonly windows: readonly ExplainedRun[];
}

/** Thrown into whoever reads the recording when the moment has come: nothing behind it may be replayed. */
export class MomentReached extends Error {
  override readonly name = "MomentReached";
  readonly explanation: Explanation;

  constructor(explanation: Explanation) {
    super("the moment has come");
    this.explanation = explanation;
  }
}

/** A sink that throws MomentReached with what is mapped at `at.ns`; of the window of `at.address` only, if one is given. */
export function createExplainer(
  request: ReplayRequest,
  traceName: string,
  nrTicks: number | null,
  at: { readonly ns: number; readonly address: Addr | null },
): Replay {
  const { sink, machine, tlb } = createReplay(request, traceName, nrTicks);
  tlb.windows = new Map();
  sink.beforeTime = (ns) => {
    if (ns < at.ns) return;
    const prices = pricesOf(request.costs);
    const windows = explainAll(machine, tlb, prices, at);
    throw new MomentReached({
      schema: "hugelab.explain",
      version: 1,
      trace: traceName,
      atNs: at.ns,
      horizonNs: HORIZON_NS,
      isKhugepagedRunning: machine.isKhugepagedRunning,
      windows,
    });
  };
  return sink;
}

interface Window {
  readonly run: ExplainedRun;
  readonly region: number;
}

function explainAll(
  m: Machine,
  tlb: ReplayTlb,
  prices: Float64Array,
  at: { readonly ns: number; readonly address: Addr | null },
): readonly ExplainedRun[] {
  const windows = windowsOf(m, at.address).map(([mmId, region]) =>
    explainOne(m, tlb, prices, mmId, region, at.ns),
  );
  const after = followKhugepaged(m, prices, windows);
  const known = windows.map(({ run, region }) => ({
    region,
    run: { ...run, collapsedAfterNs: after.get(windowKey(run.process, region)) ?? null },
  }));
  return grouped(known);
}

/** Windows that anonymous memory lies in, ascending; one that was asked for whatever lies there. */
function windowsOf(m: Machine, address: Addr | null): [mmId: number, region: number][] {
  const found: [number, number][] = [];
  for (const mm of m.mms) {
    if (mm === null) continue;
    if (address !== null) found.push([mm.id, regionOf(address)]);
    let next = 0;
    for (const vma of address === null ? mm.vmas : []) {
      if (!isAnonymous(vma)) continue;
      const last = regionOf(vma.end - 1);
      for (let region = Math.max(next, regionOf(vma.start)); region <= last; region++)
        found.push([mm.id, region]);
      next = last + 1;
    }
  }
  return found;
}

function explainOne(
  m: Machine,
  tlb: ReplayTlb,
  prices: Float64Array,
  mmId: number,
  region: number,
  atNs: number,
): Window {
  const state = explainWindow(m, m.mms[mmId]!, region);
  const nrKept = state.nrPresent + state.nrSwapped;
  const isCollapse = state.isEligible && !state.isHuge && nrKept > 0;
  const run: ExplainedRun = {
    process: mmId,
    startAddress: region * HUGE_SIZE,
    nrWindows: 1,
    isPermitted: state.isPermitted,
    isEligible: state.isEligible,
    isHuge: state.isHuge,
    reason: state.reason,
    presentBytes: state.nrPresent * PAGE_SIZE,
    swappedBytes: state.nrSwapped * PAGE_SIZE,
    collapsedAfterNs: null,
    collapse: isCollapse
      ? {
          costNs: prices[COST.collapse] + nrKept * prices[COST.collapsePage],
          growthBytes: (PTES_PER_REGION - state.nrPresent) * PAGE_SIZE,
        }
      : null,
    walkCyclesPerSecond: walksOf(tlb, windowKey(mmId, region), atNs),
  };
  return { run, region };
}

/** The window's share of all walks that were simulated, of what these stand for. */
function walksOf(tlb: ReplayTlb, key: string, atNs: number): number {
  const walked = tlb.windows?.get(key) ?? 0;
  if (walked === 0 || atNs === 0) return 0;
  let all = 0;
  for (const cycles of tlb.windows!.values()) all += cycles;
  return ((walked / all) * tlb.totals[HW_COUNTER.walkCycles] * 1e9) / atNs;
}

/** Time until each window is huge, with the program standing still. The machine is not used afterwards. */
function followKhugepaged(
  m: Machine,
  prices: Float64Array,
  windows: readonly Window[],
): ReadonlyMap<string, number> {
  const after = new Map<string, number>();
  m.events = null;
  m.mmuNotifier = null;
  const start = m.sched.nowNs;
  let open = windows.filter(({ run }) => run.collapse !== null);
  for (
    let ns = STEP_NS;
    ns <= HORIZON_NS && open.length > 0 && m.isKhugepagedRunning;
    ns += STEP_NS
  ) {
    const nrBefore = m.khugepaged.work.nrCollapsed;
    runDueDaemons(m, start + ns, prices);
    if (m.khugepaged.work.nrCollapsed === nrBefore) continue;
    open = open.filter(({ run, region }) => {
      const { isHuge } = explainWindow(m, m.mms[run.process]!, region);
      if (isHuge) after.set(windowKey(run.process, region), ns);
      return !isHuge;
    });
  }
  return after;
}

/** Windows side by side that differ in amounts only, as one. */
function grouped(windows: readonly Window[]): readonly ExplainedRun[] {
  const runs: ExplainedRun[] = [];
  for (const { run } of windows) {
    const last = runs.at(-1);
    if (last !== undefined && isAlike(last, run)) runs[runs.length - 1] = joined(last, run);
    else runs.push(run);
  }
  return runs;
}

function isAlike(a: ExplainedRun, b: ExplainedRun): boolean {
  return (
    a.process === b.process &&
    a.startAddress + a.nrWindows * HUGE_SIZE === b.startAddress &&
    a.isPermitted === b.isPermitted &&
    a.isEligible === b.isEligible &&
    a.isHuge === b.isHuge &&
    a.reason?.name === b.reason?.name &&
    (a.collapsedAfterNs === null) === (b.collapsedAfterNs === null)
  );
}

function joined(a: ExplainedRun, b: ExplainedRun): ExplainedRun {
  const after =
    a.collapsedAfterNs === null ? null : Math.max(a.collapsedAfterNs, b.collapsedAfterNs ?? 0);
  return {
    ...a,
    nrWindows: a.nrWindows + b.nrWindows,
    presentBytes: a.presentBytes + b.presentBytes,
    swappedBytes: a.swappedBytes + b.swappedBytes,
    collapsedAfterNs: after,
    collapse:
      a.collapse === null || b.collapse === null
        ? (a.collapse ?? b.collapse)
        : {
            costNs: a.collapse.costNs + b.collapse.costNs,
            growthBytes: a.collapse.growthBytes + b.collapse.growthBytes,
          },
    walkCyclesPerSecond: a.walkCyclesPerSecond + b.walkCyclesPerSecond,
  };
}
