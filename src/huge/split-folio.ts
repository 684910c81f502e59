/**
 * Splitting a large anonymous folio into 4K folios. Can fail, unlike splitPmd.
 *
 * Entry: splitFolio. Here it is one step; with memory pressure it becomes a phase table with migration entries.
 * Rules: ANON-196, 199, 203, 210..214.
 */

import { HUGE_ORDER, type Pfn } from "../base/address.ts";
import { assert } from "../base/assert.ts";
import { NR_THP_STATS, THP_STAT, VMSTAT } from "../base/counters.ts";
import { EAGAIN, EBUSY, type Err } from "../base/errno.ts";
import { EVENT } from "../base/events.ts";
import { forgetSharers, leaveDeferredQueue, putFolio } from "../mm/folio.ts";
import { mlockFolio, munlockAll } from "../mm/mlock.ts";
import { ENTRY } from "../mm/page-tables.ts";
import { splitPmd } from "../mm/pmd.ts";
import { folioMapcount } from "../mm/rmap.ts";
import { forEachPmdMapping, forEachPteMapping } from "../mm/rmap-walk.ts";
import { noteHiwater } from "../mm/state.ts";
import { VM, type Vma } from "../mm/vma.ts";
import { PG } from "../phys/frame-table.ts";
import { lruSplit } from "../phys/lru.ts";
import type { HugeState } from "./knobs.ts";

/** Flags that every piece takes from the folio (ANON-212). */
const COPIED =
  PG.ANON |
  PG.REFERENCED |
  PG.SWAPBACKED |
  PG.UPTODATE |
  PG.ACTIVE |
  PG.WORKINGSET |
  PG.DIRTY |
  PG.LRU;
/** Flags that already stand in each page's own row. */
const PER_PAGE = PG.ANON_EXCLUSIVE | PG.HWPOISON;

/**
 * Splits the folio to order 0. The caller holds one reference, which stays with the first page.
 * 0; -EBUSY for the huge zero folio; -EAGAIN if anyone else holds a reference (a pin), and then nothing has changed.
 */
export function splitFolio(m: HugeState, head: Pfn): Err {
  const frames = m.frames;
  const order = frames.order[head];
  assert(order > 0, "a folio of order 0 is split");
  if ((frames.flags[head] & PG.ZERO) !== 0) return -EBUSY;
  const isPmdMapped = frames.entireMapcount[head] > 0;
  if (frames.refcount[head] !== folioMapcount(m, head) + 1) {
    countSplit(m, order, "failed");
    return -EAGAIN;
  }
  forEachPmdMapping(m, head, (mm, _vma, region, slot) => splitPmd(m, mm, region, slot));
  if (!isPmdMapped) countPassingPartial(m, head, order);
  replaceZeroFilledPages(m, head);
  munlockAll(m, head);
  const isInLockedMemory = m.anonVmas[frames.owner[head]]!.vmas.some(isLocked);
  breakUp(m, head, order);
  if (isInLockedMemory) lockPieces(m, head, order);
  countSplit(m, order, "done");
  m.events?.emit(EVENT.split_folio, head, order, 0);
  return 0;
}

function countSplit(m: HugeState, order: number, result: "done" | "failed"): void {
  const stat = result === "done" ? THP_STAT.split : THP_STAT.split_failed;
  m.thpStats[order * NR_THP_STATS + stat]++;
  if (order !== HUGE_ORDER) return;
  m.vmstat[result === "done" ? VMSTAT.thp_split_page : VMSTAT.thp_split_page_failed]++;
}

/** ANON-199: a fully PTE-mapped folio passes through the partially-mapped state while its PTEs are taken away. */
function countPassingPartial(m: HugeState, head: Pfn, order: number): void {
  const isFlagged = (m.frames.flags[head] & PG.PARTIALLY_MAPPED) !== 0;
  if (isFlagged || m.frames.nrPagesMapped[head] !== 1 << order) return;
  m.thpStats[order * NR_THP_STATS + THP_STAT.split_deferred]++;
  if (order === HUGE_ORDER) m.vmstat[VMSTAT.thp_deferred_split_page]++;
}

function isLocked(vma: Vma): boolean {
  return (vma.flags & VM.LOCKED) !== 0;
}

/** A split takes all mappings away and puts them back: each page that a locked VMA maps is mlocked on its own (ANON-205). */
function lockPieces(m: HugeState, head: Pfn, order: number): void {
  for (let page = head; page < head + (1 << order); page++) {
    if (m.frames.mapcount[page] === 0) continue;
    forEachPteMapping(m, page, (_mm, vma) => {
      if (isLocked(vma)) mlockFolio(m, page);
    });
  }
}

/** Mapped pages that hold only zeroes become mappings of the shared zero page, unless locked (ANON-203). */
function replaceZeroFilledPages(m: HugeState, head: Pfn): void {
  const { tables, frames } = m;
  if ((frames.flags[head] & PG.MLOCKED) !== 0) return;
  forEachPteMapping(m, head, (mm, vma, slot, page) => {
    const pfn = tables.payload[slot];
    if (frames.tag[pfn] !== 0 || (vma.flags & VM.LOCKED) !== 0) return;
    m.mmuNotifier?.invalidateRange(mm.id, page, page + 1);
    noteHiwater(mm);
    mm.rssAnon--;
    // Not through removeAnonPtes' partial bookkeeping: the folio is about to be broken up.
    frames.mapcount[pfn]--;
    frames.largeMapcount[head]--;
    if (frames.mapcount[pfn] === 0) {
      frames.nrPagesMapped[head]--;
      m.vmstat[VMSTAT.nr_anon_pages]--;
    }
    frames.refcount[head]--;
    tables.payload[slot] = m.zeroPfn;
    tables.flags[slot] = (tables.flags[slot] & ~(ENTRY.WRITE | ENTRY.DIRTY)) | ENTRY.SPECIAL;
  });
}

/** Turns the rows of one folio into rows of 4K folios; pages nobody maps are freed. Frames do not move (ANON-214). */
function breakUp(m: HugeState, head: Pfn, order: number): void {
  const frames = m.frames;
  const end = head + (1 << order);
  if ((frames.flags[head] & PG.DEFERRED) !== 0) leaveDeferredQueue(m, head);
  m.thpStats[order * NR_THP_STATS + THP_STAT.nr_anon]--;
  forgetSharers(m, head);
  const flags = frames.flags[head] & COPIED;
  const owner = frames.owner[head];
  const memcg = frames.memcg[head];
  const indexRegion = frames.indexRegion[head];
  const indexPte = frames.indexPte[head];
  frames.largeMapcount[head] = 0;
  frames.nrPagesMapped[head] = 0;
  frames.flags[head] = flags | (frames.flags[head] & PER_PAGE);
  frames.order[head] = 0;
  frames.refcount[head] = frames.mapcount[head] + 1;
  for (let page = end - 1; page > head; page--) {
    frames.order[page] = 0;
    frames.flags[page] = (flags & ~PG.LRU) | (frames.flags[page] & PER_PAGE);
    frames.owner[page] = owner;
    if (memcg !== 0) frames.memcg[page] = memcg;
    const index = indexPte + (page - head);
    frames.indexRegion[page] = indexRegion + (index >>> 9);
    frames.indexPte[page] = index & 511;
    frames.refcount[page] = frames.mapcount[page] + 1;
  }
  if ((flags & PG.LRU) !== 0) lruSplit(m, head, order, 0);
  for (let page = head + 1; page < end; page++) putFolio(m, page, 1);
}
