/**
 * Mappings in the place of swap entries.
 *
 * Entry: mapFromCache (the page is in the swap cache), mapFresh (it was read past it), nameSwappedPage.
 * Rules: PHYS-112, 115, 116.
 */

import { addrOf, type Pfn } from "../base/address.ts";
import { NR_THP_STATS, THP_STAT } from "../base/counters.ts";
import type { HugeState } from "../huge/knobs.ts";
import { mlockFolio } from "../mm/mlock.ts";
import { ENTRY } from "../mm/page-tables.ts";
import { addAnonPtes, setAnonOwner } from "../mm/rmap.ts";
import type { Mm } from "../mm/state.ts";
import { VM, VM_ACCESS, type Vma } from "../mm/vma.ts";
import { headOf, PG } from "../phys/frame-table.ts";
import { lruAdd } from "../phys/lru.ts";
import { freeSwapOf } from "../swap/cache.ts";
import { dropClaim, freeEntry } from "../swap/entries.ts";
import { deviceOf, isSwapFull, type SwapEntry, slotOf } from "../swap/state.ts";

/** Where a swap entry stands, and what kind of access found it. */
export interface SwapPlace {
  readonly mm: Mm;
  readonly vma: Vma;
  readonly region: number;
  readonly pteIndex: number;
  readonly slot: number;
  readonly access: "read" | "write";
}

/**
 * Maps page `pfn` of the swap cache where its entry stands; all of a large folio if every entry of it is there. The caller has
 * the folio's lock and one reference, which becomes the mapping's.
 */
export function mapFromCache(m: HugeState, place: SwapPlace, pfn: Pfn): void {
  const { vma, slot, access, region, pteIndex } = place;
  const { refcount, flags, order } = m.frames;
  const { tables } = m;
  const head = headOf(m.frames, pfn);
  const entry = tables.payload[slot];
  nameSwappedPage(m, pfn, vma, entry, region, pteIndex);
  const isWhole = isWholeFolio(m, place, head, pfn);
  const first = isWhole ? slot - (pfn - head) : slot;
  const nr = isWhole ? 1 << order[head] : 1;
  const firstEntry = tables.payload[first];
  for (let i = 0; i < nr; i++) freeEntry(m, firstEntry + i);
  // PHYS-115: slot and page are both kept while there is room, for a page that is not written may be dropped again.
  const isLocked = (vma.flags & VM.LOCKED) !== 0 || (flags[head] & PG.MLOCKED) !== 0;
  const isLastUser = access === "write" && refcount[head] === 1 + (1 << order[head]);
  if (isLocked || isSwapFull(m) || isLastUser) freeSwapOf(m, head);
  const isExclusive = (tables.flags[slot] & ENTRY.EXCLUSIVE) !== 0 || refcount[head] === 1;
  refcount[head] += nr - 1;
  mapRun(m, place, first, isWhole ? head : pfn, nr, isExclusive);
}

/** True if a large folio's pages are all swapped out here, in their order, in one table and one VMA. */
function isWholeFolio(m: HugeState, place: SwapPlace, head: Pfn, pfn: Pfn): boolean {
  const order = m.frames.order[head];
  if (order === 0) return false;
  const { vma, region, pteIndex, slot } = place;
  const index = pfn - head;
  const firstPte = pteIndex - index;
  const nr = 1 << order;
  if (firstPte < 0 || firstPte + nr > 512) return false;
  const start = addrOf(region, firstPte);
  if (start < vma.start || start + nr * 4096 > vma.end) return false;
  const { payload, flags } = m.tables;
  const entry = payload[slot] - index;
  for (let i = 0; i < nr; i++)
    if (payload[slot - index + i] !== entry + i || flags[slot - index + i] !== flags[slot])
      return false;
  return true;
}

/** Maps a folio that was read past the swap cache, and whose slots from `entry` on are claimed, from slot `first` on. */
export function mapFresh(
  m: HugeState,
  place: SwapPlace,
  first: number,
  head: Pfn,
  entry: SwapEntry,
): void {
  const order = m.frames.order[head];
  const nr = 1 << order;
  m.frames.refcount[head] = nr;
  nameSwappedPage(m, head, place.vma, entry, place.region, place.pteIndex & -nr);
  for (let i = 0; i < nr; i++) freeEntry(m, entry + i);
  dropClaim(m, entry, nr);
  if (order > 0) {
    m.thpStats[order * NR_THP_STATS + THP_STAT.nr_anon]++;
    m.thpStats[order * NR_THP_STATS + THP_STAT.swpin]++;
  }
  mapRun(m, place, first, head, nr, true);
  lruAdd(m, head);
}

/** A page that was read before anyone mapped it belongs where the page did that was swapped out. Before its slot is freed. */
export function nameSwappedPage(
  m: HugeState,
  pfn: Pfn,
  vma: Vma,
  entry: SwapEntry,
  region: number,
  pteIndex: number,
): void {
  const { frames } = m;
  const head = headOf(frames, pfn);
  if ((frames.flags[head] & PG.ANON) !== 0) return;
  frames.flags[head] |= PG.ANON;
  // Not the anon_vma of this VMA: the others that share the page must be found from it too.
  const owner = deviceOf(m, entry).owner[slotOf(entry)];
  setAnonOwner(m, head, vma, m.anonVmas[owner]!, region, pteIndex);
}

/** Puts mappings of `nr` pages from `pfn` on in the place of as many swap entries from `slot` on. */
function mapRun(
  m: HugeState,
  { mm, vma, access }: SwapPlace,
  slot: number,
  pfn: Pfn,
  nr: number,
  isExclusive: boolean,
): void {
  const { tables, frames } = m;
  const kept = tables.flags[slot] & (ENTRY.UFFD_WP | ENTRY.SOFT_DIRTY);
  let bits = ENTRY.PRESENT | ENTRY.YOUNG | kept;
  // Memory without rights is brought back by a collapse only (COLL-126).
  if ((vma.flags & VM_ACCESS) === 0) bits |= ENTRY.PROTNONE;
  const mayWrite = isExclusive && (vma.flags & VM.WRITE) !== 0 && (kept & ENTRY.UFFD_WP) === 0;
  if (mayWrite) bits |= ENTRY.WRITE;
  if (mayWrite && access === "write") bits |= ENTRY.DIRTY;
  for (let i = 0; i < nr; i++) {
    tables.payload[slot + i] = pfn + i;
    tables.flags[slot + i] = bits;
    if (isExclusive) frames.flags[pfn + i] |= PG.ANON_EXCLUSIVE;
  }
  addAnonPtes(m, mm, pfn, nr);
  if ((vma.flags & VM.LOCKED) !== 0) mlockFolio(m, headOf(frames, pfn));
  mm.rssAnon += nr;
  mm.nrSwapEntries -= nr;
}
