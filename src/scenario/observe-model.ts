/**
 * What can be seen of the model: pages of the scenario's ranges, their VMAs, and counters.
 *
 * Entry: createObserver, observe.
 * Cost:  a pass over the pages of the ranges and one over the entries of their VMAs; nothing else of the machine is looked at.
 */

import { type Addr, PAGE_SIZE, PTES_PER_REGION, pteIndexOf, regionOf } from "../base/address.ts";
import { NR_THP_STATS, THP_STAT_NAMES, VMSTAT_NAMES } from "../base/counters.ts";
import { isThpEligible } from "../huge/eligibility.ts";
import { ANON_ORDERS } from "../huge/knobs.ts";
import type { Machine } from "../machine/machine.ts";
import { ENTRY, MARKER, pmdSlotOf } from "../mm/page-tables.ts";
import { pageMapcount } from "../mm/rmap.ts";
import type { Mm } from "../mm/state.ts";
import { firstVmaIndex, VM, type Vma } from "../mm/vma.ts";
import { headOf, PG } from "../phys/frame-table.ts";
import { addVma, emptySums, pssKb } from "../report/memory-sums.ts";
import { vmFlagsText } from "../report/vma-words.ts";
import type { Layout, PlacedRange } from "./layout.ts";
import {
  type Observation,
  PAGE_BIT,
  PAGE_STATES,
  type PageColumns,
  type PageState,
  type ProcessObservation,
  type RangeObservation,
  type VmaObservation,
} from "./observation.ts";

const STATE = Object.fromEntries(PAGE_STATES.map((name, i) => [name, i])) as Readonly<
  Record<PageState, number>
>;

/** Counted by khugepaged, shown in its folder and not in vmstat. */
const DAEMON_COUNTS = ["pages_collapsed", "full_scans"] as const;

/** A process of the scenario. */
export interface ObservedProcess {
  readonly name: string;
  readonly mm: Mm;
  /** Pages that its long-term pins are charged for. */
  readonly nrPinned: number;
}

export interface Observer {
  readonly m: Machine;
  /** vmstat when the scenario began. Rows: VMSTAT. */
  readonly vmstat: Float64Array;
  /** Per-size stats when the scenario began. Rows: as m.thpStats. */
  readonly thpStats: Float64Array;
  /** khugepaged's own counts when the scenario began. */
  readonly daemon: Readonly<Record<(typeof DAEMON_COUNTS)[number], number>>;
  /** Number a folio has in the observation `epoch`. Rows: heads whose epochs entry is `epoch`. */
  readonly numbers: Int32Array;
  /** Observation in which the folio was numbered last. Rows: heads. */
  readonly epochs: Int32Array;
  epoch: number;
}

/** Counters count from here. */
export function createObserver(m: Machine): Observer {
  return {
    m,
    vmstat: Float64Array.from(m.vmstat),
    thpStats: Float64Array.from(m.thpStats),
    daemon: { ...m.knobs.khugepaged },
    numbers: new Int32Array(m.frames.nrFrames),
    epochs: new Int32Array(m.frames.nrFrames),
    epoch: 0,
  };
}

export function observe(
  observer: Observer,
  layout: Layout,
  processes: readonly ObservedProcess[],
): Observation {
  observer.epoch++;
  const pass = { observer, nrFolios: 0 };
  const ranges = [...layout.ranges.values()];
  return {
    processes: processes.map((process) => observeProcess(pass, ranges, process)),
    counters: countersOf(observer),
  };
}

/** One observation in the making. */
interface Pass {
  readonly observer: Observer;
  /** Folios numbered so far. */
  nrFolios: number;
}

function observeProcess(
  pass: Pass,
  ranges: readonly PlacedRange[],
  process: ObservedProcess,
): ProcessObservation {
  const { m } = pass.observer;
  const { mm } = process;
  const nrLocked = mm.vmas.reduce(
    (sum, vma) => sum + ((vma.flags & VM.LOCKED) !== 0 ? vma.end - vma.start : 0),
    0,
  );
  return {
    name: process.name,
    ranges: ranges.map((range) => observeRange(pass, mm, range)),
    vmas: vmasIn(mm, ranges).map((vma) => observeVma(m, mm, vma)),
    status: {
      VmLck: nrLocked / 1024,
      VmPin: process.nrPinned * 4,
      RssAnon: mm.rssAnon * 4,
      VmPTE: (mm.nrTables - 1) * 4,
      VmSwap: mm.nrSwapEntries * 4,
      THP_enabled: mm.thpDisable === "all" ? 0 : 1,
    },
    minflt: mm.minflt,
    majflt: mm.majflt,
  };
}

