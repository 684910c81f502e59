/**
 * Replay: a recording drives the machine, and every read is checked against a naive copy of the program's memory.
 *
 * Entry: Replay is a TraceSink; outcome() after `end`.
 * Owns:  the processes of the recording and where their mappings lie; addresses are the engine's own choice.
 * Holds: a mismatch between machine and shadow is a defect of ours (AssertionFailure), never of the recording.
 */

import { PAGE_SIZE, PTES_PER_REGION, pteIndexOf, regionOf } from "../../base/address.ts";
import { assert } from "../../base/assert.ts";
import { ENOSYS, errnoName } from "../../base/errno.ts";
import { runDueDaemons } from "../../collapse/khugepaged.ts";
import { FAULT_OOM, faultKindOf } from "../../fault/kinds.ts";
import { COST } from "../../hw/cost-model.ts";
import { isPageEmpty, NO_FAULT, pageTag, readPage, writePage } from "../../machine/access.ts";
import type { Machine } from "../../machine/machine.ts";
import { execProcess, exitProcess, forkProcess, setBrkStart } from "../../machine/process.ts";
import { ENTRY, pmdSlotOf } from "../../mm/page-tables.ts";
import { type Mm, rssOf } from "../../mm/state.ts";
import { createFile } from "../../shmem/page-cache.ts";
import { MADV, sysMadvise } from "../../syscall/madvise.ts";
import { MLOCK_ONFAULT, sysMlock2, sysMunlock } from "../../syscall/mlock.ts";
import {
  MAP,
  MREMAP,
  sysBrk,
  sysMmap,
  sysMprotect,
  sysMremap,
  sysMunmap,
} from "../../syscall/mmap.ts";
import { sysSetThpDisable } from "../../syscall/prctl.ts";
import type {
  Backing,
  MapCall,
  PageRange,
  ProcessStart,
  TraceHeader,
  TraceSink,
} from "../trace-sink.ts";
import { ReplayMeter } from "./replay-meter.ts";
import {
  addressIn,
  createShadow,
  dropPages,
  expectedTag,
  forkPlaces,
  noteWrite,
  type Place,
  type ReplayProcess,
  resizePlace,
  type Shadow,
} from "./replay-process.ts";
import type { ReplayTlb } from "./replay-tlb.ts";

export interface ReplayOptions {
  readonly machine: Machine;
  /** Price of each event (ns), indexed by COST. */
  readonly prices: Float64Array;
  /** TLB and page walks; null to leave them out. */
  readonly tlb: ReplayTlb | null;
  /** Ticks of the whole recording, if they are known before it is read: with a plain run they say how long a tick is. */
  readonly nrTicks?: number | null;
}

/** How the recording's ticks become virtual time. */
export interface ReplayClock {
  readonly nsPerTick: number;
  /** "plain run": its time over the recording's ticks. "nominal": nobody measured. */
  readonly from: "plain run" | "nominal";
}

/** An instruction, where nothing says how long it took. */
const NOMINAL_NS_PER_TICK = 1;

interface ReplayThread {
  /** Changes at exec. */
  process: ReplayProcess;
  /** CPU it runs on. */
  readonly cpu: number;
}

/** Things the recording asked for that the replay could not do, by sentence, with how often. */
export type Refusals = Map<string, number>;

export class Replay implements TraceSink {
  readonly meter: ReplayMeter;
  readonly refusals: Refusals = new Map();
  header: TraceHeader | null = null;
  nrTicks = 0;
  nrProcesses = 0;
  nrThreads = 0;
  /** Accesses counted by the recorder: of counts records, or of access records if there are none. */
  nrAccesses = 0;
  nrPagesTouched = 0;
  /** Faults and forks that failed for want of memory. */
  nrOutOfMemory = 0;
  protected readonly m: Machine;
  private readonly tlb: ReplayTlb | null;
  protected readonly processes = new Map<number, ReplayProcess>();
  private readonly threads = new Map<number, ReplayThread>();
  private readonly files = new Map<string, number>();
  private nextTag = 1;
  private tick = 0;
  clock: ReplayClock = { nsPerTick: NOMINAL_NS_PER_TICK, from: "nominal" };
  /** Called with the moment that is about to begin, in virtual nanoseconds: all before it has happened. */
  beforeTime: ((ns: number) => void) | null = null;
  private readonly prices: Float64Array;
  private readonly totalTicks: number | null;
  /** The process that lived longest with memory: its state at the end of the run is "final". */
  finalRssPages = 0;
  finalNeverWrittenPages = 0;
  finalCoverage = 0;

