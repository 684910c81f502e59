/**
 * The steps of a shared collapse on pages and entries: freezing, copying, mapping the compound, retiring the sources, and the
 * way back.
 *
 * Entry: one function a step; shared-phases.ts says when.
 * Locks: the source folios'; for freezeSources, mapCompound and thawSources the anon_vma's.
 */

import { HUGE_ORDER, PTES_PER_REGION } from "../base/address.ts";
import { assert } from "../base/assert.ts";
import { NR_THP_STATS, THP_STAT } from "../base/counters.ts";
import type { HugeState } from "../huge/knobs.ts";
import { markPartiallyMapped, putFolio } from "../mm/folio.ts";
import { freezePte, restorePte } from "../mm/migration.ts";
import { mlockFolio, munlockAll } from "../mm/mlock.ts";
import { folioMapcount } from "../mm/rmap.ts";
import type { Mm } from "../mm/state.ts";
import { VM, type Vma } from "../mm/vma.ts";
import { NO_PFN, PG } from "../phys/frame-table.ts";
import { lruAdd } from "../phys/lru.ts";
import { freeSwapOf } from "../swap/cache.ts";
import { nrSourcesOf, type SharedOp } from "./shared-op.ts";
import { firstPageOf, forEachFrozen, forEachMapped } from "./shared-walk.ts";

/**
 * COLL-433: every mapping becomes a migration entry. A page that is exclusive and pinned keeps its mapping, and the count of
 * references will tell it (COLL-434).
 */
export function freezeSources(m: HugeState, op: SharedOp): void {
  const flushed = new Set<Mm>();
  op.nrVmasVisited += forEachMapped(m, op, (mm, vma, slot, _index, page) => {
    if (!freezePte(m, mm, vma, slot, page)) return;
    op.nrFrozen++;
    flushed.add(mm);
  });
  op.nrFlushed = flushed.size;
}

/** COLL-435: contents of the sources, zeroes for holes. False if a page cannot be read. */
export function copySources(m: HugeState, op: SharedOp): boolean {
  const { tag, flags } = m.frames;
  for (let i = 0; i < PTES_PER_REGION; i++) {
    const from = op.sources[i];
    if (from !== NO_PFN && (flags[from] & PG.HWPOISON) !== 0) return false;
    tag[op.folio + i] = from === NO_PFN ? 0 : tag[from];
  }
  op.nrCopied = nrSourcesOf(op);
  return true;
}

/** COLL-436: the migration entries that are there by now become mappings of the compound's pages. */
export function mapCompound(m: HugeState, op: SharedOp): void {
  nameCompound(m, op);
  const mapped = new Map<Vma, number>();
  op.nrVmasVisited += forEachFrozen(m, op, (mm, vma, slot, index) => {
    restorePte(m, mm, vma, slot, op.folio + index);
    op.nrRestored++;
    mapped.set(vma, (mapped.get(vma) ?? 0) + 1);
  });
  for (const [vma, nr] of mapped) {
    if ((vma.flags & VM.LOCKED) !== 0) mlockFolio(m, op.folio);
    const first = firstPageOf(vma, op);
    // COLL-460: no PMD entry is built here, under a lock that stands below the mmap lock.
    if (nr === PTES_PER_REGION && first % PTES_PER_REGION === 0)
      op.deferred.push(vma.mmId, first / PTES_PER_REGION);
  }
}

/** The compound is what the sources were; it is locked until it is on an LRU list. */
function nameCompound(m: HugeState, op: SharedOp): void {
  const { frames } = m;
  const { folio } = op;
  let kept = 0;
  for (const head of op.heads) {
    kept |= frames.flags[head] & (PG.SWAPBACKED | PG.DIRTY);
    // Its slot goes: what is in memory is the only copy then.
    if ((frames.flags[head] & PG.SWAPCACHE) !== 0) kept |= PG.DIRTY;
  }
  frames.flags[folio] = PG.ANON | PG.UPTODATE | PG.LOCKED | kept;
  frames.owner[folio] = op.anonVma;
  frames.indexRegion[folio] = Math.floor(op.index / PTES_PER_REGION);
  frames.indexPte[folio] = op.index % PTES_PER_REGION;
  m.thpStats[HUGE_ORDER * NR_THP_STATS + THP_STAT.nr_anon]++;
}

/** COLL-437: the sources are freed, with their swap slots; the compound goes to an LRU list. */
export function retireSources(m: HugeState, op: SharedOp): void {
  const { frames } = m;
  for (const head of op.heads) {
    assert(folioMapcount(m, head) === 0, "a source of a shared collapse is still mapped");
    frames.flags[head] &= ~PG.LOCKED;
    munlockAll(m, head);
    if ((frames.flags[head] & PG.SWAPCACHE) !== 0) freeSwapOf(m, head);
    putFolio(m, head, 1);
  }
  op.nrTaken = 0;
  frames.flags[op.folio] &= ~PG.LOCKED;
  noteHoles(m, op.folio);
  lruAdd(m, op.folio);
  putFolio(m, op.folio, 1); // if all its mappings went meanwhile, it is free now
}

/** COLL-439: every entry that is still there maps the page it names. */
export function thawSources(m: HugeState, op: SharedOp): void {
  op.nrVmasVisited += forEachFrozen(m, op, (mm, vma, slot) => {
    restorePte(m, mm, vma, slot, m.tables.payload[slot]);
    op.nrRestored++;
  });
}

/** The folios are unlocked and back on their LRU lists; those that nobody maps any more are freed. */
export function giveSourcesBack(m: HugeState, op: SharedOp): void {
  for (const head of op.nrTaken > 0 ? op.heads : []) {
    m.frames.flags[head] &= ~PG.LOCKED;
    noteHoles(m, head);
    lruAdd(m, head);
    putFolio(m, head, 1);
  }
  op.nrTaken = 0;
}

/** Pages that were unmapped while the entries stood were no mappings, so that nothing was noted when they went. */
function noteHoles(m: HugeState, head: number): void {
  const { order, nrPagesMapped, flags } = m.frames;
  const isNoted = (flags[head] & PG.PARTIALLY_MAPPED) !== 0;
  const nr = nrPagesMapped[head];
  if (order[head] > 0 && nr > 0 && nr < 1 << order[head] && !isNoted) markPartiallyMapped(m, head);
}
