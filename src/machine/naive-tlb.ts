/**
 * A TLB without limits, for tests: it keeps every translation a program has used until it is told to forget it.
 *
 * Holds, if the engine keeps the contract of MmuNotifier (ANON-173, ANON-290): whatever is remembered still agrees with the
 *        page tables, or allows less than they do.
 */

import { PTES_PER_REGION } from "../base/address.ts";
import { ENTRY, pmdSlotOf } from "../mm/page-tables.ts";
import type { Mm, MmuNotifier } from "../mm/state.ts";
import type { Machine } from "./machine.ts";

interface Translation {
  readonly pfn: number;
  readonly isWritable: boolean;
  /** The dirty bit is set already: a write through this entry does not set it again. */
  readonly isDirty: boolean;
  readonly isHuge: boolean;
}

export class NaiveTlb implements MmuNotifier {
  /** Per address space: translations by page number. */
  private readonly entries = new Map<number, Map<number, Translation>>();

  invalidateRange(mmId: number, startPage: number, endPage: number): void {
    const known = this.entries.get(mmId);
    if (known === undefined) return;
    if (endPage - startPage < known.size) {
      for (let page = startPage; page < endPage; page++) known.delete(page);
      return;
    }
    for (const page of known.keys()) if (page >= startPage && page < endPage) known.delete(page);
  }

  release(mmId: number): void {
    this.entries.delete(mmId);
  }

  /** The program has used the page. */
  remember(m: Machine, mm: Mm, page: number): void {
    const translation = translate(m, mm, page);
    if (translation === null) return;
    let known = this.entries.get(mm.id);
    if (known === undefined) {
      known = new Map();
      this.entries.set(mm.id, known);
    }
    known.set(page, translation);
  }

  /** The first remembered translation that the page tables no longer allow, as a sentence; null if there is none. */
  stale(m: Machine): string | null {
    for (const [mmId, known] of this.entries)
      for (const [page, old] of known) {
        const now = translate(m, m.mms[mmId]!, page);
        const isValid =
          now !== null &&
          now.pfn === old.pfn &&
          now.isHuge === old.isHuge &&
          (now.isWritable || !old.isWritable) &&
          (now.isDirty || !old.isDirty);
        if (!isValid)
          return `mm ${mmId} page ${page}: ${JSON.stringify(old)} is now ${JSON.stringify(now)}`;
      }
    return null;
  }
}

function translate(m: Machine, mm: Mm, page: number): Translation | null {
  const { flags, payload } = m.tables;
  const region = Math.floor(page / PTES_PER_REGION);
  const pteIndex = page % PTES_PER_REGION;
  let slot = pmdSlotOf(m.tables, mm.root, region);
  if (slot < 0) return null;
  if ((flags[slot] & ENTRY.TABLE) !== 0) slot = payload[slot] * 512 + pteIndex;
  const entry = flags[slot];
  if ((entry & (ENTRY.PRESENT | ENTRY.PROTNONE)) !== ENTRY.PRESENT) return null;
  const isHuge = (entry & ENTRY.HUGE) !== 0;
  return {
    pfn: payload[slot] + (isHuge ? pteIndex : 0),
    isWritable: (entry & ENTRY.WRITE) !== 0,
    isDirty: (entry & ENTRY.DIRTY) !== 0,
    isHuge,
  };
}
