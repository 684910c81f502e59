/**
 * Operations on one huge PMD entry: split into PTEs, zap, copy at fork, move, change protection.
 *
 * Holds: every huge entry has a deposited PTE table in its PMD table's reserve, so splitPmd cannot fail (ANON-141, ANON-170).
 * Units: a `slot` is an index into the page-table store; `region` an aligned 2 MiB range.
 */

import { type Pfn, PTES_PER_REGION } from "../base/address.ts";
import { VMSTAT } from "../base/counters.ts";
import { EVENT } from "../base/events.ts";
import { PG } from "../phys/frame-table.ts";
import { freeSwapIfUnmapped } from "../swap/cache.ts";
import { putFolio } from "./folio.ts";
import { mlockFolio, munlockFolio, unlockAtPmdSplit } from "./mlock.ts";
import { ENTRY, LEVEL_PTE, MIGRATION_KEEPS, NO_TABLE, pmdSlotOf } from "./page-tables.ts";
import { addAnonPmd, joinAnonPteCounts, removeAnonPmd, splitAnonPmdCounts } from "./rmap.ts";
import { type Mm, type MmState, noteHiwater } from "./state.ts";
import {
  allocTable,
  clearEntry,
  deposit,
  freeTable,
  setTableEntry,
  withdraw,
} from "./table-alloc.ts";
import { VM, VM_ACCESS, type Vma } from "./vma.ts";

/** Bits that a PMD and its 512 PTEs share. */
const CARRIED =
  ENTRY.PRESENT |
  ENTRY.WRITE |
  ENTRY.YOUNG |
  ENTRY.DIRTY |
  ENTRY.SPECIAL |
  ENTRY.PROTNONE |
  ENTRY.UFFD_WP |
  ENTRY.SOFT_DIRTY;

/** Bits that a huge migration entry and its 512 PTEs share. */
const CARRIED_MIGRATION = MIGRATION_KEEPS | ENTRY.MIGRATION | ENTRY.EXCLUSIVE;

/** True for an entry that stands for 2 MiB: one that maps them, or a migration entry of a whole folio. */
export function isHugeEntry(flags: number): boolean {
  return (flags & ENTRY.HUGE) !== 0;
}

/** Installs a huge entry in an empty slot with `table` as its deposit. */
export function setHugeEntry(
  m: MmState,
  slot: number,
  head: Pfn,
  flags: number,
  table: number,
): void {
  setLeaf(m, slot, head, flags | ENTRY.PRESENT, table);
}

function setLeaf(m: MmState, slot: number, head: Pfn, flags: number, table: number): void {
  const tables = m.tables;
  tables.payload[slot] = head;
  tables.flags[slot] = flags | ENTRY.HUGE;
  tables.nrUsed[slot >>> 9]++;
  deposit(tables, slot, table);
}

/**
 * Replaces a huge entry by 512 PTEs of the same pages with the same bits; the folio stays whole. Never fails, allocates
 * nothing (ANON-170, 171, 086). The 2 MiB translation is invalidated before the table appears (ANON-173).
 */
export function splitPmd(m: MmState, mm: Mm, region: number, slot: number): void {
  const flags = m.tables.flags[slot];
  const head = m.tables.payload[slot];
  if ((flags & ENTRY.MIGRATION) !== 0) {
    replaceByTable(m, mm, region, slot, head, 1, flags & CARRIED_MIGRATION);
  } else if ((flags & ENTRY.SPECIAL) !== 0) {
    // Zero PTEs are read-only whatever the entry said.
    replaceByTable(m, mm, region, slot, m.zeroPfn, 0, flags & CARRIED & ~ENTRY.WRITE);
  } else {
    replaceByTable(m, mm, region, slot, head, 1, flags & CARRIED);
    splitFolioMapping(m, mm, region, head, flags);
  }
}

/**
 * splitPmd that leaves migration entries instead of mappings: only within a folio split or a migration, whose caller holds a
 * reference. A folio that is pinned keeps its exclusive mappings: they are split plainly, and the caller's count of
 * references will tell it (ANON-172).
 */
export function splitPmdToMigration(
  m: MmState,
  mm: Mm,
  vma: Vma,
  region: number,
  slot: number,
): void {
  const { frames } = m;
  const flags = m.tables.flags[slot];
  const head = m.tables.payload[slot];
  const isExclusive = (frames.flags[head] & PG.ANON_EXCLUSIVE) !== 0;
  if (isExclusive && frames.pincount[head] > 0) {
    splitPmd(m, mm, region, slot);
    return;
  }
  frames.flags[head] &= ~PG.ANON_EXCLUSIVE;
  if ((flags & ENTRY.DIRTY) !== 0) frames.flags[head] |= PG.DIRTY;
  const exclusive = isExclusive ? ENTRY.EXCLUSIVE : 0;
  const entry = (flags & MIGRATION_KEEPS) | ENTRY.MIGRATION | exclusive;
  replaceByTable(m, mm, region, slot, head, 1, entry);
  if ((vma.flags & VM.LOCKED) !== 0) munlockFolio(m, head);
  removeAnonPmd(m, mm, head);
  putFolio(m, head, 1);
}

