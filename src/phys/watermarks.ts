/**
 * Watermarks, the reserves behind them, and min_free_kbytes: the formulae and the state they are kept in.
 *
 * Entry: refreshWatermarks after any change of a knob; setMinFreeKbytes, recommendMinFreeForThp for the knob itself;
 *        isWatermarkOk for the allocator.
 * Owns:  zone.watermarks, zone.boost, zone.lowmemReserve, zone.easyMarks, zone.pcpBatch/pcpHighMin/pcpHighMax, sysctl.minFreeKbytes.
 * Units: pages, unless the name says kB.
 */

import {
  COSTLY_ORDER,
  MIGRATE,
  NR_PCP_TYPES,
  NR_ZONE_KINDS,
  PAGEBLOCK_PAGES,
  type PhysState,
  type Watermarks,
  ZONE,
  type Zone,
  type ZoneKind,
} from "./state.ts";

/** Default of lowmem_reserve_ratio per zone kind (PHYS-012). */
export const DEFAULT_LOWMEM_RESERVE_RATIO: readonly number[] = [256, 256, 32, 0];
export const DEFAULT_WATERMARK_SCALE_FACTOR = 10;
export const DEFAULT_WATERMARK_BOOST_FACTOR = 15000;

const MIN_FREE_LEAST_KB = 128;
const MIN_FREE_MOST_KB = 262144;

/** PHYS-012: pages a zone keeps back, per request class, given the managed pages of its node's zones by kind. */
export function lowmemReserves(
  managedByKind: readonly number[],
  ratios: readonly number[],
  kind: ZoneKind,
): number[] {
  const reserves: number[] = [];
  let above = 0;
  for (let zoneClass = 0; zoneClass < NR_ZONE_KINDS; zoneClass++) {
    if (zoneClass > kind) above += managedByKind[zoneClass];
    const isReserving = zoneClass > kind && ratios[kind] > 0 && managedByKind[kind] > 0;
    reserves.push(isReserving ? Math.floor(above / ratios[kind]) : 0);
  }
  return reserves;
}

/** PHYS-040: default min_free_kbytes for this much memory usable by users below the Movable zone. */
export function defaultMinFreeKbytes(lowmemKbytes: number): number {
  const root = Math.floor(Math.sqrt(16 * lowmemKbytes));
  return Math.min(Math.max(root, MIN_FREE_LEAST_KB), MIN_FREE_MOST_KB);
}

/** PHYS-041: pages worth keeping free so that pageblocks stay of one type, capped at 5 % of lowmem. */
export function recommendedMinFreePages(nrZones: number, lowmemPages: number): number {
  const forReserve = PAGEBLOCK_PAGES * nrZones * 2;
  const forFallbacks = PAGEBLOCK_PAGES * nrZones * NR_PCP_TYPES * NR_PCP_TYPES;
  return Math.min(forReserve + forFallbacks, Math.floor(lowmemPages / 20));
}

/** PHYS-043: watermarks of a zone of `managed` pages; its share of `pagesMin` is by its share of `lowmemManaged`. */
export function zoneWatermarks(
  kind: ZoneKind,
  managed: number,
  lowmemManaged: number,
  pagesMin: number,
  scaleFactor: number,
): Watermarks {
  const share = lowmemManaged === 0 ? 0 : Math.floor((pagesMin * managed) / lowmemManaged);
  const isHigh = kind === ZONE.MOVABLE;
  const min = isHigh ? Math.min(Math.max(Math.floor(managed / 1024), 32), 128) : share;
  // The distance is by the zone's share even where `min` is not.
  const step = Math.max(Math.floor(share / 4), Math.floor((managed * scaleFactor) / 10000));
  return { min, low: min + step, high: min + 2 * step, promo: min + 3 * step };
}

/** PHYS-035: pages moved at a time between a per-CPU list and the buddy. */
export function pcpBatchOf(managed: number): number {
  const base = Math.max(Math.floor(Math.min(Math.floor(managed / 1024), 256) / 4), 1);
  const power = 31 - Math.clz32(Math.floor(base + base / 2));
  return Math.max((1 << power) - 1, 1);
}

