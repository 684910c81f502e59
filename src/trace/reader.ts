/**
 * The reader of recordings: takes the file's bytes as they come and calls a TraceSink.
 *
 * Entry: createTraceReader, then push for each chunk of any size, then finish.
 * Owns:  the bytes of the block being assembled (bounded by LIMITS.blockSize) and the decoder.
 * Holds: each block is checked against its CRC before its records are decoded, and each record passes validate.ts before
 *        the sink sees it. Damage, truncation, a foreign or an unknown format is a UsageError with file and byte offset.
 */

import { assert } from "../base/assert.ts";
import { UsageError } from "../base/usage-error.ts";
import { ColumnDamage, ColumnReader } from "./column.ts";
import { crc32 } from "./crc32.ts";
import { foreignFormat } from "./foreign-format.ts";
import {
  BLOCK_END,
  BLOCK_HEADER,
  BLOCK_HEADER_SIZE,
  BLOCK_RECORDS,
  BLOCK_TRAILER_SIZE,
  type BlockCodec,
  CODEC_NUMBERS,
  FILE_HEADER_SIZE,
  LIMITS,
  MAGIC,
  MAJOR_VERSION,
  SKIPPABLE_KIND_BIT,
  STORED_CODEC,
} from "./format.ts";
import { decodeHeader } from "./header-json.ts";
import { RecordDecoder } from "./record-decoder.ts";
import type { TraceSink } from "./trace-sink.ts";
import { createValidatingSink } from "./validate.ts";

export interface TraceReader {
  /** The next bytes of the file, any number of them; not kept after the call. */
  push(chunk: Uint8Array): void;
  /** No more bytes follow: the recording must be complete. */
  finish(): void;
}

/**
 * A reader that calls `sink`. `name` is the file as the user knows it, for messages; `codecs` are what blocks may be
 * compressed with ("none" is always understood). push and finish throw UsageError; after one the reader is of no use.
 */
export function createTraceReader(
  sink: TraceSink,
  name: string,
  codecs: readonly BlockCodec[],
): TraceReader {
  return new BlockReader(sink, name, codecs);
}

/** What the bytes being assembled are. */
type Part = "file header" | "block header" | "block" | "nothing";

class BlockReader implements TraceReader {
  private readonly sink: TraceSink;
  private readonly name: string;
  private readonly codecs: readonly BlockCodec[];
  private readonly decoder: RecordDecoder;

  private part: Part = "file header";
  /** Bytes of the part so far: have of need. */
  private buffer = new Uint8Array(1024);
  private have = 0;
  private need = FILE_HEADER_SIZE;
  /** Offset in the file of the part's first byte. */
  private partOffset = 0;
  private hasFailed = false;

  /** Of the block being read, from its header. */
  private kind = 0;
  private codec = STORED_CODEC;
  private storedSize = 0;
  private rawSize = 0;
  /** Offset of its header, and how many blocks came before. */
  private blockOffset = 0;
  private sequence = 0;
  private hasHeader = false;
  private isDecoding = false;

  constructor(sink: TraceSink, name: string, codecs: readonly BlockCodec[]) {
    this.name = name;
    this.codecs = [STORED_CODEC, ...codecs];
    this.sink = createValidatingSink(sink, () => this.place());
    this.decoder = new RecordDecoder(this.sink);
  }

  push(chunk: Uint8Array): void {
    assert(!this.hasFailed, "a recording is read on after it was found damaged");
    this.hasFailed = true;
    let at = 0;
    while (at < chunk.length) {
      if (this.part === "nothing") this.refuse("more bytes", "the end of the file");
      const take = Math.min(this.need - this.have, chunk.length - at);
      this.keep(chunk, at, take);
      at += take;
      if (this.have === this.need) this.takePart();
      else if (this.part === "file header") this.mustBeMagic();
    }
    this.hasFailed = false;
  }

  finish(): void {
    assert(!this.hasFailed, "a recording is finished after it was found damaged");
    if (this.part === "nothing") return;
    if (this.part === "file header" && this.have === 0) {
      this.refuse("an empty file", "a hugelab recording");
    }
    const end = this.partOffset + this.have;
    const missing =
      this.part === "block header" && this.have === 0
        ? "another block: the recording stops without its end"
        : `${this.need - this.have} more bytes of a ${this.part}: the recording is cut off`;
    throw new UsageError(`${this.name}: byte ${end}`, "the end of the file", missing);
  }

  private keep(chunk: Uint8Array, at: number, nrBytes: number): void {
    const wanted = this.have + nrBytes;
    if (wanted > this.buffer.length) {
      // Grown by what has arrived, not by what a header claims.
      const grown = new Uint8Array(Math.max(wanted, Math.min(this.need, 2 * this.buffer.length)));
      grown.set(this.buffer.subarray(0, this.have));
      this.buffer = grown;
    }
    this.buffer.set(chunk.subarray(at, at + nrBytes), this.have);
    this.have = wanted;
  }

  /** The part is complete: takes it in and says what comes next. */
  private takePart(): void {
    if (this.part === "file header") {
      this.takeFileHeader();
      this.expect("block header", BLOCK_HEADER_SIZE);
    } else if (this.part === "block header") {
      this.takeBlockHeader();
      this.expect("block", this.storedSize + BLOCK_TRAILER_SIZE);
    } else {
      this.takeBlock();
      if (this.kind === BLOCK_END) this.expect("nothing", 0);
      else this.expect("block header", BLOCK_HEADER_SIZE);
    }
  }

  private expect(part: Part, need: number): void {
    this.partOffset += this.have;
    this.have = 0;
    this.part = part;
    this.need = need;
  }

