/**
 * Speed of the translation hardware: streams of 20 M references over real tables, all counters on.
 *
 * Entry: hwBench(). Loops are the bench's own; the engine sees plain calls.
 * Units: million references per second.
 */

import type { Geometry } from "../src/hw/geometry.ts";
import { createPlainTables, mapHuge, mapSmall, type PlainTables } from "../src/hw/plain-tables.ts";
import { geometryByName } from "../src/hw/presets.ts";
import {
  createTranslation,
  hwCounter,
  resetHwCounters,
  type Translation,
  type TranslationMode,
  translate,
} from "../src/hw/translate.ts";
import { cpuNs } from "./clock.ts";

export interface BenchRow {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  readonly floor: number;
  readonly goal: number;
}

const NR_REFERENCES = 20_000_000;
const NR_REGIONS = 512; // 1 GiB
/** Regions above 2^25, as mmap gives them. */
const FIRST_REGION = 0x3fa0000;
/** Above the frames of all pages mapped here. */
const FIRST_TABLE_PFN = 4_000_000;
const ASID = 7;
/** Pages of the hot-set stream in order, made beforehand: their choice costs more than their translation. */
const HOT_PAGES = makeHotPages();

/** One row per stream, for the geometry that the floors are stated for: L1 64x4 and 32x4, L2 2048x8, walk caches. */
export function hwBench(): BenchRow[] {
  const generic = geometryByName("generic");
  return [
    row("TLB sequential, 8 B steps", measure(generic, smallTables, sequential), 100, 300),
    row("TLB random over 1 GiB, 4K", measure(generic, smallTables, randomPages), 8, 13),
    row("TLB hot set", measure(generic, smallTables, hotSet), 25, 40),
    row("TLB random over 1 GiB, 2M", measure(generic, hugeTables, randomPages), 8, 13),
  ];
}

/** Simulated cost of random accesses by the size of the working set: PHYS-208, dependent loads, so nothing is hidden. */
export interface ReachRow {
  readonly megabytes: number;
  /** Translation (ns an access) with 4K and with 2M pages. */
  readonly smallNs: number;
  readonly hugeNs: number;
}

/** What the model makes of the random reads of PHYS-208; docs/hardware-model.md compares. */
export function hwReach(geometry: Geometry, mode: TranslationMode): ReachRow[] {
  return [64, 128, 256, 512, 1024, 2048, 4096, 8192].map((megabytes) => ({
    megabytes,
    smallNs: translationNs(geometry, mode, smallTables(megabytes / 2), megabytes / 2),
    hugeNs: translationNs(geometry, mode, hugeTables(megabytes / 2), megabytes / 2),
  }));
}

function translationNs(
  geometry: Geometry,
  mode: TranslationMode,
  plain: PlainTables,
  nrRegions: number,
): number {
  const t = createTranslation(geometry, 1, mode);
  const nrReferences = 300_000;
  randomPages(t, plain, nrReferences, nrRegions);
  resetHwCounters(t);
  randomPages(t, plain, nrReferences, nrRegions);
  const l2Hits = hwCounter(t, "l1Misses") - hwCounter(t, "l2Misses");
  const cycles = hwCounter(t, "walkCycles") + l2Hits * geometry.l2HitCycles;
  return cycles / geometry.ghz / nrReferences;
}

function row(name: string, value: number, floor: number, goal: number): BenchRow {
  return { name, value, unit: "M references/s", floor, goal };
}

type Stream = (t: Translation, plain: PlainTables, nrReferences: number) => number;

function measure(geometry: Geometry, makeTables: () => PlainTables, stream: Stream): number {
  const t = createTranslation(geometry, 1, { kind: "native" });
  const plain = makeTables();
  let checksum = stream(t, plain, NR_REFERENCES / 20); // warm-up, compiled and filled
  let best = 0;
  for (let round = 0; round < 3; round++) {
    const start = cpuNs();
    checksum += stream(t, plain, NR_REFERENCES);
    best = Math.max(best, (NR_REFERENCES / (cpuNs() - start)) * 1000);
  }
  if (checksum < 0) throw new Error("a page of the stream was not mapped");
  return best;
}

function smallTables(nrRegions = NR_REGIONS): PlainTables {
  const plain = createPlainTables(nrRegions + 16, FIRST_TABLE_PFN);
  for (let i = 0; i < nrRegions; i++) {
    for (let pte = 0; pte < 512; pte++) mapSmall(plain, FIRST_REGION + i, pte, 1 + i * 512 + pte);
  }
  return plain;
}

function hugeTables(nrRegions = NR_REGIONS): PlainTables {
  const plain = createPlainTables(32, FIRST_TABLE_PFN);
  for (let i = 0; i < nrRegions; i++) mapHuge(plain, FIRST_REGION + i, (i + 1) * 512);
  return plain;
}

/** Every 8 bytes of the gigabyte in order. */
function sequential(t: Translation, plain: PlainTables, nrReferences: number): number {
  let sum = 0;
  for (let i = 0; i < nrReferences; i++) {
    const page = i >>> 9;
    const region = FIRST_REGION + ((page >>> 9) & (NR_REGIONS - 1));
    sum |= translate(t, 0, plain.tables, plain.root, ASID, region, page & 511, false);
  }
  return sum;
}

/** Pages of 1 GiB (or another power of two of regions) at random, one in four written. */
function randomPages(
  t: Translation,
  plain: PlainTables,
  nrReferences: number,
  nrRegions = NR_REGIONS,
): number {
  let sum = 0;
  let x = 0x12345679;
  for (let i = 0; i < nrReferences; i++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    const region = FIRST_REGION + ((x >>> 9) & (nrRegions - 1));
    const isWrite = (x & 0x30000000) === 0;
    sum |= translate(t, 0, plain.tables, plain.root, ASID, region, x & 511, isWrite);
  }
  return sum;
}

/** Nine of ten references go to 48 pages spread over the gigabyte, the others to 2000. */
function hotSet(t: Translation, plain: PlainTables, nrReferences: number): number {
  let sum = 0;
  for (let i = 0; i < nrReferences; i++) {
    const page = HOT_PAGES[i & (HOT_PAGES.length - 1)];
    const region = FIRST_REGION + (page >>> 9);
    sum |= translate(t, 0, plain.tables, plain.root, ASID, region, page & 511, false);
  }
  return sum;
}

function makeHotPages(): Int32Array {
  let x = 0x12345679;
  return Int32Array.from({ length: 1 << 18 }, () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    const which = (x >>> 8) % 10 === 0 ? (x >>> 12) % 2000 : (x >>> 12) % 48;
    return Math.imul(which, 40503) & (NR_REGIONS * 512 - 1);
  });
}
