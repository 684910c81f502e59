/**
 * The record of one shared collapse, and what is counted when it ends.
 *
 * Entry: sharedFields to begin one; account when it is over.
 * Holds: ids, integers and lists of integers only (docs/decisions/0009-phase-tables.md).
 */

import type { Pfn } from "../base/address.ts";
import { assert } from "../base/assert.ts";
import type { HugeState } from "../huge/knobs.ts";
import { MOST_SHARED_RECORDS, type SharedCollapse } from "../huge/shared-knobs.ts";
import { NO_PFN } from "../phys/frame-table.ts";
import type { Operation } from "../sched/state.ts";
import { SCAN } from "./scan-result.ts";
import { abortOf, SHARED, type SharedResult } from "./shared-result.ts";

export interface SharedOp extends Operation {
  /** The pivot: the mapping at which the pages were found. */
  readonly mmId: number;
  readonly region: number;
  /** Progress of khugepaged's pass that it may make (COLL-422). */
  readonly mostProgress: number;
  /** Why the region is no candidate: a SCAN number. */
  scan: number;
  /** Where rmap finds all of the pages: anon_vma id, 0 before; page index of the region's first. */
  anonVma: number;
  index: number;
  /** Source page of each of the 512, NO_PFN for a hole. */
  sources: Pfn[];
  /** Head of each source folio, ascending by index. */
  heads: Pfn[];
  /** How many of `heads` are locked, referenced and off the LRU lists. */
  nrTaken: number;
  /** Entries of the pivot that name a swap slot. */
  nrSwapped: number;
  /** Cgroup that the pages are charged to. */
  memcg: number;
  /** PTEs and address spaces that map the pages; VMAs whose mapping may become huge. */
  nrPtes: number;
  nrSharers: number;
  nrPmdsPossible: number;
  /** The compound folio; NO_PFN before it is allocated and after it was given back. */
  folio: Pfn;
  /** 1 while migration entries may stand. */
  isFrozen: number;
  frozenAtNs: number;
  /** Work done while they stood: visits of VMAs, changed PTEs, flushed address spaces, copied pages. */
  nrVmasVisited: number;
  nrFrozen: number;
  nrRestored: number;
  nrFlushed: number;
  nrCopied: number;
  stallNs: number;
  /** Mappings that may become huge: mm id and region of each, one behind the other. */
  deferred: number[];
}

/** What an operation starts with. */
export function sharedFields(
  mmId: number,
  region: number,
  mostProgress: number = Number.MAX_SAFE_INTEGER,
) {
  const sources: Pfn[] = [];
  const heads: Pfn[] = [];
  const deferred: number[] = [];
  const where = { mmId, region, mostProgress, scan: SCAN.SUCCEED as number, anonVma: 0, index: 0 };
  const pages = { sources, heads, nrTaken: 0, nrSwapped: 0, memcg: 0, folio: NO_PFN };
  const counts = { nrPtes: 0, nrSharers: 0, nrPmdsPossible: 0, nrVmasVisited: 0 };
  const work = { nrFrozen: 0, nrRestored: 0, nrFlushed: 0, nrCopied: 0, stallNs: 0 };
  return { ...where, ...pages, ...counts, ...work, isFrozen: 0, frozenAtNs: 0, deferred };
}

/** The mode's state; only a machine that has it gets here. */
export function modeOf(m: HugeState): SharedCollapse {
  assert(m.sharedCollapse !== null, "a shared collapse on a machine without the mode");
  return m.sharedCollapse;
}

/** Pages of the region that are put together. */
export function nrSourcesOf(op: SharedOp): number {
  let nr = 0;
  for (const pfn of op.sources) if (pfn !== NO_PFN) nr++;
  return nr;
}

/** Simulated ns since the first migration entry: what passed between the phases, and the work. */
export function stalledNs(m: HugeState, op: SharedOp): number {
  const { pteNs, vmaNs, flushNs, copyNs } = modeOf(m).prices;
  const work =
    (op.nrFrozen + op.nrRestored) * pteNs +
    op.nrVmasVisited * vmaNs +
    op.nrFlushed * flushNs +
    op.nrCopied * copyNs;
  return m.sched.nowNs - op.frozenAtNs + work;
}

/** COLL-401, COLL-402: statistics and the record of an operation that found shared pages. The record's number. */
export function account(m: HugeState, op: SharedOp, nrPagesFreed: number): number {
  const mode = modeOf(m);
  const { stats } = mode;
  const result = op.result as SharedResult;
  const hasSucceeded = result === SHARED.SUCCEED;
  const nrUpdated = op.nrFrozen + op.nrRestored;
  const nrLruSaved = hasSucceeded ? op.heads.length - 1 : 0;
  if (hasSucceeded) stats.shared_collapsed++;
  const abort = abortOf(result);
  if (abort !== null) stats[`shared_abort_${abort}`]++;
  stats.shared_ptes_updated += nrUpdated;
  stats.shared_ptes_max = Math.max(stats.shared_ptes_max, nrUpdated);
  stats.shared_lru_saved += nrLruSaved;
  stats.shared_stall_ns_total += op.stallNs;
  stats.shared_stall_ns_max = Math.max(stats.shared_stall_ns_max, op.stallNs);
  if (mode.records.length === MOST_SHARED_RECORDS) {
    mode.records.shift();
    mode.firstRecord++;
  }
  mode.records.push({
    mmId: op.mmId,
    region: op.region,
    result,
    nrSources: nrSourcesOf(op),
    nrFolios: op.heads.length,
    nrSharers: op.nrSharers,
    nrPtes: op.nrPtes,
    nrVmasVisited: op.nrVmasVisited,
    nrFrozen: op.nrFrozen,
    nrRestored: op.nrRestored,
    nrPagesFreed,
    nrLruSaved,
    stallNs: op.stallNs,
    nrPmdsPossible: op.nrPmdsPossible,
    nrPmds: 0,
  });
  return mode.firstRecord + mode.records.length - 1;
}
