/**
 * Columns: streams of variable-length integers within one block.
 *
 * An unsigned number is written in groups of seven bits, lowest first, bit 0x80 on all bytes but the last (LEB128), at most
 * eight bytes. A signed number n is written as 2n (n >= 0) or -2n - 1.
 */

/** A growing stream of numbers. */
export class ColumnWriter {
  bytes = new Uint8Array(1024);
  /** Bytes written. */
  length = 0;

  byte(value: number): void {
    if (this.length === this.bytes.length) this.reserve(1);
    this.bytes[this.length++] = value;
  }

  /** An integer 0..2^53-1. */
  unsigned(value: number): void {
    if (value < 0x80 && this.length < this.bytes.length) {
      this.bytes[this.length++] = value;
      return;
    }
    this.reserve(8);
    while (value >= 0x10000000) {
      this.bytes[this.length++] = (value % 0x80) | 0x80;
      value = Math.floor(value / 0x80);
    }
    while (value >= 0x80) {
      this.bytes[this.length++] = (value & 0x7f) | 0x80;
      value >>>= 7;
    }
    this.bytes[this.length++] = value;
  }

  /** An integer whose double is below 2^53 in size. */
  signed(value: number): void {
    this.unsigned(value >= 0 ? 2 * value : -2 * value - 1);
  }

  /** A length and that many bytes. */
  counted(bytes: Uint8Array): void {
    this.unsigned(bytes.length);
    this.reserve(bytes.length);
    this.bytes.set(bytes, this.length);
    this.length += bytes.length;
  }

  private reserve(nrBytes: number): void {
    if (this.length + nrBytes <= this.bytes.length) return;
    const grown = new Uint8Array(Math.max(2 * this.bytes.length, this.length + nrBytes));
    grown.set(this.bytes.subarray(0, this.length));
    this.bytes = grown;
  }
}

/** Thrown by a ColumnReader; the block reader turns it into a UsageError with the place. */
export class ColumnDamage extends Error {
  readonly found: string;
  readonly wanted: string;

  constructor(found: string, wanted: string) {
    super(found);
    this.found = found;
    this.wanted = wanted;
  }
}

/** Reads back what a ColumnWriter wrote. */
export class ColumnReader {
  readonly name: string;
  private bytes: Uint8Array = new Uint8Array(0);
  private at = 0;
  private end = 0;

  constructor(name: string) {
    this.name = name;
  }

  /** Reads bytes[start..end) from now on. */
  open(bytes: Uint8Array, start: number, end: number): void {
    this.bytes = bytes;
    this.at = start;
    this.end = end;
  }

  /** Bytes not read yet. */
  get left(): number {
    return this.end - this.at;
  }

  byte(): number {
    if (this.at >= this.end) this.overrun();
    return this.bytes[this.at++];
  }

  unsigned(): number {
    if (this.at >= this.end) this.overrun();
    const first = this.bytes[this.at++];
    return first < 0x80 ? first : this.rest(first & 0x7f);
  }

  signed(): number {
    const value = this.unsigned();
    if (value < 0x80000000) return (value >>> 1) ^ -(value & 1);
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  }

  /** The bytes of a length-prefixed string; a view that the next block invalidates. */
  counted(limit: number): Uint8Array {
    const length = this.unsigned();
    if (length > limit) throw new ColumnDamage(`a text of ${length} bytes`, `at most ${limit}`);
    if (length > this.left) this.overrun();
    this.at += length;
    return this.bytes.subarray(this.at - length, this.at);
  }

  private rest(value: number): number {
    let scale = 0x80;
    for (let nrBytes = 2; nrBytes <= 8; nrBytes++) {
      if (this.at >= this.end) this.overrun();
      const byte = this.bytes[this.at++];
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) {
        if (value > Number.MAX_SAFE_INTEGER) break;
        return value;
      }
      scale *= 0x80;
    }
    throw new ColumnDamage(`a number above 2^53 in column ${this.name}`, "a number below 2^53");
  }

  private overrun(): never {
    throw new ColumnDamage(
      `the end of column ${this.name}`,
      "another number there, as the operations ask for",
    );
  }
}