/**
 * Replaces a huge entry by a huge migration entry: the folio is about to be moved as a whole; its deposit stays. False, with
 * nothing changed, if it is exclusive and pinned. The caller holds a reference.
 */
export function freezeHugePmd(m: MmState, mm: Mm, vma: Vma, region: number, slot: number): boolean {
  const { frames, tables } = m;
  const flags = tables.flags[slot];
  const head = tables.payload[slot];
  const isExclusive = (frames.flags[head] & PG.ANON_EXCLUSIVE) !== 0;
  if (isExclusive && frames.pincount[head] > 0) return false;
  m.mmuNotifier?.invalidateRange(mm.id, region * PTES_PER_REGION, (region + 1) * PTES_PER_REGION);
  frames.flags[head] &= ~PG.ANON_EXCLUSIVE;
  if ((flags & ENTRY.DIRTY) !== 0) frames.flags[head] |= PG.DIRTY;
  const exclusive = isExclusive ? ENTRY.EXCLUSIVE : 0;
  tables.flags[slot] = (flags & MIGRATION_KEEPS) | ENTRY.MIGRATION | ENTRY.HUGE | exclusive;
  if ((vma.flags & VM.LOCKED) !== 0) munlockFolio(m, head);
  removeAnonPmd(m, mm, head);
  putFolio(m, head, 1);
  return true;
}

/** Replaces a huge migration entry by a mapping of `head`: the folio it names, or the one that was made of it. */
export function restoreHugePmd(m: MmState, mm: Mm, vma: Vma, slot: number, head: Pfn): void {
  const { frames, tables } = m;
  const entry = tables.flags[slot];
  if ((entry & ENTRY.EXCLUSIVE) !== 0) frames.flags[head] |= PG.ANON_EXCLUSIVE;
  frames.refcount[head]++;
  addAnonPmd(m, mm, head);
  if ((vma.flags & VM.LOCKED) !== 0) mlockFolio(m, head);
  tables.payload[slot] = head;
  const protection = (vma.flags & VM_ACCESS) === 0 ? ENTRY.PROTNONE : 0;
  tables.flags[slot] = ENTRY.PRESENT | ENTRY.HUGE | (entry & MIGRATION_KEEPS) | protection;
}

/** Puts the deposited table, filled with entries for `first`, `first` + step, ..., in the place of a huge entry. */
function replaceByTable(
  m: MmState,
  mm: Mm,
  region: number,
  slot: number,
  first: Pfn,
  step: 0 | 1,
  entry: number,
): void {
  const { tables } = m;
  m.mmuNotifier?.invalidateRange(mm.id, region * PTES_PER_REGION, (region + 1) * PTES_PER_REGION);
  const table = withdraw(tables, slot);
  clearEntry(tables, slot);
  const base = table * 512;
  for (let i = 0; i < PTES_PER_REGION; i++) tables.payload[base + i] = first + i * step;
  tables.flags.fill(entry, base, base + PTES_PER_REGION);
  tables.nrUsed[table] = PTES_PER_REGION;
  setTableEntry(tables, slot, table);
  m.vmstat[VMSTAT.thp_split_pmd]++;
  m.events?.emit(EVENT.split_pmd, mm.id, region, 0);
}

function splitFolioMapping(m: MmState, mm: Mm, region: number, head: Pfn, flags: number): void {
  const frames = m.frames;
  frames.refcount[head] += PTES_PER_REGION - 1;
  splitAnonPmdCounts(m, mm, head);
  unlockAtPmdSplit(m, mm, region, head);
  if ((flags & ENTRY.DIRTY) !== 0) frames.flags[head] |= PG.DIRTY;
  // One flag for the huge mapping becomes one per page (ANON-138).
  if ((frames.flags[head] & PG.ANON_EXCLUSIVE) !== 0)
    for (let page = head + 1; page < head + PTES_PER_REGION; page++)
      frames.flags[page] |= PG.ANON_EXCLUSIVE;
}

/**
 * Replaces 512 PTEs that map all of an order-9 folio in its order by one huge entry, with their table as its deposit
 * (COLL-462). "exclusive": every page is, and the entry may be written if its VMA may; "shared": none is afterwards.
 */
