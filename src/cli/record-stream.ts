/**
 * The recorder's raw stream as calls: bytes in, one call per event out.
 *
 * Entry: RawStreamDecoder.push, for each chunk as it comes; an event may lie across chunks.
 * Owns:  the bytes of an event that is not yet complete (at most one event, under 200 kB) and the running page number.
 * Units: pages are absolute addresses in 4 KiB; ticks are instructions. Numbers of 64 bits lose their low bits from 2^53 on.
 * Errors: RawStreamDamage at an event number that does not exist.
 *
 * native/recorder/stream.c writes what is read here; docs/recording.md lists the events.
 */

/** What stands behind a piece of the program's first image. */
export type ImageKind = "file" | "anonymous" | "stack";

/** A batch of accesses in order; the arrays are the decoder's and change with the next batch. */
export interface AccessBatch {
  readonly length: number;
  /** Absolute page of each entry. */
  readonly pages: Float64Array;
  /** Consecutive accesses of the page. */
  readonly counts: Float64Array;
  /** 1 if any of them writes. */
  readonly writes: Uint8Array;
}

/** Receives the events in the recorder's order. */
export interface RawSink {
  time(delta: number): void;
  process(process: number, parent: number, how: "exec" | "fork" | "vfork"): void;
  exec(process: number, path: string): void;
  thread(thread: number, process: number): void;
  threadExit(thread: number): void;
  exit(process: number, status: number): void;
  image(piece: ImagePiece): void;
  syscall(call: RawSyscall): void;
  touch(thread: number, isWrite: boolean, page: number, nrPages: number): void;
  windowBegin(thread: number): void;
  accesses(thread: number, batch: AccessBatch): void;
  windowEnd(thread: number, nrRepresented: number): void;
  counts(process: number, page: number, nrPages: number, reads: number, writes: number): void;
  note(text: string): void;
  progress(nrAccesses: number, nrTouches: number, tick: number): void;
  failed(text: string): void;
  end(tick: number, status: number, wasAsked: boolean): void;
}

/** A piece of memory that was there before the program's first instruction. */
export interface ImagePiece {
  readonly process: number;
  readonly kind: ImageKind;
  readonly page: number;
  readonly nrPages: number;
  readonly prot: number;
  /** Offset in the file, in pages. */
  readonly filePage: number;
  readonly path: string;
}

/** A system call that changes mappings, after it ended. */
export interface RawSyscall {
  readonly process: number;
  readonly thread: number;
  /** x86-64 number. */
  readonly number: number;
  readonly result: number;
  readonly args: readonly number[];
  /** File behind the descriptor of an mmap, else empty. */
  readonly path: string;
}

/** The stream holds what no recorder writes. */
export class RawStreamDamage extends Error {
  override readonly name = "RawStreamDamage";
}

const STARTS = ["exec", "fork", "vfork"] as const;
const KINDS = ["file", "anonymous", "stack"] as const;
const MOST_BATCH = 4096;
const NR_ARGS = 6;

/** Event numbers of native/recorder/control.h. */
const EVENT = {
  time: 1,
  process: 2,
  exec: 3,
  thread: 4,
  threadExit: 5,
  exit: 6,
  image: 7,
  syscall: 8,
  touch: 9,
  windowBegin: 10,
  accesses: 11,
  windowEnd: 12,
  counts: 13,
  note: 14,
  progress: 15,
  failed: 16,
  end: 17,
} as const;

export class RawStreamDecoder {
  private readonly sink: RawSink;
  private bytes: Uint8Array = new Uint8Array(0);
  private at = 0;
  /** Set when an event reads past what is there: it is taken up again with the next chunk. */
  private isShort = false;
  /** Page after the last touch or count: the next one is given relative to it. */
  private lastPage = 0;
  private offset = 0;
  private readonly text = new TextDecoder();
  private readonly batch = {
    length: 0,
    pages: new Float64Array(MOST_BATCH),
    counts: new Float64Array(MOST_BATCH),
    writes: new Uint8Array(MOST_BATCH),
  };

  constructor(sink: RawSink) {
    this.sink = sink;
  }

  /** Hands out all events that are complete with these bytes. */
  push(chunk: Uint8Array): void {
    this.append(chunk);
    for (;;) {
      const start = this.at;
      this.isShort = this.at >= this.bytes.length;
      if (!this.isShort) this.event();
      if (this.isShort) {
        this.at = start;
        return;
      }
    }
  }

  /** True if no event is half read. */
  isAtEventEnd(): boolean {
    return this.at === this.bytes.length;
  }

  private append(chunk: Uint8Array): void {
    this.offset += this.at;
    if (this.at === this.bytes.length) {
      this.bytes = chunk;
    } else {
      const rest = this.bytes.length - this.at;
      const joined = new Uint8Array(rest + chunk.length);
      joined.set(this.bytes.subarray(this.at));
      joined.set(chunk, rest);
      this.bytes = joined;
    }
    this.at = 0;
  }

