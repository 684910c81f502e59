/**
 * Makes physical memory: lays out nodes and zones, reserves what no one may have, and leaves the rest free and untaken.
 *
 * Entry: createPhys.
 * Cost:  columns are reserved at full length but written only at the few frames listed at boot, so a large machine
 *        boots as fast as a small one (see buddy.ts).
 * Layout: frames 0..nrFrames-1 without holes. Node 0 owns DMA (below 16 MiB) and DMA32 (below 4 GiB); the other nodes
 *        follow in equal parts, cut at multiples of 128 MiB (PHYS-010). Frame 0 is reserved.
 */

import { PAGE_SIZE } from "../base/address.ts";
import { assert } from "../base/assert.ts";
import { NR_THP_STATS, VMSTAT, VMSTAT_NAMES } from "../base/counters.ts";
import { createIntLists } from "../base/int-list.ts";
import { createIntRing } from "../base/int-ring.ts";
import type { Profile } from "../base/profile.ts";
import { createSched } from "../sched/state.ts";
import { listBlock, SECTION_PAGES } from "./buddy.ts";
import { createFrameTable, PG } from "./frame-table.ts";
import {
  MAX_ORDER,
  type MemNode,
  MIGRATE,
  NR_LRU_LISTS,
  NR_MIGRATE_TYPES,
  NR_ORDERS,
  NR_PCP_LISTS,
  NR_ZONE_KINDS,
  PAGEBLOCK_ORDER,
  PAGEBLOCK_PAGES,
  type Pcp,
  type PhysState,
  ZONE,
  type Zone,
  type ZoneKind,
} from "./state.ts";
import {
  DEFAULT_LOWMEM_RESERVE_RATIO,
  DEFAULT_WATERMARK_BOOST_FACTOR,
  DEFAULT_WATERMARK_SCALE_FACTOR,
  resetMinFree,
} from "./watermarks.ts";

export interface PhysConfig {
  /** Multiple of 4 MiB, at least 16 MiB. */
  readonly memoryBytes: number;
  readonly nrCpus: number;
  /** With more than one, each gets at least 128 MiB. CPUs are dealt to the nodes in equal runs. */
  readonly nrNodes: number;
  readonly profile: Profile;
  readonly pcp: "on" | "off";
  /** Memory at the top of each node that only movable requests may use; a multiple of 4 MiB. Default 0. */
  readonly movableBytesPerNode?: number;
  /** Memory cgroups that can exist at a time. Default 64. */
  readonly maxMemcgs?: number;
  /** Distance of two different nodes; default 20 (10 is local). */
  readonly remoteDistance?: number;
}

const BLOCK_PAGES = 1 << MAX_ORDER;
const DMA_END = 4096;
const DMA32_END = 2 ** 20;
/** Frame 0: no folio begins there, so that NO_PFN can be 0. */
const NR_RESERVED = 1;
const FREE_LISTS_PER_ZONE = NR_ORDERS * NR_MIGRATE_TYPES;
const PGALLOC = [
  VMSTAT.pgalloc_dma,
  VMSTAT.pgalloc_dma32,
  VMSTAT.pgalloc_normal,
  VMSTAT.pgalloc_movable,
];

/** A machine's memory with everything free. */
export function createPhys(config: PhysConfig): PhysState {
  const nrFrames = config.memoryBytes / PAGE_SIZE;
  assert(nrFrames % BLOCK_PAGES === 0 && nrFrames >= DMA_END, "memory size not usable");
  assert(nrFrames < 2 ** 31, "more frames than a pfn can name");
  assert(config.nrCpus >= 1 && config.nrNodes >= 1, "no CPU or no node");

  const spans = zoneSpans(nrFrames, config);
  const maxMemcgs = (config.maxMemcgs ?? 64) + 1;
  const firstLruList = spans.length * FREE_LISTS_PER_ZONE;
  const nrLists = firstLruList + maxMemcgs * config.nrNodes * NR_LRU_LISTS;

  const nodes = createNodes(spans, config);
  const m: PhysState = {
    sched: createSched(),
    phaseTables: {},
    profile: config.profile,
    frames: createFrameTable(nrFrames),
    links: createIntLists(nrFrames, nrLists),
    deferred: createIntLists(nrFrames, maxMemcgs * config.nrNodes),
    vmstat: new Float64Array(VMSTAT_NAMES.length),
    thpStats: new Float64Array(NR_ORDERS * NR_THP_STATS),
    events: null,
    reclaim: null,
    zones: spans.map((span, id) => createZone(span, id, config.nrCpus)),
    nodes,
    firstZone: firstZones(nodes, spans),
    memcgs: new Array<null>(maxMemcgs).fill(null),
    nrCpus: config.nrCpus,
    cpu: 0,
    nodeOfCpu: Uint8Array.from({ length: config.nrCpus }, (_, cpu) =>
      Math.floor((cpu * config.nrNodes) / config.nrCpus),
    ),
    pcpMode: config.pcp,
    pageblockType: new Uint8Array(nrFrames >>> PAGEBLOCK_ORDER).fill(MIGRATE.MOVABLE),
    zoneOfPageblock: new Uint8Array(nrFrames >>> PAGEBLOCK_ORDER),
    firstLruList,
    lruPages: new Int32Array(maxMemcgs * config.nrNodes * NR_LRU_LISTS),
    sysctl: {
      minFreeKbytes: 0,
      userMinFreeKbytes: -1,
      watermarkScaleFactor: DEFAULT_WATERMARK_SCALE_FACTOR,
      watermarkBoostFactor: DEFAULT_WATERMARK_BOOST_FACTOR,
      lowmemReserveRatio: [...DEFAULT_LOWMEM_RESERVE_RATIO],
    },
    failing: null,
    toFree: new Int32Array(PAGEBLOCK_PAGES),
  };
  for (const zone of m.zones) openZone(m, zone);
  resetMinFree(m);
  return m;
}

