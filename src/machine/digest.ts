/**
 * A digest of a machine's whole state: equal states give equal digests, in Node and in a browser.
 *
 * Records are walked in the order of their keys, and each is numbered at its first visit, so that the shape of references
 * counts but not their identity. Untouched ends of columns (zeroes) do not count, so a grown array equals a short one.
 */

import type { Machine } from "./machine.ts";
import { stateOf } from "./snapshot.ts";

/** Sixteen hexadecimal digits. */
export function digestOf(m: Machine): string {
  const hasher = new Hasher();
  hasher.value(stateOf(m));
  return hasher.text();
}

type Column = Int32Array | Uint32Array | Uint16Array | Uint8Array | Float64Array;

class Hasher {
  private a = 0x811c9dc5;
  private b = 0x9747b28c;
  private readonly seen = new Map<object, number>();
  private readonly double = new Float64Array(1);
  private readonly words = new Uint32Array(this.double.buffer);

  value(value: unknown): void {
    if (typeof value === "number") this.number(value);
    else if (typeof value === "string") this.string(value);
    else if (typeof value === "boolean") this.word(value ? 1 : 2);
    else if (value === null || value === undefined) this.word(3);
    else if (ArrayBuffer.isView(value)) this.column(value as Column);
    else if (typeof value === "object") this.record(value);
  }

  private record(record: object): void {
    const known = this.seen.get(record);
    if (known !== undefined) {
      this.word(4);
      this.word(known);
      return;
    }
    this.seen.set(record, this.seen.size);
    if (Array.isArray(record)) {
      this.word(record.length);
      for (const item of record) this.value(item);
      return;
    }
    for (const [key, item] of Object.entries(record).sort(([x], [y]) => (x < y ? -1 : 1))) {
      this.string(key);
      this.value(item);
    }
  }

  private column(column: Column): void {
    let end = column.length;
    while (end > 0 && column[end - 1] === 0) end--;
    this.word(end);
    const isDouble = column instanceof Float64Array;
    for (let i = 0; i < end; i++) {
      if (isDouble) this.number(column[i]);
      else this.word(column[i]);
    }
  }

  private number(value: number): void {
    this.double[0] = value === 0 ? 0 : value;
    this.word(this.words[0]);
    this.word(this.words[1]);
  }

  private string(text: string): void {
    this.word(text.length);
    for (let i = 0; i < text.length; i++) this.word(text.charCodeAt(i));
  }

  private word(word: number): void {
    this.a = Math.imul(this.a ^ word, 0x01000193);
    this.b = Math.imul((this.b << 13) | (this.b >>> 19), 5) + Math.imul(word, 0xcc9e2d51);
    this.b ^= this.a >>> 16;
  }

  text(): string {
    const hex = (word: number) => (word >>> 0).toString(16).padStart(8, "0");
    return hex(this.a) + hex(this.b);
  }
}
