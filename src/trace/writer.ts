/**
 * The writer of recordings: a TraceSink that encodes what it is told into blocks and hands out their bytes.
 *
 * Entry: createTraceWriter. The bytes handed out, one after the other, are the file of docs/trace-format.md.
 * Owns:  the open block's columns and the registers; a block is handed out when it is full, so memory is bounded.
 * Holds: what it is told keeps the order rules of validate.ts; it asserts only what it could not encode.
 */

import { assert } from "../base/assert.ts";
import { ColumnWriter } from "./column.ts";
import { crc32 } from "./crc32.ts";
import {
  ACCESS_NEW_MAPPING,
  ACCESS_WRITES,
  BACKING_KINDS,
  BLOCK_END,
  BLOCK_HEADER,
  BLOCK_HEADER_SIZE,
  BLOCK_RECORDS,
  BLOCK_TRAILER_SIZE,
  type BlockCodec,
  CODEC_NUMBERS,
  COLUMN_NAMES,
  COUNTS_HAS_GAP,
  COUNTS_HAS_LENGTH,
  COUNTS_HAS_VALUES,
  COUNTS_NEW_MAPPING,
  FILE_HEADER_SIZE,
  LIMITS,
  LOCK_KINDS,
  MAGIC,
  MAJOR_VERSION,
  MAP_FLAGS,
  MINOR_VERSION,
  OP,
  PLACEMENT_KINDS,
  PROCESS_STARTS,
  slotOf,
  TOUCH_HAS_GAP,
  TOUCH_HAS_LENGTH,
  TOUCH_NEW_MAPPING,
  TOUCH_WRITES,
} from "./format.ts";
import { encodeHeader } from "./header-json.ts";
import { Predictor } from "./predictor.ts";
import type { MapCall, PageRange, ProcessStart, TraceHeader, TraceSink } from "./trace-sink.ts";

/** A sink that gives the recording's bytes to `emit`, block by block; the last ones when `end` is called. */
export function createTraceWriter(emit: (chunk: Uint8Array) => void, codec: BlockCodec): TraceSink {
  return new TraceWriter(emit, codec);
}

/** A touch or access that the next call may still extend. */
const PENDING_NONE = 0;
const PENDING_TOUCH = 1;
const PENDING_ACCESS = 2;

/** A pending record and the one after it, each with the change of a register. */
const MOST_OPS_AT_ONCE = 4;

class TraceWriter implements TraceSink {
  private readonly emit: (chunk: Uint8Array) => void;
  private readonly codec: BlockCodec;
  private readonly known = new Predictor();
  /** Number of each path written before. */
  private readonly paths = new Map<string, number>();
  private sequence = 0;
  private nrRecords = 0;
  private nrBlockRecords = 0;

  private readonly ops = new ColumnWriter();
  private readonly cold = new ColumnWriter();
  private readonly timeColumn = new ColumnWriter();
  private readonly threadColumn = new ColumnWriter();
  private readonly touchMapping = new ColumnWriter();
  private readonly touchGap = new ColumnWriter();
  private readonly touchLength = new ColumnWriter();
  private readonly countsMapping = new ColumnWriter();
  private readonly countsGap = new ColumnWriter();
  private readonly countsLength = new ColumnWriter();
  private readonly countsReads = new ColumnWriter();
  private readonly countsWrites = new ColumnWriter();
  private readonly accessMapping = new ColumnWriter();
  private readonly accessStep = new ColumnWriter();
  private readonly accessCount = new ColumnWriter();
  /** In the order of COLUMN_NAMES. */
  private readonly columns = [
    this.ops,
    this.cold,
    this.timeColumn,
    this.threadColumn,
    this.touchMapping,
    this.touchGap,
    this.touchLength,
    this.countsMapping,
    this.countsGap,
    this.countsLength,
    this.countsReads,
    this.countsWrites,
    this.accessMapping,
    this.accessStep,
    this.accessCount,
  ];

  private pending = PENDING_NONE;
  private pendingThread = 0;
  private pendingMapping = 0;
  private pendingPage = 0;
  /** Pages of a touch, accesses of an access. */
  private pendingCount = 0;
  private pendingWrites = false;

  constructor(emit: (chunk: Uint8Array) => void, codec: BlockCodec) {
    assert(this.columns.length === COLUMN_NAMES.length, "a column of the format is not written");
    this.emit = emit;
    this.codec = codec;
  }