  constructor(options: ReplayOptions) {
    this.m = options.machine;
    this.tlb = options.tlb;
    this.prices = options.prices;
    this.totalTicks = options.nrTicks ?? null;
    this.meter = new ReplayMeter(options.machine, options.prices);
    options.machine.events = this.meter;
    options.machine.mmuNotifier = options.tlb;
  }

  begin(header: TraceHeader): void {
    this.header = header;
    if (header.plainRun === undefined || this.totalTicks === null || this.totalTicks === 0) return;
    const nsPerTick = (header.plainRun.wallMs * NS_PER_MS) / this.totalTicks;
    if (nsPerTick > 0) this.clock = { nsPerTick, from: "plain run" };
  }

  /** khugepaged does what has fallen due since the last moment; all that follows happens at this one. */
  time(tick: number): void {
    this.beforeTime?.(tick * this.clock.nsPerTick);
    this.tick = tick;
    runDueDaemons(this.m, tick * this.clock.nsPerTick, this.prices);
    this.meter.sample(tick);
  }

  process(id: number, parent: number, how: ProcessStart): void {
    this.nrProcesses++;
    const from = this.processes.get(parent);
    if (from === undefined) {
      this.processes.set(id, this.freshProcess(id));
    } else if (how === "vfork") {
      this.processes.set(id, { ...from, id, nrThreads: 0, borrowsMm: true });
    } else {
      this.forkFrom(id, from);
    }
  }

  private freshProcess(id: number): ReplayProcess {
    const image = execProcess(this.m);
    assert(image !== null, "no memory for a first process");
    const { mm, plan } = image;
    return {
      id,
      mm,
      plan,
      places: new Map(),
      nrWritten: 0,
      nrThreads: 0,
      borrowsMm: false,
      imageEnd: plan.imageBase,
    };
  }

  private forkFrom(id: number, parent: ReplayProcess): void {
    this.meter.notePeaks(parent);
    const mm = forkProcess(this.m, parent.mm);
    if (mm === null) {
      this.nrOutOfMemory++;
      return;
    }
    const nrHuge = countHuge(this.m, mm);
    this.meter.call("fork");
    this.meter.events[COST.forkHuge] += nrHuge;
    this.meter.events[COST.forkPte] += rssOf(mm) - nrHuge * PTES_PER_REGION;
    this.meter.flush(this.otherCpusOf(parent));
    const places = forkPlaces(parent);
    this.processes.set(id, { ...parent, id, mm, places, nrThreads: 0, borrowsMm: false });
  }

  exec(id: number): void {
    const process = this.processes.get(id);
    if (process === undefined) return;
    this.leaveMm(process);
    this.meter.call("exec");
    const started = { ...this.freshProcess(id), nrThreads: process.nrThreads };
    this.processes.set(id, started);
    for (const thread of this.threads.values())
      if (thread.process === process) thread.process = started;
  }

  private leaveMm(process: ReplayProcess): void {
    if (process.borrowsMm) return;
    const mark = this.meter.beforeUnmap(process);
    const { mm } = process;
    exitProcess(this.m, mm);
    this.meter.afterUnmap({ ...mm, rssAnon: 0, rssFile: 0, rssShmem: 0 }, mark, 0);
  }

  thread(id: number, processId: number): void {
    const process = this.processes.get(processId);
    if (process === undefined) return;
    process.nrThreads++;
    this.threads.set(id, { process, cpu: this.nrThreads % this.m.nrCpus });
    this.nrThreads++;
  }

