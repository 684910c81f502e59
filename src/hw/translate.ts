/**
 * Address translation as the machine sees it: TLBs, walks and their counters, one set per CPU.
 *
 * Entry: translate, translateRun; flushPage, flushRegion, flushAsid, flushCpu; countTranslationCosts.
 * Owns:  the TLBs, page-walk caches and counters of all CPUs. Sets YOUNG and DIRTY in leaf entries of mm/'s tables.
 * Holds: after every call, each way's translation is what the tables said when it was filled; a caller that lessens an
 *        entry must flush it, and checkTranslation (translation-check.ts) finds what was forgotten. Frames of 4K pages
 *        are kept only for that check: no cost depends on them.
 * Units: counters as in HW_COUNTER_NAMES; region and pteIndex as in base/address.ts; asid 0..MAX_ASID.
 *
 * Nothing is allocated by a hit, a miss, a fault or a flush. A fault is a return value: the caller handles it and retries.
 */

import { assert } from "../base/assert.ts";
import { ENTRY, type PageTables } from "../mm/page-tables.ts";
import { COST } from "./cost-model.ts";
import { checkGeometry, exposedCycles, type Geometry, type TlbLevel } from "./geometry.ts";
import type { HostPage } from "./host-walk.ts";
import { createTableCaches } from "./table-cache.ts";
import {
  clearTlb,
  createTlb,
  dropTlb,
  dropTlbAsid,
  dropTlbRegion,
  hugeName,
  insertTlb,
  lookupTlb,
  MAX_ASID,
  smallName,
  smallTag,
  type Tlb,
  valueAt,
} from "./tlb.ts";
import { clearWalker, createWalker, dropWalkCaches, pagePfn, type Walker, walk } from "./walk.ts";

/** Bare metal, or a guest whose host maps its memory with pages of one size. */
export type TranslationMode =
  | { readonly kind: "native" }
  | {
      readonly kind: "nested";
      readonly hostPage: HostPage;
      /** 4K pages that lie together in guest memory, a power of two up to 512; absent: all of them (host-walk.ts). */
      readonly runPages?: number;
    };

/** What translate returns: where the translation was found, with HUGE_BIT for a 2M one; a negative number is a fault. */
export const TRANSLATED = {
  L1: 0,
  L2: 1,
  WALKED: 2,
  /** Added to the above: the TLB holds it as a 2M translation. */
  HUGE_BIT: 4,
  /** Fault: no present, accessible entry. */
  NOT_PRESENT: -1,
  /** Fault: a write, and the entry may not be written. */
  NOT_WRITABLE: -2,
} as const;

/**
 * Per CPU. accesses = L1 hits + l1Misses; l1Misses = L2 hits + l2Misses. Accesses that fault count only as fault walks, and
 * again, fully, when retried. A dirty walk is an L1 or L2 hit that had to set the dirty bit or found its entry read-only.
 */
export const HW_COUNTER_NAMES = [
  "accesses",
  "l1Misses",
  "l2Misses",
  "dirtyWalks",
  /** Of all walks but fault walks: references as if nothing had been cached (PHYS-170, PHYS-171). */
  "coldReferences",
  /** Of all walks but fault walks: references made, after the page-walk caches. */
  "walkReferences",
  "walkCycles",
  "faultWalks",
  "faultWalkReferences",
  /** Part of the fault's own measured cost, so not to be added to it. */
  "faultWalkCycles",
] as const;

export type HwCounterName = (typeof HW_COUNTER_NAMES)[number];
export const NR_HW_COUNTERS = HW_COUNTER_NAMES.length;

export const HW_COUNTER = Object.fromEntries(
  HW_COUNTER_NAMES.map((name, i) => [name, i]),
) as Readonly<Record<HwCounterName, number>>;

const ACCESSES = 0;
const L1_MISSES = 1;
const L2_MISSES = 2;
const DIRTY_WALKS = 3;
const COLD_REFERENCES = 4;
const WALK_REFERENCES = 5;
const WALK_CYCLES = 6;
const FAULT_WALKS = 7;
const FAULT_WALK_REFERENCES = 8;
const FAULT_WALK_CYCLES = 9;