  begin(header: TraceHeader): void {
    const fileHeader = new Uint8Array(FILE_HEADER_SIZE);
    const view = new DataView(fileHeader.buffer);
    fileHeader.set(MAGIC);
    view.setUint16(8, MAJOR_VERSION, true);
    view.setUint16(10, MINOR_VERSION, true);
    view.setUint32(12, crc32(fileHeader, 0, 12), true);
    this.emit(fileHeader);
    this.writeBlock(BLOCK_HEADER, encodeHeader(header));
  }

  time(tick: number): void {
    this.op(OP.time);
    this.timeColumn.unsigned(tick - this.known.tick);
    this.known.tick = tick;
  }

  process(process: number, parent: number, how: ProcessStart): void {
    assert(process === this.known.nrProcesses, "processes are announced in the order of their ids");
    this.known.nrProcesses++;
    this.op(OP.process);
    this.cold.unsigned(parent + 1);
    this.cold.unsigned(PROCESS_STARTS.indexOf(how));
  }

  exec(process: number): void {
    this.op(OP.exec);
    this.cold.unsigned(process);
  }

  thread(thread: number, process: number): void {
    this.op(OP.thread);
    this.cold.unsigned(thread);
    this.cold.unsigned(process);
  }

  threadExit(thread: number): void {
    this.op(OP.threadExit);
    this.cold.unsigned(thread);
  }

  exit(process: number, status: number): void {
    this.op(OP.exit);
    this.cold.unsigned(process);
    this.cold.unsigned(status);
  }

  map(process: number, call: MapCall): void {
    this.op(OP.map);
    const mapping = this.known.addMapping();
    assert(call.mapping === mapping, "mappings are announced in the order of their numbers");
    let bits = call.prot | (call.isShared ? 8 : 0);
    for (const flag of call.flags) bits |= 16 << MAP_FLAGS.indexOf(flag);

    const { backing, placement } = call;
    this.cold.unsigned(process);
    this.cold.unsigned(call.nrPages);
    this.cold.unsigned(bits);
    this.cold.byte(
      BACKING_KINDS.indexOf(backing.kind) | (PLACEMENT_KINDS.indexOf(placement.kind) << 4),
    );
    if (backing.kind === "file") {
      this.path(backing.path);
      this.cold.unsigned(backing.firstPage);
    }
    if (placement.kind === "hint") this.cold.unsigned(placement.address);
    if (placement.kind === "image") this.cold.signed(placement.offsetPages);
    if (placement.kind === "at") {
      this.cold.unsigned(placement.mapping);
      this.cold.signed(placement.page);
    }
  }

  unmap(process: number, range: PageRange): void {
    this.op(OP.unmap);
    this.range(process, range);
  }

  protect(process: number, range: PageRange, prot: number): void {
    this.op(OP.protect);
    this.range(process, range);
    this.cold.unsigned(prot);
  }

  remap(process: number, range: PageRange, to: number, nrPages: number, dontUnmap: boolean): void {
    this.op(OP.remap);
    const moves = to !== range.mapping;
    if (moves) {
      const mapping = this.known.addMapping();
      assert(to === mapping, "mappings are announced in the order of their numbers");
    }
    this.range(process, range);
    this.cold.unsigned(nrPages);
    this.cold.byte((moves ? 1 : 0) | (dontUnmap ? 2 : 0));
  }

  brk(process: number, mapping: number, nrPages: number): void {
    this.op(OP.brk);
    this.cold.unsigned(process);
    this.cold.unsigned(mapping);
    this.cold.unsigned(nrPages);
  }

  advise(process: number, range: PageRange, advice: number, result: number): void {
    this.op(OP.advise);
    this.range(process, range);
    this.cold.unsigned(advice);
    this.cold.unsigned(-result);
  }

  lock(process: number, range: PageRange, how: "lock" | "onFault" | "unlock"): void {
    this.op(OP.lock);
    this.range(process, range);
    this.cold.unsigned(LOCK_KINDS.indexOf(how));
  }

  prctlThpDisable(process: number, value: number, flags: number): void {
    this.op(OP.prctlThpDisable);
    this.cold.unsigned(process);
    this.cold.unsigned(value);
    this.cold.unsigned(flags);
  }

