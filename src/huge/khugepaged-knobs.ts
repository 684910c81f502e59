/**
 * The knobs of khugepaged, as files of transparent_hugepage/khugepaged: defaults, what is accepted, what is read back.
 *
 * Entry: readKhugepagedKnob, storeKhugepagedKnob. Names are the files'.
 * Owns:  KhugepagedKnobs. The daemon only reads it, and counts its progress there.
 * Rules: COLL-001..013.
 */

import { EACCES, EINVAL, ENOENT, ERANGE, type Err } from "../base/errno.ts";

export interface KhugepagedKnobs {
  /** 0 or 1. */
  defrag: number;
  /** 0..511 pages of a region. */
  max_ptes_none: number;
  max_ptes_swap: number;
  max_ptes_shared: number;
  /** 1..2^32-1. */
  pages_to_scan: number;
  /** 0..2^32-1 ms. */
  scan_sleep_millisecs: number;
  alloc_sleep_millisecs: number;
  /** Regions collapsed and complete passes since boot; they wrap at 2^32. */
  pages_collapsed: number;
  full_scans: number;
}

export type KhugepagedKnobName = keyof KhugepagedKnobs;

const UINT_MAX = 2 ** 32 - 1;
const ULONG_MAX = "18446744073709551615";

/** What each writable file accepts. */
const RANGES: Readonly<Partial<Record<KhugepagedKnobName, readonly [low: number, high: number]>>> =
  {
    defrag: [0, 1],
    max_ptes_none: [0, 511],
    max_ptes_swap: [0, 511],
    max_ptes_shared: [0, 511],
    pages_to_scan: [1, UINT_MAX],
    scan_sleep_millisecs: [0, UINT_MAX],
    alloc_sleep_millisecs: [0, UINT_MAX],
  };

/** As at boot; on a machine with little memory the daemon does not defragment (ANON-003). */
export function defaultKhugepagedKnobs(isSmallMemory: boolean): KhugepagedKnobs {
  return {
    defrag: isSmallMemory ? 0 : 1,
    max_ptes_none: 511,
    max_ptes_swap: 64,
    max_ptes_shared: 256,
    pages_to_scan: 4096,
    scan_sleep_millisecs: 10000,
    alloc_sleep_millisecs: 60000,
    pages_collapsed: 0,
    full_scans: 0,
  };
}

/** The file's text, or -ENOENT. */
export function readKhugepagedKnob(knobs: KhugepagedKnobs, name: string): string | Err {
  return Object.hasOwn(knobs, name) ? `${knobs[name as KhugepagedKnobName]}\n` : -ENOENT;
}

/** Stores a written word (without its newline): 0, -EINVAL, -ERANGE, -EACCES or -ENOENT. */
export function storeKhugepagedKnob(knobs: KhugepagedKnobs, name: string, word: string): Err {
  if (!Object.hasOwn(knobs, name)) return -ENOENT;
  const range = RANGES[name as KhugepagedKnobName];
  if (range === undefined) return -EACCES;
  const digits = decimalDigits(word);
  // COLL-013: only defrag passes on that a number does not fit 64 bits.
  if (digits === "overflow") return name === "defrag" ? -ERANGE : -EINVAL;
  const value = Number(digits);
  if (digits === "" || value < range[0] || value > range[1]) return -EINVAL;
  knobs[name as KhugepagedKnobName] = value;
  return 0;
}

/** COLL-010: digits without leading zeros, "" for what is no decimal number, "overflow" above 64 bits. */
export function decimalDigits(word: string): string {
  if (!/^\+?[0-9]+$/.test(word)) return "";
  const digits = word.replace(/^\+?0*(?=.)/, "");
  const { length } = ULONG_MAX;
  const isTooBig = digits.length > length || (digits.length === length && digits > ULONG_MAX);
  return isTooBig ? "overflow" : digits;
}
