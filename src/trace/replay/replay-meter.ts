/**
 * What a replay measures: faults by kind and latency, priced events, peaks of memory, and samples over time.
 *
 * Owns:  its counters; reads the machine, never changes it.
 * Units: pages are 4 KiB; times are simulated nanoseconds from the cost table.
 */

import { PTES_PER_REGION } from "../../base/address.ts";
import { VMSTAT } from "../../base/counters.ts";
import { EVENT, type EventId, type EventSink } from "../../base/events.ts";
import {
  FAULT_KINDS,
  FAULT_MARK,
  type FaultKind,
  faultKindOf,
  faultOrderOf,
} from "../../fault/kinds.ts";
import {
  anonFaultNs,
  COST,
  type CostName,
  countAnonFault,
  createCostEvents,
} from "../../hw/cost-model.ts";
import {
  createLatencyHistogram,
  type LatencyHistogram,
  recordLatency,
} from "../../hw/latency-histogram.ts";
import type { Machine } from "../../machine/machine.ts";
import { type Mm, rssOf } from "../../mm/state.ts";
import { type HugeUsePages, hugeUseOf } from "./huge-use.ts";
import { type ReplayProcess, totalRssPages } from "./replay-process.ts";

const MAX_SAMPLES = 512;

/** The cost of each fault kind but the anonymous ones, whose price depends on the order. */
const KIND_COST: Readonly<Partial<Record<FaultKind, CostName>>> = {
  spurious: "faultSpurious",
  "zero 4k": "faultZero",
  "zero 2M": "faultHugeZero",
  "reuse 4k": "faultReuse",
  "copy-on-write 4k": "faultCow",
  "reuse 2M": "faultHugeReuse",
  file: "faultFile",
  "file copy-on-write": "faultCow",
  shmem: "faultShmem",
  "swap-in": "faultSwapIn",
};

/** One sample of the run. */
export interface ReplaySample {
  readonly tick: number;
  readonly rssPages: number;
  readonly hugePages: number;
  readonly faults: number;
  readonly walkCycles: number;
}

/** Memory at its largest. */
export interface MemoryPeak {
  rssPages: number;
  neverWrittenPages: number;
  /** Share of anonymous memory that is PMD-mapped then. */
  coverage: number;
  /** Of the process with the peak; taken anew whenever the peak has grown by a fiftieth. */
  use: HugeUsePages | null;
}

/** Counts of frames given back and entries zapped since the last reset, from the engine's events. */
interface ZapCounts {
  hugeZaps: number;
  splitPmds: number;
  hugeFreed: number;
  pagesFreed: number;
}

export class ReplayMeter implements EventSink {
  /** By COST. */
  readonly events = createCostEvents();
  readonly faultsByKind = new Float64Array(FAULT_KINDS.length);
  readonly latency: LatencyHistogram = createLatencyHistogram();
  readonly processPeak: MemoryPeak = {
    rssPages: 0,
    neverWrittenPages: 0,
    coverage: 0,
    use: null,
  };
  peakTotalRssPages = 0;
  peakTables = 0;
  nrFaults = 0;
  walkCycles = 0;
  samples: ReplaySample[] = [];
  private readonly m: Machine;
  private readonly prices: Float64Array;
  private readonly zaps: ZapCounts = { hugeZaps: 0, splitPmds: 0, hugeFreed: 0, pagesFreed: 0 };
  private classifiedRss = 0;
  /** Heads of huge folios that a collapse made; while they are whole. */
  private readonly collapsed = new Set<number>();
  private lastHugeFolio = -1;
  private sampleEvery = 1;
  private nextSample = 0;

  constructor(m: Machine, prices: Float64Array) {
    this.m = m;
    this.prices = prices;
  }

  /** EventSink: what the engine does inside an operation. */
  emit(event: EventId, a: number, b: number, c: number): void {
    const { zaps } = this;
    if (event === EVENT.zap) zaps.hugeZaps += c;
    else if (event === EVENT.split_pmd) zaps.splitPmds++;
    else if (event === EVENT.mm_page_free) {
      if (b === 9) {
        zaps.hugeFreed++;
        this.collapsed.delete(a);
      } else zaps.pagesFreed += 1 << b;
    } else if (event === EVENT.mm_page_alloc) {
      if (b === 9) this.lastHugeFolio = a;
    } else if (event === EVENT.split_folio) {
      this.events[COST.splitFolioPage] += 1 << b;
      if (c === 0) this.collapsed.delete(a);
    } else if (event === EVENT.mm_collapse_huge_page && b === 1)
      this.collapsed.add(this.lastHugeFolio);
  }

  /** Prices one fault. `nrMapped`: pages it mapped besides the touched one (fault-around). */
  fault(result: number, nrMapped: number): void {
    const kind = faultKindOf(result);
    this.nrFaults++;
    this.faultsByKind[result & 0xff]++;
    let ns = this.priceOf(kind, faultOrderOf(result));
    if ((result & FAULT_MARK.SPLIT_PMD) !== 0) {
      this.events[COST.splitPmd]++;
      ns += this.prices[COST.splitPmd];
    }
    if (nrMapped > 0) {
      this.events[COST.faultFileAround] += nrMapped;
      ns += nrMapped * this.prices[COST.faultFileAround];
    }
    recordLatency(this.latency, ns);
  }

