/**
 * What khugepaged works from: the list of address spaces it visits, its cursor, and when it wakes.
 *
 * Entry: registerWithKhugepaged, unregisterFromKhugepaged; wakeFromIdle and endSleep for whoever gives it something to do.
 * Owns:  m.khugepaged. The list lives here because faults, fork and exit feed it; the daemon itself is in collapse/.
 * Holds: an id on the list belongs to an address space that exists, but for the one at the cursor: that one may have ended,
 *        and its id is not used again before the daemon has moved on (COLL-048).
 * Rules: COLL-040..048.
 */

import { taskOf } from "../sched/tasks.ts";
import type { Mm, MmState } from "./state.ts";

/** No address space. */
export const NO_MM = -1;
/** No thread: the task number of a daemon that does not exist. */
export const NO_TASK = 0;

/** What the daemon pauses for: a registration; the next pass; memory; nothing. */
export type KhugepagedPause = "idle" | "scan" | "alloc" | "none";

/** What the daemon has done since boot: a cost model makes CPU time of it, reports print it. */
export interface KhugepagedWork {
  /** Passes begun: wake-ups. */
  nrPasses: number;
  /** Address spaces looked into; one that is visited twice in a pass counts twice. */
  nrVisits: number;
  /** VMAs passed over. */
  nrVmasSkipped: number;
  nrRegionsScanned: number;
  /** Page table entries read in them. */
  nrPtesScanned: number;
  /** Collapses that were tried after a scan, and those that succeeded. */
  nrTried: number;
  nrCollapsed: number;
  /** Pages that successful collapses copied and freed, and pages that they filled with zeroes. */
  nrPagesCopied: number;
  nrPagesFilled: number;
  /** CPU time (ns) of the passes that runDueDaemons made. */
  busyNs: number;
}

/** The daemon. Its task's `wakeNs` is the end of its pause. */
export interface Khugepaged {
  /** Its task in m.sched, NO_TASK while there is no thread. */
  task: number;
  /** Ids of registered address spaces, first registered first. */
  readonly mms: number[];
  /** Address space under the cursor, NO_MM if it is before the first. */
  cursorMm: number;
  /** Next region to look at there. */
  cursorRegion: number;
  pause: KhugepagedPause;
  /** The thread ends when its pass is over. */
  isStopping: boolean;
  /** It begins nothing: it would freeze where it pauses (COLL-030). */
  isFrozen: boolean;
  readonly work: KhugepagedWork;
}

/** No thread, nobody registered. */
export function createKhugepaged(): Khugepaged {
  return {
    task: NO_TASK,
    mms: [],
    cursorMm: NO_MM,
    cursorRegion: 0,
    pause: "none",
    isStopping: false,
    isFrozen: false,
    work: {
      nrPasses: 0,
      nrVisits: 0,
      nrVmasSkipped: 0,
      nrRegionsScanned: 0,
      nrPtesScanned: 0,
      nrTried: 0,
      nrCollapsed: 0,
      nrPagesCopied: 0,
      nrPagesFilled: 0,
      busyNs: 0,
    },
  };
}

/** Puts an address space at the end of the list; once is enough. The first one on it wakes the daemon (COLL-040). */
export function registerWithKhugepaged(m: MmState, mm: Mm): void {
  if (mm.isKhugepagedCandidate) return;
  mm.isKhugepagedCandidate = true;
  const wasEmpty = m.khugepaged.mms.length === 0;
  m.khugepaged.mms.push(mm.id);
  if (wasEmpty) wakeFromIdle(m);
}

/** The address space ends. If the daemon is at it, it takes it off the list when it moves on (COLL-048). */
export function unregisterFromKhugepaged(m: MmState, mm: Mm): void {
  const { mms, cursorMm } = m.khugepaged;
  if (mm.isKhugepagedCandidate && cursorMm !== mm.id) mms.splice(mms.indexOf(mm.id), 1);
}

/** There may be something to do: a daemon that waits for that looks. A scan sleep goes on (COLL-071). */
export function wakeFromIdle(m: MmState): void {
  if (m.khugepaged.pause === "idle") endSleep(m);
}

/** Whatever the daemon pauses for, the pause is over now. */
export function endSleep(m: MmState): void {
  const { task } = m.khugepaged;
  if (task !== NO_TASK) taskOf(m, task).wakeNs = m.sched.nowNs;
}
