/**
 * Lines of a text that comes in chunks of any size, with the offset of each.
 *
 * Owns:  the beginning of a line whose end has not come; at most LONGEST bytes.
 */

import { UsageError } from "../base/usage-error.ts";

const NEWLINE = 0x0a;
const LONGEST = 1 << 20;

export class LineSplitter {
  /** Offset in the file of the line being told. */
  offset = 0;
  private readonly name: string;
  private readonly tell: (line: string) => void;
  private readonly decoder = new TextDecoder("utf-8");
  private carry = new Uint8Array(0);
  /** Offset in the file of the carry's first byte, or of the next chunk if there is none. */
  private base = 0;

  /** Calls `tell` for each line, without its end. `name` is the file, for messages. */
  constructor(name: string, tell: (line: string) => void) {
    this.name = name;
    this.tell = tell;
  }

  push(chunk: Uint8Array): void {
    let bytes = chunk;
    if (this.carry.length > 0) {
      bytes = new Uint8Array(this.carry.length + chunk.length);
      bytes.set(this.carry);
      bytes.set(chunk, this.carry.length);
    }
    let from = 0;
    for (;;) {
      const end = bytes.indexOf(NEWLINE, from);
      if (end < 0) break;
      this.line(bytes.subarray(from, end), from);
      from = end + 1;
    }
    this.base += from;
    this.carry = bytes.slice(from);
    if (this.carry.length > LONGEST) {
      const where = `${this.name}: byte ${this.base}`;
      throw new UsageError(where, `a line of more than ${LONGEST} bytes`, "a text of lines");
    }
  }

  /** Tells the last line if it has no end. */
  finish(): void {
    if (this.carry.length > 0) this.line(this.carry, 0);
    this.base += this.carry.length;
    this.offset = this.base;
    this.carry = new Uint8Array(0);
  }

  /** Where the line being told is, for messages. */
  place(): string {
    return `${this.name}: byte ${this.offset}`;
  }

  private line(bytes: Uint8Array, from: number): void {
    this.offset = this.base + from;
    this.tell(this.decoder.decode(bytes));
  }
}
