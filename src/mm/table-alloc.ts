/**
 * Making and freeing page tables, and the way down to an entry.
 *
 * Every table occupies a frame of the machine, so a fault can fail for want of one, and reports can count them.
 * Deposits: a huge PMD entry owns one empty PTE table in reserve, so that splitting it cannot fail (ANON-141).
 */

import { assert } from "../base/assert.ts";
import { VMSTAT } from "../base/counters.ts";
import { allocFolio, freeFolio } from "../phys/alloc.ts";
import { NO_PFN, PG } from "../phys/frame-table.ts";
import { GFP_PGTABLE } from "../phys/gfp.ts";
import {
  ENTRY,
  LEVEL_PMD,
  LEVEL_PTE,
  LEVEL_PUD,
  NO_TABLE,
  type PageTables,
} from "./page-tables.ts";
import type { Mm, MmState } from "./state.ts";

const NR_PAGE_TABLE_PAGES = VMSTAT.nr_page_table_pages;

/** An empty table for `mm`, or NO_TABLE if no frame is free. */
export function allocTable(m: MmState, mm: Mm, level: number): number {
  const table = allocTableRow(m, level);
  if (table === NO_TABLE) return NO_TABLE;
  mm.nrTables++;
  if (level === LEVEL_PTE) mm.nrPteTables++;
  return table;
}

/** A table that belongs to no address space yet: the root of a new one. */
export function allocTableRow(m: MmState, level: number): number {
  const pfn = allocFolio(m, 0, GFP_PGTABLE, 0);
  if (pfn === NO_PFN) return NO_TABLE;
  const tables = m.tables;
  const row = takeRow(tables);
  m.frames.flags[pfn] = PG.PGTABLE;
  m.frames.owner[pfn] = row;
  tables.pfn[row] = pfn;
  tables.level[row] = level;
  tables.nrUsed[row] = 0;
  tables.depositHead[row] = NO_TABLE;
  tables.next[row] = NO_TABLE;
  m.vmstat[NR_PAGE_TABLE_PAGES]++;
  return row;
}

/** Gives an empty table back. */
export function freeTable(m: MmState, mm: Mm, table: number): void {
  mm.nrTables--;
  if (m.tables.level[table] === LEVEL_PTE) mm.nrPteTables--;
  mm.hintRegion = -1;
  freeTableRow(m, table);
}

/** freeTable for a root. */
export function freeTableRow(m: MmState, table: number): void {
  const tables = m.tables;
  assert(tables.nrUsed[table] === 0, "a page table is freed that still has entries");
  assert(tables.depositHead[table] === NO_TABLE, "a PMD table is freed that still has deposits");
  const pfn = tables.pfn[table];
  m.frames.owner[pfn] = 0;
  m.frames.refcount[pfn] = 0;
  freeFolio(m, pfn);
  tables.level[table] = 0;
  tables.pfn[table] = NO_PFN;
  tables.next[table] = tables.freeHead;
  tables.freeHead = table;
  m.vmstat[NR_PAGE_TABLE_PAGES]--;
}

/** Slot of the PMD entry of `region`, with the tables above it made as needed; -1 if no frame is free. */
export function ensurePmdSlot(m: MmState, mm: Mm, region: number): number {
  const pud = ensureChild(m, mm, mm.root * 512 + (region >>> 18), LEVEL_PUD);
  if (pud === NO_TABLE) return -1;
  const pmd = ensureChild(m, mm, pud * 512 + ((region >>> 9) & 511), LEVEL_PMD);
  return pmd === NO_TABLE ? -1 : pmd * 512 + (region & 511);
}

/** The PTE table under an empty or table PMD entry, made if needed; NO_TABLE if no frame is free. */
export function ensurePteTable(m: MmState, mm: Mm, pmdSlot: number): number {
  return ensureChild(m, mm, pmdSlot, LEVEL_PTE);
}

function ensureChild(m: MmState, mm: Mm, slot: number, level: number): number {
  if (m.tables.flags[slot] !== 0) return m.tables.payload[slot];
  const table = allocTable(m, mm, level);
  if (table === NO_TABLE) return NO_TABLE;
  setTableEntry(m.tables, slot, table);
  return table;
}

/** Points an empty entry to a table. */
export function setTableEntry(tables: PageTables, slot: number, table: number): void {
  tables.payload[slot] = table;
  tables.flags[slot] = ENTRY.PRESENT | ENTRY.TABLE;
  tables.nrUsed[slot >>> 9]++;
}

/** Empties a non-empty entry. */
export function clearEntry(tables: PageTables, slot: number): void {
  tables.flags[slot] = 0;
  tables.payload[slot] = 0;
  tables.nrUsed[slot >>> 9]--;
}

/** Puts an empty PTE table in reserve for a huge entry of the same PMD table. */
export function deposit(tables: PageTables, pmdSlot: number, table: number): void {
  const pmdTable = pmdSlot >>> 9;
  tables.next[table] = tables.depositHead[pmdTable];
  tables.depositHead[pmdTable] = table;
}

/** Takes the reserve of a huge entry. */
export function withdraw(tables: PageTables, pmdSlot: number): number {
  const pmdTable = pmdSlot >>> 9;
  const table = tables.depositHead[pmdTable];
  assert(table !== NO_TABLE, "a huge entry has no deposited table");
  tables.depositHead[pmdTable] = tables.next[table];
  tables.next[table] = NO_TABLE;
  return table;
}

function takeRow(tables: PageTables): number {
  if (tables.freeHead !== NO_TABLE) {
    const row = tables.freeHead;
    tables.freeHead = tables.next[row];
    return row;
  }
  if (tables.nrRows === tables.pfn.length) grow(tables);
  return tables.nrRows++;
}

/** Doubles the store. Untouched rows commit no host memory, so this costs one copy of what is in use. */
function grow(tables: PageTables): void {
  const nrRows = tables.pfn.length * 2;
  tables.payload = grown(tables.payload, new Uint32Array(nrRows * 512));
  tables.flags = grown(tables.flags, new Uint16Array(nrRows * 512));
  tables.pfn = grown(tables.pfn, new Int32Array(nrRows));
  tables.level = grown(tables.level, new Uint8Array(nrRows));
  tables.nrUsed = grown(tables.nrUsed, new Uint16Array(nrRows));
  tables.depositHead = grown(tables.depositHead, new Int32Array(nrRows));
  tables.next = grown(tables.next, new Int32Array(nrRows));
}

function grown<T extends Uint32Array | Int32Array | Uint16Array | Uint8Array>(from: T, to: T): T {
  to.set(from);
  return to;
}
