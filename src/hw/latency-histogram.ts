/**
 * A histogram of fault latencies: log-linear buckets, so that a quantile is exact to 1/32 over twelve decades.
 *
 * Units: nanoseconds, 0 to 2^46 (20 hours); larger values count in the last bucket. Nothing is allocated after creation.
 */

import { assert } from "../base/assert.ts";

const SUB_BITS = 5;
const NR_SUB = 1 << SUB_BITS;
const MAX_EXPONENT = 46;
const NR_BUCKETS = (MAX_EXPONENT - SUB_BITS + 1) * NR_SUB;

export interface LatencyHistogram {
  /** Values seen, by bucket: below 32 one bucket per ns, then 32 buckets per power of two. */
  readonly counts: Float64Array;
  nrValues: number;
  sumNs: number;
  /** Largest value, exact; 0 if none. */
  maxNs: number;
}

export function createLatencyHistogram(): LatencyHistogram {
  return { counts: new Float64Array(NR_BUCKETS), nrValues: 0, sumNs: 0, maxNs: 0 };
}

/** Counts `count` values of `ns` (at least 0). */
export function recordLatency(histogram: LatencyHistogram, ns: number, count = 1): void {
  assert(ns >= 0, "a latency is negative or not a number");
  histogram.counts[bucketOf(ns)] += count;
  histogram.nrValues += count;
  histogram.sumNs += ns * count;
  if (ns > histogram.maxNs && count > 0) histogram.maxNs = ns;
}

/** The smallest bucket's upper end below which a share `q` (0..1) of the values lies; at most maxNs; 0 if empty. */
export function latencyQuantile(histogram: LatencyHistogram, q: number): number {
  const wanted = Math.max(1, Math.ceil(q * histogram.nrValues));
  let seen = 0;
  for (let bucket = 0; bucket < NR_BUCKETS; bucket++) {
    seen += histogram.counts[bucket];
    if (seen >= wanted) return Math.min(upperEndOf(bucket), histogram.maxNs);
  }
  return histogram.maxNs;
}

/** Adds the values of `from` to `to`. */
export function mergeLatencies(to: LatencyHistogram, from: LatencyHistogram): void {
  for (let bucket = 0; bucket < NR_BUCKETS; bucket++) to.counts[bucket] += from.counts[bucket];
  to.nrValues += from.nrValues;
  to.sumNs += from.sumNs;
  to.maxNs = Math.max(to.maxNs, from.maxNs);
}

function bucketOf(ns: number): number {
  if (ns < NR_SUB) return ns | 0;
  if (ns >= 2 ** MAX_EXPONENT) return NR_BUCKETS - 1;
  // The upper word is taken apart where 32 bits do not hold the value.
  const isWide = ns >= 2 ** 31;
  const word = isWide ? Math.floor(ns / 2 ** 26) : ns | 0;
  const exponent = 31 - Math.clz32(word);
  const sub = exponent >= SUB_BITS ? word >>> (exponent - SUB_BITS) : word << (SUB_BITS - exponent);
  const octave = exponent + (isWide ? 26 : 0) - SUB_BITS;
  return (octave + 1) * NR_SUB + (sub & (NR_SUB - 1));
}

/** Largest whole number of ns in a bucket. */
function upperEndOf(bucket: number): number {
  if (bucket < NR_SUB) return bucket;
  const octave = Math.floor(bucket / NR_SUB) - 1;
  return (NR_SUB + (bucket % NR_SUB) + 1) * 2 ** octave - 1;
}
