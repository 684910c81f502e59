/**
 * Collapses that go on phase by phase between the steps of a random history.
 *
 * Entry: FuzzCollapse.step begins one or runs one phase of it; whoever needs its address space runs it to its end. Used by
 *        tests only.
 */

import { HUGE_SIZE } from "../base/address.ts";
import { beginCollapse } from "../collapse/collapse-phases.ts";
import { beginMadviseCollapse } from "../collapse/madvise-collapse.ts";
import { ACTOR } from "../collapse/scan-result.ts";
import type { Mm } from "../mm/state.ts";
import { findOperation, runToEnd, stepOperation } from "../sched/runner.ts";
import { createTask } from "../sched/tasks.ts";
import type { Machine } from "./machine.ts";

export class FuzzCollapse {
  private readonly task: number;
  private operation = 0;

  constructor(m: Machine) {
    this.task = createTask(m, "collapser").id;
  }

  /** Begins a collapse at `region`, by one actor or the other, or of two regions; or goes on with the last one. */
  step(m: Machine, mm: Mm, region: number, variant: number): void {
    if (findOperation(m, this.operation) === null)
      this.operation = this.begin(m, mm, region, variant);
    // Far enough at times that the next step finds the pages taken.
    for (let nr = 1 + (variant % 8); nr > 0; nr--)
      if (findOperation(m, this.operation) !== null) stepOperation(m, this.operation);
  }

  private begin(m: Machine, mm: Mm, region: number, variant: number): number {
    const start = region * HUGE_SIZE;
    switch (variant % 3) {
      case 0:
        return beginCollapse(m, this.task, mm, region, ACTOR.khugepaged).id;
      case 1:
        return beginCollapse(m, this.task, mm, region, ACTOR.madvise).id;
      default:
        return beginMadviseCollapse(m, this.task, mm, start, start + 2 * HUGE_SIZE).id;
    }
  }

  /** Runs what is under way to its end. */
  end(m: Machine): void {
    if (findOperation(m, this.operation) !== null) runToEnd(m, this.operation);
  }
}
