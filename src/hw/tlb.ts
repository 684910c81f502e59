/**
 * One array of translations: set-associative or fully associative, true LRU, exact keys.
 *
 * Entry: lookupTlb, insertTlb, dropTlb, dropTlbRegion, dropTlbAsid, clearTlb. Used for TLBs, page-walk caches, nested TLBs.
 * Owns:  its columns; nothing is allocated after createTlb.
 * Units: a translation is named by asid (17 bits), region (26) and `part` (10): pteIndex * 2 for a 4K page, HUGE_PART for
 *        the whole region. Together they are the key, 53 bits, exact in a double, so that no two translations share one.
 *
 * Ways of a set stand in order of use, first is latest: a hit at the front, the usual case, writes nothing. Arrays of more
 * than MAX_ORDERED_WAYS ways (fully associative ones) keep the same order in a list with a hash; see tlb-full.ts.
 * Keys are made inside each function and never passed: a double that crosses a call may become a heap object.
 */

import { assert } from "../base/assert.ts";
import {
  clearFull,
  createFull,
  dropFull,
  EMPTY_KEY,
  type FullWays,
  insertFull,
  lookupFull,
} from "./tlb-full.ts";

export const MAX_ASID = 2 ** 17 - 1;
/** `part` of a 2M translation; those of 4K pages are even. */
export const HUGE_PART = 1;

const ASID_UNIT = 2 ** 36;
const REGION_UNIT = 1024;
const MAX_ORDERED_WAYS = 24;
const NR_FILTER_SLOTS = 512;

export interface Tlb {
  readonly nrEntries: number;
  readonly nrWays: number;
  readonly setMask: number;
  /** Keys, EMPTY_KEY if unused. Rows: set * nrWays + way, ways by recency; for a fully associative array any order. */
  readonly keys: Float64Array;
  /** What the owner keeps with a key, 0..2^32-1. Rows: as keys; stale where the key is EMPTY_KEY. */
  readonly values: Uint32Array;
  /** Entries whose region has these low 9 bits: 0 proves that a region has none. Rows: region & 511. */
  readonly nrByRegion: Uint16Array;
  /** 4K translations held. */
  nrSmall: number;
  /** 2M translations held. */
  nrHuge: number;
  /** Hash and recency list instead of ordered ways, or null. */
  readonly full: FullWays | null;
}

/** The key of a translation, for inspection; hot paths make their own. */
export function tlbKey(asid: number, region: number, part: number): number {
  return asid * ASID_UNIT + region * REGION_UNIT + part;
}

export function asidOfKey(key: number): number {
  return Math.floor(key / ASID_UNIT);
}

export function regionOfKey(key: number): number {
  return Math.floor((key % ASID_UNIT) / REGION_UNIT);
}

export function partOfKey(key: number): number {
  return key % REGION_UNIT;
}

/** An empty array. `nrEntries` 0 makes one that never hits and keeps nothing. */
export function createTlb(shape: { readonly nrEntries: number; readonly nrWays: number }): Tlb {
  const { nrEntries, nrWays } = shape;
  const nrSets = nrEntries === 0 ? 1 : nrEntries / nrWays;
  assert((nrSets & (nrSets - 1)) === 0, "the sets of a TLB are not a power of two");
  const isFull = nrWays > MAX_ORDERED_WAYS;
  assert(!isFull || nrSets === 1, "an array of many ways has more than one set");
  return {
    nrEntries,
    nrWays,
    setMask: nrSets - 1,
    keys: new Float64Array(nrEntries).fill(EMPTY_KEY),
    values: new Uint32Array(nrEntries),
    nrByRegion: new Uint16Array(NR_FILTER_SLOTS),
    nrSmall: 0,
    nrHuge: 0,
    full: isFull ? createFull(nrEntries) : null,
  };
}

/** What chooses the set: the page number of a 4K translation (its low 32 bits are enough), the region of a 2M one. */
function indexOf(region: number, part: number): number {
  return (part & 1) === HUGE_PART ? region : (region << 9) | (part >>> 1);
}

/** The value kept with a translation, now the latest of its set; or -1. */
export function lookupTlb(tlb: Tlb, asid: number, region: number, part: number): number {
  if (tlb.nrEntries === 0) return -1;
  const { keys, values, nrWays, full } = tlb;
  const key = asid * ASID_UNIT + region * REGION_UNIT + part;
  const index = indexOf(region, part);
  if (full !== null) {
    const row = lookupFull(full, keys, key, index);
    return row < 0 ? -1 : values[row]!;
  }
  const first = (index & tlb.setMask) * nrWays;
  if (keys[first] === key) return values[first]!;
  const end = first + nrWays;
  for (let way = first + 1; way < end; way++) {
    if (keys[way] !== key) continue;
    const value = values[way]!;
    for (let to = way; to > first; to--) {
      keys[to] = keys[to - 1]!;
      values[to] = values[to - 1]!;
    }
    keys[first] = key;
    values[first] = value;
    return value;
  }
  return -1;
}

