/**
 * Handing out slots: clusters of 512 slots, each used for runs of one order.
 *
 * Entry: allocSlots, releaseSlot.
 * Owns:  inUse, nrUsed and the cluster columns of devices; `current` and the turns of the machine.
 * Rules: PHYS-110. A 2 MiB folio needs a wholly free cluster. A smaller one goes on in its CPU's current cluster, then takes
 *        an aligned run of a cluster of its order, then begins a free cluster; a single page then takes what is left anywhere.
 */

import { assert } from "../base/assert.ts";
import { addTail, listHead, listNext, unlink } from "../base/int-list.ts";
import {
  deviceOf,
  entryAt,
  NO_SWAP_ENTRY,
  NR_SWAP_ORDERS,
  SLOTS_PER_CLUSTER,
  type SwapDevice,
  type SwapEntry,
  type SwapState,
  slotOf,
} from "./state.ts";

const FREE_LIST = 0;
const HUGE = NR_SWAP_ORDERS - 1;

/** First entry of 2^order slots that follow each other, aligned to their number; NO_SWAP_ENTRY if no device has them. */
export function allocSlots(m: SwapState, order: number): SwapEntry {
  const { swap } = m;
  const at = m.cpu * NR_SWAP_ORDERS + order;
  const current = swap.current[at];
  if (current !== NO_SWAP_ENTRY) {
    const device = deviceOf(m, current);
    const slot = device.isWritable ? scanCluster(device, slotOf(current), order) : -1;
    if (slot >= 0) return take(m, device, slot, order);
  }
  for (const type of [...swap.turns]) {
    const device = swap.devices[type]!;
    if (!device.isWritable) continue;
    endTurn(m, device);
    const slot = findRun(device, order);
    if (slot >= 0) return take(m, device, slot, order);
  }
  return NO_SWAP_ENTRY;
}

/** The device goes behind the others of its priority. */
function endTurn(m: SwapState, device: SwapDevice): void {
  const { turns, devices } = m.swap;
  turns.splice(turns.indexOf(device.type), 1);
  const after = turns.findIndex((other) => devices[other]!.priority < device.priority);
  turns.splice(after < 0 ? turns.length : after, 0, device.type);
}

/** First slot of a free run on this device, or -1. */
function findRun(device: SwapDevice, order: number): number {
  if (order < HUGE) {
    const slot = scanList(device, 1 + order, order);
    if (slot >= 0) return slot;
  }
  const free = listHead(device.lists, FREE_LIST);
  if (free >= 0) return free * SLOTS_PER_CLUSTER;
  if (order > 0) return -1;
  for (let other = 1; other < NR_SWAP_ORDERS; other++) {
    const slot = scanList(device, 1 + other, 0);
    if (slot >= 0) return slot;
  }
  return -1;
}

/** A run in the first cluster of a list that has one, or -1. */
function scanList(device: SwapDevice, list: number, order: number): number {
  for (let c = listHead(device.lists, list); c >= 0; c = listNext(device.lists, c)) {
    const slot = firstRun(device, c * SLOTS_PER_CLUSTER, order);
    if (slot >= 0) return slot;
  }
  return -1;
}

/** A run at or behind `from` in its cluster, if that may still be used for this order; or -1. */
function scanCluster(device: SwapDevice, from: number, order: number): number {
  const cluster = Math.floor(from / SLOTS_PER_CLUSTER);
  const isFree = device.clusterList[cluster] === FREE_LIST + 1;
  const isUsable = isFree || device.clusterOrder[cluster] === order;
  return isUsable ? firstRun(device, from, order) : -1;
}

function firstRun(device: SwapDevice, from: number, order: number): number {
  const nr = 1 << order;
  const end = (Math.floor(from / SLOTS_PER_CLUSTER) + 1) * SLOTS_PER_CLUSTER;
  for (let first = Math.ceil(from / nr) * nr; first + nr <= end; first += nr) {
    let slot = first;
    while (slot < first + nr && device.inUse[slot] === 0) slot++;
    if (slot === first + nr) return first;
  }
  return -1;
}

function take(m: SwapState, device: SwapDevice, slot: number, order: number): SwapEntry {
  const nr = 1 << order;
  const cluster = Math.floor(slot / SLOTS_PER_CLUSTER);
  if (device.clusterUsed[cluster] === 0) device.clusterOrder[cluster] = order;
  device.inUse.fill(1, slot, slot + nr);
  device.clusterUsed[cluster] += nr;
  device.nrUsed += nr;
  relist(device, cluster);
  const next = slot + nr;
  const isInside = next % SLOTS_PER_CLUSTER !== 0;
  m.swap.current[m.cpu * NR_SWAP_ORDERS + order] = isInside
    ? entryAt(device.type, next)
    : NO_SWAP_ENTRY;
  return entryAt(device.type, slot);
}

/** A slot nobody needs any more; what it held is forgotten. */
export function releaseSlot(m: SwapState, entry: SwapEntry): void {
  const device = deviceOf(m, entry);
  const slot = slotOf(entry);
  assert(device.inUse[slot] === 1, "a swap slot is freed twice");
  const isNeeded = device.count[slot] !== 0 || device.cached[slot] !== 0;
  assert(!isNeeded && device.claimed[slot] === 0, "a needed swap slot is freed");
  device.inUse[slot] = 0;
  device.tag[slot] = 0;
  device.isZero[slot] = 0;
  device.owner[slot] = 0;
  device.shadow[slot] = 0;
  device.shadowLists[slot] = 0;
  device.nrUsed--;
  const cluster = Math.floor(slot / SLOTS_PER_CLUSTER);
  device.clusterUsed[cluster]--;
  relist(device, cluster);
}

/** Puts a cluster on the list its fill says; it moves only if that changed. */
function relist(device: SwapDevice, cluster: number): void {
  const used = device.clusterUsed[cluster];
  let list = 0;
  if (used === 0) list = FREE_LIST + 1;
  else if (used < SLOTS_PER_CLUSTER) list = 2 + device.clusterOrder[cluster];
  if (list === device.clusterList[cluster]) return;
  if (device.clusterList[cluster] !== 0) unlink(device.lists, cluster);
  if (list !== 0) addTail(device.lists, list - 1, cluster);
  device.clusterList[cluster] = list;
}
