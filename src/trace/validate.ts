/**
 * The order rules of a TraceSink, enforced: what passes can be replayed without further checks.
 *
 * Entry: createValidatingSink, put in front of another sink by the reader and by the importers.
 * Owns:  which processes and threads live, and how long each mapping is in each process.
 * Holds: begin first and end last; time never goes back; processes and mappings are numbered from 0 in order; whoever
 *        acts is alive; a page is within its mapping as that process knows it; accesses happen within the thread's window.
 *        A breach is a UsageError at the place `where()` gives. Memory is bounded by LIMITS.
 */

import { UsageError } from "../base/usage-error.ts";
import { LIMITS } from "./format.ts";
import type { MapCall, PageRange, ProcessStart, TraceHeader, TraceSink } from "./trace-sink.ts";

/** `next` behind a check of every call; `where` names the place being read, e.g. "t.hlt, byte 1234". */
export function createValidatingSink(next: TraceSink, where: () => string): TraceSink {
  return new ValidatingSink(next, where);
}

interface ProcessState {
  /** Length in pages of every mapping this process knows. */
  readonly lengths: Map<number, number>;
  readonly threads: Set<number>;
}

const NR_CACHED = 64;
const NOBODY = -1;

class ValidatingSink implements TraceSink {
  private readonly next: TraceSink;
  private readonly where: () => string;
  private phase: "before" | "open" | "ended" = "before";
  private tick = 0;
  private nrProcesses = 0;
  private nrMappings = 0;
  private nrProcessMappings = 0;
  /** Rows: live processes. */
  private readonly processes = new Map<number, ProcessState>();
  /** Process of each live thread. */
  private readonly threads = new Map<number, number>();
  /** 1: this id was used, perhaps by a thread that is gone. Rows: thread ids. */
  private usedThreads = new Uint8Array(256);
  private readonly heaps = new Set<number>();
  private readonly windows = new Set<number>();

  /** Thread and process that the cached lengths are for. */
  private cachedThread = NOBODY;
  private cachedProcess = NOBODY;
  private isWindowOpen = false;
  /** Mapping in each row of the cache (mapping & 63), -1 if none, and its length. */
  private readonly cachedMapping = new Int32Array(NR_CACHED).fill(-1);
  private readonly cachedLength = new Float64Array(NR_CACHED);

  constructor(next: TraceSink, where: () => string) {
    this.next = next;
    this.where = where;
  }

  begin(header: TraceHeader): void {
    if (this.phase !== "before") this.refuse("a second header", "one header");
    this.phase = "open";
    this.next.begin(header);
  }

  time(tick: number): void {
    this.mustBeOpen();
    this.mustBeCount(tick, "tick");
    if (tick < this.tick)
      this.refuse(`tick ${tick}`, `${this.tick} or later: time never goes back`);
    this.tick = tick;
    this.next.time(tick);
  }

  process(process: number, parent: number, how: ProcessStart): void {
    this.mustBeOpen();
    if (process !== this.nrProcesses) {
      this.refuse(`process ${process}`, `${this.nrProcesses}, the next number`);
    }
    if (process >= LIMITS.processes) this.refuse(`process ${process}`, `below ${LIMITS.processes}`);
    const lengths = this.inherited(parent, how);
    this.addProcessMappings(lengths.size);
    this.processes.set(process, { lengths, threads: new Set() });
    this.nrProcesses++;
    this.next.process(process, parent, how);
  }

  exec(process: number): void {
    const state = this.live(process);
    this.addProcessMappings(-state.lengths.size);
    state.lengths.clear();
    this.forgetCache();
    this.next.exec(process);
  }

  thread(thread: number, process: number): void {
    const state = this.live(process);
    this.mustBeCount(thread, "thread");
    if (thread >= LIMITS.threads) this.refuse(`thread ${thread}`, `below ${LIMITS.threads}`);
    if (thread < this.usedThreads.length && this.usedThreads[thread] === 1) {
      this.refuse(`thread ${thread} a second time`, "an id that no thread had before");
    }
    this.markThread(thread);
    this.threads.set(thread, process);
    state.threads.add(thread);
    this.next.thread(thread, process);
  }

