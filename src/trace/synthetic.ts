/**
 * Small made-up programs told as recordings: known by arithmetic, so that what a replay finds can be predicted.
 *
 * Entry: the functions at the end, each a whole recording told to a sink.
 * Owns:  SyntheticProgram: which pages each process has read and written since they were mapped, forked or dropped, so that
 *        touches are exact.
 * Holds: same options, same calls. A page access is one instruction of time.
 */

import { createRandom, nextBelow, type Random } from "../base/random.ts";
import { PageFlags } from "./page-flags.ts";
import type { Placement, TraceSink } from "./trace-sink.ts";

const SEEN_READ = 1;
const SEEN_WRITE = 2;
const MADV_DONTNEED = 4;
const MADV_HUGEPAGE = 14;
/** Ticks between two time records, and between two intervals of counts. */
const INTERVAL = 1 << 14;

interface SyntheticProcess {
  readonly thread: number;
  nrAccesses: number;
  /** SEEN bits by mapping. */
  readonly seen: Map<number, PageFlags>;
  /** Reads and writes of the interval, by mapping and page; in the order of their first access. */
  readonly counts: Map<number, Map<number, { reads: number; writes: number }>>;
}

/** A program in the making: what it does is told at once. Processes and mappings have the recording's numbers. */
export class SyntheticProgram {
  private readonly sink: TraceSink;
  private readonly processes = new Map<number, SyntheticProcess>();
  private nrProcesses = 0;
  private nrMappings = 0;
  private tick = 0;
  private lastInterval = 0;

  /** Begins a recording with process 0, whose only thread is 0. The order of all accesses is recorded. */
  constructor(sink: TraceSink, name: string) {
    this.sink = sink;
    sink.begin({
      command: [name],
      source: "synthetic",
      has: { exactTouches: true, counts: true, order: "full" },
    });
    sink.process(0, -1, "exec");
    this.addProcess();
  }

  /** Maps anonymous private memory and gives its number. */
  map(process: number, nrPages: number, placement: Placement = { kind: "any" }): number {
    const mapping = this.nrMappings++;
    this.sink.map(process, {
      mapping,
      nrPages,
      prot: 3,
      isShared: false,
      backing: { kind: "anonymous" },
      placement,
      flags: [],
    });
    return mapping;
  }

  unmap(process: number, mapping: number, page: number, nrPages: number): void {
    this.tellCounts();
    this.sink.unmap(process, { mapping, page, nrPages });
    this.flagsOf(process, mapping).clear(page, page + nrPages);
  }

  /** MADV_DONTNEED. */
  drop(process: number, mapping: number, page: number, nrPages: number): void {
    this.tellCounts();
    this.sink.advise(process, { mapping, page, nrPages }, MADV_DONTNEED, 0);
    this.flagsOf(process, mapping).clear(page, page + nrPages);
  }

  adviseHuge(process: number, mapping: number, page: number, nrPages: number): void {
    this.sink.advise(process, { mapping, page, nrPages }, MADV_HUGEPAGE, 0);
  }

  read(process: number, mapping: number, page: number): void {
    this.access(process, mapping, page, SEEN_READ);
  }

  write(process: number, mapping: number, page: number): void {
    this.access(process, mapping, page, SEEN_WRITE);
  }

  /** Forks and gives the child. Every page is new to both: to write it may copy it. */
  fork(parent: number): number {
    this.tellCounts();
    this.sink.process(this.nrProcesses, parent, "fork");
    this.processes.get(parent)?.seen.clear();
    return this.addProcess();
  }

  exit(process: number): void {
    this.tellCounts();
    const { thread, nrAccesses } = this.get(process);
    this.sink.windowEnd(thread, nrAccesses);
    this.sink.exit(process, 0);
    this.processes.delete(process);
  }

  /** Ends the processes left and the recording. */
  end(): void {
    for (const process of [...this.processes.keys()].reverse()) this.exit(process);
    this.sink.end(this.tick);
  }

  private addProcess(): number {
    const process = this.nrProcesses++;
    const seen = new Map();
    this.processes.set(process, { thread: process, nrAccesses: 0, seen, counts: new Map() });
    this.sink.thread(process, process);
    this.sink.windowBegin(process);
    return process;
  }

  private access(process: number, mapping: number, page: number, bit: number): void {
    const state = this.get(process);
    const { thread } = state;
    state.nrAccesses++;
    const flags = this.flagsOf(process, mapping);
    const seen = flags.get(page);
    // To read what was written before is nothing new.
    const isNew = (seen & (bit | SEEN_WRITE)) === 0 || (bit === SEEN_WRITE && seen === SEEN_READ);
    if (isNew) {
      this.sink.touch(thread, mapping, page, 1, bit === SEEN_WRITE);
      flags.add(page, bit);
    }
    this.sink.access(thread, mapping, page, 1, bit === SEEN_WRITE);
    this.count(process, mapping, page, bit);
    this.tick++;
    if (this.tick - this.lastInterval === INTERVAL) this.tellCounts();
  }