  private priceOf(kind: FaultKind, order: number): number {
    const name = KIND_COST[kind];
    if (name !== undefined) {
      this.events[COST[name]]++;
      return this.prices[COST[name]];
    }
    if (kind === "copy-on-write 2M") {
      this.events[COST.faultHuge]++;
      this.events[COST.copyHuge]++;
      return this.prices[COST.faultHuge] + this.prices[COST.copyHuge];
    }
    countAnonFault(this.events, order);
    return anonFaultNs(this.prices, order);
  }

  /** Counts one system call by its price's name. */
  call(name: CostName): void {
    this.events[COST[name]]++;
  }

  /** Before an operation that unmaps pages of `process`: peaks are taken, event counts restart. */
  beforeUnmap(process: ReplayProcess): UnmapMark {
    this.notePeaks(process);
    this.zaps.hugeZaps = 0;
    this.zaps.splitPmds = 0;
    this.zaps.hugeFreed = 0;
    this.zaps.pagesFreed = 0;
    return { rss: rssOf(process.mm), tables: process.mm.nrTables };
  }

  /** After it: what was zapped and freed is priced, with the flush of other CPUs that run the process. */
  afterUnmap(mm: Mm, mark: UnmapMark, nrOtherCpus: number): void {
    const { zaps, events } = this;
    const nrHuge = Math.max(0, zaps.hugeZaps - zaps.splitPmds);
    const nrSmall = Math.max(0, mark.rss - rssOf(mm) - nrHuge * PTES_PER_REGION);
    const nrTablesFreed = Math.max(0, mark.tables - mm.nrTables);
    const nrFreed = Math.min(nrSmall, Math.max(0, zaps.pagesFreed - nrTablesFreed));
    const nrHugeFreed = Math.min(nrHuge, zaps.hugeFreed);
    events[COST.unmapPage] += nrFreed;
    events[COST.unmapShared] += nrSmall - nrFreed;
    events[COST.unmapHuge] += nrHugeFreed;
    events[COST.unmapSharedHuge] += nrHuge - nrHugeFreed;
    events[COST.splitPmd] += zaps.splitPmds;
    if (nrSmall + nrHuge > 0) this.flush(nrOtherCpus);
  }

  /** One invalidation of translations: here and on the other CPUs. */
  flush(nrOtherCpus: number): void {
    this.events[COST.flushLocal]++;
    this.events[COST.shootdown] += nrOtherCpus;
  }

  /** Takes the peaks; to be called before memory of `process` shrinks and at its end. */
  notePeaks(process: ReplayProcess): void {
    const { mm } = process;
    const rss = rssOf(mm);
    if (rss > this.processPeak.rssPages) {
      this.processPeak.rssPages = rss;
      this.processPeak.neverWrittenPages = neverWrittenPages(process);
      this.processPeak.coverage = this.coverage();
      if (rss > this.classifiedRss * 1.02) {
        this.classifiedRss = rss;
        this.processPeak.use = hugeUseOf(this.m, mm, this.collapsed);
      }
    }
    this.peakTotalRssPages = Math.max(this.peakTotalRssPages, totalRssPages(this.m));
    this.peakTables = Math.max(this.peakTables, this.m.vmstat[VMSTAT.nr_page_table_pages]);
  }

  /** Share of mapped anonymous memory that is PMD-mapped now, 0..1. */
  coverage(): number {
    const anon = this.m.vmstat[VMSTAT.nr_anon_pages];
    return anon === 0 ? 0 : this.hugePages() / anon;
  }

  private hugePages(): number {
    return this.m.vmstat[VMSTAT.nr_anon_transparent_hugepages] * PTES_PER_REGION;
  }

  /** A point of the curves; keeps at most 512 by taking every second one away when they are full. */
  sample(tick: number): void {
    if (tick < this.nextSample) return;
    this.samples.push({
      tick,
      rssPages: totalRssPages(this.m),
      hugePages: this.hugePages(),
      faults: this.nrFaults,
      walkCycles: this.walkCycles,
    });
    if (this.samples.length >= MAX_SAMPLES) {
      this.samples = this.samples.filter((_, i) => i % 2 === 0);
      this.sampleEvery = Math.max(1, (tick / MAX_SAMPLES) * 2);
    }
    this.nextSample = tick + this.sampleEvery;
  }
}

/** What a process had before an unmapping operation. */
export interface UnmapMark {
  readonly rss: number;
  readonly tables: number;
}

/** Resident anonymous pages that the program itself never wrote. */
export function neverWrittenPages(process: ReplayProcess): number {
  return Math.max(0, process.mm.rssAnon - process.nrWritten);
}
