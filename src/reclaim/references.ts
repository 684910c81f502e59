/**
 * Has a folio been used since reclaim last looked?
 *
 * Entry: ageFolio, for a folio of the inactive list.
 * Owns:  clears the young bits of its mappings; flag REFERENCED of its head.
 * Rules: PHYS-091. A huge mapping counts as one use however much of it was touched; PTEs count one each.
 */

import type { Pfn } from "../base/address.ts";
import type { HugeState } from "../huge/knobs.ts";
import { ENTRY } from "../mm/page-tables.ts";
import { folioMapcount } from "../mm/rmap.ts";
import { forEachPmdMapping, forEachPteMapping } from "../mm/rmap-walk.ts";
import { VM, type Vma } from "../mm/vma.ts";
import { PG } from "../phys/frame-table.ts";

/** Reclaim it; or it has been used, and stays another round or becomes active. */
export type AgeVerdict = "reclaim" | "keep" | "activate";

export function ageFolio(m: HugeState, head: Pfn): AgeVerdict {
  const { flags } = m.frames;
  if (folioMapcount(m, head) === 0) return "reclaim";
  let nrYoung = 0;
  let isLocked = false;
  const look = (vma: Vma, slot: number): boolean => {
    if ((vma.flags & VM.LOCKED) !== 0) isLocked = true;
    const isYoung = (m.tables.flags[slot] & ENTRY.YOUNG) !== 0;
    if (isYoung) nrYoung++;
    m.tables.flags[slot] &= ~ENTRY.YOUNG;
    return isYoung;
  };
  forEachPmdMapping(m, head, (mm, vma, region, slot) => {
    if (look(vma, slot)) m.mmuNotifier?.invalidateRange(mm.id, region * 512, (region + 1) * 512);
  });
  forEachPteMapping(m, head, (mm, vma, slot, page) => {
    if (look(vma, slot)) m.mmuNotifier?.invalidateRange(mm.id, page, page + 1);
  });
  if (isLocked) return "activate";
  const wasReferenced = (flags[head] & PG.REFERENCED) !== 0;
  flags[head] &= ~PG.REFERENCED;
  if (nrYoung === 0) return "reclaim";
  flags[head] |= PG.REFERENCED;
  return wasReferenced || nrYoung > 1 ? "activate" : "keep";
}
