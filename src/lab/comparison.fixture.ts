/**
 * Hand-made comparisons for tests of reports and advice: round numbers whose sums a reader can check.
 */

import { adviceFor } from "./advice.ts";
import {
  type ComparisonResult,
  RESULT_SCHEMA_VERSION,
  type SettingResult,
  type TimePart,
  type TraceSummary,
} from "./result.ts";

const MIB = 2 ** 20;

export interface FixtureSetting {
  readonly name: string;
  readonly knobs?: Readonly<Record<string, string>>;
  readonly peakMib: number;
  readonly neverWrittenMib?: number;
  readonly predictedMs: number | null;
  readonly uncertainty?: number;
  readonly parts?: readonly TimePart[];
  readonly hasTlb?: boolean;
  readonly hasHugeUse?: boolean;
  readonly coverage?: number;
  readonly maxLatencyNs?: number;
}

/** A setting whose figures follow from a few: 1000 faults and 10 ms of walks for each 100 MiB not covered. */
export function fixtureSetting(given: FixtureSetting): SettingResult {
  const coverage = given.coverage ?? 0;
  const peak = given.peakMib * MIB;
  const unwritten = (given.neverWrittenMib ?? 0) * MIB;
  const nrSmall = Math.round(given.peakMib * 256 * (1 - coverage));
  const nrHuge = Math.round((given.peakMib / 2) * coverage);
  const at = [0, 0.25, 0.5, 0.75, 1];
  return {
    name: given.name,
    knobs: given.knobs ?? { "thp.enabled": given.name },
    memory: {
      peakRssBytes: peak,
      peakTotalRssBytes: peak,
      finalRssBytes: peak / 2,
      peakNeverWrittenBytes: unwritten,
      finalNeverWrittenBytes: unwritten / 2,
      peakPageTableBytes: nrSmall * 8,
      ...(given.hasHugeUse
        ? {
            growth: {
              byFaultBytes: unwritten * 0.75,
              byCollapseBytes: unwritten * 0.25,
              notYetSplitBytes: coverage * MIB,
            },
          }
        : {}),
    },
    faults: {
      total: nrSmall + nrHuge,
      byKind: nrHuge > 0 ? { "anon 4k": nrSmall, "anon 2M": nrHuge } : { "anon 4k": nrSmall },
      majorFaults: 0,
      latencyNs: { p50: 900, p99: 1500, max: given.maxLatencyNs ?? 2000 },
    },
    huge: {
      coverageAtPeak: coverage,
      coverageAtEnd: coverage / 2,
      splitPmd: nrHuge > 0 ? 3 : 0,
      splitFolio: nrHuge > 0 ? 2 : 0,
      deferredSplit: nrHuge > 0 ? 4 : 0,
      ...(given.hasHugeUse
        ? {
            atPeak: {
              anonymousBytes: peak,
              permittedBytes: given.name === "never" ? 0 : peak,
              eligibleBytes: given.name === "never" ? 0 : 0.75 * peak,
              bySize: { "4kB": peak * (1 - coverage), "2048kB": peak * coverage },
            },
          }
        : {}),
    },
    ...(given.name === "never"
      ? {}
      : {
          khugepaged: {
            cpuMs: 12,
            passes: 3,
            fullScans: 1,
            regionsScanned: 24,
            regionsCollapsed: nrHuge > 0 ? 5 : 0,
            filledBytes: unwritten / 4,
            msUntilCoverage: coverage === 0 ? null : 400,
          },
        }),
    tlb:
      given.hasTlb === false
        ? null
        : {
            accesses: 1_000_000_000,
            l1Misses: 50_000_000,
            l2Misses: Math.round(10_000_000 * (1 - coverage)),
            walkReferences: Math.round(20_000_000 * (1 - coverage)),
            walkCycles: Math.round(300_000_000 * (1 - coverage)),
          },
    time: {
      recordedMs: given.predictedMs === null ? null : 1000,
      predictedMs: given.predictedMs,
      parts: given.parts ?? [],
      uncertainty: given.uncertainty ?? 0.02,
    },
    series: {
      at,
      rssBytes: at.map((share) => (share <= 0.75 ? Math.round((peak * share) / 0.75) : peak / 2)),
      hugeBytes: at.map((share) =>
        share <= 0.75 ? Math.round((peak * share * coverage) / 0.75) : peak / 4,
      ),
      faults: at.map((share) => (share === 0 ? 0 : Math.round((nrSmall + nrHuge) / 4))),
      walkCycles: at.map((share) => (share === 0 ? 0 : 75_000_000 * (1 - coverage))),
    },
    counters: { pgfault: nrSmall + nrHuge, ...(nrHuge > 0 ? { thp_fault_alloc: nrHuge } : {}) },
  };
}

export interface FixtureTrace {
  readonly order?: "none" | "windows" | "full";
  readonly exactTouches?: boolean;
  readonly nrRuns?: number;
}

export function fixtureTrace(given: FixtureTrace = {}): TraceSummary {
  const nrRuns = given.nrRuns ?? 5;
  return {
    name: "sort.trace",
    header: {
      command: ["sort", "--parallel=1", "words & <more>.txt"],
      source: "qemu-plugin",
      has: {
        exactTouches: given.exactTouches ?? true,
        counts: true,
        order: given.order ?? "windows",
      },
      ...(nrRuns === 0
        ? {}
        : {
            plainRun: {
              nrRuns,
              wallMs: 1000,
              userMs: 900,
              systemMs: 100,
              minorFaults: 102_400,
              majorFaults: 0,
              peakRssBytes: 400 * MIB,
              kernel: "6.18.44",
              cpu: "Example CPU",
            },
          }),
    },
    nrTicks: 2_500_000_000,
    nrProcesses: 1,
    nrThreads: 2,
    nrAccesses: 1_000_000_000,
    nrPagesTouched: 102_400,
    clock: { nsPerTick: 0.5, from: nrRuns === 0 ? "nominal" : "plain run" },
  };
}

/** Never, madvise (the same) and always (a tenth faster, 5 % more memory), with the advice computed. */
export function fixtureComparison(): ComparisonResult {
  const walks = (ms: number): TimePart => ({
    name: "page walks",
    ms,
    basis: `${ms} M cycles at 1 GHz`,
  });
  const faults = (ms: number): TimePart => ({ name: "page faults", ms, basis: "102 400 x 1.5 us" });
  const settings = [
    fixtureSetting({
      name: "never",
      peakMib: 400,
      predictedMs: 1000,
      parts: [walks(110), faults(40)],
      hasHugeUse: true,
    }),
    fixtureSetting({
      name: "madvise",
      peakMib: 400,
      predictedMs: 1000,
      parts: [walks(110), faults(40)],
      hasHugeUse: true,
    }),
    fixtureSetting({
      name: "always",
      peakMib: 420,
      neverWrittenMib: 18,
      predictedMs: 890,
      parts: [walks(10), faults(30)],
      hasHugeUse: true,
      coverage: 0.5,
      maxLatencyNs: 180_000,
    }),
  ];
  const trace = fixtureTrace();
  return {
    schema: "hugelab.compare",
    version: RESULT_SCHEMA_VERSION,
    trace,
    machine: {
      memoryBytes: 16 * 2 ** 30,
      profile: "linux-6.18",
      geometry: "example: 64 + 2048 entries",
      translation: "native",
      costs: "built in, Example CPU",
      seed: 1,
    },
    settings,
    advice: adviceFor(settings, trace),
    notModelled: ["Reclaim: the machine had memory to spare."],
  };
}