  touch(thread: number, mapping: number, page: number, nrPages: number, isWrite: boolean): void {
    if (
      this.pending === PENDING_TOUCH &&
      mapping === this.pendingMapping &&
      page === this.pendingPage + this.pendingCount &&
      isWrite === this.pendingWrites &&
      thread === this.pendingThread
    ) {
      this.pendingCount += nrPages;
      return;
    }
    this.setPending(PENDING_TOUCH, thread, mapping, page, nrPages, isWrite);
  }

  counts(
    process: number,
    mapping: number,
    page: number,
    nrPages: number,
    reads: number,
    writes: number,
  ): void {
    this.prepare();
    const known = this.known;
    assert(mapping < known.nrMappings, "counts of a mapping that was not announced");
    if (process !== known.process) {
      this.rawOp(OP.setProcess);
      this.cold.unsigned(process);
      known.process = process;
      known.countsEnd = 0;
    }
    let op = OP.counts as number;
    if (mapping !== known.countsMapping) {
      op |= COUNTS_NEW_MAPPING;
      this.countsMapping.unsigned(mapping);
      known.countsMapping = mapping;
      known.countsEnd = 0;
    }
    if (page !== known.countsEnd) {
      op |= COUNTS_HAS_GAP;
      this.countsGap.signed(page - known.countsEnd);
    }
    if (nrPages !== 1) {
      op |= COUNTS_HAS_LENGTH;
      this.countsLength.unsigned(nrPages);
    }
    if (reads !== known.countsReads || writes !== known.countsWrites) {
      op |= COUNTS_HAS_VALUES;
      this.countsReads.unsigned(reads);
      this.countsWrites.unsigned(writes);
      known.countsReads = reads;
      known.countsWrites = writes;
    }
    known.countsEnd = page + nrPages;
    this.rawOp(op);
  }

  windowBegin(thread: number): void {
    this.op(OP.windowBegin);
    this.cold.unsigned(thread);
  }

  access(thread: number, mapping: number, page: number, count: number, isWrite: boolean): void {
    if (
      page === this.pendingPage &&
      this.pending === PENDING_ACCESS &&
      mapping === this.pendingMapping &&
      thread === this.pendingThread
    ) {
      this.pendingCount += count;
      this.pendingWrites ||= isWrite;
      return;
    }
    this.setPending(PENDING_ACCESS, thread, mapping, page, count, isWrite);
  }

  windowEnd(thread: number, nrRepresented: number): void {
    this.op(OP.windowEnd);
    this.cold.unsigned(thread);
    this.cold.unsigned(nrRepresented);
  }

  end(tick: number): void {
    this.prepare();
    this.closeBlock();
    const totals = new ColumnWriter();
    totals.unsigned(tick);
    totals.unsigned(this.nrRecords);
    totals.unsigned(this.sequence + 1);
    this.writeBlock(BLOCK_END, totals.bytes.subarray(0, totals.length));
  }

  private range(process: number, range: PageRange): void {
    this.cold.unsigned(process);
    this.cold.unsigned(range.mapping);
    this.cold.unsigned(range.page);
    this.cold.unsigned(range.nrPages);
  }

  /** The number of a path seen before, or the next number and the path. */
  private path(path: string): void {
    const number = this.paths.get(path);
    if (number !== undefined) return this.cold.unsigned(number);
    this.cold.unsigned(this.paths.size);
    this.paths.set(path, this.paths.size);
    const bytes = new TextEncoder().encode(path);
    assert(bytes.length <= LIMITS.pathBytes, "a path is longer than the format allows");
    assert(this.paths.size <= LIMITS.paths, "more paths than the format allows");
    this.cold.counted(bytes);
  }

  private setPending(
    kind: number,
    thread: number,
    mapping: number,
    page: number,
    count: number,
    isWrite: boolean,
  ): void {
    assert(mapping < this.known.nrMappings, "a page of a mapping that was not announced");
    this.prepare();
    this.pending = kind;
    this.pendingThread = thread;
    this.pendingMapping = mapping;
    this.pendingPage = page;
    this.pendingCount = count;
    this.pendingWrites = isWrite;
  }

  /** To be called before a record's first column is written: records do not straddle blocks. */
  private prepare(): void {
    if (this.pending !== PENDING_NONE) this.writePending();
    const isFull =
      this.nrBlockRecords >= LIMITS.blockRecords - MOST_OPS_AT_ONCE ||
      this.cold.length >= LIMITS.coldBytes;
    if (isFull) this.closeBlock();
  }

