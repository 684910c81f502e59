/**
 * Checkpoints: a state that is put back in place again and again, for the explorer. Unlike a snapshot it belongs to the very
 * records it was taken of: they keep their identity, so that whoever holds one holds it after the restore too.
 *
 * Entry: Checkpointer; save, restore and keyOf for each checkpoint, discard when it is not needed any more.
 * Owns:  the copies; those of discarded checkpoints are used again.
 * Holds: restore undoes every change of what was reachable from the roots: fields, items, columns, maps and sets. Records that
 *        are reachable only since then are dropped. Objects named in `leftOut`, and functions, are not looked at.
 * Cost:  a walk over all records and a copy of every column: some ten microseconds on a machine of 16 MiB.
 */

import { assert } from "../base/assert.ts";

type Column = Int32Array | Uint32Array | Uint16Array | Uint8Array | Float64Array;
type Record_ = Record<string, unknown>;

/** One state. The lists are parallel: records in the order of the walk, and what each held. */
export interface Checkpoint {
  readonly objects: object[];
  /** Keys of records; null for arrays, maps and sets. */
  readonly keys: (readonly string[] | null)[];
  /** Values of records and arrays, entries of maps and sets. */
  readonly values: (readonly unknown[])[];
  readonly columns: Words[];
  /** Words of each column that were in use; those behind are zero. Rows: as `columns`. */
  readonly lengths: number[];
  /** What each column held. Rows: as `columns`; none of a discarded checkpoint. */
  readonly copies: Int32Array[];
}

/** The memory of a column: words, or bytes where they make no whole number of words. */
type Words = Int32Array | Uint8Array;

/** Elements of a column that are in use; what lies behind is zero. */
export type UsedLength = (column: object) => number;

export class Checkpointer {
  private readonly roots: readonly object[];
  private readonly leftOut: ReadonlySet<unknown>;
  private readonly usedLength: UsedLength | null;
  /** Copies that can be used again, by length. */
  private readonly free = new Map<number, Int32Array[]>();
  /** Number of each object in the walk under way; those of columns are negative. */
  private readonly numbers = new Map<object, number>();
  private readonly words = new Map<Column, Words>();
  private readonly columnOf = new Map<Words, Column>();
  /** What columns held at the first checkpoint: keys are about what differs from it. */
  private readonly first = new Map<Words, Int32Array>();

  /** `usedLength`: of columns that are used from their start on; by default the whole length. */
  constructor(
    roots: readonly object[],
    leftOut: Iterable<unknown>,
    usedLength: UsedLength | null = null,
  ) {
    this.roots = roots;
    this.leftOut = new Set(leftOut);
    this.usedLength = usedLength;
  }

  /** The state now. */
  save(): Checkpoint {
    const saved = this.walk();
    const { columns, lengths, copies } = saved;
    for (let i = 0; i < columns.length; i++) {
      const words = columns[i];
      const copy = this.freeOf(words.length).pop() ?? new Int32Array(words.length);
      copy.set(lengths[i] === words.length ? words : words.subarray(0, lengths[i]));
      copies.push(copy);
    }
    if (this.first.size === 0)
      for (let i = 0; i < columns.length; i++) this.first.set(columns[i], copies[i].slice());
    return saved;
  }

  /** Puts everything back; the checkpoint can be used again. */
  restore(saved: Checkpoint): void {
    const { objects, keys, values, columns, lengths, copies } = saved;
    const lengthsNow = columns.map((words) => this.lengthOf(words));
    for (let i = 0; i < objects.length; i++) putBack(objects[i], keys[i], values[i]);
    for (let i = 0; i < columns.length; i++) {
      const words = columns[i];
      const length = lengths[i];
      words.set(length === words.length ? copies[i] : copies[i].subarray(0, length));
      if (lengthsNow[i] > length) words.fill(0, length, lengthsNow[i]);
    }
  }

