/**
 * Where khugepaged looks next, and what looking costs it of its budget: Linux's policy. Another policy is another file with
 * these functions.
 *
 * Entry: toNextMm (which address space), nextRegion (which region of it), charge* (what counts how much).
 * Owns:  the cursor in m.khugepaged.
 * Rules: COLL-060, COLL-064..069.
 */

import { HUGE_SIZE, PTES_PER_REGION, regionOf } from "../base/address.ts";
import { leaveCursorMm } from "../huge/khugepaged-thread.ts";
import type { HugeState } from "../huge/knobs.ts";
import { NO_MM } from "../mm/khugepaged-list.ts";
import type { Mm } from "../mm/state.ts";
import { firstVmaIndex, type Vma } from "../mm/vma.ts";
import { collapseRefusal } from "./eligible.ts";
import { ACTOR } from "./scan-result.ts";

/** No region is left. */
export const NO_REGION = -1;

/** Counted against pages_to_scan: an address space looked into, a VMA passed over, a region looked at (COLL-063, COLL-065). */
export const VISIT_CHARGE = 1;
export const SKIP_CHARGE = 1;
export const REGION_CHARGE = PTES_PER_REGION;

/** A pass as this policy sees it: what it has spent. */
export interface Progress {
  progress: number;
}

/** Puts a cursor that is nowhere on the head of the list (COLL-060). False if the list is empty. */
export function startAtHead(m: HugeState): boolean {
  const { khugepaged } = m;
  if (khugepaged.cursorMm !== NO_MM) return true;
  if (khugepaged.mms.length === 0) return false;
  khugepaged.cursorMm = khugepaged.mms[0];
  khugepaged.cursorRegion = 0;
  return true;
}

/** Moves the cursor to the next address space; behind the last it is nowhere, and a full scan is over (COLL-069). */
export function toNextMm(m: HugeState): void {
  const { khugepaged } = m;
  const at = khugepaged.mms.indexOf(khugepaged.cursorMm);
  const next = khugepaged.mms[at + 1] ?? NO_MM;
  leaveCursorMm(m);
  khugepaged.cursorMm = next;
  khugepaged.cursorRegion = 0;
  const { knobs } = m;
  if (next === NO_MM)
    knobs.khugepaged.full_scans = (knobs.khugepaged.full_scans + 1) % COUNTER_LIMIT;
}

/** True if the address space is left at once: it is ending, or may not have huge pages (COLL-064). */
export function isPassedOver(m: HugeState, mmId: number): boolean {
  const mm = m.mms[mmId];
  return mm === null || mm === undefined || mm.thpDisable === "all";
}

/**
 * The first region at or above the cursor in a VMA that khugepaged may work in, NO_REGION if there is none; the cursor moves
 * there. Each VMA that it may not work in is charged; one whose last region lies behind the cursor is not (COLL-065..067).
 */
export function nextRegion(m: HugeState, mm: Mm, pass: Progress): number {
  const { khugepaged } = m;
  const { vmas } = mm;
  for (let i = firstVmaIndex(vmas, khugepaged.cursorRegion * HUGE_SIZE); i < vmas.length; i++) {
    const vma = vmas[i];
    if (collapseRefusal(m, mm, vma, ACTOR.khugepaged) !== null) {
      pass.progress += SKIP_CHARGE;
      khugepaged.work.nrVmasSkipped++;
      continue;
    }
    const region = Math.max(khugepaged.cursorRegion, Math.ceil(vma.start / HUGE_SIZE));
    khugepaged.cursorRegion = region;
    if (region < regionOf(vma.end)) return region;
  }
  return NO_REGION;
}

/** The VMA that nextRegion found the region in. */
export function vmaOfRegion(mm: Mm, region: number): Vma {
  return mm.vmas[firstVmaIndex(mm.vmas, region * HUGE_SIZE)];
}

/** khugepaged's counters are 32 bits wide. */
export const COUNTER_LIMIT = 2 ** 32;
