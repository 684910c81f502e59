/**
 * The second dimension of a nested walk: guest-physical to host-physical.
 *
 * Entry: readHost (one translation within a guest walk), commitHost (the guest walk is done).
 * Owns:  a nested TLB and the host's page-walk caches of one CPU.
 * Units: gpfn is a guest-physical page frame number; references and cycles as in walk.ts.
 *
 * The host maps all guest memory with pages of one size in tables of its own, which are not simulated: a host table is
 * named by the guest memory it covers, so that its lines can be cached like those of real tables.
 * On a machine that has run for a while 4K pages come from all over guest memory, a few together: a line of the host's
 * tables, eight entries, then serves few of them. The simulated machine has just booted and hands out frames in order, so
 * the frames of 4K pages and of tables are scattered here (smallFrame). A 2M page stays whole.
 * What a guest walk learns becomes visible when it ends. A cold walk thus costs the published 24, 19 or 15 references
 * (PHYS-171) although its five host walks share their upper entries.
 */

import type { Geometry } from "./geometry.ts";
import { readLine, type TableCaches } from "./table-cache.ts";
import { clearTlb, createTlb, hugeName, insertTlb, lookupTlb, type Tlb } from "./tlb.ts";

export type HostPage = "4k" | "2m" | "1g";

/** Tables a host walk reads, by the host's page size. */
const HOST_LEVELS: Readonly<Record<HostPage, number>> = { "4k": 4, "2m": 3, "1g": 2 };

/** Tags are numbers of host pages or prefixes of them; there is one host. */
const HOST_NAME = hugeName(0);

export interface HostWalker {
  /** 4, 3 or 2 references for a host walk without caches. */
  readonly nrLevels: number;
  /** log2 of guest pages per host page: 0, 9 or 18. */
  readonly pageShift: number;
  readonly tlb: Tlb;
  /** By the level whose entries they hold; [0] and [1] are not used. */
  readonly walkCaches: readonly Tlb[];
  /** log2 of the 4K pages that lie together, or NOT_SCATTERED. */
  readonly runShift: number;
  /** Runs that a window of guest memory holds, less one, and from one run to the next in the order of frames. */
  readonly runMask: number;
  readonly runStride: number;
  /** Frames whose host walks were made in this guest walk. Rows: 0..nrPending-1. */
  readonly pending: Uint32Array;
  nrPending: number;
  /** References of the host walks since the caller last cleared it. */
  nrReferences: number;
}

/** Frames of 4K pages are where the machine has them. */
const NOT_SCATTERED = -1;
/** log2 of the frames over which 4K pages are scattered: 2 GiB, as 64 MB of them were found to be. */
const WINDOW_BITS = 19;
/** Tells scattered frames from the others, so that both never share a line. Frames are below it: 4 TiB. */
const SCATTERED_BIT = 2 ** 30;
/** Successive multiples of it, modulo 1, are spread most evenly. */
const GOLDEN_SHARE = 0.6180339887;

/** `runPages` 4K pages, a power of two, lie together in guest-physical memory; null: all, in the order of their frames. */
export function createHostWalker(
  geometry: Geometry,
  hostPage: HostPage,
  runPages: number | null = null,
): HostWalker {
  const runShift = runPages === null ? NOT_SCATTERED : Math.log2(runPages);
  const nrRuns = runPages === null ? 1 : 2 ** (WINDOW_BITS - runShift);
  const { pgd, pud, pmd } = geometry.walkCaches;
  const none = createTlb({ nrEntries: 0, nrWays: 0 });
  const nrLevels = HOST_LEVELS[hostPage];
  return {
    nrLevels,
    pageShift: 9 * (4 - nrLevels),
    tlb: createTlb(geometry.nestedTlb),
    walkCaches: [none, none, createTlb(pmd), createTlb(pud), createTlb(pgd)],
    runShift,
    runMask: nrRuns - 1,
    runStride: Math.round(nrRuns * GOLDEN_SHARE) | 1,
    pending: new Uint32Array(8),
    nrPending: 0,
    nrReferences: 0,
  };
}

/** Where in guest-physical memory the page of a frame lies that was allocated alone: a 4K page, or a table. */
export function smallFrame(host: HostWalker, pfn: number): number {
  const { runShift } = host;
  if (runShift === NOT_SCATTERED) return pfn;
  const run = (pfn >>> runShift) & host.runMask;
  // An odd stride visits every run of the window once: no two frames meet.
  const scattered = (Math.imul(run, host.runStride) & host.runMask) << runShift;
  const inWindow = (host.runMask << runShift) | ((1 << runShift) - 1);
  return (pfn & ~inWindow) | scattered | (pfn & ((1 << runShift) - 1)) | SCATTERED_BIT;
}

/** Cycles to translate `gpfn`; adds the references made to host.nrReferences. */
export function readHost(host: HostWalker, caches: TableCaches, gpfn: number): number {
  const page = gpfn >>> host.pageShift;
  if (lookupTlb(host.tlb, page, HOST_NAME) >= 0) return 0;
  const leafLevel = 5 - host.nrLevels;
  let cycles = 0;
  for (let level = firstLevel(host, gpfn, leafLevel); level >= leafLevel; level--) {
    cycles += readLine(caches, hostTableOf(gpfn, level), (gpfn >>> (9 * (level - 1))) & 511);
    host.nrReferences++;
  }
  host.pending[host.nrPending++] = gpfn;
  return cycles;
}

/** Where the host walk starts: below the lowest entry that a walk cache holds, else at 4. */
function firstLevel(host: HostWalker, gpfn: number, leafLevel: number): number {
  for (let level = leafLevel + 1; level <= 4; level++) {
    const prefix = prefixOf(gpfn, level);
    if (lookupTlb(host.walkCaches[level], prefix, HOST_NAME) >= 0) return level - 1;
  }
  return 4;
}

/** Keeps what the host walks of the guest walk that ends now have found. */
export function commitHost(host: HostWalker): void {
  const leafLevel = 5 - host.nrLevels;
  for (let i = 0; i < host.nrPending; i++) {
    const gpfn = host.pending[i];
    keep(host.tlb, gpfn >>> host.pageShift);
    for (let level = leafLevel + 1; level <= 4; level++) {
      keep(host.walkCaches[level], prefixOf(gpfn, level));
    }
  }
  host.nrPending = 0;
}

export function clearHostWalker(host: HostWalker): void {
  clearTlb(host.tlb);
  for (const cache of host.walkCaches) clearTlb(cache);
}

function keep(tlb: Tlb, tag: number): void {
  if (lookupTlb(tlb, tag, HOST_NAME) < 0) insertTlb(tlb, tag, HOST_NAME, 0);
}

/** Which entry of `level` covers the frame, over the whole guest memory. */
function prefixOf(gpfn: number, level: number): number {
  return gpfn >>> (9 * (level - 1));
}

/** First number of the host tables of each level: as many before it as the levels below have tables. Rows: levels. */
const FIRST_HOST_TABLE = [0, 0, 2 ** 22, 2 ** 22 + 2 ** 13, 2 ** 22 + 2 ** 13 + 2 ** 4];

/**
 * A number for the host table that covers `gpfn` at `level`: negative, so that no guest frame has it; without gaps, so that
 * tables of neighbouring memory go to different sets of a cache.
 */
function hostTableOf(gpfn: number, level: number): number {
  return -2 - (FIRST_HOST_TABLE[level] + (level === 4 ? 0 : gpfn >>> (9 * level)));
}
