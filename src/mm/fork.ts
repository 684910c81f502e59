/**
 * fork: a child address space that shares every private page copy-on-write.
 *
 * Entry: forkMm. Parent and child entries become read-only, the child's old; pinned pages are copied at once (ANON-150..156).
 */

import { HUGE_SIZE, type Pfn, PTES_PER_REGION, pteIndexOf, regionOf } from "../base/address.ts";
import { allocFolio } from "../phys/alloc.ts";
import { headOf, NO_PFN, PG } from "../phys/frame-table.ts";
import { GFP_HIGHUSER_MOVABLE } from "../phys/gfp.ts";
import { lruAdd } from "../phys/lru.ts";
import { chargeFolio } from "../phys/memcg.ts";
import { dupEntry } from "../swap/entries.ts";
import { forkAnonVma } from "./anon-vma.ts";
import { putFolio } from "./folio.ts";
import { registerWithKhugepaged } from "./khugepaged-list.ts";
import { copyMigrationPte } from "./migration.ts";
import { VM_LOCK_BITS } from "./mlock.ts";
import { destroyMm, nextMmId } from "./mm.ts";
import { ENTRY, LEVEL_PGD, NO_TABLE, pmdTableOf } from "./page-tables.ts";
import { isMaybePinned } from "./pins.ts";
import { copyHugePmd, isHugeEntry, splitPmd } from "./pmd.ts";
import { addAnonPtes, addFilePte, mapNewAnonPage, setAnonOwner } from "./rmap.ts";
import type { Mm, MmState } from "./state.ts";
import { allocTableRow, ensurePmdSlot, ensurePteTable } from "./table-alloc.ts";
import { createVma, VM, VM_UFFD, type Vma } from "./vma.ts";

/** The child, or null (ENOMEM; nothing is left behind). */
export function forkMm(m: MmState, parent: Mm): Mm | null {
  const root = allocTableRow(m, LEVEL_PGD);
  if (root === NO_TABLE) return null;
  const child = childOf(m, parent, root);
  m.mmuNotifier?.invalidateRange(parent.id, 0, Number.MAX_SAFE_INTEGER);
  for (const vma of parent.vmas) {
    if ((vma.flags & VM.DONTFORK) !== 0) continue;
    const copy = copyVma(m, vma, child);
    if (needsPages(vma) && !copyPages(m, parent, child, vma, copy)) {
      destroyMm(m, child);
      return null;
    }
  }
  return child;
}

function childOf(m: MmState, parent: Mm, root: number): Mm {
  const child: Mm = {
    ...parent,
    id: nextMmId(m),
    root,
    vmas: [],
    lastVma: null,
    hintRegion: -1,
    rssAnon: 0,
    rssFile: 0,
    rssShmem: 0,
    nrSwapEntries: 0,
    hiwaterRss: 0,
    nrTables: 1,
    nrPteTables: 0,
    minflt: 0,
    majflt: 0,
    usesHugeZero: false,
    isKhugepagedCandidate: false,
    isUnstable: false,
    hasPinned: false,
    defaultFlags: 0,
  };
  m.mms[child.id] = child;
  if (parent.isKhugepagedCandidate) registerWithKhugepaged(m, child);
  return child;
}

/** The child's VMA: same flags, but not locked (ANON-152) and not registered with a userfaultfd. */
function copyVma(m: MmState, vma: Vma, child: Mm): Vma {
  const flags = vma.flags & ~(VM_LOCK_BITS | VM_UFFD);
  const copy = createVma(child.id, vma.start, vma.end, flags, vma.file, vma.pgoff);
  copy.pgoffDelta = vma.pgoffDelta;
  child.vmas.push(copy);
  if (vma.file !== null) vma.file.nrVmas++;
  if ((vma.flags & VM.WIPEONFORK) === 0) forkAnonVma(m, vma, copy);
  return copy;
}

/** Pages that faults can bring back (file pages never written) are not copied; guard regions cannot be brought back. */
function needsPages(vma: Vma): boolean {
  const hasOwn = vma.anonVma !== null || (vma.flags & VM.MAYBE_GUARD) !== 0;
  return hasOwn && (vma.flags & VM.WIPEONFORK) === 0;
}

function copyPages(m: MmState, parent: Mm, child: Mm, vma: Vma, copy: Vma): boolean {
  const lastRegion = regionOf(vma.end - 1);
  for (let region = regionOf(vma.start); region <= lastRegion; region++) {
    const pmdTable = pmdTableOf(m.tables, parent.root, region);
    if (pmdTable === NO_TABLE) {
      region |= 511;
      continue;
    }
    // The tables above the entries are copied with nothing in them (ANON-153).
    const isNewTable = region === regionOf(vma.start) || (region & 511) === 0;
    if (isNewTable && ensurePmdSlot(m, child, region) < 0) return false;
    const slot = pmdTable * 512 + (region & 511);
    if (m.tables.flags[slot] === 0) continue;
    const first = region * HUGE_SIZE < vma.start ? pteIndexOf(vma.start) : 0;
    const last = (region + 1) * HUGE_SIZE > vma.end ? pteIndexOf(vma.end) : PTES_PER_REGION;
    if (!copyRegion(m, parent, child, copy, region, slot, first, last)) return false;
  }
  return true;
}