/** No region has this number. */
const NO_REGION = -1;

const FILTER_MASK = 511;

/** Where a translation was found that does not allow the access. */
const NOT_HELD = 0;
const HELD_IN_L1 = 1;
const HELD_IN_L2 = 2;

/** One CPU. Where a level is shared between page sizes, its small and huge array are one object. */
export interface CpuTranslation {
  readonly l1Small: Tlb;
  readonly l1Huge: Tlb;
  readonly l2Small: Tlb;
  readonly l2Huge: Tlb;
  readonly walker: Walker;
  /** Whether a 2M leaf stays one: not if the host maps the guest by 4K pages. */
  readonly keepsHuge: boolean;
  /** 1 where a region with these low 9 bits may have translations, 0 where none has. Rows: region & FILTER_MASK. */
  readonly mayHold: Uint8Array;
  /** HW_COUNTER values; `accesses` is complete after translateRun, else read it by hwCounter. Rows: counters. */
  readonly counters: Float64Array;
  /** Accesses by translate since the last look-up, all to the last page, not yet in `counters`: an integer adds twice as fast. */
  nrRepeats: number;
  /** The last page translated is the latest of its set in L1, so that a repeat needs no look-up. NO_REGION: none. */
  lastRegion: number;
  lastPteIndex: number;
  lastAsid: number;
  /** 1 if the last page may be written without a walk. */
  lastWritable: number;
  /** HUGE_BIT or 0. */
  lastHugeBit: number;
}

export interface Translation {
  readonly geometry: Geometry;
  readonly mode: TranslationMode;
  /** Whether 4K translations keep their frames, which checkTranslation then compares; in a guest they always do. */
  readonly keepsFrames: boolean;
  readonly cpus: readonly CpuTranslation[];
}

/** Empty TLBs for CPUs 0..nrCpus-1. */
export function createTranslation(
  geometry: Geometry,
  nrCpus: number,
  mode: TranslationMode,
  frames: "kept" | "dropped" = "dropped",
): Translation {
  checkGeometry(geometry);
  const hostPage = mode.kind === "nested" ? mode.hostPage : null;
  const runPages = mode.kind === "nested" ? (mode.runPages ?? null) : null;
  const caches = createTableCaches(geometry, nrCpus);
  const cpus = caches.map((ofCpu): CpuTranslation => {
    const [l1Small, l1Huge] = createLevel(geometry.l1);
    const [l2Small, l2Huge] = createLevel(geometry.l2);
    return {
      l1Small,
      l1Huge,
      l2Small,
      l2Huge,
      walker: createWalker(geometry, ofCpu, hostPage, frames, runPages),
      keepsHuge: hostPage !== "4k",
      mayHold: new Uint8Array(FILTER_MASK + 1),
      counters: new Float64Array(NR_HW_COUNTERS),
      nrRepeats: 0,
      lastRegion: NO_REGION,
      lastPteIndex: 0,
      lastAsid: 0,
      lastWritable: 0,
      lastHugeBit: 0,
    };
  });
  return { geometry, mode, keepsFrames: hostPage !== null || frames === "kept", cpus };
}

function createLevel(level: TlbLevel): [Tlb, Tlb] {
  if (level.kind === "split") return [createTlb(level.small), createTlb(level.huge)];
  const both = createTlb(level.both);
  return [both, both];
}

/** One access. `root` is the PGD of address space `asid`. Returns TRANSLATED; below 0 the caller faults and retries. */
export function translate(
  t: Translation,
  cpu: number,
  tables: PageTables,
  root: number,
  asid: number,
  region: number,
  pteIndex: number,
  isWrite: boolean,
): number {
  const c = t.cpus[cpu];
  if (
    c.lastRegion === region &&
    c.lastPteIndex === pteIndex &&
    c.lastAsid === asid &&
    (c.lastWritable === 1 || !isWrite)
  ) {
    c.nrRepeats++;
    return c.lastHugeBit; // with TRANSLATED.L1, 0
  }
  return lookUp(c, tables, root, asid, region, pteIndex, isWrite);
}

