/**
 * From the columns of a records block back to calls of a TraceSink.
 *
 * Entry: RecordDecoder.decode, once per block, in order.
 * Owns:  the registers and the table of paths, which go on from block to block.
 * Holds: damage is a ColumnDamage with what was found and wanted; whether the records make sense together is for the
 *        sink (validate.ts). Hot records allocate nothing.
 */

import { ColumnDamage, ColumnReader } from "./column.ts";
import {
  ACCESS_NEW_MAPPING,
  ACCESS_WRITES,
  BACKING_KINDS,
  COLUMN_NAMES,
  COUNTS_HAS_GAP,
  COUNTS_HAS_LENGTH,
  COUNTS_HAS_VALUES,
  COUNTS_NEW_MAPPING,
  LIMITS,
  LOCK_KINDS,
  MAP_FLAGS,
  OP,
  PLACEMENT_KINDS,
  PROCESS_STARTS,
  slotOf,
  TOUCH_HAS_GAP,
  TOUCH_HAS_LENGTH,
  TOUCH_NEW_MAPPING,
  TOUCH_WRITES,
} from "./format.ts";
import { Predictor } from "./predictor.ts";
import type { Backing, PageRange, Placement, TraceSink } from "./trace-sink.ts";

export class RecordDecoder {
  /** Records decoded so far, whole recording. */
  nrRecords = 0;
  /** Which record of the block is being decoded, from 0. */
  recordInBlock = 0;

  private readonly sink: TraceSink;
  private readonly known = new Predictor();
  private readonly paths: string[] = [];
  private readonly columns = COLUMN_NAMES.map((name) => new ColumnReader(name));
  private readonly ops = this.column("ops");
  private readonly cold = this.column("cold");
  private readonly timeColumn = this.column("time");
  private readonly threadColumn = this.column("thread");
  private readonly touchMapping = this.column("touchMapping");
  private readonly touchGap = this.column("touchGap");
  private readonly touchLength = this.column("touchLength");
  private readonly countsMapping = this.column("countsMapping");
  private readonly countsGap = this.column("countsGap");
  private readonly countsLength = this.column("countsLength");
  private readonly countsReads = this.column("countsReads");
  private readonly countsWrites = this.column("countsWrites");
  private readonly accessMapping = this.column("accessMapping");
  private readonly accessStep = this.column("accessStep");
  private readonly accessCount = this.column("accessCount");

  constructor(sink: TraceSink) {
    this.sink = sink;
  }

  /** Tick of the last time record. */
  get tick(): number {
    return this.known.tick;
  }

  /** Decodes one raw records block. */
  decode(raw: Uint8Array): void {
    this.recordInBlock = 0;
    const nrRecords = this.openColumns(raw);
    for (let i = 0; i < nrRecords; i++) {
      this.recordInBlock = i;
      const op = this.ops.byte();
      if (op >= OP.slot) this.slotAccess(op);
      else if (op >= OP.touch) this.touch(op);
      else if (op >= OP.counts) this.counts(op);
      else if (op >= OP.access) this.access(op);
      else this.coldRecord(op);
    }
    this.nrRecords += nrRecords;
    for (const column of this.columns) {
      if (column.left !== 0) {
        throw new ColumnDamage(
          `${column.left} bytes left in column ${column.name}`,
          "every column used up by the block's records",
        );
      }
    }
  }

  /** Reads the block's head: the number of records, which it gives, and the columns' lengths. */
  private openColumns(raw: Uint8Array): number {
    const head = new ColumnReader("lengths");
    head.open(raw, 0, raw.length);
    const nrRecords = head.unsigned();
    if (nrRecords === 0 || nrRecords > LIMITS.blockRecords) {
      throw new ColumnDamage(`a block of ${nrRecords} records`, `1 to ${LIMITS.blockRecords}`);
    }
    const lengths = this.columns.map(() => head.unsigned());
    let at = raw.length - head.left;
    for (const [i, column] of this.columns.entries()) {
      const end = at + lengths[i];
      if (end > raw.length) break;
      column.open(raw, at, end);
      at = end;
    }
    const total = lengths.reduce((sum, length) => sum + length, 0);
    if (total !== head.left) {
      throw new ColumnDamage(`columns of ${total} bytes`, `the block's ${head.left}`);
    }
    return nrRecords;
  }

