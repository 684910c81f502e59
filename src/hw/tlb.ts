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
 * search, reads a word or two. Arrays of more than WIDE_WAYS ways (fully associative ones) are one block with a ring and a
 * hash besides; see tlb-full.ts. The arrays of one CPU may share one `words`, so that the code that goes through several
 * of them holds one address.
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

const FILTER_MASK = 511;
/** Words of a block before the bytes of its tags: the order of use. */
const ORDER_WORDS = 2;
/** One in each byte, and the highest bit of each. */
const ONES = 0x01010101;
const HIGH_BITS = 0x80808080 | 0;

export interface Tlb {
  readonly nrEntries: number;
  readonly nrWays: number;
  readonly setMask: number;
  /** Low bits of a tag that choose the set. */
  readonly setBits: number;
  /** From `base` on, blocks of setWords: ORDER_WORDS, nrGroups, then tags, names and values of nrPadded ways each. */
  readonly words: Int32Array;
  readonly base: number;
  readonly setWords: number;
  /** Words of four bytes of tags. */
  readonly nrGroups: number;
  /** Words of a block before its tags. */
  readonly tagOffset: number;
  /** Ways of a block, a multiple of 4: those beyond nrWays never hold anything. */
  readonly nrPadded: number;
  /** Four times the last place of the order's last word. */
  readonly lastShift: number;
  /** 1 where a region with these low 9 bits may have entries, 0 where none has. Rows: region & 511. */
  readonly mayHold: Uint8Array;
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

/** Entries and ways of an array; see geometry.ts. */
interface Shape {
  readonly nrEntries: number;
  readonly nrWays: number;
}

/** Words that an array needs. */
export function tlbWords(shape: Shape): number {
  return nrSetsOf(shape) * setWordsOf(shape);
}

/** An empty array, in `words` from `base` on. `nrEntries` 0 makes one that never hits and keeps nothing. */
export function createTlb(shape: Shape, words = new Int32Array(tlbWords(shape)), base = 0): Tlb {
  const { nrEntries, nrWays } = shape;
  const nrSets = nrSetsOf(shape);
  assert((nrSets & (nrSets - 1)) === 0, "the sets of a TLB are not a power of two");
  const isFull = nrWays > WIDE_WAYS;
  assert(!isFull || nrSets === 1, "an array of many ways has more than one set");
  const nrGroups = nrGroupsOf(shape);
  const tlb: Tlb = {
    nrEntries,
    nrWays,
    setMask: nrSets - 1,
    setBits: 31 - Math.clz32(nrSets),
    words,
    base,
    setWords: setWordsOf(shape),
    nrGroups,
    tagOffset: ORDER_WORDS + nrGroups,
    nrPadded: nrGroups * 4,
    lastShift: ((nrWays - 1) & (NARROW_WAYS - 1)) * 4,
    mayHold: new Uint8Array(FILTER_MASK + 1),
    nrSmall: 0,
    nrHuge: 0,
    full: isFull ? createFull(nrEntries) : null,
  };
  emptySets(tlb);
  return tlb;
}

function nrSetsOf({ nrEntries, nrWays }: Shape): number {
  return nrEntries === 0 ? 1 : nrEntries / nrWays;
}

function nrGroupsOf({ nrWays }: Shape): number {
  return Math.max(1, Math.ceil(nrWays / 4));
}

function setWordsOf(shape: Shape): number {
  return ORDER_WORDS + nrGroupsOf(shape) * (1 + 3 * 4);
}

function emptySets(tlb: Tlb): void {
  const { words, base, setWords } = tlb;
  const end = base + (tlb.setMask + 1) * setWords;
  words.fill(EMPTY, base, end);
  for (let at = base; at < end; at += setWords) words.set(FIRST_ORDER, at);
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
  const { words, full } = tlb;
  if (full !== null) return lookupFullTlb(tlb, full, tag, name);
  const set = (tlb.base + Math.imul(tag & tlb.setMask, tlb.setWords)) | 0;
  const bytes = bytesOf(tlb, tag);
  const { nrGroups } = tlb;
  let candidates = 0;
  for (let group = 0; group < nrGroups; group++) {
    const differs = words[(set + ORDER_WORDS + group) | 0] ^ bytes;
    // The highest bit of each byte that is 0, and perhaps of bytes above one.
    candidates |= ((differs - ONES) & ~differs & HIGH_BITS) >>> (7 - group);
  }
  return candidates === 0 ? -1 : lookupAmong(tlb, set, candidates, tag, name);
}

/** The byte of a tag that stands with the order, four times. */
function bytesOf(tlb: Tlb, tag: number): number {
  const rest = tag >>> tlb.setBits;
  return Math.imul((rest ^ (rest >>> 8)) & 255, ONES);
}

/** As lookupTlb, among the ways of a set named by bits: bit 8 * i + j is way 4 * j + i. */
function lookupAmong(tlb: Tlb, set: number, among: number, tag: number, name: number): number {
  const { words, nrPadded } = tlb;
  const first = (set + tlb.tagOffset) | 0;
  let candidates = among;
  do {
    const bit = 31 - Math.clz32(candidates);
    const way = ((bit & 7) << 2) | (bit >>> 3);
    const place = (first + way) | 0;
    if (words[place] === tag && words[(place + nrPadded) | 0] === name) {
      if (tlb.nrWays <= NARROW_WAYS) makeLatest(words, set, way);
      else makeLatestWide(words, set, way);
      return place;
    }
    candidates ^= 1 << bit;
  } while (candidates !== 0);
  return -1;
}

function lookupFullTlb(tlb: Tlb, full: FullWays, tag: number, name: number): number {
  const first = tlb.base + tlb.tagOffset;
  const way = lookupFull(full, tlb.words, first, tlb.nrPadded, tag, name);
  return way < 0 ? -1 : first + way;
}

/** What is kept with the translation at a place, 0..2^32-1. */
export function valueAt(tlb: Tlb, place: number): number {
  return tlb.words[place + 2 * tlb.nrPadded] >>> 0;
}

/** Adds a translation that is not held, as the latest of its set; the oldest goes if the set is full. */
export function insertTlb(tlb: Tlb, tag: number, name: number, value: number): void {
  if (tlb.nrEntries === 0) return;
  const { words, nrPadded } = tlb;
  const set = (tlb.base + Math.imul(tag & tlb.setMask, tlb.setWords)) | 0;
  const way = takeOldest(tlb, set, tag);
  const groupAt = (set + ORDER_WORDS + (way >>> 2)) | 0;
  const bytes = words[groupAt];
  words[groupAt] = bytes ^ ((bytes ^ bytesOf(tlb, tag)) & (255 << ((way & 3) << 3)));
  const place = (set + tlb.tagOffset + way) | 0;
  const nameAt = (place + nrPadded) | 0;
  const gone = words[nameAt];
  words[place] = tag;
  words[nameAt] = name;
  words[(nameAt + nrPadded) | 0] = value;
  tlb.mayHold[regionOf(tag, name) & FILTER_MASK] = 1;
  // Usually one goes and one of the same size comes.
  if (gone === EMPTY || ((gone ^ name) & HUGE) !== 0) countChange(tlb, gone, name);
}

/** The oldest way of a set, now the latest; of a fully associative array, under the tag. */
function takeOldest(tlb: Tlb, set: number, tag: number): number {
  if (tlb.full !== null) return takeOldestFull(tlb, tlb.full, tag);
  if (tlb.nrWays <= NARROW_WAYS) return oldestMadeLatest(tlb.words, set, tlb.lastShift);
  return oldestMadeLatestWide(tlb.words, set, tlb.lastShift);
}

function takeOldestFull(tlb: Tlb, full: FullWays, tag: number): number {
  const way = oldestFull(full);
  const nameAt = tlb.base + tlb.tagOffset + way + tlb.nrPadded;
  insertFull(full, way, tlb.words[nameAt] !== EMPTY, tag);
  return way;
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
  if (tlb.mayHold[regionOf(tag, name) & FILTER_MASK] === 0) return 0;
  const place = lookupTlb(tlb, tag, name);
  if (place < 0) return 0;
  dropPlace(tlb, place);
  return 1;
}

/** Removes every 4K and 2M translation of one region; returns how many. */
export function dropTlbRegion(tlb: Tlb, asid: number, region: number): number {
  if (tlb.mayHold[region & FILTER_MASK] === 0) return 0;
  let nrDropped = 0;
  let mayHold = 0;
  for (let set = 0; set <= tlb.setMask; set++) {
    for (let way = 0; way < tlb.nrWays; way++) {
      const place = tlb.base + set * tlb.setWords + tlb.tagOffset + way;
      const name = tlb.words[place + tlb.nrPadded];
      if (name === EMPTY) continue;
      const held = regionOf(tlb.words[place], name);
      if (((held ^ region) & FILTER_MASK) !== 0) continue;
      if (held === region && (name & ASID_MASK) === asid) {
        dropPlace(tlb, place);
        nrDropped++;
      } else mayHold = 1;
    }
  }
  tlb.mayHold[region & FILTER_MASK] = mayHold;
  return nrDropped;
}

/** Removes everything of one address space; returns how many. */
export function dropTlbAsid(tlb: Tlb, asid: number): number {
  if (tlb.nrSmall + tlb.nrHuge === 0) return 0;
  let nrDropped = 0;
  for (let set = 0; set <= tlb.setMask; set++) {
    for (let way = 0; way < tlb.nrWays; way++) {
      const place = tlb.base + set * tlb.setWords + tlb.tagOffset + way;
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
  tlb.mayHold.fill(0);
  tlb.nrSmall = 0;
  tlb.nrHuge = 0;
  if (tlb.full !== null) clearFull(tlb.full);
}

/** Everything held, in no order. Allocates. */
export function heldTranslations(tlb: Tlb): HeldTranslation[] {
  const held: HeldTranslation[] = [];
  for (let set = 0; set <= tlb.setMask; set++) {
    for (let way = 0; way < tlb.nrWays; way++) {
      const place = tlb.base + set * tlb.setWords + tlb.tagOffset + way;
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
  const { words, nrPadded, full } = tlb;
  const set = tlb.base + Math.floor((place - tlb.base) / tlb.setWords) * tlb.setWords;
  const way = place - set - tlb.tagOffset;
  count(tlb, words[place + nrPadded], -1);
  words[place + nrPadded] = EMPTY;
  if (full !== null) dropFull(full, way);
  else makeOldest(words, set, tlb.nrWays, way);
}
