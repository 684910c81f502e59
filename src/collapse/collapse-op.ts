/**
 * The record of one collapse, and what its phases report of it.
 *
 * Holds: ids and integers only (docs/decisions/0009-phase-tables.md).
 */

import type { Pfn } from "../base/address.ts";
import { EVENT } from "../base/events.ts";
import type { HugeState } from "../huge/knobs.ts";
import { NO_TABLE } from "../mm/page-tables.ts";
import { NO_PFN } from "../phys/frame-table.ts";
import type { Operation } from "../sched/state.ts";
import { type Actor, SCAN, traceNumber } from "./scan-result.ts";

/** What a walk over the 512 entries of a region has seen. */
export interface Seen {
  /** Head of the folio looked at last, -1 none. */
  lastHead: number;
  /** Pages used of late; stays 0 for MADV_COLLAPSE. */
  referenced: number;
  /** Entries that are empty or map the zero page. */
  none: number;
  /** Entries that are neither empty nor present. */
  unmapped: number;
  /** Entries that may be written; counted where the profile asks for one. */
  writable: number;
}

/** What a scan is told, and what it finds out. */
export interface RegionScan extends Seen {
  readonly region: number;
  readonly actor: Actor;
  /** Bit per node that has as many of the pages as any: the huge one is allocated on these. */
  nodes: number;
}

export interface CollapseOp extends Operation, RegionScan {
  readonly mmId: number;
  /** The new huge folio; NO_PFN before it is allocated and after it was mapped or given back. */
  folio: Pfn;
  /** Slot of the PMD entry when it was looked up again, -1 before. */
  pmdSlot: number;
  /** The PTE table that was taken out of the page tables, NO_TABLE if none is. */
  pteTable: number;
  /** How many of its entries have been taken: their folios are locked and on no LRU list. */
  nrTaken: number;
  /** Of those that it has looked at while taking: empty, or of the zero page. */
  nrFilled: number;
  /** Its anon_vma lock is held while the pages are taken; 0 before. */
  anonVma: number;
}

/** What a collapse starts with. */
export function collapseFields(mmId: number, region: number, actor: Actor) {
  const seen = { lastHead: -1, referenced: 0, none: 0, unmapped: 0, writable: 0 };
  const taken = {
    nodes: 1,
    folio: NO_PFN,
    pmdSlot: -1,
    pteTable: NO_TABLE,
    nrTaken: 0,
    nrFilled: 0,
    anonVma: 0,
  };
  return { mmId, region, actor, ...seen, ...taken };
}

/** COLL-280: the last word on a region. */
export function reportScan(m: HugeState, op: CollapseOp): void {
  if (m.events === null) return;
  m.events.emit(
    EVENT.mm_khugepaged_scan_pmd,
    op.mmId,
    op.lastHead,
    op.referenced,
    op.none,
    traceNumber(m.profile, op.result),
    op.unmapped,
    op.writable > 0 ? 1 : 0,
  );
}

/** COLL-280: a collapse that went further than the scan has ended. */
export function reportCollapse(m: HugeState, op: CollapseOp): void {
  if (m.events === null) return;
  const hasSucceeded = op.result === SCAN.SUCCEED ? 1 : 0;
  const status = traceNumber(m.profile, op.result);
  m.events.emit(EVENT.mm_collapse_huge_page, op.mmId, hasSucceeded, status);
}