/** Adds a translation that is not held, as the latest of its set; the oldest goes if the set is full. */
export function insertTlb(
  tlb: Tlb,
  asid: number,
  region: number,
  part: number,
  value: number,
): void {
  if (tlb.nrEntries === 0) return;
  const { keys, values, nrWays, full } = tlb;
  const key = asid * ASID_UNIT + region * REGION_UNIT + part;
  const index = indexOf(region, part);
  let row = 0;
  if (full !== null) {
    row = full.younger[full.head]!;
    if (keys[row] !== EMPTY_KEY) uncount(tlb, row);
    insertFull(full, row, keys[row] !== EMPTY_KEY, index);
  } else {
    row = (index & tlb.setMask) * nrWays;
    let to = row + nrWays - 1;
    if (keys[to] !== EMPTY_KEY) uncount(tlb, to);
    for (; to > row; to--) {
      keys[to] = keys[to - 1]!;
      values[to] = values[to - 1]!;
    }
  }
  keys[row] = key;
  values[row] = value;
  tlb.nrByRegion[region & (NR_FILTER_SLOTS - 1)]! += 1;
  if ((part & 1) === HUGE_PART) tlb.nrHuge++;
  else tlb.nrSmall++;
}

/** Removes one translation; returns how many were removed, 0 or 1. */
export function dropTlb(tlb: Tlb, asid: number, region: number, part: number): number {
  if (tlb.nrByRegion[region & (NR_FILTER_SLOTS - 1)] === 0) return 0;
  const key = asid * ASID_UNIT + region * REGION_UNIT + part;
  const index = indexOf(region, part);
  if (tlb.full === null) {
    return dropFromSet(tlb, (index & tlb.setMask) * tlb.nrWays, key, key + 1);
  }
  const row = lookupFull(tlb.full, tlb.keys, key, index);
  if (row < 0) return 0;
  dropRow(tlb, tlb.full, row);
  return 1;
}

/** Removes every 4K and 2M translation of one region; returns how many. */
export function dropTlbRegion(tlb: Tlb, asid: number, region: number): number {
  if (tlb.nrByRegion[region & (NR_FILTER_SLOTS - 1)] === 0) return 0;
  const low = asid * ASID_UNIT + region * REGION_UNIT;
  return dropRange(tlb, low, low + REGION_UNIT);
}

/** Removes everything of one address space; returns how many. */
export function dropTlbAsid(tlb: Tlb, asid: number): number {
  if (tlb.nrSmall + tlb.nrHuge === 0) return 0;
  return dropRange(tlb, asid * ASID_UNIT, (asid + 1) * ASID_UNIT);
}

/** Empties the array. */
export function clearTlb(tlb: Tlb): void {
  if (tlb.nrSmall + tlb.nrHuge === 0) return;
  tlb.keys.fill(EMPTY_KEY);
  tlb.nrByRegion.fill(0);
  tlb.nrSmall = 0;
  tlb.nrHuge = 0;
  if (tlb.full !== null) clearFull(tlb.full);
}

/** Removes the keys in low..high-1. */
function dropRange(tlb: Tlb, low: number, high: number): number {
  let nrDropped = 0;
  if (tlb.full === null) {
    for (let first = 0; first < tlb.nrEntries; first += tlb.nrWays) {
      nrDropped += dropFromSet(tlb, first, low, high);
    }
    return nrDropped;
  }
  for (let row = 0; row < tlb.nrEntries; row++) {
    const key = tlb.keys[row]!;
    if (key < low || key >= high) continue;
    dropRow(tlb, tlb.full, row);
    nrDropped++;
  }
  return nrDropped;
}

function dropRow(tlb: Tlb, full: FullWays, row: number): void {
  uncount(tlb, row);
  tlb.keys[row] = EMPTY_KEY;
  dropFull(full, row);
}

/** Removes the keys in low..high-1 of one set; the others close up and keep their order. */
function dropFromSet(tlb: Tlb, first: number, low: number, high: number): number {
  const { keys, values } = tlb;
  const end = first + tlb.nrWays;
  let to = first;
  for (let way = first; way < end; way++) {
    const key = keys[way]!;
    if (key >= low && key < high) {
      uncount(tlb, way);
      continue;
    }
    if (to !== way) {
      keys[to] = key;
      values[to] = values[way]!;
    }
    to++;
  }
  const nrDropped = end - to;
  while (to < end) keys[to++] = EMPTY_KEY;
  return nrDropped;
}

/** The translation of a row goes. Conversion to 32 bits keeps the low bits, which are all that is wanted. */
function uncount(tlb: Tlb, row: number): void {
  const key = tlb.keys[row]!;
  tlb.nrByRegion[(key / REGION_UNIT) & (NR_FILTER_SLOTS - 1)]! -= 1;
  if ((key & 1) === HUGE_PART) tlb.nrHuge--;
  else tlb.nrSmall--;
}
