/**
 * The benchmark of the 2011 log, on the model: five passes over one large malloc, with huge pages and without.
 *
 * Entry: predictLargepages3. The same program for a real machine is native/programs/largepages3.c (ANON-310).
 * Units: figures of the log in microseconds; predictions in nanoseconds. A prediction holds what huge pages change, that is
 *        faults with their clearing, and the exposed part of address translation; the stores themselves are not in it.
 */

import { alignDown, HUGE_SIZE, PAGE_SIZE, pteIndexOf, regionOf } from "../base/address.ts";
import { assert } from "../base/assert.ts";
import { faultKindOf, faultOrderOf } from "../fault/kinds.ts";
import { writeKnob } from "../huge/knobs.ts";
import {
  type CostTable,
  costNs,
  countAnonFault,
  createCostEvents,
  pricesOf,
} from "../hw/cost-model.ts";
import { type Geometry, withMeasured } from "../hw/geometry.ts";
import {
  countTranslationCosts,
  createTranslation,
  resetHwCounters,
  type Translation,
  translateRun,
} from "../hw/translate.ts";
import { NO_FAULT, writePage } from "../machine/access.ts";
import { createMachine, type Machine } from "../machine/machine.ts";
import { execProcess } from "../machine/process.ts";
import type { Mm } from "../mm/state.ts";
import { MAP, sysMmap } from "../syscall/mmap.ts";

/** The five passes, by the names the program prints. */
export const PASSES = [
  "memset page fault",
  "memset tlb miss",
  "memset second tlb miss",
  "random access tlb miss",
  "random access second tlb miss",
] as const;

/** ANON-311: microseconds of the five passes over 3 GiB, two runs of each kind. */
export const FIGURES_2011: Readonly<Record<string, readonly number[]>> = {
  "hugetlbfs a": [1566023, 453854, 453321, 41635, 41658],
  "hugetlbfs b": [1566471, 453375, 453320, 41636, 41637],
  "THP on a": [1566642, 453417, 453313, 41630, 41647],
  "THP on b": [1566872, 453418, 453315, 41618, 41659],
  "THP off a": [2182476, 460305, 460179, 44483, 44186],
  "THP off b": [2182791, 460742, 459962, 43981, 43988],
};

/** Mean of the two runs of a kind, by pass. */
export function meanOf2011(kind: "hugetlbfs" | "THP on" | "THP off"): readonly number[] {
  const [a, b] = [FIGURES_2011[`${kind} a`], FIGURES_2011[`${kind} b`]];
  return a.map((us, pass) => (us + b[pass]) / 2);
}

/** One pass on the model. */
export interface PassPrediction {
  readonly nrHugeFaults: number;
  readonly nrSmallFaults: number;
  /** What huge pages change; see Units. */
  readonly ns: number;
}

export interface Largepages3Request {
  readonly sizeBytes: number;
  readonly thp: "always" | "never";
  readonly geometry: Geometry;
  readonly costs: CostTable;
}

/** What malloc puts before the memory it hands out. */
const MALLOC_HEADER = 16;
/** Stores of a memset that go to one page: a cache line each. */
const STORES_PER_PAGE = 64;

/** The five passes under one setting. */
export function predictLargepages3(request: Largepages3Request): PassPrediction[] {
  const { sizeBytes, costs } = request;
  const memoryBytes = Math.ceil((sizeBytes * 1.25 + 2 ** 28) / (2 * HUGE_SIZE)) * 2 * HUGE_SIZE;
  const m = createMachine({ memoryBytes, nrCpus: 1 });
  writeKnob(m, "thp.enabled", request.thp);
  const image = execProcess(m);
  assert(image !== null, "no frame for the first process");
  const { mm } = image;
  const start = malloc(m, mm, sizeBytes);
  const t = createTranslation(withMeasured(request.geometry, costs), 1, { kind: "native" });
  return PASSES.map((name) => {
    const stores = name.startsWith("memset") ? STORES_PER_PAGE : 1;
    return pass(m, mm, t, start, sizeBytes, stores, costs);
  });
}

/** A large malloc is an mmap with a header in front, so that the memory does not begin on a 2 MiB boundary (ANON-312). */
function malloc(m: Machine, mm: Mm, sizeBytes: number): number {
  const flags = MAP.PRIVATE | MAP.ANONYMOUS;
  const length = sizeBytes + MALLOC_HEADER;
  return sysMmap(m, mm, { address: 0, length, prot: 3, flags }) + MALLOC_HEADER;
}

function pass(
  m: Machine,
  mm: Mm,
  t: Translation,
  start: number,
  sizeBytes: number,
  storesPerPage: number,
  costs: CostTable,
): PassPrediction {
  const events = createCostEvents();
  let nrHugeFaults = 0;
  let nrSmallFaults = 0;
  resetHwCounters(t);
  // The header pushes the memory's end into one page more.
  for (let at = alignDown(start, PAGE_SIZE); at < start + sizeBytes; at += PAGE_SIZE) {
    const [region, pte] = [regionOf(at), pteIndexOf(at)];
    const result = writePage(m, mm, region, pte, 1);
    if (result !== NO_FAULT) {
      assert(result >= 0, "the machine has too little memory for the benchmark");
      countAnonFault(events, faultOrderOf(result));
      if (faultKindOf(result) === "anon 2M") nrHugeFaults++;
      else nrSmallFaults++;
    }
    translateRun(t, 0, m.tables, mm.root, mm.id, region, pte, true, storesPerPage);
  }
  countTranslationCosts(t, events, 1);
  return { nrHugeFaults, nrSmallFaults, ns: costNs(pricesOf(costs), events) };
}
