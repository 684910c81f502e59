import { expect, test } from "vitest";
import { createSummarySink } from "./summary.ts";
import type { TraceHeader } from "./trace-sink.ts";

const HEADER: TraceHeader = {
  command: ["a"],
  source: "synthetic",
  has: { exactTouches: true, counts: true, order: "windows" },
};

test("a page read and written, by parent and child, is one page touched", () => {
  const sink = createSummarySink("t");
  sink.begin(HEADER);
  sink.process(0, -1, "exec");
  sink.thread(0, 0);
  sink.touch(0, 0, 510, 4, false);
  sink.touch(0, 0, 512, 3, true);
  sink.process(1, 0, "fork");
  sink.thread(1, 1);
  sink.touch(1, 0, 510, 1, true);
  sink.touch(1, 1, 510, 1, true);
  sink.end(77);
  expect(sink.summary()).toEqual({
    name: "t",
    header: HEADER,
    nrTicks: 77,
    nrProcesses: 2,
    nrThreads: 2,
    nrAccesses: 0,
    nrPagesTouched: 5 + 1,
  });
});

test("accesses are those counted; without counts those the windows stand for", () => {
  for (const counts of [true, false]) {
    const sink = createSummarySink("t");
    sink.begin({ ...HEADER, has: { ...HEADER.has, counts } });
    sink.counts(0, 0, 0, 10, 3, 4);
    sink.windowBegin(0);
    sink.access(0, 0, 0, 9, true);
    sink.windowEnd(0, 1000);
    sink.end(1);
    expect(sink.summary()?.nrAccesses).toBe(counts ? 70 : 1000);
  }
});

test("there is no summary before the end", () => {
  const sink = createSummarySink("t");
  sink.begin(HEADER);
  expect(sink.summary()).toBeUndefined();
});

test("a touch of more pages than memory could mark is still counted", () => {
  const sink = createSummarySink("t");
  sink.begin(HEADER);
  sink.touch(0, 0, 0, 2 ** 34, true);
  sink.end(1);
  expect(sink.summary()?.nrPagesTouched).toBe(2 ** 34);
});
