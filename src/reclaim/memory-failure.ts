/**
 * Failing memory, as plain calls: a page failed, or is about to.
 *
 * Entry: failPage (what a machine check or MADV_HWPOISON leads to), offlinePage (MADV_SOFT_OFFLINE); beginFailure and
 *        beginOffline for a task that is to be watched between the phases. Signals wait in m.poison.signals.
 * Rules: ANON-280..286.
 */

import type { Pfn } from "../base/address.ts";
import { EBUSY, type Err } from "../base/errno.ts";
import type { HugeState } from "../huge/knobs.ts";
import { headOf } from "../phys/frame-table.ts";
import { isLockStuck, runAtOnce, startOperation } from "../sched/runner.ts";
import { type MemoryFailureOp, memoryFailurePhases } from "./memory-failure-phases.ts";
import { type SoftOfflineOp, softOfflinePhases } from "./soft-offline-phases.ts";

/**
 * Page `pfn` of anonymous memory failed. `consumer` is the address space that read it, -1 if nobody has. 0; -EHWPOISON if it
 * had failed before, or if its folio cannot be split; -EBUSY if it is no such memory or somebody works on its folio.
 */
export function failPage(m: HugeState, pfn: Pfn, consumer: number): Err {
  if (isStuck(m, pfn)) return -EBUSY;
  return runAtOnce(m, memoryFailurePhases, failureFields(pfn, consumer)) ?? -EBUSY;
}

export function beginFailure(
  m: HugeState,
  task: number,
  pfn: Pfn,
  consumer: number,
): MemoryFailureOp {
  return startOperation(m, memoryFailurePhases, task, failureFields(pfn, consumer));
}

/** Page `pfn` is to be used no more. 0; -EBUSY if it cannot be emptied; -EOPNOTSUPP if that is switched off. */
export function offlinePage(m: HugeState, pfn: Pfn): Err {
  if (isStuck(m, pfn)) return -EBUSY;
  return runAtOnce(m, softOfflinePhases, { pfn, head: pfn }) ?? -EBUSY;
}

export function beginOffline(m: HugeState, task: number, pfn: Pfn): SoftOfflineOp {
  return startOperation(m, softOfflinePhases, task, { pfn, head: pfn });
}

function failureFields(pfn: Pfn, consumer: number) {
  return { pfn, consumer, head: pfn, anonVma: 0 };
}

/** Somebody who is held in the middle of something has what this needs. */
function isStuck(m: HugeState, pfn: Pfn): boolean {
  const head = headOf(m.frames, pfn);
  return isLockStuck(m, "folio", head) || isLockStuck(m, "anonVma", m.frames.owner[head]);
}