  private slotAccess(op: number): void {
    const known = this.known;
    const slot = (op >> 1) & 63;
    const mapping = known.slotMapping[slot];
    if (mapping < 0) throw new ColumnDamage(`an access by the empty slot ${slot}`, "a filled slot");
    const count = this.accessCount.unsigned() + 1;
    this.sink.access(known.thread, mapping, known.slotPage[slot], count, (op & 1) !== 0);
  }

  private access(op: number): void {
    const known = this.known;
    if (op > (OP.access | ACCESS_WRITES | ACCESS_NEW_MAPPING)) this.unknownOp(op);
    if (op & ACCESS_NEW_MAPPING) known.accessMapping = this.accessMapping.unsigned();
    const mapping = this.announced(known.accessMapping);
    const page = known.accessPage[mapping] + this.accessStep.signed();
    const count = this.accessCount.unsigned() + 1;
    known.accessPage[mapping] = page;
    const slot = slotOf(mapping, page);
    known.slotPage[slot] = page;
    known.slotMapping[slot] = mapping;
    this.sink.access(known.thread, mapping, page, count, (op & ACCESS_WRITES) !== 0);
  }

  private touch(op: number): void {
    const known = this.known;
    if (op >= OP.touch + 16) this.unknownOp(op);
    if (op & TOUCH_NEW_MAPPING) known.touchMapping = this.touchMapping.unsigned();
    const mapping = this.announced(known.touchMapping);
    const isWrite = (op & TOUCH_WRITES) !== 0;
    const ends = isWrite ? known.writeEnd : known.readEnd;
    const page = ends[mapping] + (op & TOUCH_HAS_GAP ? this.touchGap.signed() : 0);
    const nrPages = op & TOUCH_HAS_LENGTH ? this.touchLength.unsigned() : 1;
    ends[mapping] = page + nrPages;
    this.sink.touch(known.thread, mapping, page, nrPages, isWrite);
  }

  private counts(op: number): void {
    const known = this.known;
    if (op & COUNTS_NEW_MAPPING) {
      known.countsMapping = this.countsMapping.unsigned();
      known.countsEnd = 0;
    }
    const mapping = this.announced(known.countsMapping);
    const page = known.countsEnd + (op & COUNTS_HAS_GAP ? this.countsGap.signed() : 0);
    const nrPages = op & COUNTS_HAS_LENGTH ? this.countsLength.unsigned() : 1;
    if (op & COUNTS_HAS_VALUES) {
      known.countsReads = this.countsReads.unsigned();
      known.countsWrites = this.countsWrites.unsigned();
    }
    known.countsEnd = page + nrPages;
    const { process, countsReads, countsWrites } = known;
    this.sink.counts(process, mapping, page, nrPages, countsReads, countsWrites);
  }

  private coldRecord(op: number): void {
    const { sink, cold, known } = this;
    switch (op) {
      case OP.time:
        known.tick += this.timeColumn.unsigned();
        return sink.time(known.tick);
      case OP.setThread:
        known.thread = this.threadColumn.unsigned();
        return;
      case OP.setProcess:
        known.process = cold.unsigned();
        known.countsEnd = 0;
        return;
      case OP.process: {
        const parent = cold.unsigned() - 1;
        return sink.process(known.nrProcesses++, parent, this.word(PROCESS_STARTS, "start"));
      }
      case OP.exec:
        return sink.exec(cold.unsigned());
      case OP.thread: {
        const thread = cold.unsigned();
        return sink.thread(thread, cold.unsigned());
      }
      case OP.threadExit:
        return sink.threadExit(cold.unsigned());
      case OP.exit: {
        const process = cold.unsigned();
        return sink.exit(process, cold.unsigned());
      }
      case OP.windowBegin:
        return sink.windowBegin(cold.unsigned());
      case OP.windowEnd: {
        const thread = cold.unsigned();
        return sink.windowEnd(thread, cold.unsigned());
      }
      default:
        return this.memoryRecord(op);
    }
  }

