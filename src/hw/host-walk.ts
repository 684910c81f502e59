/**
 * The second dimension of a nested walk: guest-physical to host-physical.
 *
 * Entry: readHost (one translation within a guest walk), commitHost (the guest walk is done).
 * Owns:  a nested TLB and the host's page-walk caches of one CPU.
 * Units: gpfn is a guest-physical page frame number; references and cycles as in walk.ts.
 *
 * The host maps all guest memory with pages of one size in tables of its own, which are not simulated: a host table is
 * named by the guest memory it covers, so that its lines can be cached like those of real tables.
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
  /** Frames whose host walks were made in this guest walk. Rows: 0..nrPending-1. */
  readonly pending: Uint32Array;
  nrPending: number;
  /** References of the host walks since the caller last cleared it. */
  nrReferences: number;
}

export function createHostWalker(geometry: Geometry, hostPage: HostPage): HostWalker {
  const { pgd, pud, pmd } = geometry.walkCaches;
  const none = createTlb({ nrEntries: 0, nrWays: 0 });
  const nrLevels = HOST_LEVELS[hostPage];
  return {
    nrLevels,
    pageShift: 9 * (4 - nrLevels),
    tlb: createTlb(geometry.nestedTlb),
    walkCaches: [none, none, createTlb(pmd), createTlb(pud), createTlb(pgd)],
    pending: new Uint32Array(8),
    nrPending: 0,
    nrReferences: 0,
  };
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

/** A number for the host table that covers `gpfn` at `level`: negative, so that no guest frame has it. */
function hostTableOf(gpfn: number, level: number): number {
  const covered = level === 4 ? 0 : gpfn >>> (9 * level);
  return -2 - (covered * 4 + level - 1);
}
