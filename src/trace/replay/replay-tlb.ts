/**
 * TLB and page walks during replay: the recorded order of accesses goes through the modelled translation hardware.
 *
 * Owns:  the translation state and the scaled totals. Windows stand for more accesses than they hold: what is counted in
 *        one is multiplied by what it represents.
 * Holds: a sampled window starts with whatever the TLB held, so its first part only warms the TLB and is not counted.
 */

import { PTES_PER_REGION } from "../../base/address.ts";
import {
  flushAsid,
  flushPage,
  flushRegion,
  HW_COUNTER,
  NR_HW_COUNTERS,
  type Translation,
  translateRun,
} from "../../hw/translate.ts";
import type { Mm, MmState, MmuNotifier } from "../../mm/state.ts";
import type { ReplayMeter } from "./replay-meter.ts";

/** Beyond this many pages the whole address space is flushed, as Linux does. */
const FLUSH_CEILING_PAGES = 33;
/** Marks are kept at 1, 2, 4 ... 2^39 accesses of a window. */
const NR_MARKS = 40;
/** Share of a sampled window that only warms the TLB. */
const WARM_UP = 1 / 4;

const ACCESSES = HW_COUNTER.accesses;

/** Names the window of a region in ReplayTlb.windows. */
export function windowKey(mmId: number, region: number): string {
  return `${mmId}:${region}`;
}

export class ReplayTlb implements MmuNotifier {
  /** Scaled to the whole run, by HW_COUNTER. */
  readonly totals = new Float64Array(NR_HW_COUNTERS);
  /** Cycles of walks by 2 MiB window (windowKey), not scaled; null unless somebody wants to know. */
  windows: Map<string, number> | null = null;
  private readonly m: MmState;
  private readonly t: Translation;
  /** Per CPU: counters at the start of its window, then at each mark. Rows: (1 + NR_MARKS) x NR_HW_COUNTERS. */
  private readonly marks: Float64Array[];
  /** Per CPU: accesses at which the next mark is taken. */
  private readonly nextMark: Float64Array;
  /** Per CPU: marks taken in its window. */
  private readonly nrMarks: Int32Array;

  constructor(m: MmState, t: Translation) {
    this.m = m;
    this.t = t;
    this.marks = t.cpus.map(() => new Float64Array((1 + NR_MARKS) * NR_HW_COUNTERS));
    this.nextMark = new Float64Array(t.cpus.length).fill(Number.POSITIVE_INFINITY);
    this.nrMarks = new Int32Array(t.cpus.length);
  }

  beginWindow(cpu: number): void {
    this.marks[cpu].set(this.t.cpus[cpu].counters, 0);
    this.nrMarks[cpu] = 0;
    this.nextMark[cpu] = this.t.cpus[cpu].counters[ACCESSES] + 1;
  }

  /** `count` accesses in a row. False if they need a page fault first. */
  access(
    cpu: number,
    mm: Mm,
    region: number,
    pteIndex: number,
    count: number,
    isWrite: boolean,
  ): boolean {
    const { t, m } = this;
    if (this.windows !== null)
      return this.watched(this.windows, cpu, mm, region, pteIndex, count, isWrite);
    const found = translateRun(t, cpu, m.tables, mm.root, mm.id, region, pteIndex, isWrite, count);
    if (t.cpus[cpu].counters[ACCESSES] >= this.nextMark[cpu]) this.takeMark(cpu);
    return found >= 0;
  }

  /** As access, with the walks noted by window. */
  private watched(
    windows: Map<string, number>,
    cpu: number,
    mm: Mm,
    region: number,
    pteIndex: number,
    count: number,
    isWrite: boolean,
  ): boolean {
    const { counters } = this.t.cpus[cpu];
    const before = counters[HW_COUNTER.walkCycles];
    this.windows = null;
    const isDone = this.access(cpu, mm, region, pteIndex, count, isWrite);
    this.windows = windows;
    const key = windowKey(mm.id, region);
    const walked = counters[HW_COUNTER.walkCycles] - before;
    if (walked > 0) windows.set(key, (windows.get(key) ?? 0) + walked);
    return isDone;
  }

  private takeMark(cpu: number): void {
    if (this.nrMarks[cpu] === NR_MARKS) return;
    const { counters } = this.t.cpus[cpu];
    this.nrMarks[cpu]++;
    this.marks[cpu].set(counters, this.nrMarks[cpu] * NR_HW_COUNTERS);
    const start = this.marks[cpu][ACCESSES];
    this.nextMark[cpu] = start + (counters[ACCESSES] - start) * 2;
  }

  /** The window of this CPU is over; it stands for `nrRepresented` accesses. */
  endWindow(cpu: number, nrRepresented: number, meter: ReplayMeter): void {
    const { counters } = this.t.cpus[cpu];
    const marks = this.marks[cpu];
    const nrInWindow = counters[ACCESSES] - marks[ACCESSES];
    if (nrInWindow === 0) return;
    const from = nrRepresented > nrInWindow ? this.warmMark(cpu, nrInWindow) : 0;
    const nrCounted = counters[ACCESSES] - marks[from * NR_HW_COUNTERS + ACCESSES];
    const weight = Math.max(nrRepresented, nrInWindow) / nrCounted;
    const before = this.totals[HW_COUNTER.walkCycles];
    for (let i = 0; i < NR_HW_COUNTERS; i++)
      this.totals[i] += (counters[i] - marks[from * NR_HW_COUNTERS + i]) * weight;
    meter.walkCycles += this.totals[HW_COUNTER.walkCycles] - before;
    this.nextMark[cpu] = Number.POSITIVE_INFINITY;
  }

  /** The latest mark within the warm-up share; 0 is the start. */
  private warmMark(cpu: number, nrInWindow: number): number {
    const marks = this.marks[cpu];
    let mark = 0;
    while (
      mark < this.nrMarks[cpu] &&
      marks[(mark + 1) * NR_HW_COUNTERS + ACCESSES] - marks[ACCESSES] <= nrInWindow * WARM_UP
    )
      mark++;
    return mark;
  }

  invalidateRange(mmId: number, startPage: number, endPage: number): void {
    const nrPages = endPage - startPage;
    if (nrPages > PTES_PER_REGION) {
      flushAsid(this.t, mmId);
    } else if (nrPages > FLUSH_CEILING_PAGES) {
      const last = Math.floor((endPage - 1) / PTES_PER_REGION);
      for (let r = Math.floor(startPage / PTES_PER_REGION); r <= last; r++)
        flushRegion(this.t, mmId, r);
    } else {
      for (let page = startPage; page < endPage; page++) {
        const region = Math.floor(page / PTES_PER_REGION);
        flushPage(this.t, mmId, region, page - region * PTES_PER_REGION);
      }
    }
  }

  release(mmId: number): void {
    flushAsid(this.t, mmId);
  }
}
