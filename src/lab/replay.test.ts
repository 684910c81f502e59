import { expect, test } from "vitest";
import { COST_TABLES } from "../hw/cost-tables.ts";
import { GEOMETRIES } from "../hw/presets.ts";
import { MADV } from "../syscall/madvise.ts";
import { DEFAULT_MACHINE } from "./machine-options.ts";
import { createReplay, type SettingReplay } from "./replay.ts";

const HUGE = 512;
const MIB = 2 ** 20;
const NR_TICKS = 1e6;
const PLAIN_RUN = {
  nrRuns: 1,
  userMs: 1,
  systemMs: 1,
  minorFaults: 1,
  majorFaults: 1,
  peakRssBytes: 1,
  kernel: "6.18",
  cpu: "any",
};

/**
 * A replay of one process with one thread and one mapping of `nrPages`; the first `nrWritten` of every 2 MiB are written. `knobs`
 * besides thp.enabled=always; `wallMs` of a plain run, over a million ticks.
 */
function replayOf(
  nrPages: number,
  nrWritten = HUGE,
  knobs: Readonly<Record<string, string>> = {},
  wallMs?: number,
): SettingReplay {
  const replay = createReplay(
    {
      setting: { name: "always", knobs: { "thp.enabled": "always", ...knobs } },
      machine: { ...DEFAULT_MACHINE, memoryBytes: 64 * 2 ** 20 },
      geometry: GEOMETRIES[0],
      mode: { kind: "native" },
      costs: COST_TABLES[0],
    },
    "test",
    NR_TICKS,
  );
  const { sink } = replay;
  sink.begin({
    command: ["test"],
    source: "synthetic",
    has: { exactTouches: true, counts: false, order: "none" },
    ...(wallMs === undefined ? {} : { plainRun: { ...PLAIN_RUN, wallMs } }),
  });
  sink.process(0, -1, "exec");
  sink.thread(0, 0);
  sink.map(0, {
    mapping: 0,
    nrPages,
    prot: 3,
    isShared: false,
    backing: { kind: "anonymous" },
    placement: { kind: "any" },
    flags: [],
  });
  for (let page = 0; page < nrPages; page += HUGE) sink.touch(0, 0, page, nrWritten, true);
  return replay;
}

test("ANON-268 a recorded MADV_PAGEOUT is carried out: without a swap device the folio is split and stays", () => {
  const { sink, outcome } = replayOf(HUGE);
  const range = { mapping: 0, page: 0, nrPages: HUGE };
  sink.advise(0, range, MADV.COLD, 0);
  sink.advise(0, range, MADV.PAGEOUT, 0);
  sink.touch(0, 0, 0, HUGE, false);
  sink.end(1);
  const { result, notModelled } = outcome();
  expect(result.huge.splitFolio).toBe(1);
  expect(result.memory.finalRssBytes).toBe(HUGE * 4096);
  expect(notModelled.filter((sentence) => sentence.includes("madvise"))).toEqual([]);
});

test("ANON-265 what MADV_PAGEOUT drops of lazily freed memory reads as zeroes afterwards, in the shadow too", () => {
  const { sink, outcome } = replayOf(2 * HUGE);
  sink.advise(0, { mapping: 0, page: 0, nrPages: 2 * HUGE }, MADV.FREE, 0);
  sink.touch(0, 0, HUGE + 3, 1, true);
  sink.advise(0, { mapping: 0, page: 0, nrPages: 2 * HUGE }, MADV.PAGEOUT, 0);
  sink.touch(0, 0, 0, 2 * HUGE, false);
  sink.end(1);
  // The folio that was written again is whole; of the other the zero page is mapped, or the huge one.
  expect(outcome().result.memory.finalRssBytes).toBe(HUGE * 4096);
});

/** Gives pages 8 to 512 of each of `nr` regions back, so that small pages stay. */
function giveBack({ sink }: SettingReplay, nr: number): void {
  for (let region = 0; region < nr; region++) {
    const range = { mapping: 0, page: region * HUGE + 8, nrPages: HUGE - 8 };
    sink.advise(0, range, MADV.DONTNEED, 0);
  }
}

test("khugepaged works in the recording's time, which a plain run gives: a second holds ten sleeps of 100 ms and the work between them", () => {
  const replay = replayOf(4 * HUGE, HUGE, { "khugepaged.scan_sleep_millisecs": "100" }, 1000);
  const { sink, outcome } = replay;
  for (let tick = 0; tick < NR_TICKS; tick += NR_TICKS / 100) sink.time(tick);
  sink.time(NR_TICKS - 1);
  sink.end(NR_TICKS);
  const { result, trace } = outcome();
  expect(trace.clock).toEqual({ nsPerTick: 1000, from: "plain run" });
  expect(result.khugepaged).toMatchObject({ passes: 10, fullScans: 10, regionsScanned: 40 });
});

test("without a plain run an instruction takes a nanosecond", () => {
  const { sink, outcome } = replayOf(HUGE, HUGE, { "khugepaged.scan_sleep_millisecs": "1" });
  sink.time(NR_TICKS / 2);
  sink.end(2 * NR_TICKS);
  const { result, trace } = outcome();
  expect(trace.clock).toEqual({ nsPerTick: 1, from: "nominal" });
  expect(result.khugepaged?.passes).toBe(2); // at 0 and 1 ms after the end of that
});

