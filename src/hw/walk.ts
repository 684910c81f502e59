/**
 * Page walks over the simulated tables: which entry translates, how many entries were read, what that took.
 *
 * Entry: walk; coldWalkReferences and nestedReferences are the arithmetic of PHYS-170 and PHYS-171.
 * Owns:  the page-walk caches of one CPU; the tables belong to mm/.
 * Units: references are reads of one table entry; cycles are core cycles; levels are 4 PGD to 1 PTE as in mm/.
 *
 * The tables decide the translation, always: a page-walk cache only says which of the upper entries need not be read,
 * so an entry it should have lost cannot lead anywhere wrong. A walk that meets an entry that is not present ends there.
 */

import { ENTRY, type PageTables } from "../mm/page-tables.ts";
import type { Geometry, TlbShape } from "./geometry.ts";
import {
  clearHostWalker,
  commitHost,
  createHostWalker,
  type HostPage,
  type HostWalker,
  readHost,
  smallFrame,
} from "./host-walk.ts";
import { readLine, type TableCaches } from "./table-cache.ts";
import {
  clearTlb,
  createTlb,
  dropTlbAsid,
  EMPTY,
  hugeName,
  insertTlb,
  lookupTlb,
  type Tlb,
} from "./tlb.ts";

/** Entries of one level that lead to a table, by address space and prefix of the region. */
interface UpperCache {
  readonly entries: Tlb;
  /** Prefix and name of the entry used last: the latest of its set, so that a repeat needs no look-up. Name EMPTY: none. */
  lastPrefix: number;
  lastName: number;
}

export interface Walker {
  readonly caches: TableCaches;
  readonly pgdCache: UpperCache;
  readonly pudCache: UpperCache;
  readonly pmdCache: UpperCache;
  /** The second dimension, or null on bare metal. */
  readonly host: HostWalker | null;
  readonly startCycles: number;
  /** Whether the frames of 4K pages are read; nothing but a host's tables and a check wants them. */
  readonly readsFrames: boolean;
  /** Of the last walk: slot of the entry that translates, or -1. */
  slot: number;
  /** Of the last walk: payload and flags of its last entry; of a PTE payload 0 unless frames are read. */
  payload: number;
  flags: number;
  /** Of the last walk: level of its last entry, 1 or 2 if it translates. */
  lastLevel: number;
  /** References that the last walk would have made without any cache. */
  nrColdReferences: number;
  /** References that the last walk made. */
  nrReferences: number;
  /** Duration of the last walk. */
  cycles: number;
}

export function createWalker(
  geometry: Geometry,
  caches: TableCaches,
  hostPage: HostPage | null,
  frames: "kept" | "dropped",
  runPages: number | null = null,
): Walker {
  return {
    caches,
    pgdCache: createUpperCache(geometry.walkCaches.pgd),
    pudCache: createUpperCache(geometry.walkCaches.pud),
    pmdCache: createUpperCache(geometry.walkCaches.pmd),
    host: hostPage === null ? null : createHostWalker(geometry, hostPage, runPages),
    startCycles: geometry.walkStartCycles,
    readsFrames: hostPage !== null || frames === "kept",
    slot: -1,
    payload: 0,
    flags: 0,
    lastLevel: 0,
    nrColdReferences: 0,
    nrReferences: 0,
    cycles: 0,
  };
}

/** References of a native walk through `nrLevels` tables without caches; a 2M leaf saves one, a 1G leaf two (PHYS-170). */
export function coldWalkReferences(nrLevels: number, leaf: HostPage): number {
  return nrLevels - { "4k": 0, "2m": 1, "1g": 2 }[leaf];
}

/** References of a two-dimensional walk: each guest entry and the final address need a host walk (PHYS-171, ANON-292). */
export function nestedReferences(nrGuestReads: number, nrHostReads: number): number {
  return (nrGuestReads + 1) * (nrHostReads + 1) - 1;
}

/** Walks for one page. Returns the slot of the present leaf entry, or -1; all results are in the walker. */
export function walk(
  w: Walker,
  tables: PageTables,
  root: number,
  asid: number,
  region: number,
  pteIndex: number,
): number {
  const { flags, payload } = tables;
  let lastLevel = 4;
  let slot = root * 512 + (region >>> 18);
  let pudTable = 0;
  let pmdTable = 0;
  let pteTable = 0;
  if (isTable(flags[slot])) {
    lastLevel = 3;
    pudTable = payload[slot]!;
    slot = pudTable * 512 + ((region >>> 9) & 511);
    if (isTable(flags[slot])) {
      lastLevel = 2;
      pmdTable = payload[slot]!;
      slot = pmdTable * 512 + (region & 511);
      if (isTable(flags[slot])) {
        lastLevel = 1;
        pteTable = payload[slot]!;
        slot = pteTable * 512 + pteIndex;
      }
    }
  }
  // Each of these may be a cache miss of the host; read together, the misses overlap. One less is better still.
  w.flags = flags[slot]!;
  w.payload = lastLevel !== 1 || w.readsFrames ? payload[slot] : 0;
  w.lastLevel = lastLevel;
  w.slot = lastLevel <= 2 && isAccessibleLeaf(w.flags, lastLevel) ? slot : -1;

  const firstLevel = firstLevelOf(w, asid, region, lastLevel);
  let cycles = w.startCycles;
  if (firstLevel === 4) cycles += readEntry(w, tables, root, region >>> 18);
  if (firstLevel >= 3 && lastLevel <= 3) {
    cycles += readEntry(w, tables, pudTable, (region >>> 9) & 511);
  }
  if (firstLevel >= 2 && lastLevel <= 2) cycles += readEntry(w, tables, pmdTable, region & 511);
  if (lastLevel === 1) cycles += readEntry(w, tables, pteTable, pteIndex);
  if (firstLevel > lastLevel) keepUpperEntries(w, asid, region, firstLevel, lastLevel);
  w.cycles = cycles;
  w.nrReferences = firstLevel - lastLevel + 1;
  w.nrColdReferences = 5 - lastLevel;
  if (w.host !== null) finishNested(w, w.host, pteIndex);
  return w.slot;
}

