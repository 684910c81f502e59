/**
 * The recorder's events as a recording: absolute addresses become mappings and pages of them.
 *
 * Entry: RecordConverter, the RawSink in front of a TraceSink whose `begin` was called.
 * Owns:  every process's address space while it lives.
 * Holds: what it tells keeps the order rules of a TraceSink also where processes are killed half-way: what comes from a
 *        process or thread that is gone is dropped, what falls outside all mappings is counted and dropped.
 */

import type { TraceSink } from "../trace/trace-sink.ts";
import { tellImage } from "./record-image.ts";
import { AddressSpace } from "./record-space.ts";
import type { AccessBatch, ImagePiece, RawSink, RawSyscall } from "./record-stream.ts";
import { tellSyscall } from "./record-syscalls.ts";

/** One process as the converter sees it. */
export interface RecordedProcess {
  readonly process: number;
  readonly space: AddressSpace;
  /** brk's mapping and its first absolute page; undefined before the first brk. */
  heap: { readonly mapping: number; readonly firstPage: number } | undefined;
}

/** Numbers mappings over the whole recording. */
export interface MappingNumbers {
  next: number;
}

/** What the run looked like, for the last line and the header. */
export interface RecordSummary {
  nrAccesses: number;
  nrTouches: number;
  /** Instructions as of the last progress event; for display. */
  nrInstructions: number;
  /** Time of the last event. */
  tick: number;
  nrProcesses: number;
  /** First touches and accesses that no mapping explains. */
  nrUnexplained: number;
  /** As wait gives it: exit code, or 256 + signal; undefined if the recorder did not say. */
  status: number | undefined;
  wasAsked: boolean;
  failure: string | undefined;
  readonly notes: string[];
}

export class RecordConverter implements RawSink {
  readonly summary: RecordSummary = {
    nrAccesses: 0,
    nrTouches: 0,
    nrInstructions: 0,
    tick: 0,
    nrProcesses: 0,
    nrUnexplained: 0,
    status: undefined,
    wasAsked: false,
    failure: undefined,
    notes: [],
  };
  private readonly sink: TraceSink;
  private readonly onProgress: () => void;
  private readonly numbers: MappingNumbers = { next: 0 };
  private readonly living = new Map<number, RecordedProcess>();
  /** Process of each living thread. Rows: thread numbers. */
  private readonly threadOwner: (RecordedProcess | undefined)[] = [];
  private readonly windows = new Set<number>();
  private toldTick = 0;
  /** Image pieces of one process, told together once they are complete. */
  private pieces: ImagePiece[] = [];
  private hasProgram = false;

  constructor(sink: TraceSink, onProgress: () => void) {
    this.sink = sink;
    this.onProgress = onProgress;
  }

  time(delta: number): void {
    this.summary.tick += delta;
  }

  process(process: number, parent: number, how: "exec" | "fork" | "vfork"): void {
    this.beforeEvent();
    const from = this.living.get(parent);
    const space = from === undefined || how === "exec" ? new AddressSpace() : from.space.clone();
    this.living.set(process, { process, space, heap: from?.heap });
    this.summary.nrProcesses++;
    this.sink.process(process, parent, how);
  }

  exec(process: number, _path: string): void {
    this.beforeEvent();
    const state = this.living.get(process);
    if (state === undefined) return;
    state.space.clear();
    state.heap = undefined;
    // The first process began with its program: an exec record would say it a second time.
    if (this.hasProgram) this.sink.exec(process);
    this.hasProgram = true;
  }

  thread(thread: number, process: number): void {
    this.beforeEvent();
    const state = this.living.get(process);
    if (state === undefined) return;
    this.threadOwner[thread] = state;
    this.sink.thread(thread, process);
  }

  threadExit(thread: number): void {
    this.beforeEvent();
    if (this.threadOwner[thread] === undefined) return;
    this.threadOwner[thread] = undefined;
    this.windows.delete(thread);
    this.sink.threadExit(thread);
  }

