/**
 * One array of translations: set-associative or fully associative, true LRU, exact names.
 *
 * Entry: lookupTlb, insertTlb, dropTlb, dropTlbRegion, dropTlbAsid, clearTlb. Used for TLBs, page-walk caches, nested TLBs.
 * Owns:  its columns; nothing is allocated after createTlb.
 * Units: a translation is named by two words, so that no two are taken for one another: its tag, the number of the 4K
 *        page (its low 32 bits) or of the region, which also chooses the set; and its name, all the rest: asid (17 bits),
 *        bits of the page number that the tag lacks (3), one for 2M. A `place` is the index of a tag in `words`.
 *
 * A set is one block of `words`: the order of its ways (tlb-order.ts), a byte of each tag four to a word, the tags, the
 * names, and what the owner keeps with each. The bytes of four ways are compared in one step: a miss, the usual end of a
 * search, reads two words. There are three layouts, with constant offsets: narrow blocks of 8 ways, wide ones of 16, of
 * which a set uses the first nrWays; and for fully associative arrays of more ways one block with a ring and a hash
 * besides (tlb-full.ts).
 */

import { assert } from "../base/assert.ts";
import {
  clearFull,
  createFull,
  dropFull,
  type FullWays,
  insertFull,
  lookupFull,
  oldestFull,
} from "./tlb-full.ts";
import {
  FIRST_ORDER,
  makeLatest,
  makeLatestWide,
  makeOldest,
  NARROW_WAYS,
  oldestMadeLatest,
  oldestMadeLatestWide,
  WIDE_WAYS,
} from "./tlb-order.ts";

export const MAX_ASID = 2 ** 17 - 1;

/** Name of a way that holds nothing. */
export const EMPTY = -1;
/** In a name: a 2M translation, or an upper entry in a page-walk cache. */
const HUGE = 1 << 20;
const ASID_MASK = MAX_ASID;
/** In a name of a 4K translation: the upper 3 of its region's 26 bits. */
const REGION_SHIFT = 17;
const TAG_REGION_BITS = 23;

/** One in each byte, and the highest bit of each. */
const ONES = 0x01010101;
const HIGH_BITS = 0x80808080 | 0;

/** Offsets in a narrow block: order, two words of bytes, tags, names, values. */
const NARROW_BYTES = 1;
const NARROW_TAGS = 8;
const NARROW_SHIFT = 5;
/** Offsets in a wide block: two words of order, four of bytes, tags, names, values. */
const WIDE_BYTES = 2;
const WIDE_TAGS = 8;
const WIDE_SHIFT = 6;

export interface Tlb {
  readonly nrEntries: number;
  readonly nrWays: number;
  readonly setMask: number;
  /** Blocks of 2^setShift words; of a fully associative array, tags, names and values of nrPadded ways each. */
  readonly words: Int32Array;
  readonly setShift: number;
  /** Words of a block before its tags. */
  readonly tagOffset: number;
  /** Ways of a block: from a tag to its name, and from there to its value, are as many words. */
  readonly nrPadded: number;
  /** Four times the last place of the order's last word. */
  readonly lastShift: number;
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
  /** -1 for a 2M translation. */
  readonly pteIndex: number;
  readonly value: number;
}

/** An empty array. `nrEntries` 0 makes one that never hits and keeps nothing. */
export function createTlb(shape: { readonly nrEntries: number; readonly nrWays: number }): Tlb {
  const { nrEntries, nrWays } = shape;
  const nrSets = nrEntries === 0 ? 1 : nrEntries / nrWays;
  assert((nrSets & (nrSets - 1)) === 0, "the sets of a TLB are not a power of two");
  const isFull = nrWays > WIDE_WAYS;
  assert(!isFull || nrSets === 1, "an array of many ways has more than one set");
  const isNarrow = nrWays <= NARROW_WAYS;
  const setShift = isNarrow ? NARROW_SHIFT : WIDE_SHIFT;
  const tlb: Tlb = {
    nrEntries,
    nrWays,
    setMask: nrSets - 1,
    words: new Int32Array(isFull ? 3 * nrWays : nrSets << setShift),
    setShift,
    tagOffset: isFull ? 0 : isNarrow ? NARROW_TAGS : WIDE_TAGS,
    nrPadded: isFull ? nrWays : isNarrow ? NARROW_WAYS : WIDE_WAYS,
    lastShift: ((nrWays - 1) & (NARROW_WAYS - 1)) * 4,
    nrSmall: 0,
    nrHuge: 0,
    full: isFull ? createFull(nrEntries) : null,
  };
  emptySets(tlb);
  return tlb;
}

function emptySets(tlb: Tlb): void {
  const { words, setShift } = tlb;
  words.fill(EMPTY);
  if (tlb.full !== null) return;
  for (let set = 0; set <= tlb.setMask; set++) words.set(FIRST_ORDER, set << setShift);
}

