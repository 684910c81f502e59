/**
 * What a shared collapse would have done for a recorded program that forks: the recording is replayed up to a fork, the memory
 * that parent and child share then is collapsed or not, and the rest of the recording shows what follows.
 *
 * Entry: ForkFinder for the first replay, which chooses the fork; SharingReplay for one replay a way of collapsing.
 * Holds: until the fork all replays are the same, and no page is huge. Whatever is collapsed, every read of the rest is checked
 *        against what the program wrote.
 * Units: pages of 4 KiB; ns are simulated; cycles of the modelled processor.
 */

import { PTES_PER_REGION, regionOf } from "../base/address.ts";
import { assert } from "../base/assert.ts";
import { VMSTAT } from "../base/counters.ts";
import { runKhugepagedPass } from "../collapse/khugepaged.ts";
import { workNs } from "../collapse/khugepaged-cost.ts";
import { sharedResultName } from "../collapse/shared-result.ts";
import { FAULT } from "../fault/kinds.ts";
import { writeKnob } from "../huge/knobs.ts";
import { COST, type CostTable, pricesOf } from "../hw/cost-model.ts";
import { type Geometry, withMeasured } from "../hw/geometry.ts";
import {
  createTranslation,
  HW_COUNTER,
  type TranslationMode,
  translateRun,
} from "../hw/translate.ts";
import { createMachine, type Machine } from "../machine/machine.ts";
import { registerWithKhugepaged } from "../mm/khugepaged-list.ts";
import { ENTRY, pmdSlotOf } from "../mm/page-tables.ts";
import type { Mm } from "../mm/state.ts";
import { isAnonymous } from "../mm/vma.ts";
import { PG } from "../phys/frame-table.ts";
import { Replay } from "../trace/replay/replay.ts";
import { ReplayTlb } from "../trace/replay/replay-tlb.ts";
import type { ProcessStart } from "../trace/trace-sink.ts";
import type { MachineOptions } from "./machine-options.ts";

/** What is done at the fork: nothing; the ordinary collapse, which copies; the mode that no kernel has. */
export const SHARING_WAYS = ["left alone", "copied", "shared"] as const;
export type SharingWay = (typeof SHARING_WAYS)[number];

export interface SharingRequest {
  readonly way: SharingWay;
  readonly machine: MachineOptions;
  readonly geometry: Geometry;
  readonly mode: TranslationMode;
  readonly costs: CostTable;
  /** Number of the fork, from 0. */
  readonly fork: number;
}

/** Memory at one moment. */
export interface SharingMemory {
  /** Entries of all LRU lists. */
  readonly lruFolios: number;
  /** Frames of mapped anonymous memory; shared ones count once. */
  readonly anonPages: number;
  /** Those of them that are mapped more than once. */
  readonly sharedPages: number;
  /** Sum of the RSS of all processes. */
  readonly rssPages: number;
  /** Huge entries in page tables. */
  readonly pmds: number;
  /** Cycles of page walks if every process read each of its anonymous pages once, with nothing in TLBs and caches. */
  readonly coldReadCycles: number;
}

/** What the collapse cost. */
export interface SharingCost {
  /** Regions collapsed, and looked at without success by reason. */
  readonly collapsed: number;
  readonly refused: Readonly<Record<string, number>>;
  /** Page-table entries changed, and the most for one region. */
  readonly ptesUpdated: number;
  readonly ptesMax: number;
  /** Time for which faults of the sharers would have had to wait. */
  readonly stallNsTotal: number;
  readonly stallNsMax: number;
  /** khugepaged's time. */
  readonly cpuNs: number;
}

/** From the fork to the end of the recording. */
export interface SharingRest {
  readonly faults: number;
  readonly copyFaults: number;
  readonly pmdSplits: number;
  readonly peakAnonPages: number;
  /** Null if the recording does not hold the order of accesses. */
  readonly walkCycles: number | null;
  readonly l2TlbMisses: number | null;
}

export interface SharingOutcome {
  readonly way: SharingWay;
  readonly memory: SharingMemory;
  readonly cost: SharingCost;
  readonly rest: SharingRest;
}

/** A replay that says when a process forks another that goes on with its memory. */
class WatchedReplay extends Replay {
  protected nrForks = 0;

  override process(id: number, parent: number, how: ProcessStart): void {
    super.process(id, parent, how);
    if (how !== "fork" || !this.processes.has(parent)) return;
    this.forked(this.nrForks++, id);
  }

  protected forked(_fork: number, _child: number): void {}
}

/** Finds the fork at which most anonymous memory becomes shared, children that run another program left out. */
export class ForkFinder extends WatchedReplay {
  private readonly forks: { child: number; pages: number; hasLeft: boolean }[] = [];

