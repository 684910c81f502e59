import { describe, expect, test } from "vitest";
import { UsageError } from "../base/usage-error.ts";
import { IDLE_SINK } from "./idle-sink.ts";
import { RANDOM_HEADER } from "./random-recording.ts";
import type { MapCall, TraceSink } from "./trace-sink.ts";
import { createValidatingSink } from "./validate.ts";

function call(mapping: number, nrPages: number, change: Partial<MapCall> = {}): MapCall {
  return {
    mapping,
    nrPages,
    prot: 3,
    isShared: false,
    backing: { kind: "anonymous" },
    placement: { kind: "any" },
    flags: [],
    ...change,
  };
}

/** Process 0 with thread 0 and mapping 0 of 10 pages; then `tell`. The complaint, or undefined. */
function complaint(tell: (sink: TraceSink) => void): string | undefined {
  const sink = createValidatingSink(IDLE_SINK, () => "here");
  sink.begin(RANDOM_HEADER);
  sink.process(0, -1, "exec");
  sink.thread(0, 0);
  sink.map(0, call(0, 10));
  try {
    tell(sink);
  } catch (error) {
    if (error instanceof UsageError && error.where === "here") return error.found;
    throw error;
  }
  return undefined;
}

const range = (page: number, nrPages: number, mapping = 0) => ({ mapping, page, nrPages });

describe("breaches are refused with what was found", () => {
  test.each<[string, string, (sink: TraceSink) => void]>([
    ["a second header", "a second header", (s) => s.begin(RANDOM_HEADER)],
    [
      "time going back",
      "tick 4",
      (s) => {
        s.time(5);
        s.time(4);
      },
    ],
    [
      "an end before the last tick",
      "the end at tick 4",
      (s) => {
        s.time(5);
        s.end(4);
      },
    ],
    [
      "anything after the end",
      "a record after the end",
      (s) => {
        s.end(0);
        s.time(9);
      },
    ],
    ["a process number left out", "process 2", (s) => s.process(2, 0, "fork")],
    ["a second root", "a second process without a parent", (s) => s.process(1, -1, "exec")],
    [
      "a dead parent",
      "process 0",
      (s) => {
        s.exit(0, 0);
        s.process(1, 0, "fork");
      },
    ],
    [
      "a thread id used again",
      "thread 0 a second time",
      (s) => {
        s.threadExit(0);
        s.thread(0, 0);
      },
    ],
    [
      "a thread that ended",
      "thread 0",
      (s) => {
        s.threadExit(0);
        s.touch(0, 0, 0, 1, true);
      },
    ],
    [
      "a thread of an ended process",
      "thread 0",
      (s) => {
        s.exit(0, 0);
        s.windowBegin(0);
      },
    ],
    ["an exit status beyond signals", "exit status 400", (s) => s.exit(0, 400)],
    ["a mapping number left out", "mapping 2", (s) => s.map(0, call(2, 1))],
    ["an empty mapping", "a length of 0 pages", (s) => s.map(0, call(1, 0))],
    [
      "a mapping beyond the user half",
      `a length of ${2 ** 36} pages`,
      (s) => s.map(0, call(1, 2 ** 36)),
    ],
    ["a protection of four bits", "protection 8", (s) => s.protect(0, range(0, 1), 8)],
    ["a page behind the mapping", "page 10 of mapping 0", (s) => s.touch(0, 0, 10, 1, true)],
    ["a run across its end", "2 pages from 9 of mapping 0", (s) => s.counts(0, 0, 9, 2, 1, 1)],
    ["a page before it", "page -1 of mapping 0", (s) => s.touch(0, 0, -1, 1, true)],
    ["a range behind it", "11 pages from 0 of mapping 0", (s) => s.unmap(0, range(0, 11))],
    ["a mapping never announced", "mapping 7", (s) => s.advise(0, range(0, 1, 7), 4, 0)],
    [
      "a mapping unmapped whole",
      "mapping 0",
      (s) => {
        s.unmap(0, range(0, 10));
        s.touch(0, 0, 0, 1, true);
      },
    ],
    [
      "a mapping gone by exec",
      "mapping 0",
      (s) => {
        s.exec(0);
        s.touch(0, 0, 0, 1, true);
      },
    ],
    ["brk of what is no heap", "brk of mapping 0", (s) => s.brk(0, 0, 4)],
    ["an access outside a window", "an access outside a window", (s) => s.access(0, 0, 0, 1, true)],
    [
      "a window within one",
      "a window within a window",
      (s) => {
        s.windowBegin(0);
        s.windowBegin(0);
      },
    ],
    ["the end of no window", "the end of no window", (s) => s.windowEnd(0, 1)],
    [
      "an access of nothing",
      "a count of 0 accesses",
      (s) => {
        s.windowBegin(0);
        s.access(0, 0, 0, 0, true);
      },
    ],
  ])("%s", (_name, found, tell) => {
    expect(complaint(tell)).toBe(found);
  });
});

describe("what is allowed", () => {
  test("a child of fork has its parent's mappings, and its changes stay its own", () => {
    const tell = (s: TraceSink): void => {
      s.process(1, 0, "fork");
      s.thread(5, 1);
      s.touch(5, 0, 9, 1, true);
      s.unmap(1, range(0, 10));
      s.touch(0, 0, 9, 1, true);
    };
    expect(complaint(tell)).toBeUndefined();
    expect(
      complaint((s) => {
        tell(s);
        s.touch(5, 0, 0, 1, true);
      }),
    ).toBe("mapping 0");
  });

  test("a remap in place moves the mapping's end, up and down", () => {
    const grow = (s: TraceSink): void => s.remap(0, range(4, 6), 0, 12, false);
    expect(
      complaint((s) => {
        grow(s);
        s.touch(0, 0, 15, 1, true);
      }),
    ).toBeUndefined();
    expect(
      complaint((s) => {
        grow(s);
        s.touch(0, 0, 16, 1, true);
      }),
    ).toBe("page 16 of mapping 0");
    const shrink = (s: TraceSink): void => s.remap(0, range(4, 6), 0, 1, false);
    expect(
      complaint((s) => {
        shrink(s);
        s.touch(0, 0, 5, 1, true);
      }),
    ).toBe("page 5 of mapping 0");
  });

  test("a heap begins empty, grows by brk, and survives being unmapped", () => {
    const heap = call(1, 0, { backing: { kind: "heap" } });
    expect(
      complaint((s) => {
        s.map(0, heap);
        s.brk(0, 1, 4);
        s.touch(0, 1, 3, 1, true);
        s.unmap(0, range(0, 4, 1));
        s.brk(0, 1, 5);
      }),
    ).toBeUndefined();
    expect(
      complaint((s) => {
        s.map(0, heap);
        s.touch(0, 1, 0, 1, true);
      }),
    ).toBe("page 0 of mapping 1");
  });

  test("windows of different threads overlap", () => {
    expect(
      complaint((s) => {
        s.thread(1, 0);
        s.windowBegin(0);
        s.windowBegin(1);
        s.access(0, 0, 0, 1, true);
        s.access(1, 0, 0, 1, true);
        s.windowEnd(0, 1);
        s.access(1, 0, 0, 1, true);
      }),
    ).toBeUndefined();
  });
});
