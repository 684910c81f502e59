import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { UsageError } from "../base/usage-error.ts";
import { createLogSink, type LoggedCall } from "./log-sink.ts";
import { createStraceImporter } from "./strace.ts";

const read = (name: string): string =>
  readFileSync(new URL(`fixtures/${name}`, import.meta.url), "utf8");
const FORK = read("strace-fork.txt");
const THREADS = read("strace-threads.txt");

function imported(text: string, step = 1 << 20): readonly LoggedCall[] {
  const { sink, calls } = createLogSink();
  const importer = createStraceImporter(sink, "s.txt");
  const bytes = new TextEncoder().encode(text);
  for (let at = 0; at < bytes.length; at += step) importer.push(bytes.subarray(at, at + step));
  importer.finish();
  return calls;
}

function only(text: string, ...methods: string[]): readonly LoggedCall[] {
  return imported(text).filter(([method]) => methods.includes(method));
}

function refusal(text: string): string {
  try {
    imported(text);
  } catch (error) {
    if (error instanceof UsageError) return error.message;
    throw error;
  }
  throw new Error("nothing was refused");
}

describe("a real run that forks", () => {
  test("mapping calls come out by mapping and page, with the files they map", () => {
    expect(only(FORK, "advise", "remap", "unmap", "process", "exit")).toEqual([
      ["process", 0, -1, "exec"],
      ["unmap", 0, { mapping: 1, page: 0, nrPages: 10 }],
      ["advise", 0, { mapping: 8, page: 0, nrPages: 1024 }, 14, 0],
      ["advise", 0, { mapping: 8, page: 0, nrPages: 2 }, 4, 0],
      ["remap", 0, { mapping: 8, page: 0, nrPages: 1024 }, 9, 2048, false],
      ["process", 1, 0, "fork"],
      ["exit", 1, 3],
      ["unmap", 0, { mapping: 9, page: 1, nrPages: 255 }],
      ["unmap", 0, { mapping: 10, page: 0, nrPages: 2 }],
      ["unmap", 0, { mapping: 9, page: 258, nrPages: 1790 }],
      ["exit", 0, 0],
    ]);
    const backings = only(FORK, "map").map((call) => (call[2] as { backing: object }).backing);
    expect(backings[3]).toEqual({
      kind: "file",
      path: "/lib/x86_64-linux-gnu/libc.so.6",
      firstPage: 0x26,
    });
  });

  test("the header has the command and claims no accesses", () => {
    expect(imported(FORK)[0][1]).toEqual({
      command: ["./t"],
      source: "strace",
      has: { exactTouches: false, counts: false, order: "none" },
    });
  });

  test("chunks of any size give the same", () => {
    for (const step of [1, 7, 100]) expect(imported(FORK, step)).toEqual(imported(FORK));
  });
});

describe("a real run with threads", () => {
  test("threads are told from processes; one may act before clone3 returns; exec ends them", () => {
    expect(only(THREADS, "process", "thread", "threadExit", "exec", "exit")).toEqual([
      ["process", 0, -1, "exec"],
      ["thread", 0, 0],
      ["thread", 1, 0],
      ["thread", 2, 0],
      ["threadExit", 1],
      ["threadExit", 2],
      ["exec", 0],
      ["exit", 0, 0],
    ]);
  });

  test("a call split by other tasks' lines is told where it resumes", () => {
    const maps = only(THREADS, "map").map((call) => (call[2] as { nrPages: number }).nrPages);
    expect(maps.filter((nrPages) => nrPages === 2049)).toHaveLength(2);
  });

  test("ticks are microseconds since the first line", () => {
    const ticks = only(THREADS, "time").map(([, tick]) => Number(tick));
    expect(ticks).toEqual([...ticks].sort((a, b) => a - b));
    expect(imported(THREADS).at(-1)).toEqual(["end", ticks.at(-1)]);
    // 1795224420.845561 - 1795224420.830130
    expect(ticks.at(-1)).toBe(15_431);
  });
});

describe("forms of strace's text", () => {
  const line = "mmap(NULL, 8192, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f0000000000";

  test("no pid, [pid N], a pid; no time, -t, -tt, -ttt", () => {
    for (const prefix of [
      "",
      "[pid  12] ",
      "12 ",
      "12:00:01 ",
      "7 12:00:01.5 ",
      "7 1795224420.830130 ",
    ]) {
      expect(only(prefix + line, "map")).toHaveLength(1);
    }
  });

  test("MAP_FIXED over a mapping is placed at it; a failed call is passed over", () => {
    const text = [
      line,
      "mmap(0x7f0000001000, 4096, PROT_READ, MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS, -1, 0) = 0x7f0000001000",
      "mmap(NULL, 4096, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = -1 ENOMEM (Cannot allocate memory)",
      "madvise(0x7f0000000000, 4096, MADV_HUGEPAGE) = -1 EINVAL (Invalid argument)",
    ].join("\n");
    const calls = only(text, "map", "advise");
    expect((calls[1][2] as { placement: object }).placement).toEqual({
      kind: "at",
      mapping: 0,
      page: 1,
    });
    expect(calls.slice(2)).toEqual([["advise", 0, { mapping: 0, page: 0, nrPages: 1 }, 14, -22]]);
  });

  test("a killed process has its signal in its status", () => {
    expect(only(`${line}\n+++ killed by SIGSEGV (core dumped) +++\n`, "exit")).toEqual([
      ["exit", 0, 256 + 11],
    ]);
  });
});

describe("other texts", () => {
  test("are refused with the place", () => {
    expect(refusal("")).toMatch(/^s\.txt: byte 0: found an empty file, expected strace's text/);
    expect(refusal("hello world\n")).toMatch(/^s\.txt: byte 0: found "hello world", expected a s/);
    const start = `${FORK.split("\n", 3).join("\n")}\n`;
    expect(refusal(`${start}mmap(\n`)).toMatch(new RegExp(`^s\\.txt: byte ${start.length}: found`));
  });

  test("random damage gives a UsageError with an offset or a recording, never anything else", () => {
    const edits = fc.array(
      fc.tuple(
        fc.nat(THREADS.length - 1),
        fc.oneof(fc.nat(126), fc.constantFrom(..."0123456789xabcdef\n")),
      ),
      { minLength: 1 },
    );
    fc.assert(
      fc.property(edits, fc.constantFrom(THREADS, FORK), (list, text) => {
        const characters = [...text];
        for (const [at, value] of list)
          characters[at] = typeof value === "number" ? String.fromCharCode(value) : value;
        try {
          imported(characters.join(""));
        } catch (error) {
          if (!(error instanceof UsageError)) throw error;
          expect(error.where).toMatch(/^s\.txt: byte \d+$/);
        }
      }),
      { numRuns: 500 },
    );
  });
});