/** PHYS-036: lower bound of the per-CPU list's `high`. */
export function pcpHighMinOf(lowWatermark: number, nrCpusOfNode: number, batch: number): number {
  return Math.max(Math.floor(lowWatermark / nrCpusOfNode), 4 * batch);
}

/** PHYS-036: upper bound of the per-CPU list's `high`. */
export function pcpHighMaxOf(managed: number, nrCpusOfNode: number, batch: number): number {
  return Math.max(Math.floor(Math.floor(managed / 8) / nrCpusOfNode), 4 * batch);
}

/** Recomputes reserves, watermarks and per-CPU limits of every zone from the knobs. */
export function refreshWatermarks(m: PhysState): void {
  const pagesMin = Math.floor(m.sysctl.minFreeKbytes / 4);
  const lowmem = lowmemManagedPages(m);
  for (const zone of m.zones) {
    const managedByKind = managedByKindOf(m, zone.node);
    zone.lowmemReserve.set(lowmemReserves(managedByKind, m.sysctl.lowmemReserveRatio, zone.kind));
    Object.assign(
      zone.watermarks,
      zoneWatermarks(zone.kind, zone.managedPages, lowmem, pagesMin, m.sysctl.watermarkScaleFactor),
    );
    const nrCpus = nrCpusOfNode(m, zone.node);
    zone.pcpBatch = pcpBatchOf(zone.managedPages);
    zone.pcpHighMin = pcpHighMinOf(zone.watermarks.low, nrCpus, zone.pcpBatch);
    zone.pcpHighMax = pcpHighMaxOf(zone.managedPages, nrCpus, zone.pcpBatch);
    refreshEasyMarks(zone);
    for (const pcp of zone.pcps) {
      pcp.high = Math.min(Math.max(pcp.high, zone.pcpHighMin), zone.pcpHighMax);
    }
  }
}

/** To be called after a change of a zone's watermarks, boost or reserves. */
export function refreshEasyMarks(zone: Zone): void {
  for (let zoneClass = 0; zoneClass < NR_ZONE_KINDS; zoneClass++) {
    zone.easyMarks[zoneClass] = zone.watermarks.low + zone.boost + zone.lowmemReserve[zoneClass];
  }
}

/** A write to /proc/sys/vm/min_free_kbytes. */
export function setMinFreeKbytes(m: PhysState, kbytes: number): void {
  m.sysctl.minFreeKbytes = kbytes;
  m.sysctl.userMinFreeKbytes = kbytes;
  refreshWatermarks(m);
}

/**
 * PHYS-040, PHYS-042: back to the default, when no PMD-size mode is enabled any more. A smaller value than the user's is
 * ignored. Returns the value now in force.
 */
export function resetMinFree(m: PhysState): number {
  let usable = 0;
  for (const zone of m.zones) {
    if (zone.kind !== ZONE.MOVABLE) usable += zone.managedPages - zone.watermarks.high;
  }
  const kbytes = defaultMinFreeKbytes(4 * usable);
  if (kbytes > m.sysctl.userMinFreeKbytes) m.sysctl.minFreeKbytes = kbytes;
  refreshWatermarks(m);
  return m.sysctl.minFreeKbytes;
}

/**
 * PHYS-041, PHYS-042: when a PMD-size mode is enabled, min_free_kbytes rises to the recommendation, also over the
 * user's value; it never falls. Returns the value now in force.
 */
export function recommendMinFreeForThp(m: PhysState): number {
  let nrZones = 0;
  for (const zone of m.zones) if (zone.kind !== ZONE.MOVABLE && zone.managedPages > 0) nrZones++;
  const kbytes = 4 * recommendedMinFreePages(nrZones, lowmemManagedPages(m));
  if (kbytes > m.sysctl.minFreeKbytes) {
    m.sysctl.minFreeKbytes = kbytes;
    refreshWatermarks(m);
  }
  return m.sysctl.minFreeKbytes;
}

