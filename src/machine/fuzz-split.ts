/**
 * A long operation that goes on phase by phase between the steps of a random history: a folio split, a migration, a page-out, a
 * swap-in, swapoff.
 *
 * Entry: FuzzSplit.step begins one or runs one phase of it; anybody else's fault may run it to its end. Used by tests only.
 */

import type { Pfn } from "../base/address.ts";
import { swapSlotOf, translateToPfn } from "../fault/fault.ts";
import { beginFault } from "../fault/huge-fault-phases.ts";
import { beginSwapOff } from "../fault/swap-off-phases.ts";
import { beginSplit } from "../huge/split-folio.ts";
import { getPage, putPage } from "../mm/pins.ts";
import type { Mm } from "../mm/state.ts";
import { headOf, NO_PFN, PG } from "../phys/frame-table.ts";
import { fieldsFor, migratePhases } from "../reclaim/migrate-phases.ts";
import { isFolioBusy } from "../sched/locks.ts";
import { findOperation, runToEnd, startOperation, stepOperation } from "../sched/runner.ts";
import { createTask } from "../sched/tasks.ts";
import { beginMadvise, MADV } from "../syscall/madvise.ts";
import type { Machine } from "./machine.ts";

/** Orders to split to; most often single pages. */
const NEW_ORDERS = [0, 0, 0, 2, 3, 4, 8];

export class FuzzSplit {
  private readonly task: number;
  private operation = 0;
  /** The page it refers to, NO_PFN if none. */
  private page: Pfn = NO_PFN;

  /** Told of references that come (+1) and go (-1), by page. */
  private readonly note: (pfn: Pfn, nr: number) => void;

  constructor(m: Machine, note: (pfn: Pfn, nr: number) => void) {
    this.note = note;
    this.task = createTask(m, "splitter").id;
  }

  /**
   * Page `at` of `mm` is paged out with those behind it, or its folio is moved, or split if it is large; if it is in swap, it is
   * faulted in, or the device emptied.
   */
  step(m: Machine, mm: Mm, at: number, variant: number): void {
    if (this.operation === 0) this.begin(m, mm, at, variant);
    else if (findOperation(m, this.operation) !== null) stepOperation(m, this.operation);
    this.settle(m);
  }

  private begin(m: Machine, mm: Mm, at: number, variant: number): void {
    const place = [Math.floor(at / 512), at % 512] as const;
    const isSwapped = swapSlotOf(m, mm, ...place) >= 0;
    if (isSwapped && variant % 4 === 0) this.operation = beginSwapOff(m, this.task, 0).id;
    else if (isSwapped) this.beginSwapIn(m, mm, place, variant);
    else if (variant % 2 === 0) this.beginAdvice(m, mm, at, variant);
    else this.beginOnFolio(m, translateToPfn(m, mm, ...place), variant >>> 1);
  }

  /** The fault looks at its address space at once: a thread that faults keeps it alive. */
  private beginSwapIn(
    m: Machine,
    mm: Mm,
    place: readonly [region: number, pteIndex: number],
    variant: number,
  ): void {
    const access = variant % 3 === 0 ? "write" : "read";
    this.operation = beginFault(m, this.task, mm, ...place, access).id;
    stepOperation(m, this.operation);
  }

  private beginAdvice(m: Machine, mm: Mm, at: number, variant: number): void {
    const advice = variant % 3 === 0 ? MADV.COLD : MADV.PAGEOUT;
    const nrPages = [1, 3, 16, 600][(variant >>> 2) % 4];
    const op = beginMadvise(m, this.task, mm, at * 4096, nrPages * 4096, advice);
    this.operation = op?.id ?? 0;
  }

  /** Runs what is under way to its end. */
  end(m: Machine): void {
    if (findOperation(m, this.operation) !== null) runToEnd(m, this.operation);
    this.settle(m);
  }

  private beginOnFolio(m: Machine, pfn: Pfn, variant: number): void {
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
    if (this.page === NO_PFN) return;
    this.note(this.page, -1);
    putPage(m, this.page);
    this.page = NO_PFN;
  }
}