  private mustBeMagic(): void {
    const nrBytes = Math.min(this.have, MAGIC.length);
    for (let i = 0; i < nrBytes; i++) {
      if (this.buffer[i] === MAGIC[i]) continue;
      this.refuse(foreignFormat(this.buffer.subarray(0, this.have)), "a hugelab recording");
    }
  }

  private takeFileHeader(): void {
    this.mustBeMagic();
    const view = new DataView(this.buffer.buffer);
    this.mustHaveCrc(view.getUint32(12, true), 0, 12, "the file header");
    const major = view.getUint16(8, true);
    const minor = view.getUint16(10, true);
    if (major !== MAJOR_VERSION) {
      const advice = major > MAJOR_VERSION ? "a newer hugelab reads it" : "record it again";
      this.refuse(`a recording of format ${major}.${minor}`, `format ${MAJOR_VERSION}; ${advice}`);
    }
  }

  private takeBlockHeader(): void {
    const view = new DataView(this.buffer.buffer);
    this.blockOffset = this.partOffset;
    this.mustHaveCrc(view.getUint32(16, true), 0, 16, "a block's header");
    this.kind = this.buffer[0];
    const sequence = view.getUint32(4, true);
    this.storedSize = view.getUint32(8, true);
    this.rawSize = view.getUint32(12, true);

    if (sequence !== this.sequence) this.refuse(`block ${sequence}`, `block ${this.sequence}`);
    for (const size of [this.storedSize, this.rawSize]) {
      if (size > LIMITS.blockSize) {
        this.refuse(`a block of ${size} bytes`, `at most ${LIMITS.blockSize}`);
      }
    }
    this.codec = this.codecByNumber(this.buffer[1]);
    this.mustBeKnownKind();
  }

  private mustBeKnownKind(): void {
    const { kind } = this;
    if (kind === BLOCK_HEADER && this.hasHeader) this.refuse("a second header block", "records");
    if (kind === BLOCK_HEADER) return;
    if (!this.hasHeader) this.refuse("a block before the header block", "the header block");
    if (kind === BLOCK_RECORDS || kind === BLOCK_END || kind & SKIPPABLE_KIND_BIT) return;
    this.refuse(`a block of unknown kind ${kind}`, "header, records or end");
  }

  private codecByNumber(number: number): BlockCodec {
    const codec = this.codecs.find(({ name }) => CODEC_NUMBERS[name] === number);
    if (codec !== undefined) return codec;
    const known = this.codecs.map(({ name }) => name).join(" or ");
    return this.refuse(`a block compressed by codec ${number}`, known);
  }

  private takeBlock(): void {
    const { storedSize, rawSize } = this;
    const view = new DataView(this.buffer.buffer);
    this.mustHaveCrc(view.getUint32(storedSize, true), 0, storedSize, "a block");
    this.sequence++;
    const isSkipped = ![BLOCK_HEADER, BLOCK_RECORDS, BLOCK_END].includes(this.kind);
    if (isSkipped) return;

    const raw = this.codec.decompress(this.buffer.subarray(0, storedSize), rawSize);
    if (raw === undefined || raw.length !== rawSize) {
      this.refuse("compressed bytes that do not unpack", `${rawSize} bytes by ${this.codec.name}`);
    }
    if (this.kind === BLOCK_HEADER) this.takeHeader(raw);
    else if (this.kind === BLOCK_RECORDS) this.takeRecords(raw);
    else this.takeEnd(raw);
  }

  private takeHeader(raw: Uint8Array): void {
    const decoded = decodeHeader(raw);
    if ("found" in decoded) return this.refuse(decoded.found, decoded.wanted);
    this.hasHeader = true;
    this.sink.begin(decoded.header);
  }

  private takeRecords(raw: Uint8Array): void {
    this.isDecoding = true;
    try {
      this.decoder.decode(raw);
    } catch (error) {
      if (error instanceof ColumnDamage) this.refuse(error.found, error.wanted);
      throw error;
    }
    this.isDecoding = false;
  }

  private takeEnd(raw: Uint8Array): void {
    const totals = new ColumnReader("totals");
    totals.open(raw, 0, raw.length);
    try {
      const tick = totals.unsigned();
      const nrRecords = totals.unsigned();
      const nrBlocks = totals.unsigned();
      if (nrRecords !== this.decoder.nrRecords) {
        this.refuse(`${this.decoder.nrRecords} records before the end`, `${nrRecords}`);
      }
      if (nrBlocks !== this.sequence) this.refuse(`${this.sequence} blocks`, `${nrBlocks}`);
      this.sink.end(tick);
    } catch (error) {
      if (error instanceof ColumnDamage) this.refuse(error.found, error.wanted);
      throw error;
    }
  }

  private mustHaveCrc(wanted: number, start: number, end: number, what: string): void {
    const found = crc32(this.buffer, start, end);
    if (found === wanted) return;
    this.refuse(`${what} with checksum ${hex(found)}, so damaged`, `checksum ${hex(wanted)}`);
  }

  private refuse(found: string, wanted: string): never {
    throw new UsageError(this.place(), found, wanted);
  }

  private place(): string {
    const { name } = this;
    if (this.part === "file header") return `${name}: byte 0`;
    if (this.part !== "block") return `${name}: byte ${this.partOffset}`;
    const record = this.isDecoding ? `, record ${this.decoder.recordInBlock} of the block` : "";
    return `${name}: byte ${this.blockOffset}${record}`;
  }
}

function hex(value: number): string {
  return value.toString(16).padStart(8, "0");
}
