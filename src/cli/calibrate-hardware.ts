/**
 * What native/calibrate's reads say of the translation hardware: parameters of the model, fitted to this host alone.
 *
 * Entry: hardwareFrom, l2TlbHitFrom, l3LatencyFrom. Pure.
 * Units: medians of series, in ns per read unless their name says otherwise. A series "walk_chain_KIND_N" reads one line of
 *        each of N pages, each address taken from the line before; in "walk_free_KIND_N" no read waits for another. KIND is
 *        2m, 4k, or scattered: 4K pages of which no two lie in one aligned group of eight frames.
 * Holds: real programs lie between a chain, which hides nothing, and free reads. Half-way between is what the model takes.
 */

import type { CostFigure, CostTable } from "../hw/cost-model.ts";

type Series = ReadonlyMap<string, { readonly median: number }>;

/** Pages of which the second level holds more than the first: an access finds its translation there. */
const IN_L1 = 32;
const IN_L2 = 256;
/** Pages that the second level does not hold. */
const BEYOND_L2 = [4096, 8192, 16384];

/** The not hidden part of a hit in the second level, or null. */
export function l2TlbHitFrom(measured: Series): CostFigure | null {
  const chained = growth(measured, "walk_chain_4k", IN_L1, IN_L2);
  const free = growth(measured, "walk_free_4k", IN_L1, IN_L2);
  if (chained === null || free === null || !(chained > 0)) return null;
  const ns = (chained + Math.max(0, free)) / 2;
  const source = `calibrate: half-way between ${chained.toFixed(2)} ns in a chain and ${free.toFixed(2)} ns of free reads`;
  return { ns, source };
}

/** Latency of the last cache, from reads over four times the second level, or null. */
export function l3LatencyFrom(measured: Series): CostFigure | null {
  const secondLevel = measured.get("second_level_bytes")?.median ?? 0;
  const name = `dependent_cache_${(4 * secondLevel) / 2 ** 20}m`;
  const arithmetic = measured.get("dependent_arithmetic");
  const read = measured.get(name);
  if (!arithmetic || !read || !(read.median > arithmetic.median)) return null;
  const ns = read.median - arithmetic.median;
  return { ns, source: `calibrate: ${name} less dependent_arithmetic` };
}

/** Figures that could not be measured are left out; `isVirtual` hosts alone have a second dimension. */
export function hardwareFrom(measured: Series, isVirtual: boolean): CostTable["hardware"] {
  return {
    ...(isVirtual ? hostPage(measured) : {}),
    ...(isVirtual ? frameRun(measured) : {}),
    ...lastLevel(measured),
    ...walkOverlap(measured),
  };
}

/**
 * A guest's 2M page that the first level holds as one translation costs no more when 256 of its lines' pages are read than
 * when 32 are; one that the hypervisor maps by 4K pages misses the first level as often as 4K pages do.
 */
function hostPage(measured: Series): CostTable["hardware"] {
  const small = growth(measured, "walk_chain_4k", IN_L1, IN_L2);
  const huge = growth(measured, "walk_chain_2m", IN_L1, IN_L2);
  if (small === null || huge === null || !(small > 0)) return {};
  const isSplintered = huge > small / 2;
  const source =
    `calibrate: from ${IN_L1} to ${IN_L2} pages a read grows by ${small.toFixed(2)} ns with 4K pages, ` +
    `by ${huge.toFixed(2)} ns with 2M pages`;
  return { hostPageBytes: { value: isSplintered ? 2 ** 12 : 2 ** 21, source } };
}

/** Neighbouring 4K pages that one line of the hypervisor's tables, eight entries, serves. */
function frameRun(measured: Series): CostTable["hardware"] {
  const inGroup = measured.get("frames_in_group_of_8")?.median;
  return inGroup === undefined ? {} : frameRunFigure(inGroup, "calibrate");
}

/** `inGroup` is 1 to 8; `by` names the measurement. */
export function frameRunFigure(inGroup: number, by: string): CostTable["hardware"] {
  const value = 2 ** Math.round(Math.log2(inGroup));
  const source = `${by}: ${inGroup.toFixed(1)} neighbouring pages to an aligned group of eight frames`;
  return { frameRunPages: { value, source } };
}

/** Where the latency is half-way from the last cache's to the memory's, between two sizes by the logarithm of the size. */
function lastLevel(measured: Series): CostTable["hardware"] {
  const nearest = l3LatencyFrom(measured);
  const memory = measured.get("dependent_cache_64m");
  const arithmetic = measured.get("dependent_arithmetic");
  if (!nearest || !memory || !arithmetic) return {};
  const middle = (nearest.ns + memory.median - arithmetic.median) / 2 + arithmetic.median;
  for (let megabytes = 1; megabytes < 64; megabytes *= 2) {
    const below = measured.get(`dependent_cache_${megabytes}m`)?.median;
    const above = measured.get(`dependent_cache_${2 * megabytes}m`)?.median;
    if (below === undefined || above === undefined || below > middle || above < middle) continue;
    const value = Math.round(megabytes * 2 ** 20 * 2 ** ((middle - below) / (above - below)));
    const source = `calibrate: dependent reads rise past ${middle.toFixed(0)} ns from ${megabytes} to ${2 * megabytes} MB`;
    return { lastLevelBytes: { value, source } };
  }
  return {};
}

/** Half of what free reads hide of the difference between scattered 4K pages and 2M pages: a chain hides nothing. */
function walkOverlap(measured: Series): CostTable["hardware"] {
  const shares: number[] = [];
  for (const nrPages of BEYOND_L2) {
    const chained = difference(measured, "walk_chain", nrPages);
    const free = difference(measured, "walk_free", nrPages);
    if (chained !== null && free !== null && chained > 1)
      shares.push(1 - Math.max(0, free) / chained);
  }
  if (shares.length === 0) return {};
  shares.sort((a, b) => a - b);
  const hidden = Math.max(0, shares[shares.length >> 1]);
  const source = `calibrate: half of the ${(hidden * 100).toFixed(0)} % that free reads hide of what a chain pays for 4K pages`;
  return { walkOverlap: { value: hidden / 2, source } };
}

/** What a read of scattered 4K pages costs more than one of 2M pages. */
function difference(measured: Series, prefix: string, nrPages: number): number | null {
  const small = measured.get(`${prefix}_scattered_${nrPages}`);
  const huge = measured.get(`${prefix}_2m_${nrPages}`);
  return small && huge ? small.median - huge.median : null;
}

function growth(measured: Series, prefix: string, from: number, to: number): number | null {
  const less = measured.get(`${prefix}_${from}`);
  const more = measured.get(`${prefix}_${to}`);
  return less && more ? more.median - less.median : null;
}