  threadExit(thread: number): void {
    const process = this.processOf(thread);
    this.live(process).threads.delete(thread);
    this.dropThread(thread);
    this.next.threadExit(thread);
  }

  exit(process: number, status: number): void {
    const state = this.live(process);
    this.mustBeCount(status, "exit status");
    if (status > 256 + 127) this.refuse(`exit status ${status}`, "0 to 255, or 256 + a signal");
    for (const thread of state.threads) this.dropThread(thread);
    this.addProcessMappings(-state.lengths.size);
    this.processes.delete(process);
    this.forgetCache();
    this.next.exit(process, status);
  }

  map(process: number, call: MapCall): void {
    const state = this.live(process);
    const { mapping, nrPages, backing, placement } = call;
    this.mustBeNext(mapping);
    this.mustBeLength(nrPages, backing.kind === "heap" ? 0 : 1);
    this.mustBeProt(call.prot);
    if (backing.kind === "file") this.mustBePage(backing.firstPage, "page of a file");
    if (placement.kind === "at") {
      this.lengthIn(state, placement.mapping);
      this.mustBePage(Math.abs(placement.page), "place");
    }
    if (placement.kind === "image") this.mustBePage(Math.abs(placement.offsetPages), "place");
    if (placement.kind === "hint") this.mustBeCount(placement.address, "hint address");
    if (backing.kind === "heap") this.heaps.add(mapping);
    this.nrMappings++;
    this.setLength(state, mapping, nrPages);
    this.next.map(process, call);
  }

  unmap(process: number, range: PageRange): void {
    const state = this.mustBeRange(process, range);
    this.dropIfWhole(state, range);
    this.next.unmap(process, range);
  }

  protect(process: number, range: PageRange, prot: number): void {
    this.mustBeRange(process, range);
    this.mustBeProt(prot);
    this.next.protect(process, range, prot);
  }

  remap(process: number, range: PageRange, to: number, nrPages: number, dontUnmap: boolean): void {
    const state = this.mustBeRange(process, range);
    this.mustBeLength(nrPages, 1);
    if (to === range.mapping) {
      if (dontUnmap) this.refuse("MREMAP_DONTUNMAP in place", "a new mapping with it");
      const length = this.lengthIn(state, to);
      const isTail = range.page + range.nrPages === length;
      const end = range.page + nrPages;
      if (isTail || end > length) this.setLength(state, to, end);
    } else {
      this.mustBeNext(to);
      this.nrMappings++;
      this.setLength(state, to, nrPages);
      if (!dontUnmap) this.dropIfWhole(state, range);
    }
    this.next.remap(process, range, to, nrPages, dontUnmap);
  }

  brk(process: number, mapping: number, nrPages: number): void {
    const state = this.live(process);
    this.lengthIn(state, mapping);
    if (!this.heaps.has(mapping)) this.refuse(`brk of mapping ${mapping}`, "a heap");
    this.mustBeLength(nrPages, 0);
    this.setLength(state, mapping, nrPages);
    this.next.brk(process, mapping, nrPages);
  }

  advise(process: number, range: PageRange, advice: number, result: number): void {
    this.mustBeRange(process, range);
    this.mustBeCount(advice, "advice");
    if (!(result <= 0 && result >= -4095)) this.refuse(`result ${result}`, "0 or a negative errno");
    this.next.advise(process, range, advice, result);
  }

  lock(process: number, range: PageRange, how: "lock" | "onFault" | "unlock"): void {
    this.mustBeRange(process, range);
    this.next.lock(process, range, how);
  }

  prctlThpDisable(process: number, value: number, flags: number): void {
    this.live(process);
    this.mustBeCount(value, "prctl argument");
    this.mustBeCount(flags, "prctl argument");
    this.next.prctlThpDisable(process, value, flags);
  }

