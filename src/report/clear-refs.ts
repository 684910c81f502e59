/**
 * /proc/PID/clear_refs, the one file of a process's memory that is for writing.
 *
 * Entry: writeClearRefs.
 * Rules: PROC-036. Soft-dirty bits (4) are not built into the modelled kernel: accepted, without effect.
 */

import { regionOf } from "../base/address.ts";
import { EINVAL, type Err } from "../base/errno.ts";
import { enterMm } from "../mm/mmap-lock.ts";
import { ENTRY, NO_TABLE, pmdTableOf, pteTableOf } from "../mm/page-tables.ts";
import { type Mm, type MmState, rssOf } from "../mm/state.ts";
import type { Vma } from "../mm/vma.ts";
import { headOf, PG } from "../phys/frame-table.ts";

/** Bytes taken, or -EINVAL. 1 all pages, 2 anonymous, 3 of files: not referenced any more; 5 restarts VmHWM. */
export function writeClearRefs(m: MmState, mm: Mm, text: string): number | Err {
  const word = text.trim();
  if (!/^\+?0*[1-5]$/.test(word)) return -EINVAL;
  const what = Number(word);
  enterMm(m, mm, "read");
  if (what === 5) mm.hiwaterRss = rssOf(mm);
  if (what <= 3)
    for (const vma of mm.vmas)
      if (what === 1 || (vma.file === null) === (what === 2)) clearVma(m, mm, vma);
  return text.length;
}

function clearVma(m: MmState, mm: Mm, vma: Vma): void {
  const { tables } = m;
  const lastPage = vma.end / 4096 - 1;
  for (let region = regionOf(vma.start); region <= regionOf(vma.end - 1); region++) {
    const pmdTable = pmdTableOf(tables, mm.root, region);
    if (pmdTable === NO_TABLE) {
      region |= 511;
      continue;
    }
    const pteTable = pteTableOf(tables, mm.root, region);
    if (pteTable === NO_TABLE) {
      clearEntry(m, pmdTable * 512 + (region & 511));
      continue;
    }
    const first = Math.max(vma.start / 4096 - region * 512, 0);
    const last = Math.min(lastPage - region * 512, 511);
    for (let i = first; i <= last; i++) clearEntry(m, pteTable * 512 + i);
  }
}

/** Zero pages and what is not present have nothing to clear. */
function clearEntry(m: MmState, slot: number): void {
  const { flags, payload } = m.tables;
  if ((flags[slot] & ENTRY.PRESENT) === 0 || (flags[slot] & ENTRY.SPECIAL) !== 0) return;
  flags[slot] &= ~ENTRY.YOUNG;
  m.frames.flags[headOf(m.frames, payload[slot])] &= ~PG.REFERENCED;
}
