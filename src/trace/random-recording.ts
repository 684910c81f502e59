/**
 * A valid recording out of any list of numbers: what the round-trip and damage tests feed the writer with.
 *
 * The numbers choose; the state kept here makes sure that each choice keeps the order rules. Any list is a recording,
 * so a failing list shrinks to a short one.
 */

import type { Backing, Placement, TraceHeader, TraceSink } from "./trace-sink.ts";

export const RANDOM_HEADER: TraceHeader = {
  command: ["./program", "--größe", "1"],
  source: "synthetic",
  has: { exactTouches: true, counts: true, order: "windows" },
  notes: "any",
};

interface Known {
  readonly lengths: Map<number, number>;
  readonly threads: number[];
}

/** Tells `sink` a recording that `numbers` (each 0..2^32-1) choose. */
export function tellRandomRecording(sink: TraceSink, numbers: readonly number[]): void {
  new Teller(sink, numbers).tell();
}

const HUGE_PAGE_NUMBER = 2 ** 34;

class Teller {
  private readonly sink: TraceSink;
  private readonly numbers: readonly number[];
  private at = 0;
  private tick = 0;
  private nrProcesses = 1;
  private nrThreads = 1;
  private nrMappings = 0;
  private readonly heaps = new Set<number>();
  private readonly windows = new Set<number>();
  private readonly processes = new Map<number, Known>();

  constructor(sink: TraceSink, numbers: readonly number[]) {
    this.sink = sink;
    this.numbers = numbers;
  }

  tell(): void {
    const { sink } = this;
    sink.begin(RANDOM_HEADER);
    sink.process(0, -1, "exec");
    sink.thread(0, 0);
    this.processes.set(0, { lengths: new Map(), threads: [0] });
    while (this.at < this.numbers.length) this.step();
    sink.end(this.tick);
  }

  /** The next choice, 0..bound-1; 0 when the numbers are used up. */
  private below(bound: number): number {
    return (this.numbers[this.at++] ?? 0) % bound;
  }

  private oneOf<T>(values: readonly T[]): T {
    return values[this.below(values.length)];
  }

  private step(): void {
    const process = this.oneOf([...this.processes.keys()]);
    const known = this.processes.get(process)!;
    const choice = this.below(24);
    if (known.lengths.size === 0 || choice === 0) return this.map(process, known);
    if (known.threads.length === 0 || choice === 1) return this.thread(process, known);
    if (choice === 2) return this.time();
    if (choice === 3) return this.family(process, known);
    if (choice < 9) return this.memoryCall(process, known, choice);
    this.accesses(process, known);
  }

  private time(): void {
    this.tick += this.oneOf([0, 1, 127, 128, 2 ** 28, 2 ** 40]) + this.below(1000);
    this.sink.time(this.tick);
  }

  private thread(process: number, known: Known): void {
    known.threads.push(this.nrThreads);
    this.sink.thread(this.nrThreads++, process);
  }

  private family(process: number, known: Known): void {
    const { sink } = this;
    const choice = this.below(8);
    if (choice < 3 && this.nrProcesses < 6) {
      const how = this.oneOf(["fork", "vfork", "exec"] as const);
      const lengths = how === "exec" ? new Map<number, number>() : new Map(known.lengths);
      this.processes.set(this.nrProcesses, { lengths, threads: [] });
      sink.process(this.nrProcesses++, process, how);
    } else if (choice === 3 && this.processes.size > 1) {
      for (const thread of known.threads) this.windows.delete(thread);
      this.processes.delete(process);
      sink.exit(process, this.below(300));
    } else if (choice === 4) {
      known.lengths.clear();
      sink.exec(process);
    } else if (choice === 5 && known.threads.length > 1) {
      const thread = known.threads.pop()!;
      this.windows.delete(thread);
      sink.threadExit(thread);
    } else {
      sink.prctlThpDisable(process, this.below(2), this.below(4));
    }
  }