  /** The checkpoint is not used any more. */
  discard(saved: Checkpoint): void {
    for (const copy of saved.copies) this.freeOf(copy.length).push(copy);
    saved.copies.length = 0;
  }

  /** States with equal keys are equal, but for a chance of 2^-64 a pair. A state may have more than one key. */
  keyOf(saved: Checkpoint): string {
    assert(saved.copies.length === saved.columns.length, "a discarded checkpoint is used");
    this.numbers.clear();
    for (let i = 0; i < saved.objects.length; i++) this.numbers.set(saved.objects[i], i + 1);
    for (let i = 0; i < saved.columns.length; i++)
      this.numbers.set(this.columnOf.get(saved.columns[i])!, -1 - i);
    return this.keyFrom(saved, saved.copies);
  }

  /** The key of the state now. */
  keyNow(): string {
    const seen = this.walk();
    return this.keyFrom(seen, seen.columns);
  }

  /** `this.numbers` are those of the state. */
  private keyFrom(state: Checkpoint, contents: readonly Words[]): string {
    const hash = new Hash(this.numbers);
    for (const values of state.values) hash.values(values);
    for (let i = 0; i < contents.length; i++)
      hash.differences(contents[i], this.first.get(state.columns[i]), state.lengths[i]);
    return hash.text();
  }

  /** All records and columns, without the contents of columns. */
  private walk(): Checkpoint {
    const found: Checkpoint = {
      objects: [],
      keys: [],
      values: [],
      columns: [],
      lengths: [],
      copies: [],
    };
    this.numbers.clear();
    for (const root of this.roots) this.note(found, root);
    for (let i = 0; i < found.objects.length; i++) this.look(found, found.objects[i]);
    return found;
  }

  private note(found: Checkpoint, value: object): void {
    if (this.numbers.has(value) || this.leftOut.has(value)) return;
    if (ArrayBuffer.isView(value)) {
      if (value.byteLength === 0) return;
      const words = this.wordsOf(value as Column);
      found.columns.push(words);
      found.lengths.push(this.lengthOf(words));
      this.numbers.set(value, -found.columns.length);
      return;
    }
    found.objects.push(value);
    this.numbers.set(value, found.objects.length);
  }

  private look(found: Checkpoint, object: object): void {
    let values: unknown[];
    let keys: string[] | null = null;
    if (Array.isArray(object)) values = object.slice();
    else if (object instanceof Map) values = [...object].flat();
    else if (object instanceof Set) values = [...object];
    else {
      keys = Object.keys(object);
      values = new Array(keys.length);
      for (let i = 0; i < keys.length; i++) values[i] = (object as Record_)[keys[i]];
    }
    found.keys.push(keys);
    found.values.push(values);
    for (let i = 0; i < values.length; i++) {
      const value = values[i];
      if (typeof value === "object" && value !== null) this.note(found, value);
    }
  }

  /** Words of a column in use now. */
  private lengthOf(words: Words): number {
    if (this.usedLength === null) return words.length;
    const column = this.columnOf.get(words)!;
    return Math.ceil((this.usedLength(column) / column.length) * words.length);
  }

  private wordsOf(column: Column): Words {
    let words = this.words.get(column);
    if (words === undefined) {
      const { buffer, byteOffset, byteLength } = column;
      assert(byteOffset % 4 === 0, "a column begins in the middle of a word");
      words =
        byteLength % 4 === 0
          ? new Int32Array(buffer, byteOffset, byteLength / 4)
          : new Uint8Array(buffer, byteOffset, byteLength);
      this.words.set(column, words);
      this.columnOf.set(words, column);
    }
    return words;
  }

  private freeOf(length: number): Int32Array[] {
    let list = this.free.get(length);
    if (list === undefined) {
      list = [];
      this.free.set(length, list);
    }
    return list;
  }
}