  constructor(request: Omit<SharingRequest, "way" | "fork">) {
    super({ machine: machineFor(request.machine), prices: pricesOf(request.costs), tlb: null });
  }

  protected override forked(_fork: number, child: number): void {
    const pages = this.processes.get(child)?.mm.rssAnon ?? 0;
    this.forks.push({ child, pages, hasLeft: false });
  }

  override exec(id: number): void {
    super.exec(id);
    for (const fork of this.forks) if (fork.child === id) fork.hasLeft = true;
  }

  /** Number of the fork and the pages of its child, null if no process shares its memory with another. */
  best(): { readonly fork: number; readonly pages: number } | null {
    let best: { fork: number; pages: number } | null = null;
    for (const [fork, { pages, hasLeft }] of this.forks.entries())
      if (!hasLeft && pages > (best?.pages ?? 0)) best = { fork, pages };
    return best;
  }
}

/** One replay; `outcome` when it is over. */
export class SharingReplay extends WatchedReplay {
  private readonly request: SharingRequest;
  private readonly hw: ReplayTlb;
  private memory: SharingMemory | null = null;
  private cost: SharingCost | null = null;
  private before = { faults: 0, copyFaults: 0, pmdSplits: 0, walkCycles: 0, l2TlbMisses: 0 };
  private peakAnonPages = 0;

  constructor(request: SharingRequest) {
    const m = machineFor(request.machine);
    const geometry = withMeasured(request.geometry, request.costs);
    const hw = new ReplayTlb(m, createTranslation(geometry, m.nrCpus, request.mode));
    super({ machine: m, prices: pricesOf(request.costs), tlb: hw });
    this.request = request;
    this.hw = hw;
  }

  protected override forked(fork: number): void {
    if (fork !== this.request.fork) return;
    this.cost = collapseAll(this.m, this.request.way, this.request.costs);
    this.memory = memoryOf(this.m, this.request);
    this.before = this.totals();
  }

  override time(tick: number): void {
    super.time(tick);
    if (this.memory === null) return;
    this.peakAnonPages = Math.max(this.peakAnonPages, this.m.vmstat[VMSTAT.nr_anon_pages]);
  }

  outcome(): SharingOutcome {
    assert(this.memory !== null && this.cost !== null, "the recording has no such fork");
    const now = this.totals();
    const hasOrder = this.header !== null && this.header.has.order !== "none";
    const since = (name: keyof typeof now) => now[name] - this.before[name];
    const rest = {
      faults: since("faults"),
      copyFaults: since("copyFaults"),
      pmdSplits: since("pmdSplits"),
      peakAnonPages: Math.max(this.peakAnonPages, this.memory.anonPages),
      walkCycles: hasOrder ? since("walkCycles") : null,
      l2TlbMisses: hasOrder ? since("l2TlbMisses") : null,
    };
    return { way: this.request.way, memory: this.memory, cost: this.cost, rest };
  }

  private totals() {
    const { meter, hw, m } = this;
    return {
      faults: meter.nrFaults,
      copyFaults: meter.faultsByKind[FAULT["copy-on-write 4k"]],
      pmdSplits: m.vmstat[VMSTAT.thp_split_pmd],
      walkCycles: hw.totals[HW_COUNTER.walkCycles],
      l2TlbMisses: hw.totals[HW_COUNTER.l2Misses],
    };
  }
}

/** No page is huge until the fork, so that there is something to collapse in every way. */
function machineFor(options: MachineOptions): Machine {
  const { memoryBytes, nrCpus, seed } = options;
  const m = createMachine({ memoryBytes, nrCpus, seed, sharedCollapse: "present" });
  knob(m, "thp.enabled", "never");
  return m;
}

function knob(m: Machine, name: string, value: string): void {
  assert(writeKnob(m, name, value) === 0, "the experiment writes a knob that does not exist");
}

/** khugepaged looks at all memory of all processes, twice: what the first round queues the second makes huge. */
function collapseAll(m: Machine, way: SharingWay, costs: CostTable): SharingCost {
  if (way === "left alone") return costOf(m, 0);
  const prices = pricesOf(costs);
  if (way === "shared") {
    m.sharedCollapse!.prices = sharedPrices(prices);
    knob(m, "khugepaged.shared_collapse", "1");
  }
  knob(m, "khugepaged.shared_collapse_max_ptes", "1048576");
  knob(m, "khugepaged.max_ptes_shared", "511");
  knob(m, "khugepaged.pages_to_scan", String(2 ** 32 - 1));
  knob(m, "thp.enabled", "always");
  for (const mm of m.mms) if (mm !== null) registerWithKhugepaged(m, mm);
  const before = { ...m.khugepaged.work };
  for (let pass = 0; pass < 2; pass++)
    assert(runKhugepagedPass(m) !== null, "khugepaged could not run");
  const { work } = m.khugepaged;
  // The mode reads every region's entries before the ordinary scan does.
  const nrRead =
    way === "shared" ? (work.nrRegionsScanned - before.nrRegionsScanned) * PTES_PER_REGION : 0;
  const scanNs = workNs(prices, before, work) + nrRead * prices[COST.scanPte];
  knob(m, "thp.enabled", "never");
  return costOf(m, scanNs + sharedNs(m, prices));
}

