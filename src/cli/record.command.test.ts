/**
 * Records small C programs whose touches are known by arithmetic, and reads the recordings back.
 *
 * Every program maps a region of a length no other mapping has, so that it is found in the recording by its length.
 */

import { spawn, spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createLogSink, type LoggedCall } from "../trace/log-sink.ts";
import { createTraceReader } from "../trace/reader.ts";
import type { MapCall, TraceHeader } from "../trace/trace-sink.ts";
import { DEFLATE_CODEC } from "./block-codec.ts";
import { hasTracepoints, recordLight } from "./record-light.ts";
import { plainRun } from "./record-plain.ts";
import { findLauncher, inPath } from "./record-program.ts";
import { type RecordRequest, type RecordResult, recordProgram } from "./record-run.ts";

const missing = ["qemu-x86_64", "cc"].filter((name) => inPath(name) === undefined);
const isPossible = missing.length === 0 && process.arch === "x64" && process.platform === "linux";
if (!isPossible) console.log(`recording is not tested here: ${missing.join(", ")} missing`);

const canTrace = inPath("perf") !== undefined && hasTracepoints();
if (!canTrace)
  console.log("record --light is not tested here: perf or its tracepoints are missing");

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "hugelab-record-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const PRELUDE = `
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
static volatile char *map(long pages) {
  return mmap(0, pages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}
static void put(volatile char *p, long first, long n) { for (long i = first; i < first + n; i++) p[i * 4096] = 1; }
static int get(volatile char *p, long first, long n) { int s = 0; for (long i = first; i < first + n; i++) s += p[i * 4096]; return s; }
`;

/** Path of a program with this main. */
function compiled(name: string, source: string): string {
  const path = join(folder, name);
  writeFileSync(`${path}.c`, PRELUDE + source);
  const run = spawnSync("cc", ["-O1", "-pthread", "-o", path, `${path}.c`], { encoding: "utf8" });
  expect(run.stderr).not.toContain("error");
  return path;
}

interface Recorded {
  readonly header: TraceHeader;
  readonly calls: readonly LoggedCall[];
  readonly result: RecordResult;
}

const QUIET = { note: () => {}, progress: () => {} };

/** Records and reads back. */
async function recorded(
  command: readonly string[],
  options: Partial<RecordRequest> = {},
): Promise<Recorded> {
  const output = join(folder, "recording.hlt");
  const request: RecordRequest = {
    command,
    output,
    driver: "",
    nrPlainRuns: 0,
    intervalTicks: 0,
    windowAccesses: 0,
    sampleEvery: 0,
    ...options,
  };
  const result = await recordProgram(request, QUIET);
  const calls = read(output);
  return { header: calls[0][1] as TraceHeader, calls, result };
}

/** A recording's calls; the reader checks the order rules. */
function read(path: string): readonly LoggedCall[] {
  const { sink, calls } = createLogSink();
  const reader = createTraceReader(sink, path, [DEFLATE_CODEC]);
  reader.push(readFileSync(path));
  reader.finish();
  return calls;
}

/** Number of the anonymous mapping of this length. */
function mappingOf(calls: readonly LoggedCall[], nrPages: number): number {
  const maps = calls.filter(([name]) => name === "map").map((call) => call[2] as MapCall);
  const found = maps.filter((map) => map.nrPages === nrPages && map.backing.kind === "anonymous");
  expect(found.length).toBe(1);
  return found[0].mapping;
}

/** First touches of a mapping as [thread, first page, pages, "read" or "write"], in order, runs joined. */
function touchesOf(
  calls: readonly LoggedCall[],
  mapping: number,
): [number, number, number, string][] {
  const runs: [number, number, number, string][] = [];
  for (const [name, thread, touched, page, nrPages, isWrite] of calls as [string, ...number[]][]) {
    if (name !== "touch" || touched !== mapping) continue;
    const kind = isWrite ? "write" : "read";
    const last = runs.at(-1);
    const grows = last?.[0] === thread && last[1] + last[2] === page && last[3] === kind;
    if (grows) last[2] += nrPages;
    else runs.push([thread, page, nrPages, kind]);
  }
  return runs;
}

describe.skipIf(!isPossible)("hugelab record", () => {
  test("every first write and first read of a page is recorded once, in order", async () => {
    const program = compiled(
      "touches",
      `int main() { volatile char *p = map(1237); put(p, 0, 1000); put(p, 0, 1000);
        int s = get(p, 1000, 200); s += get(p, 1000, 200); put(p, 1100, 5); return s; }`,
    );

    const { calls, result } = await recorded([program]);

    expect(touchesOf(calls, mappingOf(calls, 1237))).toEqual([
      [0, 0, 1000, "write"],
      [0, 1000, 200, "read"],
      [0, 1100, 5, "write"],
    ]);
    expect(result.status).toBe(0);
    expect(result.summary.nrUnexplained).toBe(0);
  });

  test("an instruction that reads and writes a fresh page is a write fault, then a read", async () => {
    const program = compiled(
      "modify",
      `int main() { volatile char *p = map(1237); for (int i = 0; i < 3; i++) __asm__ volatile("incb (%0)" :: "r"(p + i * 4096) : "memory"); return 0; }`,
    );

    const { calls } = await recorded([program]);

    expect(touchesOf(calls, mappingOf(calls, 1237))).toEqual(
      [0, 1, 2].flatMap((page) => [
        [0, page, 1, "write"],
        [0, page, 1, "read"],
      ]),
    );
  });

  test("an access over a page's end touches both pages", async () => {
    const program = compiled(
      "across",
      `int main() { volatile char *p = map(1237); *(volatile long *)(p + 3 * 4096 - 4) = 1; return 0; }`,
    );

    const { calls } = await recorded([program]);

    expect(touchesOf(calls, mappingOf(calls, 1237))).toEqual([[0, 2, 2, "write"]]);
  });

  test("after MADV_DONTNEED, munmap and mmap the next touches are first ones again", async () => {
    const program = compiled(
      "dropped",
      `int main() { volatile char *p = map(1237); put(p, 0, 300);
        madvise((void *)(p + 100 * 4096), 50 * 4096, MADV_DONTNEED); put(p, 0, 300);
        mmap((void *)(p + 200 * 4096), 10 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        put(p, 0, 300); return 0; }`,
    );

    const { calls } = await recorded([program]);
    const mapping = mappingOf(calls, 1237);
    const inner = calls
      .filter(([name]) => name === "map")
      .map((call) => call[2] as MapCall)
      .find((map) => map.placement.kind === "at" && map.placement.mapping === mapping);

    expect(touchesOf(calls, mapping)).toEqual([
      [0, 0, 300, "write"],
      [0, 100, 50, "write"],
    ]);
    expect(calls).toContainEqual(["advise", 0, { mapping, page: 100, nrPages: 50 }, 4, 0]);
    expect(inner).toMatchObject({ nrPages: 10, placement: { page: 200 } });
    expect(touchesOf(calls, inner?.mapping ?? -1)).toEqual([[0, 0, 10, "write"]]);
  });

  test("mremap takes along what was touched", async () => {
    const program = compiled(
      "moved",
      `int main() { char *p = (char *)map(1237); put(p, 0, 100); map(1);
        char *q = mremap(p, 1237 * 4096, 2311 * 4096, MREMAP_MAYMOVE); put(q, 0, 110); put(q, 2000, 3); return q == p; }`,
    );

    const { calls } = await recorded([program]);
    const from = mappingOf(calls, 1237);
    const [, , range, to, nrPages] = calls.find(([name]) => name === "remap") ?? [];

    expect([range, nrPages]).toEqual([{ mapping: from, page: 0, nrPages: 1237 }, 2311]);
    expect(touchesOf(calls, to as number)).toEqual([
      ...(to === from ? [[0, 0, 100, "write"]] : []),
      [0, 100, 10, "write"],
      [0, 2000, 3, "write"],
    ]);
  });

  test("after fork parent and child write every page for the first time again", async () => {
    const program = compiled(
      "forked",
      `int main() { volatile char *p = map(1237); put(p, 0, 400); int s = get(p, 0, 10);
        pid_t c = fork();
        if (c == 0) { put(p, 50, 30); _exit(7); }
        int status; waitpid(c, &status, 0); put(p, 0, 20); return WEXITSTATUS(status) + (s != 10); }`,
    );

    const { calls, result } = await recorded([program]);
    const child = calls.find((call) => call[0] === "thread" && call[2] === 1)?.[1] as number;

    expect(calls).toContainEqual(["process", 1, 0, "fork"]);
    expect(touchesOf(calls, mappingOf(calls, 1237))).toEqual([
      [0, 0, 400, "write"],
      [0, 0, 10, "read"],
      [child, 50, 30, "write"],
      [0, 0, 20, "write"],
    ]);
    expect(calls).toContainEqual(["exit", 1, 7]);
    expect(result.status).toBe(7);
  });

  test("threads touch under their own numbers, each page once", async () => {
    const program = compiled(
      "threads",
      `static volatile char *p;
      static void *work(void *n) { put(p, (long)n * 500, 500); put(p, 0, 1000); return 0; }
      int main() { p = map(1237); pthread_t t[2]; for (long i = 0; i < 2; i++) pthread_create(&t[i], 0, work, (void *)i);
        for (int i = 0; i < 2; i++) pthread_join(t[i], 0); put(p, 0, 1000); return 0; }`,
    );

    const { calls } = await recorded([program]);
    const touched = touchesOf(calls, mappingOf(calls, 1237));
    const pages = touched.flatMap(([, page, nrPages]) =>
      Array.from({ length: nrPages }, (_, i) => page + i),
    );

    expect(pages.sort((a, b) => a - b)).toEqual(Array.from({ length: 1000 }, (_, i) => i));
    expect(touched.every(([thread]) => thread === 1 || thread === 2)).toBe(true);
    expect(calls.filter(([name]) => name === "threadExit").length).toBe(2);
  });

  test("what system calls write into memory is touched", async () => {
    const program = compiled(
      "syscalls",
      `int main() { char *p = (char *)map(1237); int f = open("/dev/zero", O_RDONLY);
        int n = read(f, p + 100, 20 * 4096); int g = open("/dev/null", O_WRONLY); n += write(g, p + 40 * 4096, 8192); return n == 0; }`,
    );

    const { calls } = await recorded([program]);

    expect(touchesOf(calls, mappingOf(calls, 1237))).toEqual([
      [0, 0, 21, "write"],
      [0, 40, 2, "read"],
    ]);
  });

  test("--full has every access in order with its count", async () => {
    const program = compiled(
      "order",
      `int main() { volatile char *p = map(1237); for (int i = 0; i < 3; i++) { for (int k = 0; k < 1000; k++) p[5 * 4096 + k] = 1;
        (void)p[9 * 4096]; (void)p[7 * 4096]; } return 0; }`,
    );

    const { calls, header } = await recorded([program], {
      windowAccesses: 1000,
      sampleEvery: 1000,
    });
    const mapping = mappingOf(calls, 1237);
    const accesses = calls.filter(([name, , of]) => name === "access" && of === mapping);
    const perRound = [
      [5, 1000, true],
      [9, 1, false],
      [7, 1, false],
    ];

    expect(header.has.order).toBe("full");
    expect(accesses.map(([, , , page, count, writes]) => [page, count, writes])).toEqual([
      ...perRound,
      ...perRound,
      ...perRound,
    ]);
  });

  test("counts are those of the accesses, to four bits", async () => {
    const program = compiled(
      "counts",
      `int main() { volatile char *p = map(1237); for (int i = 0; i < 13; i++) { put(p, 0, 10); get(p, 4, 2); }
        for (int i = 0; i < 100000; i++) p[20 * 4096] = 1; return 0; }`,
    );

    const { calls } = await recorded([program]);
    const mapping = mappingOf(calls, 1237);
    const counts = calls.filter(([name, , of]) => name === "counts" && of === mapping);

    expect(counts.map((call) => call.slice(3))).toEqual([
      [0, 4, 0, 13],
      [4, 2, 13, 13],
      [6, 4, 0, 13],
      [20, 1, 0, 98304],
    ]);
  });

  test("windows cover the wanted share and stand for all accesses before them", async () => {
    const program = compiled(
      "windows",
      `int main() { volatile char *p = map(1237); for (int i = 0; i < 4000; i++) put(p, 0, 1237); return 0; }`,
    );

    const { calls, result } = await recorded([program], {
      windowAccesses: 20_000,
      sampleEvery: 1_000_000,
    });
    const inWindows = calls
      .filter(([name]) => name === "access")
      .reduce((sum, call) => sum + (call[4] as number), 0);
    const ends = calls.filter(([name]) => name === "windowEnd");
    const represented = ends.reduce((sum, call) => sum + (call[2] as number), 0);

    const total = result.summary.nrAccesses;
    expect(total).toBeGreaterThan(4000 * 1237);
    expect(inWindows).toBe(ends.length * 20_000);
    expect(represented).toBeLessThanOrEqual(total);
    expect(total - represented).toBeLessThanOrEqual(1_000_000);
    expect(inWindows / total).toBeGreaterThan(0.02);
  });

  test("what a program execs is followed, through scripts too", async () => {
    const inner = compiled("inner", `int main() { put(map(1237), 0, 100); return 5; }`);
    const script = join(folder, "script");
    writeFileSync(script, `#!/bin/sh -e\n${inner} || exit 6\n`, { mode: 0o755 });

    const { calls, result } = await recorded([script, "argument"]);

    expect(touchesOf(calls, mappingOf(calls, 1237)).map((run) => run.slice(1))).toEqual([
      [0, 100, "write"],
    ]);
    expect(calls).toContainEqual(["exec", 1]);
    expect(calls).toContainEqual(["exit", 1, 5]);
    expect(result.status).toBe(6);
  });

  test("arguments, environment and input reach the program untouched", async () => {
    const program = compiled(
      "arguments",
      `int main(int n, char **a) { return !(n == 4 && strcmp(a[1], "--flag") == 0 && a[2][0] == 0 && strcmp(a[3], "a b") == 0); }`,
    );

    expect((await recorded([program, "--flag", "", "a b"])).result.status).toBe(0);
  });

  test("death by a signal is recorded, noted and returned", async () => {
    const program = compiled(
      "killed",
      `int main() { put(map(1237), 0, 77); raise(SIGKILL); return 0; }`,
    );

    const { calls, header, result } = await recorded([program]);

    expect(touchesOf(calls, mappingOf(calls, 1237))).toEqual([[0, 0, 77, "write"]]);
    expect(calls).toContainEqual(["exit", 0, 256 + 9]);
    expect(header.notes).toContain("the program died by SIGKILL");
    expect(result.status).toBe(137);
  });

  test("children killed at any moment leave a whole recording, and the parent's touches exact", async () => {
    const program = compiled(
      "killer",
      `int main() { for (int i = 0; i < 20; i++) { pid_t c = fork();
        if (c == 0) for (;;) { volatile char *p = map(64); put(p, 0, 64); munmap((void *)p, 64 * 4096); }
        volatile char *q = map(1237 + i); put(q, 0, 200); usleep(5000 + i * 137); kill(c, SIGKILL);
        put(q, 0, 200); madvise((void *)q, 50 * 4096, MADV_DONTNEED); put(q, 0, 200); waitpid(c, 0, 0); } return 0; }`,
    );

    const { calls, result } = await recorded([program]);

    expect(result.status).toBe(0);
    for (let i = 0; i < 20; i++) {
      expect(calls).toContainEqual(["exit", 1 + i, 256 + 9]);
      const own = touchesOf(calls, mappingOf(calls, 1237 + i)).filter(([thread]) => thread === 0);
      const nrPages = own.reduce((sum, run) => sum + run[2], 0);
      expect([nrPages, own.every((run) => run[3] === "write")]).toEqual([200 + 50, true]);
    }
  });

  test("a driver runs beside the program and its end ends the program", async () => {
    const program = compiled(
      "server",
      `int main() { volatile char *p = map(1237); put(p, 0, 10); char name[] = "driven"; for (;;) { if (access(name, F_OK) == 0) { put(p, 10, 5); pause(); } usleep(1000); } }`,
    );
    const back = process.cwd();
    process.chdir(folder);
    try {
      const { calls, result } = await recorded([program], { driver: "touch driven; sleep 0.3" });

      expect(touchesOf(calls, mappingOf(calls, 1237))).toEqual([[0, 0, 15, "write"]]);
      expect(result.status).toBe(128 + 15);
    } finally {
      process.chdir(back);
    }
  });

  test("plain runs give time, faults and peak memory without huge pages", async () => {
    const program = compiled("plain", `int main() { put(map(12370), 0, 12370); return 0; }`);

    const run = await plainRun({
      launcher: findLauncher(),
      program,
      command: [program],
      driver: "",
      nrRuns: 3,
    });

    expect(run?.nrRuns).toBe(3);
    expect(run?.minorFaults).toBeGreaterThanOrEqual(12370);
    expect(run?.minorFaults).toBeLessThan(12370 + 1000);
    expect(run?.peakRssBytes).toBeGreaterThan(12370 * 4096);
  });

  test.skipIf(!canTrace)(
    "--light has faults as touches, mappings by length, the status",
    async () => {
      const program = compiled("light", `int main() { put(map(1237), 0, 700); return 3; }`);
      const output = join(folder, "light.hlt");

      const result = await recordLight({ command: [program], output, nrPlainRuns: 0 }, QUIET);
      const calls = read(output);

      expect(touchesOf(calls, mappingOf(calls, 1237))).toEqual([[0, 0, 700, "write"]]);
      expect(calls[0][1]).toMatchObject({ source: "perf", command: [program] });
      expect(result.status).toBe(3);
    },
  );

  test("what cannot be recorded is said in one line and leaves nothing behind", async () => {
    const place = join(folder, "empty");
    mkdirSync(place);
    const output = join(place, "out.hlt");
    const noMode = join(folder, "no-mode");
    writeFileSync(noMode, "x");
    const noProgram = join(folder, "no-program");
    writeFileSync(noProgram, "just text\n", { mode: 0o755 });

    const attempts: [string, string, string][] = [
      ["no-such-program-here", "UsageError", "there is none of this name in PATH"],
      ["./no-such-file", "UsageError", "there is no such file"],
      [folder, "UsageError", "this is a folder"],
      [noMode, "UsageError", "this file may not be executed"],
      [noProgram, "NotPossibleHere", "neither an x86-64 ELF program nor a script"],
    ];
    for (const [program, name, message] of attempts) {
      await expect(recorded([program], { output })).rejects.toMatchObject({
        name,
        message: expect.stringContaining(message),
      });
    }
    await expect(recorded(["true"], { output: "/no/such/folder/t.hlt" })).rejects.toMatchObject({
      name: "NotPossibleHere",
      message: expect.stringContaining("its folder does not exist"),
    });
    for (const output of [folder, "/dev/null"]) {
      await expect(recorded(["true"], { output })).rejects.toMatchObject({ name: "UsageError" });
    }
    expect(readdirSync(place)).toEqual([]);
    expect(existsSync(output)).toBe(false);
  });

  const HUGELAB = resolve(import.meta.dirname, "../../dist/hugelab.mjs");
  const isBuilt = existsSync(HUGELAB);
  if (!isBuilt) console.log("the command itself is not tested here: npm run build first");

  test.skipIf(!isBuilt)(
    "the program's output is its own, ours is on stderr; its status comes back",
    () => {
      const output = join(folder, "echo.hlt");
      const words = ["record", "-o", output, "--no-plain-run", "--", "sh", "-c", "cat; exit 9"];

      const run = spawnSync(process.execPath, [HUGELAB, ...words], {
        input: "in",
        encoding: "utf8",
      });

      expect([run.stdout, run.status]).toEqual(["in", 9]);
      expect(run.stderr).toMatch(/^hugelab: .*echo\.hlt: .* MB, .* s, .* 2 processes\n$/);
    },
  );

  test.skipIf(!isBuilt)("Ctrl-C ends the program and keeps what was recorded", async () => {
    const program = compiled(
      "endless",
      `int main() { volatile char *p = map(1237); put(p, 0, 300); puts("ready"); fflush(stdout); for (;;) put(p, 0, 300); }`,
    );
    const output = join(folder, "endless.hlt");
    const words = ["record", "-q", "-o", output, "--no-plain-run", "--", program];

    const child = spawn(process.execPath, [HUGELAB, ...words], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    child.stdout.once("data", () => child.kill("SIGINT"));
    const status = await new Promise((done) => child.on("close", done));

    const calls = read(output);
    expect(touchesOf(calls, mappingOf(calls, 1237))).toEqual([[0, 0, 300, "write"]]);
    expect((calls[0][1] as TraceHeader).notes).toContain("ended early: interrupted");
    expect(status).toBe(128 + 15);
    expect(readdirSync(folder).filter((name) => name.startsWith("endless.hlt"))).toEqual([
      "endless.hlt",
    ]);
  });

  /** A file system of 100 kB in a mount namespace of its own. */
  const FULL_DISK = "mount -t tmpfs -o size=100k none full && ";
  const canMount =
    spawnSync("unshare", ["-m", "mount", "-t", "tmpfs", "none", tmpdir()]).status === 0;

  test.skipIf(!isBuilt || !canMount)(
    "a full disk is one line, nothing is left behind, and the exit is 3",
    () => {
      const program = compiled(
        "random",
        `int main() { volatile char *p = map(1237); for (int i = 0; i < 3000000; i++) p[rand() % 1237 * 4096] = 1; return 0; }`,
      );
      mkdirSync(join(folder, "full"));
      const words = `record -o full/t.hlt --no-plain-run --full -- ${program}`;
      const command = `${process.execPath} ${HUGELAB} ${words}; echo status $?; ls full | wc -l`;

      const run = spawnSync("unshare", ["-m", "sh", "-c", FULL_DISK + command], {
        cwd: folder,
        encoding: "utf8",
      });

      expect(run.stdout).toBe("status 3\n0\n");
      expect(run.stderr).toBe(
        "hugelab: full/t.hlt cannot be written: the disk is full; nothing was left behind\n",
      );
    },
  );
});
