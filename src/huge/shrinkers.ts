/**
 * The shrinkers of huge pages as reclaim sees them: how much there might be, a scan, and the two together for drop_caches.
 *
 * Entry: countDeferred and scanDeferred, one pass of pressure on a queue; dropSlab, which is drop_caches=2.
 * Rules: ANON-082, 195..197.
 */

import { runAtOnce } from "../sched/runner.ts";
import { shrinkDeferred } from "./deferred-split-phases.ts";
import { dropCachesPhases, dropFields } from "./drop-caches-phases.ts";
import type { HugeState } from "./knobs.ts";

/** A scan's answer when there is nothing left to try. */
export const SHRINK_STOP = -1;

/** Folios that wait on a queue: what the shrinker says it might free. */
export function countDeferred(m: HugeState, queue: number): number {
  return m.deferredLength[queue];
}

/** Tries up to `nrToScan` folios of a queue: how many were split, or SHRINK_STOP if none was and the queue is empty. */
export function scanDeferred(
  m: HugeState,
  queue: number,
  nrToScan: number,
  maxPtesNone: number,
): number {
  const nrSplit = shrinkDeferred(m, queue, nrToScan, maxPtesNone);
  return nrSplit === 0 && m.deferredLength[queue] === 0 ? SHRINK_STOP : nrSplit;
}

/**
 * drop_caches=2: passes over every shrinker until a pass frees little. A folio that cannot be split is tried in each pass; on a
 * running kernel their number also depends on what other caches give (ANON-196). Returns folios split.
 */
export function dropSlab(m: HugeState, maxPtesNone: number): number {
  return runAtOnce(m, dropCachesPhases, dropFields(maxPtesNone)) ?? 0;
}
