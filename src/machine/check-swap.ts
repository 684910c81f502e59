/**
 * Third part of the invariant walk: swap slots, clusters and the swap cache against the page tables and the frames.
 *
 * Entry: checkSwap; swapCacheOf for the walk over references.
 */

import type { Pfn } from "../base/address.ts";
import { VMSTAT } from "../base/counters.ts";
import { listHead, listNext } from "../base/int-list.ts";
import { ENTRY } from "../mm/page-tables.ts";
import { headOf, NO_PFN, PG } from "../phys/frame-table.ts";
import {
  BAD_SLOT,
  entryAt,
  NR_SWAP_ORDERS,
  SLOTS_PER_CLUSTER,
  type SwapDevice,
  type SwapEntry,
  slotOf,
  typeOf,
} from "../swap/state.ts";
import { expectEqual, type Found } from "./check-counts.ts";
import type { Machine } from "./machine.ts";

/** Page-table entries that name one slot. */
export interface FoundSwap {
  /** All of them. */
  nr: number;
  /** Of them: exclusive ones. */
  nrExclusive: number;
}

/** Notes a swap entry that the walk met. */
export function noteSwapEntry(m: Machine, entry: SwapEntry, flags: number, found: Found): void {
  const device = m.swap.devices[typeOf(entry)];
  if (device === null || device === undefined || slotOf(entry) >= device.nrSlots) {
    found.problems.push(`an entry names swap slot ${entry}, which does not exist`);
    return;
  }
  const seen = found.swaps.get(entry) ?? { nr: 0, nrExclusive: 0 };
  seen.nr++;
  if ((flags & ENTRY.EXCLUSIVE) !== 0) seen.nrExclusive++;
  found.swaps.set(entry, seen);
  if ((flags & (ENTRY.PRESENT | ENTRY.WRITE)) !== 0)
    found.problems.push(`the entry of swap slot ${entry} has bits of a mapping`);
}

/** Frames that the swap cache holds, after checking that slots and frames name each other. */
export function swapCacheOf(m: Machine, taken: readonly Pfn[], found: Found): Set<Pfn> {
  const cached = new Set<Pfn>();
  for (const device of m.swap.devices) {
    if (device === null) continue;
    for (let slot = 0; slot < device.nrSlots; slot++) {
      const pfn = device.cached[slot];
      if (pfn === NO_PFN) continue;
      cached.add(pfn);
      const head = headOf(m.frames, pfn);
      const isNamed = m.swap.entryOf[head] + (pfn - head) === entryAt(device.type, slot);
      if (!isNamed || (m.frames.flags[head] & PG.SWAPCACHE) === 0)
        found.problems.push(`frame ${pfn} does not say that it is in the swap cache at ${slot}`);
    }
  }
  const { flags, order } = m.frames;
  for (const pfn of taken) {
    if ((flags[pfn] & PG.SWAPCACHE) === 0) continue;
    for (let page = pfn; page < pfn + (1 << order[pfn]); page++)
      if (!cached.has(page))
        found.problems.push(`frame ${page} is in the swap cache without a slot`);
  }
  expectEqual(found, "nr_swapcached", m.vmstat[VMSTAT.nr_swapcached], cached.size);
  return cached;
}

/** Slots in use are those that entries or cached pages need; lists hold the clusters their fill says. */
export function checkSwap(m: Machine, found: Found): void {
  for (const device of m.swap.devices) {
    if (device === null) continue;
    checkSlots(device, found);
    checkClusters(device, found);
  }
  const present = m.swap.devices.flatMap((device) => (device === null ? [] : [device]));
  const turns = [...m.swap.turns].sort((a, b) => a - b);
  if (turns.join() !== present.map((device) => device.type).join())
    found.problems.push("the turns of swap devices do not name each of them once");
  const byTurn = m.swap.turns.map((type) => m.swap.devices[type]!.priority);
  if (byTurn.some((priority, i) => i > 0 && priority > byTurn[i - 1]))
    found.problems.push("a swap device has its turn before one of higher priority");
}

function checkSlots(device: SwapDevice, found: Found): void {
  const { count, inUse, cached, tag, isZero, owner } = device;
  let nrUsed = 0;
  let nrNamed = 0;
  for (let slot = 0; slot < count.length; slot++) {
    // Nearly all slots are free and clean; one of them that an entry names is missed in nrNamed.
    const needed = count[slot] | inUse[slot] | cached[slot];
    const isBad = slot === 0 || slot >= device.nrSlots;
    if (!isBad && (needed | tag[slot] | isZero[slot] | owner[slot]) === 0) continue;
    const what = `swap slot ${device.type}:${slot}`;
    const seen = found.swaps.get(entryAt(device.type, slot)) ?? { nr: 0, nrExclusive: 0 };
    if (seen.nr > 0) nrNamed++;
    if (isBad) {
      expectEqual(found, `${what} count of a bad slot`, device.count[slot], BAD_SLOT);
      expectEqual(found, `${what} use of a bad slot`, device.inUse[slot], 1);
      continue;
    }
    expectEqual(found, `${what} count`, device.count[slot], seen.nr);
    const isNeeded = seen.nr > 0 || device.cached[slot] !== NO_PFN || device.claimed[slot] === 1;
    expectEqual(found, `${what} in use`, device.inUse[slot], isNeeded ? 1 : 0);
    if (seen.nrExclusive > 0 && seen.nr > 1)
      found.problems.push(`${what} has an exclusive entry and ${seen.nr - 1} others`);
    if (isNeeded) nrUsed++;
    else if ((device.tag[slot] | device.isZero[slot] | device.owner[slot]) !== 0)
      found.problems.push(`${what} is free but not clean`);
  }
  expectEqual(found, `swap device ${device.type} nrUsed`, device.nrUsed, nrUsed);
  let nrSeen = 0;
  for (const entry of found.swaps.keys()) if (typeOf(entry) === device.type) nrSeen++;
  expectEqual(found, `swap device ${device.type} slots in use that entries name`, nrNamed, nrSeen);
}

function checkClusters(device: SwapDevice, found: Found): void {
  const nrClusters = device.clusterUsed.length;
  const listed = new Map<number, number>();
  for (let list = 0; list <= NR_SWAP_ORDERS; list++)
    for (let c = listHead(device.lists, list); c >= 0; c = listNext(device.lists, c))
      listed.set(c, list + 1);
  for (let cluster = 0; cluster < nrClusters; cluster++) {
    const first = cluster * SLOTS_PER_CLUSTER;
    let used = 0;
    for (let slot = first; slot < first + SLOTS_PER_CLUSTER; slot++) used += device.inUse[slot];
    const what = `swap cluster ${device.type}:${cluster}`;
    expectEqual(found, `${what} fill`, device.clusterUsed[cluster], used);
    expectEqual(found, `${what} list`, device.clusterList[cluster], listed.get(cluster) ?? 0);
    const order = device.clusterOrder[cluster];
    const wanted = used === 0 ? 1 : used === SLOTS_PER_CLUSTER ? 0 : 2 + order;
    expectEqual(found, `${what} should be on list`, listed.get(cluster) ?? 0, wanted);
  }
}
