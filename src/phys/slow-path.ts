/**
 * What an allocation does when no zone is above its low watermark: wake, reserves, compaction, reclaim, in Linux's order.
 *
 * Entry: takeSlow.
 * Owns:  nothing; compaction, reclaim and the OOM killer are behind `m.reclaim` and find nothing if it is null.
 * Holds: ends: a costly request makes at most six attempts; another one gives up after 16 rounds without progress.
 */

import type { Pfn } from "../base/address.ts";
import { NO_PFN } from "./frame-table.ts";
import { GFP, zoneClassOf } from "./gfp.ts";
import { unreserveHighAtomic } from "./highatomic.ts";
import { drainAll } from "./pcp.ts";
import { COSTLY_ORDER, type CompactVerdict, type NodeId, type PhysState } from "./state.ts";
import { takeAboveMin } from "./zone-walk.ts";

/** Pages that one round of direct reclaim asks for (PHYS-003). */
export const SWAP_CLUSTER_MAX = 32;
/** Rounds without progress before the OOM killer is asked (PHYS-003). */
export const MAX_RECLAIM_RETRIES = 16;

/** PHYS-054: NO_PFN if the request's effort class is exhausted. */
export function takeSlow(m: PhysState, order: number, gfp: number, node: NodeId): Pfn {
  if ((gfp & GFP.KSWAPD_RECLAIM) !== 0) m.reclaim?.wakeKswapd(m, node, order, zoneClassOf(gfp));
  const pfn = takeAboveMin(m, order, gfp, node);
  if (pfn !== NO_PFN) return pfn;

  const mayReclaim = (gfp & GFP.DIRECT_RECLAIM) !== 0 && (gfp & GFP.MEMALLOC) === 0;
  if (!mayReclaim) return NO_PFN;
  return order > COSTLY_ORDER
    ? takeCostly(m, order, gfp, node)
    : takeInsistently(m, order, gfp, node);
}

/** PHYS-054, (3) to (7): PHYS-055, it never kills and never insists. */
function takeCostly(m: PhysState, order: number, gfp: number, node: NodeId): Pfn {
  const isNoRetry = (gfp & GFP.NORETRY) !== 0;
  const verdict = compact(m, order, gfp, node, "async");
  let pfn = takeAboveMin(m, order, gfp, node);
  if (pfn !== NO_PFN) return pfn;
  const isHopeless = verdict === "skipped" || verdict === "deferred";
  if (isNoRetry && (isHopeless || (gfp & GFP.THISNODE) !== 0)) return NO_PFN;

  reclaim(m, order, gfp, node);
  pfn = takeAfterReclaim(m, order, gfp, node);
  if (pfn !== NO_PFN) return pfn;

  compact(m, order, gfp, node, isNoRetry ? "async" : "sync-light");
  return takeAboveMin(m, order, gfp, node);
}

/** Orders 0..3: reclaims and compacts as long as it helps, then asks the OOM killer (PHYS-120). */
function takeInsistently(m: PhysState, order: number, gfp: number, node: NodeId): Pfn {
  for (let nrIdle = 0; nrIdle < MAX_RECLAIM_RETRIES; ) {
    const nrReclaimed = reclaim(m, order, gfp, node);
    let pfn = takeAfterReclaim(m, order, gfp, node);
    if (pfn === NO_PFN && order > 0) {
      compact(m, order, gfp, node, "sync-light");
      pfn = takeAboveMin(m, order, gfp, node);
    }
    if (pfn !== NO_PFN) return pfn;
    if ((gfp & GFP.NORETRY) !== 0) return NO_PFN;
    nrIdle = nrReclaimed > 0 ? 0 : nrIdle + 1;
    // Without a port nothing can change from one round to the next.
    if (m.reclaim === null) return NO_PFN;
  }
  if (m.reclaim?.outOfMemory(m, node, order, gfp) !== true) return NO_PFN;
  return takeAboveMin(m, order, gfp, node);
}

function compact(
  m: PhysState,
  order: number,
  gfp: number,
  node: NodeId,
  mode: "async" | "sync-light",
): CompactVerdict {
  return m.reclaim?.compact(m, node, order, gfp, mode) ?? "skipped";
}

function reclaim(m: PhysState, order: number, gfp: number, node: NodeId): number {
  return m.reclaim?.reclaim(m, node, order, gfp, SWAP_CLUSTER_MAX) ?? 0;
}

/** Retries; if that fails, once more with what per-CPU lists and the HighAtomic reserve hold. */
function takeAfterReclaim(m: PhysState, order: number, gfp: number, node: NodeId): Pfn {
  const pfn = takeAboveMin(m, order, gfp, node);
  if (pfn !== NO_PFN) return pfn;
  unreserveHighAtomic(m, "keep one");
  drainAll(m);
  return takeAboveMin(m, order, gfp, node);
}