  exit(process: number, status: number): void {
    this.beforeEvent();
    if (!this.living.delete(process)) return;
    this.threadOwner.forEach((owner, thread) => {
      if (owner?.process !== process) return;
      this.threadOwner[thread] = undefined;
      this.windows.delete(thread);
    });
    this.sink.exit(process, status);
  }

  image(piece: ImagePiece): void {
    this.pieces.push(piece);
  }

  syscall(call: RawSyscall): void {
    this.beforeEvent();
    const state = this.living.get(call.process);
    if (state !== undefined) tellSyscall(state, this.numbers, call, this.sink);
  }

  touch(thread: number, isWrite: boolean, page: number, nrPages: number): void {
    this.beforeEvent();
    const space = this.threadOwner[thread]?.space;
    if (space === undefined) return;
    let left = nrPages;
    for (let at = page; left > 0; ) {
      if (!space.find(at)) {
        this.summary.nrUnexplained++;
        at++;
        left--;
        continue;
      }
      const run = Math.min(left, space.foundRun);
      this.sink.touch(thread, space.foundMapping, space.foundPage, run, isWrite);
      at += run;
      left -= run;
    }
  }

  windowBegin(thread: number): void {
    this.beforeEvent();
    if (this.threadOwner[thread] === undefined) return;
    this.windows.add(thread);
    this.sink.windowBegin(thread);
  }

  accesses(thread: number, batch: AccessBatch): void {
    this.beforeEvent();
    const space = this.threadOwner[thread]?.space;
    if (space === undefined || !this.windows.has(thread)) return;
    const { pages, counts, writes } = batch;
    for (let i = 0; i < batch.length; i++) {
      if (space.find(pages[i])) {
        this.sink.access(
          thread,
          space.foundMapping,
          space.foundPage,
          counts[i],
          writes[i] === 1,
        );
      } else {
        this.summary.nrUnexplained++;
      }
    }
  }

  windowEnd(thread: number, nrRepresented: number): void {
    this.beforeEvent();
    if (this.windows.delete(thread)) this.sink.windowEnd(thread, nrRepresented);
  }

  counts(process: number, page: number, nrPages: number, reads: number, writes: number): void {
    this.beforeEvent();
    const space = this.living.get(process)?.space;
    if (space === undefined) return;
    let left = nrPages;
    for (let at = page; left > 0; ) {
      // Pages unmapped since they were used: their counts no longer have a place.
      const run = space.find(at) ? Math.min(left, space.foundRun) : 1;
      if (space.find(at)) {
        this.sink.counts(process, space.foundMapping, space.foundPage, run, reads, writes);
      }
      at += run;
      left -= run;
    }
  }

  note(text: string): void {
    this.summary.notes.push(text);
  }

  progress(nrAccesses: number, nrTouches: number, tick: number): void {
    this.summary.nrAccesses = nrAccesses;
    this.summary.nrTouches = nrTouches;
    this.summary.nrInstructions = tick;
    this.onProgress();
  }

  failed(text: string): void {
    this.summary.failure = text;
  }

  end(tick: number, status: number, wasAsked: boolean): void {
    this.beforeEvent();
    this.summary.tick = Math.max(this.summary.tick, tick);
    this.summary.status = status;
    this.summary.wasAsked = wasAsked;
  }

  /** Tells what is pending: the image, and the time if it moved on. */
  private beforeEvent(): void {
    if (this.pieces.length > 0) this.flushImage();
    if (this.summary.tick > this.toldTick) {
      this.toldTick = this.summary.tick;
      this.sink.time(this.toldTick);
    }
  }

  private flushImage(): void {
    const pieces = this.pieces;
    this.pieces = [];
    const state = this.living.get(pieces[0].process);
    if (state !== undefined) tellImage(state, this.numbers, pieces, this.sink);
  }
}
