/**
 * Page tables built directly in a store, without frames, VMAs or faults: for measuring the translation hardware alone.
 *
 * Entry: createPlainTables, mapSmall, mapHuge. Used by tests and benchmarks; a machine's tables come from mm/.
 * Owns:  a store of fixed size. Table frames are numbered from `firstTablePfn` on, in the order of their creation.
 */

import { assert } from "../base/assert.ts";
import { ENTRY, type PageTables, pmdTableOf } from "../mm/page-tables.ts";

export interface PlainTables {
  readonly tables: PageTables;
  readonly root: number;
}

/** An empty tree in a store of `nrTables` rows. */
export function createPlainTables(nrTables: number, firstTablePfn: number): PlainTables {
  const tables: PageTables = {
    payload: new Uint32Array(nrTables * 512),
    flags: new Uint16Array(nrTables * 512),
    pfn: Int32Array.from({ length: nrTables }, (_, row) => firstTablePfn + row),
    level: new Uint8Array(nrTables),
    nrUsed: new Uint16Array(nrTables),
    depositHead: new Int32Array(nrTables),
    next: new Int32Array(nrTables),
    nrRows: 1,
    freeHead: 0,
  };
  return { tables, root: addTable(tables, 4) };
}

/** Maps one 4K page with WRITE. */
export function mapSmall(plain: PlainTables, region: number, pteIndex: number, pfn: number): void {
  const pmdTable = tableBelow(plain, plain.root, region);
  const pmdSlot = pmdTable * 512 + (region & 511);
  setEntry(plain.tables, childOf(plain.tables, pmdSlot, 1) * 512 + pteIndex, pfn, 0);
}

/** Maps a whole region by one huge entry with WRITE; `pfn` is the head. */
export function mapHuge(plain: PlainTables, region: number, pfn: number): void {
  const pmdTable = tableBelow(plain, plain.root, region);
  setEntry(plain.tables, pmdTable * 512 + (region & 511), pfn, ENTRY.HUGE);
}

/** Slot of the PMD entry of a region whose PMD table exists. */
export function pmdSlot(plain: PlainTables, region: number): number {
  return pmdTableOf(plain.tables, plain.root, region) * 512 + (region & 511);
}

/** Slot of a page's PTE; its table must exist. */
export function pteSlot(plain: PlainTables, region: number, pteIndex: number): number {
  return plain.tables.payload[pmdSlot(plain, region)] * 512 + pteIndex;
}

function tableBelow(plain: PlainTables, root: number, region: number): number {
  const pudTable = childOf(plain.tables, root * 512 + (region >>> 18), 3);
  return childOf(plain.tables, pudTable * 512 + ((region >>> 9) & 511), 2);
}

function setEntry(tables: PageTables, slot: number, pfn: number, extra: number): void {
  tables.payload[slot] = pfn;
  tables.flags[slot] = ENTRY.PRESENT | ENTRY.WRITE | extra;
}

/** The table that an upper entry leads to, made if there is none. */
function childOf(tables: PageTables, slot: number, level: number): number {
  if (tables.flags[slot] === 0) {
    tables.payload[slot] = addTable(tables, level);
    tables.flags[slot] = ENTRY.PRESENT | ENTRY.TABLE | ENTRY.WRITE;
  }
  return tables.payload[slot];
}

function addTable(tables: PageTables, level: number): number {
  assert(tables.nrRows < tables.level.length, "the store of plain tables is full");
  tables.level[tables.nrRows] = level;
  return tables.nrRows++;
}
