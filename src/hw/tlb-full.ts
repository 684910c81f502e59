/**
 * The order of use of a fully associative array with many ways: a ring through its rows and a hash to find them.
 *
 * Owns:  the links; tags, names and values are words of the Tlb it belongs to. Behaves as ordered ways would (tlb.ts), in
 *        constant time: a core's 64 to 96 ways are too many to compare.
 * Units: a row is a way 0..nrEntries-1. Rows that hold nothing stand at the old end of the ring, outside the hash.
 */

import { assert } from "../base/assert.ts";

const NO_ROW = -1;
/** 2^32 / golden ratio: spreads neighbouring pages over the buckets. */
const HASH_FACTOR = 0x9e3779b1;

export interface FullWays {
  /** Latest used row. */
  head: number;
  /** Next older row; the oldest row's is the head. Rows: all. */
  readonly older: Int16Array;
  /** Next younger row. Rows: all. */
  readonly younger: Int16Array;
  /** First row of a hash chain, or NO_ROW. Rows: buckets. */
  readonly bucket: Int16Array;
  /** Next row of the chain, or NO_ROW. Rows: those that hold a name. */
  readonly chain: Int16Array;
  /** Bucket of the row's name. Rows: those that hold one. */
  readonly bucketOfRow: Int16Array;
  readonly hashShift: number;
}

export function createFull(nrEntries: number): FullWays {
  assert(nrEntries > 1 && nrEntries <= 4096, "a fully associative array has 2 to 4096 entries");
  const bucketBits = 33 - Math.clz32(nrEntries);
  const full: FullWays = {
    head: 0,
    older: new Int16Array(nrEntries),
    younger: new Int16Array(nrEntries),
    bucket: new Int16Array(1 << bucketBits),
    chain: new Int16Array(nrEntries),
    bucketOfRow: new Int16Array(nrEntries),
    hashShift: 32 - bucketBits,
  };
  clearFull(full);
  return full;
}

/** Forgets every name; the owner empties its words. */
export function clearFull(full: FullWays): void {
  const nrEntries = full.older.length;
  full.bucket.fill(NO_ROW);
  full.head = 0;
  for (let row = 0; row < nrEntries; row++) {
    full.older[row] = row + 1 === nrEntries ? 0 : row + 1;
    full.younger[row] = row === 0 ? nrEntries - 1 : row - 1;
  }
}

/** Row of a tag and name, now the latest; or -1. `words` starts with the tags, names stand nrWays behind them. */
export function lookupFull(
  full: FullWays,
  words: Int32Array,
  nrWays: number,
  tag: number,
  name: number,
): number {
  const { head } = full;
  if (words[head] === tag && words[nrWays + head] === name) return head;
  let row = full.bucket[bucketOf(full, tag)];
  while (row !== NO_ROW && (words[row] !== tag || words[nrWays + row] !== name)) {
    row = full.chain[row]!;
  }
  if (row === NO_ROW) return NO_ROW;
  moveBeforeHead(full, row);
  full.head = row;
  return row;
}

/** The oldest row, the next to be replaced. */
export function oldestFull(full: FullWays): number {
  return full.younger[full.head];
}

/** Makes the oldest row the latest, under another tag. */
export function insertFull(full: FullWays, row: number, isHeld: boolean, tag: number): void {
  if (isHeld) unchain(full, row);
  const bucket = bucketOf(full, tag);
  full.bucketOfRow[row] = bucket;
  full.chain[row] = full.bucket[bucket]!;
  full.bucket[bucket] = row;
  // The ring is closed: turning it one step makes its oldest row the head.
  full.head = row;
}

/** The row's name is gone: it leaves the hash and becomes the oldest. */
export function dropFull(full: FullWays, row: number): void {
  unchain(full, row);
  // Turning the ring makes a head that goes the oldest row.
  if (row === full.head) full.head = full.older[row]!;
  else moveBeforeHead(full, row);
}

function bucketOf(full: FullWays, tag: number): number {
  return Math.imul(tag, HASH_FACTOR) >>> full.hashShift;
}

function unchain(full: FullWays, row: number): void {
  const bucket = full.bucketOfRow[row];
  let at = full.bucket[bucket];
  if (at === row) {
    full.bucket[bucket] = full.chain[row]!;
    return;
  }
  while (full.chain[at] !== row) at = full.chain[at]!;
  full.chain[at] = full.chain[row]!;
}

/** To between the oldest row and the head: the oldest, and the latest once the head is set to it. */
function moveBeforeHead(full: FullWays, row: number): void {
  const { older, younger, head } = full;
  older[younger[row]] = older[row]!;
  younger[older[row]] = younger[row]!;
  const oldest = younger[head];
  older[row] = head;
  younger[row] = oldest;
  older[oldest] = row;
  younger[head] = row;
}
