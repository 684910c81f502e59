/**
 * The state of physical memory as plain records: what every folder to the right of phys sees of it.
 *
 * Owns:  the types; boot.ts makes the state, buddy.ts, pcp.ts, lru.ts, memcg.ts and watermarks.ts change it.
 * Holds: no closures except in the ports (`events`, `reclaim`, `phaseTables`), which a snapshot leaves out.
 * Units: nr* and *Pages = 4 KiB pages; a block of order n is 2^n pages.
 */

import type { Pfn } from "../base/address.ts";
import type { IntLists } from "../base/int-list.ts";
import type { IntRing } from "../base/int-ring.ts";
import type { Profile } from "../base/profile.ts";
import type { SchedState } from "../sched/state.ts";
import type { FrameTable } from "./frame-table.ts";

/** Largest order of the buddy; there are orders 0..10 (PHYS-001). */
export const MAX_ORDER = 10;
export const NR_ORDERS = MAX_ORDER + 1;
/** A pageblock is 2^9 pages: the unit that carries a migratetype (PHYS-001). */
export const PAGEBLOCK_ORDER = 9;
export const PAGEBLOCK_PAGES = 1 << PAGEBLOCK_ORDER;
/** Requests above this order are costly: no loop, no OOM kill (PHYS-002). */
export const COSTLY_ORDER = 3;

/** Migratetypes by the numbers tracepoints print (PHYS-005). */
export const MIGRATE = {
  UNMOVABLE: 0,
  MOVABLE: 1,
  RECLAIMABLE: 2,
  HIGHATOMIC: 3,
  ISOLATE: 4,
} as const;
export type MigrateType = number;
/** As /proc/pagetypeinfo names them. */
export const MIGRATE_NAMES = [
  "Unmovable",
  "Movable",
  "Reclaimable",
  "HighAtomic",
  "Isolate",
] as const;
export const NR_MIGRATE_TYPES = 5;
/** Types 0..2 have per-CPU lists and may be merged and stolen from. */
export const NR_PCP_TYPES = 3;

/** Kinds of zones in ascending order; also the "class" of a request: the highest kind it may use (PHYS-010). */
export const ZONE = { DMA: 0, DMA32: 1, NORMAL: 2, MOVABLE: 3 } as const;
export type ZoneKind = number;
export const ZONE_NAMES = ["DMA", "DMA32", "Normal", "Movable"] as const;
export const NR_ZONE_KINDS = 4;

/** The five LRU lists (PHYS-085). */
export const LRU = {
  INACTIVE_ANON: 0,
  ACTIVE_ANON: 1,
  INACTIVE_FILE: 2,
  ACTIVE_FILE: 3,
  UNEVICTABLE: 4,
} as const;
export type LruList = number;
export const LRU_NAMES = [
  "inactive_anon",
  "active_anon",
  "inactive_file",
  "active_file",
  "unevictable",
] as const;
export const NR_LRU_LISTS = 5;

/** Lists of one CPU in one zone: 3 types x orders 0..3, and two of order 9 (PHYS-033). */
export const NR_PCP_LISTS = 14;

export type NodeId = number;
export type CpuId = number;
export type MemcgId = number;
/** No memory cgroup: never limited, usage not kept. */
export const NO_MEMCG: MemcgId = 0;

/** Per-CPU list of free pages of one zone (PHYS-033..037). */
export interface Pcp {
  /** Heads of free blocks; see pcp.ts for the order of the lists. */
  readonly lists: readonly IntRing[];
  /** Base pages on its lists. */
  count: number;
  /** When `count` reaches it, pages go back; moves between the zone's highMin and highMax. */
  high: number;
  /** Consecutive order-0 refills, 0..5: the next one takes batch << allocFactor pages. */
  allocFactor: number;
  /** Pages freed of late; how many go back at `high`. */
  freeCount: number;
}

/** Watermarks in pages, without boost (PHYS-043). */
export interface Watermarks {
  min: number;
  low: number;
  high: number;
  promo: number;
}

/** A range of one node's frames that one kind of request can use (PHYS-010). */
export interface Zone {
  /** Index in `m.zones`. */
  readonly id: number;
  readonly kind: ZoneKind;
  readonly node: NodeId;
  /** First frame; the zone spans `startPfn`..`startPfn + spannedPages - 1`. */
  readonly startPfn: Pfn;
  readonly spannedPages: number;
  readonly presentPages: number;
  /** Present less reserved: what the buddy hands out. */
  readonly managedPages: number;

  /** Whole order-10 blocks not yet on the free lists: frames untakenStart..untakenEnd-1. Free and Movable all the same. */
  untakenStart: Pfn;
  readonly untakenEnd: Pfn;

  /** Free pages as vmstat counts them: untaken included; per-CPU lists and isolated pageblocks not. */
  nrFree: number;
  /** Of them: in HighAtomic blocks. */
  nrFreeHighAtomic: number;
  /** Pages in pageblocks reserved for HighAtomic (PHYS-047). */
  nrReservedHighAtomic: number;
  /** List number in `m.links` of order 0, type 0; list of (order, type) is firstList + order * 5 + type. */
  readonly firstList: number;
  /** Blocks on each free list, at order * 5 + type. */
  readonly freeBlocks: Int32Array;
  /** Per type: bit n is set if the list of order n has a block. */
  readonly nonEmpty: Int32Array;

  readonly watermarks: Watermarks;
  /** Pages added to every watermark (PHYS-044). */
  boost: number;
  /** Per request class: pages kept back from requests that could use a higher zone (PHYS-012). */
  readonly lowmemReserve: Int32Array;
  /** Per request class: nrFree above which an order-0 request needs no other check. low + boost + lowmemReserve. */
  readonly easyMarks: Int32Array;