function isTable(flags: number): boolean {
  return (flags & (ENTRY.PRESENT | ENTRY.TABLE)) === (ENTRY.PRESENT | ENTRY.TABLE);
}

/** Whether the hardware takes the entry for a translation: PROTNONE has no present bit of the hardware's. */
function isAccessibleLeaf(flags: number, level: number): boolean {
  const wanted = level === 2 ? ENTRY.PRESENT | ENTRY.HUGE : ENTRY.PRESENT;
  return (flags & (wanted | ENTRY.PROTNONE)) === wanted;
}

/** First level to be read: below the lowest upper entry that a page-walk cache holds, else 4 (PHYS-173). */
function firstLevelOf(w: Walker, asid: number, region: number, lastLevel: number): number {
  if (lastLevel === 1 && holds(w.pmdCache, asid, region)) return 1;
  if (lastLevel <= 2 && holds(w.pudCache, asid, region >>> 9)) return 2;
  if (lastLevel <= 3 && holds(w.pgdCache, asid, region >>> 18)) return 3;
  return 4;
}

function holds(cache: UpperCache, asid: number, prefix: number): boolean {
  const name = hugeName(asid);
  if (cache.lastPrefix === prefix && cache.lastName === name) return true;
  if (lookupTlb(cache.entries, prefix, name) < 0) return false;
  cache.lastPrefix = prefix;
  cache.lastName = name;
  return true;
}

/** The upper entries that this walk has read lead to tables; from now on they need not be read. */
function keepUpperEntries(
  w: Walker,
  asid: number,
  region: number,
  firstLevel: number,
  lastLevel: number,
): void {
  if (firstLevel === 4 && lastLevel < 4) keepEntry(w.pgdCache, asid, region >>> 18);
  if (firstLevel >= 3 && lastLevel < 3) keepEntry(w.pudCache, asid, region >>> 9);
  if (firstLevel >= 2 && lastLevel < 2) keepEntry(w.pmdCache, asid, region);
}

function keepEntry(cache: UpperCache, asid: number, prefix: number): void {
  if (cache.entries.nrEntries === 0) return;
  const name = hugeName(asid);
  insertTlb(cache.entries, prefix, name, 0);
  cache.lastPrefix = prefix;
  cache.lastName = name;
}

/** Cycles to read one entry. In a guest the table's own address is guest-physical and must be translated first. */
function readEntry(w: Walker, tables: PageTables, table: number, index: number): number {
  const pfn = tables.pfn[table];
  const hostCycles = w.host === null ? 0 : readHost(w.host, w.caches, smallFrame(w.host, pfn));
  return hostCycles + readLine(w.caches, pfn, index);
}

/** Translates the page's own guest-physical address and adds the host's references. */
function finishNested(w: Walker, host: HostWalker, pteIndex: number): void {
  w.nrColdReferences *= host.nrLevels + 1;
  if (w.slot >= 0) {
    const pfn = pagePfn(w, pteIndex);
    w.cycles += readHost(host, w.caches, w.lastLevel === 2 ? pfn : smallFrame(host, pfn));
    w.nrColdReferences += host.nrLevels;
  }
  w.nrReferences += host.nrReferences;
  host.nrReferences = 0;
  commitHost(host);
}

/** Frame of the 4K page `pteIndex` that the leaf of the last walk maps; 0 for a PTE if frames are not read. */
export function pagePfn(w: Walker, pteIndex: number): number {
  return w.lastLevel === 2 ? w.payload + pteIndex : w.payload;
}

/** Drops the upper entries of one address space: any INVLPG does, whatever its address. */
export function dropWalkCaches(w: Walker, asid: number): void {
  dropUpper(w.pgdCache, asid);
  dropUpper(w.pudCache, asid);
  dropUpper(w.pmdCache, asid);
}

function createUpperCache(shape: TlbShape): UpperCache {
  return { entries: createTlb(shape), lastPrefix: 0, lastName: EMPTY };
}

function dropUpper(cache: UpperCache, asid: number): void {
  dropTlbAsid(cache.entries, asid);
  cache.lastName = EMPTY;
}

function clearUpper(cache: UpperCache): void {
  clearTlb(cache.entries);
  cache.lastName = EMPTY;
}

/** Empties the page-walk caches and the nested ones, as at power-on. */
export function clearWalker(w: Walker): void {
  clearUpper(w.pgdCache);
  clearUpper(w.pudCache);
  clearUpper(w.pmdCache);
  if (w.host !== null) clearHostWalker(w.host);
}