  private writePending(): void {
    const kind = this.pending;
    this.pending = PENDING_NONE;
    if (this.pendingThread !== this.known.thread) {
      this.rawOp(OP.setThread);
      this.threadColumn.unsigned(this.pendingThread);
      this.known.thread = this.pendingThread;
    }
    if (kind === PENDING_TOUCH) this.writeTouch();
    else this.writeAccess();
  }

  private writeTouch(): void {
    const known = this.known;
    const mapping = this.pendingMapping;
    let op = OP.touch | (this.pendingWrites ? TOUCH_WRITES : 0);
    if (mapping !== known.touchMapping) {
      op |= TOUCH_NEW_MAPPING;
      this.touchMapping.unsigned(mapping);
      known.touchMapping = mapping;
    }
    const ends = this.pendingWrites ? known.writeEnd : known.readEnd;
    if (this.pendingPage !== ends[mapping]) {
      op |= TOUCH_HAS_GAP;
      this.touchGap.signed(this.pendingPage - ends[mapping]);
    }
    if (this.pendingCount !== 1) {
      op |= TOUCH_HAS_LENGTH;
      this.touchLength.unsigned(this.pendingCount);
    }
    ends[mapping] = this.pendingPage + this.pendingCount;
    this.rawOp(op);
  }

  private writeAccess(): void {
    const known = this.known;
    const mapping = this.pendingMapping;
    const page = this.pendingPage;
    const slot = slotOf(mapping, page);
    this.accessCount.unsigned(this.pendingCount - 1);
    if (known.slotPage[slot] === page && known.slotMapping[slot] === mapping) {
      this.rawOp(OP.slot | (slot << 1) | (this.pendingWrites ? 1 : 0));
      return;
    }
    known.slotPage[slot] = page;
    known.slotMapping[slot] = mapping;
    let op = OP.access | (this.pendingWrites ? ACCESS_WRITES : 0);
    if (mapping !== known.accessMapping) {
      op |= ACCESS_NEW_MAPPING;
      this.accessMapping.unsigned(mapping);
      known.accessMapping = mapping;
    }
    this.accessStep.signed(page - known.accessPage[mapping]);
    known.accessPage[mapping] = page;
    this.rawOp(op);
  }

  /** Starts a cold record; what was pending comes before it. */
  private op(code: number): void {
    this.prepare();
    this.rawOp(code);
  }

  private rawOp(code: number): void {
    this.ops.byte(code);
    this.nrBlockRecords++;
  }

  private closeBlock(): void {
    if (this.nrBlockRecords === 0) return;
    const head = new ColumnWriter();
    head.unsigned(this.nrBlockRecords);
    for (const column of this.columns) head.unsigned(column.length);
    let size = head.length;
    for (const column of this.columns) size += column.length;

    const raw = new Uint8Array(size);
    raw.set(head.bytes.subarray(0, head.length));
    let at = head.length;
    for (const column of this.columns) {
      raw.set(column.bytes.subarray(0, column.length), at);
      at += column.length;
      column.length = 0;
    }
    this.nrRecords += this.nrBlockRecords;
    this.nrBlockRecords = 0;
    this.writeBlock(BLOCK_RECORDS, raw);
  }

  /** Hands out one block; stored as it is where compression does not make it smaller. */
  private writeBlock(kind: number, raw: Uint8Array): void {
    assert(raw.length <= LIMITS.blockSize, "a block is larger than the format allows");
    const packed = this.codec.compress(raw);
    const isPacked = packed.length < raw.length;
    const stored = isPacked ? packed : raw;

    const bytes = new Uint8Array(BLOCK_HEADER_SIZE + stored.length + BLOCK_TRAILER_SIZE);
    const view = new DataView(bytes.buffer);
    view.setUint8(0, kind);
    view.setUint8(1, isPacked ? CODEC_NUMBERS[this.codec.name] : CODEC_NUMBERS.none);
    view.setUint32(4, this.sequence++, true);
    view.setUint32(8, stored.length, true);
    view.setUint32(12, raw.length, true);
    view.setUint32(16, crc32(bytes, 0, 16), true);
    bytes.set(stored, BLOCK_HEADER_SIZE);
    view.setUint32(BLOCK_HEADER_SIZE + stored.length, crc32(stored, 0, stored.length), true);
    this.emit(bytes);
  }
}
