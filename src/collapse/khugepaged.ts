/**
 * khugepaged as plain calls: one pass at once, or all that fall due up to a moment of virtual time.
 *
 * Entry: runKhugepagedPass (a wake-up now, whatever the daemon pauses for), runDueDaemons (a replay lets time pass).
 * Owns:  nothing; the daemon's state is m.khugepaged and its task.
 * Units: nanoseconds of virtual time.
 * Rules: COLL-030, COLL-071..073.
 */

import { endIfStopped } from "../huge/khugepaged-thread.ts";
import type { HugeState } from "../huge/knobs.ts";
import { NO_TASK } from "../mm/khugepaged-list.ts";
import { runToEnd, stepOperation } from "../sched/runner.ts";
import { taskOf } from "../sched/tasks.ts";
import { workNs } from "./khugepaged-cost.ts";
import { beginPass, passUnderWay } from "./khugepaged-phases.ts";

/**
 * One pass from its begin to its end, now; if it sleeps for memory, time passes. A pass that is under way is finished. Regions
 * collapsed; null if nothing ran to its end: there is no thread, it is frozen, or the pass waits for somebody who is held.
 */
export function runKhugepagedPass(m: HugeState): number | null {
  endIfStopped(m);
  const { khugepaged } = m;
  if (khugepaged.task === NO_TASK || khugepaged.isFrozen) return null;
  const pass = passUnderWay(m) ?? beginPass(m);
  const result = runToEnd(m, pass.id);
  endIfStopped(m);
  return result;
}

/**
 * Virtual time goes on to `untilNs`, and khugepaged does all that falls due on the way. Its work takes the time that `prices`
 * (ns by COST) gives it: it pauses that much later. The rest of the machine stands still meanwhile.
 */
export function runDueDaemons(m: HugeState, untilNs: number, prices: Float64Array): void {
  while (isDue(m, untilNs)) {
    const { khugepaged } = m;
    const task = taskOf(m, khugepaged.task);
    m.sched.nowNs = Math.max(m.sched.nowNs, task.wakeNs);
    const before = { ...khugepaged.work };
    const isStuck = !runToPause(m);
    const busyNs = workNs(prices, before, khugepaged.work);
    khugepaged.work.busyNs += busyNs;
    if (isStuck) break;
    if (khugepaged.task === NO_TASK) break;
    task.wakeNs = Math.max(task.wakeNs + busyNs, m.sched.nowNs + LEAST_PASS_NS);
  }
  m.sched.nowNs = Math.max(m.sched.nowNs, untilNs);
}

/** Nobody wakes again sooner, or a daemon that does not sleep and finds nothing would never let time go on. */
const LEAST_PASS_NS = 1000;

function isDue(m: HugeState, untilNs: number): boolean {
  endIfStopped(m);
  const { khugepaged } = m;
  if (khugepaged.task === NO_TASK || taskOf(m, khugepaged.task).wakeNs > untilNs) return false;
  const pass = passUnderWay(m);
  // Frozen, it goes on to its next pause: it freezes there (COLL-030).
  const isPausing = pass === null || khugepaged.pause === "alloc";
  return pass?.isHeld !== true && !(khugepaged.isFrozen && isPausing);
}

/** Begins or continues a pass until the daemon pauses. False if somebody else has to go on first. */
function runToPause(m: HugeState): boolean {
  const pass = passUnderWay(m) ?? beginPass(m);
  do {
    const step = stepOperation(m, pass.id);
    if (step === "done") return true;
    if (step === "blocked") return runToEnd(m, pass.id) !== null;
  } while (m.khugepaged.pause !== "alloc");
  return true;
}