export function joinPtes(
  m: MmState,
  mm: Mm,
  vma: Vma,
  region: number,
  sharing: "exclusive" | "shared",
): void {
  const { frames, tables } = m;
  const slot = pmdSlotOf(tables, mm.root, region);
  const table = tables.payload[slot];
  const base = table * 512;
  const head = tables.payload[base];
  m.mmuNotifier?.invalidateRange(mm.id, region * PTES_PER_REGION, (region + 1) * PTES_PER_REGION);
  let flags = 0;
  for (let i = 0; i < PTES_PER_REGION; i++) flags |= tables.flags[base + i];
  flags &= CARRIED & ~ENTRY.WRITE;
  if (sharing === "exclusive" && (vma.flags & VM.WRITE) !== 0) flags |= ENTRY.WRITE;
  // One flag per page becomes one for the huge mapping (ANON-138).
  const first = sharing === "exclusive" ? 1 : 0;
  for (let page = head + first; page < head + PTES_PER_REGION; page++)
    frames.flags[page] &= ~PG.ANON_EXCLUSIVE;
  tables.flags.fill(0, base, base + PTES_PER_REGION);
  tables.nrUsed[table] = 0;
  clearEntry(tables, slot);
  mm.hintRegion = -1;
  setHugeEntry(m, slot, head, flags, table);
  frames.refcount[head] -= PTES_PER_REGION - 1;
  joinAnonPteCounts(m, mm, head);
}

/** Removes a huge entry, its deposit and its share of the folio (ANON-180). */
export function zapHugePmd(m: MmState, mm: Mm, slot: number): void {
  const tables = m.tables;
  const flags = tables.flags[slot];
  const head = tables.payload[slot];
  clearEntry(tables, slot);
  freeTable(m, mm, withdraw(tables, slot));
  if ((flags & ENTRY.SPECIAL) !== 0) return;
  noteHiwater(mm);
  mm.rssAnon -= PTES_PER_REGION;
  // Whoever migrates it holds the folio, and will not find this entry again.
  if ((flags & ENTRY.MIGRATION) !== 0) return;
  removeAnonPmd(m, mm, head);
  freeSwapIfUnmapped(m, head);
  putFolio(m, head, 1);
}

/**
 * Fork: the child maps the same folio, both write-protected, the child's entry old (ANON-150).
 * False if no frame is free for the deposit.
 */
export function copyHugePmd(m: MmState, child: Mm, parentSlot: number, childSlot: number): boolean {
  const table = allocTable(m, child, LEVEL_PTE);
  if (table === NO_TABLE) return false;
  const tables = m.tables;
  const head = tables.payload[parentSlot];
  const flags = tables.flags[parentSlot] & ~ENTRY.WRITE;
  if ((flags & ENTRY.MIGRATION) !== 0) {
    const shared = flags & ~ENTRY.EXCLUSIVE;
    tables.flags[parentSlot] = shared;
    setLeaf(m, childSlot, head, shared & ~(ENTRY.YOUNG | ENTRY.UFFD_WP), table);
    child.rssAnon += PTES_PER_REGION;
    return true;
  }
  setHugeEntry(m, childSlot, head, flags & ~(ENTRY.YOUNG | ENTRY.UFFD_WP), table);
  if ((flags & ENTRY.SPECIAL) !== 0) {
    takeHugeZero(m, child);
    return true;
  }
  tables.flags[parentSlot] = flags;
  m.frames.flags[head] &= ~PG.ANON_EXCLUSIVE;
  m.frames.refcount[head]++;
  addAnonPmd(m, child, head);
  child.rssAnon += PTES_PER_REGION;
  return true;
}

/** The first use of the huge zero folio by an mm takes a reference it keeps to its end (ANON-081). */
export function takeHugeZero(m: MmState, mm: Mm): void {
  if (mm.usesHugeZero) return;
  mm.usesHugeZero = true;
  m.hugeZero.refcount++;
}

/** Moves a huge entry and its deposit to an empty slot (ANON-223). */
export function moveHugePmd(m: MmState, fromSlot: number, toSlot: number): void {
  const tables = m.tables;
  const flags = tables.flags[fromSlot];
  const head = tables.payload[fromSlot];
  const table = withdraw(tables, fromSlot);
  clearEntry(tables, fromSlot);
  setLeaf(m, toSlot, head, flags | ENTRY.SOFT_DIRTY, table);
}

/**
 * Protection of a whole huge entry (ANON-220). `canWrite`: the VMA is writable; the entry becomes writable at once only if
 * the folio is exclusive, else the next write decides.
 */
export function changeHugePmd(
  m: MmState,
  slot: number,
  access: "none" | "readOnly" | "writable",
): void {
  const tables = m.tables;
  if ((tables.flags[slot] & ENTRY.MIGRATION) !== 0) {
    // The VMA decides the rest when the entry is replaced.
    if (access !== "writable") tables.flags[slot] &= ~ENTRY.WRITE;
    return;
  }
  let flags = tables.flags[slot] & ~(ENTRY.WRITE | ENTRY.PROTNONE);
  if (access === "none") flags |= ENTRY.PROTNONE;
  if (access === "writable" && (flags & (ENTRY.SPECIAL | ENTRY.UFFD_WP)) === 0) {
    const isExclusive = (m.frames.flags[tables.payload[slot]] & PG.ANON_EXCLUSIVE) !== 0;
    if (isExclusive) flags |= ENTRY.WRITE;
  }
  tables.flags[slot] = flags;
}
