/**
 * Reverse mapping counts: who maps a page, kept in the frame table as mappings come and go.
 *
 * Holds: for every folio, mapcount (per page), entireMapcount, largeMapcount, nrPagesMapped, the remembered sharers, and the
 *        counters nr_anon_pages and nr_anon_transparent_hugepages agree with the page tables (ANON-130..139).
 *        References are the caller's: adding a mapping does not take one.
 */

import { type Pfn, PTES_PER_REGION } from "../base/address.ts";
import { VMSTAT } from "../base/counters.ts";
import { headOf, PG } from "../phys/frame-table.ts";
import type { AnonVma } from "./anon-vma.ts";
import { markPartiallyMapped } from "./folio.ts";
import { ENTRY } from "./page-tables.ts";
import type { Mm, MmState } from "./state.ts";
import type { Vma } from "./vma.ts";

const NR_ANON_PAGES = VMSTAT.nr_anon_pages;
const NR_MAPPED = VMSTAT.nr_mapped;
const NATHP = VMSTAT.nr_anon_transparent_hugepages;

/** Names the owner and index of a new anonymous folio whose first page is at (region, pteIndex) of `vma`. */
export function setAnonOwner(
  m: MmState,
  head: Pfn,
  vma: Vma,
  anonVma: AnonVma,
  region: number,
  pteIndex: number,
): void {
  const frames = m.frames;
  frames.owner[head] = anonVma.id;
  if (vma.pgoffDelta === 0) {
    frames.indexRegion[head] = region;
    frames.indexPte[head] = pteIndex;
    return;
  }
  const index = region * PTES_PER_REGION + pteIndex + vma.pgoffDelta;
  frames.indexRegion[head] = Math.floor(index / PTES_PER_REGION);
  frames.indexPte[head] = index - Math.floor(index / PTES_PER_REGION) * PTES_PER_REGION;
}

/** Page index of a folio's head in its owner. */
export function indexOf(m: MmState, head: Pfn): number {
  return m.frames.indexRegion[head] * PTES_PER_REGION + m.frames.indexPte[head];
}

/** A new order-0 anonymous page got its first mapping. */
export function mapNewAnonPage(m: MmState, pfn: Pfn): void {
  m.frames.mapcount[pfn] = 1;
  m.vmstat[NR_ANON_PAGES]++;
}

/** `nr` consecutive pages from `pfn`, all of one anonymous folio, were mapped by PTEs of `mm`. */
export function addAnonPtes(m: MmState, mm: Mm, pfn: Pfn, nr: number): void {
  const frames = m.frames;
  const head = headOf(frames, pfn);
  if (frames.order[head] === 0) {
    if (frames.mapcount[pfn]++ === 0) m.vmstat[NR_ANON_PAGES]++;
    return;
  }
  let nrFirst = 0;
  for (let page = pfn; page < pfn + nr; page++) if (frames.mapcount[page]++ === 0) nrFirst++;
  frames.nrPagesMapped[head] += nrFirst;
  if (frames.entireMapcount[head] === 0) m.vmstat[NR_ANON_PAGES] += nrFirst;
  addSharer(m, head, mm, nr);
}

/** The reverse of addAnonPtes, for mappings removed in one step. May make the folio partially mapped. */
export function removeAnonPtes(m: MmState, mm: Mm, pfn: Pfn, nr: number): void {
  const frames = m.frames;
  const head = headOf(frames, pfn);
  if (frames.order[head] === 0) {
    if (--frames.mapcount[pfn] === 0) m.vmstat[NR_ANON_PAGES]--;
    return;
  }
  let nrLast = 0;
  for (let page = pfn; page < pfn + nr; page++) if (--frames.mapcount[page] === 0) nrLast++;
  frames.nrPagesMapped[head] -= nrLast;
  removeSharer(m, head, mm, nr);
  if (frames.entireMapcount[head] !== 0 || nrLast === 0) return;
  m.vmstat[NR_ANON_PAGES] -= nrLast;
  if (frames.nrPagesMapped[head] > 0) markPartiallyMapped(m, head);
}

/** A whole order-9 folio was mapped by a PMD entry of `mm`. */
export function addAnonPmd(m: MmState, mm: Mm, head: Pfn): void {
  const frames = m.frames;
  if (frames.entireMapcount[head]++ === 0) {
    m.vmstat[NATHP]++;
    m.vmstat[NR_ANON_PAGES] += PTES_PER_REGION - frames.nrPagesMapped[head];
  }
  addSharer(m, head, mm, 1);
}

/** The reverse of addAnonPmd (ANON-192: the rest may be partially mapped by others' PTEs). */
export function removeAnonPmd(m: MmState, mm: Mm, head: Pfn): void {
  const frames = m.frames;
  removeSharer(m, head, mm, 1);
  if (--frames.entireMapcount[head] !== 0) return;
  m.vmstat[NATHP]--;
  const nrPagesMapped = frames.nrPagesMapped[head];
  m.vmstat[NR_ANON_PAGES] -= PTES_PER_REGION - nrPagesMapped;
  if (nrPagesMapped > 0 && nrPagesMapped < PTES_PER_REGION) markPartiallyMapped(m, head);
}

