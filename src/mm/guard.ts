/**
 * Guard regions: pages of a VMA that may not be touched, marked in the page table instead of by a VMA of their own.
 *
 * Entry: installGuards, removeGuards (MADV_GUARD_INSTALL and _REMOVE). A touch ends in SIGSEGV (fault/).
 * Holds: a marker survives everything that only drops contents or changes rights (MADV_DONTNEED, mprotect, mremap, fork);
 *        it goes with munmap and removeGuards. A VMA that ever had one says so (MAYBE_GUARD), also after removal (ANON-274).
 */

import { type Addr, HUGE_SIZE, PTES_PER_REGION, pteIndexOf, regionOf } from "../base/address.ts";
import { ENOMEM, type Err } from "../base/errno.ts";
import { prepareAnonVma } from "./anon-vma.ts";
import { ENTRY, isGuard, MARKER, NO_TABLE, pteTableOf } from "./page-tables.ts";
import type { Mm, MmState } from "./state.ts";
import { ensurePmdSlot, ensurePteTable } from "./table-alloc.ts";
import { VM, type Vma } from "./vma.ts";
import { dropRange } from "./zap.ts";

/** Makes [start, end) of a VMA a guard region; what is mapped there goes first. 0, or -ENOMEM for want of a table. */
export function installGuards(m: MmState, mm: Mm, vma: Vma, start: Addr, end: Addr): Err {
  // Fork copies the tables, and the guards in them, for the flag's sake; shared memory needs no anon_vma for that.
  if ((vma.flags & VM.SHARED) === 0) prepareAnonVma(m, mm, vma);
  vma.flags |= VM.MAYBE_GUARD;
  dropRange(m, mm, start, end);
  const lastRegion = regionOf(end - 1);
  for (let region = regionOf(start); region <= lastRegion; region++) {
    const slot = ensurePmdSlot(m, mm, region);
    const table = slot < 0 ? NO_TABLE : ensurePteTable(m, mm, slot);
    if (table === NO_TABLE) return -ENOMEM;
    const first = region * HUGE_SIZE < start ? pteIndexOf(start) : 0;
    const last = (region + 1) * HUGE_SIZE > end ? pteIndexOf(end) : PTES_PER_REGION;
    markPtes(m, table, first, last);
  }
  return 0;
}

function markPtes(m: MmState, table: number, first: number, last: number): void {
  const { payload, flags, nrUsed } = m.tables;
  for (let slot = table * 512 + first; slot < table * 512 + last; slot++) {
    if (flags[slot] !== 0) continue; // a guard already
    payload[slot] = MARKER.GUARD;
    flags[slot] = ENTRY.MARKER;
    nrUsed[table]++;
  }
}

/** Takes the guards of [start, end) away; tables stay, and so does whatever else is mapped. */
export function removeGuards(m: MmState, mm: Mm, start: Addr, end: Addr): void {
  const { tables } = m;
  const lastRegion = regionOf(end - 1);
  for (let region = regionOf(start); region <= lastRegion; region++) {
    const table = pteTableOf(tables, mm.root, region);
    if (table === NO_TABLE) continue;
    const first = region * HUGE_SIZE < start ? pteIndexOf(start) : 0;
    const last = (region + 1) * HUGE_SIZE > end ? pteIndexOf(end) : PTES_PER_REGION;
    for (let slot = table * 512 + first; slot < table * 512 + last; slot++) {
      if (!isGuard(tables, slot)) continue;
      tables.flags[slot] = 0;
      tables.nrUsed[table]--;
    }
  }
}
