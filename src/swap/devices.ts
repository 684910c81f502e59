/**
 * Swap devices come and go.
 *
 * Entry: addDevice (swapon), removeDevice (the end of swapoff).
 * Holds: slot 0 is the device's header and bad, as is what the last cluster has behind the end.
 */

import { assert } from "../base/assert.ts";
import { EBUSY, EINVAL, type Err } from "../base/errno.ts";
import { addTail, createIntLists } from "../base/int-list.ts";
import {
  BAD_SLOT,
  MOST_DEVICES,
  MOST_SLOTS,
  NO_SWAP_ENTRY,
  NR_SWAP_ORDERS,
  SLOTS_PER_CLUSTER,
  type SwapDevice,
  type SwapState,
  typeOf,
} from "./state.ts";

/** Smallest device mkswap makes: ten pages. */
const FEWEST_SLOTS = 10;

/** What swapon is given. */
export interface DeviceOptions {
  /** Size in pages, the header included. */
  readonly nrSlots: number;
  /** 0..32767; without one the device comes after all others (PROC-083). */
  readonly priority?: number;
}

/** A new device with everything free: its type, or -EINVAL for a size or priority no device has, -EBUSY for one too many. */
export function addDevice(m: SwapState, options: DeviceOptions): number | Err {
  const { nrSlots, priority } = options;
  if (!Number.isInteger(nrSlots) || nrSlots < FEWEST_SLOTS || nrSlots > MOST_SLOTS) return -EINVAL;
  if (priority !== undefined && !(priority >= 0 && priority <= 32767)) return -EINVAL;
  const { devices } = m.swap;
  const free = devices.indexOf(null);
  const type = free >= 0 ? free : devices.length;
  if (type === MOST_DEVICES) return -EBUSY;
  const device = createDevice(type, nrSlots, priority ?? m.swap.nextPriority--);
  devices[type] = device;
  const { turns } = m.swap;
  const after = turns.findIndex((other) => devices[other]!.priority < device.priority);
  turns.splice(after < 0 ? turns.length : after, 0, type);
  return type;
}

function createDevice(type: number, nrSlots: number, priority: number): SwapDevice {
  const nrClusters = Math.ceil(nrSlots / SLOTS_PER_CLUSTER);
  const nrRows = nrClusters * SLOTS_PER_CLUSTER;
  const device: SwapDevice = {
    type,
    priority,
    nrSlots,
    isWritable: true,
    nrUsed: 0,
    count: new Uint16Array(nrRows),
    cached: new Int32Array(nrRows),
    claimed: new Uint8Array(nrRows),
    inUse: new Uint8Array(nrRows),
    tag: new Uint32Array(nrRows),
    isZero: new Uint8Array(nrRows),
    owner: new Int32Array(nrRows),
    shadow: new Float64Array(nrRows),
    shadowLists: new Uint16Array(nrRows),
    clusterUsed: new Uint16Array(nrClusters),
    clusterOrder: new Uint8Array(nrClusters),
    clusterList: new Uint8Array(nrClusters),
    lists: createIntLists(nrClusters, 1 + NR_SWAP_ORDERS),
  };
  markBad(device, 0);
  for (let slot = nrSlots; slot < nrRows; slot++) markBad(device, slot);
  for (let cluster = 0; cluster < nrClusters; cluster++) listCluster(device, cluster);
  return device;
}

function markBad(device: SwapDevice, slot: number): void {
  device.count[slot] = BAD_SLOT;
  device.inUse[slot] = 1;
  device.clusterUsed[Math.floor(slot / SLOTS_PER_CLUSTER)]++;
}

/** A cluster with a bad slot serves single pages from the start; it is never free. */
function listCluster(device: SwapDevice, cluster: number): void {
  const used = device.clusterUsed[cluster];
  if (used === SLOTS_PER_CLUSTER) return;
  const list = used === 0 ? 0 : 1;
  addTail(device.lists, list, cluster);
  device.clusterList[cluster] = list + 1;
}

/** Forgets a device that is not in use any more. */
export function removeDevice(m: SwapState, type: number): void {
  const { swap } = m;
  assert(swap.devices[type]?.nrUsed === 0, "a swap device is removed that is in use");
  swap.devices[type] = null;
  swap.turns.splice(swap.turns.indexOf(type), 1);
  for (let i = 0; i < swap.current.length; i++) {
    const entry = swap.current[i];
    if (entry !== NO_SWAP_ENTRY && typeOf(entry) === type) swap.current[i] = NO_SWAP_ENTRY;
  }
}
