/**
 * The engine's side of what the live kernel is timed on: the same operations on a simulated machine, all accounting on.
 *
 * Entry: engineRows.
 * Units: nanoseconds per operation. Our time is the process's CPU time, as the kernel's side counts CPU time too.
 */

import { HUGE_SIZE, PTES_PER_REGION, regionOf } from "../src/base/address.ts";
import { collapseFields, type RegionScan } from "../src/collapse/collapse-op.ts";
import { scanRegion } from "../src/collapse/scan.ts";
import { ACTOR, SCAN } from "../src/collapse/scan-result.ts";
import { writeKnob } from "../src/huge/knobs.ts";
import { writePage } from "../src/machine/access.ts";
import { createMachine, type Machine } from "../src/machine/machine.ts";
import { execProcess, exitProcess, forkProcess } from "../src/machine/process.ts";
import type { Mm } from "../src/mm/state.ts";
import { findVma } from "../src/mm/vma.ts";
import { MADV, sysMadvise } from "../src/syscall/madvise.ts";
import { MAP, PROT, sysMmap, sysMunmap } from "../src/syscall/mmap.ts";
import { cpuNs } from "./clock.ts";
import type { Experiment, KernelProbe } from "./kernel.ts";
import { type BenchRow, median, row } from "./row.ts";

const GIB = 1024 ** 3;
const SPAN = 256 * 1024 ** 2;
const SPAN_PAGES = SPAN / 4096;
/** Interleaved: each repeat samples the kernel and the engine. */
const REPEATS = 7;
const WARM_UPS = 3;

interface EngineExperiment {
  readonly name: string;
  readonly experiment: Experiment;
  readonly run: (bed: TestBed) => number;
  readonly unit: "ns" | "us" | "ms";
  readonly floor: number;
  readonly goal: number;
}

const EXPERIMENTS: readonly EngineExperiment[] = [
  {
    name: "4K anonymous fault",
    experiment: "fault4k",
    run: fault4k,
    unit: "ns",
    floor: 12,
    goal: 25,
  },
  {
    name: "2M anonymous fault",
    experiment: "fault2m",
    run: fault2m,
    unit: "us",
    floor: 80,
    goal: 400,
  },
  {
    name: "munmap per 4K page",
    experiment: "munmap4k",
    run: munmap4k,
    unit: "ns",
    floor: 4,
    goal: 9,
  },
  {
    name: "fork of 1 GB in PTEs",
    experiment: "fork1g",
    run: fork1g,
    unit: "ms",
    floor: 4,
    goal: 8,
  },
  { name: "copy-on-write fault", experiment: "cow4k", run: cow4k, unit: "ns", floor: 15, goal: 40 },
  {
    name: "collapse of 512 pages",
    experiment: "collapse",
    run: collapse,
    unit: "us",
    floor: 10,
    goal: 25,
  },
];

const NS_PER = { ns: 1, us: 1e3, ms: 1e6 } as const;

/** A machine with one process. */
export interface TestBed {
  readonly m: Machine;
  readonly mm: Mm;
}

/** One row per experiment, each with the live kernel's figure of the same run. */
export function engineRows(probe: KernelProbe): BenchRow[] {
  const bed = testBed(4 * GIB);
  return [...EXPERIMENTS.map((experiment) => compare(experiment, bed, probe)), scanRow(bed)];
}

function compare(of: EngineExperiment, bed: TestBed, probe: KernelProbe): BenchRow {
  for (let i = 0; i < WARM_UPS; i++) of.run(bed);
  const ours: number[] = [];
  const kernels: number[] = [];
  for (let repeat = 0; repeat < REPEATS; repeat++) {
    kernels.push(...probe(of.experiment, 1));
    ours.push(of.run(bed));
  }
  const perUnit = NS_PER[of.unit];
  const kernel = kernels.length > 0 ? median(kernels) / perUnit : null;
  return row(of.name, median(ours) / perUnit, of.unit, {
    kernel,
    target: { of: "ratio", better: "higher", floor: of.floor, goal: of.goal },
    note: kernel === null ? "no live kernel to compare with" : "",
  });
}

/** A machine that gives huge pages where they are asked for, and a process on it. */
export function testBed(memoryBytes: number): TestBed {
  const m = createMachine({ memoryBytes });
  if (writeKnob(m, "thp.enabled", "madvise") !== 0) throw new Error("thp.enabled was refused");
  const started = execProcess(m, 1);
  if (started === null) throw new Error("no memory for a process");
  return { m, mm: started.mm };
}

/** Private anonymous memory, aligned to 2 MiB; returns the first region. */
export function mapAdvised(bed: TestBed, bytes: number, advice: number): number {
  const address = sysMmap(bed.m, bed.mm, {
    address: 0,
    length: bytes,
    prot: PROT.READ | PROT.WRITE,
    flags: MAP.PRIVATE | MAP.ANONYMOUS,
  });
  if (address < 0 || address % HUGE_SIZE !== 0) throw new Error("mmap gave no aligned memory");
  if (sysMadvise(bed.m, bed.mm, address, bytes, advice) !== 0) throw new Error("madvise refused");
  return regionOf(address);
}

