/**
 * Faults on mappings of files and of shared anonymous memory where nothing is mapped yet.
 *
 * Read faults map cached neighbours too, 16 pages around the touched one, as Linux does by default.
 */

import { addrOf, PAGE_SIZE, type Pfn, PTES_PER_REGION } from "../base/address.ts";
import type { HugeState } from "../huge/knobs.ts";
import { prepareAnonVma } from "../mm/anon-vma.ts";
import { cachedPage, type FileObject } from "../mm/file-object.ts";
import { mlockFolio } from "../mm/mlock.ts";
import { ENTRY } from "../mm/page-tables.ts";
import { addFilePte } from "../mm/rmap.ts";
import type { Mm } from "../mm/state.ts";
import { VM, type Vma } from "../mm/vma.ts";
import { NO_PFN, PG } from "../phys/frame-table.ts";
import { getCachedPage } from "../shmem/page-cache.ts";
import { newAnonPage, newEntryFlags } from "./anon.ts";
import { FAULT, FAULT_OOM, FAULT_SIGBUS } from "./kinds.ts";

const FILE = FAULT.file;
const FILE_COW = FAULT["file copy-on-write"];
const SHMEM = FAULT.shmem;
/** fault_around_bytes: 64 kB. */
const FAULT_AROUND_PAGES = 16;

/** A fault on an empty PTE of a VMA with a file. The packed result or a negative signal. */
export function faultFilePte(
  m: HugeState,
  mm: Mm,
  vma: Vma,
  file: FileObject,
  region: number,
  pteIndex: number,
  table: number,
  access: "read" | "write",
): number {
  const isShared = (vma.flags & VM.SHARED) !== 0;
  const index = region * PTES_PER_REGION + pteIndex + vma.pgoffDelta;
  if (index >= file.nrPages) {
    if (access === "read") mapNeighbours(m, mm, vma, file, region, pteIndex, table);
    return FAULT_SIGBUS;
  }
  const pfn = getCachedPage(m, file, index);
  if (pfn === NO_PFN) return FAULT_OOM;
  if (access === "write" && !isShared)
    return copyCachedPage(m, mm, vma, region, pteIndex, table, pfn);
  const bits = ENTRY.PRESENT | ENTRY.YOUNG;
  // Shared memory has no first-write notice, so even a read maps it writable (SHM-057).
  const isWritable = access === "write" || (isShared && isWritableShmem(vma));
  const writeBits = (isWritable ? ENTRY.WRITE : 0) | (access === "write" ? ENTRY.DIRTY : 0);
  mapCached(m, mm, vma, table, pteIndex, pfn, bits | writeBits);
  if (access === "write") m.frames.flags[pfn] |= PG.DIRTY;
  if (access === "read") mapNeighbours(m, mm, vma, file, region, pteIndex, table);
  return file.kind === "shmem" ? SHMEM : FILE;
}

/** True if a fault where there is no table yet ends in SIGBUS before it needs one: behind the file's end, no page to map around. */
export function isFaultInVain(
  vma: Vma,
  file: FileObject,
  region: number,
  pteIndex: number,
  access: "read" | "write",
): boolean {
  const index = region * PTES_PER_REGION + pteIndex + vma.pgoffDelta;
  if (index < file.nrPages) return false;
  if (access === "write") return true;
  const { first, end } = aroundFault(vma, region, pteIndex);
  for (let i = first; i < end; i++)
    if (cachedPage(file, index + i - pteIndex) !== NO_PFN) return false;
  return true;
}

function isWritableShmem(vma: Vma): boolean {
  return vma.file?.kind === "shmem" && (vma.flags & VM.WRITE) !== 0;
}

function copyCachedPage(
  m: HugeState,
  mm: Mm,
  vma: Vma,
  region: number,
  pteIndex: number,
  table: number,
  from: Pfn,
): number {
  prepareAnonVma(m, mm, vma);
  const pfn = newAnonPage(m, mm, vma, region, pteIndex);
  if (pfn === NO_PFN) return FAULT_OOM;
  m.frames.tag[pfn] = m.frames.tag[from];
  m.tables.payload[table * 512 + pteIndex] = pfn;
  m.tables.flags[table * 512 + pteIndex] = newEntryFlags(vma);
  m.tables.nrUsed[table]++;
  return FILE_COW;
}

/**
 * Fault-around: empty PTEs of 16 pages from the 64 kB boundary below, or from the VMA's start if that lies between, old because
 * nobody used them yet (SHM-060). A file is read ahead there; of shared memory only what exists is mapped.
 */
function mapNeighbours(
  m: HugeState,
  mm: Mm,
  vma: Vma,
  file: FileObject,
  region: number,
  pteIndex: number,
  table: number,
): void {
  const { first, end } = aroundFault(vma, region, pteIndex);
  for (let i = first; i < end; i++) {
    if (m.tables.flags[table * 512 + i] !== 0) continue;
    const index = region * PTES_PER_REGION + i + vma.pgoffDelta;
    if (index >= file.nrPages) return;
    const isShmem = file.kind === "shmem";
    const pfn = isShmem ? cachedPage(file, index) : getCachedPage(m, file, index);
    const writeBit = (vma.flags & VM.SHARED) !== 0 && isWritableShmem(vma) ? ENTRY.WRITE : 0;
    if (pfn !== NO_PFN) mapCached(m, mm, vma, table, i, pfn, ENTRY.PRESENT | writeBit);
  }
}

function aroundFault(vma: Vma, region: number, pteIndex: number): { first: number; end: number } {
  const nrBelow = (addrOf(region, pteIndex) - vma.start) / PAGE_SIZE;
  const nrAbove = (vma.end - addrOf(region, pteIndex)) / PAGE_SIZE;
  const first = Math.max(pteIndex & -FAULT_AROUND_PAGES, pteIndex - nrBelow);
  const end = Math.min(first + FAULT_AROUND_PAGES, PTES_PER_REGION, pteIndex + nrAbove);
  return { first, end };
}

function mapCached(
  m: HugeState,
  mm: Mm,
  vma: Vma,
  table: number,
  pteIndex: number,
  pfn: Pfn,
  bits: number,
): void {
  const slot = table * 512 + pteIndex;
  m.frames.refcount[pfn]++;
  addFilePte(m, pfn);
  if ((vma.flags & VM.LOCKED) !== 0) mlockFolio(m, pfn);
  if ((m.frames.flags[pfn] & PG.SWAPBACKED) !== 0) mm.rssShmem++;
  else mm.rssFile++;
  m.tables.payload[slot] = pfn;
  m.tables.flags[slot] = bits;
  m.tables.nrUsed[table]++;
}
