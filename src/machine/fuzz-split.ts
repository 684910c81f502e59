/**
 * A folio split or migration that goes on phase by phase between the steps of a random history.
 *
 * Entry: FuzzSplit.step begins one or runs one phase of it; anybody else's fault may run it to its end. Used by tests only.
 */

import type { Pfn } from "../base/address.ts";
import { beginSplit } from "../huge/split-folio.ts";
import { getPage, putPage } from "../mm/pins.ts";
import { headOf, PG } from "../phys/frame-table.ts";
import { fieldsFor, migratePhases } from "../reclaim/migrate-phases.ts";
import { isFolioBusy } from "../sched/locks.ts";
import { findOperation, runToEnd, startOperation, stepOperation } from "../sched/runner.ts";
import { createTask } from "../sched/tasks.ts";
import type { Machine } from "./machine.ts";

/** Orders to split to; most often single pages. */
const NEW_ORDERS = [0, 0, 0, 2, 3, 4, 8];

export class FuzzSplit {
  private readonly task: number;
  private operation = 0;
  private page: Pfn = 0;

  /** Told of references that come (+1) and go (-1), by page. */
  private readonly note: (pfn: Pfn, nr: number) => void;

  constructor(m: Machine, note: (pfn: Pfn, nr: number) => void) {
    this.note = note;
    this.task = createTask(m, "splitter").id;
  }

  /** `pfn` is any frame, -1 for none: its folio is moved, or split if it is large, if it is one of anonymous memory. */
  step(m: Machine, pfn: Pfn, variant: number): void {
    if (this.operation === 0) this.begin(m, pfn, variant);
    else if (findOperation(m, this.operation) !== null) stepOperation(m, this.operation);
    this.settle(m);
  }

  /** Runs what is under way to its end. */
  end(m: Machine): void {
    if (findOperation(m, this.operation) !== null) runToEnd(m, this.operation);
    this.settle(m);
  }

  private begin(m: Machine, pfn: Pfn, variant: number): void {
    const { frames } = m;
    if (pfn < 0) return;
    const head = headOf(frames, pfn);
    if ((frames.flags[head] & PG.ANON) === 0 || isFolioBusy(m, head)) return;
    const isMoved = variant % 3 === 0;
    if (frames.order[head] === 0 && !isMoved) return;
    getPage(m, pfn);
    this.note(pfn, 1);
    this.page = pfn;
    if (isMoved) {
      this.operation = startOperation(m, migratePhases, this.task, fieldsFor(m, head)).id;
      return;
    }
    const newOrder = NEW_ORDERS[variant % NEW_ORDERS.length];
    this.operation = beginSplit(m, this.task, head, newOrder, pfn).id;
  }

  /** Once it is over, by whomever, the reference goes. */
  settle(m: Machine): void {
    if (this.operation === 0 || findOperation(m, this.operation) !== null) return;
    this.operation = 0;
    this.note(this.page, -1);
    putPage(m, this.page);
  }
}
