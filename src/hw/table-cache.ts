/**
 * Where in the memory hierarchy a page-table entry is found: small caches of page-table lines only.
 *
 * Entry: readLine, the cost of one reference of a walk.
 * Owns:  tags of one CPU's caches; the last level is shared by all CPUs.
 * Units: a line is 64 bytes: eight entries of a table page. Costs are core cycles.
 *
 * Data competes for the same caches but is known by the page only, so each level keeps `tableShare` of its ways for
 * tables (docs/hardware-model.md). Every level has at least 64 sets: the set then determines which of a table page's 64
 * lines is meant, and the frame number alone is an exact tag.
 */

import { type CacheShape, type Geometry, memoryCycles, nrSetsOf } from "./geometry.ts";

/** No frame and no synthetic host table has this number. */
const EMPTY_TAG = -0x80000000;

interface LineLevel {
  /** Frame numbers, latest first. Rows: set * nrWays + way. */
  readonly tags: Int32Array;
  readonly setMask: number;
  readonly nrWays: number;
  readonly cycles: number;
}

export interface TableCaches {
  /** Nearest first; the last is shared between CPUs. */
  readonly levels: readonly LineLevel[];
  readonly memoryCycles: number;
}

/** The caches of each CPU; all share their last level. */
export function createTableCaches(geometry: Geometry, nrCpus: number): TableCaches[] {
  const shapes = geometry.caches;
  const last = createLevel(shapes[shapes.length - 1], geometry.tableShare);
  return Array.from({ length: nrCpus }, () => ({
    levels: [...shapes.slice(0, -1).map((shape) => createLevel(shape, geometry.tableShare)), last],
    memoryCycles: memoryCycles(geometry),
  }));
}

function createLevel(shape: CacheShape, tableShare: number): LineLevel {
  const nrSets = nrSetsOf(shape);
  const nrWays = Math.max(1, Math.round(shape.nrWays * tableShare));
  return {
    tags: new Int32Array(nrSets * nrWays).fill(EMPTY_TAG),
    setMask: nrSets - 1,
    nrWays,
    cycles: shape.cycles,
  };
}

/** Cycles to read entry `index` (0..511) of the table in frame `pfn`; the line is then the latest at every level. */
export function readLine(caches: TableCaches, pfn: number, index: number): number {
  const line = (pfn << 6) | (index >>> 3);
  const { levels } = caches;
  for (let i = 0; i < levels.length; i++) {
    // A miss has already put the line into the levels passed.
    if (touchLine(levels[i], line, pfn)) return levels[i].cycles;
  }
  return caches.memoryCycles;
}

/** Makes the line the latest of its set; returns whether it was there. */
function touchLine(level: LineLevel, line: number, pfn: number): boolean {
  const { tags, nrWays } = level;
  const first = (line & level.setMask) * nrWays;
  if (tags[first] === pfn) return true;
  const end = first + nrWays;
  // Each tag passed moves one place on, into the one before it: found or not, the line then stands first.
  let passed = tags[first];
  tags[first] = pfn;
  for (let way = first + 1; way < end; way++) {
    const tag = tags[way];
    tags[way] = passed;
    if (tag === pfn) return true;
    passed = tag;
  }
  return false;
}

/** Forgets every line of these caches, the shared level included. */
export function clearTableCaches(caches: TableCaches): void {
  for (const level of caches.levels) level.tags.fill(EMPTY_TAG);
}
