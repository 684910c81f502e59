/**
 * Faults on swap entries: the page comes back from the swap cache or from its device.
 *
 * Entry: faultSwap, a plain call that runs the phases of swap-in-phases.ts at once; isSwapBusy.
 * Rules: ANON-267, PHYS-087, 112, 113, 115, 116.
 */

import type { HugeState } from "../huge/knobs.ts";
import type { Mm } from "../mm/state.ts";
import { headOf, NO_PFN } from "../phys/frame-table.ts";
import { isFolioBusy } from "../sched/locks.ts";
import { runAtOnce } from "../sched/runner.ts";
import { isClaimed } from "../swap/entries.ts";
import { swapCachedPage } from "../swap/state.ts";
import { FAULT_WAIT } from "./kinds.ts";
import { swapInFields, swapInPhases } from "./swap-in-phases.ts";

/**
 * A fault on the swap entry in `slot`. The packed result or a negative signal; FAULT_WAIT if somebody who is in the middle of
 * an operation has the page.
 */
export function faultSwap(
  m: HugeState,
  mm: Mm,
  region: number,
  pteIndex: number,
  slot: number,
  access: "read" | "write",
): number {
  if (isSwapBusy(m, slot)) return FAULT_WAIT;
  const fields = swapInFields(m, mm, region, pteIndex, slot, access);
  return runAtOnce(m, swapInPhases, fields) ?? FAULT_WAIT;
}

/** True if the page of the swap entry in `slot` is being written out, read or mapped by an operation under way. */
export function isSwapBusy(m: HugeState, slot: number): boolean {
  const entry = m.tables.payload[slot];
  const pfn = swapCachedPage(m, entry);
  return pfn === NO_PFN ? isClaimed(m, entry) : isFolioBusy(m, headOf(m.frames, pfn));
}
