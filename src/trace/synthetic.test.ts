import { describe, expect, test } from "vitest";
import { createLogSink, type LoggedCall } from "./log-sink.ts";
import { createSummarySink } from "./summary.ts";
import {
  tellChurn,
  tellForkServer,
  tellRandomAccess,
  tellSequentialFill,
  tellSparseTouch,
} from "./synthetic.ts";
import type { TraceSink } from "./trace-sink.ts";
import { createValidatingSink } from "./validate.ts";

const PROGRAMS: Readonly<Record<string, (sink: TraceSink) => void>> = {
  fill: (sink) => tellSequentialFill(sink, 40_000),
  random: (sink) => tellRandomAccess(sink, 1000, 30_000, 5),
  sparse: (sink) => tellSparseTouch(sink, 10_000, 512),
  fork: (sink) => tellForkServer(sink, 2000, 300),
  churn: (sink) => tellChurn(sink, 60, 9),
};

function logged(tell: (sink: TraceSink) => void): readonly LoggedCall[] {
  const { sink, calls } = createLogSink();
  tell(createValidatingSink(sink, () => "here"));
  return calls;
}

function touchedPages(calls: readonly LoggedCall[], thread: number, isWrite: boolean): number {
  const touches = calls.filter(([m, t, , , , w]) => m === "touch" && t === thread && w === isWrite);
  return touches.reduce((sum, call) => sum + Number(call[4]), 0);
}

describe("synthetic programs", () => {
  test.each(Object.keys(PROGRAMS))("%s keeps the order rules and counts what it orders", (name) => {
    const summary = createSummarySink(name);
    const calls = logged(PROGRAMS[name]);
    PROGRAMS[name](summary);
    const nrOrdered = calls.reduce((sum, c) => sum + (c[0] === "access" ? Number(c[4]) : 0), 0);
    expect(summary.summary()?.nrAccesses).toBe(nrOrdered);
    expect(summary.summary()?.nrTicks).toBe(nrOrdered);
    const ends = calls.filter(([method]) => method === "windowEnd");
    expect(ends.reduce((sum, call) => sum + Number(call[2]), 0)).toBe(nrOrdered);
  });

  test("a fill writes every page first once; a sparse one every 512th", () => {
    expect(touchedPages(logged(PROGRAMS.fill), 0, true)).toBe(40_000);
    expect(touchedPages(logged(PROGRAMS.sparse), 0, true)).toBe(20);
  });

  test("reading what was written is no first read", () => {
    expect(touchedPages(logged(PROGRAMS.random), 0, false)).toBe(0);
    expect(touchedPages(logged(PROGRAMS.random), 0, true)).toBe(1000);
  });

  test("after fork each page is new to parent and child", () => {
    const calls = logged(PROGRAMS.fork);
    expect(touchedPages(calls, 0, true)).toBe(2000 + 300);
    expect(touchedPages(calls, 1, false)).toBe(2000);
    expect(touchedPages(calls, 1, true)).toBe(0);
  });

  test("the same seed gives the same program, another seed another", () => {
    expect(logged((sink) => tellChurn(sink, 20, 1))).toEqual(
      logged((sink) => tellChurn(sink, 20, 1)),
    );
    expect(logged((sink) => tellChurn(sink, 20, 1))).not.toEqual(
      logged((sink) => tellChurn(sink, 20, 2)),
    );
  });
});
