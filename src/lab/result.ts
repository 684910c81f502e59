/**
 * What a comparison found: pure data, the one input of every report (table, JSON, markdown, HTML).
 *
 * Units are in the names; simulated times say so. `null` means the recording or the host could not tell.
 */

import type { TraceHeader } from "../trace/trace-sink.ts";

export const RESULT_SCHEMA_VERSION = 1;

export interface ComparisonResult {
  readonly schema: "hugelab.compare";
  readonly version: typeof RESULT_SCHEMA_VERSION;
  readonly trace: TraceSummary;
  readonly machine: MachineSummary;
  /** In the order asked for; the first is the baseline that the recorded run stands for (THP off). */
  readonly settings: readonly SettingResult[];
  readonly advice: Advice;
  /** What the model leaves out that could matter here, one sentence each. */
  readonly notModelled: readonly string[];
}

export interface TraceSummary {
  readonly name: string;
  readonly header: TraceHeader;
  readonly nrTicks: number;
  readonly nrProcesses: number;
  readonly nrThreads: number;
  readonly nrAccesses: number;
  readonly nrPagesTouched: number;
  /** How long a tick is, in virtual time: khugepaged sleeps in it. */
  readonly clock: { readonly nsPerTick: number; readonly from: "plain run" | "nominal" };
}

export interface MachineSummary {
  readonly memoryBytes: number;
  readonly profile: string;
  /** Name of the TLB geometry and where its figures come from. */
  readonly geometry: string;
  /** "native", "nested", ... and the host's page size if nested. */
  readonly translation: string;
  /** Name of the cost table and where its figures come from (calibrated on this host, or built in). */
  readonly costs: string;
  readonly seed: number;
}

export interface SettingResult {
  /** E.g. "never", "always", "always+defrag", "64kB". */
  readonly name: string;
  /** Every knob that differs from the default, as sysfs knows it. */
  readonly knobs: Readonly<Record<string, string>>;
  readonly memory: {
    /** Largest resident set of any one process, as getrusage would give it. */
    readonly peakRssBytes: number;
    /** Largest resident set summed over the processes alive at the time. */
    readonly peakTotalRssBytes: number;
    readonly finalRssBytes: number;
    /** Of the peak (and final) resident anonymous pages: never written by the program. */
    readonly peakNeverWrittenBytes: number;
    readonly finalNeverWrittenBytes: number;
    readonly peakPageTableBytes: number;
    /** What is resident at the peak and holds nothing, by cause; absent if the replay did not classify it. */
    readonly growth?: MemoryGrowth;
  };
  readonly faults: {
    readonly total: number;
    /** By kind, e.g. "anon 4k", "anon 2M", "zero page", "copy-on-write". */
    readonly byKind: Readonly<Record<string, number>>;
    readonly majorFaults: number;
    /** Faults and forks that found no memory, so that the figures are not those of the program; absent if none. */
    readonly outOfMemory?: number;
    /** Simulated latency (ns) from the cost model. */
    readonly latencyNs: { readonly p50: number; readonly p99: number; readonly max: number };
  };
  readonly huge: {
    /** Share (0..1) of resident anonymous memory that is PMD-mapped, at the peak of RSS and at the end. */
    readonly coverageAtPeak: number;
    readonly coverageAtEnd: number;
    readonly splitPmd: number;
    readonly splitFolio: number;
    readonly deferredSplit: number;
    /** Anonymous memory at the peak of RSS, three things apart; absent if the replay did not classify it. */
    readonly atPeak?: HugeUse;
  };
  /** Absent where no huge page of 2 MiB is enabled: then there is no khugepaged. */
  readonly khugepaged?: KhugepagedResult;
  /** null if the recording has no order of accesses. Extrapolated to the whole run. */
  readonly tlb: null | {
    readonly accesses: number;
    readonly l1Misses: number;
    readonly l2Misses: number;
    readonly walkReferences: number;
    readonly walkCycles: number;
  };
  readonly time: {
    /** The plain run's (null if none was made). */
    readonly recordedMs: number | null;
    /** Recorded time with the baseline's modelled costs taken out and this setting's put in; null without recordedMs. */
    readonly predictedMs: number | null;
    /** What differs, per part. */
    readonly parts: readonly TimePart[];
    /** Half-width of the interval we stand behind, as a share of predictedMs. */
    readonly uncertainty: number;
  };
  readonly series: SettingSeries;
  /** Every vmstat counter and per-size statistic that is not 0, by kernel name. */
  readonly counters: Readonly<Record<string, number>>;
}

/** Memory that the program did not ask for, of the process with the peak. Bytes. */
export interface MemoryGrowth {
  /** Came with a fault that mapped more than the page that was touched. */
  readonly byFaultBytes: number;
  /** Filled in by a collapse: holes of the region, which the program never touched or had given back. */
  readonly byCollapseBytes: number;
  /** Given back by the program, and kept because the rest of the huge page is in use: not yet split. Of all processes, not in RSS. */
  readonly notYetSplitBytes: number;
}

/** What khugepaged did, in the virtual time of the recording. */
export interface KhugepagedResult {
  /** Its CPU time, simulated from the cost table; on top of the predicted time, not part of it. */
  readonly cpuMs: number;
  readonly passes: number;
  readonly fullScans: number;
  readonly regionsScanned: number;
  readonly regionsCollapsed: number;
  /** Zeroes that its collapses put where nothing was, over the whole run. */
  readonly filledBytes: number;
  /** Virtual time until 90 % of the most huge memory of the run was there; null if there never was any. */
  readonly msUntilCoverage: number | null;
}

/** Permitted, eligible and in use, which reports must not mix up. Bytes; each is part of the one before. */
export interface HugeUse {
  /** Resident anonymous memory. */
  readonly anonymousBytes: number;
  /** In VMAs where the knobs, madvise and prctl allow a folio larger than 4 kB. */
  readonly permittedBytes: number;
  /** In a naturally aligned block of an allowed size that lies inside its VMA. */
  readonly eligibleBytes: number;
  /** Resident anonymous memory by size of the folio it lies in: "4kB", "64kB", "2048kB". Sums to anonymousBytes. */
  readonly bySize: Readonly<Record<string, number>>;
}

export interface TimePart {
  /** E.g. "page faults", "zeroing", "page walks", "fork", "unmap". */
  readonly name: string;
  readonly ms: number;
  /** How it was computed, e.g. "12 034 faults x 1.37 us". */
  readonly basis: string;
}

/** Sampled over the run; all arrays have one length. */
export interface SettingSeries {
  /** Share of the run's instructions, 0..1. */
  readonly at: readonly number[];
  readonly rssBytes: readonly number[];
  readonly hugeBytes: readonly number[];
  /** Since the last sample. */
  readonly faults: readonly number[];
  readonly walkCycles: readonly number[];
}

export interface Advice {
  /** Name of the setting to use; empty if nothing can be advised. */
  readonly setting: string;
  /** Sentences: what to set, what it gains, what it costs, how sure. */
  readonly text: string;
}
