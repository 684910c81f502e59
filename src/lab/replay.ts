/**
 * One setting of an experiment: a machine with its knobs, a replay on it, and the result as a report wants it.
 *
 * Entry: createReplay gives a TraceSink; drive a recording into it, then take `result()`.
 * Units: milliseconds and bytes in results, as their names say.
 */

import { PAGE_SIZE } from "../base/address.ts";
import { THP_STAT_NAMES, VMSTAT, VMSTAT_NAMES } from "../base/counters.ts";
import { PROFILES } from "../base/profile.ts";
import { UsageError } from "../base/usage-error.ts";
import { FAULT_KINDS } from "../fault/kinds.ts";
import { knobNames, writeKnob } from "../huge/knobs.ts";
import { COST, type CostTable, costParts, pricesOf } from "../hw/cost-model.ts";
import { exposedCycles, type Geometry, withMeasured } from "../hw/geometry.ts";
import { latencyQuantile } from "../hw/latency-histogram.ts";
import { createTranslation, HW_COUNTER, type TranslationMode } from "../hw/translate.ts";
import { createMachine, type Machine } from "../machine/machine.ts";
import { Replay } from "../trace/replay/replay.ts";
import { ReplayTlb } from "../trace/replay/replay-tlb.ts";
import type { MachineOptions } from "./machine-options.ts";
import type {
  HugeUse,
  KhugepagedResult,
  MemoryGrowth,
  SettingResult,
  SettingSeries,
  TraceSummary,
} from "./result.ts";
import { changedKnobs, type Setting } from "./setting.ts";

/** What to replay on: plain data, so that it can be sent to a worker. */
export interface ReplayRequest {
  readonly setting: Setting;
  readonly machine: MachineOptions;
  readonly geometry: Geometry;
  readonly mode: TranslationMode;
  readonly costs: CostTable;
}

/** What one replay gives: the setting's result (predictedMs still null) and what the recording was. */
export interface ReplayOutcome {
  readonly result: SettingResult;
  readonly trace: TraceSummary;
  /** What the replay could not do, one sentence each. */
  readonly notModelled: readonly string[];
}

const NS_PER_MS = 1e6;

/** True of every replay so far; reports say it. */
const LEFT_OUT: readonly string[] = [
  "What khugepaged takes from the program: its CPU time is shown apart, and no fault waits for a collapse.",
  "Swap devices, reclaim and compaction: a machine short of memory, or fragmented, does worse than this.",
  "Huge pages of files and shared memory: page cache and tmpfs use 4 kB pages here.",
  "Data caches: a huge page changes only translations, faults and clearing.",
];

/** A sink for one recording, and its outcome after `end`. */
export interface SettingReplay {
  readonly sink: Replay;
  readonly machine: Machine;
  readonly tlb: ReplayTlb;
  outcome(): ReplayOutcome;
}

/**
 * Builds the machine of a setting and a replay on it. `nrTicks`: how long the recording is, if that is known. Throws UsageError for
 * a knob that the machine refuses.
 */
export function createReplay(
  request: ReplayRequest,
  traceName: string,
  nrTicks: number | null = null,
): SettingReplay {
  const { machine: options, costs } = request;
  const profile = PROFILES.find((candidate) => candidate.name === options.profile) ?? PROFILES[0];
  const m = createMachine({
    memoryBytes: options.memoryBytes,
    nrCpus: options.nrCpus,
    profile,
    seed: options.seed,
  });
  applyKnobs(m, request.setting);
  const geometry = withMeasured(request.geometry, costs);
  const tlb = new ReplayTlb(m, createTranslation(geometry, options.nrCpus, request.mode));
  const replay = new Replay({ machine: m, prices: pricesOf(costs), tlb, nrTicks });
  return {
    sink: replay,
    machine: m,
    tlb,
    outcome: () => outcomeOf(request, traceName, m, replay, tlb, geometry),
  };
}

