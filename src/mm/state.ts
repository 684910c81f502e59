/**
 * The machine as memory management sees it: address spaces, their page tables, anon_vmas, and the lists that live low
 * because rmap feeds them (deferred split) or fork and exit must know them (huge zero folio).
 */

import type { Addr, Pfn } from "../base/address.ts";
import type { SwapState } from "../swap/state.ts";
import type { AnonVma } from "./anon-vma.ts";
import type { FileObject } from "./file-object.ts";
import type { Khugepaged } from "./khugepaged-list.ts";
import type { PageTables } from "./page-tables.ts";
import type { Poison } from "./poison.ts";
import type { Vma } from "./vma.ts";

/** prctl(PR_SET_THP_DISABLE): off, for all of the mm, or except where MADV_HUGEPAGE was given (ANON-030, 031). */
export type ThpDisable = "no" | "all" | "exceptAdvised";

/** One address space. Counts are in 4 KiB pages. */
export interface Mm {
  /** Index in m.mms; stays unique until the address space is gone. */
  readonly id: number;
  /** Table id of the PGD. */
  readonly root: number;
  /** Sorted by address, disjoint. */
  readonly vmas: Vma[];
  /** The VMA of the last fault: tried first by the next. */
  lastVma: Vma | null;
  /** The region whose PTE table was used last, -1 none: most accesses hit it, so the walk to it is kept. */
  hintRegion: number;
  /** That PTE table. Writers: fault/ sets it; whoever takes a PTE table out of its PMD entry clears it. */
  hintTable: number;
  /** Highest address the top-down search may use (exclusive). */
  readonly mmapBase: Addr;
  /** Program break: start of the heap and its current end (bytes, end need not be page aligned). */
  brkStart: Addr;
  brk: Addr;
  /** Mapped anonymous pages without zero pages; a PMD-mapped folio counts 512. */
  rssAnon: number;
  rssFile: number;
  rssShmem: number;
  /** Page-table entries that name a swap slot (VmSwap). */
  nrSwapEntries: number;
  /** Largest total RSS seen before a decrease; see peakRss(). */
  hiwaterRss: number;
  /** Page tables of all levels, deposited ones included (VmPTE). */
  nrTables: number;
  /** Of nrTables, the PTE tables, deposited ones included. */
  nrPteTables: number;
  minflt: number;
  majflt: number;
  thpDisable: ThpDisable;
  /** Holds one reference on the huge zero folio until it ends (ANON-081). */
  usesHugeZero: boolean;
  /** In m.khugepaged.mms. */
  isKhugepagedCandidate: boolean;
  /** The OOM killer is taking its memory away: faults install nothing any more (ANON-337). */
  isUnstable: boolean;
  /** Some page of it was ever pinned: fork looks for pins (ANON-154). */
  hasPinned: boolean;
  /** Memory cgroup its pages are charged to; 0 none. */
  memcg: number;
  /** mlockall(MCL_FUTURE): VM bits new mappings get. */
  defaultFlags: number;
  /** RLIMIT_MEMLOCK; Infinity for a process that may lock without limit (CAP_IPC_LOCK). */
  lockLimitBytes: number;
}

/** Port: told before translations are lessened, so that TLBs and secondary MMUs can drop theirs (ANON-290). */
export interface MmuNotifier {
  /** Pages [startPage, endPage) of address space `mmId`; page numbers, half-open. */
  invalidateRange(mmId: number, startPage: number, endPage: number): void;
  /**
   * True if the pages were used through this MMU since the last call; it forgets that. One without access bits answers by
   * dropping what it maps there and says whether there was anything. Absent: nothing is ever young here.
   */
  clearFlushYoung?(mmId: number, startPage: number, endPage: number): boolean;
  /** As clearFlushYoung, but changes nothing; false from an MMU without access bits. */
  testYoung?(mmId: number, startPage: number, endPage: number): boolean;
  /** The address space is gone. */
  release(mmId: number): void;
}

/** Port: told when a VMA has taken in a neighbour or grown in its place. */
export interface VmaObserver {
  /** A method, so that an observer may want more of the machine than is known here. */
  vmaGrew(m: MmState, mm: Mm, vma: Vma): void;
}

/** The one huge zero folio of the machine. */
export interface HugeZero {
  /** Head frame, NO_PFN while not allocated. */
  pfn: Pfn;
  /** One per mm that ever used it, and one for the shrinker (ANON-081). */
  refcount: number;
}

export interface MmState extends SwapState {
  readonly tables: PageTables;
  /** By id; null where an address space ended. */
  readonly mms: (Mm | null)[];
  /** By id from 1; null where released. */
  readonly anonVmas: (AnonVma | null)[];
  readonly freeAnonVmaIds: number[];
  /** By id from 1; null where a shared memory object is gone. */
  readonly files: (FileObject | null)[];
  /** Files that lost their last VMA and may have got another since; emptied by shmem/. */
  readonly unmappedFiles: FileObject[];
  /** The shared 4 KiB page of zeroes. */
  readonly zeroPfn: Pfn;
  readonly hugeZero: HugeZero;
  readonly poison: Poison;
  /** Folios on each queue of `deferred`, by its list number. */
  readonly deferredLength: Int32Array;
  /** New THPs are queued as maybe underused (the knob shrink_underused; ANON-194). */
  queuesUnderused: boolean;
  readonly khugepaged: Khugepaged;
  mmuNotifier: MmuNotifier | null;
  vmaObserver: VmaObserver | null;
  /** Where the address choices of new address spaces come from. */
  readonly layout: AddressLayout;
}

/** How new address spaces are laid out. */
export interface AddressLayout {
  /** False: the same addresses for every seed (as with randomize_va_space=0). */
  readonly randomize: boolean;
  /** Stack size limit (bytes): the top-down search starts below it. */
  readonly stackLimitBytes: number;
}

/** Resident pages: anonymous, file and shared memory. */
export function rssOf(mm: Mm): number {
  return mm.rssAnon + mm.rssFile + mm.rssShmem;
}

/** Largest RSS so far (VmHWM, getrusage's ru_maxrss), in pages. */
export function peakRss(mm: Mm): number {
  return Math.max(mm.hiwaterRss, rssOf(mm));
}

/** Called before RSS falls, so that the maximum is not lost. */
export function noteHiwater(mm: Mm): void {
  const rss = rssOf(mm);
  if (rss > mm.hiwaterRss) mm.hiwaterRss = rss;
}
