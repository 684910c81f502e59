/**
 * Swap space as reports see it: what an entry says in pagemap, who shares a slot, and /proc/swaps.
 *
 * Entry: swapTypeOf, swapOffsetOf, swapSharers, swapTotalPages, swapFreePages, swapsText.
 * Rules: PROC-018, PROC-043, PROC-083.
 * Differs: devices have no names in the model; device N is /dev/zramN.
 */

import type { MmState } from "../mm/state.ts";
import { type SwapEntry, slotOf, swapCountOf, swapTotals, typeOf } from "../swap/state.ts";
import { KIB_PER_PAGE } from "./text-layout.ts";

const PATH_WIDTH = 40;

/** Number of the swap device (pagemap's bits 0..4). */
export function swapTypeOf(entry: SwapEntry): number {
  return typeOf(entry);
}

/** Page offset on the device (pagemap's bits 5..54). */
export function swapOffsetOf(entry: SwapEntry): number {
  return slotOf(entry);
}

/** Page-table entries of all processes that name this slot; at least 1. */
export function swapSharers(m: MmState, entry: SwapEntry): number {
  return Math.max(swapCountOf(m, entry), 1);
}

/** Pages of all swap devices. */
export function swapTotalPages(m: MmState): number {
  return swapTotals(m).total;
}

/** Of them, pages in no use. */
export function swapFreePages(m: MmState): number {
  const { total, used } = swapTotals(m);
  return total - used;
}

/** /proc/swaps: a header and a line per device; sizes without the header page. */
export function swapsText(m: MmState): string {
  let text = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
  for (const device of m.swap.devices) {
    if (device === null) continue;
    const path = `/dev/zram${device.type}`.padEnd(PATH_WIDTH);
    const size = sizeText((device.nrSlots - 1) * KIB_PER_PAGE);
    const used = sizeText(device.nrUsed * KIB_PER_PAGE);
    text += `${path}partition\t${size}${used}${device.priority}\n`;
  }
  return text;
}

/** A tab more behind what is short. */
function sizeText(kb: number): string {
  return `${kb}\t${kb < 10000000 ? "\t" : ""}`;
}