  threadExit(id: number): void {
    const thread = this.threads.get(id);
    if (thread !== undefined) thread.process.nrThreads--;
    this.threads.delete(id);
  }

  exit(id: number, _status: number): void {
    const process = this.processes.get(id);
    if (process === undefined) return;
    if (!process.borrowsMm) this.noteFinal(process);
    this.leaveMm(process);
    this.processes.delete(id);
  }

  /** "Final" is what the largest process had just before the last exits. */
  private noteFinal(process: ReplayProcess): void {
    this.meter.notePeaks(process);
    const nrLive = this.processes.size;
    const isLast = nrLive === 1 || rssOf(process.mm) >= this.finalRssPages;
    if (!isLast) return;
    this.finalRssPages = rssOf(process.mm);
    this.finalNeverWrittenPages = Math.max(0, process.mm.rssAnon - process.nrWritten);
    this.finalCoverage = this.meter.coverage();
  }

  map(id: number, call: MapCall): void {
    const process = this.processes.get(id);
    if (process === undefined) return;
    const { backing } = call;
    if (backing.kind === "stack")
      return this.addPlace(process, call, this.stackBase(process, call), null);
    if (backing.kind === "heap") return this.addHeap(process, call);
    const start = this.mapFresh(process, call);
    if (start < 0) this.refuse(`mmap failed with ${errnoName(start)}`);
  }

  private stackBase(process: ReplayProcess, call: MapCall): number {
    return process.plan.stackTop / PAGE_SIZE - call.nrPages;
  }

  private addHeap(process: ReplayProcess, call: MapCall): void {
    setBrkStart(process.mm, process.imageEnd + process.plan.brkGapPages * PAGE_SIZE);
    this.addPlace(process, call, process.mm.brkStart / PAGE_SIZE, null);
    if (call.nrPages > 0) this.setHeap(process, call.mapping, call.nrPages);
  }

  private mapFresh(process: ReplayProcess, call: MapCall): number {
    const { backing, placement } = call;
    const file = backing.kind === "file" ? this.fileOf(backing.path) : null;
    let address = 0;
    let flags: number = call.isShared ? MAP.SHARED : MAP.PRIVATE;
    if (backing.kind === "anonymous") flags |= MAP.ANONYMOUS;
    for (const flag of call.flags) flags |= MAP_FLAGS[flag];
    if (placement.kind === "hint") address = placement.address;
    else if (placement.kind === "image") {
      address = process.plan.imageBase + placement.offsetPages * PAGE_SIZE;
      flags |= MAP.FIXED;
    } else if (placement.kind === "at") {
      const place = process.places.get(placement.mapping);
      if (place !== undefined) {
        address = addressIn(place, placement.page);
        flags |= MAP.FIXED;
      }
    }
    const mark = this.meter.beforeUnmap(process);
    const firstPage = filePageOf(backing);
    const start = sysMmap(
      this.m,
      process.mm,
      {
        address,
        length: call.nrPages * PAGE_SIZE,
        prot: call.prot,
        flags,
        ...(file === null ? {} : { file, offset: firstPage * PAGE_SIZE }),
      },
      (result) => this.meter.fault(result, 0),
    );
    this.meter.call("mmap");
    this.meter.afterUnmap(process.mm, { ...mark, rss: Math.max(mark.rss, rssOf(process.mm)) }, 0);
    if (start < 0) return start;
    if (placement.kind === "image")
      process.imageEnd = Math.max(process.imageEnd, start + call.nrPages * PAGE_SIZE);
    this.addPlace(process, call, start / PAGE_SIZE, file);
    return start;
  }

  private fileOf(path: string) {
    const known = this.files.get(path);
    if (known !== undefined) return this.m.files[known];
    const file = createFile(this.m, "file", path);
    this.files.set(path, file.id);
    return file;
  }

