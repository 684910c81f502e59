/**
 * Shared collapse for whoever wants it at once: one region, or the mappings that may become huge.
 *
 * Entry: sharedCollapseRegion, beginSharedCollapse, buildSharedPmds. The machine must have the mode; its knob is not asked.
 */

import { assert } from "../base/assert.ts";
import type { HugeState } from "../huge/knobs.ts";
import { runAtOnce, startOperation } from "../sched/runner.ts";
import { modeOf, type SharedOp, sharedFields } from "./shared-op.ts";
import { sharedCollapsePhases } from "./shared-phases.ts";
import {
  SHARED_PMD,
  type SharedPmdResult,
  sharedPmdFields,
  sharedPmdPhases,
} from "./shared-pmd-phases.ts";
import { SHARED, type SharedResult } from "./shared-result.ts";

/**
 * Collapses what is shared in one region, as khugepaged would with the knob on. Mappings stay by PTEs: buildSharedPmds makes
 * them huge.
 */
export function sharedCollapseRegion(m: HugeState, mmId: number, region: number): SharedResult {
  modeOf(m);
  const result = runAtOnce(m, sharedCollapsePhases, sharedFields(mmId, region));
  return (result ?? SHARED.LOCK) as SharedResult;
}

/** The same as an operation of `task`, of which nothing has run yet. */
export function beginSharedCollapse(
  m: HugeState,
  task: number,
  mmId: number,
  region: number,
): SharedOp {
  modeOf(m);
  return startOperation(m, sharedCollapsePhases, task, sharedFields(mmId, region));
}

/** COLL-461: tries each queued mapping once, one address space at a time. How many became huge. */
export function buildSharedPmds(m: HugeState): number {
  let nrBuilt = 0;
  for (let nr = modeOf(m).queue.length; nr > 0; nr--)
    if (buildNextPmd(m) === SHARED_PMD.BUILT) nrBuilt++;
  return nrBuilt;
}

/** The first mapping in the queue; there must be one. */
export function buildNextPmd(m: HugeState): SharedPmdResult {
  assert(modeOf(m).queue.length > 0, "no mapping is queued");
  const result = runAtOnce(m, sharedPmdPhases, sharedPmdFields());
  assert(result !== null, "the first step of building a PMD takes no lock");
  return result as SharedPmdResult;
}