  /** Pages moved at a time between a per-CPU list and the buddy (PHYS-035). */
  pcpBatch: number;
  pcpHighMin: number;
  pcpHighMax: number;
  /** One per CPU. */
  readonly pcps: readonly Pcp[];
  /** Base pages of this zone on each LRU list, all memcgs together (nr_zone_inactive_anon ...). */
  readonly lruPages: Int32Array;
  /** Index in `m.vmstat` of this kind's pgalloc counter. */
  readonly pgalloc: number;
}

export interface MemNode {
  readonly id: NodeId;
  /** Its zones, ascending. */
  readonly zones: readonly number[];
  /** All zones in the order an allocation tries them: own ones descending, then nodes by distance (PHYS-011). */
  readonly zonelist: Int32Array;
  /** Leading entries of `zonelist` that are this node's own. */
  readonly nrOwnZones: number;
  /** Distance to each node; 10 is local. */
  readonly distances: readonly number[];
}

/** A memory cgroup (PHYS-125..131). Amounts in pages; Infinity is "max". */
export interface Memcg {
  readonly id: MemcgId;
  readonly parent: MemcgId;
  readonly name: string;
  /** Charged to it and its descendants. */
  usage: number;
  /** Highest `usage` so far. */
  peak: number;
  max: number;
  high: number;
  low: number;
  min: number;
  /** Charge attempts refused by this group's `max`. */
  failcnt: number;
  oomKill: number;
  /** Huge pages that a collapse charged to this group itself, not to its children (COLL-298). */
  collapseAllocs: number;
}

/** Verdicts of direct compaction as the allocator needs them. */
export type CompactVerdict = "skipped" | "deferred" | "no-suitable-page" | "complete" | "success";

/**
 * Port: what lives to the right of phys and is needed when memory is short. Methods take the machine, so that the port
 * itself has no state. Without a port these steps find nothing.
 */
export interface ReclaimPort {
  /** Wakes kswapd of the node for a request of this order and class; must not allocate. */
  wakeKswapd(m: PhysState, node: NodeId, order: number, zoneClass: ZoneKind): void;
  /** Direct compaction over the zones the request may use. */
  compact(
    m: PhysState,
    node: NodeId,
    order: number,
    gfp: number,
    mode: "async" | "sync-light",
  ): CompactVerdict;
  /** Direct reclaim of up to `nrPages`; returns pages freed. */
  reclaim(m: PhysState, node: NodeId, order: number, gfp: number, nrPages: number): number;
  /** Reclaim inside a memory cgroup; returns pages freed. */
  reclaimMemcg(m: PhysState, memcg: MemcgId, nrPages: number, gfp: number): number;
  /** OOM kill for a request that may not fail; true if something died and a retry is worth it. */
  outOfMemory(m: PhysState, node: NodeId, order: number, gfp: number): boolean;
}

/** Knobs of /proc/sys/vm that belong to the allocator. */
export interface PhysSysctl {
  minFreeKbytes: number;
  /** Last value the user wrote to min_free_kbytes, or -1 (PHYS-042). */
  userMinFreeKbytes: number;
  watermarkScaleFactor: number;
  watermarkBoostFactor: number;
  /** Per zone kind (PHYS-012). */
  readonly lowmemReserveRatio: number[];
}

/** How many of the next allocations and charges fail though nothing is wrong. */
export interface Failing {
  /** Allocations of an order, by order. */
  readonly allocs: number[];
  /** Charges to memory cgroups. */
  charges: number;
}

export interface PhysState extends SchedState {
  readonly profile: Profile;
  readonly frames: FrameTable;
  /** Links of free lists and LRU lists: a frame is on at most one of them. */
  readonly links: IntLists;
  /** Links of the deferred split queues, one per memcg and node: list memcg * nrNodes + node. Writer: huge/. */
  readonly deferred: IntLists;
  /** At VMSTAT.x. */
  readonly vmstat: Float64Array;
  /** At order * NR_THP_STATS + THP_STAT.x, orders 0..10. */
  readonly thpStats: Float64Array;
  reclaim: ReclaimPort | null;

  readonly zones: readonly Zone[];
  readonly nodes: readonly MemNode[];
  /** First zone of a node's zonelist that a class may use, at node * 4 + class. */
  readonly firstZone: Int32Array;
  /** By id; null where there is none. 0 stands for "no memcg". Length is fixed. */
  readonly memcgs: (Memcg | null)[];

  readonly nrCpus: number;
  /** CPU that runs now: whose per-CPU lists are used, and what numa_local compares with. */
  cpu: CpuId;
  /** Node of each CPU, by CPU number. */
  readonly nodeOfCpu: Uint8Array;
  /** "off": every free merges at once and every allocation splits; frees are then seen by buddyinfo (PHYS-241). */
  readonly pcpMode: "on" | "off";

  /** MIGRATE type that each pageblock is labelled with (PHYS-025). Index pfn >>> 9. */
  readonly pageblockType: Uint8Array;
  /** Zone id of each pageblock. Index pfn >>> 9. */
  readonly zoneOfPageblock: Uint8Array;

  /** List number in `links` of memcg 0's first LRU list on node 0. */
  readonly firstLruList: number;
  /** Base pages on each LRU list, at (memcg * nrNodes + node) * 5 + list. */
  readonly lruPages: Int32Array;

  readonly sysctl: PhysSysctl;

  /** Allocations and charges that are made to fail, for tests of what follows; null as a rule. */
  failing: Failing | null;

  /** Room for the heads that a caller of freeFolios collects, at most 512; means nothing between calls. */
  readonly toFree: Int32Array;
}