/** What a region costs besides its scan: the wait, and the huge entries built of it. */
function sharedNs(m: Machine, prices: Float64Array): number {
  const { stats } = m.sharedCollapse!;
  const nrPmdPtes = stats.shared_pmds * PTES_PER_REGION;
  return (
    stats.shared_stall_ns_total +
    stats.shared_collapsed * prices[COST.collapse] +
    nrPmdPtes * prices[COST.scanPte] +
    stats.shared_pmds * prices[COST.splitPmd]
  );
}

function sharedPrices(prices: Float64Array) {
  return {
    pteNs: prices[COST.mprotectPte],
    vmaNs: prices[COST.scanPte] * 16,
    flushNs: prices[COST.flushLocal] + prices[COST.shootdown],
    copyNs: prices[COST.collapsePage],
  };
}

function costOf(m: Machine, cpuNs: number): SharingCost {
  const { stats, records } = m.sharedCollapse!;
  const refused: Record<string, number> = {};
  for (const { result } of records) {
    if (result === 0) continue;
    const name = sharedResultName(result);
    refused[name] = (refused[name] ?? 0) + 1;
  }
  return {
    collapsed: stats.shared_collapsed + m.khugepaged.work.nrCollapsed,
    refused,
    ptesUpdated: stats.shared_ptes_updated + m.khugepaged.work.nrCollapsed * PTES_PER_REGION,
    ptesMax: Math.max(
      stats.shared_ptes_max,
      m.khugepaged.work.nrCollapsed > 0 ? PTES_PER_REGION : 0,
    ),
    stallNsTotal: stats.shared_stall_ns_total,
    stallNsMax: stats.shared_stall_ns_max,
    cpuNs,
  };
}

function memoryOf(m: Machine, { geometry, costs, mode }: SharingRequest): SharingMemory {
  const { flags, mapcount, entireMapcount, order, nrFrames } = m.frames;
  let lruFolios = 0;
  let sharedPages = 0;
  for (let pfn = 0; pfn < nrFrames; pfn++) {
    if ((flags[pfn] & PG.LRU) !== 0) lruFolios++;
    const head = pfn & -(1 << order[pfn]);
    if ((flags[head] & PG.ANON) === 0) continue;
    const nr = mapcount[pfn] + (order[pfn] > 0 ? entireMapcount[head] : 0);
    if (nr > 1) sharedPages++;
  }
  const translation = createTranslation(withMeasured(geometry, costs), 1, mode);
  const sums = { rssPages: 0, pmds: 0 };
  for (const mm of m.mms) {
    if (mm === null) continue;
    sums.rssPages += mm.rssAnon + mm.rssFile + mm.rssShmem;
    for (const region of anonRegionsOf(mm)) {
      const pmdSlot = pmdSlotOf(m.tables, mm.root, region);
      const entry = pmdSlot < 0 ? 0 : m.tables.flags[pmdSlot];
      if ((entry & ENTRY.PRESENT) === 0) continue;
      const isHuge = (entry & ENTRY.HUGE) !== 0;
      if (isHuge) sums.pmds++;
      for (let page = 0; page < PTES_PER_REGION; page++) {
        const leaf = isHuge ? entry : m.tables.flags[m.tables.payload[pmdSlot] * 512 + page];
        if ((leaf & ENTRY.PRESENT) !== 0)
          translateRun(translation, 0, m.tables, mm.root, mm.id, region, page, false, 1);
      }
    }
  }
  return {
    lruFolios,
    sharedPages,
    anonPages: m.vmstat[VMSTAT.nr_anon_pages],
    ...sums,
    coldReadCycles: translation.cpus[0].counters[HW_COUNTER.walkCycles],
  };
}

/** Each region that anonymous memory of the process reaches into, once. */
function anonRegionsOf(mm: Mm): ReadonlySet<number> {
  const regions = new Set<number>();
  for (const vma of mm.vmas)
    for (
      let region = regionOf(vma.start);
      isAnonymous(vma) && region <= regionOf(vma.end - 1);
      region++
    )
      regions.add(region);
  return regions;
}
