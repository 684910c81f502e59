/**
 * Breaking up the rows of a folio that nobody maps and only the caller refers to. Frames do not move (ANON-214).
 */

import type { Pfn } from "../base/address.ts";
import { NR_THP_STATS, THP_STAT } from "../base/counters.ts";
import { forgetSharers, leaveDeferredQueue } from "../mm/folio.ts";
import { munlockAll } from "../mm/mlock.ts";
import { PG } from "../phys/frame-table.ts";
import { lruSplit } from "../phys/lru.ts";
import type { HugeState } from "./knobs.ts";

/** Flags that every piece takes from the folio (ANON-212); who is locked in memory is decided as mappings come back. */
const COPIED =
  PG.ANON |
  PG.REFERENCED |
  PG.SWAPBACKED |
  PG.SWAPCACHE |
  PG.UPTODATE |
  PG.ACTIVE |
  PG.WORKINGSET |
  PG.DIRTY |
  PG.LRU;
/** Flags that already stand in each page's own row. */
const PER_PAGE = PG.ANON_EXCLUSIVE | PG.HWPOISON;

/** Makes folios of `newOrder` of one of `order`; each has one reference, and one more per page if it is in the swap cache. */
export function breakUpRows(m: HugeState, head: Pfn, order: number, newOrder: number): void {
  const { frames } = m;
  if ((frames.flags[head] & PG.DEFERRED) !== 0) leaveDeferredQueue(m, head);
  forgetSharers(m, head);
  munlockAll(m, head);
  const nrPieces = 1 << (order - newOrder);
  m.thpStats[order * NR_THP_STATS + THP_STAT.nr_anon]--;
  if (newOrder > 0) m.thpStats[newOrder * NR_THP_STATS + THP_STAT.nr_anon] += nrPieces;

  const flags = frames.flags[head] & COPIED;
  const isOnLru = (flags & PG.LRU) !== 0;
  const perCached = (flags & PG.SWAPCACHE) !== 0 ? 1 << newOrder : 0;
  frames.flags[head] = flags | (frames.flags[head] & PER_PAGE);
  for (let i = nrPieces - 1; i > 0; i--)
    makePiece(m, head, head + (i << newOrder), flags & ~PG.LRU, newOrder);
  setOrder(m, head, newOrder);
  for (let piece = head; piece < head + (1 << order); piece += 1 << newOrder)
    frames.refcount[piece] = 1 + perCached;
  if (isOnLru) lruSplit(m, head, order, newOrder);
}

/** A piece behind the first: named and charged as the folio was. */
function makePiece(m: HugeState, head: Pfn, piece: Pfn, flags: number, newOrder: number): void {
  const { frames } = m;
  frames.flags[piece] = flags | (frames.flags[piece] & PER_PAGE);
  frames.owner[piece] = frames.owner[head];
  frames.memcg[piece] = frames.memcg[head];
  const index = frames.indexPte[head] + (piece - head);
  frames.indexRegion[piece] = frames.indexRegion[head] + (index >>> 9);
  frames.indexPte[piece] = index & 511;
  if ((flags & PG.SWAPCACHE) !== 0) m.swap.entryOf[piece] = m.swap.entryOf[head] + (piece - head);
  setOrder(m, piece, newOrder);
}

/** A piece that is large and has a poisoned page says so in its head (ANON-281). */
function setOrder(m: HugeState, piece: Pfn, newOrder: number): void {
  const { frames } = m;
  frames.order.fill(newOrder, piece, piece + (1 << newOrder));
  if (newOrder === 0) return;
  for (let page = piece; page < piece + (1 << newOrder); page++)
    if ((frames.flags[page] & PG.HWPOISON) !== 0) frames.flags[piece] |= PG.HAS_HWPOISONED;
}
