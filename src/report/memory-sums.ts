/**
 * What smaps says of a VMA, summed over its page-table entries.
 *
 * Entry: emptySums, addVma.
 * Rules: PROC-013..021, ANON-300, ANON-301.
 * Units: counts in 4 KiB pages; `pss*` in 1/4096 bytes, in which the kernel divides each page (PROC-014): a page that n entries
 *        map adds floor(2^24 / n), and the sum is rounded down to kB at print.
 */

import { type Pfn, PTES_PER_REGION } from "../base/address.ts";
import { ENTRY } from "../mm/page-tables.ts";
import { pageMapcount } from "../mm/rmap.ts";
import type { Mm, MmState } from "../mm/state.ts";
import { VM, type Vma } from "../mm/vma.ts";
import { headOf, PG } from "../phys/frame-table.ts";
import { swapSharers } from "./swap-words.ts";
import { forEachTable } from "./vma-entries.ts";

/** A whole page in units of 1/4096 bytes. */
const PSS_PAGE = 2 ** 24;
/** Flags of anonymous memory that nothing special happened to. */
const ORDINARY = PG.ANON | PG.SWAPBACKED;

export interface MemorySums {
  rss: number;
  pss: number;
  pssDirty: number;
  pssAnon: number;
  pssFile: number;
  pssShmem: number;
  /** Of `pss`, what lies in locked VMAs. */
  pssLocked: number;
  sharedClean: number;
  sharedDirty: number;
  privateClean: number;
  privateDirty: number;
  referenced: number;
  anonymous: number;
  ksm: number;
  lazyFree: number;
  anonHuge: number;
  shmemPmdMapped: number;
  filePmdMapped: number;
  swap: number;
  swapPss: number;
}

/** All zero. */
export function emptySums(): MemorySums {
  return {
    rss: 0,
    pss: 0,
    pssDirty: 0,
    pssAnon: 0,
    pssFile: 0,
    pssShmem: 0,
    pssLocked: 0,
    sharedClean: 0,
    sharedDirty: 0,
    privateClean: 0,
    privateDirty: 0,
    referenced: 0,
    anonymous: 0,
    ksm: 0,
    lazyFree: 0,
    anonHuge: 0,
    shmemPmdMapped: 0,
    filePmdMapped: 0,
    swap: 0,
    swapPss: 0,
  };
}

/** Whole kB of a `pss*` sum. */
export function pssKb(pss: number): number {
  return Math.floor(pss / 2 ** 22);
}

/** Adds every page that `vma` maps. */
export function addVma(m: MmState, mm: Mm, vma: Vma, sums: MemorySums): void {
  const isLocked = (vma.flags & VM.LOCKED) !== 0;
  const before = sums.pss;
  forEachTable(
    m,
    mm,
    vma,
    (flags, payload, nr) => addEntry(m, flags, payload, nr, sums),
    (firstSlot, nr) => addPtes(m, firstSlot, nr, sums),
  );
  if (isLocked) sums.pssLocked += sums.pss - before;
}

/** Most memory is anonymous pages, so these are added up in local variables; whatever else goes the general way. */
function addPtes(m: MmState, firstSlot: number, nr: number, sums: MemorySums): void {
  const { flags: entries, payload } = m.tables;
  const { flags: pageFlags, order, mapcount, entireMapcount } = m.frames;
  let nrPages = 0;
  let referenced = 0;
  let sharedDirty = 0;
  let privateDirty = 0;
  let pss = 0;
  for (let slot = firstSlot; slot < firstSlot + nr; slot++) {
    const entry = entries[slot];
    if (entry === 0) continue;
    const pfn = payload[slot];
    const isPage = (entry & (ENTRY.PRESENT | ENTRY.SPECIAL)) === ENTRY.PRESENT;
    const head = isPage ? pfn & -(1 << order[pfn]) : 0;
    const flags = isPage ? pageFlags[head] : 0;
    const isDirty = (entry & ENTRY.DIRTY) !== 0 || (flags & PG.DIRTY) !== 0;
    if ((flags & (PG.ANON | PG.SWAPBACKED | PG.KSM)) !== ORDINARY || !isDirty) {
      addEntry(m, entry, pfn, 1, sums);
      continue;
    }
    const nrMappings = mapcount[pfn] + (order[pfn] > 0 ? entireMapcount[head] : 0);
    nrPages++;
    if ((entry & ENTRY.YOUNG) !== 0 || (flags & PG.REFERENCED) !== 0) referenced++;
    if (nrMappings < 2) privateDirty++;
    else sharedDirty++;
    pss += nrMappings < 2 ? PSS_PAGE : Math.floor(PSS_PAGE / nrMappings);
  }
  sums.rss += nrPages;
  sums.anonymous += nrPages;
  sums.referenced += referenced;
  sums.sharedDirty += sharedDirty;
  sums.privateDirty += privateDirty;
  sums.pss += pss;
  sums.pssDirty += pss;
  sums.pssAnon += pss;
}