  private addPlace(
    process: ReplayProcess,
    call: MapCall,
    basePage: number,
    file: Shadow["file"],
  ): void {
    const { backing } = call;
    const firstPage = filePageOf(backing);
    process.places.set(call.mapping, {
      mapping: call.mapping,
      basePage,
      nrPages: call.nrPages,
      backing: backing.kind,
      shadow: createShadow(call.nrPages, file, firstPage),
      isShared: call.isShared,
    });
  }

  unmap(id: number, range: PageRange): void {
    this.onRange(id, range, "munmap", (process, place, address, length) => {
      dropPages(process, place, range.page, range.nrPages);
      return sysMunmap(this.m, process.mm, address, length);
    });
  }

  protect(id: number, range: PageRange, prot: number): void {
    this.onRange(id, range, "mprotect", (process, _place, address, length) =>
      sysMprotect(this.m, process.mm, address, length, prot),
    );
  }

  remap(id: number, range: PageRange, to: number, nrPages: number, dontUnmap: boolean): void {
    const process = this.processes.get(id);
    const place = process?.places.get(range.mapping);
    if (process === undefined || place === undefined) return;
    const mark = this.meter.beforeUnmap(process);
    const flags = MREMAP.MAYMOVE | (dontUnmap ? MREMAP.DONTUNMAP : 0);
    const from = addressIn(place, range.page);
    const oldLength = range.nrPages * PAGE_SIZE;
    const result = sysMremap(this.m, process.mm, from, oldLength, nrPages * PAGE_SIZE, flags);
    this.meter.call("mremap");
    this.meter.afterUnmap(process.mm, mark, this.otherCpusOf(process));
    if (result < 0) return this.refuse(`mremap failed with ${errnoName(result)}`);
    this.replaceShadow(process, place, range, to, nrPages, result / PAGE_SIZE);
  }

  /** The contents follow the moved pages; the source is empty. */
  private replaceShadow(
    process: ReplayProcess,
    place: Place,
    range: PageRange,
    to: number,
    nrPages: number,
    basePage: number,
  ): void {
    if (to === range.mapping && range.page === 0) {
      place.basePage = basePage;
      resizePlace(process, place, nrPages);
      return;
    }
    const shadow = createShadow(nrPages, place.shadow.file, place.shadow.firstPage + range.page);
    const kept = Math.min(nrPages, range.nrPages);
    shadow.tags.set(place.shadow.tags.subarray(range.page, range.page + kept));
    if (nrPages < range.nrPages)
      dropPages(process, place, range.page + nrPages, range.nrPages - nrPages);
    place.shadow.tags.fill(0, range.page, range.page + kept);
    process.places.set(to, { ...place, mapping: to, basePage, nrPages, shadow });
  }

  brk(id: number, mapping: number, nrPages: number): void {
    const process = this.processes.get(id);
    if (process === undefined) return;
    const mark = this.meter.beforeUnmap(process);
    this.setHeap(process, mapping, nrPages);
    this.meter.call("brk");
    this.meter.afterUnmap(process.mm, mark, 0);
  }

  private setHeap(process: ReplayProcess, mapping: number, nrPages: number): void {
    const place = process.places.get(mapping);
    if (place === undefined) return;
    const wanted = addressIn(place, nrPages);
    if (sysBrk(this.m, process.mm, wanted) !== wanted) this.refuse("brk could not be set");
    resizePlace(process, place, nrPages);
  }

  advise(id: number, range: PageRange, advice: number, recorded: number): void {
    if (recorded < 0) return; // the recorded call did nothing
    this.onRange(id, range, "madvise", (process, place, address, length) => {
      const observe = (result: number) => this.meter.fault(result, 0);
      const result = sysMadvise(this.m, process.mm, address, length, advice, observe);
      const isDropped = advice === MADV.DONTNEED || advice === MADV.DONTNEED_LOCKED;
      if (result === 0 && isDropped) dropPages(process, place, range.page, range.nrPages);
      if (advice === MADV.PAGEOUT) this.forgetDiscarded(process, place, range);
      if (result === -ENOSYS) {
        this.refuse(`madvise advice ${advice} is not modelled and was skipped`);
        return 0;
      }
      return result;
    });
  }

