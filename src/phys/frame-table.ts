/**
 * The frame table: one row per 4 KiB page frame, one typed array per field.
 *
 * Owns:  every fact that exists per frame. Arrays have full length from the start and commit host memory only where
 *        they are written, so 0 must be the right value of an untouched row.
 * Units: a row is a pfn. "Heads" are first pages of folios (order 0 included); folios are aligned to their size, so the
 *        head of a page follows from its order.
 */

import type { Pfn } from "../base/address.ts";

/** No frame. Frame 0 is reserved and never handed out. */
export const NO_PFN: Pfn = 0;

/** Flags of a frame. Folio-wide ones stand in the head's row only; the per-page ones are marked. */
export const PG = {
  /** In the buddy's free list as the first page of a block of `order`. */
  BUDDY: 1 << 0,
  /** Free on a per-CPU list (head row; `order` is its order). */
  PCP: 1 << 1,
  /** Never available: holes, pfn 0. Per page. */
  RESERVED: 1 << 2,
  /** A page table. */
  PGTABLE: 1 << 3,
  /** Mapped by anonymous memory: `owner` is an anon_vma. */
  ANON: 1 << 4,
  /** Backed by swap when reclaimed; cleared by MADV_FREE. */
  SWAPBACKED: 1 << 5,
  SWAPCACHE: 1 << 6,
  LRU: 1 << 7,
  ACTIVE: 1 << 8,
  REFERENCED: 1 << 9,
  UPTODATE: 1 << 10,
  DIRTY: 1 << 11,
  WORKINGSET: 1 << 12,
  WRITEBACK: 1 << 13,
  UNEVICTABLE: 1 << 14,
  MLOCKED: 1 << 15,
  /** Only this mapping may write; reuse without copy. Per page; on the head for a PMD-mapped folio (ANON-138). */
  ANON_EXCLUSIVE: 1 << 16,
  /** Per page. */
  HWPOISON: 1 << 17,
  HAS_HWPOISONED: 1 << 18,
  /** Some page lost its last mapping while others are mapped (ANON-190). */
  PARTIALLY_MAPPED: 1 << 19,
  /** On a deferred split queue. */
  DEFERRED: 1 << 20,
  /** Large folio that may be mapped by mms it has no slot for (ANON-139). */
  MAYBE_SHARED: 1 << 21,
  KSM: 1 << 22,
  /** The 4K zero page or a page of the huge zero folio. */
  ZERO: 1 << 23,
  LOCKED: 1 << 24,
} as const;

export interface FrameTable {
  /** Number of rows: frames 0..nrFrames-1, holes included. */
  readonly nrFrames: number;
  /** PG bits. Rows: all, see PG. */
  readonly flags: Uint32Array;
  /** Order of the folio (or free block head) the page is in. Rows: every page of a folio; free heads. */
  readonly order: Uint8Array;
  /** References held. Rows: heads; a tail reads 0. */
  readonly refcount: Int32Array;
  /** PTE mappings of this very page. Rows: every page. Writer: mm/rmap. */
  readonly mapcount: Int32Array;
  /** anon_vma id if ANON, else file mapping id; 0 none. For a page table: its table id. Rows: heads. */
  readonly owner: Int32Array;
  /** Page index in the owner, upper part: index / 512. Rows: heads; stale where `owner` is 0. */
  readonly indexRegion: Int32Array;
  /** Page index in the owner, lower part: index % 512. Rows: as indexRegion. */
  readonly indexPte: Uint16Array;
  /** Number naming the last write to the page's contents; 0 = zero-filled. Rows: every page. */
  readonly tag: Uint32Array;
  /** Memory cgroup charged; 0 none. Rows: heads. */
  readonly memcg: Uint16Array;
  /** PMD mappings of the whole folio. Rows: heads of order > 0. Writer: mm/rmap. */
  readonly entireMapcount: Int32Array;
  /** PMD mappings + PTE mappings of all pages. Rows: heads of order > 0. Writer: mm/rmap. */
  readonly largeMapcount: Int32Array;
  /** Pages with at least one PTE mapping (without Linux's ENTIRELY_MAPPED constant). Rows: heads of order > 0. */
  readonly nrPagesMapped: Int32Array;
  /** FOLL_PIN pins of any page of it. Rows: heads of order > 0; a small folio adds 1024 to refcount instead. */
  readonly pincount: Int32Array;
  /** Mappings in locked VMAs that mlocked the folio. Rows: heads with MLOCKED, else 0. Writer: mm/mlock. */
  readonly mlockCount: Int32Array;
  /** First mm (id + 1, 0 none) remembered as mapping the folio (ANON-139). Rows: heads of order > 0. */
  readonly sharer0: Int32Array;
  /** Mappings by sharer0. Rows: as sharer0. */
  readonly sharer0Mapcount: Int32Array;
  /** Second mm remembered. Rows: heads of order > 0. */
  readonly sharer1: Int32Array;
  /** Mappings by sharer1. Rows: as sharer1. */
  readonly sharer1Mapcount: Int32Array;
}

/** All rows zero: nothing reserved, nothing free. Commits no host memory. */
export function createFrameTable(nrFrames: number): FrameTable {
  return {
    nrFrames,
    flags: new Uint32Array(nrFrames),
    order: new Uint8Array(nrFrames),
    refcount: new Int32Array(nrFrames),
    mapcount: new Int32Array(nrFrames),
    owner: new Int32Array(nrFrames),
    indexRegion: new Int32Array(nrFrames),
    indexPte: new Uint16Array(nrFrames),
    tag: new Uint32Array(nrFrames),
    memcg: new Uint16Array(nrFrames),
    entireMapcount: new Int32Array(nrFrames),
    largeMapcount: new Int32Array(nrFrames),
    nrPagesMapped: new Int32Array(nrFrames),
    pincount: new Int32Array(nrFrames),
    mlockCount: new Int32Array(nrFrames),
    sharer0: new Int32Array(nrFrames),
    sharer0Mapcount: new Int32Array(nrFrames),
    sharer1: new Int32Array(nrFrames),
    sharer1Mapcount: new Int32Array(nrFrames),
  };
}

/** Head of the folio that `pfn` is a page of. */
export function headOf(frames: FrameTable, pfn: Pfn): Pfn {
  return pfn & -(1 << frames.order[pfn]);
}
