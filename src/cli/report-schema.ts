/**
 * The shape of the JSON report, version 1, as zod sees it; docs/schema/compare-1.json is made from it.
 *
 * Owns:  no state. Only tests and scripts/build.mjs load it: the reports are typed, not validated, at run time.
 * Holds: it accepts exactly ComparisonResult (checked by the type assertion at the end).
 */

import { z } from "zod";
import type { ComparisonResult } from "../lab/result.ts";

const bytes = z.number().int().nonnegative().describe("bytes");
const count = z.number().nonnegative();
const share = z.number().min(0).max(1).describe("share, 0..1");
const ms = z.number().nonnegative().describe("milliseconds");
const ns = z.number().nonnegative().describe("nanoseconds, simulated");

const plainRun = z.object({
  nrRuns: count,
  wallMs: ms,
  userMs: ms,
  systemMs: ms,
  minorFaults: count,
  majorFaults: count,
  peakRssBytes: bytes,
  kernel: z.string(),
  cpu: z.string(),
});

const header = z.object({
  command: z.array(z.string()),
  source: z.enum(["qemu-plugin", "perf", "lackey", "strace", "perf-script", "synthetic"]),
  has: z.object({
    exactTouches: z.boolean(),
    counts: z.boolean(),
    order: z.enum(["none", "windows", "full"]),
  }),
  plainRun: plainRun.exactOptional(),
  notes: z.string().exactOptional(),
});

const trace = z.object({
  name: z.string(),
  header,
  nrTicks: count.describe("instructions executed by the whole program"),
  nrProcesses: count,
  nrThreads: count,
  nrAccesses: count,
  nrPagesTouched: count.describe("4 KiB pages"),
  clock: z
    .object({ nsPerTick: ns, from: z.enum(["plain run", "nominal"]) })
    .describe("virtual time of an instruction; khugepaged sleeps in it"),
});

const machine = z.object({
  memoryBytes: bytes,
  profile: z.string().describe("kernel profile"),
  geometry: z.string().describe("TLB geometry and its source"),
  translation: z.string(),
  costs: z.string().describe("cost table and its source"),
  seed: z.number().int(),
});

const memory = z.object({
  peakRssBytes: bytes.describe("largest resident set of any one process"),
  peakTotalRssBytes: bytes.describe("largest resident set summed over processes alive"),
  finalRssBytes: bytes,
  peakNeverWrittenBytes: bytes,
  finalNeverWrittenBytes: bytes,
  peakPageTableBytes: bytes,
  growth: z
    .object({ byFaultBytes: bytes, byCollapseBytes: bytes, notYetSplitBytes: bytes })
    .exactOptional()
    .describe("what is there at the peak and holds nothing, by cause"),
});

const faults = z.object({
  total: count,
  byKind: z.record(z.string(), count),
  majorFaults: count,
  outOfMemory: count
    .exactOptional()
    .describe(
      "faults and forks that found no memory; with any, the figures are not those of the program",
    ),
  latencyNs: z.object({ p50: ns, p99: ns, max: ns }),
});

const huge = z.object({
  coverageAtPeak: share,
  coverageAtEnd: share,
  splitPmd: count,
  splitFolio: count,
  deferredSplit: count,
  atPeak: z
    .object({
      anonymousBytes: bytes,
      permittedBytes: bytes,
      eligibleBytes: bytes,
      bySize: z.record(z.string(), bytes),
    })
    .exactOptional(),
});

const khugepaged = z
  .object({
    cpuMs: ms.describe("simulated; not part of predictedMs"),
    passes: count,
    fullScans: count,
    regionsScanned: count,
    regionsCollapsed: count,
    filledBytes: bytes,
    msUntilCoverage: ms.nullable().describe("virtual time until 90 % of the most huge memory"),
  })
  .describe("absent where no huge page of 2 MiB is enabled");

const tlb = z
  .object({
    accesses: count,
    l1Misses: count,
    l2Misses: count,
    walkReferences: count,
    walkCycles: count,
  })
  .describe("extrapolated to the whole run; null if the recording has no order of accesses");

const time = z.object({
  recordedMs: ms.nullable(),
  predictedMs: ms.nullable(),
  parts: z.array(z.object({ name: z.string(), ms: z.number(), basis: z.string() })),
  uncertainty: z
    .number()
    .nonnegative()
    .describe("half-width of the interval, share of predictedMs"),
});

const series = z.object({
  at: z.array(share),
  rssBytes: z.array(bytes),
  hugeBytes: z.array(bytes),
  faults: z.array(count),
  walkCycles: z.array(count),
});

const setting = z.object({
  name: z.string(),
  knobs: z.record(z.string(), z.string()),
  memory,
  faults,
  huge,
  khugepaged: khugepaged.exactOptional(),
  tlb: tlb.nullable(),
  time,
  series,
  counters: z.record(z.string(), z.number()),
});

/** One document of `hugelab compare --json`. */
export const comparisonSchema = z
  .object({
    schema: z.literal("hugelab.compare"),
    version: z.literal(1),
    trace,
    machine,
    settings: z.array(setting).describe("the first is the baseline: THP off"),
    advice: z.object({ setting: z.string(), text: z.string() }),
    notModelled: z.array(z.string()),
  })
  .describe("What hugelab compare found. Fields may be added within a version, never changed.");

/** The published form of comparisonSchema. */
export function comparisonJsonSchema(): Readonly<Record<string, unknown>> {
  return {
    title: "hugelab compare, version 1",
    // A reader must accept fields added later.
    ...z.toJSONSchema(comparisonSchema, { io: "input" }),
  };
}

// Both ways: the schema describes the type, no more and no less.
type Mutable<T> = T extends object ? { -readonly [K in keyof T]: Mutable<T[K]> } : T;
type Schema = z.infer<typeof comparisonSchema>;
type IsSame<A, B> = [A] extends [B] ? ([B] extends [A] ? true : never) : never;
true satisfies IsSame<Schema, Mutable<ComparisonResult>>;
