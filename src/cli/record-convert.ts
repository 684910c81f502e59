/**
 * The recorder's events as a recording: absolute addresses become mappings and pages of them.
 *
 * Entry: RecordConverter, the RawSink in front of a TraceSink whose `begin` was called.
 * Owns:  which processes and threads live; the address book knows their memory.
 * Holds: what it tells keeps the order rules of a TraceSink also where processes are killed half-way: what comes from a
 *        process or thread that is gone is dropped, what falls outside all mappings is counted and dropped.
 */

import { createAddressBook } from "../trace/address-book.ts";
import type { TraceSink } from "../trace/trace-sink.ts";
import { tellImage } from "./record-image.ts";
import type { AccessBatch, ImagePiece, RawSink, RawSyscall } from "./record-stream.ts";
import { tellSyscall } from "./record-syscalls.ts";

/** What the run looked like, for the last line and the header. */
export interface RecordSummary {
  nrAccesses: number;
  nrTouches: number;
  /** Instructions as of the last progress event; for display. */
  nrInstructions: number;
  /** Time of the last event. */
  tick: number;
  nrProcesses: number;
  /** Pages of first touches, and accesses, that no mapping explains. */
  nrUnexplained: number;
  /** As wait gives it: exit code, or 256 + signal; undefined if the recorder did not say. */
  status: number | undefined;
  /** The program was asked to end, by Ctrl-C for one. */
  wasAsked: boolean;
  failure: string | undefined;
  readonly notes: string[];
}

const NOBODY = -1;

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
  private readonly book;
  private readonly onProgress: () => void;
  private readonly living = new Set<number>();
  /** Process of each living thread, NOBODY of others. Rows: thread numbers. */
  private readonly owners: number[] = [];
  private readonly windows = new Set<number>();
  private toldTick = 0;
  /** Image pieces of one process, told together once they are complete. */
  private pieces: ImagePiece[] = [];
  private hasProgram = false;

  constructor(sink: TraceSink, onProgress: () => void) {
    this.sink = sink;
    this.book = createAddressBook(sink);
    this.onProgress = onProgress;
  }

  time(delta: number): void {
    this.summary.tick += delta;
  }

  process(process: number, parent: number, how: "exec" | "fork" | "vfork"): void {
    this.beforeEvent();
    this.living.add(process);
    this.summary.nrProcesses++;
    this.book.start(process, parent, how);
  }

  exec(process: number, _path: string): void {
    this.beforeEvent();
    if (!this.living.has(process)) return;
    // The first process began with its program: an exec record would say it a second time.
    if (this.hasProgram) this.book.exec(process);
    this.hasProgram = true;
  }

  thread(thread: number, process: number): void {
    this.beforeEvent();
    if (!this.living.has(process)) return;
    this.owners[thread] = process;
    this.sink.thread(thread, process);
  }

  threadExit(thread: number): void {
    this.beforeEvent();
    if (this.ownerOf(thread) === NOBODY) return;
    this.forgetThread(thread);
    this.sink.threadExit(thread);
  }

  exit(process: number, status: number): void {
    this.beforeEvent();
    if (!this.living.delete(process)) return;
    for (const [thread, owner] of this.owners.entries()) {
      if (owner === process) this.forgetThread(thread);
    }
    this.book.exit(process, status);
  }

  image(piece: ImagePiece): void {
    this.pieces.push(piece);
  }

  syscall(call: RawSyscall): void {
    this.beforeEvent();
    if (this.living.has(call.process)) tellSyscall(this.book, this.sink, call);
  }

  touch(thread: number, isWrite: boolean, page: number, nrPages: number): void {
    this.beforeEvent();
    const { book, sink } = this;
    const process = this.ownerOf(thread);
    if (process === NOBODY) return;
    for (let at = page; at < page + nrPages; ) {
      let run = 1;
      if (book.find(process, at)) {
        run = Math.min(page + nrPages - at, book.nrFollowing);
        sink.touch(thread, book.mapping, book.page, run, isWrite);
      } else {
        this.summary.nrUnexplained++;
      }
      at += run;
    }
  }

  windowBegin(thread: number): void {
    this.beforeEvent();
    if (this.ownerOf(thread) === NOBODY) return;
    this.windows.add(thread);
    this.sink.windowBegin(thread);
  }

  accesses(thread: number, batch: AccessBatch): void {
    this.beforeEvent();
    const { book, sink } = this;
    const process = this.ownerOf(thread);
    if (process === NOBODY || !this.windows.has(thread)) return;
    const { pages, counts, writes } = batch;
    for (let i = 0; i < batch.length; i++) {
      if (book.find(process, pages[i])) {
        sink.access(thread, book.mapping, book.page, counts[i], writes[i] === 1);
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
    const { book, sink } = this;
    if (!this.living.has(process)) return;
    for (let at = page; at < page + nrPages; ) {
      // What was unmapped since it was used has no place any more for its counts.
      let run = 1;
      if (book.find(process, at)) {
        run = Math.min(page + nrPages - at, book.nrFollowing);
        sink.counts(process, book.mapping, book.page, run, reads, writes);
      }
      at += run;
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

  private ownerOf(thread: number): number {
    return this.owners[thread] ?? NOBODY;
  }

  private forgetThread(thread: number): void {
    this.owners[thread] = NOBODY;
    this.windows.delete(thread);
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
    if (this.living.has(pieces[0].process)) tellImage(this.book, pieces);
  }
}
