import { expect, test } from "vitest";
import { COST_TABLES } from "../hw/cost-tables.ts";
import { GEOMETRIES } from "../hw/presets.ts";
import { MADV } from "../syscall/madvise.ts";
import { DEFAULT_MACHINE } from "./machine-options.ts";
import { createReplay, type SettingReplay } from "./replay.ts";

const HUGE = 512;

/** A replay of one process with one thread and one mapping of `nrPages`, all pages written. */
function replayOfWrites(nrPages: number): SettingReplay {
  const replay = createReplay(
    {
      setting: { name: "always", knobs: { "thp.enabled": "always" } },
      machine: { ...DEFAULT_MACHINE, memoryBytes: 64 * 2 ** 20 },
      geometry: GEOMETRIES[0],
      mode: { kind: "native" },
      costs: COST_TABLES[0],
    },
    "test",
  );
  const { sink } = replay;
  sink.begin({
    command: ["test"],
    source: "synthetic",
    has: { exactTouches: true, counts: false, order: "none" },
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
  sink.touch(0, 0, 0, nrPages, true);
  return replay;
}

test("ANON-268 a recorded MADV_PAGEOUT is carried out: without a swap device the folio is split and stays", () => {
  const { sink, outcome } = replayOfWrites(HUGE);
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
  const { sink, outcome } = replayOfWrites(2 * HUGE);
  sink.advise(0, { mapping: 0, page: 0, nrPages: 2 * HUGE }, MADV.FREE, 0);
  sink.touch(0, 0, HUGE + 3, 1, true);
  sink.advise(0, { mapping: 0, page: 0, nrPages: 2 * HUGE }, MADV.PAGEOUT, 0);
  sink.touch(0, 0, 0, 2 * HUGE, false);
  sink.end(1);
  // The folio that was written again is whole; of the other the zero page is mapped, or the huge one.
  expect(outcome().result.memory.finalRssBytes).toBe(HUGE * 4096);
});
