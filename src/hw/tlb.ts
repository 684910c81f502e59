/**
 * One array of translations: set-associative or fully associative, true LRU, exact names.
 *
 * Entry: lookupTlb, insertTlb, dropTlb, dropTlbRegion, dropTlbAsid, clearTlb. Used for TLBs, page-walk caches, nested TLBs.
 * Owns:  its columns; nothing is allocated after createTlb.
 * Units: a translation is named by asid (17 bits), region (26) and `part` (10): pteIndex * 2 for a 4K page, HUGE_PART for
 *        the whole region. The 53 bits stand in two words of 32, so that no two translations are taken for one another:
 *        word 0 = region | low 6 bits of asid << 26; word 1 = part | high 11 bits of asid << 10, or EMPTY.
 *
 * Each set lists its ways in order of use, first is latest: a hit at the front, the usual case, writes nothing. Arrays of
 * more than MAX_ORDERED_WAYS ways (fully associative ones) keep that order in a ring with a hash; see tlb-full.ts.
 */

import { assert } from "../base/assert.ts";
import {
  clearFull,
  createFull,
  dropFull,
  EMPTY,
  type FullWays,
  insertFull,
  lookupFull,
  WORDS,
} from "./tlb-full.ts";

export const MAX_ASID = 2 ** 17 - 1;
/** `part` of a 2M translation; those of 4K pages are even. */
export const HUGE_PART = 1;

const MAX_ORDERED_WAYS = 24;
const FILTER_MASK = 511;

export interface Tlb {
  readonly nrEntries: number;
  readonly nrWays: number;
  readonly setMask: number;
  /** WORDS words each: the two of the name, and what the owner keeps with it (0..2^32-1). Rows: set * nrWays + way. */
  readonly ways: Int32Array;
  /** Ways of each set, latest first, those that hold nothing last. Rows: as ways; none for a fully associative array. */
  readonly order: Uint8Array;
  /** Entries whose region has these low 9 bits: 0 proves that a region has none. Rows: region & 511. */
  readonly nrByRegion: Uint16Array;
  /** 4K translations held. */
  nrSmall: number;
  /** 2M translations held. */
  nrHuge: number;
  /** Hash and recency list instead of ordered ways, or null. */
  readonly full: FullWays | null;
}

/** A translation held, for inspection. */
export interface HeldTranslation {
  readonly asid: number;
  readonly region: number;
  readonly part: number;
  readonly value: number;
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
    ways: new Int32Array(nrEntries * WORDS).fill(EMPTY),
    order: Uint8Array.from({ length: isFull ? 0 : nrEntries }, (_, row) => row % nrWays),
    nrByRegion: new Uint16Array(FILTER_MASK + 1),
    nrSmall: 0,
    nrHuge: 0,
    full: isFull ? createFull(nrEntries) : null,
  };
}

/** What chooses the set: the page number of a 4K translation (its low 32 bits are enough), the region of a 2M one. */
function indexOf(region: number, part: number): number {
  return (part & 1) === HUGE_PART ? region : (region << 9) | (part >>> 1);
}

function wordZero(asid: number, region: number): number {
  return region | (asid << 26);
}

function wordOne(asid: number, part: number): number {
  return ((asid >>> 6) << 10) | part;
}

/** False if certainly nothing of the region is held: one look instead of a search through the ways. */
export function mayHoldRegion(tlb: Tlb, region: number): boolean {
  return tlb.nrByRegion[region & FILTER_MASK] !== 0;
}