/** VMAs that overlap a range, each once, in the order of addresses. */
function vmasIn(mm: Mm, ranges: readonly PlacedRange[]): Vma[] {
  return mm.vmas.filter((vma) =>
    ranges.some(({ start, nrPages }) => vma.start < start + nrPages * PAGE_SIZE && start < vma.end),
  );
}

function observeVma(m: Machine, mm: Mm, vma: Vma): VmaObservation {
  const { start, end, flags } = vma;
  const letter = (bit: number, text: string) => ((flags & bit) !== 0 ? text : "-");
  const access = letter(VM.READ, "r") + letter(VM.WRITE, "w") + letter(VM.EXEC, "x");
  return {
    start,
    end,
    permissions: access + ((flags & VM.SHARED) !== 0 ? "s" : "p"),
    flags: vmFlagsText(vma).trimEnd().split(" "),
    smaps: smapsOf(m, mm, vma),
  };
}

/** Fields of SMAPS_FIELDS, kB. */
function smapsOf(m: Machine, mm: Mm, vma: Vma): Record<string, number> {
  const sums = emptySums();
  addVma(m, mm, vma, sums);
  return {
    Size: (vma.end - vma.start) / 1024,
    Rss: sums.rss * 4,
    Pss: pssKb(sums.pss),
    Shared_Clean: sums.sharedClean * 4,
    Shared_Dirty: sums.sharedDirty * 4,
    Private_Clean: sums.privateClean * 4,
    Private_Dirty: sums.privateDirty * 4,
    Anonymous: sums.anonymous * 4,
    LazyFree: sums.lazyFree * 4,
    AnonHugePages: sums.anonHuge * 4,
    ShmemPmdMapped: sums.shmemPmdMapped * 4,
    FilePmdMapped: sums.filePmdMapped * 4,
    Swap: sums.swap * 4,
    SwapPss: pssKb(sums.swapPss),
    Locked: pssKb(sums.pssLocked),
    THPeligible: isThpEligible(m, mm, vma) ? 1 : 0,
  };
}

function observeRange(pass: Pass, mm: Mm, range: PlacedRange): RangeObservation {
  const { name, start, nrPages } = range;
  const pages: PageColumns = {
    state: new Uint8Array(nrPages),
    folio: new Int32Array(nrPages).fill(-1),
    index: new Int32Array(nrPages),
    order: new Uint8Array(nrPages),
    mapcount: new Int32Array(nrPages),
    bits: new Uint16Array(nrPages),
  };
  const end = start + nrPages * PAGE_SIZE;
  for (let i = firstVmaIndex(mm.vmas, start); i < mm.vmas.length; i++) {
    const vma = mm.vmas[i];
    if (vma.start >= end) break;
    fillVma(pass, mm, pages, start, Math.max(vma.start, start), Math.min(vma.end, end));
  }
  return { name, start, nrPages, pages };
}

/** Pages [from, to) of a range that begins at `base`, all in one VMA. */
function fillVma(pass: Pass, mm: Mm, pages: PageColumns, base: Addr, from: Addr, to: Addr): void {
  const { tables } = pass.observer.m;
  pages.state.fill(STATE.none, (from - base) / PAGE_SIZE, (to - base) / PAGE_SIZE);
  for (let at = from; at < to; ) {
    const region = regionOf(at);
    const pte = pteIndexOf(at);
    const nr = Math.min(PTES_PER_REGION - pte, (to - at) / PAGE_SIZE);
    const slot = pmdSlotOf(tables, mm.root, region);
    const flags = slot < 0 ? 0 : tables.flags[slot];
    const row = (at - base) / PAGE_SIZE;
    if ((flags & ENTRY.TABLE) !== 0) {
      const first = tables.payload[slot] * PTES_PER_REGION + pte;
      for (let i = 0; i < nr; i++)
        if (tables.flags[first + i] !== 0) fillPage(pass, pages, row + i, first + i, 0);
    } else if (flags !== 0) {
      for (let i = 0; i < nr; i++) fillPage(pass, pages, row + i, slot, pte + i);
      if (pass.observer.m.profile.pagemapExclusivePerPmd)
        repeatExclusive(pass.observer.m, pages, row, nr, tables.payload[slot]);
    }
    at += nr * PAGE_SIZE;
  }
}

