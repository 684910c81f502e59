/**
 * Frames between this program and the native supervisor of a live scenario.
 *
 * Contract: native/scenario/protocol.h. Little endian, no padding except where a field says so.
 */

import { assert } from "../base/assert.ts";

/** Verbs, as in native/scenario/protocol.h. */
export const VERB = {
  HELLO: 1,
  BEGIN: 2,
  CALL: 3,
  TOUCH: 4,
  MINCORE: 5,
  FORK: 6,
  THREAD: 7,
  EXIT: 8,
  PIN: 9,
  HOLD: 10,
  RELEASE: 11,
  WRITE_KNOB: 12,
  READ_KNOB: 13,
  MEMCG: 14,
  JOIN: 15,
  SWAP: 16,
  DROP_CACHES: 17,
  OBSERVE: 18,
  PEEK: 19,
  KHUGEPAGED: 20,
  PROCESS_MADVISE: 21,
  TRACE: 22,
  EVENTS: 23,
  END: 24,
} as const;

/** Statuses that are no errno, as in native/scenario/protocol.h. */
export const FAILED = {
  LOCK: -1001,
  MEMORY: -1002,
  DEAD: -1003,
  STUCK: -1004,
  FACILITY: -1005,
  PROTOCOL: -1006,
} as const;

const FIRST_BYTES = 4096;

/** A request under construction. Fields are appended in the order of the protocol. */
export class FrameWriter {
  private buffer = Buffer.alloc(FIRST_BYTES);
  private length = 4;

  constructor(verb: number) {
    this.u32(verb);
  }

  u32(value: number): this {
    this.grow(4);
    this.length = this.buffer.writeUInt32LE(value, this.length);
    return this;
  }

  /** Non-negative and below 2^53. */
  u64(value: number): this {
    assert(Number.isSafeInteger(value) && value >= 0, "a field of a request is out of range");
    this.u32(value % 2 ** 32);
    return this.u32(Math.floor(value / 2 ** 32));
  }

  /** Two's complement. */
  s64(value: number): this {
    this.grow(8);
    this.length = this.buffer.writeBigInt64LE(BigInt(value), this.length);
    return this;
  }

  text(value: string): this {
    const bytes = Buffer.byteLength(value);
    this.u32(bytes);
    this.grow(bytes);
    this.length += this.buffer.write(value, this.length);
    return this;
  }

  /** The whole frame with its length in front. */
  bytes(): Buffer {
    this.buffer.writeUInt32LE(this.length - 4, 0);
    return this.buffer.subarray(0, this.length);
  }

  private grow(nrBytes: number): void {
    if (this.length + nrBytes <= this.buffer.length) return;
    const larger = Buffer.alloc(Math.max(this.buffer.length * 2, this.length + nrBytes));
    this.buffer.copy(larger, 0, 0, this.length);
    this.buffer = larger;
  }
}

/** An answer being read. `buffer` holds the frame from its length field on, at a multiple of 8 of its memory. */
export class FrameReader {
  readonly status: number;
  private at = 8;
  private readonly buffer: Buffer;

  constructor(buffer: Buffer) {
    this.buffer = buffer;
    this.status = buffer.readInt32LE(4);
  }

  u8(): number {
    return this.buffer.readUInt8(this.at++);
  }

  u32(): number {
    const value = this.buffer.readUInt32LE(this.at);
    this.at += 4;
    return value;
  }

  s32(): number {
    return this.u32() | 0;
  }

  /** Exact below 2^53. */
  u64(): number {
    const low = this.u32();
    return low + this.u32() * 2 ** 32;
  }

  /** Exact from -2^53 to 2^53. */
  s64(): number {
    const low = this.u32();
    return low + this.s32() * 2 ** 32;
  }

  text(): string {
    return this.chars(this.u32());
  }

  /** `nrBytes` of text, up to the first NUL. */
  chars(nrBytes: number): string {
    const bytes = this.buffer.subarray(this.at, this.at + nrBytes);
    this.at += nrBytes;
    const nul = bytes.indexOf(0);
    return bytes.toString("latin1", 0, nul < 0 ? nrBytes : nul);
  }

  /** Skips to the next multiple of 8, where arrays and records begin. */
  align(): void {
    this.at = Math.ceil(this.at / 8) * 8;
  }

  /** The next `nrBytes`, not copied: valid until the next answer is read. */
  room(nrBytes: number): DataView {
    this.align();
    const view = new DataView(this.buffer.buffer, this.buffer.byteOffset + this.at, nrBytes);
    this.at += nrBytes;
    return view;
  }
}
