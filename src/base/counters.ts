/**
 * The counters of /proc/vmstat and of hugepages-<size>kB/stats that hugelab keeps, by the kernel's names.
 *
 * Events only rise; `nr_*` rise and fall. Unit: one event, or 4 KiB pages where the kernel counts pages, or THPs for
 * nr_anon_transparent_hugepages. Values are doubles and exact to 2^53.
 */

export const VMSTAT_NAMES = [
  "nr_free_pages",
  "nr_inactive_anon",
  "nr_active_anon",
  "nr_inactive_file",
  "nr_active_file",
  "nr_unevictable",
  "nr_mlock",
  "nr_anon_pages",
  "nr_mapped",
  "nr_file_pages",
  "nr_shmem",
  "nr_swapcached",
  "nr_vmscan_write",
  "workingset_refault_anon",
  "workingset_activate_anon",
  "nr_anon_transparent_hugepages",
  "nr_page_table_pages",
  "pgalloc_dma",
  "pgalloc_dma32",
  "pgalloc_normal",
  "pgalloc_movable",
  "pgfree",
  "pgfault",
  "pgmajfault",
  "pglazyfree",
  "pglazyfreed",
  "pgdeactivate",
  "pgactivate",
  "numa_hit",
  "numa_miss",
  "numa_local",
  "numa_other",
  "pswpin",
  "pswpout",
  "swpin_zero",
  "swpout_zero",
  "thp_fault_alloc",
  "thp_fault_fallback",
  "thp_fault_fallback_charge",
  "thp_collapse_alloc",
  "thp_collapse_alloc_failed",
  "thp_file_alloc",
  "thp_file_fallback",
  "thp_file_fallback_charge",
  "thp_file_mapped",
  "thp_split_page",
  "thp_split_page_failed",
  "thp_deferred_split_page",
  "thp_underused_split_page",
  "thp_split_pmd",
  "thp_scan_exceed_none_pte",
  "thp_scan_exceed_swap_pte",
  "thp_scan_exceed_share_pte",
  "thp_zero_page_alloc",
  "thp_zero_page_alloc_failed",
  "thp_swpout",
  "thp_swpout_fallback",
] as const;

export type VmstatName = (typeof VMSTAT_NAMES)[number];

/** Index of each vmstat counter in `m.vmstat`. */
export const VMSTAT = Object.fromEntries(VMSTAT_NAMES.map((name, i) => [name, i])) as Readonly<
  Record<VmstatName, number>
>;

/** Per-size statistics; `m.thpStats[order * NR_THP_STATS + THP_STAT.x]`. */
export const THP_STAT_NAMES = [
  "anon_fault_alloc",
  "anon_fault_fallback",
  "anon_fault_fallback_charge",
  "zswpout",
  "swpin",
  "swpin_fallback",
  "swpin_fallback_charge",
  "swpout",
  "swpout_fallback",
  "shmem_alloc",
  "shmem_fallback",
  "shmem_fallback_charge",
  "split",
  "split_failed",
  "split_deferred",
  "nr_anon",
  "nr_anon_partially_mapped",
] as const;

export type ThpStatName = (typeof THP_STAT_NAMES)[number];
export const NR_THP_STATS = THP_STAT_NAMES.length;

/** Index of each per-size statistic within its order's row. */
export const THP_STAT = Object.fromEntries(THP_STAT_NAMES.map((name, i) => [name, i])) as Readonly<
  Record<ThpStatName, number>
>;
