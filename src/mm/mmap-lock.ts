/**
 * The mmap lock as plain calls take it: for one instant, so that nothing is recorded, but not while somebody else has it.
 *
 * Entry: enterMm, at the start of every call that changes or reads an address space and is no phase table.
 * Holds: an operation that has the lock goes on until it drops it. A task beside operations that are held asks
 *        first (blockingLock): for a plain call to meet one is a defect.
 */

import { assert } from "../base/assert.ts";
import type { LockMode } from "../sched/lock-order.ts";
import { waitForLock } from "../sched/runner.ts";
import type { Mm, MmState } from "./state.ts";

/** Returns when the lock could be taken in this mode: "write" by who changes VMAs or ends the address space. */
export function enterMm(m: MmState, mm: Mm, mode: LockMode): void {
  assert(
    waitForLock(m, "mmap", mm.id, mode),
    "a plain call meets an address space that a held operation has locked",
  );
}