/** `count` accesses (at least 1) of one page in a row; `isWrite` if any of them writes. As translate, also in what it returns. */
export function translateRun(
  t: Translation,
  cpu: number,
  tables: PageTables,
  root: number,
  asid: number,
  region: number,
  pteIndex: number,
  isWrite: boolean,
  count: number,
): number {
  const result = translate(t, cpu, tables, root, asid, region, pteIndex, isWrite);
  if (result < 0) return result;
  const c = t.cpus[cpu];
  c.counters[ACCESSES] += count - 1 + c.nrRepeats;
  c.nrRepeats = 0;
  return result;
}

function lookUp(
  c: CpuTranslation,
  tables: PageTables,
  root: number,
  asid: number,
  region: number,
  pteIndex: number,
  isWrite: boolean,
): number {
  const { l1Small, l1Huge } = c;
  const tag = smallTag(region, pteIndex);
  const name = smallName(asid, region);
  let place = l1Small.nrSmall === 0 ? -1 : lookupTlb(l1Small, tag, name);
  let hugeBit = 0;
  let value = 0;
  if (place >= 0) {
    value = valueAt(l1Small, place);
  } else if (l1Huge.nrHuge !== 0) {
    place = lookupTlb(l1Huge, region, hugeName(asid));
    if (place >= 0) {
      value = valueAt(l1Huge, place);
      hugeBit = TRANSLATED.HUGE_BIT;
    }
  }
  if (place < 0) return lookUpL2(c, tables, root, asid, region, pteIndex, isWrite);
  if (isWrite && (value & 1) === 0) {
    return walkAndFill(c, tables, root, asid, region, pteIndex, isWrite, HELD_IN_L1);
  }
  c.counters[ACCESSES] += 1 + c.nrRepeats;
  remember(c, asid, region, pteIndex, value & 1, hugeBit);
  return hugeBit; // with TRANSLATED.L1, 0
}

/** L1 has no translation of the page. */
function lookUpL2(
  c: CpuTranslation,
  tables: PageTables,
  root: number,
  asid: number,
  region: number,
  pteIndex: number,
  isWrite: boolean,
): number {
  const { l2Small, l2Huge } = c;
  const tag = smallTag(region, pteIndex);
  const name = smallName(asid, region);
  let place = l2Small.nrSmall === 0 ? -1 : lookupTlb(l2Small, tag, name);
  let hugeBit = 0;
  let value = 0;
  if (place >= 0) {
    value = valueAt(l2Small, place);
  } else if (l2Huge.nrHuge !== 0) {
    place = lookupTlb(l2Huge, region, hugeName(asid));
    if (place >= 0) {
      value = valueAt(l2Huge, place);
      hugeBit = TRANSLATED.HUGE_BIT;
    }
  }
  if (place < 0) return walkAndFill(c, tables, root, asid, region, pteIndex, isWrite, NOT_HELD);
  if (isWrite && (value & 1) === 0) {
    return walkAndFill(c, tables, root, asid, region, pteIndex, isWrite, HELD_IN_L2);
  }
  if (hugeBit === 0) insertTlb(c.l1Small, tag, name, value);
  else insertTlb(c.l1Huge, region, hugeName(asid), value);
  c.counters[L1_MISSES] += 1;
  c.counters[ACCESSES] += 1 + c.nrRepeats;
  remember(c, asid, region, pteIndex, value & 1, hugeBit);
  return TRANSLATED.L2 + hugeBit;
}