  private memoryRecord(op: number): void {
    const { sink, cold } = this;
    const process = cold.unsigned();
    switch (op) {
      case OP.map:
        return this.map(process);
      case OP.unmap:
        return sink.unmap(process, this.range());
      case OP.protect: {
        const range = this.range();
        return sink.protect(process, range, cold.unsigned());
      }
      case OP.remap:
        return this.remap(process);
      case OP.brk: {
        const mapping = cold.unsigned();
        return sink.brk(process, mapping, cold.unsigned());
      }
      case OP.advise: {
        const range = this.range();
        const advice = cold.unsigned();
        return sink.advise(process, range, advice, 0 - cold.unsigned());
      }
      case OP.lock: {
        const range = this.range();
        return sink.lock(process, range, this.word(LOCK_KINDS, "kind of lock"));
      }
      case OP.prctlThpDisable: {
        const value = cold.unsigned();
        return sink.prctlThpDisable(process, value, cold.unsigned());
      }
      default:
        return this.unknownOp(op);
    }
  }

  private map(process: number): void {
    const { cold } = this;
    const nrPages = cold.unsigned();
    const bits = cold.unsigned();
    if (bits > 255) throw new ColumnDamage(`protection and flags ${bits}`, "eight bits");
    const kinds = cold.byte();
    const backing = this.backing(kinds & 15);
    const placement = this.placement(kinds >> 4);
    const mapping = this.newMapping();
    this.sink.map(process, {
      mapping,
      nrPages,
      prot: bits & 7,
      isShared: (bits & 8) !== 0,
      backing,
      placement,
      flags: MAP_FLAGS.filter((_, i) => (bits & (16 << i)) !== 0),
    });
  }

  private backing(number: number): Backing {
    const kind = BACKING_KINDS[number];
    if (kind === undefined) throw new ColumnDamage(`backing ${number}`, "0 to 3");
    if (kind !== "file") return { kind };
    const path = this.path();
    return { kind, path, firstPage: this.cold.unsigned() };
  }

  private placement(number: number): Placement {
    const { cold } = this;
    const kind = PLACEMENT_KINDS[number];
    if (kind === undefined) throw new ColumnDamage(`placement ${number}`, "0 to 3");
    if (kind === "any") return { kind };
    if (kind === "hint") return { kind, address: cold.unsigned() };
    if (kind === "image") return { kind, offsetPages: cold.signed() };
    const mapping = cold.unsigned();
    return { kind, mapping, page: cold.signed() };
  }

  private path(): string {
    const number = this.cold.unsigned();
    if (number < this.paths.length) return this.paths[number];
    if (number > this.paths.length || number >= LIMITS.paths) {
      throw new ColumnDamage(`path ${number}`, `at most ${this.paths.length}, the next new one`);
    }
    const bytes = this.cold.counted(LIMITS.pathBytes);
    const path = new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
    this.paths.push(path);
    return path;
  }

  private remap(process: number): void {
    const range = this.range();
    const nrPages = this.cold.unsigned();
    const bits = this.cold.byte();
    if (bits > 3) throw new ColumnDamage(`remap bits ${bits}`, "0 to 3");
    const to = bits & 1 ? this.newMapping() : range.mapping;
    this.sink.remap(process, range, to, nrPages, (bits & 2) !== 0);
  }

  private range(): PageRange {
    const mapping = this.cold.unsigned();
    const page = this.cold.unsigned();
    return { mapping, page, nrPages: this.cold.unsigned() };
  }

  private word<T extends string>(words: readonly T[], what: string): T {
    const number = this.cold.unsigned();
    const word = words[number];
    if (word === undefined) {
      throw new ColumnDamage(`${what} ${number}`, `0 to ${words.length - 1}`);
    }
    return word;
  }

  /** The registers' rows must exist before they are read. */
  private announced(mapping: number): number {
    if (mapping < this.known.nrMappings) return mapping;
    throw new ColumnDamage(
      `mapping ${mapping}`,
      this.known.nrMappings === 0
        ? "a mapping to be announced first"
        : `one announced before, 0 to ${this.known.nrMappings - 1}`,
    );
  }

  private newMapping(): number {
    if (this.known.nrMappings < LIMITS.mappings) return this.known.addMapping();
    throw new ColumnDamage(`more than ${LIMITS.mappings} mappings`, "no more than that");
  }

  private unknownOp(op: number): never {
    throw new ColumnDamage(`operation 0x${op.toString(16)}`, "an operation of format 1");
  }

  private column(name: (typeof COLUMN_NAMES)[number]): ColumnReader {
    return this.columns[COLUMN_NAMES.indexOf(name)];
  }
}
