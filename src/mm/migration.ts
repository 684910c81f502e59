/**
 * Migration entries: what stands in a page table while the page behind it is being split or moved.
 *
 * Entry: freezePte and restorePte, for a folio split or a migration; pmd.ts has the same for huge entries.
 * Holds: whoever leaves a migration entry holds a reference on the folio and puts every entry back that is still there. The
 *        entry itself counts in the RSS, but is no mapping and no reference. A fault that meets one waits (ANON-073);
 *        munmap forgets it; fork copies it (ANON-153); mremap moves it; mprotect may take its write bit.
 * Locks: folio, anon_vma exclusive, page table.
 */

import type { Pfn } from "../base/address.ts";
import { assert } from "../base/assert.ts";
import { headOf, PG } from "../phys/frame-table.ts";
import { putFolio } from "./folio.ts";
import { mlockFolio, munlockFolio } from "./mlock.ts";
import { ENTRY, MIGRATION_KEEPS, type PageTables, pmdSlotOf } from "./page-tables.ts";
import { isMaybePinned } from "./pins.ts";
import { addAnonPtes, removeAnonPtes } from "./rmap.ts";
import { type Mm, type MmState, noteHiwater } from "./state.ts";
import { VM, VM_ACCESS, type Vma } from "./vma.ts";

/**
 * Replaces a PTE of an anonymous page by a migration entry. False, with nothing changed, if the page is exclusive and may be
 * pinned: then others may write it without asking the page table (ANON-172).
 */
export function freezePte(m: MmState, mm: Mm, vma: Vma, slot: number, page: number): boolean {
  const { frames, tables } = m;
  const pfn = tables.payload[slot];
  const entry = tables.flags[slot];
  const head = headOf(frames, pfn);
  const isExclusive = (frames.flags[pfn] & PG.ANON_EXCLUSIVE) !== 0;
  if (isExclusive && isMaybePinned(m, head)) return false;

  m.mmuNotifier?.invalidateRange(mm.id, page, page + 1);
  frames.flags[pfn] &= ~PG.ANON_EXCLUSIVE;
  if ((entry & ENTRY.DIRTY) !== 0) frames.flags[head] |= PG.DIRTY;
  const exclusive = isExclusive ? ENTRY.EXCLUSIVE : 0;
  tables.flags[slot] = (entry & MIGRATION_KEEPS) | ENTRY.MIGRATION | exclusive;
  if ((vma.flags & VM.LOCKED) !== 0) munlockFolio(m, head);
  removeAnonPtes(m, mm, pfn, 1);
  putFolio(m, head, 1);
  return true;
}

/** Replaces a migration entry by a mapping of `pfn`: the page it names, or the one that page was moved to. */
export function restorePte(m: MmState, mm: Mm, vma: Vma, slot: number, pfn: Pfn): void {
  const { frames, tables } = m;
  const entry = tables.flags[slot];
  assert((entry & ENTRY.MIGRATION) !== 0, "an entry is restored that is no migration entry");
  if ((entry & ENTRY.EXCLUSIVE) !== 0) frames.flags[pfn] |= PG.ANON_EXCLUSIVE;
  frames.refcount[headOf(frames, pfn)]++;
  addAnonPtes(m, mm, pfn, 1);
  // One entry is all of a small folio only, and only the whole is locked (ANON-205, ANON-235).
  if ((vma.flags & VM.LOCKED) !== 0 && frames.order[pfn] === 0) mlockFolio(m, pfn);
  tables.payload[slot] = pfn;
  tables.flags[slot] = ENTRY.PRESENT | (entry & MIGRATION_KEEPS) | protection(vma, entry);
}

/** Replaces a migration entry by the shared zero page: what it named holds only zeroes (ANON-203). */
export function restorePteAsZero(m: MmState, mm: Mm, vma: Vma, slot: number): void {
  const { tables } = m;
  const entry = tables.flags[slot];
  noteHiwater(mm);
  mm.rssAnon--;
  tables.payload[slot] = m.zeroPfn;
  const kept = entry & MIGRATION_KEEPS & ~(ENTRY.WRITE | ENTRY.DIRTY);
  tables.flags[slot] = ENTRY.PRESENT | ENTRY.SPECIAL | kept | protection(vma, entry);
}

/** fork: the child gets the entry too, and neither may write or is alone any more (ANON-153). */
export function copyMigrationPte(tables: PageTables, from: number, to: number): void {
  const shared = tables.flags[from] & ~(ENTRY.WRITE | ENTRY.EXCLUSIVE);
  tables.flags[from] = shared;
  tables.payload[to] = tables.payload[from];
  tables.flags[to] = shared & ~(ENTRY.YOUNG | ENTRY.UFFD_WP);
}

/** True while the page at (region, pteIndex) is behind a migration entry. */
export function isMigrating(
  tables: PageTables,
  root: number,
  region: number,
  pteIndex: number,
): boolean {
  let slot = pmdSlotOf(tables, root, region);
  if (slot < 0) return false;
  if ((tables.flags[slot] & ENTRY.TABLE) !== 0) slot = tables.payload[slot] * 512 + pteIndex;
  return (tables.flags[slot] & ENTRY.MIGRATION) !== 0;
}

/** mprotect may have changed the VMA meanwhile: it decides whether the mapping is accessible at all. */
function protection(vma: Vma, entry: number): number {
  assert(
    (entry & ENTRY.WRITE) === 0 || (vma.flags & VM.WRITE) !== 0,
    "a migration entry may write where its VMA may not",
  );
  return (vma.flags & VM_ACCESS) === 0 ? ENTRY.PROTNONE : 0;
}