/**
 * A PMD entry of `mm` became 512 PTEs of the same folio: 511 more mappings, one less entire (ANON-171).
 * No page gains its first or loses its last mapping, so only NATHP can move.
 */
export function splitAnonPmdCounts(m: MmState, mm: Mm, head: Pfn): void {
  const frames = m.frames;
  let nrFirst = 0;
  for (let page = head; page < head + PTES_PER_REGION; page++)
    if (frames.mapcount[page]++ === 0) nrFirst++;
  frames.nrPagesMapped[head] += nrFirst;
  if (--frames.entireMapcount[head] === 0) m.vmstat[NATHP]--;
  addSharer(m, head, mm, PTES_PER_REGION - 1);
}

/** The reverse of splitAnonPmdCounts: 512 PTEs of `mm` that map all of the folio became one PMD entry (COLL-462). */
export function joinAnonPteCounts(m: MmState, mm: Mm, head: Pfn): void {
  const frames = m.frames;
  let nrLast = 0;
  for (let page = head; page < head + PTES_PER_REGION; page++)
    if (--frames.mapcount[page] === 0) nrLast++;
  frames.nrPagesMapped[head] -= nrLast;
  if (frames.entireMapcount[head]++ === 0) m.vmstat[NATHP]++;
  removeSharer(m, head, mm, PTES_PER_REGION - 1);
}

/** A file or shared memory page was mapped by a PTE. */
export function addFilePte(m: MmState, pfn: Pfn): void {
  if (m.frames.mapcount[pfn]++ === 0) m.vmstat[NR_MAPPED]++;
}

export function removeFilePte(m: MmState, pfn: Pfn): void {
  if (--m.frames.mapcount[pfn] === 0) m.vmstat[NR_MAPPED]--;
}

/** How many entries from `slot` on map consecutive pages of the folio of `pfn`: they come and go in one step (ANON-199). */
export function runOfFolio(m: MmState, slot: number, endSlot: number, pfn: Pfn): number {
  const { payload, flags } = m.tables;
  const frames = m.frames;
  const folioEnd = headOf(frames, pfn) + (1 << frames.order[pfn]);
  const most = Math.min(endSlot - slot, folioEnd - pfn);
  let nr = 1;
  while (nr < most && payload[slot + nr] === pfn + nr && (flags[slot + nr] & ENTRY.PRESENT) !== 0)
    nr++;
  return nr;
}

/** Mappings of one 4K page as kpagecount and Pss see them (ANON-132). */
export function pageMapcount(m: MmState, pfn: Pfn): number {
  const head = headOf(m.frames, pfn);
  return m.frames.mapcount[pfn] + (m.frames.order[head] > 0 ? m.frames.entireMapcount[head] : 0);
}

/** All mappings of a folio: PMD entries and PTEs. */
export function folioMapcount(m: MmState, head: Pfn): number {
  return m.frames.order[head] > 0 ? m.frames.largeMapcount[head] : m.frames.mapcount[head];
}

/** False only if one address space certainly has every mapping of this large folio (ANON-139). */
export function isMaybeMappedShared(m: MmState, head: Pfn): boolean {
  const frames = m.frames;
  if ((frames.flags[head] & PG.MAYBE_SHARED) !== 0) return true;
  return frames.sharer0Mapcount[head] > 0 && frames.sharer1Mapcount[head] > 0;
}

function addSharer(m: MmState, head: Pfn, mm: Mm, nr: number): void {
  const frames = m.frames;
  const name = mm.id + 1;
  frames.largeMapcount[head] += nr;
  if (frames.sharer0[head] === name) frames.sharer0Mapcount[head] += nr;
  else if (frames.sharer1[head] === name) frames.sharer1Mapcount[head] += nr;
  else claimSharerSlot(m, head, name, nr);
}

function claimSharerSlot(m: MmState, head: Pfn, name: number, nr: number): void {
  const frames = m.frames;
  // A new mapper may take a free slot only while every mapping is accounted for by name.
  const hasUnknown = (frames.flags[head] & PG.MAYBE_SHARED) !== 0;
  if (!hasUnknown && frames.sharer0[head] === 0) {
    frames.sharer0[head] = name;
    frames.sharer0Mapcount[head] = nr;
  } else if (!hasUnknown && frames.sharer1[head] === 0) {
    frames.sharer1[head] = name;
    frames.sharer1Mapcount[head] = nr;
  } else {
    frames.flags[head] |= PG.MAYBE_SHARED;
  }
}

function removeSharer(m: MmState, head: Pfn, mm: Mm, nr: number): void {
  const frames = m.frames;
  const name = mm.id + 1;
  const left = frames.largeMapcount[head] - nr;
  frames.largeMapcount[head] = left;
  if (frames.sharer0[head] === name) {
    frames.sharer0Mapcount[head] -= nr;
    if (frames.sharer0Mapcount[head] === 0) frames.sharer0[head] = 0;
  } else if (frames.sharer1[head] === name) {
    frames.sharer1Mapcount[head] -= nr;
    if (frames.sharer1Mapcount[head] === 0) frames.sharer1[head] = 0;
  }
  if ((frames.flags[head] & PG.MAYBE_SHARED) === 0) return;
  if (left === frames.sharer0Mapcount[head] || left === frames.sharer1Mapcount[head])
    frames.flags[head] &= ~PG.MAYBE_SHARED;
}
