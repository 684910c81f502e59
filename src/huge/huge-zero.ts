/**
 * The huge zero folio: one read-only 2 MiB of zeroes for all read faults (ANON-080..083).
 */

import { HUGE_ORDER, PTES_PER_REGION } from "../base/address.ts";
import { VMSTAT } from "../base/counters.ts";
import { putFolio } from "../mm/folio.ts";
import { takeHugeZero } from "../mm/pmd.ts";
import type { Mm } from "../mm/state.ts";
import { allocFolio, freeFolio } from "../phys/alloc.ts";
import { NO_PFN, PG } from "../phys/frame-table.ts";
import { GFP, GFP_TRANSHUGE } from "../phys/gfp.ts";
import type { HugeState } from "./knobs.ts";

/** Makes sure the folio exists and `mm` holds its reference. False if it cannot be allocated. */
export function useHugeZero(m: HugeState, mm: Mm): boolean {
  if (m.hugeZero.pfn === NO_PFN && !allocateHugeZero(m)) return false;
  takeHugeZero(m, mm);
  return true;
}

function allocateHugeZero(m: HugeState): boolean {
  const pfn = allocFolio(m, HUGE_ORDER, GFP_TRANSHUGE & ~GFP.MOVABLE, 0);
  if (pfn === NO_PFN) {
    m.vmstat[VMSTAT.thp_zero_page_alloc_failed]++;
    return false;
  }
  m.vmstat[VMSTAT.thp_zero_page_alloc]++;
  if (m.hugeZero.pfn !== NO_PFN) {
    putFolio(m, pfn, 1); // somebody else made it while memory was being found
    return true;
  }
  for (let page = pfn; page < pfn + PTES_PER_REGION; page++) m.frames.flags[page] = PG.ZERO;
  m.hugeZero.pfn = pfn;
  m.hugeZero.refcount = 1; // the shrinker's; each mm adds its own
  return true;
}

/** Pages the shrinker could free: 512 iff no address space uses the folio any more (ANON-082). */
export function countHugeZero(m: HugeState): number {
  return m.hugeZero.pfn !== NO_PFN && m.hugeZero.refcount === 1 ? PTES_PER_REGION : 0;
}

/** The shrinker: frees the folio if nobody uses it. Returns pages freed. */
export function shrinkHugeZero(m: HugeState): number {
  const nr = countHugeZero(m);
  if (nr === 0) return 0;
  const { pfn } = m.hugeZero;
  for (let page = pfn; page < pfn + nr; page++) m.frames.flags[page] = 0;
  m.hugeZero.pfn = NO_PFN;
  m.hugeZero.refcount = 0;
  m.frames.refcount[pfn] = 0;
  freeFolio(m, pfn);
  return nr;
}
