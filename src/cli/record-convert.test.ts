/**
 * The converter: recorder events in, TraceSink calls out, checked by the trace's own order rules.
 */

import { expect, test } from "vitest";
import { createLogSink, type LoggedCall } from "../trace/log-sink.ts";
import type { TraceHeader } from "../trace/trace-sink.ts";
import { createValidatingSink } from "../trace/validate.ts";
import { RecordConverter } from "./record-convert.ts";
import type { ImagePiece, RawSyscall } from "./record-stream.ts";

const HEADER: TraceHeader = {
  command: ["./program"],
  source: "qemu-plugin",
  has: { exactTouches: true, counts: true, order: "windows" },
};

/** A converter whose output passes the order rules, and what it told after `begin`. */
function converter(): { convert: RecordConverter; told: () => readonly LoggedCall[] } {
  const { sink, calls } = createLogSink();
  const valid = createValidatingSink(sink, () => "converter");
  valid.begin(HEADER);
  return { convert: new RecordConverter(valid, () => {}), told: () => calls.slice(1) };
}

/** Process 0 with thread 0, and an anonymous mapping 0 of `nrPages` at absolute page 1000. */
function withMapping(nrPages: number): ReturnType<typeof converter> {
  const made = converter();
  made.convert.process(0, -1, "exec");
  made.convert.exec(0, "/bin/program");
  made.convert.thread(0, 0);
  made.convert.syscall(call(9, 1000 * 4096, [0, nrPages * 4096, 3, 0x22, 0, 0]));
  return made;
}

function call(number: number, result: number, args: number[], process = 0): RawSyscall {
  return { process, thread: 0, number, result, args, path: "" };
}

function piece(page: number, nrPages: number, kind: ImagePiece["kind"], path: string): ImagePiece {
  return { process: 0, kind, page, nrPages, prot: 3, filePage: 0, path };
}

test("a run of touches over two mappings is told for each", () => {
  const { convert, told } = withMapping(4);
  convert.syscall(call(9, 1004 * 4096, [0, 2 * 4096, 3, 0x22, 0, 0]));

  convert.touch(0, true, 1002, 4);

  expect(told().slice(-2)).toEqual([
    ["touch", 0, 0, 2, 2, true],
    ["touch", 0, 1, 0, 2, true],
  ]);
});

test("what lies outside all mappings is counted, not told", () => {
  const { convert, told } = withMapping(1);
  const before = told().length;

  convert.touch(0, false, 1001, 3);

  expect(told().length).toBe(before);
  expect(convert.summary.nrUnexplained).toBe(3);
});

test("program segments are placed by their distance from the first, the loader's in one free range", () => {
  const { convert, told } = converter();
  convert.process(0, -1, "exec");
  convert.exec(0, "/bin/p");
  convert.thread(0, 0);
  convert.image(piece(100, 2, "file", "/bin/p"));
  convert.image(piece(105, 1, "file", "/bin/p"));
  convert.image(piece(106, 3, "anonymous", ""));
  convert.image(piece(500, 1, "file", "/lib/ld.so"));
  convert.image(piece(502, 2, "file", "/lib/ld.so"));
  convert.image(piece(900, 2048, "stack", ""));
  convert.end(0, 0, false);

  const maps = told().filter(([name]) => name === "map");
  const placements = maps.map(([, , map]) => (map as { placement: unknown }).placement);
  expect(placements).toEqual([
    { kind: "image", offsetPages: 0 },
    { kind: "image", offsetPages: 5 },
    { kind: "image", offsetPages: 6 },
    { kind: "any" },
    { kind: "at", mapping: 3, page: 0 },
    { kind: "at", mapping: 3, page: 2 },
    { kind: "any" },
  ]);
  expect(maps[3][2]).toMatchObject({ nrPages: 4, prot: 0, backing: { kind: "anonymous" } });
  expect(maps[6][2]).toMatchObject({ nrPages: 2048, backing: { kind: "stack" } });
});

