/**
 * What khugepaged's work costs in time: from counts of what it did to nanoseconds.
 *
 * Entry: workNs.
 * Units: nanoseconds; `prices` is indexed by COST.
 */

import { COST } from "../hw/cost-model.ts";
import type { KhugepagedWork } from "../mm/khugepaged-list.ts";

/** CPU time of what was done between two readings of the counts. */
export function workNs(
  prices: Float64Array,
  before: KhugepagedWork,
  after: KhugepagedWork,
): number {
  return (
    (after.nrPasses - before.nrPasses) * prices[COST.scanPass] +
    (after.nrPtesScanned - before.nrPtesScanned) * prices[COST.scanPte] +
    (after.nrCollapsed - before.nrCollapsed) * prices[COST.collapse] +
    (after.nrPagesCopied - before.nrPagesCopied) * prices[COST.collapsePage]
  );
}
