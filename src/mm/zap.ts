/**
 * Unmapping: removing what is mapped in a range, and then the page tables nobody needs.
 *
 * Entry: zapRange (MADV_DONTNEED, munmap, exit), freeTablesBetween (munmap, exit).
 * Holds: a huge entry that is only partly covered is split first; its folio stays whole (ANON-181).
 */

import {
  type Addr,
  HUGE_SIZE,
  type Pfn,
  PTES_PER_REGION,
  pteIndexOf,
  regionOf,
} from "../base/address.ts";
import { VMSTAT } from "../base/counters.ts";
import { EVENT } from "../base/events.ts";
import { headOf, PG } from "../phys/frame-table.ts";
import { freeFolios } from "../phys/free-batch.ts";
import { freeSwapIfUnmapped } from "../swap/cache.ts";
import { freeEntryAndCache } from "../swap/entries.ts";
import type { SwapEntry } from "../swap/state.ts";
import { putFolio } from "./folio.ts";
import { unlockBeforeZap } from "./mlock.ts";
import { ENTRY, isGuard, NO_TABLE, pmdTableOf } from "./page-tables.ts";
import { isHugeEntry, splitPmd, zapHugePmd } from "./pmd.ts";
import { removeAnonPtes, removeFilePte, runOfFolio } from "./rmap.ts";
import { type Mm, type MmState, noteHiwater } from "./state.ts";
import { clearEntry, freeTable } from "./table-alloc.ts";

const NR_ANON_PAGES = VMSTAT.nr_anon_pages;

/** Guard regions go when memory is unmapped and stay when only its contents are dropped (ANON-274). */
type Guards = "go" | "stay";

/** Unmaps every page of [start, end), guards too; tables stay. */
export function zapRange(m: MmState, mm: Mm, start: Addr, end: Addr): void {
  zap(m, mm, start, end, "go");
}

/** Drops the contents of [start, end), as MADV_DONTNEED does: guards and tables stay. */
export function dropRange(m: MmState, mm: Mm, start: Addr, end: Addr): void {
  zap(m, mm, start, end, "stay");
}

function zap(m: MmState, mm: Mm, start: Addr, end: Addr, guards: Guards): void {
  if (start >= end) return;
  m.mmuNotifier?.invalidateRange(mm.id, start / 4096, end / 4096);
  noteHiwater(mm);
  unlockBeforeZap(m, mm, start, end);
  // The bounds are split here, not in the loop: an address beyond 2^31 is an object to code that is not compiled yet.
  const firstRegion = regionOf(start);
  const lastRegion = regionOf(end - 1);
  const firstPte = pteIndexOf(start);
  const endPte = pteIndexOf(end - 1) + 1;
  for (let region = firstRegion; region <= lastRegion; region++) {
    const pmdTable = pmdTableOf(m.tables, mm.root, region);
    if (pmdTable === NO_TABLE) {
      region |= 511; // Nothing in this GiB: on to the next one.
      continue;
    }
    const slot = pmdTable * 512 + (region & 511);
    if (m.tables.flags[slot] === 0) continue;
    const first = region === firstRegion ? firstPte : 0;
    const last = region === lastRegion ? endPte : PTES_PER_REGION;
    zapRegion(m, mm, region, slot, first, last, guards);
  }
}

/** Unmaps pages [first, last) of one region whose PMD entry is not empty. */
function zapRegion(
  m: MmState,
  mm: Mm,
  region: number,
  slot: number,
  first: number,
  last: number,
  guards: Guards,
): void {
  const isHuge = isHugeEntry(m.tables.flags[slot]);
  m.events?.emit(EVENT.zap, mm.id, region, isHuge ? 1 : 0);
  if (isHuge && last - first === PTES_PER_REGION) {
    zapHugePmd(m, mm, slot);
    return;
  }
  if (isHuge) splitPmd(m, mm, region, slot);
  zapPtes(m, mm, m.tables.payload[slot], first, last, guards);
}

/**
 * The common case, 4K anonymous pages, is done in the loop; its counters are settled once per table. Anonymous memory does not
 * become dirty by losing a dirty mapping (PROC-052).
 */
function zapPtes(
  m: MmState,
  mm: Mm,
  table: number,
  first: number,
  last: number,
  guards: Guards,
): void {
  const { payload, flags } = m.tables;
  const frames = m.frames;
  const base = table * 512;
  let nrCleared = 0;
  let nrSmall = 0;
  let nrUnmapped = 0;
  let nrToFree = 0;
  for (let slot = base + first; slot < base + last; slot++) {
    const entry = flags[slot];
    if (entry === 0) continue;
    nrCleared++;
    const pfn = payload[slot];
    if ((entry & (ENTRY.PRESENT | ENTRY.SPECIAL)) !== ENTRY.PRESENT) {
      if (guards === "stay" && isGuard(m.tables, slot)) nrCleared--;
      else flags[slot] = 0; // zero page, marker: nothing is counted
      // A page under migration is resident, but its mapping is not counted: whoever migrates it holds it.
      if ((entry & ENTRY.MIGRATION) !== 0) nrSmall++;
      if ((entry & ENTRY.SWAP) !== 0) dropSwapEntry(m, mm, pfn);
    } else if (frames.order[pfn] !== 0) {
      const nr = runOfFolio(m, slot, base + last, pfn);
      zapLargeFolioPtes(m, mm, slot, pfn, nr);
      nrCleared += nr - 1;
      slot += nr - 1;
    } else if ((frames.flags[pfn] & PG.ANON) !== 0) {
      flags[slot] = 0;
      nrSmall++;
      if (--frames.mapcount[pfn] === 0) nrUnmapped++;
      if (--frames.refcount[pfn] === 0) m.toFree[nrToFree++] = pfn;
      else freeSwapIfUnmapped(m, pfn);
    } else {
      zapFilePte(m, mm, slot, pfn, entry);
    }
  }
  freeFolios(m, m.toFree, nrToFree);
  m.tables.nrUsed[table] -= nrCleared;
  mm.rssAnon -= nrSmall;
  m.vmstat[NR_ANON_PAGES] -= nrUnmapped;
}