interface ZoneSpan {
  readonly node: number;
  readonly kind: ZoneKind;
  readonly start: number;
  readonly end: number;
}

/** Zones that have memory, by ascending frame. */
function zoneSpans(nrFrames: number, config: PhysConfig): ZoneSpan[] {
  const movable = (config.movableBytesPerNode ?? 0) / PAGE_SIZE;
  assert(movable % BLOCK_PAGES === 0, "size of the Movable zone not usable");
  const spans: ZoneSpan[] = [];
  for (let node = 0; node < config.nrNodes; node++) {
    const start = nodeStart(node, nrFrames, config.nrNodes);
    const end = nodeStart(node + 1, nrFrames, config.nrNodes);
    const movableStart = end - movable;
    assert(start < movableStart && (node > 0 || movableStart >= DMA_END), "node without memory");
    const bounds = [0, DMA_END, DMA32_END, Number.POSITIVE_INFINITY];
    for (let kind: ZoneKind = ZONE.DMA; kind <= ZONE.NORMAL; kind++) {
      const zoneStart = Math.max(start, bounds[kind]);
      const zoneEnd = Math.min(movableStart, bounds[kind + 1]);
      if (zoneStart < zoneEnd) spans.push({ node, kind, start: zoneStart, end: zoneEnd });
    }
    if (movable > 0) spans.push({ node, kind: ZONE.MOVABLE, start: movableStart, end });
  }
  return spans;
}

function nodeStart(node: number, nrFrames: number, nrNodes: number): number {
  if (node === nrNodes) return nrFrames;
  return Math.floor((nrFrames * node) / nrNodes / SECTION_PAGES) * SECTION_PAGES;
}

function createZone(span: ZoneSpan, id: number, nrCpus: number): Zone {
  const pages = span.end - span.start;
  const reserved = span.start === 0 ? NR_RESERVED : 0;
  return {
    id,
    kind: span.kind,
    node: span.node,
    startPfn: span.start,
    spannedPages: pages,
    presentPages: pages,
    managedPages: pages - reserved,
    untakenStart: span.start === 0 ? BLOCK_PAGES : span.start,
    untakenEnd: span.end,
    nrFree: 0,
    nrFreeHighAtomic: 0,
    nrReservedHighAtomic: 0,
    firstList: id * FREE_LISTS_PER_ZONE,
    freeBlocks: new Int32Array(FREE_LISTS_PER_ZONE),
    nonEmpty: new Int32Array(NR_MIGRATE_TYPES),
    watermarks: { min: 0, low: 0, high: 0, promo: 0 },
    boost: 0,
    lowmemReserve: new Int32Array(NR_ZONE_KINDS),
    easyMarks: new Int32Array(NR_ZONE_KINDS),
    pcpBatch: 1,
    pcpHighMin: 0,
    pcpHighMax: 0,
    pcps: Array.from({ length: nrCpus }, createPcp),
    lruPages: new Int32Array(NR_LRU_LISTS),
    pgalloc: PGALLOC[span.kind],
  };
}

function createPcp(): Pcp {
  const lists = Array.from({ length: NR_PCP_LISTS }, createIntRing);
  return { lists, count: 0, high: 0, allocFactor: 0, freeCount: 0 };
}

function createNodes(spans: readonly ZoneSpan[], config: PhysConfig): MemNode[] {
  const ids = Array.from({ length: config.nrNodes }, (_, node) => node);
  const remote = config.remoteDistance ?? 20;
  return ids.map((node) => {
    const zones = spans.flatMap((span, zone) => (span.node === node ? [zone] : []));
    // Nodes at the same distance follow each other in a ring, so that not all of them fall back to node 0.
    const order = ids.map((step) => (node + step) % config.nrNodes);
    const zonelist = order.flatMap((other) =>
      spans.flatMap((span, zone) => (span.node === other ? [zone] : [])).reverse(),
    );
    return {
      id: node,
      zones,
      zonelist: Int32Array.from(zonelist),
      nrOwnZones: zones.length,
      distances: ids.map((other) => (other === node ? 10 : remote)),
    };
  });
}

function firstZones(nodes: readonly MemNode[], spans: readonly ZoneSpan[]): Int32Array {
  const first = new Int32Array(nodes.length * NR_ZONE_KINDS);
  for (const node of nodes) {
    for (let zoneClass = 0; zoneClass < NR_ZONE_KINDS; zoneClass++) {
      const zone = node.zonelist.find((id) => spans[id].kind <= zoneClass);
      first[node.id * NR_ZONE_KINDS + zoneClass] = zone ?? 0;
    }
  }
  return first;
}

/** Labels the zone's frames and lists the part of its first block that frame 0 leaves over. */
function openZone(m: PhysState, zone: Zone): void {
  const end = zone.startPfn + zone.spannedPages;
  m.zoneOfPageblock.fill(zone.id, zone.startPfn >>> PAGEBLOCK_ORDER, end >>> PAGEBLOCK_ORDER);
  zone.nrFree = zone.managedPages;
  m.vmstat[VMSTAT.nr_free_pages] += zone.managedPages;
  if (zone.startPfn !== 0) return;

  m.frames.flags[0] = PG.RESERVED;
  for (let order = 0; order < MAX_ORDER; order++) {
    listBlock(m, zone, 1 << order, order, MIGRATE.MOVABLE, "tail");
  }
}