  /** Lazily freed pages that MADV_PAGEOUT found unwritten have lost their contents. */
  private forgetDiscarded(process: ReplayProcess, place: Place, range: PageRange): void {
    for (let page = range.page; page < range.page + range.nrPages; page++) {
      const address = addressIn(place, page);
      if (isPageEmpty(this.m, process.mm, regionOf(address), pteIndexOf(address)))
        dropPages(process, place, page, 1);
    }
  }

  lock(id: number, range: PageRange, how: "lock" | "onFault" | "unlock"): void {
    this.onRange(id, range, "syscall", (process, _place, address, length) => {
      const observe = (result: number) => this.meter.fault(result, 0);
      if (how === "unlock") return sysMunlock(this.m, process.mm, address, length);
      const flags = how === "onFault" ? MLOCK_ONFAULT : 0;
      return sysMlock2(this.m, process.mm, address, length, flags, observe);
    });
  }

  prctlThpDisable(id: number, value: number, flags: number): void {
    const process = this.processes.get(id);
    if (process !== undefined) sysSetThpDisable(this.m, process.mm, value, flags);
  }

  /** Runs one call on a range of a known mapping and prices it. */
  private onRange(
    id: number,
    range: PageRange,
    cost: "munmap" | "mprotect" | "madvise" | "syscall",
    run: (process: ReplayProcess, place: Place, address: number, length: number) => number,
  ): void {
    const process = this.processes.get(id);
    const place = process?.places.get(range.mapping);
    if (process === undefined || place === undefined) return;
    const mark = this.meter.beforeUnmap(process);
    const result = run(process, place, addressIn(place, range.page), range.nrPages * PAGE_SIZE);
    this.meter.call(cost);
    this.meter.afterUnmap(
      process.mm,
      { ...mark, rss: Math.max(mark.rss, rssOf(process.mm)) },
      this.otherCpusOf(process),
    );
    if (result < 0) this.refuse(`${cost} failed with ${errnoName(result)}`);
  }

  private otherCpusOf(process: ReplayProcess): number {
    return Math.max(0, Math.min(process.nrThreads, this.m.nrCpus) - 1);
  }

  touch(threadId: number, mapping: number, page: number, nrPages: number, isWrite: boolean): void {
    const thread = this.threads.get(threadId);
    const place = thread?.process.places.get(mapping);
    if (thread === undefined || place === undefined) return;
    this.m.cpu = thread.cpu;
    this.nrPagesTouched += nrPages;
    for (let i = page; i < page + nrPages; i++) {
      if (isWrite) this.write(thread.process, place, i);
      else this.read(thread.process, place, i);
    }
  }

  private write(process: ReplayProcess, place: Place, page: number): void {
    const { mm } = process;
    const at = place.basePage + page;
    const region = Math.floor(at / PTES_PER_REGION);
    const rssFile = mm.rssFile;
    const tag = this.nextTag;
    const result = writePage(this.m, mm, region, at - region * PTES_PER_REGION, tag);
    if (result !== NO_FAULT) {
      if (result < 0) return this.noteSignal(result);
      this.noteFault(mm, result, rssFile);
    }
    this.nextTag = tag === MAX_TAG ? 1 : tag + 1;
    noteWrite(process, place, page, tag);
  }

  private read(process: ReplayProcess, place: Place, page: number): void {
    const { mm } = process;
    const at = place.basePage + page;
    const region = Math.floor(at / PTES_PER_REGION);
    const pteIndex = at - region * PTES_PER_REGION;
    const rssFile = mm.rssFile;
    const result = readPage(this.m, mm, region, pteIndex);
    if (result !== NO_FAULT) {
      if (result < 0) return this.noteSignal(result);
      this.noteFault(mm, result, rssFile);
    }
    const isSame = pageTag(this.m, mm, region, pteIndex) === expectedTag(place.shadow, page);
    assert(isSame, "a read of the replay saw other contents than the program wrote");
  }

