/**
 * Taking away every mapping of one anonymous folio, so that it can be freed.
 *
 * Entry: unmapToSwap (swap entries take the mappings' place; stops at a pinned page), discardLazyFree (nothing does), isMappedLocked.
 * Locks: folio lock, anon_vma lock, page-table lock of each mapping.
 * Holds: the folio is isolated: on no LRU list, and the caller has one reference.
 */

import type { Pfn } from "../base/address.ts";
import type { HugeState } from "../huge/knobs.ts";
import { ENTRY } from "../mm/page-tables.ts";
import { isMaybePinned } from "../mm/pins.ts";
import { splitPmd, zapHugePmd } from "../mm/pmd.ts";
import { folioMapcount, removeAnonPtes, runOfFolio } from "../mm/rmap.ts";
import { forEachPmdMapping, forEachPteMapping } from "../mm/rmap-walk.ts";
import { type Mm, noteHiwater } from "../mm/state.ts";
import { clearEntry } from "../mm/table-alloc.ts";
import { VM } from "../mm/vma.ts";
import { PG } from "../phys/frame-table.ts";
import { dupEntry } from "../swap/entries.ts";

const CARRIED = ENTRY.UFFD_WP | ENTRY.SOFT_DIRTY;

/** True if some mapping lies in locked memory: reclaim must leave the folio mapped. */
export function isMappedLocked(m: HugeState, head: Pfn): boolean {
  let isLocked = false;
  if (folioMapcount(m, head) === 0) return false; // whoever mapped it may be gone, and the anon_vma too
  forEachPmdMapping(m, head, (_mm, vma) => {
    if ((vma.flags & VM.LOCKED) !== 0) isLocked = true;
  });
  forEachPteMapping(m, head, (_mm, vma) => {
    if ((vma.flags & VM.LOCKED) !== 0) isLocked = true;
  });
  return isLocked;
}

/** Huge mappings become 512 PTEs first (PHYS-098). */
function splitHugeMappings(m: HugeState, head: Pfn): void {
  if (m.frames.order[head] === 0 || m.frames.entireMapcount[head] === 0) return;
  forEachPmdMapping(m, head, (mm, _vma, region, slot) => splitPmd(m, mm, region, slot));
}

/**
 * Every mapping of a folio in the swap cache becomes a swap entry of its page; what was written stands in the folio's flag.
 * False if a page is exclusive and pinned: it and what comes behind it stay mapped (ANON-172).
 */
export function unmapToSwap(m: HugeState, head: Pfn): boolean {
  const { tables, frames, swap } = m;
  if (folioMapcount(m, head) === 0) return true;
  splitHugeMappings(m, head);
  const isPinned = isMaybePinned(m, head);
  let isDone = true;
  forEachPteMapping(m, head, (mm, _vma, slot, page) => {
    const pfn = tables.payload[slot];
    const bits = tables.flags[slot];
    if (isPinned && (frames.flags[pfn] & PG.ANON_EXCLUSIVE) !== 0) isDone = false;
    if (!isDone) return;
    const entry = swap.entryOf[head] + (pfn - head);
    if ((bits & ENTRY.DIRTY) !== 0) frames.flags[head] |= PG.DIRTY;
    removeMappings(m, mm, head, pfn, page, 1);
    const exclusive = (frames.flags[pfn] & PG.ANON_EXCLUSIVE) !== 0 ? ENTRY.EXCLUSIVE : 0;
    frames.flags[pfn] &= ~PG.ANON_EXCLUSIVE;
    dupEntry(m, entry);
    mm.nrSwapEntries++;
    tables.payload[slot] = entry;
    tables.flags[slot] = ENTRY.SWAP | exclusive | (bits & CARRIED);
  });
  return isDone;
}

/**
 * ANON-265: drops the mappings of a lazily freed folio, whose contents nobody needs. False if it was written since, or if
 * somebody else holds it: then all stay, but huge ones are split.
 */
export function discardLazyFree(m: HugeState, head: Pfn): boolean {
  const { tables, frames } = m;
  if (folioMapcount(m, head) === 0) return frames.refcount[head] === 1;
  if (m.profile.discardsHugePmd && isCleanHuge(m, head)) {
    forEachPmdMapping(m, head, (mm, _vma, region, slot) => {
      m.mmuNotifier?.invalidateRange(mm.id, region * 512, (region + 1) * 512);
      zapHugePmd(m, mm, slot);
    });
    return true;
  }
  splitHugeMappings(m, head);
  let isDirty = (frames.flags[head] & PG.DIRTY) !== 0;
  forEachPteMapping(m, head, (_mm, _vma, slot) => {
    if ((tables.flags[slot] & ENTRY.DIRTY) !== 0) isDirty = true;
  });
  if (isDirty) frames.flags[head] |= PG.SWAPBACKED | PG.DIRTY;
  if (isDirty || frames.refcount[head] !== folioMapcount(m, head) + 1) return false;
  forEachPteMapping(m, head, (mm, vma, slot, page) => {
    // In one step, so that the folio does not pass for partially mapped.
    const most = Math.min((slot | 511) + 1, slot + vma.end / 4096 - page);
    const nr = runOfFolio(m, slot, most, tables.payload[slot]);
    removeMappings(m, mm, head, tables.payload[slot], page, nr);
    for (let i = 0; i < nr; i++) clearEntry(tables, slot + i);
  });
  return true;
}

function isCleanHuge(m: HugeState, head: Pfn): boolean {
  const { frames } = m;
  if (frames.order[head] === 0 || frames.entireMapcount[head] !== frames.largeMapcount[head])
    return false;
  if ((frames.flags[head] & PG.DIRTY) !== 0) return false;
  if (frames.refcount[head] !== frames.largeMapcount[head] + 1) return false;
  let isClean = true;
  forEachPmdMapping(m, head, (_mm, _vma, _region, slot) => {
    if ((m.tables.flags[slot] & ENTRY.DIRTY) !== 0) isClean = false;
  });
  return isClean;
}

/** `nr` pages from `pfn` on, mapped from page number `page` on, are mapped there no longer. */
function removeMappings(m: HugeState, mm: Mm, head: Pfn, pfn: Pfn, page: number, nr: number): void {
  m.mmuNotifier?.invalidateRange(mm.id, page, page + nr);
  noteHiwater(mm);
  mm.rssAnon -= nr;
  removeAnonPtes(m, mm, pfn, nr);
  m.frames.refcount[head] -= nr;
}
