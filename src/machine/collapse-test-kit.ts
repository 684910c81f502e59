/**
 * What the tests of collapse share: one region collapsed phase by phase, with the whole machine checked at every boundary.
 */

import { regionOf } from "../base/address.ts";
import { EVENT_NAMES } from "../base/events.ts";
import { beginCollapse } from "../collapse/collapse-phases.ts";
import { ACTOR, scanResultName } from "../collapse/scan-result.ts";
import { stepOperation } from "../sched/runner.ts";
import { createTask, endTask } from "../sched/tasks.ts";
import { type Kit, part, type Range } from "./test-kit.ts";

/** The region at the start of the range, by khugepaged or by MADV_COLLAPSE: the name of the result. */
export function collapse(t: Kit, range: Range, actor: keyof typeof ACTOR = "khugepaged"): string {
  const task = createTask(t.m, "collapser", range.mm.id);
  const op = beginCollapse(t.m, task.id, range.mm, regionOf(range.start), ACTOR[actor]);
  let phase = stepOperation(t.m, op.id);
  while (phase === "ran") {
    t.check();
    phase = stepOperation(t.m, op.id);
  }
  t.check();
  if (phase === "blocked") throw new Error(`the collapse waits before ${op.phase}`);
  endTask(t.m, task.id);
  return scanResultName(op.result);
}

/** 512 pages of 4 KiB that were written and may be collapsed by khugepaged. */
export function written(t: Kit, nr = 512): Range {
  const range = t.map({ huge: 1, advice: "NOHUGEPAGE" });
  t.fill(part(range, 0, nr));
  t.madvise(range, "HUGEPAGE");
  return range;
}

/** Events of the machine from now on, each as its name and fields. */
export function record(t: Kit, only: RegExp): (string | number)[][] {
  const events: (string | number)[][] = [];
  t.m.events = {
    emit: (event: number, ...fields: number[]) => {
      if (only.test(EVENT_NAMES[event])) events.push([EVENT_NAMES[event], ...fields]);
    },
  };
  return events;
}
