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
  /** Frame number of the latest line of each set, apart from the others: most reads need no more. Rows: sets. */
  readonly latest: Int32Array;
  /** Frame numbers of the other ways, later ones first. Rows: set * nrOlder + way. */
  readonly older: Int32Array;
  readonly setMask: number;
  readonly nrOlder: number;
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
    latest: new Int32Array(nrSets).fill(EMPTY_TAG),
    older: new Int32Array(nrSets * (nrWays - 1)).fill(EMPTY_TAG),
    setMask: nrSets - 1,
    nrOlder: nrWays - 1,
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
  const { latest } = level;
  const set = line & level.setMask;
  const passed = latest[set];
  if (passed === pfn) return true;
  latest[set] = pfn;
  return replaceOlder(level, set, pfn, passed);
}

/** Puts `latest`, the latest line so far, before the older ones; the place it fills is that of `pfn`, or the last. */
function replaceOlder(level: LineLevel, set: number, pfn: number, latest: number): boolean {
  const { older, nrOlder } = level;
  const first = Math.imul(set, nrOlder);
  const end = (first + nrOlder) | 0;
  // Each tag passed moves one place on, into the one before it.
  let passed = latest;
  for (let way = first; way < end; way = (way + 1) | 0) {
    const tag = older[way];
    older[way] = passed;
    if (tag === pfn) return true;
    passed = tag;
  }
  return false;
}

/** Forgets every line of these caches, the shared level included. */
export function clearTableCaches(caches: TableCaches): void {
  for (const level of caches.levels) {
    level.latest.fill(EMPTY_TAG);
    level.older.fill(EMPTY_TAG);
  }
}