/** An entry that named a swap slot was cleared. */
export function dropSwapEntry(m: MmState, mm: Mm, entry: SwapEntry): void {
  mm.nrSwapEntries--;
  freeEntryAndCache(m, entry);
}

function zapLargeFolioPtes(m: MmState, mm: Mm, slot: number, pfn: Pfn, nr: number): void {
  const entryFlags = m.tables.flags;
  const head = headOf(m.frames, pfn);
  entryFlags.fill(0, slot, slot + nr);
  mm.rssAnon -= nr;
  removeAnonPtes(m, mm, pfn, nr);
  freeSwapIfUnmapped(m, head);
  putFolio(m, head, nr);
}

function zapFilePte(m: MmState, mm: Mm, slot: number, pfn: Pfn, entry: number): void {
  const frames = m.frames;
  m.tables.flags[slot] = 0;
  if ((entry & ENTRY.DIRTY) !== 0) frames.flags[pfn] |= PG.DIRTY;
  if ((frames.flags[pfn] & PG.SWAPBACKED) !== 0) mm.rssShmem--;
  else mm.rssFile--;
  removeFilePte(m, pfn);
  putFolio(m, pfn, 1);
}

/**
 * One madvise call emptied whole regions: their tables go too, so that the next fault can be huge (ANON-061).
 * Regions fully inside [start, end) whose PTE table has no entry left.
 */
export function freeEmptiedPteTables(m: MmState, mm: Mm, start: Addr, end: Addr): void {
  const endRegion = Math.floor(end / HUGE_SIZE);
  for (let region = Math.ceil(start / HUGE_SIZE); region < endRegion; region++) {
    const pmdTable = pmdTableOf(m.tables, mm.root, region);
    if (pmdTable === NO_TABLE) region |= 511;
    else freePteTableAt(m, mm, pmdTable * 512 + (region & 511));
  }
}

function freePteTableAt(m: MmState, mm: Mm, slot: number): void {
  const tables = m.tables;
  if ((tables.flags[slot] & ENTRY.TABLE) === 0) return;
  if (tables.nrUsed[tables.payload[slot]] === 0) freeTableAt(m, mm, slot);
}

/**
 * Frees the tables that only served [start, end), given that no VMA is left between `floor` and `ceiling` around it
 * (end of the VMA before, start of the VMA after). All entries of the range are empty.
 */
export function freeTablesBetween(
  m: MmState,
  mm: Mm,
  start: Addr,
  end: Addr,
  floor: Addr,
  ceiling: Addr,
): void {
  const tables = m.tables;
  const lastRegion = regionOf(end - 1);
  for (let region = regionOf(start); region <= lastRegion; region++) {
    const pmdTable = pmdTableOf(tables, mm.root, region);
    if (pmdTable !== NO_TABLE) {
      const isOurs = region * HUGE_SIZE >= floor && (region + 1) * HUGE_SIZE <= ceiling;
      if (isOurs) freePteTableAt(m, mm, pmdTable * 512 + (region & 511));
      if (tables.nrUsed[pmdTable] !== 0) continue;
    }
    freeUpperTables(m, mm, region, floor, ceiling);
    region |= 511;
  }
}

/** Frees the PMD table over `region` and the PUD table above it where they are empty and no VMA is left in their reach. */
function freeUpperTables(m: MmState, mm: Mm, region: number, floor: Addr, ceiling: Addr): void {
  const tables = m.tables;
  const pgdSlot = mm.root * 512 + (region >>> 18);
  if (tables.flags[pgdSlot] === 0) return;
  const pud = tables.payload[pgdSlot];
  const pudSlot = pud * 512 + ((region >>> 9) & 511);
  if (tables.flags[pudSlot] !== 0) {
    if (!isReachFree(region, 512, floor, ceiling)) return;
    freeTableAt(m, mm, pudSlot);
  }
  if (tables.nrUsed[pud] === 0 && isReachFree(region, 512 * 512, floor, ceiling))
    freeTableAt(m, mm, pgdSlot);
}

function freeTableAt(m: MmState, mm: Mm, slot: number): void {
  const table = m.tables.payload[slot];
  clearEntry(m.tables, slot);
  freeTable(m, mm, table);
}

function isReachFree(region: number, nrRegions: number, floor: Addr, ceiling: Addr): boolean {
  const first = Math.floor(region / nrRegions) * nrRegions;
  return first * HUGE_SIZE >= floor && (first + nrRegions) * HUGE_SIZE <= ceiling;
}
