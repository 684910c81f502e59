import { expect, test } from "vitest";
import { formatOf, parseTraceFormat } from "./trace-format.ts";

const formatOfText = (text: string) => formatOf(new TextEncoder().encode(text));

test.each([
  ["==12== Lackey, an example Valgrind tool\n", "lackey"],
  ["I  04001000,3\n", "lackey"],
  [" L 1ffeffe7e,1\n", "lackey"],
  ['27423 execve("./t", ["./t"], 0x7ffe /* 35 vars */) = 0\n', "strace"],
  ['27430 1795224420.830130 execve("./thr", ["./thr"]) = 0\n', "strace"],
  ['execve("./t", ["./t"]) = 0\n', "strace"],
  ["[pid  7] brk(NULL) = 0x5\n", "strace"],
  [
    "   swapper  0/0  0.000000: PERF_RECORD_MMAP -1/0: [0xff(0x1) @ 0x1]: x [kernel]\n",
    "perf-script",
  ],
  ["redis 812/815 [001] 3553.201449: page-faults: 7f24f5344b70\n", "perf-script"],
  ["\u0000nothing known", "hugelab"],
  ["", "hugelab"],
])("%j begins a file of form %s", (text, format) => {
  expect(formatOfText(text)).toBe(format);
});

test("a form can be named, and a wrong name is corrected", () => {
  expect(parseTraceFormat("lackey")).toBe("lackey");
  expect(() => parseTraceFormat("lacky")).toThrow("did you mean lackey?");
  expect(() => parseTraceFormat("perf.data")).toThrow("the text of `perf script`");
});
