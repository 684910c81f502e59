/**
 * MADV_COLD and MADV_PAGEOUT: memory that will not be needed for a while, or not at all soon.
 *
 * Entry: ageRegion, for the walk of advise-phases.ts; refuseCold.
 * Rules: ANON-087, 238, 253, 263, 266..268; PHYS-104, 105. Both walk alike: folios that another process maps too are left
 *        alone; one that the range covers only partly is split first. COLD then makes entries old and moves folios to the
 *        inactive list, PAGEOUT isolates them and has them reclaimed, region by region. Pages of files are left alone.
 */

import { type Pfn, PTES_PER_REGION } from "../base/address.ts";
import { EINVAL, type Err } from "../base/errno.ts";
import type { HugeState } from "../huge/knobs.ts";
import { ENTRY } from "../mm/page-tables.ts";
import { isHugeEntry } from "../mm/pmd.ts";
import { folioMapcount, isMaybeMappedShared, runOfFolio } from "../mm/rmap.ts";
import { VM, type Vma } from "../mm/vma.ts";
import { headOf, PG } from "../phys/frame-table.ts";
import { lruDeactivate } from "../phys/lru.ts";
import { isolateFolio } from "../reclaim/page-out.ts";
import { isFolioBusy } from "../sched/locks.ts";
import { type AdviceWalk, askForSplit, REGION_DONE } from "./advised-folio.ts";

/** 0, or -EINVAL for a VMA that neither advice is for. */
export function refuseCold(vma: Vma): Err {
  return (vma.flags & (VM.LOCKED | VM.PFNMAP)) !== 0 ? -EINVAL : 0;
}

/** Pages first..last-1 below the PMD entry in `slot`: REGION_DONE, or the page at which a folio must be split first. */
export function ageRegion(
  m: HugeState,
  walk: AdviceWalk,
  slot: number,
  first: number,
  last: number,
): number {
  const entry = m.tables.flags[slot];
  if (!isHugeEntry(entry)) return agePtes(m, walk, m.tables.payload[slot] * 512, first, last);
  if ((entry & (ENTRY.PRESENT | ENTRY.SPECIAL)) !== ENTRY.PRESENT) return REGION_DONE; // ANON-087
  const head = m.tables.payload[slot];
  if (isMaybeMappedShared(m, head)) return REGION_DONE; // ANON-263
  if (last - first < PTES_PER_REGION) return askForSplit(walk, head, first, last - first);
  if (walk.advice === "cold") m.tables.flags[slot] = entry & ~ENTRY.YOUNG; // ANON-268
  decide(m, walk, head);
  return REGION_DONE;
}

function agePtes(
  m: HugeState,
  walk: AdviceWalk,
  base: number,
  first: number,
  last: number,
): number {
  const { flags, payload } = m.tables;
  const { frames } = m;
  for (let i = first; i < last; ) {
    const slot = base + i;
    const isPage = (flags[slot] & (ENTRY.PRESENT | ENTRY.SPECIAL)) === ENTRY.PRESENT;
    const head = isPage ? headOf(frames, payload[slot]) : 0;
    if (!isPage || (frames.flags[head] & PG.ANON) === 0) {
      i++;
      continue;
    }
    const nrFolio = 1 << frames.order[head];
    const nr = nrFolio === 1 ? 1 : runOfFolio(m, slot, base + last, payload[slot]);
    if (nr < nrFolio) {
      if (!isMaybeMappedShared(m, head) && !isFolioBusy(m, head))
        return askForSplit(walk, head, i, nr);
      i += nr;
      continue;
    }
    i += nr;
    if (folioMapcount(m, head) !== nr) continue; // mapped elsewhere too
    if (walk.advice === "cold") for (let k = slot; k < slot + nr; k++) flags[k] &= ~ENTRY.YOUNG;
    decide(m, walk, head);
  }
  return REGION_DONE;
}

function decide(m: HugeState, { advice, isolated }: AdviceWalk, head: Pfn): void {
  const { flags } = m.frames;
  flags[head] &= ~PG.REFERENCED;
  if ((flags[head] & PG.ACTIVE) !== 0) flags[head] |= PG.WORKINGSET;
  if (advice === "cold") lruDeactivate(m, head);
  else if (isolateFolio(m, head)) isolated.push(head);
}