/** PHYS-044: raises a zone's boost because its types were mixed; false if the zone is too small to be boosted. */
export function boostWatermark(m: PhysState, zone: Zone): boolean {
  const factor = m.sysctl.watermarkBoostFactor;
  if (factor === 0 || zone.managedPages < 4 * PAGEBLOCK_PAGES) return false;
  const most = Math.max(PAGEBLOCK_PAGES, Math.floor((zone.watermarks.high * factor) / 10000));
  setBoost(zone, Math.min(zone.boost + PAGEBLOCK_PAGES, most));
  return true;
}

/** Sets a zone's boost (pages); kswapd sets it to 0 when it has balanced the zone (PHYS-044). */
export function setBoost(zone: Zone, boost: number): void {
  zone.boost = boost;
  refreshEasyMarks(zone);
}

/** Access to HighAtomic blocks, for isWatermarkOk. */
export type HighAtomicAccess = "may use HighAtomic" | "no HighAtomic";

/**
 * PHYS-045: whether the zone keeps more than `mark` (boost included by the caller) after serving an order, for requests
 * of this class.
 */
export function isWatermarkOk(
  zone: Zone,
  order: number,
  mark: number,
  zoneClass: ZoneKind,
  access: HighAtomicAccess,
): boolean {
  let usable = zone.nrFree - ((1 << order) - 1);
  if (access === "no HighAtomic") usable -= zone.nrFreeHighAtomic;
  if (usable <= mark + zone.lowmemReserve[zoneClass]) return false;
  return order === 0 || hasBlockOf(zone, order, access);
}

/** PHYS-013: pages no user allocation can count on. */
export function totalReservePages(m: PhysState): number {
  let total = 0;
  for (const zone of m.zones) {
    const most = Math.max(...zone.lowmemReserve);
    total += Math.min(zone.managedPages, zone.watermarks.high + zone.boost + most);
  }
  return total;
}

/** PHYS-013: MemAvailable, given the pages of the kernel's reclaimable caches. */
export function availablePages(m: PhysState, reclaimableKernelPages: number): number {
  let low = 0;
  let free = 0;
  let file = 0;
  for (const zone of m.zones) {
    low += zone.watermarks.low;
    free += zone.nrFree;
    file += zone.lruPages[2] + zone.lruPages[3];
  }
  const fileKept = Math.min(Math.floor(file / 2), low);
  const kernelKept = Math.min(Math.floor(reclaimableKernelPages / 2), low);
  const available =
    free - totalReservePages(m) + (file - fileKept) + (reclaimableKernelPages - kernelKept);
  return Math.max(available, 0);
}

/** True if a request of this order is costly (PHYS-002). */
export function isCostly(order: number): boolean {
  return order > COSTLY_ORDER;
}

function hasBlockOf(zone: Zone, order: number, access: HighAtomicAccess): boolean {
  if (zone.untakenStart < zone.untakenEnd) return true;
  const { nonEmpty } = zone;
  let orders =
    nonEmpty[MIGRATE.UNMOVABLE] | nonEmpty[MIGRATE.MOVABLE] | nonEmpty[MIGRATE.RECLAIMABLE];
  if (access === "may use HighAtomic") orders |= nonEmpty[MIGRATE.HIGHATOMIC];
  return orders >>> order !== 0;
}

function lowmemManagedPages(m: PhysState): number {
  let total = 0;
  for (const zone of m.zones) if (zone.kind !== ZONE.MOVABLE) total += zone.managedPages;
  return total;
}

function managedByKindOf(m: PhysState, node: number): number[] {
  const managed = new Array<number>(NR_ZONE_KINDS).fill(0);
  for (const id of m.nodes[node].zones) managed[m.zones[id].kind] = m.zones[id].managedPages;
  return managed;
}

function nrCpusOfNode(m: PhysState, node: number): number {
  let nr = 0;
  for (let cpu = 0; cpu < m.nrCpus; cpu++) if (m.nodeOfCpu[cpu] === node) nr++;
  // A node without CPUs is shared by those of the others.
  return nr === 0 ? m.nrCpus : nr;
}
