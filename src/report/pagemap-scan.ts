/**
 * PAGEMAP_SCAN: runs of pages of an address space by category.
 *
 * Entry: scanPagemap.
 * Rules: PROC-045.
 * Differs: no userfaultfd of the model write-protects asynchronously, so no page has the category "wpallowed": WP_MATCHING finds
 *        nothing and CHECK_WPASYNC is refused, as on Linux without such a VMA.
 */

import {
  type Addr,
  addrOf,
  alignUp,
  HUGE_SIZE,
  isAligned,
  PAGE_SIZE,
  PTES_PER_REGION,
  pteIndexOf,
  regionOf,
  TASK_SIZE,
} from "../base/address.ts";
import { EFAULT, EINVAL, EPERM, type Err } from "../base/errno.ts";
import { ENTRY, MARKER, pmdSlotOf } from "../mm/page-tables.ts";
import type { Mm, MmState } from "../mm/state.ts";
import { firstVmaIndex } from "../mm/vma.ts";
import { headOf, PG } from "../phys/frame-table.ts";

/** Categories of a page. */
export const PAGE_IS = {
  WPALLOWED: 1,
  /** Not write-protected by userfaultfd: also a hole, where there is a table. */
  WRITTEN: 2,
  FILE: 4,
  PRESENT: 8,
  SWAPPED: 16,
  PFNZERO: 32,
  HUGE: 64,
  SOFT_DIRTY: 128,
  GUARD: 256,
} as const;

export const PM_SCAN = { WP_MATCHING: 1, CHECK_WPASYNC: 2 } as const;

const ALL_CATEGORIES = 511;
const ALL_FLAGS = PM_SCAN.WP_MATCHING | PM_SCAN.CHECK_WPASYNC;

/** The arguments of the call, without its buffers. */
export interface ScanRequest {
  /** Byte addresses; `start` on a page boundary. */
  readonly start: Addr;
  readonly end: Addr;
  /** PM_SCAN bits; default 0. */
  readonly flags?: number;
  /** Records that there is room for. */
  readonly vecLen: number;
  /** Pages to report at most; 0 no limit. */
  readonly maxPages?: number;
  /** Categories to be turned around before the masks are applied. */
  readonly inverted?: number;
  /** All of these, and any of those unless 0. */
  readonly mask?: number;
  readonly anyOf?: number;
  /** Categories that records show. */
  readonly returned: number;
}

/** One run of pages of equal categories, in byte addresses. */
export interface ScanRegion {
  readonly start: Addr;
  end: Addr;
  readonly categories: number;
}

export interface ScanResult {
  readonly regions: ScanRegion[];
  /** Where the walk ended: at the end, or where a limit was met. */
  readonly walkEnd: Addr;
}

/** The runs that match, or -EINVAL, -EFAULT, -EPERM. */
export function scanPagemap(m: MmState, mm: Mm, request: ScanRequest): ScanResult | Err {
  const problem = problemOf(request);
  if (problem !== 0) return problem;
  const walk = new Walk(request);
  const end = alignUp(request.end, PAGE_SIZE);
  for (let i = firstVmaIndex(mm.vmas, request.start); i < mm.vmas.length; i++) {
    const vma = mm.vmas[i];
    if (vma.start >= end) break;
    const last = Math.min(vma.end, end);
    for (let at = Math.max(vma.start, request.start); at < last && !walk.isFull; ) {
      const stop = Math.min(addrOf(regionOf(at), 0) + HUGE_SIZE, last);
      scanRegion(m, mm, at, stop, walk);
      at = stop;
    }
  }
  return { regions: walk.regions, walkEnd: walk.isFull ? walk.stoppedAt : end };
}