/** The value kept with a translation, now the latest of its set; or -1. */
export function lookupTlb(tlb: Tlb, asid: number, region: number, part: number): number {
  if (tlb.nrEntries === 0) return -1;
  const { ways } = tlb;
  const zero = wordZero(asid, region);
  const one = wordOne(asid, part);
  if (tlb.full !== null) {
    const row = lookupFull(tlb.full, ways, zero, one, indexOf(region, part));
    return row < 0 ? -1 : ways[row * WORDS + 2] >>> 0;
  }
  const { order, nrWays } = tlb;
  const first = (indexOf(region, part) & tlb.setMask) * nrWays;
  const end = first + nrWays;
  for (let place = first; place < end; place++) {
    const way = order[place];
    const at = (first + way) * WORDS;
    if (ways[at] !== zero || ways[at + 1] !== one) continue;
    for (let to = place; to > first; to--) order[to] = order[to - 1]!;
    order[first] = way;
    return ways[at + 2] >>> 0;
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
  const { ways, full } = tlb;
  let at = 0;
  if (full !== null) {
    const row = full.younger[full.head];
    at = row * WORDS;
    const isHeld = ways[at + 1] !== EMPTY;
    if (isHeld) uncount(tlb, at);
    insertFull(full, row, isHeld, indexOf(region, part));
  } else {
    const { order, nrWays } = tlb;
    const first = (indexOf(region, part) & tlb.setMask) * nrWays;
    const last = first + nrWays - 1;
    const way = order[last];
    for (let to = last; to > first; to--) order[to] = order[to - 1]!;
    order[first] = way;
    at = (first + way) * WORDS;
    if (ways[at + 1] !== EMPTY) uncount(tlb, at);
  }
  ways[at] = wordZero(asid, region);
  ways[at + 1] = wordOne(asid, part);
  ways[at + 2] = value;
  tlb.nrByRegion[region & FILTER_MASK] += 1;
  if ((part & 1) === HUGE_PART) tlb.nrHuge++;
  else tlb.nrSmall++;
}

/** Removes one translation; returns how many were removed, 0 or 1. */
export function dropTlb(tlb: Tlb, asid: number, region: number, part: number): number {
  if (tlb.nrByRegion[region & FILTER_MASK] === 0) return 0;
  const zero = wordZero(asid, region);
  const one = wordOne(asid, part);
  const index = indexOf(region, part);
  if (tlb.full !== null) {
    const row = lookupFull(tlb.full, tlb.ways, zero, one, index);
    if (row < 0) return 0;
    dropRow(tlb, tlb.full, row);
    return 1;
  }
  const set = index & tlb.setMask;
  return dropFromSet(tlb, set, zero, -1, one, -1);
}

/** Removes every 4K and 2M translation of one region; returns how many. */
export function dropTlbRegion(tlb: Tlb, asid: number, region: number): number {
  if (tlb.nrByRegion[region & FILTER_MASK] === 0) return 0;
  return dropMatching(tlb, wordZero(asid, region), -1, wordOne(asid, 0), ~1023);
}

/** Removes everything of one address space; returns how many. */
export function dropTlbAsid(tlb: Tlb, asid: number): number {
  if (tlb.nrSmall + tlb.nrHuge === 0) return 0;
  return dropMatching(tlb, wordZero(asid, 0), 63 << 26, wordOne(asid, 0), ~1023);
}

/** Empties the array. */
export function clearTlb(tlb: Tlb): void {
  if (tlb.nrSmall + tlb.nrHuge === 0) return;
  tlb.ways.fill(EMPTY);
  tlb.nrByRegion.fill(0);
  tlb.nrSmall = 0;
  tlb.nrHuge = 0;
  if (tlb.full !== null) clearFull(tlb.full);
}

/** Everything held, in no order. Allocates. */
export function heldTranslations(tlb: Tlb): HeldTranslation[] {
  const held: HeldTranslation[] = [];
  for (let at = 0; at < tlb.ways.length; at += WORDS) {
    const [zero, one, value] = tlb.ways.subarray(at, at + WORDS) as unknown as number[];
    if (one === EMPTY) continue;
    held.push({
      asid: ((one >>> 10) << 6) | (zero >>> 26),
      region: zero & (2 ** 26 - 1),
      part: one & 1023,
      value: value >>> 0,
    });
  }
  return held;
}

/** Removes the ways whose words, as far as the masks go, are `zero` and `one`. An empty way matches nothing. */
function dropMatching(
  tlb: Tlb,
  zero: number,
  zeroMask: number,
  one: number,
  oneMask: number,
): number {
  let nrDropped = 0;
  if (tlb.full === null) {
    for (let set = 0; set <= tlb.setMask && tlb.nrEntries > 0; set++) {
      nrDropped += dropFromSet(tlb, set, zero, zeroMask, one, oneMask);
    }
    return nrDropped;
  }
  for (let row = 0; row < tlb.nrEntries; row++) {
    const at = row * WORDS;
    if (((tlb.ways[at] ^ zero) & zeroMask) !== 0) continue;
    if (((tlb.ways[at + 1] ^ one) & oneMask) !== 0) continue;
    dropRow(tlb, tlb.full, row);
    nrDropped++;
  }
  return nrDropped;
}

function dropRow(tlb: Tlb, full: FullWays, row: number): void {
  uncount(tlb, row * WORDS);
  tlb.ways[row * WORDS + 1] = EMPTY;
  dropFull(full, row);
}

/** As dropMatching, for one set; the other ways keep their order. */
function dropFromSet(
  tlb: Tlb,
  set: number,
  zero: number,
  zeroMask: number,
  one: number,
  oneMask: number,
): number {
  const { ways, order, nrWays } = tlb;
  const first = set * nrWays;
  const last = first + nrWays - 1;
  let nrDropped = 0;
  for (let place = last; place >= first; place--) {
    const way = order[place];
    const at = (first + way) * WORDS;
    if (((ways[at] ^ zero) & zeroMask) !== 0) continue;
    if (((ways[at + 1] ^ one) & oneMask) !== 0) continue;
    uncount(tlb, at);
    ways[at + 1] = EMPTY;
    for (let to = place; to < last; to++) order[to] = order[to + 1]!;
    order[last] = way;
    nrDropped++;
  }
  return nrDropped;
}

/** The translation at word `at` goes. */
function uncount(tlb: Tlb, at: number): void {
  tlb.nrByRegion[tlb.ways[at] & FILTER_MASK] -= 1;
  if ((tlb.ways[at + 1] & 1) === HUGE_PART) tlb.nrHuge--;
  else tlb.nrSmall--;
}
