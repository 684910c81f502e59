/**
 * /proc/vmstat: every name of the running kernel in its order, with the model's counts.
 *
 * Entry: vmstatText; VMSTAT_BLOCKS and isModelled for whoever needs the names alone.
 * Rules: PROC-070..073. A name that the model keeps no count for reads 0, as on a kernel where it never happened;
 *        isModelled tells them apart.
 */

import { VMSTAT, type VmstatName } from "../base/counters.ts";
import type { HugeState } from "../huge/knobs.ts";
import type { MmState } from "../mm/state.ts";
import { LRU, type Zone } from "../phys/state.ts";
import { freeInWholePageblocks } from "./buddyinfo.ts";

/** Names in the order of the file, by block (PROC-071). */
export const VMSTAT_BLOCKS = {
  zone: words(
    `nr_free_pages nr_free_pages_blocks nr_zone_inactive_anon nr_zone_active_anon nr_zone_inactive_file nr_zone_active_file
     nr_zone_unevictable nr_zone_write_pending nr_mlock nr_zspages nr_free_cma`,
  ),
  numa: words("numa_hit numa_miss numa_foreign numa_interleave numa_local numa_other"),
  node: words(
    `nr_inactive_anon nr_active_anon nr_inactive_file nr_active_file nr_unevictable nr_slab_reclaimable nr_slab_unreclaimable
     nr_isolated_anon nr_isolated_file workingset_nodes workingset_refault_anon workingset_refault_file
     workingset_activate_anon workingset_activate_file workingset_restore_anon workingset_restore_file
     workingset_nodereclaim nr_anon_pages nr_mapped nr_file_pages nr_dirty nr_writeback nr_shmem nr_shmem_hugepages
     nr_shmem_pmdmapped nr_file_hugepages nr_file_pmdmapped nr_anon_transparent_hugepages nr_vmscan_write
     nr_vmscan_immediate_reclaim nr_dirtied nr_written nr_throttled_written nr_kernel_misc_reclaimable
     nr_foll_pin_acquired nr_foll_pin_released nr_kernel_stack nr_page_table_pages nr_sec_page_table_pages nr_iommu_pages
     nr_swapcached pgpromote_success pgpromote_candidate pgpromote_candidate_nrl pgdemote_kswapd pgdemote_direct
     pgdemote_khugepaged pgdemote_proactive nr_hugetlb nr_balloon_pages nr_kernel_file_pages`,
  ),
  writeback: words("nr_dirty_threshold nr_dirty_background_threshold"),
  memmap: words("nr_memmap_pages nr_memmap_boot_pages"),
  events: words(
    `pgpgin pgpgout pswpin pswpout pgalloc_dma pgalloc_dma32 pgalloc_normal pgalloc_movable pgalloc_device allocstall_dma
     allocstall_dma32 allocstall_normal allocstall_movable allocstall_device pgskip_dma pgskip_dma32 pgskip_normal
     pgskip_movable pgskip_device pgfree pgactivate pgdeactivate pglazyfree pgfault pgmajfault pglazyfreed pgrefill pgreuse
     pgsteal_kswapd pgsteal_direct pgsteal_khugepaged pgsteal_proactive pgscan_kswapd pgscan_direct pgscan_khugepaged
     pgscan_proactive pgscan_direct_throttle pgscan_anon pgscan_file pgsteal_anon pgsteal_file zone_reclaim_success
     zone_reclaim_failed pginodesteal slabs_scanned kswapd_inodesteal kswapd_low_wmark_hit_quickly
     kswapd_high_wmark_hit_quickly pageoutrun pgrotated drop_pagecache drop_slab oom_kill numa_pte_updates
     numa_huge_pte_updates numa_hint_faults numa_hint_faults_local numa_pages_migrated pgmigrate_success pgmigrate_fail
     thp_migration_success thp_migration_fail thp_migration_split compact_migrate_scanned compact_free_scanned
     compact_isolated compact_stall compact_fail compact_success compact_daemon_wake compact_daemon_migrate_scanned
     compact_daemon_free_scanned htlb_buddy_alloc_success htlb_buddy_alloc_fail unevictable_pgs_culled
     unevictable_pgs_scanned unevictable_pgs_rescued unevictable_pgs_mlocked unevictable_pgs_munlocked
     unevictable_pgs_cleared unevictable_pgs_stranded thp_fault_alloc thp_fault_fallback thp_fault_fallback_charge
     thp_collapse_alloc thp_collapse_alloc_failed thp_file_alloc thp_file_fallback thp_file_fallback_charge
     thp_file_mapped thp_split_page thp_split_page_failed thp_deferred_split_page thp_underused_split_page thp_split_pmd
     thp_scan_exceed_none_pte thp_scan_exceed_swap_pte thp_scan_exceed_share_pte thp_split_pud thp_zero_page_alloc
     thp_zero_page_alloc_failed thp_swpout thp_swpout_fallback balloon_inflate balloon_deflate balloon_migrate swap_ra
     swap_ra_hit swpin_zero swpout_zero ksm_swpin_copy cow_ksm zswpin zswpout zswpwb direct_map_level2_splits
     direct_map_level3_splits direct_map_level2_collapses direct_map_level3_collapses nr_unstable`,
  ),
} as const;