  private map(process: number, known: Known): void {
    const mapping = this.nrMappings++;
    const backing = this.backing();
    if (backing.kind === "heap") this.heaps.add(mapping);
    const least = backing.kind === "heap" ? 0 : 1;
    const nrPages = this.oneOf([least, 1, 3, 513, 70_000, HUGE_PAGE_NUMBER]);
    const names = ["populate", "locked", "stack", "noreserve"] as const;
    const bits = this.below(16);
    this.sink.map(process, {
      mapping,
      nrPages,
      prot: this.below(8),
      isShared: this.below(2) === 1,
      backing,
      placement: this.placement([...known.lengths.keys()]),
      flags: names.filter((_, i) => bits & (1 << i)),
    });
    known.lengths.set(mapping, nrPages);
  }

  private backing(): Backing {
    const kind = this.oneOf(["anonymous", "stack", "heap", "file"] as const);
    if (kind !== "file") return { kind };
    const path = this.oneOf(["/lib/a.so", "b", "/tmp/ü €", ""]);
    return { kind, path, firstPage: this.below(100_000) };
  }

  private placement(mappings: readonly number[]): Placement {
    const choice = this.below(4);
    const page = this.below(2000) - 1000;
    if (choice === 1) return { kind: "hint", address: 2 ** 46 + this.below(2 ** 30) * 4096 };
    if (choice === 2) return { kind: "image", offsetPages: page };
    if (choice === 3 && mappings.length > 0) {
      return { kind: "at", mapping: this.oneOf(mappings), page };
    }
    return { kind: "any" };
  }

  private memoryCall(process: number, known: Known, choice: number): void {
    const { sink } = this;
    const mapping = this.oneOf([...known.lengths.keys()]);
    const length = known.lengths.get(mapping)!;
    if (choice === 4 && this.heaps.has(mapping)) {
      const nrPages = this.below(10_000);
      known.lengths.set(mapping, nrPages);
      return sink.brk(process, mapping, nrPages);
    }
    if (length === 0) return;
    const page = this.below(length);
    const range = { mapping, page, nrPages: 1 + this.below(length - page) };
    if (choice === 4) return sink.advise(process, range, this.below(26), 0 - this.below(2) * 22);
    if (choice === 5) return sink.protect(process, range, this.below(8));
    if (choice === 6) {
      return sink.lock(process, range, this.oneOf(["lock", "onFault", "unlock"] as const));
    }
    if (choice === 7) {
      if (range.nrPages === length && !this.heaps.has(mapping)) known.lengths.delete(mapping);
      return sink.unmap(process, range);
    }
    this.remap(process, known, range);
  }

  private remap(
    process: number,
    known: Known,
    range: { mapping: number; page: number; nrPages: number },
  ): void {
    const { mapping } = range;
    const length = known.lengths.get(mapping)!;
    const nrPages = 1 + this.below(5000);
    if (this.below(2) === 0) {
      const tail = { mapping, page: range.page, nrPages: length - range.page };
      known.lengths.set(mapping, range.page + nrPages);
      return this.sink.remap(process, tail, mapping, nrPages, false);
    }
    const dontUnmap = this.below(2) === 1;
    const isGone = !dontUnmap && range.nrPages === length && !this.heaps.has(mapping);
    if (isGone) known.lengths.delete(mapping);
    known.lengths.set(this.nrMappings, nrPages);
    this.sink.remap(process, range, this.nrMappings++, nrPages, dontUnmap);
  }

  private accesses(process: number, known: Known): void {
    const { sink } = this;
    const thread = this.oneOf(known.threads);
    const mapping = this.oneOf([...known.lengths.keys()]);
    const length = known.lengths.get(mapping)!;
    if (length === 0) return;
    const page = this.below(Math.min(length, 40));
    const isWrite = this.below(2) === 1;
    const choice = this.below(3);
    const nrPages = 1 + this.below(Math.min(length - page, 3));
    if (choice === 0) return sink.touch(thread, mapping, page, nrPages, isWrite);
    if (choice === 1) {
      const reads = this.oneOf([0, 1, 200, 2 ** 33]);
      return sink.counts(process, mapping, page, nrPages, reads, this.below(3));
    }
    if (!this.windows.has(thread)) {
      this.windows.add(thread);
      return sink.windowBegin(thread);
    }
    if (this.below(30) === 29) {
      this.windows.delete(thread);
      return sink.windowEnd(thread, this.below(2 ** 31));
    }
    sink.access(thread, mapping, page, 1 + this.below(300), isWrite);
  }
}
