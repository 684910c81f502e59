/**
 * The write-protect bit of userfaultfd on what is mapped: setting it, taking it away.
 *
 * Entry: setUffdWp, clearUffdWp.
 * Holds: an entry with the bit is not writable and lies in a VMA registered for it. A whole huge entry carries it natively,
 *        a partly covered one is split; splits and swaps carry it on (ANON-222). Empty entries get none.
 */

import { type Addr, HUGE_SIZE, PTES_PER_REGION, pteIndexOf, regionOf } from "../base/address.ts";
import { headOf, PG } from "../phys/frame-table.ts";
import { ENTRY, NO_TABLE, pmdTableOf } from "./page-tables.ts";
import { isHugeEntry, splitPmd } from "./pmd.ts";
import type { Mm, MmState } from "./state.ts";
import { VM, type Vma } from "./vma.ts";

/** Write-protects what is mapped in [start, end) of the VMA. */
export function setUffdWp(m: MmState, mm: Mm, vma: Vma, start: Addr, end: Addr): void {
  changeUffdWp(m, mm, vma, start, end, "set");
}

/** Lifts the protection; exclusive pages of a writable VMA become writable at once. */
export function clearUffdWp(m: MmState, mm: Mm, vma: Vma, start: Addr, end: Addr): void {
  changeUffdWp(m, mm, vma, start, end, "clear");
}

function changeUffdWp(
  m: MmState,
  mm: Mm,
  vma: Vma,
  start: Addr,
  end: Addr,
  how: "set" | "clear",
): void {
  const { tables } = m;
  m.mmuNotifier?.invalidateRange(mm.id, start / 4096, end / 4096);
  const lastRegion = regionOf(end - 1);
  for (let region = regionOf(start); region <= lastRegion; region++) {
    const pmdTable = pmdTableOf(tables, mm.root, region);
    if (pmdTable === NO_TABLE) {
      region |= 511;
      continue;
    }
    const slot = pmdTable * 512 + (region & 511);
    if (tables.flags[slot] === 0) continue;
    const first = region * HUGE_SIZE < start ? pteIndexOf(start) : 0;
    const last = (region + 1) * HUGE_SIZE > end ? pteIndexOf(end) : PTES_PER_REGION;
    if (isHugeEntry(tables.flags[slot])) {
      if (last - first === PTES_PER_REGION) {
        changeEntry(m, vma, slot, how);
        continue;
      }
      splitPmd(m, mm, region, slot);
    }
    const base = tables.payload[slot] * 512;
    for (let i = first; i < last; i++) changeEntry(m, vma, base + i, how);
  }
}

/** One entry, huge or not. */
function changeEntry(m: MmState, vma: Vma, slot: number, how: "set" | "clear"): void {
  const { flags, payload } = m.tables;
  const entry = flags[slot];
  if ((entry & (ENTRY.PRESENT | ENTRY.SWAP | ENTRY.MIGRATION)) === 0) return;
  if (how === "set") {
    flags[slot] = (entry & ~ENTRY.WRITE) | ENTRY.UFFD_WP;
    return;
  }
  if ((entry & ENTRY.UFFD_WP) === 0) return;
  flags[slot] = entry & ~ENTRY.UFFD_WP;
  const mayWrite = (vma.flags & (VM.WRITE | VM.SHARED)) === VM.WRITE;
  if (mayWrite && isExclusivePage(m, payload[slot], entry)) flags[slot] |= ENTRY.WRITE;
}

function isExclusivePage(m: MmState, pfn: number, entry: number): boolean {
  if ((entry & (ENTRY.PRESENT | ENTRY.SPECIAL)) !== ENTRY.PRESENT) return false;
  if ((m.frames.flags[headOf(m.frames, pfn)] & PG.ANON) === 0) return false;
  return (m.frames.flags[pfn] & PG.ANON_EXCLUSIVE) !== 0;
}
