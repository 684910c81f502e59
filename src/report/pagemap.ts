/**
 * /proc/PID/pagemap: one 64-bit word per page of an address space, as two halves because the engine has no 64-bit integers.
 *
 * Entry: readPagemap, pagemapText.
 * Rules: PROC-040..044, ANON-250.
 */

import {
  type Addr,
  PAGE_SIZE,
  type Pfn,
  PTES_PER_REGION,
  pteIndexOf,
  regionOf,
  TASK_SIZE,
} from "../base/address.ts";
import { EINVAL, type Err } from "../base/errno.ts";
import { ENTRY, MARKER, pmdSlotOf } from "../mm/page-tables.ts";
import { pageMapcount } from "../mm/rmap.ts";
import type { Mm, MmState } from "../mm/state.ts";
import { PG } from "../phys/frame-table.ts";
import { swapOffsetOf, swapTypeOf } from "./swap-words.ts";

/** Bits 32..63 of a word, as bits of its upper half. */
export const PM_HIGH = {
  SOFT_DIRTY: 1 << (55 - 32),
  /** Mapped exactly once. */
  EXCLUSIVE: 1 << (56 - 32),
  UFFD_WP: 1 << (57 - 32),
  GUARD: 1 << (58 - 32),
  /** A file's page or shared anonymous memory. */
  FILE: 1 << (61 - 32),
  SWAP: 1 << (62 - 32),
  PRESENT: 2 ** 31,
} as const;

const WORD_BYTES = 8;
const END_PAGE = TASK_SIZE / PAGE_SIZE;
/** Kind and value that a marker's word holds in the place of a swap slot. */
const MARKER_TYPE = 31;
const GUARD_OFFSET = 4;

/** Consecutive words of one address space, split in halves. */
export interface PagemapWords {
  /** Bits 0..31. Rows: pages from the first one asked for. */
  readonly low: Uint32Array;
  /** Bits 32..63; see PM_HIGH. Rows: as `low`. */
  readonly high: Uint32Array;
}

/** Who reads: without the right to administer the system, frame numbers and swap slots read as 0 (PROC-044). */
export type PagemapReader = "root" | "owner";

/**
 * A read of `nrBytes` at byte `offset` of the file: the words, fewer at the end of user space, none behind it.
 * -EINVAL if either is not a multiple of 8.
 */
export function readPagemap(
  m: MmState,
  mm: Mm,
  offset: number,
  nrBytes: number,
  reader: PagemapReader = "root",
): PagemapWords | Err {
  if (offset % WORD_BYTES !== 0 || nrBytes % WORD_BYTES !== 0) return -EINVAL;
  const first = offset / WORD_BYTES;
  const nr = Math.max(Math.min(nrBytes / WORD_BYTES, END_PAGE - first), 0);
  const words = { low: new Uint32Array(nr), high: new Uint32Array(nr) };
  const start: Addr = first * PAGE_SIZE;
  for (let i = 0; i < nr; ) {
    const addr = start + i * PAGE_SIZE;
    const pte = pteIndexOf(addr);
    const inRegion = Math.min(PTES_PER_REGION - pte, nr - i);
    fillRegion(m, mm, regionOf(addr), pte, inRegion, words, i);
    i += inRegion;
  }
  if (reader === "owner") hideFrames(words);
  return words;
}

/** A word as sixteen hexadecimal digits. */
export function wordText(words: PagemapWords, index: number): string {
  const hex = (half: number) => half.toString(16).padStart(8, "0");
  return hex(words.high[index]) + hex(words.low[index]);
}

/** The words of every page that is not empty, one per line behind its address: for people. */
export function pagemapText(m: MmState, mm: Mm): string {
  const lines: string[] = [];
  for (const vma of mm.vmas) {
    const first = vma.start / PAGE_SIZE;
    const nr = vma.end / PAGE_SIZE - first;
    for (let i = 0; i < nr; i += PTES_PER_REGION) {
      const nrBytes = Math.min(PTES_PER_REGION, nr - i) * WORD_BYTES;
      const words = readPagemap(m, mm, (first + i) * WORD_BYTES, nrBytes) as PagemapWords;
      for (let j = 0; j < words.low.length; j++) {
        if (words.low[j] === 0 && words.high[j] === 0) continue;
        const addr = ((first + i + j) * PAGE_SIZE).toString(16).padStart(12, "0");
        lines.push(`${addr} ${wordText(words, j)}\n`);
      }
    }
  }
  return lines.join("");
}