  touch(thread: number, mapping: number, page: number, nrPages: number, isWrite: boolean): void {
    if (thread !== this.cachedThread) this.cacheThread(thread);
    this.mustBePages(mapping, page, nrPages);
    this.next.touch(thread, mapping, page, nrPages, isWrite);
  }

  counts(
    process: number,
    mapping: number,
    page: number,
    nrPages: number,
    reads: number,
    writes: number,
  ): void {
    if (process !== this.cachedProcess) this.cacheProcess(process);
    this.mustBePages(mapping, page, nrPages);
    if (!(reads >= 0 && writes >= 0)) this.refuse(`counts ${reads}, ${writes}`, "0 or more");
    this.next.counts(process, mapping, page, nrPages, reads, writes);
  }

  windowBegin(thread: number): void {
    this.processOf(thread);
    if (this.windows.has(thread)) this.refuse("a window within a window", "the end of the first");
    this.windows.add(thread);
    this.forgetCache();
    this.next.windowBegin(thread);
  }

  access(thread: number, mapping: number, page: number, count: number, isWrite: boolean): void {
    if (thread !== this.cachedThread) this.cacheThread(thread);
    if (!this.isWindowOpen) this.refuse("an access outside a window", "the begin of a window");
    const row = mapping & (NR_CACHED - 1);
    const isKnown = this.cachedMapping[row] === mapping && page < this.cachedLength[row];
    if (!(isKnown && page >= 0)) this.mustBePages(mapping, page, 1);
    if (!(count >= 1)) this.refuse(`a count of ${count} accesses`, "1 or more");
    this.next.access(thread, mapping, page, count, isWrite);
  }

  windowEnd(thread: number, nrRepresented: number): void {
    this.processOf(thread);
    if (!this.windows.delete(thread)) this.refuse("the end of no window", "a window's begin first");
    this.mustBeCount(nrRepresented, "count");
    this.forgetCache();
    this.next.windowEnd(thread, nrRepresented);
  }

  end(tick: number): void {
    this.mustBeOpen();
    this.mustBeCount(tick, "tick");
    if (tick < this.tick) this.refuse(`the end at tick ${tick}`, `${this.tick} or later`);
    if (this.nrProcesses === 0) this.refuse("a recording without a process", "at least one");
    this.phase = "ended";
    this.next.end(tick);
  }

  private refuse(found: string, wanted: string): never {
    throw new UsageError(this.where(), found, wanted);
  }

  private mustBeOpen(): void {
    if (this.phase === "before") this.refuse("a record before the header", "the header first");
    if (this.phase === "ended") this.refuse("a record after the end", "nothing more");
  }

  private inherited(parent: number, how: ProcessStart): Map<number, number> {
    if (parent === -1) {
      if (this.nrProcesses !== 0) this.refuse("a second process without a parent", "its parent");
      if (how !== "exec") this.refuse(`a first process by ${how}`, "exec");
      return new Map();
    }
    const lengths = this.live(parent).lengths;
    return how === "exec" ? new Map() : new Map(lengths);
  }

  private live(process: number): ProcessState {
    this.mustBeOpen();
    const state = this.processes.get(process);
    if (state === undefined) this.refuse(`process ${process}`, "a process that lives");
    return state;
  }

  private processOf(thread: number): number {
    this.mustBeOpen();
    const process = this.threads.get(thread);
    if (process === undefined) this.refuse(`thread ${thread}`, "a thread that lives");
    return process;
  }

  private markThread(thread: number): void {
    while (thread >= this.usedThreads.length) {
      const grown = new Uint8Array(2 * this.usedThreads.length);
      grown.set(this.usedThreads);
      this.usedThreads = grown;
    }
    this.usedThreads[thread] = 1;
  }

  private dropThread(thread: number): void {
    this.threads.delete(thread);
    this.windows.delete(thread);
    this.forgetCache();
  }

  private lengthIn(state: ProcessState, mapping: number): number {
    const length = state.lengths.get(mapping);
    if (length === undefined) this.refuse(`mapping ${mapping}`, "a mapping its process has");
    return length;
  }