  private event(): void {
    const sink = this.sink;
    const event = this.bytes[this.at++];
    switch (event) {
      case EVENT.time: {
        const delta = this.unsigned();
        if (!this.isShort) sink.time(delta);
        return;
      }
      case EVENT.touch:
        return this.touch();
      case EVENT.accesses:
        return this.accesses();
      case EVENT.counts:
        return this.counts();
      case EVENT.syscall:
        return this.syscall();
      case EVENT.image:
        return this.image();
      case EVENT.process: {
        const [process, parent, how] = [this.unsigned(), this.unsigned() - 1, this.unsigned()];
        if (!this.isShort) sink.process(process, parent, this.word(STARTS, how));
        return;
      }
      case EVENT.exec: {
        const [process, path] = [this.unsigned(), this.string()];
        if (!this.isShort) sink.exec(process, path);
        return;
      }
      case EVENT.thread: {
        const [thread, process] = [this.unsigned(), this.unsigned()];
        if (!this.isShort) sink.thread(thread, process);
        return;
      }
      default:
        return this.rareEvent(event);
    }
  }

  private rareEvent(event: number): void {
    const sink = this.sink;
    if (event === EVENT.note || event === EVENT.failed) {
      const text = this.string();
      if (this.isShort) return;
      if (event === EVENT.note) sink.note(text);
      else sink.failed(text);
      return;
    }
    const isSingle = event === EVENT.threadExit || event === EVENT.windowBegin;
    const isDouble = event === EVENT.exit || event === EVENT.windowEnd;
    const isTriple = event === EVENT.progress || event === EVENT.end;
    if (!isSingle && !isDouble && !isTriple) this.refuse(`event ${event}`);
    const first = this.unsigned();
    const second = isSingle ? 0 : this.unsigned();
    const third = isTriple ? this.unsigned() : 0;
    if (this.isShort) return;
    if (event === EVENT.threadExit) sink.threadExit(first);
    else if (event === EVENT.windowBegin) sink.windowBegin(first);
    else if (event === EVENT.exit) sink.exit(first, second);
    else if (event === EVENT.windowEnd) sink.windowEnd(first, second);
    else if (event === EVENT.progress) sink.progress(first, second, third);
    else sink.end(first, second, third !== 0);
  }

  private touch(): void {
    const who = this.unsigned();
    const step = this.signed();
    const nrPages = this.unsigned();
    if (this.isShort) return;
    const page = this.lastPage + step;
    this.lastPage = page + nrPages;
    this.sink.touch(Math.floor(who / 2), who % 2 === 1, page, nrPages);
  }

  private counts(): void {
    const process = this.unsigned();
    const step = this.signed();
    const nrPages = this.unsigned();
    const reads = this.unsigned();
    const writes = this.unsigned();
    if (this.isShort) return;
    const page = this.lastPage + step;
    this.lastPage = page + nrPages;
    this.sink.counts(process, page, nrPages, reads, writes);
  }

  private accesses(): void {
    const thread = this.unsigned();
    const length = this.unsigned();
    const { pages, counts, writes } = this.batch;
    if (length > MOST_BATCH) this.refuse(`a batch of ${length} accesses`);
    let page = 0;
    for (let i = 0; i < length && !this.isShort; i++) {
      page += this.signed();
      const count = this.unsigned();
      pages[i] = page;
      counts[i] = Math.floor(count / 2);
      writes[i] = count % 2;
    }
    if (this.isShort) return;
    this.batch.length = length;
    this.sink.accesses(thread, this.batch);
  }

  private syscall(): void {
    const process = this.unsigned();
    const thread = this.unsigned();
    const number = this.unsigned();
    const result = this.signed();
    const args: number[] = [];
    for (let i = 0; i < NR_ARGS; i++) args.push(this.unsigned());
    const path = this.string();
    if (this.isShort) return;
    this.sink.syscall({ process, thread, number, result, args, path });
  }

  private image(): void {
    const process = this.unsigned();
    const kind = this.unsigned();
    const page = this.unsigned();
    const nrPages = this.unsigned();
    const prot = this.unsigned();
    const filePage = this.unsigned();
    const path = this.string();
    if (this.isShort) return;
    this.sink.image({
      process,
      kind: this.word(KINDS, kind),
      page,
      nrPages,
      prot,
      filePage,
      path,
    });
  }

  /** LEB128: seven bits a byte, low ones first. */
  private unsigned(): number {
    const bytes = this.bytes;
    let value = 0;
    let unit = 1;
    for (;;) {
      if (this.at >= bytes.length) {
        this.isShort = true;
        return 0;
      }
      const byte = bytes[this.at++];
      if (byte < 128) return value + byte * unit;
      value += (byte - 128) * unit;
      unit *= 128;
    }
  }

  /** Zigzag: 0, -1, 1, -2, ... */
  private signed(): number {
    const value = this.unsigned();
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  }

  private string(): string {
    const size = this.unsigned();
    if (this.at + size > this.bytes.length) this.isShort = true;
    if (this.isShort) return "";
    const text = this.text.decode(this.bytes.subarray(this.at, this.at + size));
    this.at += size;
    return text;
  }

  private word<T extends string>(words: readonly T[], index: number): T {
    if (index >= words.length) this.refuse(`choice ${index} of ${words.join(", ")}`);
    return words[index];
  }

  private refuse(found: string): never {
    throw new RawStreamDamage(`recorder stream, byte ${this.offset + this.at}: ${found}`);
  }
}
