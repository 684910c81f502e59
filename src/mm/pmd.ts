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
import { putFolio } from "./folio.ts";
import { unlockAtPmdSplit } from "./mlock.ts";
import { ENTRY, LEVEL_PTE, NO_TABLE } from "./page-tables.ts";
import { addAnonPmd, removeAnonPmd, splitAnonPmdCounts } from "./rmap.ts";
import { type Mm, type MmState, noteHiwater } from "./state.ts";
import {
  allocTable,
  clearEntry,
  deposit,
  freeTable,
  setTableEntry,
  withdraw,
} from "./table-alloc.ts";

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

/** True for a present entry that maps 2 MiB. */
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
  const tables = m.tables;
  tables.payload[slot] = head;
  tables.flags[slot] = flags | ENTRY.PRESENT | ENTRY.HUGE;
  tables.nrUsed[slot >>> 9]++;
  deposit(tables, slot, table);
}

/**
 * Replaces a huge entry by 512 PTEs of the same pages with the same bits; the folio stays whole. Never fails, allocates
 * nothing (ANON-170, 171, 086). The 2 MiB translation is invalidated before the table appears (ANON-173).
 */
export function splitPmd(m: MmState, mm: Mm, region: number, slot: number): void {
  const tables = m.tables;
  const flags = tables.flags[slot];
  const head = tables.payload[slot];
  m.mmuNotifier?.invalidateRange(mm.id, region * PTES_PER_REGION, (region + 1) * PTES_PER_REGION);
  const table = withdraw(tables, slot);
  clearEntry(tables, slot);
  const isZero = (flags & ENTRY.SPECIAL) !== 0;
  fillPtes(m, table, isZero ? m.zeroPfn : head, isZero ? 0 : 1, flags);
  if (!isZero) splitFolioMapping(m, mm, region, head, flags);
  setTableEntry(tables, slot, table);
  m.vmstat[VMSTAT.thp_split_pmd]++;
  m.events?.emit(EVENT.split_pmd, mm.id, region, 0);
}

function fillPtes(m: MmState, table: number, first: Pfn, step: number, flags: number): void {
  const { payload, flags: entryFlags } = m.tables;
  const base = table * 512;
  // Zero PTEs are read-only whatever the entry said.
  const carried = step === 0 ? flags & CARRIED & ~ENTRY.WRITE : flags & CARRIED;
  for (let i = 0; i < PTES_PER_REGION; i++) payload[base + i] = first + i * step;
  entryFlags.fill(carried, base, base + PTES_PER_REGION);
  m.tables.nrUsed[table] = PTES_PER_REGION;
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
  if ((flags & ENTRY.DIRTY) !== 0) m.frames.flags[head] |= PG.DIRTY;
  removeAnonPmd(m, mm, head);
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
  setHugeEntry(m, toSlot, head, flags | ENTRY.SOFT_DIRTY, table);
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
  let flags = tables.flags[slot] & ~(ENTRY.WRITE | ENTRY.PROTNONE);
  if (access === "none") flags |= ENTRY.PROTNONE;
  if (access === "writable" && (flags & (ENTRY.SPECIAL | ENTRY.UFFD_WP)) === 0) {
    const isExclusive = (m.frames.flags[tables.payload[slot]] & PG.ANON_EXCLUSIVE) !== 0;
    if (isExclusive) flags |= ENTRY.WRITE;
  }
  tables.flags[slot] = flags;
}
