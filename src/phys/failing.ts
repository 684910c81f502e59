/**
 * Allocations and charges that fail on request, so that what follows a failure can be looked at without filling memory.
 *
 * Entry: failNextAllocs, failNextCharges; failsAlloc and failsCharge are asked by the allocator and by memory cgroups.
 * Holds: m.failing is null unless something is to fail, so that nobody else pays for it.
 */

import type { Failing, PhysState } from "./state.ts";
import { NR_ORDERS } from "./state.ts";

/** The next `count` allocations of exactly that order fail, whoever makes them; page tables are of order 0. */
export function failNextAllocs(m: PhysState, order: number, count: number): void {
  failingOf(m).allocs[order] += count;
}

/** The next `count` charges to a memory cgroup fail. */
export function failNextCharges(m: PhysState, count: number): void {
  failingOf(m).charges += count;
}

function failingOf(m: PhysState): Failing {
  m.failing ??= { allocs: new Array<number>(NR_ORDERS).fill(0), charges: 0 };
  return m.failing;
}

/** True if this allocation is one of those that fail. */
export function failsAlloc(failing: Failing, order: number): boolean {
  if (failing.allocs[order] === 0) return false;
  failing.allocs[order]--;
  return true;
}

/** True if this charge is one of those that fail. */
export function failsCharge(failing: Failing): boolean {
  if (failing.charges === 0) return false;
  failing.charges--;
  return true;
}