/** Tag of a 4K translation. */
export function smallTag(region: number, pteIndex: number): number {
  return (region << 9) | pteIndex;
}

/** Name of a 4K translation. */
export function smallName(asid: number, region: number): number {
  return asid | ((region >>> TAG_REGION_BITS) << REGION_SHIFT);
}

/** Name of a 2M translation, or of an upper entry in a page-walk cache; its tag is the region, or the entry's prefix. */
export function hugeName(asid: number): number {
  return asid | HUGE;
}

/** Place of a translation, now the latest of its set; or -1. */
export function lookupTlb(tlb: Tlb, tag: number, name: number): number {
  const { words } = tlb;
  if (tlb.nrWays > NARROW_WAYS) return lookupWideOrFull(tlb, tag, name);
  const set = (tag & tlb.setMask) << NARROW_SHIFT;
  const bytes = bytesOf(tag);
  const candidates =
    (zerosIn(words[set + NARROW_BYTES] ^ bytes) >>> 7) |
    (zerosIn(words[set + NARROW_BYTES + 1] ^ bytes) >>> 6);
  return candidates === 0 ? -1 : lookupAmong(words, set, candidates, tag, name);
}

/** The byte of a tag that stands with the order, four times. */
function bytesOf(tag: number): number {
  return Math.imul((tag ^ (tag >>> 8) ^ (tag >>> 16)) & 255, ONES);
}

/** The highest bit of each byte of `word` that is 0, and perhaps of bytes above such a one. */
function zerosIn(word: number): number {
  return (word - ONES) & ~word & HIGH_BITS;
}

/** As lookupTlb, among the ways of a narrow set named by bits: bit 8 * i + j is way 4 * j + i. */
function lookupAmong(
  words: Int32Array,
  set: number,
  among: number,
  tag: number,
  name: number,
): number {
  let candidates = among;
  do {
    const bit = 31 - Math.clz32(candidates);
    const way = ((bit & 7) << 2) | (bit >>> 3);
    const place = (set + NARROW_TAGS + way) | 0;
    if (words[place] === tag && words[(place + NARROW_WAYS) | 0] === name) {
      makeLatest(words, set, way);
      return place;
    }
    candidates ^= 1 << bit;
  } while (candidates !== 0);
  return -1;
}

function lookupWideOrFull(tlb: Tlb, tag: number, name: number): number {
  if (tlb.full !== null) return lookupFull(tlb.full, tlb.words, tlb.nrPadded, tag, name);
  return lookupWide(tlb, tag, name);
}

function lookupWide(tlb: Tlb, tag: number, name: number): number {
  const { words } = tlb;
  const set = (tag & tlb.setMask) << WIDE_SHIFT;
  const bytes = bytesOf(tag);
  let candidates =
    (zerosIn(words[set + WIDE_BYTES] ^ bytes) >>> 7) |
    (zerosIn(words[set + WIDE_BYTES + 1] ^ bytes) >>> 6) |
    (zerosIn(words[set + WIDE_BYTES + 2] ^ bytes) >>> 5) |
    (zerosIn(words[set + WIDE_BYTES + 3] ^ bytes) >>> 4);
  while (candidates !== 0) {
    const bit = 31 - Math.clz32(candidates);
    const way = ((bit & 7) << 2) | (bit >>> 3);
    const place = (set + WIDE_TAGS + way) | 0;
    if (words[place] === tag && words[(place + WIDE_WAYS) | 0] === name) {
      makeLatestWide(words, set, way);
      return place;
    }
    candidates ^= 1 << bit;
  }
  return -1;
}

/** What is kept with the translation at a place, 0..2^32-1. */
export function valueAt(tlb: Tlb, place: number): number {
  return tlb.words[place + 2 * tlb.nrPadded] >>> 0;
}

/** Adds a translation that is not held, as the latest of its set; the oldest goes if the set is full. */
export function insertTlb(tlb: Tlb, tag: number, name: number, value: number): void {
  const { words } = tlb;
  if (tlb.nrWays > NARROW_WAYS) return insertWideOrFull(tlb, tag, name, value);
  if (tlb.nrEntries === 0) return;
  const set = (tag & tlb.setMask) << NARROW_SHIFT;
  const way = oldestMadeLatest(words, set, tlb.lastShift);
  setByte(words, (set + NARROW_BYTES + (way >>> 2)) | 0, way, tag);
  const place = (set + NARROW_TAGS + way) | 0;
  const gone = words[(place + NARROW_WAYS) | 0];
  words[place] = tag;
  words[(place + NARROW_WAYS) | 0] = name;
  words[(place + 2 * NARROW_WAYS) | 0] = value;
  // Usually one goes and one of the same size comes.
  if (gone === EMPTY || ((gone ^ name) & HUGE) !== 0) countChange(tlb, gone, name);
}

