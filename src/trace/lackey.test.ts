import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { UsageError } from "../base/usage-error.ts";
import { createLackeyImporter } from "./lackey.ts";
import { createLogSink, type LoggedCall } from "./log-sink.ts";

/** Part of a real run: mmap, madvise (huge, then drop), mremap, mprotect, MAP_FIXED, fork, munmap, exit. */
const SAMPLE = readFileSync(new URL("fixtures/lackey-calls.txt", import.meta.url), "latin1");
const BASE = 0x4a2b000;

/** The calls an importer makes of `text`, fed in chunks of `step` bytes. */
function imported(text: string, step = text.length): readonly LoggedCall[] {
  const { sink, calls } = createLogSink();
  const importer = createLackeyImporter(sink, "l.txt");
  const bytes = Uint8Array.from(text, (c) => c.charCodeAt(0));
  for (let at = 0; at < bytes.length; at += step) importer.push(bytes.subarray(at, at + step));
  importer.finish();
  return calls;
}

/** Calls of some methods; those that become neighbours are folded as any neighbours are. */
function only(calls: readonly LoggedCall[], ...methods: string[]): readonly LoggedCall[] {
  const log = createLogSink();
  const tell = log.sink as unknown as Record<string, (...args: unknown[]) => void>;
  for (const [method, ...args] of calls) if (methods.includes(method)) tell[method](...args);
  return log.calls;
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

const MMAP = `SYSCALL[1,1](9) sys_mmap ( 0x0, 4194304, 3, 34, 4294967295, 0 ) --> [pre-success] Success(0x4a2b000) \n`;

describe("accesses", () => {
  test("neighbouring accesses of a page are one record that writes if any of them does", () => {
    const text = `${MMAP} L 04a2b000,8\n L 04a2bff0,8\n M 04a2b008,4\n L 04a2c000,1\n S 04a2b000,1\n`;
    expect(only(imported(text), "access")).toEqual([
      ["access", 0, 0, 0, 3, true],
      ["access", 0, 0, 1, 1, false],
      ["access", 0, 0, 0, 1, true],
    ]);
  });

  test("an access across a page's end is one of both pages", () => {
    const text = `${MMAP} L 04a2bff9,8\n L 04a2bff8,8\n S 04a2dfe1,32\n S 04a2dfe0,32\n`;
    expect(only(imported(text), "access")).toEqual([
      ["access", 0, 0, 0, 1, false],
      ["access", 0, 0, 1, 1, false],
      ["access", 0, 0, 0, 1, false],
      ["access", 0, 0, 2, 1, true],
      ["access", 0, 0, 3, 1, true],
      ["access", 0, 0, 2, 1, true],
    ]);
  });

  test("the first read counts unless the page was written, the first write always", () => {
    const text = `${MMAP} L 04a2b000,8\n S 04a2b000,8\n L 04a2b000,8\n S 04a2c000,8\n L 04a2c000,8\n`;
    expect(only(imported(text), "touch")).toEqual([
      ["touch", 0, 0, 0, 1, false],
      ["touch", 0, 0, 0, 2, true],
    ]);
  });

  test("time is the number of instructions, the window stands for all accesses", () => {
    const text = `${MMAP}I  0401ab70,3\n L 04a2b000,8\nI  0401ab73,15\n S 04a2b000,8\n`;
    expect(only(imported(text), "windowEnd", "end")).toEqual([
      ["windowEnd", 0, 2],
      ["end", 2],
    ]);
  });

  test("any mix of lines, cut anywhere, gives what a line-by-line reading gives", () => {
    const access = fc.record({
      letter: fc.constantFrom("L", "S", "M"),
      address: fc.oneof(fc.integer({ min: BASE, max: BASE + 40 * 4096 }), fc.constant(BASE + 4095)),
      size: fc.constantFrom(1, 2, 4, 8, 10, 16, 32, 64, 512),
      nrInstructions: fc.nat(3),
    });
    fc.assert(
      fc.property(
        fc.array(access, { minLength: 1, maxLength: 200, size: "max" }),
        fc.integer({ min: 1, max: 400 }),
        (accesses, step) => {
          let text = MMAP;
          const expected = createLogSink();
          const seen = new Map<number, string>();
          let nrInstructions = 0;
          for (const { letter, address, size, nrInstructions: nr } of accesses) {
            text += "I  04947b07,6\nI  04947b0d,10\n".repeat(nr);
            text += ` ${letter} ${address.toString(16).padStart(8, "0")},${size}\n`;
            nrInstructions += 2 * nr;
            const offset = address - BASE;
            const last = Math.floor((offset + size - 1) / 4096);
            for (let page = Math.floor(offset / 4096); page <= last; page++) {
              expected.sink.access(0, 0, page, 1, letter !== "L");
              const before = seen.get(page) ?? "";
              seen.set(page, before + (letter === "L" ? "r" : "w"));
            }
          }
          const calls = imported(text, step);

          expect(only(calls, "access")).toEqual(expected.calls);
          expect(calls.at(-1)).toEqual(["end", nrInstructions]);
          const touched = only(calls, "touch").flatMap(([, , , page, nrPages, isWrite]) =>
            Array.from({ length: nrPages as number }, (_, i) => [(page as number) + i, isWrite]),
          );
          const wanted = [...seen].flatMap(([page, history]) => [
            ...(history.startsWith("r") ? [[page, false]] : []),
            ...(history.includes("w") ? [[page, true]] : []),
          ]);
          const order = (a: unknown[], b: unknown[]): number =>
            Number(a[0]) - Number(b[0]) || Number(a[1]) - Number(b[1]);
          expect(touched.sort(order)).toEqual(wanted.sort(order));
        },
      ),
      { numRuns: 200 },
    );
  });
});

describe("calls", () => {
  test("the sample's memory calls come out by mapping and page", () => {
    const calls = only(imported(SAMPLE), "advise", "unmap", "remap", "protect", "touch", "exit");
    const kept = calls.filter(([method, , mapping]) => method !== "touch" || Number(mapping) > 0);
    expect(kept).toEqual([
      ["advise", 0, { mapping: 1, page: 0, nrPages: 1024 }, 14, 0],
      ["touch", 0, 1, 0, 8, true],
      ["advise", 0, { mapping: 1, page: 0, nrPages: 2 }, 4, 0],
      ["touch", 0, 1, 0, 1, true],
      ["remap", 0, { mapping: 1, page: 0, nrPages: 1024 }, 2, 2048, false],
      ["touch", 0, 2, 2047, 1, true],
      ["protect", 0, { mapping: 2, page: 0, nrPages: 1 }, 1],
      ["touch", 0, 3, 0, 1, true],
      ["unmap", 0, { mapping: 2, page: 1, nrPages: 255 }],
      ["unmap", 0, { mapping: 3, page: 0, nrPages: 2 }],
      ["unmap", 0, { mapping: 2, page: 258, nrPages: 1790 }],
      ["exit", 0, 0],
    ]);
  });

  test("the command is valgrind's, and the stack it never mapped is one of 8 MiB", () => {
    const [begin, , , , stack] = imported(SAMPLE);
    expect(begin[1]).toMatchObject({ command: ["./t"], source: "lackey" });
    expect(stack[2]).toMatchObject({ nrPages: 2048, backing: { kind: "stack" } });
  });

  test("pages that mremap moved were touched before; a page behind a shrunk heap was not", () => {
    const call = (text: string, result: string): string =>
      `SYSCALL[1,1](0) ${text} --> [pre-success] Success(${result}) \n`;
    const text = [
      MMAP,
      " S 04a2b000,8\n",
      call("sys_mremap ( 0x4a2b000, 4194304, 8388608, 0x1 )", "0x5e2b000"),
      " S 05e2b000,8\n",
      call("sys_brk ( 0x0 )", "0x4035000"),
      call("sys_brk ( 0x4037000 )", "0x4037000"),
      " S 04036000,8\n",
      call("sys_brk ( 0x4035000 )", "0x4035000"),
      call("sys_brk ( 0x4037000 )", "0x4037000"),
      " S 04036000,8\n",
    ].join("");
    expect(only(imported(text), "touch")).toEqual([
      ["touch", 0, 0, 0, 1, true],
      ["touch", 0, 2, 1, 1, true],
      ["touch", 0, 2, 1, 1, true],
    ]);
  });

  test("records that follow on the line of a call's result are not lost", () => {
    const text = `${MMAP}SYSCALL[1,1](56) sys_clone ( 3d0f00, 0x0 ) --> [pre-success] Success(0x6acb) I  0494eb42,3\n${MMAP.trimEnd()}  S 04a2b000,8\n`;
    const calls = imported(text);
    expect(only(calls, "access")).toEqual([["access", 0, 1, 0, 1, true]]);
    expect(calls.at(-1)).toEqual(["end", 1]);
  });
});

describe("other texts", () => {
  test("are refused with the place and what was expected", () => {
    expect(refusal("")).toBe(
      "l.txt: byte 0: found an empty file, expected lackey's text with accesses (--trace-mem=yes)",
    );
    expect(refusal("hello\n")).toMatch(/^l\.txt: byte 0: found "hello", expected lackey's text/);
    expect(refusal("x".repeat(70_000))).toMatch(/^l\.txt: byte 0: found a line of more than/);
    expect(refusal("==1== Lackey\n==1== \n")).toMatch(
      /^l\.txt: byte 20: found the end of the file/,
    );
  });

  test("a malformed line in the middle is named by its offset", () => {
    const good = `${MMAP} L 04a2b000,8\nI  0401ab70,3\n`;
    const bad = [" L 04a2z000,8", " L 04a2b000", " L 04a2b000,x", " Q 04a2b000,8", "\0\xff\x01"];
    for (const line of bad) {
      for (const after of ["", good.slice(MMAP.length).repeat(5)]) {
        expect(refusal(`${good}${line}\n${after}`)).toMatch(
          new RegExp(`^l\\.txt: byte ${good.length}: found `),
        );
      }
    }
  });

  test("a second process in one file is refused with what to do", () => {
    const text = `${MMAP} L 04a2b000,8\n${MMAP.replace("[1,1]", "[2,1]")}`;
    expect(refusal(text)).toMatch(/a call of process 2, expected process 1 only \(record with/);
  });

  test("random damage gives a UsageError with an offset or a recording, never anything else", () => {
    const edits = fc.array(fc.tuple(fc.nat(SAMPLE.length - 1), fc.nat(255)), { minLength: 1 });
    fc.assert(
      fc.property(edits, fc.integer({ min: 1, max: 5000 }), (list, step) => {
        const bytes = [...SAMPLE];
        for (const [at, value] of list) bytes[at] = String.fromCharCode(value);
        try {
          imported(bytes.join(""), step);
        } catch (error) {
          if (!(error instanceof UsageError)) throw error;
          expect(error.where).toMatch(/^l\.txt: byte \d+$/);
        }
      }),
      { numRuns: 1000 },
    );
  });
});
