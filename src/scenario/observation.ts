/**
 * What can be seen of a machine after a statement, in a form that the model and the live kernel can both fill and that can be
 * compared field by field.
 *
 * Entry: Observation. Filled by observe-model.ts here and by the kernel back end in cli/.
 * Holds: nothing in it depends on chance or on where memory happened to lie: frames are numbered by first appearance, counters are
 *        differences since the scenario's start.
 * Units: pages of 4 KiB; smaps and status sizes in kB as the kernel prints them.
 */

import type { Addr } from "../base/address.ts";

/** State of one page of a range, as pagemap, kpageflags and smaps show it together. */
export const PAGE_STATES = [
  "unmapped",
  "none",
  "small",
  "huge",
  "part",
  "zero",
  "hugezero",
  "swapped",
  "guard",
  "poisoned",
  "migrating",
  "file",
] as const;

export type PageState = (typeof PAGE_STATES)[number];

/** Pages of one range in one process, as columns of equal length: one slot per page from `start`. */
export interface PageColumns {
  /** Index in PAGE_STATES. */
  readonly state: Uint8Array;
  /** Number of the folio by first appearance over the whole observation (processes in order, ranges in order), -1 none. */
  readonly folio: Int32Array;
  /** Index of the page in its folio; 0 where there is none. */
  readonly index: Int32Array;
  /** Order of the folio; 0 where there is none. */
  readonly order: Uint8Array;
  /** kpagecount: mappings of the page; 0 where there is none and for zero pages. */
  readonly mapcount: Int32Array;
  /** Bits of PAGE_BIT. */
  readonly bits: Uint16Array;
}

/** Bits of one page: the first is exact, the rest only after the LRU batches were drained. */
export const PAGE_BIT = {
  /** Bit 56 of pagemap. */
  EXCLUSIVE: 1 << 0,
  DIRTY: 1 << 1,
  ACTIVE: 1 << 2,
  REFERENCED: 1 << 3,
  MLOCKED: 1 << 4,
  UNEVICTABLE: 1 << 5,
  SWAPBACKED: 1 << 6,
  UPTODATE: 1 << 7,
  SWAPCACHE: 1 << 8,
  LRU: 1 << 9,
  /** Bit 57: written-protected by userfaultfd. */
  UFFD_WP: 1 << 10,
} as const;

/** Bits compared between back ends after every statement. */
export const EXACT_BITS = PAGE_BIT.EXCLUSIVE | PAGE_BIT.UFFD_WP;

export interface RangeObservation {
  readonly name: string;
  readonly start: Addr;
  readonly nrPages: number;
  readonly pages: PageColumns;
}

/** One VMA that overlaps a range of the scenario. */
export interface VmaObservation {
  readonly start: Addr;
  readonly end: Addr;
  /** As maps prints it: "rw-p". */
  readonly permissions: string;
  /** Two-letter codes in the kernel's order. */
  readonly flags: readonly string[];
  /** smaps fields in kB, by the kernel's names; THPeligible as 0 or 1. Those of SMAPS_FIELDS. */
  readonly smaps: Readonly<Record<string, number>>;
}

/** smaps fields that repeat exactly, and so are compared. */
export const SMAPS_FIELDS = [
  "Size",
  "Rss",
  "Pss",
  "Shared_Clean",
  "Shared_Dirty",
  "Private_Clean",
  "Private_Dirty",
  "Anonymous",
  "LazyFree",
  "AnonHugePages",
  "ShmemPmdMapped",
  "FilePmdMapped",
  "Swap",
  "SwapPss",
  "Locked",
  "THPeligible",
] as const;

export interface ProcessObservation {
  readonly name: string;
  readonly ranges: readonly RangeObservation[];
  readonly vmas: readonly VmaObservation[];
  /** Numbers of /proc/PID/status by name, kB where the kernel prints kB: STATUS_FIELDS. Not all repeat: see there. */
  readonly status: Readonly<Record<string, number>>;
  readonly minflt: number;
  readonly majflt: number;
}

/** status fields that can be expected. A live process has memory besides the scenario's: differences since start are given. */
export const STATUS_FIELDS = [
  "VmLck",
  "VmPin",
  "RssAnon",
  "VmPTE",
  "VmSwap",
  "THP_enabled",
] as const;

export interface Observation {
  /** Living processes in the order of their creation. */
  readonly processes: readonly ProcessObservation[];
  /** Changes since the scenario's start: vmstat by name, per-size stats as "2048kB/split". Zero changes may be left out. */
  readonly counters: Readonly<Record<string, number>>;
}
