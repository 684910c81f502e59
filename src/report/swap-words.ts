/**
 * Swap entries as reports need them: device, offset, and how many page-table entries share a slot.
 *
 * One place to read the swap folder's tables from. Until swapping is part of the machine, a swap entry's payload is the
 * offset on the one device, and nobody shares it.
 */

import type { MmState } from "../mm/state.ts";

/** Number of the swap device (pagemap's bits 0..4). */
export function swapTypeOf(_m: MmState, _payload: number): number {
  return 0;
}

/** Page offset on the device (pagemap's bits 5..54). */
export function swapOffsetOf(_m: MmState, payload: number): number {
  return payload;
}

/** Page-table entries of all processes that name this slot; at least 1. */
export function swapSharers(_m: MmState, _payload: number): number {
  return 1;
}

/** Pages of all swap devices, and those in no use. */
export function swapTotalPages(_m: MmState): number {
  return 0;
}

export function swapFreePages(_m: MmState): number {
  return 0;
}
