/**
 * What became of one region: the kernel's SCAN results by the numbers of 6.18, and who tried.
 *
 * Entry: SCAN, ACTOR, scanResultName, madviseErrno, continuesMadvise, traceNumber.
 * Rules: COLL-140, COLL-246, COLL-247 and the table of section 15.
 */

import { EAGAIN, EBUSY, EINVAL, ENOMEM, type Err } from "../base/errno.ts";
import type { Profile } from "../base/profile.ts";

/** Who collapses: several limits hold for khugepaged only. */
export const ACTOR = { khugepaged: 0, madvise: 1 } as const;
export type Actor = (typeof ACTOR)[keyof typeof ACTOR];

/** As the trace events of 6.18 number them; PAGE_RO, which 6.18 no longer has, stands behind. */
export const SCAN = {
  FAIL: 0,
  SUCCEED: 1,
  /** No PMD table. */
  PMD_NULL: 2,
  /** No PTE table. */
  PMD_NONE: 3,
  /** Huge already. */
  PMD_MAPPED: 4,
  /** Holes: more than max_ptes_none, or any where a userfaultfd watches. */
  EXCEED_NONE_PTE: 5,
  EXCEED_SWAP_PTE: 6,
  EXCEED_SHARED_PTE: 7,
  /** An entry that is not present came up after the swap-in. */
  PTE_NON_PRESENT: 8,
  PTE_UFFD_WP: 9,
  /** The page cache has a huge page here that is mapped by PTEs. */
  PTE_MAPPED_HUGEPAGE: 10,
  LACK_REFERENCED_PAGE: 11,
  /** No ordinary page, or a cached one that is gone. */
  PAGE_NULL: 12,
  /** Nodes too far apart. */
  SCAN_ABORT: 13,
  /** Pinned. */
  PAGE_COUNT: 14,
  /** Isolated by somebody. */
  PAGE_LRU: 15,
  PAGE_LOCK: 16,
  PAGE_ANON: 17,
  PAGE_COMPOUND: 18,
  /** The process is ending, or may not have huge pages. */
  ANY_PROCESS: 19,
  VMA_NULL: 20,
  VMA_CHECK: 21,
  ADDRESS_RANGE: 22,
  DEL_PAGE_LRU: 23,
  ALLOC_HUGE_PAGE_FAIL: 24,
  CGROUP_CHARGE_FAIL: 25,
  TRUNCATED: 26,
  PAGE_HAS_PRIVATE: 27,
  STORE_FAILED: 28,
  /** A source page cannot be read: memory failed. */
  COPY_MC: 29,
  PAGE_FILLED: 30,
  /** 6.12: no page is writable (COLL-103). */
  PAGE_RO: 31,
} as const;
export type ScanResult = (typeof SCAN)[keyof typeof SCAN];

/** Where 6.12 has PAGE_RO; its later numbers are one higher than ours. */
const PAGE_RO_IN_6_12 = 11;

interface ResultRow {
  /** As trace events print it. */
  readonly name: string;
  /** Of MADV_COLLAPSE; 0 for what counts as huge. */
  readonly errno: Err;
  /** "next": MADV_COLLAPSE goes on with the next region. */
  readonly goOn: "next" | "stop";
}

const RESULTS: readonly ResultRow[] = [
  { name: "failed", errno: -EINVAL, goOn: "stop" },
  { name: "succeeded", errno: 0, goOn: "next" },
  { name: "pmd_null", errno: -EINVAL, goOn: "next" },
  { name: "pmd_none", errno: -EINVAL, goOn: "stop" },
  { name: "page_pmd_mapped", errno: 0, goOn: "next" },
  { name: "exceed_none_pte", errno: -EBUSY, goOn: "stop" },
  { name: "exceed_swap_pte", errno: -EINVAL, goOn: "stop" },
  { name: "exceed_shared_pte", errno: -EINVAL, goOn: "stop" },
  { name: "pte_non_present", errno: -EINVAL, goOn: "next" },
  { name: "pte_uffd_wp", errno: -EINVAL, goOn: "next" },
  { name: "pte_mapped_hugepage", errno: -EINVAL, goOn: "stop" },
  { name: "lack_referenced_page", errno: -EINVAL, goOn: "next" },
  { name: "page_null", errno: -EINVAL, goOn: "next" },
  { name: "scan_aborted", errno: -EINVAL, goOn: "stop" },
  { name: "not_suitable_page_count", errno: -EAGAIN, goOn: "next" },
  { name: "page_not_in_lru", errno: -EAGAIN, goOn: "next" },
  { name: "page_locked", errno: -EAGAIN, goOn: "next" },
  { name: "page_not_anon", errno: -EINVAL, goOn: "stop" },
  { name: "page_compound", errno: -EINVAL, goOn: "next" },
  { name: "no_process_for_page", errno: -EINVAL, goOn: "stop" },
  { name: "vma_null", errno: -EINVAL, goOn: "stop" },
  { name: "vma_check_failed", errno: -EINVAL, goOn: "stop" },
  { name: "not_suitable_address_range", errno: -EINVAL, goOn: "stop" },
  { name: "could_not_delete_page_from_lru", errno: -EAGAIN, goOn: "next" },
  { name: "alloc_huge_page_failed", errno: -ENOMEM, goOn: "stop" },
  { name: "ccgroup_charge_failed", errno: -EBUSY, goOn: "stop" },
  { name: "truncated", errno: -EINVAL, goOn: "stop" },
  { name: "page_has_private", errno: -EINVAL, goOn: "stop" },
  { name: "store_failed", errno: -EINVAL, goOn: "stop" },
  { name: "copy_poisoned_page", errno: -EINVAL, goOn: "stop" },
  { name: "page_filled", errno: -EAGAIN, goOn: "stop" },
  { name: "no_writable_page", errno: -EINVAL, goOn: "next" },
];

/** As trace events print it, e.g. "exceed_none_pte". */
export function scanResultName(result: number): string {
  return RESULTS[result].name;
}

/** What MADV_COLLAPSE returns if this was its last failure. */
export function madviseErrno(result: number): Err {
  return RESULTS[result].errno;
}

/** True if the region is huge now: MADV_COLLAPSE counts it. */
export function isHugeResult(result: number): boolean {
  return result === SCAN.SUCCEED || result === SCAN.PMD_MAPPED;
}

/** True if MADV_COLLAPSE tries the next region after this failure (COLL-246). */
export function continuesMadvise(result: number): boolean {
  return RESULTS[result].goOn === "next";
}

/** The number in trace events of the profile's kernel. */
export function traceNumber(profile: Profile, result: number): number {
  if (profile.collapsesReadOnly) return result;
  if (result === SCAN.PAGE_RO) return PAGE_RO_IN_6_12;
  return result < PAGE_RO_IN_6_12 ? result : result + 1;
}