  private noteFault(mm: Mm, result: number, rssFileBefore: number): void {
    const isFile = faultKindOf(result) === "file";
    this.meter.fault(result, isFile ? Math.max(0, mm.rssFile - rssFileBefore - 1) : 0);
  }

  private noteSignal(result: number): void {
    if (result === FAULT_OOM) this.nrOutOfMemory++;
    else this.refuse("an access had no mapping or no permission in the replay");
  }

  counts(
    _process: number,
    _mapping: number,
    _page: number,
    nrPages: number,
    reads: number,
    writes: number,
  ): void {
    this.nrAccesses += nrPages * (reads + writes);
  }

  windowBegin(threadId: number): void {
    const thread = this.threads.get(threadId);
    if (thread !== undefined) this.tlb?.beginWindow(thread.cpu);
  }

  access(threadId: number, mapping: number, page: number, count: number, isWrite: boolean): void {
    const thread = this.threads.get(threadId);
    const place = thread?.process.places.get(mapping);
    if (thread === undefined || place === undefined) return;
    if (this.header?.has.counts !== true) this.nrAccesses += count;
    const at = place.basePage + page;
    const region = Math.floor(at / PTES_PER_REGION);
    const pteIndex = at - region * PTES_PER_REGION;
    const { mm } = thread.process;
    if (this.tlb === null || !this.tlb.access(thread.cpu, mm, region, pteIndex, count, isWrite)) {
      this.m.cpu = thread.cpu;
      if (isWrite) this.write(thread.process, place, page);
      else this.read(thread.process, place, page);
      this.tlb?.access(thread.cpu, mm, region, pteIndex, count, isWrite);
    }
  }

  windowEnd(threadId: number, nrRepresented: number): void {
    const thread = this.threads.get(threadId);
    if (thread !== undefined) this.tlb?.endWindow(thread.cpu, nrRepresented, this.meter);
  }

  end(tick: number): void {
    this.nrTicks = tick;
    for (const process of this.processes.values()) this.meter.notePeaks(process);
    for (const process of this.processes.values()) if (!process.borrowsMm) this.noteFinal(process);
    runDueDaemons(this.m, tick * this.clock.nsPerTick, this.prices);
    this.meter.sample(Math.max(tick, this.tick));
  }

  private refuse(sentence: string): void {
    this.refusals.set(sentence, (this.refusals.get(sentence) ?? 0) + 1);
  }
}

const NS_PER_MS = 1e6;
const MAX_TAG = 0x7fffffff;

const MAP_FLAGS = {
  populate: MAP.POPULATE,
  locked: MAP.LOCKED,
  stack: MAP.STACK,
  noreserve: MAP.NORESERVE,
} as const;

/** Huge entries of an address space. */
function countHuge(m: Machine, mm: Mm): number {
  let nr = 0;
  for (const vma of mm.vmas) {
    const first = Math.ceil(vma.start / PAGE_SIZE / PTES_PER_REGION);
    const end = Math.floor(vma.end / PAGE_SIZE / PTES_PER_REGION);
    for (let region = first; region < end; region++) {
      const slot = pmdSlotOf(m.tables, mm.root, region);
      if (slot < 0) region |= 511;
      else if ((m.tables.flags[slot] & (ENTRY.HUGE | ENTRY.SPECIAL)) === ENTRY.HUGE) nr++;
    }
  }
  return nr;
}

/**
 * Page of the file where a mapping begins. Offsets beyond 64 GiB wrap: the page cache is an array by offset, recorders
 * give addresses as offsets of what is no file ([vdso]), and far parts of one file are hardly ever mapped together.
 */
function filePageOf(backing: Backing): number {
  return backing.kind === "file" ? backing.firstPage % MAX_FILE_PAGES : 0;
}

const MAX_FILE_PAGES = 2 ** 24;