/** `held` is where the TLB had a read-only or clean translation, which a write must look up again. */
function walkAndFill(
  c: CpuTranslation,
  tables: PageTables,
  root: number,
  asid: number,
  region: number,
  pteIndex: number,
  isWrite: boolean,
  held: number,
): number {
  assert(asid >= 0 && asid <= MAX_ASID, "an address space number does not fit a TLB name");
  const w = c.walker;
  const slot = walk(w, tables, root, asid, region, pteIndex);
  if (held !== NOT_HELD) dropPage(c, asid, region, pteIndex);
  if (slot < 0) return countFault(c, TRANSLATED.NOT_PRESENT);
  const { flags } = w;
  if (isWrite && (flags & ENTRY.WRITE) === 0) return countFault(c, TRANSLATED.NOT_WRITABLE);

  const wanted = isWrite ? ENTRY.YOUNG | ENTRY.DIRTY : ENTRY.YOUNG;
  if ((flags & wanted) !== wanted) tables.flags[slot] = flags | wanted;
  const writable = (flags & ENTRY.WRITE) !== 0 && ((flags | wanted) & ENTRY.DIRTY) !== 0 ? 1 : 0;
  const hugeBit = fill(c, asid, region, pteIndex, writable);

  const { counters } = c;
  counters[ACCESSES] += 1 + c.nrRepeats;
  if (held !== HELD_IN_L1) counters[L1_MISSES] += 1;
  if (held === NOT_HELD) counters[L2_MISSES] += 1;
  else counters[DIRTY_WALKS] += 1;
  counters[COLD_REFERENCES] += w.nrColdReferences;
  counters[WALK_REFERENCES] += w.nrReferences;
  counters[WALK_CYCLES] += w.cycles;
  remember(c, asid, region, pteIndex, writable, hugeBit);
  return TRANSLATED.WALKED + hugeBit;
}

/** Puts what the walker found into both levels, which do not hold it; returns HUGE_BIT or 0. */
function fill(
  c: CpuTranslation,
  asid: number,
  region: number,
  pteIndex: number,
  writable: number,
): number {
  const w = c.walker;
  c.mayHold[region & FILTER_MASK] = 1;
  if (w.lastLevel === 2 && c.keepsHuge) {
    const value = (w.payload << 1) | writable;
    const name = hugeName(asid);
    insertTlb(c.l2Huge, region, name, value);
    insertTlb(c.l1Huge, region, name, value);
    return TRANSLATED.HUGE_BIT;
  }
  const value = (pagePfn(w, pteIndex) << 1) | writable;
  const tag = smallTag(region, pteIndex);
  const name = smallName(asid, region);
  insertTlb(c.l2Small, tag, name, value);
  insertTlb(c.l1Small, tag, name, value);
  return 0;
}

function countFault(c: CpuTranslation, fault: number): number {
  c.counters[FAULT_WALKS] += 1;
  c.counters[FAULT_WALK_REFERENCES] += c.walker.nrReferences;
  c.counters[FAULT_WALK_CYCLES] += c.walker.cycles;
  return fault;
}

function remember(
  c: CpuTranslation,
  asid: number,
  region: number,
  pteIndex: number,
  writable: number,
  hugeBit: number,
): void {
  c.nrRepeats = 0;
  c.lastRegion = region;
  c.lastPteIndex = pteIndex;
  c.lastAsid = asid;
  c.lastWritable = writable;
  c.lastHugeBit = hugeBit;
}

/** Forgets the translations of one page on all CPUs, of either size, and the space's upper entries, as INVLPG does. */
export function flushPage(t: Translation, asid: number, region: number, pteIndex: number): void {
  for (const c of t.cpus) {
    dropPage(c, asid, region, pteIndex);
    dropWalkCaches(c.walker, asid);
  }
}

/** Forgets every translation of one aligned 2 MiB on all CPUs, and the space's upper entries. */
export function flushRegion(t: Translation, asid: number, region: number): void {
  for (const c of t.cpus) {
    dropWalkCaches(c.walker, asid);
    if (c.mayHold[region & FILTER_MASK] === 0) continue;
    dropTlbRegion(c.l1Small, asid, region);
    dropTlbRegion(c.l2Small, asid, region);
    if (c.l1Huge !== c.l1Small) dropTlbRegion(c.l1Huge, asid, region);
    if (c.l2Huge !== c.l2Small) dropTlbRegion(c.l2Huge, asid, region);
    if (c.lastRegion === region) c.lastRegion = NO_REGION;
  }
}

