/**
 * State of the mode `shared_collapse`, which no kernel has: its knobs, statistics, the queue of mappings that may become huge,
 * and the records of its operations.
 *
 * Entry: createSharedCollapse for a machine that has the mode; readSharedFile, storeSharedKnob for its files in khugepaged/.
 * Owns:  SharedCollapse. Writers of everything but the knobs: collapse/shared-*.ts.
 * Rules: COLL-400..402. A machine without the mode has null in its place and none of its files.
 */

import type { Pfn } from "../base/address.ts";
import { EACCES, EINVAL, ENOENT, type Err } from "../base/errno.ts";
import { decimalDigits } from "./khugepaged-knobs.ts";

/** Files of mode 0644. */
export interface SharedKnobs {
  /** 0 or 1: khugepaged collapses shared pages without losing the sharing. */
  shared_collapse: number;
  /** 1..1048576 PTEs that one operation may change. */
  shared_collapse_max_ptes: number;
  /** 1..65535 address spaces. */
  shared_collapse_max_sharers: number;
  /** 0..10000 ms that migration entries may stand before the operation gives up; 0 no bound. */
  shared_collapse_batch_ms: number;
}

const RANGES: Readonly<Record<keyof SharedKnobs, readonly [low: number, high: number]>> = {
  shared_collapse: [0, 1],
  shared_collapse_max_ptes: [1, 1048576],
  shared_collapse_max_sharers: [1, 65535],
  shared_collapse_batch_ms: [0, 10000],
};

/** Why an operation came to nothing, in the order of COLL-440. */
export const SHARED_ABORTS = [
  "root",
  "swap_shared",
  "compound",
  "memcg",
  "budget",
  "alloc",
  "charge",
  "lock",
  "lru",
  "pinned",
  "copy_mc",
  "vma",
  "uffd",
  "stall",
] as const;

export type SharedAbort = (typeof SHARED_ABORTS)[number];

/** Files of mode 0444; all but the queue's length only ever grow (COLL-401). */
export const SHARED_STATS = [
  "shared_collapsed",
  "shared_pmds",
  "shared_ptes_updated",
  "shared_ptes_max",
  "shared_lru_saved",
  "shared_stall_ns_total",
  "shared_stall_ns_max",
  ...SHARED_ABORTS.map((reason) => `shared_abort_${reason}` as const),
] as const;

export type SharedStats = Record<(typeof SHARED_STATS)[number], number>;

/** One operation that found shared pages, whatever it came to (COLL-402, COLL-423). Counts are of PTEs unless said. */
export interface SharedRecord {
  readonly mmId: number;
  readonly region: number;
  /** SHARED in collapse/shared-result.ts. */
  readonly result: number;
  /** Pages to be put together, and the folios that they were, each one entry of an LRU list. */
  readonly nrSources: number;
  readonly nrFolios: number;
  /** Address spaces that map any of them. */
  readonly nrSharers: number;
  /** PTEs that map the pages, as counted before anything was done; 0 if it did not come to that. */
  readonly nrPtes: number;
  /** VMAs looked at by both walks together, also those that turned out to map nothing. */
  readonly nrVmasVisited: number;
  readonly nrFrozen: number;
  readonly nrRestored: number;
  /** Frames given back to the allocator. */
  readonly nrPagesFreed: number;
  readonly nrLruSaved: number;
  /** Simulated ns for which some migration entry stood. */
  readonly stallNs: number;
  /** VMAs whose mapping may become huge, as counted before anything was done; and those that did. */
  readonly nrPmdsPossible: number;
  nrPmds: number;
}

/** A mapping that may become huge (COLL-460). */
export interface DeferredPmd {
  readonly mmId: number;
  readonly region: number;
  /** The folio that was mapped there when it was queued. */
  readonly folio: Pfn;
  /** Times it was put back because the mmap lock was taken. */
  readonly nrRequeued: number;
  /** Number of the operation that queued it: `first` of `records` plus its place there. */
  readonly record: number;
}

/** Simulated ns of what others have to wait for. */
export interface SharedPrices {
  /** One PTE becomes a migration entry, or a PTE again. */
  readonly pteNs: number;
  /** One VMA found by a walk. */
  readonly vmaNs: number;
  /** One address space's TLB entries flushed. */
  readonly flushNs: number;
  /** One page copied. */
  readonly copyNs: number;
}

/** Of an ordinary server; whoever has measured replaces them. */
export const DEFAULT_SHARED_PRICES: SharedPrices = {
  pteNs: 60,
  vmaNs: 120,
  flushNs: 2000,
  copyNs: 250,
};

/** Older records are dropped. */
export const MOST_SHARED_RECORDS = 4096;

export interface SharedCollapse {
  readonly knobs: SharedKnobs;
  readonly stats: SharedStats;
  /** What /proc/vmstat has besides the kernel's names. */
  readonly vmstat: { thp_shared_collapse_alloc: number; thp_shared_collapse_alloc_failed: number };
  readonly queue: DeferredPmd[];
  /** The last operations, oldest first; the first is number `firstRecord`. */
  readonly records: SharedRecord[];
  firstRecord: number;
  prices: SharedPrices;
}

/** As at boot: off. */
export function createSharedCollapse(): SharedCollapse {
  return {
    knobs: {
      shared_collapse: 0,
      shared_collapse_max_ptes: 8192,
      shared_collapse_max_sharers: 64,
      shared_collapse_batch_ms: 0,
    },
    stats: Object.fromEntries(SHARED_STATS.map((name) => [name, 0])) as SharedStats,
    vmstat: { thp_shared_collapse_alloc: 0, thp_shared_collapse_alloc_failed: 0 },
    queue: [],
    records: [],
    firstRecord: 0,
    prices: DEFAULT_SHARED_PRICES,
  };
}

const QUEUE_FILE = "shared_deferred_vmas";

/** Names of the mode's files in khugepaged/. */
export function sharedFiles(): readonly string[] {
  return [...Object.keys(RANGES), ...SHARED_STATS, QUEUE_FILE];
}

/** True for a file that cannot be written. */
export function isSharedStat(name: string): boolean {
  return name === QUEUE_FILE || SHARED_STATS.some((stat) => stat === name);
}

/** The file's text, or -ENOENT. */
export function readSharedFile(mode: SharedCollapse, name: string): string | Err {
  if (name === QUEUE_FILE) return `${mode.queue.length}\n`;
  const value = { ...mode.knobs, ...mode.stats }[name as keyof SharedKnobs];
  return value === undefined ? -ENOENT : `${Math.floor(value)}\n`;
}

/** Stores a written word (without its newline): 0, -EINVAL, -EACCES or -ENOENT. */
export function storeSharedKnob(mode: SharedCollapse, name: string, word: string): Err {
  if (isSharedStat(name)) return -EACCES;
  if (!Object.hasOwn(RANGES, name)) return -ENOENT;
  const [low, high] = RANGES[name as keyof SharedKnobs];
  const digits = decimalDigits(word);
  const value = Number(digits);
  if (digits === "" || digits === "overflow" || value < low || value > high) return -EINVAL;
  mode.knobs[name as keyof SharedKnobs] = value;
  return 0;
}
