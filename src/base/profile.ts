/**
 * Behaviour profiles: what differs between kernel versions and the seeds' own designs, as named fields.
 *
 * A branch that needs one reads its field; nothing compares versions. A new difference is a new field here.
 */

export interface Profile {
  readonly name: string;
  /** Write to a huge zero PMD: map a THP in place, or split into 4K zero PTEs (ANON-084, ANON-085). */
  readonly hugeZeroWrite: "allocate" | "split";
  /** One MADV_DONTNEED call over a whole 2 MiB frees its emptied PTE table (ANON-061). */
  readonly dontneedFreesTables: boolean;
  /** Reuse of pages of large folios at copy-on-write without the exclusive flag (ANON-160, ANON-161). */
  readonly cowReusesLargeFolio: boolean;
  /** Copy-on-write of a huge PMD: split and copy 4K, or copy 2 MiB (ANON-158, ANON-159). */
  readonly hugeCow: "split" | "copy";
  /** madvise(MADV_HUGEPAGE) on a mapping that is not anonymous: 0 or EINVAL (ANON-041). */
  readonly hugepageAdviceOnFile: "accept" | "EINVAL";
  /** prctl(PR_SET_THP_DISABLE) knows PR_THP_DISABLE_EXCEPT_ADVISED (ANON-031). */
  readonly prctlExceptAdvised: boolean;
  /** Adding all PTE mappings of a folio in a locked VMA mlocks it (ANON-235). */
  readonly mlocksPteMappedFolio: boolean;
  /** Bit 56 of pagemap for a huge PMD is computed from its first subpage (ANON-250). */
  readonly pagemapExclusivePerPmd: boolean;
  /** mremap to a fixed place with unchanged length may span several VMAs and holes (ANON-228). */
  readonly remapMovesSeveralVmas: boolean;
  /** MADV_GUARD_INSTALL and MADV_GUARD_REMOVE exist (ANON-274). */
  readonly guardPages: boolean;
  /** A folio of order 2..8 is swapped in whole where its size is enabled (PHYS-113). */
  readonly largeSwapIn: boolean;
  /** Reclaim drops a clean lazily freed huge mapping as it is, without splitting it first (ANON-265). */
  readonly discardsHugePmd: boolean;
  /** A huge folio is swapped out whole; else it is always split first (PHYS-099). */
  readonly swapsHugeWhole: boolean;
  /** Fast GUP makes the entry young, or only marks the folio as referenced (ANON-257). */
  readonly fastGupMarksEntry: boolean;
  /** A region is collapsed although none of its pages is writable (COLL-103, COLL-500). */
  readonly collapsesReadOnly: boolean;
  /** Huge pages of shared memory alone keep khugepaged running (COLL-021). */
  readonly shmemStartsKhugepaged: boolean;
  /**
   * process_madvise on one's own memory: any advice, and PIDFD_SELF, checked after the access to the target; or what another
   * process can be advised, checked before (COLL-261, COLL-263, COLL-506).
   */
  readonly processMadviseOwn: "any" | "remoteOnly";
  /** transparent_hugepage= also takes 0 and 2, for never and madvise (ANON-002). */
  readonly numericBootParameter: boolean;
  /** Total RAM below which THP starts disabled, in bytes (ANON-003). */
  readonly smallMemoryBytes: number;
}

const LINUX_6_18: Profile = {
  name: "linux-6.18",
  hugeZeroWrite: "allocate",
  dontneedFreesTables: true,
  cowReusesLargeFolio: true,
  hugeCow: "split",
  hugepageAdviceOnFile: "accept",
  prctlExceptAdvised: true,
  mlocksPteMappedFolio: true,
  pagemapExclusivePerPmd: true,
  remapMovesSeveralVmas: true,
  guardPages: true,
  largeSwapIn: true,
  discardsHugePmd: false,
  swapsHugeWhole: true,
  fastGupMarksEntry: false,
  collapsesReadOnly: true,
  shmemStartsKhugepaged: true,
  processMadviseOwn: "any",
  numericBootParameter: false,
  smallMemoryBytes: 512 * 1024 * 1024,
};

const LINUX_6_12: Profile = {
  ...LINUX_6_18,
  name: "linux-6.12",
  hugeZeroWrite: "split",
  dontneedFreesTables: false,
  cowReusesLargeFolio: false,
  prctlExceptAdvised: false,
  mlocksPteMappedFolio: false,
  pagemapExclusivePerPmd: false,
  remapMovesSeveralVmas: false,
  collapsesReadOnly: false,
  shmemStartsKhugepaged: false,
  processMadviseOwn: "remoteOnly",
  guardPages: false,
  largeSwapIn: false,
  discardsHugePmd: true,
};

const SEED_2011: Profile = {
  ...LINUX_6_12,
  name: "seed-2011",
  hugeCow: "copy",
  swapsHugeWhole: false,
  hugepageAdviceOnFile: "EINVAL",
  fastGupMarksEntry: true,
  numericBootParameter: true,
  smallMemoryBytes: 1024 * 1024 * 1024,
};

/** All profiles; the first is the default. */
export const PROFILES: readonly Profile[] = [LINUX_6_18, LINUX_6_12, SEED_2011];