test("holes that khugepaged fills are growth by collapse, what a huge fault brought is growth by fault", () => {
  const slow = { "khugepaged.scan_sleep_millisecs": "1000" };
  const faulted = replayOf(4 * HUGE, 12, slow, 1000);
  faulted.sink.end(NR_TICKS);
  const { memory } = faulted.outcome().result;
  expect(memory.growth).toEqual({
    byFaultBytes: 4 * (HUGE - 12) * 4096,
    byCollapseBytes: 0,
    notYetSplitBytes: 0,
  });

  // Filled again behind the peak of the first half: the peak of the second is khugepaged's.
  const filled = replayOf(2 * HUGE, HUGE, slow, 1000);
  filled.sink.time(1);
  giveBack(filled, 2);
  const huge = { mapping: 1, page: 0, nrPages: 4 * HUGE };
  filled.sink.map(0, {
    mapping: 1,
    nrPages: huge.nrPages,
    prot: 3,
    isShared: false,
    backing: { kind: "anonymous" },
    placement: { kind: "any" },
    flags: [],
  });
  filled.sink.touch(0, 1, 0, 4 * HUGE, true);
  filled.sink.time(NR_TICKS / 4);
  expect(filled.outcome().result.memory.peakRssBytes).toBe(4 * MIB);
  filled.sink.time(1.1 * NR_TICKS); // the pass at 1 s
  filled.sink.end(1.1 * NR_TICKS);
  const { result } = filled.outcome();
  expect(result.khugepaged).toMatchObject({
    regionsCollapsed: 2,
    filledBytes: 2 * (HUGE - 8) * 4096,
  });
  expect(result.memory.peakRssBytes).toBe(12 * MIB);
  expect(result.memory.growth).toEqual({
    byFaultBytes: 0,
    byCollapseBytes: 2 * (HUGE - 8) * 4096,
    notYetSplitBytes: 0,
  });
});

test("what is given back of huge pages and not filled is held beyond the resident set until it is split", () => {
  const replay = replayOf(2 * HUGE, HUGE, { "khugepaged.max_ptes_none": "0" }, 1000);
  replay.sink.time(1);
  giveBack(replay, 2);
  replay.sink.map(0, {
    mapping: 1,
    nrPages: 4 * HUGE,
    prot: 3,
    isShared: false,
    backing: { kind: "anonymous" },
    placement: { kind: "any" },
    flags: [],
  });
  replay.sink.touch(0, 1, 0, 4 * HUGE, true);
  replay.sink.end(NR_TICKS);
  expect(replay.outcome().result.memory.growth).toEqual({
    byFaultBytes: 0,
    byCollapseBytes: 0,
    notYetSplitBytes: 2 * (HUGE - 8) * 4096,
  });
});

test("the daemon's CPU time is its work at the table's prices, and no part of the program's", () => {
  const knobs = { "khugepaged.scan_sleep_millisecs": "100" };
  const replay = replayOf(2 * HUGE, HUGE, knobs, 1000);
  replay.sink.time(1);
  giveBack(replay, 2);
  const partsBefore = replay.outcome().result.time.parts;
  replay.sink.time(NR_TICKS / 8); // the pass at 100 ms
  const { result } = replay.outcome();
  const { scanPass, scanPte, collapse, collapsePage } = COST_TABLES[0].figures;
  // The pass at 0 found huge regions; the next collapsed two, of which eight pages each were there.
  const ns = 2 * scanPass.ns + 2 * (HUGE * scanPte.ns + collapse.ns + 8 * collapsePage.ns);
  expect(result.khugepaged?.cpuMs).toBeCloseTo(ns / 1e6, 9);
  expect(result.time.parts).toEqual(partsBefore);
});

test("the time until huge memory is there is when nine tenths of the most are", () => {
  const knobs = {
    "thp.enabled": "madvise",
    "khugepaged.scan_sleep_millisecs": "100",
    "khugepaged.pages_to_scan": "1",
  };
  const { sink, outcome } = replayOf(10 * HUGE, HUGE, knobs, 1000);
  sink.advise(0, { mapping: 0, page: 0, nrPages: 10 * HUGE }, MADV.HUGEPAGE, 0);
  const STEP = NR_TICKS / 200; // 5 ms
  for (let tick = 0; tick <= NR_TICKS; tick += STEP) sink.time(tick);
  sink.end(NR_TICKS);
  // A region a pass; the ninth pass begins eight sleeps and eight collapses after the first.
  const { scanPass, scanPte, collapse, collapsePage } = COST_TABLES[0].figures;
  const workNs = scanPass.ns + HUGE * (scanPte.ns + collapsePage.ns) + collapse.ns;
  const passMs = 100 + workNs / 1e6;
  const { khugepaged } = outcome().result;
  expect(khugepaged?.regionsCollapsed).toBe(Math.floor(1000 / passMs) + 1);
  expect(khugepaged?.msUntilCoverage).toBe(Math.ceil((8 * passMs) / 5) * 5);
});

test("where no huge page of 2 MiB is enabled there is no khugepaged to report", () => {
  const { sink, outcome } = replayOf(HUGE, HUGE, { "thp.enabled": "never" });
  sink.end(1);
  expect(outcome().result.khugepaged).toBe(undefined);
});
