/**
 * Allocation flags and the effort classes made of them (PHYS-050..053).
 *
 * Owns:  the numbering, which is ours: bits 0..1 are the migratetype, bits 2..3 the zone class XOR Normal.
 */

import { MIGRATE, type MigrateType, ZONE, type ZoneKind } from "./state.ts";

export const GFP = {
  MOVABLE: MIGRATE.MOVABLE,
  RECLAIMABLE: MIGRATE.RECLAIMABLE,
  /** May use the Movable zone; only together with MOVABLE. */
  HIGHMEM: (ZONE.MOVABLE ^ ZONE.NORMAL) << 2,
  /** Only zone DMA. */
  DMA: (ZONE.DMA ^ ZONE.NORMAL) << 2,
  /** Only zones DMA32 and below. */
  DMA32: (ZONE.DMA32 ^ ZONE.NORMAL) << 2,
  DIRECT_RECLAIM: 1 << 4,
  KSWAPD_RECLAIM: 1 << 5,
  IO: 1 << 6,
  FS: 1 << 7,
  /** Gives up after one round of effort. */
  NORETRY: 1 << 8,
  /** Only the given node. */
  THISNODE: 1 << 9,
  /** May use part of the reserve below min (PHYS-046). */
  HIGH: 1 << 10,
  /** The task frees memory: no watermark (PHYS-046). */
  MEMALLOC: 1 << 11,
  /** Never without watermark, whatever the task. */
  NOMEMALLOC: 1 << 12,
  /** The task is being killed by the OOM killer: half the reserve (PHYS-046). */
  OOM_VICTIM: 1 << 13,
  /** Contents must be zero. They always are here (tags); the flag lets the cost model count the zeroing. */
  ZERO: 1 << 14,
  NOWARN: 1 << 15,
  /** Charge the memcg of the task. */
  ACCOUNT: 1 << 16,
} as const;

export const GFP_RECLAIM = GFP.DIRECT_RECLAIM | GFP.KSWAPD_RECLAIM;
/** Ordinary kernel memory. */
export const GFP_KERNEL = GFP_RECLAIM | GFP.IO | GFP.FS;
/** May not sleep: part of the reserve, kswapd only. */
export const GFP_ATOMIC = GFP.HIGH | GFP.KSWAPD_RECLAIM;
/** A page table. */
export const GFP_PGTABLE = GFP_KERNEL | GFP.ZERO | GFP.ACCOUNT;
/** PHYS-052: an order-0 user page. */
export const GFP_HIGHUSER_MOVABLE = GFP_KERNEL | GFP.HIGHMEM | GFP.MOVABLE;
/** PHYS-050: a huge page without any effort. */
export const GFP_TRANSHUGE_LIGHT =
  GFP.MOVABLE | GFP.HIGHMEM | GFP.IO | GFP.FS | GFP.NOMEMALLOC | GFP.NOWARN;
/** PHYS-051: a huge page with direct reclaim and compaction; kswapd is not woken. */
export const GFP_TRANSHUGE = GFP_TRANSHUGE_LIGHT | GFP.DIRECT_RECLAIM;

/** The free list the request is served from: Unmovable, Movable or Reclaimable. */
export function migrateTypeOf(gfp: number): MigrateType {
  return gfp & 3;
}

/** Highest zone kind that the request may use. */
export function zoneClassOf(gfp: number): ZoneKind {
  return ((gfp >>> 2) & 3) ^ ZONE.NORMAL;
}
