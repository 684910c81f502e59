/**
 * Reclaim of anonymous folios, as plain calls.
 *
 * Entry: isolateFolio, then reclaimFolios for what was isolated; the phases are in reclaim-phases.ts.
 * Rules: ANON-253, 265, 267, 268; PHYS-091, 097..104.
 */

import type { Pfn } from "../base/address.ts";
import type { HugeState } from "../huge/knobs.ts";
import { PG } from "../phys/frame-table.ts";
import { lruDel } from "../phys/lru.ts";
import { runAtOnce } from "../sched/runner.ts";
import { type ReferenceMode, reclaimFields, reclaimPhases } from "./reclaim-phases.ts";

/** Takes a folio off its LRU list with a reference. False if it is on none, or may not be reclaimed. */
export function isolateFolio(m: HugeState, head: Pfn): boolean {
  const flags = m.frames.flags[head];
  if ((flags & PG.LRU) === 0 || (flags & PG.UNEVICTABLE) !== 0) return false;
  lruDel(m, head);
  m.frames.refcount[head]++;
  return true;
}

/** Tries to free isolated folios, the first one first; the others go back to the LRU. Returns the number of pages freed. */
export function reclaimFolios(m: HugeState, heads: readonly Pfn[], mode: ReferenceMode): number {
  if (heads.length === 0) return 0;
  return runAtOnce(m, reclaimPhases, reclaimFields(heads, mode)) ?? 0;
}
