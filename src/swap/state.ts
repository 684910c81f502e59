/**
 * Swap space as plain records: devices with their slots and clusters, and which frames are in the swap cache.
 *
 * Owns:  the types and the number that names a slot. slots.ts hands slots out, entries.ts counts who needs them, cache.ts
 *        ties them to frames, transfer.ts moves contents.
 * Units: a slot holds one 4 KiB page; a cluster is 512 slots (PHYS-004). A `SwapEntry` names a slot of the whole machine as a
 *        page-table entry does: device in the upper 5 bits, slot in the lower 27 (PHYS-111).
 */

import type { Pfn } from "../base/address.ts";
import type { IntLists } from "../base/int-list.ts";
import type { PhysState } from "../phys/state.ts";

/** Names one slot; an unsigned 32-bit number. */
export type SwapEntry = number;

/** No slot: slot 0 of the first device, which is its header and never handed out. */
export const NO_SWAP_ENTRY: SwapEntry = 0;
export const SLOTS_PER_CLUSTER = 512;
/** Orders 0..9 have clusters of their own. */
export const NR_SWAP_ORDERS = 10;
export const MOST_DEVICES = 32;
/** Slots of one device are numbered below this: 512 GiB. */
export const MOST_SLOTS = 2 ** 27;
/** `count` of a slot that can never be used: the header, and what lies behind the end in the last cluster. */
export const BAD_SLOT = 0xffff;

/** One swap device (a zram device: reads and writes end before the call returns). */
export interface SwapDevice {
  /** Its number in entries: index in `m.swap.devices`. */
  readonly type: number;
  /** Higher is used first; devices of equal priority take turns. */
  readonly priority: number;
  /** Slots, the header included. */
  readonly nrSlots: number;
  /** False while swapoff empties it: nothing is swapped out to it. */
  isWritable: boolean;
  /** Slots in use: needed by an entry or by the swap cache. */
  nrUsed: number;

  /** Page-table entries that name the slot; BAD_SLOT. Rows: slots, to the end of the last cluster. Writer: entries.ts. */
  readonly count: Uint16Array;
  /** Frame of the page in the swap cache that belongs to the slot, 0 none. Rows: slots. Writer: cache.ts. */
  readonly cached: Int32Array;
  /** 1 while somebody reads the slot past the swap cache: others wait until he is through. Rows: slots. Writer: entries.ts. */
  readonly claimed: Uint8Array;
  /** 1 if the slot is in use; bad ones too. Rows: slots. Writer: slots.ts. */
  readonly inUse: Uint8Array;
  /** Contents last written to the device, as in the frame table's `tag`. Rows: slots in use. Writer: transfer.ts. */
  readonly tag: Uint32Array;
  /** 1: marked as zero-filled, nothing was written (PHYS-100). Rows: slots in use. Writer: transfer.ts. */
  readonly isZero: Uint8Array;
  /** anon_vma id of the page when it was swapped out, 0 never: rmap must find every later mapping from it. Rows: slots in use. */
  readonly owner: Int32Array;
  /** Age of its LRU lists at eviction plus 1; 0 none. Rows: slots in use. Writer: workingset.ts. */
  readonly shadow: Float64Array;
  /** Which LRU lists that age is of: memcg * nrNodes + node. Rows: as shadow. */
  readonly shadowLists: Uint16Array;

  /** Slots in use or bad. Rows: clusters. */
  readonly clusterUsed: Uint16Array;
  /** Order its runs are handed out in; means nothing while the cluster is free. Rows: clusters. */
  readonly clusterOrder: Uint8Array;
  /** Number in `lists` of the list the cluster is on plus 1; 0 for a full one. Rows: clusters. */
  readonly clusterList: Uint8Array;
  /** List 0: free clusters. List 1 + order: clusters of that order with a free slot. Rows: clusters. */
  readonly lists: IntLists;
}

/** All of swap space. */
export interface SwapSpace {
  /** By type; null where there is none. */
  readonly devices: (SwapDevice | null)[];
  /** Types in the order an allocation tries them: by priority, equals in turn. */
  readonly turns: number[];
  /** Entry at which a CPU goes on in its current cluster of an order, NO_SWAP_ENTRY none; at cpu * 10 + order (PHYS-110). */
  readonly current: Uint32Array;
  /** Priority the next device without one gets; sinks with each. */
  nextPriority: number;
  /** Entry of the folio's first page. Rows: heads with SWAPCACHE. Writer: cache.ts. */
  readonly entryOf: Uint32Array;
  /** Pages evicted from or activated in LRU lists so far; at memcg * nrNodes + node. */
  readonly age: Float64Array;
}

export interface SwapState extends PhysState {
  readonly swap: SwapSpace;
}

/** A machine's swap space without any device. */
export function createSwapSpace(m: PhysState): SwapSpace {
  return {
    devices: [],
    turns: [],
    current: new Uint32Array(m.nrCpus * NR_SWAP_ORDERS),
    nextPriority: -2,
    entryOf: new Uint32Array(m.frames.nrFrames),
    age: new Float64Array(m.memcgs.length * m.nodes.length),
  };
}

/** The entry of a slot of a device. */
export function entryAt(type: number, slot: number): SwapEntry {
  return ((type << 27) | slot) >>> 0;
}

export function typeOf(entry: SwapEntry): number {
  return entry >>> 27;
}

/** Slot number within the device. */
export function slotOf(entry: SwapEntry): number {
  return entry & (MOST_SLOTS - 1);
}

/** The device an entry names; it must exist. */
export function deviceOf(m: SwapState, entry: SwapEntry): SwapDevice {
  return m.swap.devices[typeOf(entry)]!;
}

/** Page-table entries that name the slot. */
export function swapCountOf(m: SwapState, entry: SwapEntry): number {
  return deviceOf(m, entry).count[slotOf(entry)];
}

/** Frame that holds the slot's page in the swap cache, or NO_PFN. */
export function swapCachedPage(m: SwapState, entry: SwapEntry): Pfn {
  return deviceOf(m, entry).cached[slotOf(entry)];
}

/** Slots that could ever be used, and those in use, over all devices (SwapTotal and SwapTotal - SwapFree, in pages). */
export function swapTotals(m: SwapState): { total: number; used: number } {
  let total = 0;
  let used = 0;
  for (const device of m.swap.devices) {
    if (device === null || !device.isWritable) continue;
    total += device.nrSlots - 1;
    used += device.nrUsed;
  }
  return { total, used };
}

/** More than half is in use: slots of pages that are in memory anyway are given back early (PHYS-115). */
export function isSwapFull(m: SwapState): boolean {
  const { total, used } = swapTotals(m);
  return (total - used) * 2 < total;
}