function putBack(object: object, keys: readonly string[] | null, values: readonly unknown[]): void {
  if (keys !== null) putFieldsBack(object as Record_, keys, values);
  else if (Array.isArray(object)) {
    object.length = values.length;
    for (let i = 0; i < values.length; i++) if (object[i] !== values[i]) object[i] = values[i];
  } else if (object instanceof Map) {
    object.clear();
    for (let i = 0; i < values.length; i += 2) object.set(values[i], values[i + 1]);
  } else if (object instanceof Set) {
    object.clear();
    for (const value of values) object.add(value);
  }
}

function putFieldsBack(object: Record_, keys: readonly string[], values: readonly unknown[]): void {
  for (let i = 0; i < keys.length; i++)
    if (object[keys[i]] !== values[i]) object[keys[i]] = values[i];
  for (const key in object) if (!keys.includes(key)) delete object[key];
}

/** Two hashes of 32 bits. References count as the place of what they refer to in the walk. */
class Hash {
  private readonly numbers: ReadonlyMap<object, number>;
  private a = 0x811c9dc5;
  private b = 0x9747b28c;
  private place = 0;
  private readonly double = new Float64Array(1);
  private readonly halves = new Int32Array(this.double.buffer);

  constructor(numbers: ReadonlyMap<object, number>) {
    this.numbers = numbers;
  }

  values(values: readonly unknown[]): void {
    this.word(values.length);
    for (const value of values) this.value(value);
  }

  private value(value: unknown): void {
    if (typeof value === "number") {
      if (value === (value | 0)) this.word(value);
      else {
        this.double[0] = value;
        this.word(this.halves[0]);
        this.word(~this.halves[1]);
      }
    } else if (typeof value === "string") {
      this.word(value.length + 0x5000000);
      for (let i = 0; i < value.length; i++) this.word(value.charCodeAt(i));
    } else if (typeof value === "boolean") this.word(value ? 0x6000001 : 0x6000000);
    else if (typeof value === "object" && value !== null)
      this.word(0x7000000 + (this.numbers.get(value) ?? 0));
    else this.word(0x4000000);
  }

  /** Where a column differs from what it was at first, or from zero if it was not there. */
  differences(words: Words, first: Int32Array | undefined, length: number): void {
    this.word(length);
    if (first === undefined || !(words instanceof Int32Array)) {
      for (let i = 0; i < length; i++) if (words[i] !== (first?.[i] ?? 0)) this.at(i, words[i]);
      return;
    }
    for (let i = nextDifference(words, first, 0, length); i < length; ) {
      this.at(i, words[i]);
      i = nextDifference(words, first, i + 1, length);
    }
  }

  private at(place: number, word: number): void {
    this.a = Math.imul(this.a ^ word ^ Math.imul(place, 0x9e3779b1), 0x01000193);
    this.a ^= this.a >>> 15;
    this.b = Math.imul(((this.b << 13) | (this.b >>> 19)) + word, 0xcc9e2d51) ^ place;
  }

  private word(word: number): void {
    this.at(++this.place, word);
  }

  text(): string {
    return `${(this.a >>> 0).toString(36)}.${(this.b >>> 0).toString(36)}`;
  }
}

/** The first place from `from` on where two columns differ; `end` if there is none. Eight words at a time: most are equal. */
function nextDifference(a: Int32Array, b: Int32Array, from: number, end: number): number {
  let i = from;
  for (const last = end - 8; i <= last; i += 8) {
    const low =
      (a[i] ^ b[i]) | (a[i + 1] ^ b[i + 1]) | (a[i + 2] ^ b[i + 2]) | (a[i + 3] ^ b[i + 3]);
    const high =
      (a[i + 4] ^ b[i + 4]) | (a[i + 5] ^ b[i + 5]) | (a[i + 6] ^ b[i + 6]) | (a[i + 7] ^ b[i + 7]);
    if ((low | high) !== 0) break;
  }
  while (i < end && a[i] === b[i]) i++;
  return i;
}
