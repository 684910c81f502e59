/**
 * An observation of the live kernel, decoded from the supervisor's answer.
 *
 * Contract: V_OBSERVE in native/scenario/protocol.h and the put_* functions of observe.h, in the order below.
 * Holds: what belongs to the supervisor's own part of a process (program, stack) is taken off.
 */

import { PAGE_SIZE } from "../base/address.ts";
import type { PlacedRange } from "../scenario/layout.ts";
import {
  type Observation,
  PAGE_STATES,
  type PageColumns,
  type ProcessObservation,
  type RangeObservation,
  SMAPS_FIELDS,
  STATUS_FIELDS,
  type VmaObservation,
} from "../scenario/observation.ts";
import type { KernelRun, KernelTask } from "./kernel-statements.ts";
import { type FrameReader, FrameWriter, VERB } from "./kernel-wire.ts";

/** struct page_record and struct vma_record. */
const PAGE_RECORD_BYTES = 16;
const VMA_RECORD_BYTES = 192;

const UNMAPPED = PAGE_STATES.indexOf("unmapped");
const NONE = PAGE_STATES.indexOf("none");
const HUGE_ZERO = PAGE_STATES.indexOf("hugezero");

/** What does not change while the supervisor runs. */
export interface KernelNames {
  readonly vmstat: readonly string[];
  readonly stats: readonly string[];
  /** VmPTE of a process of the supervisor's that has done nothing yet, kB. */
  readonly ownTablesKb: number;
}

export function processesOf(run: KernelRun): KernelTask[] {
  return [...run.tasks.values()].filter((task) => task.name === task.process);
}

export function observeKernel(run: KernelRun, names: KernelNames): Observation {
  const processes = processesOf(run);
  const ranges = [...run.layout.ranges.values()].filter((range) => range.nrPages > 0);
  const frame = new FrameWriter(VERB.OBSERVE).u32(1);
  frame.u32(processes.length);
  for (const process of processes) {
    frame.u32(process.channel).u32(ranges.length);
    for (const range of ranges) frame.u64(range.start).u32(range.nrPages);
  }
  const answer = run.supervisor.ask(frame);
  const folios = new Map<number, number>();
  const seen = {
    processes: processes.map((process) => takeProcess(answer, process, ranges, names, folios)),
    counters: takeCounters(answer, names),
  };
  countHugeZero(run, seen);
  return seen;
}

interface Seen extends Observation {
  readonly counters: Record<string, number>;
}

/**
 * The huge zero page may still be there from a program before. The scenario's first use of it counts as the allocation that it
 * would have been, so that what is counted does not depend on what ran before (ANON-080).
 */
function countHugeZero(run: KernelRun, { processes, counters }: Seen): void {
  const name = "thp_zero_page_alloc";
  if (run.hugeZeroBefore === "unknown") {
    const isMapped = processes.some(({ ranges }) =>
      ranges.some(({ pages }) => pages.state.includes(HUGE_ZERO)),
    );
    if (counters[name] !== undefined) run.hugeZeroBefore = "absent";
    else if (isMapped) run.hugeZeroBefore = "present";
  }
  if (run.hugeZeroBefore === "present") counters[name] = (counters[name] ?? 0) + 1;
}

function takeProcess(
  answer: FrameReader,
  process: KernelTask,
  ranges: readonly PlacedRange[],
  names: KernelNames,
  folios: Map<number, number>,
): ProcessObservation {
  const minflt = answer.s64();
  const majflt = answer.s64();
  const status: Record<string, number> = {};
  for (const field of STATUS_FIELDS) status[field] = answer.s64();
  const allVmas = takeVmas(answer);
  status.RssAnon -= answer.u64();
  status.VmLck -= answer.u64();
  status.VmPTE -= names.ownTablesKb;
  const vmas = allVmas.filter((vma) =>
    ranges.some(
      (range) => vma.start < range.start + range.nrPages * PAGE_SIZE && vma.end > range.start,
    ),
  );
  return {
    name: process.name,
    ranges: ranges.map((range) => takeRange(answer, range, vmas, folios)),
    vmas,
    status,
    minflt,
    majflt,
  };
}

function takeVmas(answer: FrameReader): VmaObservation[] {
  answer.align();
  const nr = answer.u32();
  const vmas: VmaObservation[] = [];
  for (let i = 0; i < nr; i++) {
    answer.align();
    const [start, end] = [answer.u64(), answer.u64()];
    const permissions = answer.chars(8);
    const smaps: Record<string, number> = {};
    for (const field of SMAPS_FIELDS) smaps[field] = answer.u32();
    const flags = answer
      .chars(VMA_RECORD_BYTES - 24 - 4 * SMAPS_FIELDS.length)
      .split(" ")
      .filter((flag) => flag !== "");
    vmas.push({ start, end, permissions, flags, smaps });
  }
  return vmas;
}

function takeRange(
  answer: FrameReader,
  range: PlacedRange,
  vmas: readonly VmaObservation[],
  folios: Map<number, number>,
): RangeObservation {
  const { name, start, nrPages } = range;
  const records = answer.room(nrPages * PAGE_RECORD_BYTES);
  const pages: PageColumns = {
    state: new Uint8Array(nrPages),
    folio: new Int32Array(nrPages),
    index: new Int32Array(nrPages),
    order: new Uint8Array(nrPages),
    mapcount: new Int32Array(nrPages),
    bits: new Uint16Array(nrPages),
  };
  for (let i = 0; i < nrPages; i++) takePage(records, i, pages, folios);
  markUnmapped(pages.state, start, vmas);
  return { name, start, nrPages, pages };
}

function takePage(
  records: DataView,
  i: number,
  pages: PageColumns,
  folios: Map<number, number>,
): void {
  const at = i * PAGE_RECORD_BYTES;
  const head = records.getUint32(at, true);
  let folio = -1;
  if (head !== 0) {
    folio = folios.get(head) ?? folios.size;
    folios.set(head, folio);
  }
  pages.folio[i] = folio;
  pages.mapcount[i] = records.getUint32(at + 4, true);
  pages.index[i] = records.getUint16(at + 8, true);
  pages.bits[i] = records.getUint16(at + 10, true);
  pages.order[i] = records.getUint8(at + 12);
  pages.state[i] = records.getUint8(at + 13);
}

/** The supervisor cannot tell "nothing there" from "no VMA there". */
function markUnmapped(state: Uint8Array, start: number, vmas: readonly VmaObservation[]): void {
  let next = 0;
  for (let i = 0; i < state.length; i++) {
    const address = start + i * PAGE_SIZE;
    while (next < vmas.length && vmas[next].end <= address) next++;
    const isMapped = next < vmas.length && vmas[next].start <= address;
    if (!isMapped && state[i] === NONE) state[i] = UNMAPPED;
  }
}

function takeCounters(answer: FrameReader, names: KernelNames): Record<string, number> {
  const counters: Record<string, number> = {};
  for (const list of [names.vmstat, names.stats]) {
    const nr = answer.u32();
    for (let i = 0; i < nr; i++) {
      const change = answer.s64();
      if (change !== 0) counters[list[i]] = change;
    }
  }
  return counters;
}