function addEntry(m: MmState, flags: number, payload: number, nr: number, sums: MemorySums): void {
  if ((flags & ENTRY.SWAP) !== 0) addSwapped(m, payload, sums);
  // The zero pages count nowhere (PROC-013), guard regions neither.
  else if ((flags & (ENTRY.SPECIAL | ENTRY.MARKER)) === 0) addPages(m, payload, nr, flags, sums);
}

function addSwapped(m: MmState, payload: number, sums: MemorySums): void {
  sums.swap++;
  sums.swapPss += Math.floor(PSS_PAGE / swapSharers(m, payload));
}

/** `nr` consecutive pages of one folio that one entry maps. */
function addPages(m: MmState, first: Pfn, nr: number, entry: number, sums: MemorySums): void {
  const head = headOf(m.frames, first);
  const pageFlags = m.frames.flags[head];
  const isMigration = (entry & ENTRY.MIGRATION) !== 0;
  // What a migration entry remembers of the mapping is not looked at.
  const bits = isMigration ? 0 : entry;
  const isDirty = (bits & ENTRY.DIRTY) !== 0 || (pageFlags & PG.DIRTY) !== 0;
  sums.rss += nr;
  if ((bits & ENTRY.YOUNG) !== 0 || (pageFlags & PG.REFERENCED) !== 0) sums.referenced += nr;
  if ((pageFlags & PG.ANON) !== 0) {
    sums.anonymous += nr;
    if ((pageFlags & PG.SWAPBACKED) === 0 && !isDirty) sums.lazyFree += nr;
    if ((pageFlags & PG.KSM) !== 0) sums.ksm += nr;
  }
  if (nr === PTES_PER_REGION) addHugeMapping(pageFlags, sums);
  const before = sums.pss;
  // A migration entry is never found private (PROC-021).
  if (isMigration) addShared(sums, nr, isDirty, nr * PSS_PAGE);
  else if (isMappedByHugeOnly(m, head, nr)) addEven(m, head, nr, isDirty, sums);
  else for (let page = first; page < first + nr; page++) addEven(m, page, 1, isDirty, sums);

  const pss = sums.pss - before;
  if (isDirty) sums.pssDirty += pss;
  if ((pageFlags & PG.ANON) !== 0) sums.pssAnon += pss;
  else if ((pageFlags & PG.SWAPBACKED) !== 0) sums.pssShmem += pss;
  else sums.pssFile += pss;
}

/** PROC-017: by kind; the entry is huge or stands for one that was. */
function addHugeMapping(pageFlags: number, sums: MemorySums): void {
  if ((pageFlags & PG.ANON) !== 0) sums.anonHuge += PTES_PER_REGION;
  else if ((pageFlags & PG.SWAPBACKED) !== 0) sums.shmemPmdMapped += PTES_PER_REGION;
  else sums.filePmdMapped += PTES_PER_REGION;
}

/** Every page of the folio has the same number of mappings. */
function isMappedByHugeOnly(m: MmState, head: Pfn, nr: number): boolean {
  return nr === PTES_PER_REGION && m.frames.nrPagesMapped[head] === 0;
}

/** `nr` pages with as many mappings as `page` has. */
function addEven(m: MmState, page: Pfn, nr: number, isDirty: boolean, sums: MemorySums): void {
  const mapcount = pageMapcount(m, page);
  if (mapcount >= 2) return addShared(sums, nr, isDirty, nr * Math.floor(PSS_PAGE / mapcount));
  sums.pss += nr * PSS_PAGE;
  if (isDirty) sums.privateDirty += nr;
  else sums.privateClean += nr;
}

function addShared(sums: MemorySums, nr: number, isDirty: boolean, pss: number): void {
  sums.pss += pss;
  if (isDirty) sums.sharedDirty += nr;
  else sums.sharedClean += nr;
}