/** Knobs of parts that are not simulated (shared memory) are accepted and have no effect; reports say so. */
function applyKnobs(m: Machine, setting: Setting): void {
  const known = knobNames();
  for (const [name, value] of Object.entries(setting.knobs)) {
    if (!known.includes(name)) continue;
    const result = writeKnob(m, name, value);
    if (result !== 0)
      throw new UsageError(
        `setting ${setting.name}`,
        `${name}=${value}`,
        "a value the knob accepts",
      );
  }
}

function outcomeOf(
  request: ReplayRequest,
  traceName: string,
  m: Machine,
  replay: Replay,
  tlb: ReplayTlb,
  geometry: Geometry,
): ReplayOutcome {
  const { meter } = replay;
  const hasOrder = replay.header !== null && replay.header.has.order !== "none";
  if (hasOrder) {
    const { totals } = tlb;
    const l2Hits = totals[HW_COUNTER.l1Misses] - totals[HW_COUNTER.l2Misses];
    meter.events[COST.cycle] = exposedCycles(geometry, totals[HW_COUNTER.walkCycles]);
    meter.events[COST.l2TlbHit] = l2Hits;
  }
  const peak = meter.processPeak;
  const result: SettingResult = {
    name: request.setting.name,
    knobs: changedKnobs(request.setting),
    memory: {
      peakRssBytes: peak.rssPages * PAGE_SIZE,
      peakTotalRssBytes: meter.peakTotalRssPages * PAGE_SIZE,
      finalRssBytes: replay.finalRssPages * PAGE_SIZE,
      peakNeverWrittenBytes: peak.neverWrittenPages * PAGE_SIZE,
      finalNeverWrittenBytes: replay.finalNeverWrittenPages * PAGE_SIZE,
      peakPageTableBytes: meter.peakTables * PAGE_SIZE,
      ...(peak.use === null ? {} : { growth: growthOf(peak.use) }),
    },
    faults: {
      total: meter.nrFaults,
      byKind: faultsByKind(replay),
      majorFaults: m.vmstat[VMSTAT.pgmajfault],
      ...(replay.nrOutOfMemory > 0 ? { outOfMemory: replay.nrOutOfMemory } : {}),
      latencyNs: {
        p50: latencyQuantile(meter.latency, 0.5),
        p99: latencyQuantile(meter.latency, 0.99),
        max: meter.latency.maxNs,
      },
    },
    huge: {
      coverageAtPeak: peak.coverage,
      coverageAtEnd: replay.finalCoverage,
      splitPmd: m.vmstat[VMSTAT.thp_split_pmd],
      splitFolio: m.vmstat[VMSTAT.thp_split_page],
      deferredSplit: m.vmstat[VMSTAT.thp_deferred_split_page],
      ...(peak.use === null ? {} : { atPeak: hugeUse(peak.use) }),
    },
    ...(m.isKhugepagedRunning ? { khugepaged: khugepagedResult(m, replay) } : {}),
    tlb: hasOrder ? tlbResult(tlb) : null,
    time: {
      recordedMs: replay.header?.plainRun?.wallMs ?? null,
      predictedMs: null,
      parts: costParts(request.costs, meter.events).map((share) => ({
        name: share.part,
        ms: share.ns / 1e6,
        basis: share.basis,
      })),
      uncertainty: 0,
    },
    series: seriesOf(replay),
    counters: countersOf(m),
  };
  return {
    result,
    trace: summaryOf(traceName, replay),
    notModelled: [...LEFT_OUT, ...sentencesOf(replay)],
  };
}

function faultsByKind(replay: Replay): Record<string, number> {
  const entries = FAULT_KINDS.map((kind, i) => [kind, replay.meter.faultsByKind[i]] as const);
  return Object.fromEntries(entries.filter(([, nr]) => nr > 0));
}

