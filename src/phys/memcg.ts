/**
 * Memory cgroups: who pays for which folio, and the limits.
 *
 * Entry: createMemcg, removeMemcg, chargeFolio, unchargeFolio, splitCharge, chargePages, unchargePages.
 * Owns:  column memcg of heads; Memcg.usage, peak, failcnt.
 * Holds: a group's usage = pages charged to it + usage of its children; usage <= max after every successful charge.
 * Units: pages. A folio is charged once with all its pages to its group and all ancestors (PHYS-125).
 */

import type { Pfn } from "../base/address.ts";
import { assert } from "../base/assert.ts";
import { EBUSY, ENOMEM, ENOSPC, type Err } from "../base/errno.ts";
import { failsCharge } from "./failing.ts";
import { GFP, GFP_HIGHUSER_MOVABLE } from "./gfp.ts";
import { type Memcg, type MemcgId, NO_MEMCG, type PhysState } from "./state.ts";

/** Reclaim rounds of a charge after the first and after the drain of per-CPU stocks (PHYS-126). */
export const MAX_CHARGE_RETRIES = 16;

/** A new group without limits below `parent` (NO_MEMCG: at the top). Its id, or -ENOSPC. */
export function createMemcg(m: PhysState, name: string, parent: MemcgId): MemcgId | Err {
  assert(parent === NO_MEMCG || m.memcgs[parent] !== null, "parent group does not exist");
  const id = m.memcgs.indexOf(null, 1);
  if (id < 0) return -ENOSPC;
  m.memcgs[id] = {
    id,
    parent,
    name,
    usage: 0,
    peak: 0,
    max: Number.POSITIVE_INFINITY,
    high: Number.POSITIVE_INFINITY,
    low: 0,
    min: 0,
    failcnt: 0,
    oomKill: 0,
    collapseAllocs: 0,
  };
  return id;
}

/** Removes a group: 0, or -EBUSY while something is charged to it or it has children. */
export function removeMemcg(m: PhysState, id: MemcgId): 0 | Err {
  if (memcgOf(m, id).usage > 0) return -EBUSY;
  if (m.memcgs.some((group) => group !== null && group.parent === id)) return -EBUSY;
  const { parent, collapseAllocs } = memcgOf(m, id);
  if (parent !== NO_MEMCG) memcgOf(m, parent).collapseAllocs += collapseAllocs;
  m.memcgs[id] = null;
  return 0;
}

/** The group with this id; it must exist. */
export function memcgOf(m: PhysState, id: MemcgId): Memcg {
  const group = m.memcgs[id];
  assert(group !== null && group !== undefined, "memory cgroup does not exist");
  return group;
}

/** Charges a folio that is charged to nobody: 0, or -ENOMEM after the reclaim that `gfp` allows (PHYS-126). */
export function chargeFolio(
  m: PhysState,
  pfn: Pfn,
  memcg: MemcgId,
  gfp: number = GFP_HIGHUSER_MOVABLE,
): 0 | Err {
  assert(m.frames.memcg[pfn] === NO_MEMCG, "folio is charged already");
  if (memcg === NO_MEMCG) return 0;
  if (m.failing !== null && failsCharge(m.failing)) return -ENOMEM;
  const result = chargePages(m, memcg, 1 << m.frames.order[pfn], gfp);
  if (result === 0) m.frames.memcg[pfn] = memcg;
  return result;
}

/** Gives a folio's charge back. It must be off the LRU lists. */
export function unchargeFolio(m: PhysState, pfn: Pfn): void {
  const memcg = m.frames.memcg[pfn];
  assert(memcg !== NO_MEMCG, "folio is not charged");
  m.frames.memcg[pfn] = NO_MEMCG;
  unchargePages(m, memcg, 1 << m.frames.order[pfn]);
}

/** PHYS-125: every piece of a split folio stays charged to its group. */
export function splitCharge(m: PhysState, head: Pfn, oldOrder: number, newOrder: number): void {
  const memcg = m.frames.memcg[head];
  if (memcg === NO_MEMCG) return;
  const end = head + (1 << oldOrder);
  for (let pfn = head; pfn < end; pfn += 1 << newOrder) m.frames.memcg[pfn] = memcg;
}

/**
 * PHYS-126: one try; over a limit, reclaim in the group at that limit and one try with per-CPU stocks drained; with
 * NORETRY that is all, else 16 more rounds. Each refused try is one failcnt.
 */
export function chargePages(m: PhysState, memcg: MemcgId, nrPages: number, gfp: number): 0 | Err {
  let full = tryCharge(m, memcg, nrPages);
  if (full === null) return 0;
  if ((gfp & GFP.DIRECT_RECLAIM) === 0) return -ENOMEM;

  const nrRounds = (gfp & GFP.NORETRY) !== 0 ? 1 : 1 + MAX_CHARGE_RETRIES;
  for (let round = 0; round < nrRounds; round++) {
    m.reclaim?.reclaimMemcg(m, full.id, nrPages, gfp);
    full = tryCharge(m, memcg, nrPages);
    if (full === null) return 0;
  }
  return -ENOMEM;
}

/** Gives pages charged by chargePages back. */
export function unchargePages(m: PhysState, memcg: MemcgId, nrPages: number): void {
  for (let id = memcg; id !== NO_MEMCG; ) {
    const group = memcgOf(m, id);
    group.usage -= nrPages;
    assert(group.usage >= 0, "more uncharged than charged");
    id = group.parent;
  }
}

/** Charges the group and its ancestors, or none of them: null, or the group that is full (its failcnt rises). */
function tryCharge(m: PhysState, memcg: MemcgId, nrPages: number): Memcg | null {
  for (let id = memcg; id !== NO_MEMCG; ) {
    const group = memcgOf(m, id);
    if (group.usage + nrPages > group.max) {
      group.failcnt++;
      return group;
    }
    id = group.parent;
  }
  for (let id = memcg; id !== NO_MEMCG; ) {
    const group = memcgOf(m, id);
    group.usage += nrPages;
    if (group.usage > group.peak) group.peak = group.usage;
    id = group.parent;
  }
  return null;
}