/** Writes every page of `bytes` from `region` on. */
export function writeAll(bed: TestBed, region: number, bytes: number): void {
  const end = region + bytes / HUGE_SIZE;
  for (let at = region; at < end; at++) {
    for (let pte = 0; pte < PTES_PER_REGION; pte++) writePage(bed.m, bed.mm, at, pte, 1);
  }
}

export function unmap(bed: TestBed, region: number, bytes: number): void {
  if (sysMunmap(bed.m, bed.mm, region * HUGE_SIZE, bytes) !== 0) throw new Error("munmap failed");
}

function timed(work: () => void): number {
  const start = cpuNs();
  work();
  return cpuNs() - start;
}

function fault4k(bed: TestBed): number {
  const region = mapAdvised(bed, SPAN, MADV.NOHUGEPAGE);
  const ns = timed(() => writeAll(bed, region, SPAN));
  unmap(bed, region, SPAN);
  return ns / SPAN_PAGES;
}

/** The same span as the kernel's side, as often as makes a sample long enough for the clock. */
function fault2m(bed: TestBed): number {
  const nrRegions = SPAN / HUGE_SIZE;
  const rounds = 48;
  let ns = 0;
  for (let round = 0; round < rounds; round++) {
    const region = mapAdvised(bed, SPAN, MADV.HUGEPAGE);
    ns += timed(() => {
      for (let i = 0; i < nrRegions; i++) writePage(bed.m, bed.mm, region + i, 0, 1);
    });
    unmap(bed, region, SPAN);
  }
  return ns / (nrRegions * rounds);
}

function munmap4k(bed: TestBed): number {
  const region = mapAdvised(bed, SPAN, MADV.NOHUGEPAGE);
  writeAll(bed, region, SPAN);
  return timed(() => unmap(bed, region, SPAN)) / SPAN_PAGES;
}

function fork1g(bed: TestBed): number {
  const region = mapAdvised(bed, GIB, MADV.NOHUGEPAGE);
  writeAll(bed, region, GIB);
  let child: Mm | null = null;
  const ns = timed(() => {
    child = forkProcess(bed.m, bed.mm);
  });
  if (child === null) throw new Error("fork failed");
  exitProcess(bed.m, child);
  unmap(bed, region, GIB);
  return ns;
}

function cow4k(bed: TestBed): number {
  const region = mapAdvised(bed, SPAN, MADV.NOHUGEPAGE);
  writeAll(bed, region, SPAN);
  const child = forkProcess(bed.m, bed.mm);
  if (child === null) throw new Error("fork failed");
  const ns = timed(() => writeAll(bed, region, SPAN));
  exitProcess(bed.m, child);
  unmap(bed, region, SPAN);
  return ns / SPAN_PAGES;
}

/** MADV_COLLAPSE of touched pages: the table of phases, allocation, copy, and the old pages freed. */
function collapse(bed: TestBed): number {
  const bytes = SPAN / 4;
  const rounds = 12;
  let ns = 0;
  for (let round = 0; round < rounds; round++) {
    const region = mapAdvised(bed, bytes, MADV.NOHUGEPAGE);
    writeAll(bed, region, bytes);
    sysMadvise(bed.m, bed.mm, region * HUGE_SIZE, bytes, MADV.HUGEPAGE);
    ns += timed(() => {
      const result = sysMadvise(bed.m, bed.mm, region * HUGE_SIZE, bytes, MADV.COLLAPSE);
      if (result !== 0) throw new Error("the pages do not collapse");
    });
    unmap(bed, region, bytes);
  }
  return ns / ((bytes / HUGE_SIZE) * rounds);
}

/** khugepaged's look at regions of touched pages, all of which it could collapse; millions of entries per second. */
function scanRow(bed: TestBed): BenchRow {
  const rounds = 400;
  const first = mapAdvised(bed, SPAN, MADV.NOHUGEPAGE);
  writeAll(bed, first, SPAN);
  sysMadvise(bed.m, bed.mm, first * HUGE_SIZE, SPAN, MADV.HUGEPAGE);
  const vma = findVma(bed.mm.vmas, first * HUGE_SIZE);
  if (vma === null) throw new Error("nothing is mapped");
  const op: { region: number } & RegionScan = {
    ...collapseFields(bed.mm.id, first, ACTOR.khugepaged),
  };
  const pass = () => {
    for (op.region = first; op.region < first + SPAN / HUGE_SIZE; op.region++)
      if (scanRegion(bed.m, bed.mm, vma, op) !== SCAN.SUCCEED)
        throw new Error("a region is refused");
  };
  for (let i = 0; i < WARM_UPS * 20; i++) pass();
  const rates: number[] = [];
  for (let repeat = 0; repeat < REPEATS; repeat++) {
    const ns = timed(() => {
      for (let i = 0; i < rounds / REPEATS; i++) pass();
    });
    rates.push((Math.ceil(rounds / REPEATS) * SPAN_PAGES * 1e3) / ns);
  }
  unmap(bed, first, SPAN);
  return row("khugepaged's scan", median(rates), "M PTE/s", {
    target: { of: "value", better: "higher", floor: 100, goal: 200 },
  });
}
