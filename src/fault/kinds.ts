/**
 * What a page fault did, as one small integer: a kind, the order it mapped, and marks.
 *
 * Layout: bits 0..7 kind, 8..11 order, then MARK bits. Negative values are the signals a fault can end in.
 */

/** In the order of their numbers. */
export const FAULT_KINDS = [
  /** The entry was good already (another thread was faster, a stale TLB): young or dirty was set. */
  "spurious",
  /** A new zeroed 4K page. */
  "anon 4k",
  /** The shared zero page. */
  "zero 4k",
  /** A new folio of order 2..8. */
  "anon mTHP",
  /** A new 2 MiB folio. */
  "anon 2M",
  /** The huge zero folio. */
  "zero 2M",
  /** A write-protected 4K page was taken over without a copy. */
  "reuse 4k",
  /** A shared 4K page was copied. */
  "copy-on-write 4k",
  /** A write-protected huge mapping was taken over without a copy. */
  "reuse 2M",
  /** A shared huge folio was copied whole (profile seed-2011 only). */
  "copy-on-write 2M",
  /** Pages of a file were mapped, the touched one and cached neighbours. */
  "file",
  /** A page of a private file mapping was copied. */
  "file copy-on-write",
  /** A page of shared anonymous memory. */
  "shmem",
  /** A swapped page was mapped again: from its device with the mark MAJOR, else from the swap cache. */
  "swap-in",
] as const;

export type FaultKind = (typeof FAULT_KINDS)[number];

/** Numbers of the kinds. */
export const FAULT = Object.fromEntries(FAULT_KINDS.map((name, i) => [name, i])) as Readonly<
  Record<FaultKind, number>
>;

export const FAULT_KIND_MASK = 0xff;
export const FAULT_ORDER_SHIFT = 8;

export const FAULT_MARK = {
  /** A larger folio was tried first and could not be had. */
  FELL_BACK: 1 << 12,
  /** A huge entry was split on the way. */
  SPLIT_PMD: 1 << 13,
  /** The contents came from a device: a major fault, of whatever kind. */
  MAJOR: 1 << 14,
} as const;

/** The access is not allowed: SIGSEGV. */
export const FAULT_SIGSEGV = -11;
/** SIGBUS. */
export const FAULT_SIGBUS = -7;
/** No frame, and nothing to reclaim. */
export const FAULT_OOM = -12;

/** si_code of a SIGBUS for memory that failed, when it is touched (ANON-282). */
export const BUS_MCEERR_AR = 4;
/** The same, told to a process that has not touched it yet. */
export const BUS_MCEERR_AO = 5;
const POISON_FIRST = -1024;
/** SIGBUS because the 4K page failed; see poisonOf. */
export const FAULT_HWPOISON = POISON_FIRST - 12;

/** Nothing was done: an operation that is held has the page, by a migration entry or in swap. To be tried again afterwards. */
export const FAULT_WAIT = -512;

/**
 * What the program sees of a SIGBUS for failed memory: si_code, and si_addr_lsb, by which its mapping has 2^addrLsb bytes. Its
 * si_addr is the page that was touched. Null if the result is none for failed memory.
 */
export function poisonOf(
  result: number,
): { readonly code: number; readonly addrLsb: number } | null {
  return result === FAULT_HWPOISON
    ? { code: BUS_MCEERR_AR, addrLsb: POISON_FIRST - FAULT_HWPOISON }
    : null;
}

/** The kind of a result that is not negative. */
export function faultKindOf(result: number): FaultKind {
  return FAULT_KINDS[result & FAULT_KIND_MASK];
}

/** Order of the folio that was mapped. */
export function faultOrderOf(result: number): number {
  return (result >>> FAULT_ORDER_SHIFT) & 0xf;
}