function copyRegion(
  m: MmState,
  parent: Mm,
  child: Mm,
  copy: Vma,
  region: number,
  slot: number,
  first: number,
  last: number,
): boolean {
  const childSlot = ensurePmdSlot(m, child, region);
  if (childSlot < 0) return false;
  if (isHugeEntry(m.tables.flags[slot])) {
    const isMigration = (m.tables.flags[slot] & ENTRY.MIGRATION) !== 0;
    if (isMigration || !mustCopyForPins(parent, m, m.tables.payload[slot]))
      return copyHugePmd(m, child, slot, childSlot);
    splitPmd(m, parent, region, slot); // ANON-154
  }
  const table = ensurePteTable(m, child, childSlot);
  if (table === NO_TABLE) return false;
  return copyPtes(m, parent, child, copy, region, m.tables.payload[slot], table, first, last);
}

/** A folio that may be pinned for DMA and is exclusive stays the parent's alone (ANON-154). */
function mustCopyForPins(parent: Mm, m: MmState, pfn: Pfn): boolean {
  if (!parent.hasPinned || (m.frames.flags[pfn] & PG.ANON_EXCLUSIVE) === 0) return false;
  return isMaybePinned(m, headOf(m.frames, pfn));
}

function copyPtes(
  m: MmState,
  parent: Mm,
  child: Mm,
  copy: Vma,
  region: number,
  fromTable: number,
  toTable: number,
  first: number,
  last: number,
): boolean {
  const { payload, flags } = m.tables;
  const frames = m.frames;
  const from = fromTable * 512;
  const to = toTable * 512;
  let nrCopied = 0;
  let nrAnon = 0;
  let isComplete = true;
  // Shared memory stays writable; the child has written nothing yet (ANON-274).
  const isShared = (copy.flags & VM.SHARED) !== 0;
  const lost =
    ENTRY.YOUNG | ENTRY.EXCLUSIVE | ENTRY.UFFD_WP | (isShared ? ENTRY.DIRTY : ENTRY.WRITE);
  for (let i = first; i < last; i++) {
    const entry = flags[from + i];
    if (entry === 0) continue;
    const pfn = payload[from + i];
    const isPage = (entry & (ENTRY.PRESENT | ENTRY.SPECIAL)) === ENTRY.PRESENT;
    if (isPage && (frames.flags[headOf(frames, pfn)] & PG.ANON) !== 0) {
      if (parent.hasPinned && mustCopyForPins(parent, m, pfn)) {
        isComplete = copyPinnedPage(m, child, copy, region, i, pfn, to + i, entry);
        if (!isComplete) break;
        nrCopied++;
        continue;
      }
      flags[from + i] = entry & ~ENTRY.WRITE;
      frames.flags[pfn] &= ~PG.ANON_EXCLUSIVE;
      if (frames.order[pfn] === 0) {
        frames.mapcount[pfn]++;
        frames.refcount[pfn]++;
      } else {
        addAnonPtes(m, child, pfn, 1);
        frames.refcount[headOf(frames, pfn)]++;
      }
      nrAnon++;
    } else if (isPage) {
      shareFilePage(m, child, pfn);
    } else if ((entry & ENTRY.MIGRATION) !== 0) {
      // Whichever of the two walks comes first, no mapping is missed: rmap finds the child's entry too (ANON-153, ANON-333).
      copyMigrationPte(m.tables, from + i, to + i);
      nrAnon++;
      nrCopied++;
      continue;
    } else if ((entry & ENTRY.SWAP) !== 0) {
      dupEntry(m, pfn);
      flags[from + i] = entry & ~ENTRY.EXCLUSIVE;
      child.nrSwapEntries++;
    }
    payload[to + i] = pfn;
    flags[to + i] = entry & ~lost;
    nrCopied++;
  }
  m.tables.nrUsed[toTable] += nrCopied;
  child.rssAnon += nrAnon;
  return isComplete;
}

function shareFilePage(m: MmState, child: Mm, pfn: Pfn): void {
  m.frames.refcount[pfn]++;
  addFilePte(m, pfn);
  if ((m.frames.flags[pfn] & PG.SWAPBACKED) !== 0) child.rssShmem++;
  else child.rssFile++;
}

/** The child gets a copy of its own now, because the parent's page may be written by a device. */
function copyPinnedPage(
  m: MmState,
  child: Mm,
  copy: Vma,
  region: number,
  pteIndex: number,
  pfn: Pfn,
  slot: number,
  entry: number,
): boolean {
  const page = allocFolio(m, 0, GFP_HIGHUSER_MOVABLE, 0);
  if (page === NO_PFN) return false;
  if (child.memcg !== 0 && chargeFolio(m, page, child.memcg) !== 0) {
    putFolio(m, page, 1);
    return false;
  }
  m.frames.flags[page] = PG.ANON | PG.SWAPBACKED | PG.UPTODATE | PG.ANON_EXCLUSIVE;
  m.frames.tag[page] = m.frames.tag[pfn];
  setAnonOwner(m, page, copy, copy.anonVma!, region, pteIndex);
  mapNewAnonPage(m, page);
  lruAdd(m, page);
  m.tables.payload[slot] = page;
  // A new entry, as a fault would make it: what the parent's has been through does not count.
  const write = (copy.flags & VM.WRITE) !== 0 ? ENTRY.WRITE : 0;
  m.tables.flags[slot] =
    (entry & (ENTRY.PROTNONE | ENTRY.SOFT_DIRTY)) |
    ENTRY.PRESENT |
    ENTRY.YOUNG |
    ENTRY.DIRTY |
    write;
  child.rssAnon++;
  return true;
}
