/**
 * Four-level page tables: all tables of all address spaces in one store of 512-entry rows.
 *
 * Owns:  the entries, and per table its frame, level and fill.
 * Units: `table` = row number (0 is no table); `slot` = table * 512 + index. An entry is a Uint32 payload (frame, table or
 *        swap slot, by kind) and Uint16 flags; an empty entry has flags 0.
 * Levels: 4 PGD, 3 PUD, 2 PMD, 1 PTE. A region number is the concatenation of the upper three indices.
 */

/** Flags of an entry at any level. */
export const ENTRY = {
  /** Translates: payload is a pfn (level 1, or level 2 with HUGE) or a table id (with TABLE). */
  PRESENT: 1 << 0,
  WRITE: 1 << 1,
  YOUNG: 1 << 2,
  DIRTY: 1 << 3,
  /** Leaf at level 2: payload is the head pfn of an order-9 folio. */
  HUGE: 1 << 4,
  /** Payload is the table one level down. Always with PRESENT. */
  TABLE: 1 << 5,
  /** The 4K or huge zero page: no rmap, no reference, no RSS. */
  SPECIAL: 1 << 6,
  /** Mapped but inaccessible (PROT_NONE): PRESENT is also set. */
  PROTNONE: 1 << 7,
  /** Not present: payload is a swap slot. */
  SWAP: 1 << 8,
  /** Not present: migration entry, payload is the pfn; with HUGE, of a whole folio. See mm/migration.ts. */
  MIGRATION: 1 << 9,
  /** Not present: guard region, poison and the like; payload says which. */
  MARKER: 1 << 10,
  /** Swap or migration entry of a page that is exclusive. */
  EXCLUSIVE: 1 << 11,
  UFFD_WP: 1 << 12,
  SOFT_DIRTY: 1 << 13,
} as const;

/** What a marker entry marks: its payload. */
export const MARKER = {
  /** A guard region: a touch is SIGSEGV (ANON-274). */
  GUARD: 1,
  /** A page that failed was here: a touch is SIGBUS (ANON-281). */
  POISON: 2,
} as const;

/** Bits of a mapping that its migration entry remembers, to be put back with it (ANON-212). */
export const MIGRATION_KEEPS =
  ENTRY.WRITE | ENTRY.YOUNG | ENTRY.DIRTY | ENTRY.UFFD_WP | ENTRY.SOFT_DIRTY;

export const NO_TABLE = 0;
export const LEVEL_PGD = 4;
export const LEVEL_PUD = 3;
export const LEVEL_PMD = 2;
export const LEVEL_PTE = 1;

/** The arrays grow by doubling: never keep one across a call that may allocate a table. */
export interface PageTables {
  /** By kind of entry: pfn, table id, swap slot. Rows: slots; meaningless where flags are 0. */
  payload: Uint32Array;
  /** ENTRY bits. Rows: slots. */
  flags: Uint16Array;
  /** Frame the table occupies. Rows: tables. */
  pfn: Int32Array;
  /** 4..1. Rows: tables. */
  level: Uint8Array;
  /** Entries that are not empty. Rows: tables in use. */
  nrUsed: Uint16Array;
  /** First of the PTE tables deposited under a PMD table's huge entries (ANON-141). Rows: PMD tables. */
  depositHead: Int32Array;
  /** Next deposited table, or next free row. Rows: deposited and free tables. */
  next: Int32Array;
  /** Rows ever used; rows from here on are untouched. Row 0 is never used. */
  nrRows: number;
  /** Head of the list of rows given back, through `next`. */
  freeHead: number;
}

const MOST_FIRST_ROWS = 4096;
const FEWEST_FIRST_ROWS = 64;

/** A store without tables; room at first for one table per 64 frames, so that a small machine is made quickly. */
export function createPageTables(nrFrames: number): PageTables {
  const nrRows = Math.max(FEWEST_FIRST_ROWS, Math.min(nrFrames >>> 6, MOST_FIRST_ROWS));
  return {
    payload: new Uint32Array(nrRows * 512),
    flags: new Uint16Array(nrRows * 512),
    pfn: new Int32Array(nrRows),
    level: new Uint8Array(nrRows),
    nrUsed: new Uint16Array(nrRows),
    depositHead: new Int32Array(nrRows),
    next: new Int32Array(nrRows),
    nrRows: 1,
    freeHead: NO_TABLE,
  };
}

/** The PMD table that covers `region` in the tree below `root`, or NO_TABLE. */
export function pmdTableOf(tables: PageTables, root: number, region: number): number {
  const pgdSlot = root * 512 + (region >>> 18);
  if (tables.flags[pgdSlot] === 0) return NO_TABLE;
  const pudSlot = tables.payload[pgdSlot] * 512 + ((region >>> 9) & 511);
  return tables.flags[pudSlot] === 0 ? NO_TABLE : tables.payload[pudSlot];
}

/** Slot of the PMD entry of `region`, or -1 if its PMD table does not exist. */
export function pmdSlotOf(tables: PageTables, root: number, region: number): number {
  const table = pmdTableOf(tables, root, region);
  return table === NO_TABLE ? -1 : table * 512 + (region & 511);
}

/** The PTE table of `region`, or NO_TABLE (nothing there, or a huge entry). */
export function pteTableOf(tables: PageTables, root: number, region: number): number {
  const slot = pmdSlotOf(tables, root, region);
  return slot >= 0 && (tables.flags[slot] & ENTRY.TABLE) !== 0 ? tables.payload[slot] : NO_TABLE;
}

/** True if the PTE stands for a page that failed. */
export function isPoison(tables: PageTables, slot: number): boolean {
  return (tables.flags[slot] & ENTRY.MARKER) !== 0 && tables.payload[slot] === MARKER.POISON;
}

/** True if the PTE is a guard region's. */
export function isGuard(tables: PageTables, slot: number): boolean {
  return (tables.flags[slot] & ENTRY.MARKER) !== 0 && tables.payload[slot] === MARKER.GUARD;
}
