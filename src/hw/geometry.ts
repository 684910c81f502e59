/**
 * Sizes and latencies of a core's translation hardware: what a geometry must say, and the pure arithmetic on it.
 *
 * Entry: checkGeometry, withMeasured (measured figures in, PHYS-245), exposedCycles.
 * Owns:  nothing; the data is in presets.ts.
 * Units: entries; bytes; core cycles; nanoseconds where the name ends in Ns.
 */

import { assert } from "../base/assert.ts";
import type { CostTable } from "./cost-model.ts";

/** A set-associative array of translations; fully associative if nrWays = nrEntries. nrEntries 0: absent. */
export interface TlbShape {
  readonly nrEntries: number;
  readonly nrWays: number;
}

/** One level: an array each for 4K and 2M pages, or one that holds both. */
export type TlbLevel =
  | { readonly kind: "split"; readonly small: TlbShape; readonly huge: TlbShape }
  | { readonly kind: "shared"; readonly both: TlbShape };

/** One level of data cache as far as page-table lines use it. */
export interface CacheShape {
  readonly sizeBytes: number;
  readonly nrWays: number;
  /** Latency of a dependent load that hits here. */
  readonly cycles: number;
}

export interface Geometry {
  readonly name: string;
  /** Cores it stands for. */
  readonly description: string;
  /** Where the figures come from. */
  readonly source: string;
  readonly l1: TlbLevel;
  readonly l2: TlbLevel;
  /** Extra latency of a translation found in the second level. */
  readonly l2HitCycles: number;
  /** Page-walk caches by the level whose entries they hold: a hit in pmd leaves one reference of a 4K walk. */
  readonly walkCaches: { readonly pgd: TlbShape; readonly pud: TlbShape; readonly pmd: TlbShape };
  /** Guest-physical to host-physical translations kept for nested walks. */
  readonly nestedTlb: TlbShape;
  /** Caches that page-table lines go through, nearest first. The last one is shared by all CPUs. */
  readonly caches: readonly CacheShape[];
  readonly memoryNs: number;
  readonly ghz: number;
  /** Cycles of a walk besides its references. */
  readonly walkStartCycles: number;
  /** Share (0..1) of each cache that page-table lines may hold against data; docs/hardware-model.md. */
  readonly tableShare: number;
  /** Share (0..1) of walk cycles hidden behind other work of an out-of-order core; docs/hardware-model.md. */
  readonly walkOverlap: number;
}

export const LINE_BYTES = 64;

/** Latency of a line that is in no cache. */
export function memoryCycles(geometry: Geometry): number {
  return Math.round(geometry.memoryNs * geometry.ghz);
}

/** The part of `walkCycles` that delays the program: what is not hidden by overlap. */
export function exposedCycles(geometry: Geometry, walkCycles: number): number {
  return walkCycles * (1 - geometry.walkOverlap);
}

/** The geometry with what a cost table measured: latencies in cycles of its clock, the last cache's size, the overlap. */
export function withMeasured(geometry: Geometry, costs: CostTable): Geometry {
  const cycleNs = costs.figures.cycle.ns;
  const { l1Ns, l2Ns, l3Ns, memoryNs } = costs.latencies;
  const { lastLevelBytes, walkOverlap } = costs.hardware;
  const measured = [l1Ns, l2Ns, l3Ns].slice(-geometry.caches.length);
  const last = geometry.caches.length - 1;
  return {
    ...geometry,
    ghz: 1 / cycleNs,
    memoryNs: memoryNs?.ns ?? geometry.memoryNs,
    caches: geometry.caches.map((cache, i) => {
      const figure = measured[i];
      const cycles = figure ? Math.round(figure.ns / cycleNs) : cache.cycles;
      const sizeBytes =
        lastLevelBytes && i === last ? sizeNear(lastLevelBytes.value, cache) : cache.sizeBytes;
      return { ...cache, cycles, sizeBytes };
    }),
    walkOverlap: walkOverlap?.value ?? geometry.walkOverlap,
  };
}

/** The size nearest to `sizeBytes` that a cache of this one's ways can have. */
function sizeNear(sizeBytes: number, { nrWays }: CacheShape): number {
  const nrSets = 2 ** Math.round(Math.log2(sizeBytes / LINE_BYTES / nrWays));
  return Math.max(64, nrSets) * LINE_BYTES * nrWays;
}

/** Asserts what the tables of the model rely on: powers of two, shares, caches in order. */
export function checkGeometry(geometry: Geometry): void {
  const { l1, l2, walkCaches, nestedTlb, caches } = geometry;
  for (const level of [l1, l2]) {
    const shapes = level.kind === "split" ? [level.small, level.huge] : [level.both];
    for (const shape of shapes) assert(isTlbShape(shape), "a TLB's sets are not a power of two");
  }
  for (const shape of [walkCaches.pgd, walkCaches.pud, walkCaches.pmd, nestedTlb]) {
    assert(isTlbShape(shape), "a walk cache's sets are not a power of two");
  }
  assert(caches.length >= 1 && caches.length <= 3, "a geometry has one to three data caches");
  for (const cache of caches) {
    assert(isPowerOfTwo(nrSetsOf(cache)), "a cache's sets are not a power of two");
    // A line's set must determine its place within the table page; see table-cache.ts.
    assert(nrSetsOf(cache) >= 64, "a cache has fewer than 64 sets");
  }
  assert(isShare(geometry.tableShare) && isShare(geometry.walkOverlap), "a share is not in 0..1");
  assert(geometry.ghz > 0 && geometry.memoryNs > 0, "a latency is not positive");
}

export function nrSetsOf(cache: CacheShape): number {
  return cache.sizeBytes / LINE_BYTES / cache.nrWays;
}

function isTlbShape(shape: TlbShape): boolean {
  if (shape.nrEntries === 0) return true;
  return shape.nrWays > 0 && isPowerOfTwo(shape.nrEntries / shape.nrWays);
}

function isPowerOfTwo(value: number): boolean {
  return Number.isInteger(value) && value > 0 && (value & (value - 1)) === 0;
}

function isShare(value: number): boolean {
  return value >= 0 && value <= 1;
}
