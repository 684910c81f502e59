import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { UsageError } from "../base/usage-error.ts";
import { createLogSink, type LoggedCall } from "./log-sink.ts";
import { createPerfScriptImporter } from "./perf-script.ts";
import type { MapCall } from "./trace-sink.ts";

const read = (name: string): string =>
  readFileSync(new URL(`fixtures/${name}`, import.meta.url), "utf8");
/** A run with page_fault_user and the memory calls: mmap, madvise, mremap, fork, munmap. */
const CALLS = read("perf-calls.txt");
/** A run with page-faults only: two threads, then exec of another program. */
const FAULTS = read("perf-faults.txt");

function imported(text: string, step = 1 << 20): readonly LoggedCall[] {
  const { sink, calls } = createLogSink();
  const importer = createPerfScriptImporter(sink, "p.txt");
  const bytes = new TextEncoder().encode(text);
  for (let at = 0; at < bytes.length; at += step) importer.push(bytes.subarray(at, at + step));
  importer.finish();
  return calls;
}

function only(text: string, ...methods: string[]): readonly LoggedCall[] {
  return imported(text).filter(([method]) => methods.includes(method));
}

function maps(text: string): readonly MapCall[] {
  return only(text, "map").map((call) => call[2] as MapCall);
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

describe("a real run with user faults and memory calls", () => {
  test("calls come out by mapping and page, the child by fork", () => {
    const anonymous = maps(CALLS).find(({ nrPages }) => nrPages === 1024)!.mapping;
    const moved = anonymous + 1;
    expect(only(CALLS, "advise", "remap", "process", "exit")).toEqual([
      ["process", 0, -1, "exec"],
      ["advise", 0, { mapping: anonymous, page: 0, nrPages: 1024 }, 14, 0],
      ["advise", 0, { mapping: anonymous, page: 0, nrPages: 2 }, 4, 0],
      ["remap", 0, { mapping: anonymous, page: 0, nrPages: 1024 }, moved, 2048, false],
      ["process", 1, 0, "fork"],
      ["exit", 1, 0],
      ["exit", 0, 0],
    ]);
  });

  test("every user fault is a touch; the error code says if it writes", () => {
    const codes = [...CALLS.matchAll(/page_fault_user: .*error_code=0x([0-9a-f]+)/g)];
    const wanted = codes.map(([, code]) => (Number.parseInt(code, 16) & 2) !== 0);
    const got = only(CALLS, "touch").flatMap((call) =>
      new Array<boolean>(Number(call[4])).fill(call[5] as boolean),
    );
    expect(got).toEqual(wanted);
  });

  test("the child's copy of a page is touched by the child's thread", () => {
    const moved = maps(CALLS).find(({ nrPages }) => nrPages === 1024)!.mapping + 1;
    expect(only(CALLS, "touch")).toContainEqual(["touch", 1, moved, 3, 1, true]);
  });

  test("exec's segments are the image, the loader and the stack; files have paths", () => {
    const [stack, program, data, loader] = maps(CALLS);
    expect([stack.backing.kind, stack.nrPages]).toEqual(["stack", 2048]);
    expect(program.placement).toEqual({ kind: "image", offsetPages: 0 });
    expect(data.placement).toEqual({ kind: "image", offsetPages: 3 });
    expect(data.backing).toEqual({ kind: "file", path: "/opt/demo/t", firstPage: 2 });
    expect(loader.placement).toEqual({ kind: "any" });
    const paths = maps(CALLS).map(({ backing }) => (backing.kind === "file" ? backing.path : ""));
    expect(paths).toContain("/usr/lib/x86_64-linux-gnu/libc.so.6");
    expect(paths.filter((path) => path.startsWith("("))).toEqual([]);
  });

  test("chunks of any size give the same", () => {
    for (const step of [1, 13, 1000]) expect(imported(CALLS, step)).toEqual(imported(CALLS));
  });
});

describe("a real run with page-faults only", () => {
  test("threads, their ends and exec are told", () => {
    expect(only(FAULTS, "process", "thread", "threadExit", "exec", "exit")).toEqual([
      ["process", 0, -1, "exec"],
      ["thread", 0, 0],
      ["thread", 1, 0],
      ["threadExit", 1],
      ["thread", 2, 0],
      ["threadExit", 2],
      ["exec", 0],
      ["exit", 0, 0],
    ]);
  });

  test("mappings come from perf's map records; what an area grew by is a mapping of its own", () => {
    const sizes = maps(FAULTS)
      .filter(({ backing }) => backing.kind === "anonymous")
      .map(({ nrPages }) => nrPages);
    // The second thread's stack is announced with the page of the first that it joined.
    expect(sizes).toEqual([2, 13, 3, 0x801, 33, 0x801, 2, 13, 3]);
  });

  test("a fault of anonymous memory counts as a write, one of a file as a read", () => {
    const kinds = maps(FAULTS).map(({ backing }) => backing.kind);
    const touches = only(FAULTS, "touch");
    expect(touches.length).toBeGreaterThan(4);
    for (const [, , mapping, , , isWrite] of touches) {
      expect(isWrite).toBe(kinds[Number(mapping)] !== "file");
    }
  });
});

describe("forms of perf's text", () => {
  const start = "a 5/5 1.000001: PERF_RECORD_COMM exec: a:5/5\n";

  test("a page-faults that repeats a user fault is no second touch", () => {
    const text = `${start}a 5/5 [001] 1.000003: exceptions:page_fault_user: address=0x7f0000001000 ip=0x1 error_code=0x6
a 5/5 1.000004:          1 page-faults:u:     7f0000001000
a 5/5 1.000005: page-faults: 7f0000001000
`;
    expect(only(text, "touch").map((call) => call[5])).toEqual([true, false]);
    expect(imported(text).at(-1)).toEqual(["end", 4]);
  });

  test("a call that failed maps nothing", () => {
    const text = `${start}a 5/5 1.1: syscalls:sys_enter_mmap: addr: 0x0, len: 0x1000, prot: 0x3, flags: 0x22, fd: 0xffffffff, off: 0x0
a 5/5 1.2: syscalls:sys_exit_mmap: 0xfffffffffffffff4
`;
    expect(maps(text)).toEqual([]);
  });
});

describe("other texts", () => {
  test("are refused with the place and the command to use", () => {
    expect(refusal("")).toMatch(/^p\.txt: byte 0: found an empty file, expected .*perf script -F/);
    expect(refusal("hello\n")).toMatch(
      /^p\.txt: byte 0: found "hello", expected a line of perf sc/,
    );
    expect(refusal("t 27437  3551.421069:   1 page-faults:  ffffffff81752b6a elf_load\n")).toMatch(
      /expected a line of perf script -F comm,pid,tid/,
    );
    const noAddress = "a 5/5 1.0: page-faults: \n";
    expect(refusal(noAddress)).toMatch(/page-faults without an address, expected addr in/);
  });

  test("a process whose fork was not recorded is refused", () => {
    const text = "a 5/5 1.0: page-faults: 1000\nb 6/6 1.1: page-faults: 1000\n";
    expect(refusal(text)).toMatch(/^p\.txt: byte 29: found process 6 without its fork/);
  });

  test("random damage gives a UsageError with an offset or a recording, never anything else", () => {
    const value = fc.oneof(fc.nat(126), fc.constantFrom(..."0123456789abcdef -:"));
    const edits = fc.array(fc.tuple(fc.nat(CALLS.length - 1), value), { minLength: 1 });
    fc.assert(
      fc.property(edits, fc.constantFrom(CALLS, FAULTS), (list, text) => {
        const characters = [...text];
        for (const [at, to] of list) {
          characters[at] = typeof to === "number" ? String.fromCharCode(to) : to;
        }
        try {
          imported(characters.join(""));
        } catch (error) {
          if (!(error instanceof UsageError)) throw error;
          expect(error.where).toMatch(/^p\.txt: byte \d+$/);
        }
      }),
      { numRuns: 300 },
    );
  });
});