/** Per-zone items that the model keeps by zone. */
const BY_ZONE: Readonly<Record<string, (zone: Zone) => number>> = {
  nr_free_pages: (zone) => zone.nrFree,
  nr_free_pages_blocks: freeInWholePageblocks,
  nr_zone_inactive_anon: (zone) => zone.lruPages[LRU.INACTIVE_ANON],
  nr_zone_active_anon: (zone) => zone.lruPages[LRU.ACTIVE_ANON],
  nr_zone_inactive_file: (zone) => zone.lruPages[LRU.INACTIVE_FILE],
  nr_zone_active_file: (zone) => zone.lruPages[LRU.ACTIVE_FILE],
  nr_zone_unevictable: (zone) => zone.lruPages[LRU.UNEVICTABLE],
};

/**
 * `name value` per line; a sum that is negative for a moment prints 0 (PROC-070). Behind the kernel's names stand those of the
 * mode `shared_collapse` on a machine that has it (COLL-401).
 */
export function vmstatText(m: HugeState): string {
  const kernel = Object.values(VMSTAT_BLOCKS)
    .flat()
    .map((name) => `${name} ${Math.max(systemCount(m, name), 0)}\n`);
  const mode = Object.entries(m.sharedCollapse?.vmstat ?? {});
  return [...kernel, ...mode.map(([name, value]) => `${name} ${value}\n`)].join("");
}

/** True if the model counts what this name says. */
export function isModelled(name: string): boolean {
  return Object.hasOwn(VMSTAT, name) || Object.hasOwn(BY_ZONE, name);
}

/** A count by name; 0 for what the model does not keep. */
export function countOf(m: MmState, name: string): number {
  // The kernel's file pages are all pages of a cache, the swap cache included (PROC-062).
  const inSwapCache = name === "nr_file_pages" ? m.vmstat[VMSTAT.nr_swapcached] : 0;
  return inSwapCache + countKept(m, name);
}

function countKept(m: MmState, name: string): number {
  return Object.hasOwn(VMSTAT, name) ? m.vmstat[VMSTAT[name as VmstatName]] : 0;
}

/** An item of one zone, or undefined where the model keeps no count by zone. */
export function zoneItem(zone: Zone, name: string): number | undefined {
  return BY_ZONE[name]?.(zone);
}

function systemCount(m: MmState, name: string): number {
  const ofZone = BY_ZONE[name];
  if (ofZone === undefined) return countOf(m, name);
  return m.zones.reduce((sum, zone) => sum + ofZone(zone), 0);
}

function words(text: string): readonly string[] {
  return text.trim().split(/\s+/);
}