function problemOf(request: ScanRequest): Err {
  const { start, end, flags = 0, inverted = 0, mask = 0, anyOf = 0, returned } = request;
  if ((flags & ~ALL_FLAGS) !== 0) return -EINVAL;
  if (((inverted | mask | anyOf | returned) & ~ALL_CATEGORIES) !== 0) return -EINVAL;
  if (!isAligned(start, PAGE_SIZE)) return -EINVAL;
  if (start > end || end > TASK_SIZE) return -EFAULT;
  return (flags & PM_SCAN.CHECK_WPASYNC) !== 0 ? -EPERM : 0;
}

/** [start, end) lies in one region and one VMA. */
function scanRegion(m: MmState, mm: Mm, start: Addr, end: Addr, walk: Walk): void {
  const { tables } = m;
  const slot = pmdSlotOf(tables, mm.root, regionOf(start));
  const flags = slot < 0 ? 0 : tables.flags[slot];
  if ((flags & ENTRY.TABLE) === 0) {
    const payload = slot < 0 ? 0 : tables.payload[slot];
    // Without a table nothing can be said to be written.
    walk.add(start, end, flags === 0 ? 0 : categoriesOf(m, flags, payload) | PAGE_IS.HUGE);
    return;
  }
  const first = tables.payload[slot] * PTES_PER_REGION + pteIndexOf(start);
  for (let i = 0; start + i * PAGE_SIZE < end && !walk.isFull; i++) {
    const at = start + i * PAGE_SIZE;
    const entry = tables.flags[first + i];
    walk.add(at, at + PAGE_SIZE, categoriesOf(m, entry, tables.payload[first + i]));
  }
}

function categoriesOf(m: MmState, entry: number, payload: number): number {
  const written = (entry & ENTRY.UFFD_WP) === 0 ? PAGE_IS.WRITTEN : 0;
  if (entry === 0) return written;
  if ((entry & ENTRY.PRESENT) === 0) {
    const isGuard = (entry & ENTRY.MARKER) !== 0 && payload === MARKER.GUARD;
    return written | PAGE_IS.SWAPPED | (isGuard ? PAGE_IS.GUARD : 0);
  }
  if ((entry & ENTRY.SPECIAL) !== 0) return written | PAGE_IS.PRESENT | PAGE_IS.PFNZERO;
  const isAnon = (m.frames.flags[headOf(m.frames, payload)] & PG.ANON) !== 0;
  return written | PAGE_IS.PRESENT | (isAnon ? 0 : PAGE_IS.FILE);
}

/** Collects runs until a limit is met. */
class Walk {
  readonly regions: ScanRegion[] = [];
  isFull = false;
  stoppedAt: Addr = 0;
  private readonly request: ScanRequest;
  private pagesLeft: number;

  constructor(request: ScanRequest) {
    this.request = request;
    const { maxPages = 0 } = request;
    this.pagesLeft = maxPages === 0 ? Number.POSITIVE_INFINITY : maxPages;
  }

  /** Pages [start, end) with these categories. */
  add(start: Addr, end: Addr, categories: number): void {
    const { vecLen, returned } = this.request;
    if (!this.matches(categories) || vecLen === 0) return;
    const shown = categories & returned;
    const last = this.regions.at(-1);
    const joins = last !== undefined && last.end === start && last.categories === shown;
    if (!joins && this.regions.length === vecLen) return this.stop(start);

    const stop = Math.min(end, start + this.pagesLeft * PAGE_SIZE);
    this.pagesLeft -= (stop - start) / PAGE_SIZE;
    if (joins) last.end = stop;
    else this.regions.push({ start, end: stop, categories: shown });
    if (this.pagesLeft === 0) this.stop(stop);
  }

  private stop(at: Addr): void {
    this.isFull = true;
    this.stoppedAt = at;
  }

  private matches(categories: number): boolean {
    const { flags = 0, inverted = 0, mask = 0, anyOf = 0 } = this.request;
    // What cannot be write-protected does not match (see Differs).
    if ((flags & PM_SCAN.WP_MATCHING) !== 0) return false;
    const seen = categories ^ inverted;
    return (seen & mask) === mask && (anyOf === 0 || (seen & anyOf) !== 0);
  }
}
