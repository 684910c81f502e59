/**
 * khugepaged's thread: when it exists, what wakes it, freezing; and which VMAs bring their address space onto its list.
 *
 * Entry: startOrStopKhugepaged after boot and each write of an `enabled` file; offerToKhugepaged wherever COLL-042 tests a VMA;
 *        freezeKhugepaged, thawKhugepaged.
 * Owns:  the life of the task; what it does while it lives is in collapse/.
 * Rules: COLL-020..030, 040..043.
 */

import { assert } from "../base/assert.ts";
import {
  endSleep,
  NO_MM,
  NO_TASK,
  registerWithKhugepaged,
  wakeFromIdle,
} from "../mm/khugepaged-list.ts";
import type { Mm, VmaObserver } from "../mm/state.ts";
import type { Vma } from "../mm/vma.ts";
import { recommendMinFreeForThp, resetMinFree } from "../phys/watermarks.ts";
import { runToEnd } from "../sched/runner.ts";
import type { Operation } from "../sched/state.ts";
import { createTask, endTask, NEVER, sleepTask, taskOf } from "../sched/tasks.ts";
import { mayCollapse } from "./eligibility.ts";
import { type HugeState, isPmdEnabled } from "./knobs.ts";

const NS_PER_MILLISECOND = 1e6;

/**
 * After boot and after each accepted write to an `enabled` file, also of the value in force: the thread, then min_free_kbytes
 * (COLL-023, COLL-026).
 */
export function startOrStopKhugepaged(m: HugeState): void {
  m.isKhugepagedRunning = m.thpSupport === "supported" && isPmdEnabled(m.knobs, m.profile);
  if (m.isKhugepagedRunning) {
    startThread(m);
    recommendMinFreeForThp(m);
  } else {
    stopThread(m);
    resetMinFree(m);
  }
}

function startThread(m: HugeState): void {
  const { khugepaged } = m;
  endIfStopped(m);
  khugepaged.isStopping = false;
  if (khugepaged.task !== NO_TASK) {
    if (khugepaged.mms.length > 0) wakeFromIdle(m);
    return;
  }
  khugepaged.task = createTask(m, "khugepaged").id;
  khugepaged.pause = "none";
}

/** The writer waits for the pass under way; one that is held ends later, and its thread with it. */
function stopThread(m: HugeState): void {
  const { khugepaged } = m;
  if (khugepaged.task === NO_TASK) return;
  khugepaged.isStopping = true;
  endSleep(m);
  const pass = m.sched.operations.find(isPass);
  if (pass !== undefined && !pass.isHeld && m.sched.current !== pass.task) runToEnd(m, pass.id);
  endIfStopped(m);
}

function isPass(op: Operation): boolean {
  return op.table === "khugepaged";
}

/**
 * Ends a thread that was told to stop, once no pass of it is under way. Nobody is unregistered; the cursor goes back to the
 * head of the list (COLL-025).
 */
export function endIfStopped(m: HugeState): void {
  const { khugepaged } = m;
  if (!khugepaged.isStopping || khugepaged.task === NO_TASK) return;
  if (m.sched.operations.some(isPass)) return;
  endTask(m, khugepaged.task);
  khugepaged.task = NO_TASK;
  khugepaged.isStopping = false;
  khugepaged.pause = "none";
  leaveCursorMm(m);
  khugepaged.cursorMm = NO_MM;
}

/** The cursor is about to leave its address space: one that has ended leaves the list now (COLL-048). */
export function leaveCursorMm(m: HugeState): void {
  const { mms, cursorMm } = m.khugepaged;
  if (cursorMm === NO_MM || m.mms[cursorMm] !== null) return;
  const at = mms.indexOf(cursorMm);
  assert(at >= 0, "the address space at khugepaged's cursor is not on its list");
  mms.splice(at, 1);
}

/** The daemon pauses: for its next pass, for memory, or until somebody is registered (COLL-071, COLL-072). */
export function pauseKhugepaged(m: HugeState, pause: "scan" | "alloc" | "idle"): void {
  const { khugepaged } = m;
  const { scan_sleep_millisecs, alloc_sleep_millisecs } = m.knobs.khugepaged;
  khugepaged.pause = pause;
  const millisecs = pause === "scan" ? scan_sleep_millisecs : alloc_sleep_millisecs;
  const sleepNs = pause === "idle" ? NEVER : millisecs * NS_PER_MILLISECOND;
  sleepTask(m, taskOf(m, khugepaged.task), sleepNs);
}

/** From now on no pass begins and no pause ends; what is under way goes on to its next pause (COLL-030). */
export function freezeKhugepaged(m: HugeState): void {
  m.khugepaged.isFrozen = true;
}

/** Passes that fell due in the meantime are due now, once. */
export function thawKhugepaged(m: HugeState): void {
  m.khugepaged.isFrozen = false;
}

/** The registration test (COLL-041): the address space goes onto the list if khugepaged may work in the VMA. */
export function offerToKhugepaged(m: HugeState, mm: Mm, vma: Vma): void {
  if (mm.isKhugepagedCandidate || !m.isKhugepagedRunning) return;
  if (mayCollapse(m, mm, vma)) registerWithKhugepaged(m, mm);
}

/** COLL-042: a VMA that took in a neighbour or grew in its place is tested. */
export const OFFERS_TO_KHUGEPAGED: VmaObserver = {
  vmaGrew(m: HugeState, mm: Mm, vma: Vma): void {
    offerToKhugepaged(m, mm, vma);
  },
};
