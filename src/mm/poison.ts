/**
 * Memory that failed: what the machine keeps of it, and the entries that stand where it was mapped.
 *
 * Owns:  m.poison. A failed frame carries HWPOISON and one reference for ever, so that nobody gets it again.
 * Rules: ANON-280..286. What is done when memory fails is in reclaim/memory-failure.ts.
 */

import type { Addr, Pfn } from "../base/address.ts";
import { PG } from "../phys/frame-table.ts";
import { lruDel } from "../phys/lru.ts";
import { unchargeFolio } from "../phys/memcg.ts";
import { NO_MEMCG } from "../phys/state.ts";
import { removeFromSwapCache } from "../swap/cache.ts";
import { putFolio } from "./folio.ts";
import { munlockFolio } from "./mlock.ts";
import { ENTRY, MARKER } from "./page-tables.ts";
import { removeAnonPtes } from "./rmap.ts";
import { type Mm, type MmState, noteHiwater } from "./state.ts";
import { VM, type Vma } from "./vma.ts";

/** A SIGBUS that was sent because memory failed, not as the result of a fault. */
export interface PoisonSignal {
  readonly mmId: number;
  /** BUS_MCEERR_AR to who consumed it, BUS_MCEERR_AO as an early notice. */
  readonly code: number;
  /** The failed page in that address space. */
  readonly address: Addr;
  /** The mapping had 2^addrLsb bytes. */
  readonly addrLsb: number;
}

export interface Poison {
  /** The kernel can handle failing memory at all (CONFIG_MEMORY_FAILURE). */
  isSupported: boolean;
  /** vm.enable_soft_offline. */
  canSoftOffline: boolean;
  /** vm.memory_failure_early_kill: processes that map the page are told before they touch it. */
  killsEarly: boolean;
  /** Failed or retired pages (HardwareCorrupted). */
  nrPages: number;
  /** In the order they were sent; whoever delivers them empties it. */
  readonly signals: PoisonSignal[];
}

export function createPoison(isSupported: boolean): Poison {
  return { isSupported, canSoftOffline: true, killsEarly: false, nrPages: 0, signals: [] };
}

/** Marks one page of a folio as failed; the caller's reference stays with it for ever. */
export function markPoisoned(m: MmState, pfn: Pfn, head: Pfn): void {
  m.frames.flags[pfn] |= PG.HWPOISON;
  if (m.frames.order[head] > 0) m.frames.flags[head] |= PG.HAS_HWPOISONED;
  m.poison.nrPages++;
}

/** A 4K page that nobody maps any more leaves all lists and accounts. */
export function retirePage(m: MmState, pfn: Pfn): void {
  const { frames } = m;
  if ((frames.flags[pfn] & PG.LRU) !== 0) lruDel(m, pfn);
  if ((frames.flags[pfn] & PG.SWAPCACHE) !== 0) removeFromSwapCache(m, pfn);
  if (frames.memcg[pfn] !== NO_MEMCG) unchargeFolio(m, pfn);
  frames.flags[pfn] = PG.HWPOISON;
  frames.owner[pfn] = 0;
}

/** Takes a 4K page away from an address space and leaves an entry that says why. */
export function poisonPte(m: MmState, mm: Mm, vma: Vma, slot: number, page: number): void {
  const { tables } = m;
  const pfn = tables.payload[slot];
  m.mmuNotifier?.invalidateRange(mm.id, page, page + 1);
  noteHiwater(mm);
  mm.rssAnon--;
  tables.payload[slot] = MARKER.POISON;
  tables.flags[slot] = ENTRY.MARKER;
  m.frames.flags[pfn] &= ~PG.ANON_EXCLUSIVE;
  if ((vma.flags & VM.LOCKED) !== 0) munlockFolio(m, pfn);
  removeAnonPtes(m, mm, pfn, 1);
  putFolio(m, pfn, 1);
}