/** ANON-250: bit 56 of a huge mapping is that of its first page. */
function repeatExclusive(
  m: Machine,
  pages: PageColumns,
  row: number,
  nr: number,
  head: number,
): void {
  const isExclusive = (m.frames.flags[head] & PG.ZERO) === 0 && pageMapcount(m, head) === 1;
  for (let i = row; i < row + nr; i++) {
    if (isExclusive) pages.bits[i] |= PAGE_BIT.EXCLUSIVE;
    else pages.bits[i] &= ~PAGE_BIT.EXCLUSIVE;
  }
}

/** One page whose entry at `slot` is not empty; `offset` is its place in a huge mapping. */
function fillPage(pass: Pass, pages: PageColumns, row: number, slot: number, offset: number): void {
  const { m } = pass.observer;
  const flags = m.tables.flags[slot];
  const payload = m.tables.payload[slot];
  if ((flags & ENTRY.UFFD_WP) !== 0) pages.bits[row] |= PAGE_BIT.UFFD_WP;
  if ((flags & ENTRY.PRESENT) === 0) {
    pages.state[row] = absentState(flags, payload);
    return;
  }
  const isHuge = (flags & ENTRY.HUGE) !== 0;
  const pfn = payload + offset;
  if ((m.frames.flags[pfn] & PG.ZERO) !== 0) {
    pages.state[row] = isHuge ? STATE.hugezero : STATE.zero;
    return;
  }
  const head = headOf(m.frames, pfn);
  const order = m.frames.order[head];
  pages.state[row] = isHuge ? STATE.huge : mappedState(m.frames.flags[head], order);
  pages.folio[row] = numberOf(pass, head);
  pages.index[row] = pfn - head;
  pages.order[row] = order;
  const mapcount = pageMapcount(m, pfn);
  pages.mapcount[row] = mapcount;
  pages.bits[row] |= folioBits(m.frames.flags[head], mapcount);
}

function absentState(flags: number, payload: number): number {
  if ((flags & ENTRY.SWAP) !== 0) return STATE.swapped;
  if ((flags & ENTRY.MIGRATION) !== 0) return STATE.migrating;
  return payload === MARKER.GUARD ? STATE.guard : STATE.poisoned;
}

function mappedState(headFlags: number, order: number): number {
  if ((headFlags & PG.ANON) === 0) return STATE.file;
  return order > 0 ? STATE.part : STATE.small;
}

function numberOf(pass: Pass, head: number): number {
  const { observer } = pass;
  if (observer.epochs[head] !== observer.epoch) {
    observer.epochs[head] = observer.epoch;
    observer.numbers[head] = pass.nrFolios++;
  }
  return observer.numbers[head];
}

const SHOWN_FLAGS: readonly (readonly [number, number])[] = [
  [PG.DIRTY, PAGE_BIT.DIRTY],
  [PG.ACTIVE, PAGE_BIT.ACTIVE],
  [PG.REFERENCED, PAGE_BIT.REFERENCED],
  [PG.MLOCKED, PAGE_BIT.MLOCKED],
  [PG.UNEVICTABLE, PAGE_BIT.UNEVICTABLE],
  [PG.SWAPBACKED, PAGE_BIT.SWAPBACKED],
  [PG.UPTODATE, PAGE_BIT.UPTODATE],
  [PG.SWAPCACHE, PAGE_BIT.SWAPCACHE],
  [PG.LRU, PAGE_BIT.LRU],
];

function folioBits(flags: number, mapcount: number): number {
  let bits = mapcount === 1 ? PAGE_BIT.EXCLUSIVE : 0;
  for (const [flag, bit] of SHOWN_FLAGS) if ((flags & flag) !== 0) bits |= bit;
  return bits;
}

/** Changes since the observer was made. */
function countersOf({ m, vmstat, thpStats, daemon }: Observer): Record<string, number> {
  const changed: Record<string, number> = {};
  for (const [i, name] of VMSTAT_NAMES.entries())
    if (m.vmstat[i] !== vmstat[i]) changed[name] = m.vmstat[i] - vmstat[i];
  for (const order of ANON_ORDERS)
    for (const [i, name] of THP_STAT_NAMES.entries()) {
      const at = order * NR_THP_STATS + i;
      if (m.thpStats[at] !== thpStats[at])
        changed[`${4 << order}kB/${name}`] = m.thpStats[at] - thpStats[at];
    }
  const { khugepaged } = m.knobs;
  for (const name of DAEMON_COUNTS)
    if (khugepaged[name] !== daemon[name]) changed[name] = khugepaged[name] - daemon[name];
  return changed;
}
