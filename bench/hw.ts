/**
 * Speed of the translation hardware: streams of 20 M references over real tables, all counters on.
 *
 * Entry: hwBench(). Loops are the bench's own; the engine sees plain calls.
 * Units: million references per second.
 */

import type { Geometry } from "../src/hw/geometry.ts";
import { createPlainTables, mapHuge, mapSmall, type PlainTables } from "../src/hw/plain-tables.ts";
import { geometryByName } from "../src/hw/presets.ts";
import { createTranslation, type Translation, translate } from "../src/hw/translate.ts";
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
const FIRST_REGION = 0x3fbfd00;
const ASID = 7;

/** One row per stream for the geometry the floors are stated for, then the same for this kind of host without floors. */
export function hwBench(): BenchRow[] {
  const generic = geometryByName("generic");
  return [
    row("TLB sequential, 64 B steps", measure(generic, smallTables, sequential), 100, 300),
    row("TLB random over 1 GiB, 4K", measure(generic, smallTables, randomPages), 8, 13),
    row("TLB hot set", measure(generic, smallTables, hotSet), 25, 40),
    row("TLB random over 1 GiB, 2M", measure(generic, hugeTables, randomPages), 8, 13),
  ];
}

/** The same streams for any geometry, for tuning. */
export function hwStreams(name: string): Record<string, number> {
  const geometry = geometryByName(name);
  return {
    sequential: measure(geometry, smallTables, sequential),
    random4k: measure(geometry, smallTables, randomPages),
    hotSet: measure(geometry, smallTables, hotSet),
    random2m: measure(geometry, hugeTables, randomPages),
  };
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

function smallTables(): PlainTables {
  const plain = createPlainTables(NR_REGIONS + 16, 1_000_000);
  for (let i = 0; i < NR_REGIONS; i++) {
    for (let pte = 0; pte < 512; pte++) mapSmall(plain, FIRST_REGION + i, pte, 1 + i * 512 + pte);
  }
  return plain;
}

function hugeTables(): PlainTables {
  const plain = createPlainTables(16, 1_000_000);
  for (let i = 0; i < NR_REGIONS; i++) mapHuge(plain, FIRST_REGION + i, (i + 1) * 512);
  return plain;
}

/** Every line of the gigabyte in order, over and over. */
function sequential(t: Translation, plain: PlainTables, nrReferences: number): number {
  let sum = 0;
  for (let i = 0; i < nrReferences; i++) {
    const page = i >>> 6;
    const region = FIRST_REGION + ((page >>> 9) & (NR_REGIONS - 1));
    sum |= translate(t, 0, plain.tables, plain.root, ASID, region, page & 511, false);
  }
  return sum;
}

/** Pages of the gigabyte at random, a third of them written. */
function randomPages(t: Translation, plain: PlainTables, nrReferences: number): number {
  let sum = 0;
  let x = 0x12345679;
  for (let i = 0; i < nrReferences; i++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    const region = FIRST_REGION + ((x >>> 9) & (NR_REGIONS - 1));
    const isWrite = (x & 0x30000000) === 0;
    sum |= translate(t, 0, plain.tables, plain.root, ASID, region, x & 511, isWrite);
  }
  return sum;
}

/** Nine of ten references go to 48 pages spread over the gigabyte, the others to 2000. */
function hotSet(t: Translation, plain: PlainTables, nrReferences: number): number {
  let sum = 0;
  let x = 0x12345679;
  for (let i = 0; i < nrReferences; i++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    const which = (x >>> 8) % 10 === 0 ? (x >>> 12) % 2000 : (x >>> 12) % 48;
    const page = Math.imul(which, 40503) & (NR_REGIONS * 512 - 1);
    sum |= translate(
      t,
      0,
      plain.tables,
      plain.root,
      ASID,
      FIRST_REGION + (page >>> 9),
      page & 511,
      false,
    );
  }
  return sum;
}
