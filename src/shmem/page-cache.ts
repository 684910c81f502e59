/**
 * Cached pages of files and of shared anonymous memory, as order-0 folios.
 *
 * Owns:  FileObject records and their page arrays. Regular files are read-only and count as already cached on the host:
 *        a page's first use costs a frame but no I/O. Large folios in the page cache are not modelled yet.
 * Units: `index` = page offset in the file.
 */

import type { Pfn } from "../base/address.ts";
import { VMSTAT } from "../base/counters.ts";
import type { HugeState } from "../huge/knobs.ts";
import { cachedPage, type FileObject } from "../mm/file-object.ts";
import { putFolio } from "../mm/folio.ts";
import { allocFolio } from "../phys/alloc.ts";
import { NO_PFN, PG } from "../phys/frame-table.ts";
import { GFP_HIGHUSER_MOVABLE } from "../phys/gfp.ts";
import { lruAdd } from "../phys/lru.ts";

/** Tags of file contents have this bit, so that they differ from any write's and from zero. */
const FILE_TAG = 0x80000000;

/** Length in pages of a file whose end nobody meets. */
const ENDLESS = 2 ** 35;

/** A new object of `nrPages`, none of them cached. */
export function createFile(
  m: HugeState,
  kind: FileObject["kind"],
  path: string,
  nrPages: number = ENDLESS,
): FileObject {
  const file: FileObject = {
    id: m.files.length,
    kind,
    path,
    nrPages,
    pages: new Int32Array(16),
    nrCached: 0,
    nrVmas: 0,
  };
  m.files.push(file);
  return file;
}

/** Contents of a page of a regular file: a number that depends on file and index only; never 0. */
export function fileTag(fileId: number, index: number): number {
  const mixed = Math.imul(fileId, 0x9e3779b1) ^ Math.imul(index + 1, 0x85ebca6b);
  return ((mixed ^ (mixed >>> 15)) | FILE_TAG) >>> 0;
}

/** The frame of a page, brought into the cache if needed; NO_PFN if no frame is free. */
export function getCachedPage(m: HugeState, file: FileObject, index: number): Pfn {
  const cached = cachedPage(file, index);
  return cached !== NO_PFN ? cached : addPage(m, file, index);
}

function addPage(m: HugeState, file: FileObject, index: number): Pfn {
  const pfn = allocFolio(m, 0, GFP_HIGHUSER_MOVABLE, 0);
  if (pfn === NO_PFN) return NO_PFN;
  const frames = m.frames;
  const isShmem = file.kind === "shmem";
  frames.flags[pfn] = PG.UPTODATE | (isShmem ? PG.SWAPBACKED : 0);
  frames.tag[pfn] = isShmem ? 0 : fileTag(file.id, index);
  frames.owner[pfn] = file.id;
  frames.indexRegion[pfn] = index >>> 9;
  frames.indexPte[pfn] = index & 511;
  lruAdd(m, pfn);
  store(file, index, pfn);
  m.vmstat[VMSTAT.nr_file_pages]++;
  if (isShmem) m.vmstat[VMSTAT.nr_shmem]++;
  return pfn;
}

function store(file: FileObject, index: number, pfn: Pfn): void {
  if (index >= file.pages.length) {
    const grown = new Int32Array(Math.max(index + 1, file.pages.length * 2));
    grown.set(file.pages);
    file.pages = grown;
  }
  file.pages[index] = pfn;
  file.nrCached++;
}

/** Drops shared memory that nobody maps any more, with its pages. Regular files stay cached. */
export function releaseUnusedShmem(m: HugeState): void {
  for (let file = m.unmappedFiles.pop(); file !== undefined; file = m.unmappedFiles.pop()) {
    if (file.kind !== "shmem" || file.nrVmas > 0) continue;
    for (let index = 0; index < file.pages.length; index++) dropPage(m, file, index);
    m.files[file.id] = null;
  }
}

function dropPage(m: HugeState, file: FileObject, index: number): void {
  const pfn = file.pages[index];
  if (pfn === NO_PFN) return;
  file.pages[index] = NO_PFN;
  file.nrCached--;
  m.vmstat[VMSTAT.nr_file_pages]--;
  m.vmstat[VMSTAT.nr_shmem]--;
  putFolio(m, pfn, 1);
}
