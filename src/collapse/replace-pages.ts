/**
 * From 512 entries to one: copying the contents, giving up the old pages, mapping the huge one.
 *
 * Entry: copyPages (COLL-132), replaceByHuge (COLL-133, 134).
 * Locks: mmap exclusive; the old folios are locked, and their PTE table is out of the page tables.
 */

import { HUGE_ORDER, type Pfn, PTES_PER_REGION } from "../base/address.ts";
import { NR_THP_STATS, THP_STAT, VMSTAT } from "../base/counters.ts";
import { newEntryFlags } from "../fault/anon.ts";
import type { HugeState } from "../huge/knobs.ts";
import { putFolio, queueMaybeUnderused } from "../mm/folio.ts";
import { mlockFolio, munlockFolio } from "../mm/mlock.ts";
import { ENTRY, NO_TABLE } from "../mm/page-tables.ts";
import { setHugeEntry } from "../mm/pmd.ts";
import { addAnonPmd, removeAnonPtes, runOfFolio, setAnonOwner } from "../mm/rmap.ts";
import type { Mm } from "../mm/state.ts";
import { VM, VM_ACCESS, type Vma } from "../mm/vma.ts";
import { headOf, NO_PFN, PG } from "../phys/frame-table.ts";
import { freeFolios } from "../phys/free-batch.ts";
import { lruAdd } from "../phys/lru.ts";
import { freeSwapIfUnmapped } from "../swap/cache.ts";
import type { CollapseOp } from "./collapse-op.ts";
import { SCAN, type ScanResult } from "./scan-result.ts";
import { giveFolioBack } from "./take-pages.ts";

const KIND = ENTRY.PRESENT | ENTRY.SPECIAL;

/** Contents of the 512 pages, zeroes where there is none; COPY_MC if one of them cannot be read. */
export function copyPages(m: HugeState, op: CollapseOp): ScanResult {
  const { flags, payload } = m.tables;
  const { tag, flags: frameFlags } = m.frames;
  const base = op.pteTable * 512;
  for (let i = 0; i < PTES_PER_REGION; i++) {
    if ((flags[base + i] & KIND) !== ENTRY.PRESENT) {
      tag[op.folio + i] = 0;
      continue;
    }
    const from = payload[base + i];
    if ((frameFlags[from] & PG.HWPOISON) !== 0) return SCAN.COPY_MC;
    tag[op.folio + i] = tag[from];
  }
  return SCAN.SUCCEED;
}

/** The old pages lose their mappings here, and the region is mapped by one entry. Cannot fail. */
export function replaceByHuge(m: HugeState, mm: Mm, vma: Vma, op: CollapseOp): void {
  retirePages(m, mm, vma, op);
  mapHuge(m, mm, vma, op);
}

/** COLL-133. The common case, small pages of this process alone, is done in the loop. */
function retirePages(m: HugeState, mm: Mm, vma: Vma, op: CollapseOp): void {
  const { flags, payload } = m.tables;
  const { order, mapcount, refcount, flags: frameFlags } = m.frames;
  const { toFree } = m;
  const base = op.pteTable * 512;
  const isLocked = (vma.flags & VM.LOCKED) !== 0;
  let nrNew = 0;
  let nrUnmapped = 0;
  let nrToFree = 0;
  for (let slot = base; slot < base + PTES_PER_REGION; slot++) {
    if ((flags[slot] & KIND) !== ENTRY.PRESENT) {
      nrNew++;
      continue;
    }
    const pfn = payload[slot];
    if (order[pfn] !== 0) {
      const nr = runOfFolio(m, slot, base + PTES_PER_REGION, pfn);
      retireRun(m, mm, pfn, nr, isLocked);
      slot += nr - 1;
      continue;
    }
    if (isLocked) munlockFolio(m, pfn);
    if (--mapcount[pfn] === 0) nrUnmapped++;
    const bits = frameFlags[pfn] & ~PG.LOCKED;
    frameFlags[pfn] = bits;
    if ((bits & PG.SWAPCACHE) !== 0) freeSwapIfUnmapped(m, pfn);
    if (--refcount[pfn] === 0) toFree[nrToFree++] = pfn;
    else lruAdd(m, pfn);
  }
  flags.fill(0, base, base + PTES_PER_REGION);
  m.tables.nrUsed[op.pteTable] = 0;
  op.nrTaken = 0;
  mm.rssAnon += nrNew;
  m.vmstat[VMSTAT.nr_anon_pages] -= nrUnmapped;
  freeFolios(m, toFree, nrToFree);
}

/** Pages that follow each other in one large folio, unmapped in one step; the folio lives on if others map it. */
function retireRun(m: HugeState, mm: Mm, pfn: Pfn, nr: number, isLocked: boolean): void {
  const head = headOf(m.frames, pfn);
  if (isLocked) munlockFolio(m, head);
  giveFolioBack(m, head);
  removeAnonPtes(m, mm, pfn, nr);
  putFolio(m, head, nr);
}

/** COLL-134: the emptied PTE table is the deposit of the huge entry. */
function mapHuge(m: HugeState, mm: Mm, vma: Vma, op: CollapseOp): void {
  const { frames } = m;
  const head = op.folio;
  // Of memory that may be dropped at any time the folio is as if lazily freed (COLL-154).
  const backing = (vma.flags & VM.DROPPABLE) !== 0 ? 0 : PG.SWAPBACKED;
  frames.flags[head] = PG.ANON | PG.UPTODATE | PG.ANON_EXCLUSIVE | backing;
  setAnonOwner(m, head, vma, vma.anonVma!, op.region, 0);
  addAnonPmd(m, mm, head);
  lruAdd(m, head);
  if ((vma.flags & VM.LOCKED) !== 0) mlockFolio(m, head);
  queueMaybeUnderused(m, head);
  m.thpStats[HUGE_ORDER * NR_THP_STATS + THP_STAT.nr_anon]++;
  const protection = (vma.flags & VM_ACCESS) === 0 ? ENTRY.PROTNONE : 0;
  setHugeEntry(m, op.pmdSlot, head, newEntryFlags(vma) | protection, op.pteTable);
  op.folio = NO_PFN;
  op.pteTable = NO_TABLE;
}
