/**
 * The known growth: an allocator gives pages back with MADV_DONTNEED, khugepaged fills the holes again with max_ptes_none=511.
 *
 * Entry: growthScenario (what is done, in the scenario language), runGrowth (on a back end: the model or the live kernel).
 * Units: pages of 4 KiB; one pass looks at eight regions.
 */

import { PAGE_SIZE, PTES_PER_REGION } from "../base/address.ts";
import { assert } from "../base/assert.ts";
import type { Backend } from "../scenario/backend.ts";
import type { Observation, RangeObservation } from "../scenario/observation.ts";
import { parseScenario } from "../scenario/parse.ts";

export interface GrowthRequest {
  /** Regions of the arena, 2 MiB each. */
  readonly nrRegions: number;
  /** Pages of each region that stay in use when the rest is given back. */
  readonly nrKept: number;
  /** How often the arena is filled and given back. */
  readonly nrRounds: number;
  readonly maxPtesNone: number;
}

/** Moments of a round, in their order. */
export const MOMENTS = ["filled", "given back", "after khugepaged"] as const;
export type Moment = (typeof MOMENTS)[number];

/** What can be seen at a moment. */
export interface GrowthPoint {
  readonly round: number;
  readonly moment: Moment;
  readonly rssBytes: number;
  /** Mapped by huge entries. */
  readonly hugeBytes: number;
  /** Given back, but part of a folio of which something is still mapped. */
  readonly notYetSplitBytes: number;
}

export interface GrowthRun {
  readonly points: readonly GrowthPoint[];
  readonly regionsCollapsed: number;
}

/** Regions that a pass with the default of pages_to_scan looks at. */
const REGIONS_PER_PASS = 8;

/** The scenario's text. Each `mark` is a moment. */
export function growthScenario(request: GrowthRequest): string {
  const { nrRegions, nrKept, nrRounds, maxPtesNone } = request;
  assert(nrKept > 0 && nrKept < PTES_PER_REGION, "an arena gives back all or nothing");
  const regions = Array.from({ length: nrRegions }, (_, i) => i * PTES_PER_REGION);
  const nrPasses = Math.ceil(nrRegions / REGIONS_PER_PASS) + 1;
  const round = [
    "write R",
    "mark",
    ...regions.map((at) => `madvise R[${at + nrKept}..${at + PTES_PER_REGION}] DONTNEED`),
    "mark",
    `khugepaged passes=${nrPasses}`,
    "mark",
  ];
  const lines = [
    "scenario: an allocator gives pages back and khugepaged fills the holes",
    `knobs: khugepaged.max_ptes_none=${maxPtesNone}`,
    "",
    `map R ${nrRegions}hp`,
    "madvise R HUGEPAGE",
    ...Array.from({ length: nrRounds }, () => round).flat(),
  ];
  return `${lines.join("\n")}\n`;
}

/** Does it and looks at each moment. */
export function runGrowth(request: GrowthRequest, backend: Backend): GrowthRun {
  const { header, steps } = parseScenario("khugepaged-growth", growthScenario(request));
  const points: GrowthPoint[] = [];
  let last: Observation | null = null;
  backend.begin(header);
  try {
    for (const step of steps) {
      assert(step.kind === "statement", "the growth scenario expects nothing");
      const { statement } = step;
      const result = backend.step(statement);
      assert(result.kind === "value" && result.value >= 0, "a step of the growth scenario failed");
      if (statement.action.verb !== "mark") continue;
      last = backend.observe({ isDrained: false });
      points.push(pointOf(last, points.length));
    }
  } finally {
    backend.end();
  }
  return { points, regionsCollapsed: last?.counters.pages_collapsed ?? 0 };
}

function pointOf(seen: Observation, nr: number): GrowthPoint {
  const [main] = seen.processes;
  const sum = (field: string) =>
    main.vmas.reduce((total, { smaps }) => total + (smaps[field] ?? 0), 0) * BYTES_PER_KB;
  return {
    round: Math.floor(nr / MOMENTS.length) + 1,
    moment: MOMENTS[nr % MOMENTS.length],
    rssBytes: sum("Rss"),
    hugeBytes: sum("AnonHugePages"),
    notYetSplitBytes: main.ranges.reduce((total, range) => total + unsplitBytes(range), 0),
  };
}

const BYTES_PER_KB = 1024;

/** Pages of the range's folios that are mapped nowhere in it. */
function unsplitBytes({ pages }: RangeObservation): number {
  const mapped = new Map<number, { nr: number; order: number }>();
  for (const [page, folio] of pages.folio.entries()) {
    if (folio < 0) continue;
    const known = mapped.get(folio) ?? { nr: 0, order: pages.order[page] };
    known.nr++;
    mapped.set(folio, known);
  }
  let nr = 0;
  for (const folio of mapped.values()) nr += (1 << folio.order) - folio.nr;
  return nr * PAGE_SIZE;
}
