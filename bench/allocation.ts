/**
 * Whether hot paths allocate: bytes of JavaScript heap that a million operations leave behind, without a collection between.
 *
 * Entry: allocationRows.
 */

import { HUGE_SIZE, PTES_PER_REGION } from "../src/base/address.ts";
import { geometryByName } from "../src/hw/presets.ts";
import { createTranslation, translate } from "../src/hw/translate.ts";
import { MADV, sysMadvise } from "../src/syscall/madvise.ts";
import { mapAdvised, type TestBed, testBed, writeAll } from "./engine.ts";
import { inFreshProcess } from "./part.ts";
import { type BenchRow, median, row } from "./row.ts";

const SPAN = 256 * 1024 ** 2;
const SPAN_PAGES = SPAN / 4096;
const NR_SPANS = 16; // 1 M pages
/** Before them, until all is compiled, also on a busy host: code that is not yet keeps numbers in objects. */
const NR_WARM_UPS = 12;
/**
 * The smallest object takes 12 to 16 bytes; less than this per page is not one object per page, but what a call allocates
 * once (bounds beyond 2^31 become heap numbers), spread over its pages.
 */
const LEAST_OBJECT_BYTES = 0.1;

/** A young generation that holds a whole sample: a collection in the middle would hide what was allocated. */
const LARGE_YOUNG_GENERATION = ["--min-semi-space-size=64", "--max-semi-space-size=64"];

/** Bytes of heap per operation. */
interface Growth {
  readonly fault: number;
  readonly unmap: number;
  readonly tlbHit: number;
  readonly tlbMiss: number;
  /** Of an operation that does allocate one small object: the measurement's own check. */
  readonly control: number;
}

/** One row per operation; value = objects per operation, 0 below LEAST_OBJECT_BYTES. */
export function allocationRows(): BenchRow[] {
  const growth = inFreshProcess("allocation", NR_SPANS, LARGE_YOUNG_GENERATION) as Growth;
  if (growth.control < 8) throw new Error("the heap does not show what is allocated");
  return [
    allocationRow("objects allocated per 4K fault", growth.fault),
    allocationRow("objects allocated per page unmapped", growth.unmap),
    allocationRow("objects allocated per TLB hit", growth.tlbHit),
    allocationRow("objects allocated per TLB miss", growth.tlbMiss),
  ];
}

/** Faults and unmaps `nrSpans` times 256 MiB. */
export function allocationPart(nrSpans: number): Growth {
  const bed = testBed(2 * 1024 ** 3);
  const faults: number[] = [];
  const unmaps: number[] = [];
  for (let span = 0; span < nrSpans + NR_WARM_UPS; span++) {
    const region = mapAdvised(bed, SPAN, MADV.NOHUGEPAGE);
    const fault = heapGrowth(() => writeAll(bed, region, SPAN));
    const unmap = heapGrowth(() => zapSpan(bed, region));
    if (span < NR_WARM_UPS) continue;
    faults.push(fault / SPAN_PAGES);
    unmaps.push(unmap / SPAN_PAGES);
  }
  return {
    fault: median(faults),
    unmap: median(unmaps),
    tlbHit: tlbGrowth(1),
    tlbMiss: tlbGrowth(SPAN_PAGES),
    control: control(),
  };
}

/** Bytes per translation of pages visited in turn; with all of SPAN's pages every one misses. */
function tlbGrowth(nrPages: number): number {
  const bed = testBed(2 * 1024 ** 3);
  const region = mapAdvised(bed, SPAN, MADV.NOHUGEPAGE);
  writeAll(bed, region, SPAN);
  const t = createTranslation(geometryByName("generic"), 1, { kind: "native" });
  const { tables } = bed.m;
  const visit = () => {
    let found = 0;
    for (let i = 0; i < SPAN_PAGES; i++) {
      const page = i % nrPages;
      const at = region + Math.floor(page / PTES_PER_REGION);
      const pte = page % PTES_PER_REGION;
      found |= translate(t, 0, tables, bed.mm.root, bed.mm.id, at, pte, false);
    }
    if (found < 0) throw new Error("a page was not mapped");
  };
  const nrSamples = NR_SPANS + NR_WARM_UPS;
  const samples = Array.from({ length: nrSamples }, () => heapGrowth(visit) / SPAN_PAGES);
  return median(samples.slice(NR_WARM_UPS));
}

/** A row from bytes per operation. */
function allocationRow(name: string, bytesPerOperation: number): BenchRow {
  const objects = bytesPerOperation < LEAST_OBJECT_BYTES ? 0 : bytesPerOperation / 16;
  return row(name, objects, "objects", {
    target: { of: "value", better: "lower", floor: 0, goal: 0 },
    note: `${bytesPerOperation.toFixed(3)} B of heap each`,
  });
}

/** Bytes of heap that `work` allocated. */
function heapGrowth(work: () => void): number {
  globalThis.gc?.();
  const before = process.memoryUsage().heapUsed;
  work();
  return process.memoryUsage().heapUsed - before;
}

/** One call for all: the pages count, not the call. */
function zapSpan(bed: TestBed, region: number): void {
  if (sysMadvise(bed.m, bed.mm, region * HUGE_SIZE, SPAN, MADV.DONTNEED) !== 0) {
    throw new Error("MADV_DONTNEED failed");
  }
}

function control(): number {
  const kept: { page: number }[] = new Array(PTES_PER_REGION);
  const growth = heapGrowth(() => {
    for (let i = 0; i < SPAN_PAGES; i++) kept[i & (PTES_PER_REGION - 1)] = { page: i };
  });
  return growth / SPAN_PAGES;
}