/** Forgets everything of one address space on all CPUs: exit, fork, or a range too long to flush page by page. */
export function flushAsid(t: Translation, asid: number): void {
  for (const c of t.cpus) {
    dropTlbAsid(c.l1Small, asid);
    dropTlbAsid(c.l2Small, asid);
    if (c.l1Huge !== c.l1Small) dropTlbAsid(c.l1Huge, asid);
    if (c.l2Huge !== c.l2Small) dropTlbAsid(c.l2Huge, asid);
    // Nothing is left in a TLB whose last address space ended: only then is the filter emptied.
    if (nrHeldBy(c) === 0) c.mayHold.fill(0);
    dropWalkCaches(c.walker, asid);
    if (c.lastAsid === asid) c.lastRegion = NO_REGION;
  }
}

/** Translations in the TLBs of a CPU, those shared between sizes counted twice. */
function nrHeldBy(c: CpuTranslation): number {
  const { l1Small, l1Huge, l2Small, l2Huge } = c;
  return l1Small.nrSmall + l1Huge.nrHuge + l2Small.nrSmall + l2Huge.nrHuge;
}

/** Forgets everything on one CPU: a switch between address spaces on a core without tags, or an idle CPU. */
export function flushCpu(t: Translation, cpu: number): void {
  const c = t.cpus[cpu];
  clearTlb(c.l1Small);
  clearTlb(c.l1Huge);
  clearTlb(c.l2Small);
  clearTlb(c.l2Huge);
  c.mayHold.fill(0);
  clearWalker(c.walker);
  c.lastRegion = NO_REGION;
}

function dropPage(c: CpuTranslation, asid: number, region: number, pteIndex: number): void {
  if (c.mayHold[region & FILTER_MASK] === 0) return;
  const tag = smallTag(region, pteIndex);
  const name = smallName(asid, region);
  dropTlb(c.l1Small, tag, name);
  dropTlb(c.l2Small, tag, name);
  dropTlb(c.l1Huge, region, hugeName(asid));
  dropTlb(c.l2Huge, region, hugeName(asid));
  if (c.lastRegion === region) c.lastRegion = NO_REGION;
}

/** CPUs whose last access was in this address space: those that a shootdown must interrupt, the caller's included. */
export function nrCpusIn(t: Translation, asid: number): number {
  let nrCpus = 0;
  for (const c of t.cpus) {
    if (c.lastAsid === asid && c.counters[ACCESSES] > 0) nrCpus++;
  }
  return nrCpus;
}

/** Sum of one counter over all CPUs. */
export function hwCounter(t: Translation, name: HwCounterName): number {
  let sum = 0;
  for (const c of t.cpus) {
    sum += c.counters[HW_COUNTER[name]];
    if (name === "accesses") sum += c.nrRepeats;
  }
  return sum;
}

/** All counters by name, summed over CPUs. */
export function hwCounters(t: Translation): Record<HwCounterName, number> {
  const entries = HW_COUNTER_NAMES.map((name) => [name, hwCounter(t, name)]);
  return Object.fromEntries(entries) as Record<HwCounterName, number>;
}

/** Sets all counters to 0; what the TLBs hold stays. */
export function resetHwCounters(t: Translation): void {
  for (const c of t.cpus) {
    c.counters.fill(0);
    c.nrRepeats = 0;
  }
}

/** Adds the exposed walk cycles and the L2 hits of all CPUs, times `weight` (a sampled window's), to an event column. */
export function countTranslationCosts(t: Translation, events: Float64Array, weight: number): void {
  const walkCycles = hwCounter(t, "walkCycles");
  const l2Hits = hwCounter(t, "l1Misses") - hwCounter(t, "l2Misses");
  events[COST.cycle] += exposedCycles(t.geometry, walkCycles) * weight;
  events[COST.l2TlbHit] += l2Hits * weight;
}