/** Words of `nr` pages of one region from its page `pte`, written from row `at`. */
function fillRegion(
  m: MmState,
  mm: Mm,
  region: number,
  pte: number,
  nr: number,
  words: PagemapWords,
  at: number,
): void {
  const { tables } = m;
  const pmdSlot = pmdSlotOf(tables, mm.root, region);
  if (pmdSlot < 0) return;
  const flags = tables.flags[pmdSlot];
  if ((flags & ENTRY.TABLE) !== 0) {
    const slot = tables.payload[pmdSlot] * 512 + pte;
    for (let i = 0; i < nr; i++) {
      const entry = tables.flags[slot + i];
      if (entry !== 0) setWord(m, entry, tables.payload[slot + i], words, at + i);
    }
  } else if (flags !== 0) {
    fillHuge(m, flags, tables.payload[pmdSlot], pte, nr, words, at);
  }
}

function fillHuge(
  m: MmState,
  entry: number,
  head: Pfn,
  pte: number,
  nr: number,
  words: PagemapWords,
  at: number,
): void {
  // ANON-250: 6.18 asks the first page once for all 512.
  const isOnce = m.profile.pagemapExclusivePerPmd;
  for (let i = 0; i < nr; i++) {
    setWord(m, entry, head + pte + i, words, at + i);
    if (isOnce) words.high[at + i] = replaceExclusive(m, head, words.high[at + i]);
  }
  if ((entry & ENTRY.SPECIAL) === 0) return;
  // PROC-042: only the huge zero page counts as a file's.
  for (let i = at; i < at + nr; i++) words.high[i] |= PM_HIGH.FILE;
}

function replaceExclusive(m: MmState, head: Pfn, high: number): number {
  if ((m.frames.flags[head] & PG.ZERO) !== 0) return high;
  const cleared = high & ~PM_HIGH.EXCLUSIVE;
  return (pageMapcount(m, head) === 1 ? cleared | PM_HIGH.EXCLUSIVE : cleared) >>> 0;
}

/** The word of one entry that is not empty; `payload` is the page's own frame, slot or marker. */
function setWord(
  m: MmState,
  entry: number,
  payload: number,
  words: PagemapWords,
  at: number,
): void {
  let high = 0;
  if ((entry & ENTRY.UFFD_WP) !== 0) high |= PM_HIGH.UFFD_WP;
  if ((entry & ENTRY.PRESENT) !== 0) {
    words.low[at] = payload;
    words.high[at] = (high | presentBits(m, payload)) >>> 0;
    return;
  }
  high |= PM_HIGH.SWAP;
  let type = 0;
  let offset = payload;
  if ((entry & ENTRY.SWAP) !== 0) {
    type = swapTypeOf(payload);
    offset = swapOffsetOf(payload);
  } else if ((entry & ENTRY.MARKER) !== 0) {
    type = MARKER_TYPE;
    if (payload === MARKER.GUARD) {
      high |= PM_HIGH.GUARD;
      offset = GUARD_OFFSET;
    }
  }
  words.low[at] = ((offset << 5) | type) >>> 0;
  words.high[at] = (high | (offset >>> 27)) >>> 0;
}

function presentBits(m: MmState, pfn: Pfn): number {
  const { flags, order } = m.frames;
  if ((flags[pfn] & PG.ZERO) !== 0) return PM_HIGH.PRESENT;
  const isAnon = (flags[pfn & -(1 << order[pfn])] & PG.ANON) !== 0;
  const kind = isAnon ? 0 : PM_HIGH.FILE;
  return PM_HIGH.PRESENT + kind + (pageMapcount(m, pfn) === 1 ? PM_HIGH.EXCLUSIVE : 0);
}

function hideFrames(words: PagemapWords): void {
  // Bits 0..54 are all there is to hide.
  words.low.fill(0);
  for (let i = 0; i < words.high.length; i++) words.high[i] &= 0xff800000;
}