test("a forked child has its parent's mappings, and exec takes them away", () => {
  const { convert, told } = withMapping(4);
  convert.process(1, 0, "fork");
  convert.thread(1, 1);
  convert.touch(1, true, 1000, 1);
  convert.exec(1, "/bin/other");
  convert.touch(1, true, 1000, 1);

  expect(told().slice(-4)).toEqual([
    ["process", 1, 0, "fork"],
    ["thread", 1, 1],
    ["touch", 1, 0, 0, 1, true],
    ["exec", 1],
  ]);
  expect(convert.summary.nrUnexplained).toBe(1);
});

test("events of a thread or process that is gone are dropped", () => {
  const { convert, told } = withMapping(4);
  convert.thread(7, 0);
  convert.windowBegin(7);
  convert.threadExit(7);
  convert.windowEnd(7, 10);
  convert.touch(7, true, 1000, 1);
  convert.exit(0, 0);
  convert.touch(0, true, 1000, 1);
  convert.counts(0, 1000, 1, 1, 1);
  convert.syscall(call(11, 0, [1000 * 4096, 4096, 0, 0, 0, 0]));
  convert.exit(0, 9);

  expect(told().slice(-4)).toEqual([
    ["thread", 7, 0],
    ["windowBegin", 7],
    ["threadExit", 7],
    ["exit", 0, 0],
  ]);
});

test("mmap's flags, hints and files reach the recording", () => {
  const { convert, told } = withMapping(1);
  const at = 5000 * 4096;
  // Shared, of a file from its second page on, populated, without reserve, at a hint that was followed.
  convert.syscall({
    ...call(9, at, [at, 4096, 1, 0x01 | 0x8000 | 0x4000, 3, 8192]),
    path: "/data",
  });

  expect(told().at(-1)).toEqual([
    "map",
    0,
    {
      mapping: 1,
      nrPages: 1,
      prot: 1,
      isShared: true,
      backing: { kind: "file", path: "/data", firstPage: 2 },
      placement: { kind: "hint", address: at },
      flags: ["populate", "noreserve"],
    },
  ]);
});

test("a private mapping of /dev/zero is anonymous", () => {
  const { convert, told } = withMapping(1);
  convert.syscall({ ...call(9, 5000 * 4096, [0, 4096, 3, 0x02, 3, 0]), path: "/dev/zero" });

  expect(told().at(-1)?.[2]).toMatchObject({ backing: { kind: "anonymous" } });
});

test("madvise keeps a failed result, mlock2 its flag, prctl its arguments", () => {
  const { convert, told } = withMapping(4);
  convert.syscall(call(28, -22, [1001 * 4096, 8192, 14, 0, 0, 0]));
  convert.syscall(call(325, 0, [1000 * 4096, 4096, 1, 0, 0, 0]));
  convert.syscall(call(150, 0, [1000 * 4096, 4096, 0, 0, 0, 0]));
  convert.syscall(call(157, 0, [41, 1, 0, 0, 0, 0]));

  expect(told().slice(-4)).toEqual([
    ["advise", 0, { mapping: 0, page: 1, nrPages: 2 }, 14, -22],
    ["lock", 0, { mapping: 0, page: 0, nrPages: 1 }, "onFault"],
    ["lock", 0, { mapping: 0, page: 0, nrPages: 1 }, "unlock"],
    ["prctlThpDisable", 0, 1, 0],
  ]);
});

test("time is told before the next event, once", () => {
  const { convert, told } = withMapping(1);
  convert.time(10);
  convert.time(5);
  convert.touch(0, true, 1000, 1);
  convert.touch(0, false, 1000, 1);

  expect(told().slice(-3)).toEqual([
    ["time", 15],
    ["touch", 0, 0, 0, 1, true],
    ["touch", 0, 0, 0, 1, false],
  ]);
});
