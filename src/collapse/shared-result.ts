/**
 * What becomes of a region that is looked at for a shared collapse.
 *
 * Owns:  SHARED, the numbers; sharedResultName, the words people read. The aborts are those of COLL-440, in its order.
 */

import { SHARED_ABORTS, type SharedAbort } from "../huge/shared-knobs.ts";

/** Results. Those after STALL are no operations: nothing was tried, no record is kept. */
export const SHARED = {
  /** One compound folio is mapped in the place of the pages. */
  SUCCEED: 0,
  ROOT: 1,
  SWAP_SHARED: 2,
  COMPOUND: 3,
  MEMCG: 4,
  BUDGET: 5,
  ALLOC: 6,
  CHARGE: 7,
  LOCK: 8,
  LRU: 9,
  PINNED: 10,
  COPY_MC: 11,
  VMA: 12,
  UFFD: 13,
  STALL: 14,
  /** No page of the region is shared: it is a matter for the ordinary collapse (COLL-415). */
  NOT_SHARED: 15,
  /** The ordinary scan would refuse it; the record's `scan` says why. */
  NOT_CANDIDATE: 16,
  /** All of it is one folio of PMD order already. */
  ALREADY: 17,
  /** It would take more than what is left of khugepaged's pass (COLL-422). */
  POSTPONED: 18,
} as const;

export type SharedResult = (typeof SHARED)[keyof typeof SHARED];

const OTHER_NAMES: Readonly<Record<number, string>> = {
  [SHARED.SUCCEED]: "succeed",
  [SHARED.NOT_SHARED]: "not_shared",
  [SHARED.NOT_CANDIDATE]: "not_candidate",
  [SHARED.ALREADY]: "already",
  [SHARED.POSTPONED]: "postponed",
};

/** The abort's word as in the statistics' names, or null. */
export function abortOf(result: SharedResult): SharedAbort | null {
  return SHARED_ABORTS[result - 1] ?? null;
}

export function sharedResultName(result: number): string {
  return SHARED_ABORTS[result - 1] ?? OTHER_NAMES[result] ?? String(result);
}