function hugeUse(use: NonNullable<Replay["meter"]["processPeak"]["use"]>): HugeUse {
  const bySize = use.byOrder.map((pages, order) => [`${4 << order}kB`, pages * PAGE_SIZE] as const);
  return {
    anonymousBytes: use.anonymous * PAGE_SIZE,
    permittedBytes: use.permitted * PAGE_SIZE,
    eligibleBytes: use.eligible * PAGE_SIZE,
    bySize: Object.fromEntries(bySize.filter(([, bytes]) => bytes > 0)),
  };
}

function growthOf(use: NonNullable<Replay["meter"]["processPeak"]["use"]>): MemoryGrowth {
  return {
    byFaultBytes: use.emptyByFault * PAGE_SIZE,
    byCollapseBytes: use.emptyByCollapse * PAGE_SIZE,
    notYetSplitBytes: use.unsplit * PAGE_SIZE,
  };
}

/** Huge memory counts as there once this share of its most is. */
const COVERED = 0.9;

function khugepagedResult(m: Machine, { meter, clock }: Replay): KhugepagedResult {
  const { work } = m.khugepaged;
  const most = Math.max(0, ...meter.samples.map((sample) => sample.hugePages));
  const covered = meter.samples.find(
    ({ hugePages }) => hugePages > 0 && hugePages >= COVERED * most,
  );
  return {
    cpuMs: work.busyNs / NS_PER_MS,
    passes: work.nrPasses,
    fullScans: m.knobs.khugepaged.full_scans,
    regionsScanned: work.nrRegionsScanned,
    regionsCollapsed: work.nrCollapsed,
    filledBytes: work.nrPagesFilled * PAGE_SIZE,
    msUntilCoverage: covered === undefined ? null : (covered.tick * clock.nsPerTick) / NS_PER_MS,
  };
}

function tlbResult(tlb: ReplayTlb): NonNullable<SettingResult["tlb"]> {
  const { totals } = tlb;
  return {
    accesses: totals[HW_COUNTER.accesses],
    l1Misses: totals[HW_COUNTER.l1Misses],
    l2Misses: totals[HW_COUNTER.l2Misses],
    walkReferences: totals[HW_COUNTER.walkReferences],
    walkCycles: totals[HW_COUNTER.walkCycles],
  };
}

function seriesOf(replay: Replay): SettingSeries {
  const { samples } = replay.meter;
  const nrTicks = Math.max(1, replay.nrTicks);
  const since = (value: (i: number) => number) =>
    samples.map((_, i) => value(i) - (i === 0 ? 0 : value(i - 1)));
  return {
    at: samples.map((sample) => Math.min(1, sample.tick / nrTicks)),
    rssBytes: samples.map((sample) => sample.rssPages * PAGE_SIZE),
    hugeBytes: samples.map((sample) => sample.hugePages * PAGE_SIZE),
    faults: since((i) => samples[i].faults),
    walkCycles: since((i) => samples[i].walkCycles),
  };
}

function countersOf(m: Machine): Record<string, number> {
  const counters: Record<string, number> = {};
  VMSTAT_NAMES.forEach((name, i) => {
    if (m.vmstat[i] !== 0) counters[name] = m.vmstat[i];
  });
  const nrStats = THP_STAT_NAMES.length;
  for (let order = 2; order <= 9; order++)
    THP_STAT_NAMES.forEach((name, i) => {
      const value = m.thpStats[order * nrStats + i];
      if (value !== 0) counters[`hugepages-${4 << order}kB/stats/${name}`] = value;
    });
  return counters;
}

function summaryOf(traceName: string, replay: Replay): TraceSummary {
  return {
    name: traceName,
    header: replay.header!,
    nrTicks: replay.nrTicks,
    nrProcesses: replay.nrProcesses,
    nrThreads: replay.nrThreads,
    nrAccesses: replay.nrAccesses,
    nrPagesTouched: replay.nrPagesTouched,
    clock: replay.clock,
  };
}

function sentencesOf(replay: Replay): string[] {
  return [...replay.refusals].map(([sentence, nr]) =>
    nr === 1 ? `In the replay, ${sentence}.` : `In the replay, ${sentence} (${nr} times).`,
  );
}