  private count(process: number, mapping: number, page: number, bit: number): void {
    const { counts } = this.get(process);
    let pages = counts.get(mapping);
    if (pages === undefined) {
      pages = new Map();
      counts.set(mapping, pages);
    }
    const count = pages.get(page) ?? { reads: 0, writes: 0 };
    if (bit === SEEN_READ) count.reads++;
    else count.writes++;
    pages.set(page, count);
  }

  /** Ends the interval: what was counted is told before anything else happens to those pages. */
  private tellCounts(): void {
    if (this.tick === this.lastInterval) return;
    this.lastInterval = this.tick;
    this.sink.time(this.tick);
    for (const [process, { counts }] of this.processes) {
      for (const [mapping, pages] of counts) {
        for (const [page, { reads, writes }] of pages) {
          this.sink.counts(process, mapping, page, 1, reads, writes);
        }
      }
      counts.clear();
    }
  }

  private get(process: number): SyntheticProcess {
    const known = this.processes.get(process);
    if (known === undefined) throw new RangeError("a synthetic process that does not live");
    return known;
  }

  private flagsOf(process: number, mapping: number): PageFlags {
    const { seen } = this.get(process);
    let flags = seen.get(mapping);
    if (flags === undefined) {
      flags = new PageFlags();
      seen.set(mapping, flags);
    }
    return flags;
  }
}

/** Maps `nrPages` and writes each once, in order. */
export function tellSequentialFill(sink: TraceSink, nrPages: number): void {
  const program = new SyntheticProgram(sink, "sequential-fill");
  const mapping = program.map(0, nrPages);
  for (let page = 0; page < nrPages; page++) program.write(0, mapping, page);
  program.end();
}

/** Writes `nrPages` in order, then accesses `nrAccesses` at random, one in four of them a write. */
export function tellRandomAccess(
  sink: TraceSink,
  nrPages: number,
  nrAccesses: number,
  seed: number,
): void {
  const random = createRandom(seed);
  const program = new SyntheticProgram(sink, "random-access");
  const mapping = program.map(0, nrPages);
  for (let page = 0; page < nrPages; page++) program.write(0, mapping, page);
  for (let i = 0; i < nrAccesses; i++) {
    const page = nextBelow(random, nrPages);
    if (nextBelow(random, 4) === 0) program.write(0, mapping, page);
    else program.read(0, mapping, page);
  }
  program.end();
}

/** Writes one page of every `stride`: what huge pages make large. Touches floor((nrPages - 1) / stride) + 1 pages. */
export function tellSparseTouch(sink: TraceSink, nrPages: number, stride: number): void {
  const program = new SyntheticProgram(sink, "sparse-touch");
  const mapping = program.map(0, nrPages);
  for (let page = 0; page < nrPages; page += stride) program.write(0, mapping, page);
  program.end();
}

/**
 * A server that fills its memory and forks a child, as redis does to save: while the child reads everything in order, the
 * server writes `nrWrites` different pages, spread evenly; then the child exits.
 */
export function tellForkServer(sink: TraceSink, nrPages: number, nrWrites: number): void {
  const program = new SyntheticProgram(sink, "fork-server");
  const mapping = program.map(0, nrPages);
  for (let page = 0; page < nrPages; page++) program.write(0, mapping, page);
  const child = program.fork(0);
  let nrWritten = 0;
  for (let page = 0; page < nrPages; page++) {
    program.read(child, mapping, page);
    if (Math.floor(((page + 1) * nrWrites) / nrPages) > nrWritten) {
      nrWritten++;
      program.write(0, mapping, nrPages - 1 - page);
    }
  }
  program.exit(child);
  program.end();
}

/**
 * An allocator at work: `nrRounds` times it fills a new mapping of 1 to 4 times 2 MiB, or gives memory back: drops a random
 * part of a mapping, or unmaps one.
 */
export function tellChurn(sink: TraceSink, nrRounds: number, seed: number): void {
  const random = createRandom(seed);
  const program = new SyntheticProgram(sink, "churn");
  const live: { mapping: number; nrPages: number }[] = [];
  for (let round = 0; round < nrRounds; round++) {
    const choice = nextBelow(random, 4);
    if (live.length === 0 || choice < 2) live.push(allocate(program, random));
    else if (choice === 2) dropPart(program, random, live);
    else {
      const [{ mapping, nrPages }] = live.splice(nextBelow(random, live.length), 1);
      program.unmap(0, mapping, 0, nrPages);
    }
  }
  program.end();
}

function allocate(program: SyntheticProgram, random: Random): { mapping: number; nrPages: number } {
  const nrPages = 512 * (1 + nextBelow(random, 4));
  const mapping = program.map(0, nrPages);
  for (let page = 0; page < nrPages; page++) program.write(0, mapping, page);
  return { mapping, nrPages };
}

function dropPart(
  program: SyntheticProgram,
  random: Random,
  live: readonly { mapping: number; nrPages: number }[],
): void {
  const { mapping, nrPages } = live[nextBelow(random, live.length)];
  const page = nextBelow(random, nrPages);
  program.drop(0, mapping, page, 1 + nextBelow(random, nrPages - page));
}
