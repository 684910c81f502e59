/**
 * smaps fields and flags of one VMA of the model.
 *
 * Entry: smapsOf, vmFlagsOf. Units: kB.
 */

import { PTES_PER_REGION, pteIndexOf, regionOf } from "../base/address.ts";
import type { Machine } from "../machine/machine.ts";
import { ENTRY, pmdSlotOf } from "../mm/page-tables.ts";
import { pageMapcount } from "../mm/rmap.ts";
import type { Mm } from "../mm/state.ts";
import { VM, type Vma } from "../mm/vma.ts";
import { headOf, PG } from "../phys/frame-table.ts";

/** A page in the units in which the kernel divides it by its mappings: 1/4096 bytes. */
const PSS_PAGE = 2 ** 24;
const PSS_PER_KB = 2 ** 22;

/** All fields of SMAPS_FIELDS but THPeligible. */
export function smapsOf(m: Machine, mm: Mm, vma: Vma): Record<string, number> {
  const sums = { rss: 0, pss: 0, anonymous: 0, lazyFree: 0, huge: 0, swap: 0, swapPss: 0 };
  const kinds = [0, 0, 0, 0]; // shared clean, shared dirty, private clean, private dirty
  const visit = (entry: number, first: number, nr: number) => {
    if ((entry & ENTRY.SWAP) !== 0) {
      sums.swap++;
      sums.swapPss += PSS_PAGE;
    }
    if ((entry & (ENTRY.PRESENT | ENTRY.SPECIAL)) !== ENTRY.PRESENT) return;
    const pageFlags = m.frames.flags[headOf(m.frames, first)];
    const isDirty = (entry & ENTRY.DIRTY) !== 0 || (pageFlags & PG.DIRTY) !== 0;
    sums.rss += nr;
    if ((pageFlags & PG.ANON) !== 0) {
      sums.anonymous += nr;
      if ((pageFlags & PG.SWAPBACKED) === 0 && !isDirty) sums.lazyFree += nr;
      if (nr === PTES_PER_REGION) sums.huge += nr;
    }
    for (let page = first; page < first + nr; page++) {
      const mapcount = pageMapcount(m, page);
      sums.pss += Math.floor(PSS_PAGE / Math.max(1, mapcount));
      kinds[(mapcount > 1 ? 0 : 2) + (isDirty ? 1 : 0)]++;
    }
  };
  eachEntry(m, mm, vma, visit);
  const pss = Math.floor(sums.pss / PSS_PER_KB);
  return {
    Size: (vma.end - vma.start) / 1024,
    Rss: sums.rss * 4,
    Pss: pss,
    Shared_Clean: kinds[0] * 4,
    Shared_Dirty: kinds[1] * 4,
    Private_Clean: kinds[2] * 4,
    Private_Dirty: kinds[3] * 4,
    Anonymous: sums.anonymous * 4,
    LazyFree: sums.lazyFree * 4,
    AnonHugePages: sums.huge * 4,
    ShmemPmdMapped: 0,
    FilePmdMapped: 0,
    Swap: sums.swap * 4,
    SwapPss: Math.floor(sums.swapPss / PSS_PER_KB),
    Locked: (vma.flags & VM.LOCKED) !== 0 ? pss : 0,
  };
}

function eachEntry(
  m: Machine,
  mm: Mm,
  vma: Vma,
  visit: (flags: number, payload: number, nr: number) => void,
): void {
  const { tables } = m;
  const lastRegion = regionOf(vma.end - 1);
  for (let region = regionOf(vma.start); region <= lastRegion; region++) {
    const slot = pmdSlotOf(tables, mm.root, region);
    if (slot < 0) {
      region |= 511; // nothing in all regions of that table
      continue;
    }
    const flags = tables.flags[slot];
    if (flags === 0) continue;
    if ((flags & ENTRY.TABLE) === 0) {
      visit(flags, tables.payload[slot], PTES_PER_REGION);
      continue;
    }
    const first = region === regionOf(vma.start) ? pteIndexOf(vma.start) : 0;
    const last = region === lastRegion ? pteIndexOf(vma.end - 1) : PTES_PER_REGION - 1;
    const table = tables.payload[slot] * PTES_PER_REGION;
    for (let at = table + first; at <= table + last; at++)
      if (tables.flags[at] !== 0) visit(tables.flags[at], tables.payload[at], 1);
  }
}

/** PROC-022: letters by flag in the order in which they are printed. 0: always. */
const LETTERS: readonly (readonly [string, number])[] = [
  ["rd", VM.READ],
  ["wr", VM.WRITE],
  ["ex", VM.EXEC],
  ["sh", VM.SHARED],
  ["mr", 0],
  ["mw", 0],
  ["me", 0],
  ["ms", VM.SHARED],
  ["gd", VM.GROWSDOWN],
  ["um", VM.UFFD_MISSING],
  ["gu", VM.MAYBE_GUARD],
  ["uw", VM.UFFD_WP],
  ["lo", VM.LOCKED],
  ["sr", VM.SEQ_READ],
  ["rr", VM.RAND_READ],
  ["dc", VM.DONTFORK],
  ["lf", VM.LOCKONFAULT],
  ["ac", VM.ACCOUNT],
  ["nr", VM.NORESERVE],
  ["wf", VM.WIPEONFORK],
  ["dd", VM.DONTDUMP],
  ["hg", VM.HUGEPAGE],
  ["nh", VM.NOHUGEPAGE],
  ["mg", VM.MERGEABLE],
  ["dp", VM.DROPPABLE],
  ["sl", VM.SEALED],
];

/** Two-letter codes of VmFlags. */
export function vmFlagsOf(vma: Vma): string[] {
  const isShown = ([, bit]: readonly [string, number]) => bit === 0 || (vma.flags & bit) !== 0;
  return LETTERS.filter(isShown).map(([letters]) => letters);
}