  private setLength(state: ProcessState, mapping: number, nrPages: number): void {
    const before = state.lengths.size;
    state.lengths.set(mapping, nrPages);
    this.addProcessMappings(state.lengths.size - before);
    this.forgetCache();
  }

  /** A mapping unmapped in one piece is gone; one unmapped in parts keeps its length, and brk may revive a heap. */
  private dropIfWhole(state: ProcessState, range: PageRange): void {
    if (this.heaps.has(range.mapping)) return;
    if (range.nrPages !== state.lengths.get(range.mapping)) return;
    state.lengths.delete(range.mapping);
    this.addProcessMappings(-1);
    this.forgetCache();
  }

  private addProcessMappings(change: number): void {
    this.nrProcessMappings += change;
    if (this.nrProcessMappings > LIMITS.processMappings) {
      this.refuse(`more than ${LIMITS.processMappings} mappings in all processes`, "fewer");
    }
  }

  private mustBeRange(process: number, range: PageRange): ProcessState {
    const state = this.live(process);
    const length = this.lengthIn(state, range.mapping);
    const { page, nrPages } = range;
    if (!(page >= 0 && nrPages >= 1 && page + nrPages <= length)) this.refusePages(range, length);
    return state;
  }

  /** Pages of a mapping of the cached process. */
  private mustBePages(mapping: number, page: number, nrPages: number): void {
    const row = mapping & (NR_CACHED - 1);
    if (this.cachedMapping[row] !== mapping) {
      this.cachedLength[row] = this.lengthIn(this.live(this.cachedProcess), mapping);
      this.cachedMapping[row] = mapping;
    }
    const length = this.cachedLength[row];
    if (!(page >= 0 && nrPages >= 1 && page + nrPages <= length)) {
      this.refusePages({ mapping, page, nrPages }, length);
    }
  }

  private refusePages({ mapping, page, nrPages }: PageRange, length: number): never {
    const found = nrPages === 1 ? `page ${page}` : `${nrPages} pages from ${page}`;
    return this.refuse(`${found} of mapping ${mapping}`, `a part of its ${length} pages`);
  }

  private cacheThread(thread: number): void {
    const process = this.processOf(thread);
    if (process !== this.cachedProcess) this.cacheProcess(process);
    this.cachedThread = thread;
    this.isWindowOpen = this.windows.has(thread);
  }

  private cacheProcess(process: number): void {
    this.live(process);
    this.forgetCache();
    this.cachedProcess = process;
  }

  private forgetCache(): void {
    if (this.cachedProcess === NOBODY) return;
    this.cachedThread = NOBODY;
    this.cachedProcess = NOBODY;
    this.cachedMapping.fill(-1);
  }

  private mustBeNext(mapping: number): void {
    if (mapping !== this.nrMappings) {
      this.refuse(`mapping ${mapping}`, `${this.nrMappings}, the next number`);
    }
    if (mapping >= LIMITS.mappings) this.refuse(`mapping ${mapping}`, `below ${LIMITS.mappings}`);
  }

  private mustBeLength(nrPages: number, least: number): void {
    if (Number.isInteger(nrPages) && nrPages >= least && nrPages <= LIMITS.mappingPages) return;
    this.refuse(`a length of ${nrPages} pages`, `${least} to ${LIMITS.mappingPages}`);
  }

  private mustBePage(page: number, what: string): void {
    if (Number.isSafeInteger(page) && page >= 0) return;
    this.refuse(`${what} ${page}`, "an integer below 2^53");
  }

  private mustBeProt(prot: number): void {
    if (!(Number.isInteger(prot) && prot >= 0 && prot <= 7)) {
      this.refuse(`protection ${prot}`, "0 to 7");
    }
  }

  private mustBeCount(value: number, what: string): void {
    if (!(Number.isSafeInteger(value) && value >= 0)) {
      this.refuse(`${what} ${value}`, "an integer from 0 below 2^53");
    }
  }
}