/** Writes the byte of `tag` into the word of bytes that has the one of `way`. */
function setByte(words: Int32Array, at: number, way: number, tag: number): void {
  const bytes = words[at];
  words[at] = bytes ^ ((bytes ^ bytesOf(tag)) & (255 << ((way & 3) << 3)));
}

function insertWideOrFull(tlb: Tlb, tag: number, name: number, value: number): void {
  const { words, nrPadded } = tlb;
  let place = 0;
  if (tlb.full === null) {
    const set = (tag & tlb.setMask) << WIDE_SHIFT;
    const way = oldestMadeLatestWide(words, set, tlb.lastShift);
    setByte(words, (set + WIDE_BYTES + (way >>> 2)) | 0, way, tag);
    place = set + WIDE_TAGS + way;
  } else {
    place = oldestFull(tlb.full);
    insertFull(tlb.full, place, words[place + nrPadded] !== EMPTY, tag);
  }
  const gone = words[place + nrPadded];
  words[place] = tag;
  words[place + nrPadded] = name;
  words[place + 2 * nrPadded] = value;
  if (gone === EMPTY || ((gone ^ name) & HUGE) !== 0) countChange(tlb, gone, name);
}

/** Region of a translation. */
function regionOf(tag: number, name: number): number {
  if ((name & HUGE) !== 0) return tag;
  return (tag >>> 9) | ((name >>> REGION_SHIFT) << TAG_REGION_BITS);
}

/** The translation `name` took the place of `gone`, which may be EMPTY. */
function countChange(tlb: Tlb, gone: number, name: number): void {
  count(tlb, name, 1);
  if (gone !== EMPTY) count(tlb, gone, -1);
}

function count(tlb: Tlb, name: number, change: number): void {
  if ((name & HUGE) !== 0) tlb.nrHuge += change;
  else tlb.nrSmall += change;
}

/** Removes one translation; returns how many were removed, 0 or 1. */
export function dropTlb(tlb: Tlb, tag: number, name: number): number {
  const place = lookupTlb(tlb, tag, name);
  if (place < 0) return 0;
  dropPlace(tlb, place);
  return 1;
}

/** Removes every 4K and 2M translation of one region; returns how many. */
export function dropTlbRegion(tlb: Tlb, asid: number, region: number): number {
  if (tlb.nrSmall + tlb.nrHuge === 0) return 0;
  let nrDropped = 0;
  for (let set = 0; set <= tlb.setMask; set++) {
    for (let way = 0; way < tlb.nrWays; way++) {
      const place = (set << tlb.setShift) + tlb.tagOffset + way;
      const name = tlb.words[place + tlb.nrPadded];
      if (name === EMPTY || (name & ASID_MASK) !== asid) continue;
      if (regionOf(tlb.words[place], name) !== region) continue;
      dropPlace(tlb, place);
      nrDropped++;
    }
  }
  return nrDropped;
}

/** Removes everything of one address space; returns how many. */
export function dropTlbAsid(tlb: Tlb, asid: number): number {
  if (tlb.nrSmall + tlb.nrHuge === 0) return 0;
  let nrDropped = 0;
  for (let set = 0; set <= tlb.setMask; set++) {
    for (let way = 0; way < tlb.nrWays; way++) {
      const place = (set << tlb.setShift) + tlb.tagOffset + way;
      const name = tlb.words[place + tlb.nrPadded];
      if (name === EMPTY || (name & ASID_MASK) !== asid) continue;
      dropPlace(tlb, place);
      nrDropped++;
    }
  }
  return nrDropped;
}

/** Empties the array. */
export function clearTlb(tlb: Tlb): void {
  if (tlb.nrSmall + tlb.nrHuge === 0) return;
  emptySets(tlb);
  tlb.nrSmall = 0;
  tlb.nrHuge = 0;
  if (tlb.full !== null) clearFull(tlb.full);
}

/** Everything held, in no order. Allocates. */
export function heldTranslations(tlb: Tlb): HeldTranslation[] {
  const held: HeldTranslation[] = [];
  for (let set = 0; set <= tlb.setMask; set++) {
    for (let way = 0; way < tlb.nrWays; way++) {
      const place = (set << tlb.setShift) + tlb.tagOffset + way;
      const tag = tlb.words[place];
      const name = tlb.words[place + tlb.nrPadded];
      if (name === EMPTY) continue;
      held.push({
        asid: name & ASID_MASK,
        region: regionOf(tag, name),
        pteIndex: (name & HUGE) !== 0 ? -1 : tag & 511,
        value: valueAt(tlb, place),
      });
    }
  }
  return held;
}

/** Empties one way; it becomes the oldest of its set. */
function dropPlace(tlb: Tlb, place: number): void {
  const { words, nrPadded, setShift, full } = tlb;
  count(tlb, words[place + nrPadded], -1);
  words[place + nrPadded] = EMPTY;
  if (full !== null) return dropFull(full, place);
  const set = (place >>> setShift) << setShift;
  makeOldest(words, set, tlb.nrWays, place - set - tlb.tagOffset);
}
