import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { MapCall, TraceSink } from "../trace/trace-sink.ts";
import { createTraceWriter } from "../trace/writer.ts";
import { DEFLATE_CODEC } from "./block-codec.ts";

const PROJECT = resolve(import.meta.dirname, "../..");
const HUGELAB = join(PROJECT, "dist", "hugelab.mjs");

let folder = "";
let trace = "";

interface Ended {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the built command in an empty folder, with a bare environment. */
function hugelab(args: readonly string[], options: { input?: Buffer; env?: object } = {}): Ended {
  const { status, stdout, stderr } = spawnSync(process.execPath, [HUGELAB, ...args], {
    cwd: folder,
    encoding: "utf8",
    input: options.input,
    env: { PATH: process.env.PATH, HOME: folder, XDG_CONFIG_HOME: folder, ...options.env },
  });
  return { status, stdout, stderr };
}

const PROT_READ_WRITE = 3;

/** A program that fills 16 MiB of anonymous memory, of which it writes every other page, and reads it in a window. */
function tellProgram(sink: TraceSink): void {
  const nrPages = 4096;
  sink.begin({
    command: ["./fill", "16 MiB"],
    source: "synthetic",
    has: { exactTouches: true, counts: false, order: "windows" },
    plainRun: {
      nrRuns: 5,
      wallMs: 100,
      userMs: 90,
      systemMs: 10,
      minorFaults: 2048,
      majorFaults: 0,
      peakRssBytes: 8 * 2 ** 20,
      kernel: "6.18",
      cpu: "test",
    },
  });
  sink.process(0, -1, "exec");
  sink.thread(0, 0);
  sink.map(0, {
    mapping: 0,
    nrPages,
    prot: PROT_READ_WRITE,
    isShared: false,
    backing: { kind: "anonymous" },
    placement: { kind: "any" },
    flags: [],
  });
  for (let page = 0; page < nrPages; page += 2) {
    if (page % 512 === 0) sink.time(page * 100);
    sink.touch(0, 0, page, 1, true);
  }
  sink.time(500_000);
  sink.windowBegin(0);
  for (let i = 0; i < 20_000; i++) sink.access(0, 0, (i * 14) % nrPages, 1, false);
  sink.windowEnd(0, 1_000_000);
  sink.time(1_000_000);
  sink.exit(0, 0);
  sink.end(1_000_000);
}

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "hugelab-command-"));
  trace = join(folder, "fill.hlt");
  const chunks: Uint8Array[] = [];
  tellProgram(createTraceWriter((chunk) => chunks.push(chunk.slice()), DEFLATE_CODEC));
  writeFileSync(trace, Buffer.concat(chunks));
});
afterAll(() => rmSync(folder, { recursive: true }));

describe("help", () => {
  test("-h is short, --help has examples", () => {
    const short = hugelab(["-h"]);
    const long = hugelab(["--help"]);
    expect([short.status, long.status]).toEqual([0, 0]);
    expect(short.stdout).not.toContain("Examples:");
    expect(long.stdout).toContain("hugelab compare -- ./my-program");
  });

  test.each(["compare", "record", "replay", "calibrate", "list", "completion"])(
    "%s --help has examples",
    (command) => {
      const { status, stdout } = hugelab([command, "--help"]);
      expect(status).toBe(0);
      expect(stdout).toContain("Examples:");
    },
  );

  test("without arguments the help is shown", () => {
    expect(hugelab([]).stdout).toContain("Usage: hugelab");
  });
});

describe("mistakes are one line and status 2", () => {
  test.each([
    [["compar"], "unknown command 'compar'; did you mean compare?"],
    [["compare", "--memm", "3"], "unknown option '--memm'; did you mean --mem?"],
    [["compare", "--mem", "3", "fill.hlt"], '--mem: found "3" (3 B), an impossible machine'],
    [["compare", "none.hlt"], "none.hlt: no such file"],
    [["compare", "."], ".: found a folder, expected a recording"],
    [["compare"], "expected TRACE or -- CMD ARGS..."],
    [["compare", "--"], "nothing after --"],
    [["compare", "fill.hlt", "--", "ls"], "a recording and a program"],
    [["compare", "a", "b"], "expected one recording"],
    [["compare", "fill.hlt", "--setting", "alway"], "did you mean always?"],
    [["compare", "fill.hlt", "--format", "xml"], '--format: found "xml"'],
    [["compare", "fill.hlt", "--costs", "none.json"], "--costs"],
    [["replay"], "missing required argument 'trace'"],
    [["replay", "fill.hlt", "--set", "thp.enabld=always"], "did you mean thp.enabled?"],
    [["replay", "fill.hlt", "--preset", "x"], 'unknown setting "x"'],
    [["list", "knob"], "did you mean knobs?"],
    [["--color", "pink", "list", "knobs"], '--color: found "pink"'],
  ])("%j", (args, message) => {
    const { status, stdout, stderr } = hugelab(args);
    expect([status, stdout]).toEqual([2, ""]);
    expect(stderr).toContain(message);
    expect(stderr.trimEnd().split("\n")).toHaveLength(1);
  });

  test("a wrong size shows its place", () => {
    expect(hugelab(["compare", "--mem", "12q", "fill.hlt"]).stderr).toMatch(/\n {2}12q\n {4}\^\n$/);
  });

  test("damage, truncation, foreign files and emptiness are told apart, with the offset", () => {
    const good = readFileSync(trace);
    const damaged = Buffer.from(good);
    damaged[good.length >> 1] = damaged[good.length >> 1] ^ 0xff;
    const cases: [string, Buffer, RegExp][] = [
      ["damaged.hlt", damaged, /^hugelab: damaged\.hlt: byte \d+: /],
      ["cut.hlt", good.subarray(0, good.length - 9), /^hugelab: cut\.hlt: byte \d+: .*cut off/],
      ["foreign.hlt", Buffer.from("PK\u0003\u0004 something"), /byte 0: found a zip archive/],
      ["empty.hlt", Buffer.alloc(0), /byte 0: found an empty file/],
    ];
    for (const [name, bytes, message] of cases) {
      writeFileSync(join(folder, name), bytes);
      const { status, stdout, stderr } = hugelab(["compare", name]);
      expect([name, status, stdout]).toEqual([name, 2, ""]);
      expect(stderr).toMatch(message);
      expect(stderr.trimEnd().split("\n")).toHaveLength(1);
    }
  });
});

describe("compare", () => {
  test("shows every setting and ends with the advice", () => {
    const { status, stdout } = hugelab(["compare", "fill.hlt"]);
    expect(status).toBe(0);
    expect(stdout).toMatch(/^ +never +madvise +always +always\+defrag +64kB$/m);
    expect(stdout.trimEnd().split("\n\n").at(-1)).toContain("How sure:");
  });

  test("--json is one document whose figures follow from the program", () => {
    const { stdout } = hugelab(["compare", "fill.hlt", "--json", "--setting", "always"]);
    const result = JSON.parse(stdout);
    const [never, always] = result.settings;
    expect([never.name, always.name]).toEqual(["never", "always"]);
    // 2048 written pages of 4 KiB; with huge pages all 16 MiB, of which half was never written.
    const MIB = 2 ** 20;
    expect(never.memory.peakRssBytes).toBe(8 * MIB);
    expect(always.memory.peakRssBytes).toBe(16 * MIB);
    expect(always.memory.peakNeverWrittenBytes).toBe(8 * MIB);
    expect([never.faults.total, always.faults.total]).toEqual([2048, 8]);
    expect(always.huge.coverageAtPeak).toBe(1);
    expect(never.time.predictedMs).toBe(100);
    expect(always.tlb.walkCycles).toBeLessThan(never.tlb.walkCycles);
  });

  test("gives the same bytes every time, with one worker or several", () => {
    const [one, two] = ["1", "2"].map((jobs) =>
      hugelab(["compare", "fill.hlt", "--json", "-j", jobs]),
    );
    expect(one.stdout).toBe(two.stdout);
  });

  test("reads stdin", () => {
    const { status, stdout } = hugelab(["compare", "-", "--json"], { input: readFileSync(trace) });
    expect(status).toBe(0);
    expect(JSON.parse(stdout).trace.name).toBe("stdin");
  });

  test("--ndjson has a line per setting and one for the rest", () => {
    const lines = hugelab(["compare", "fill.hlt", "--ndjson"]).stdout.trimEnd().split("\n");
    expect(lines.map((line) => JSON.parse(line).type)).toEqual([
      ...Array(5).fill("setting"),
      "comparison",
    ]);
  });

  test("--html writes one file, --format md a table, and nothing stays beside them", () => {
    const args = ["compare", "fill.hlt", "--html", "r.html", "--format", "md", "-o", "r.md"];
    const { status, stdout } = hugelab(args);
    expect([status, stdout]).toEqual([0, ""]);
    expect(readFileSync(join(folder, "r.html"), "utf8")).toMatch(
      /^<!doctype html>[\s\S]*<\/html>\n$/,
    );
    expect(readFileSync(join(folder, "r.md"), "utf8")).toContain("| predicted |");
    expect(readdirSync(folder).filter((name) => name.includes("tmp"))).toEqual([]);
  });

  test("refuses an output that cannot be written before it replays", () => {
    const { status, stdout, stderr } = hugelab(["compare", "fill.hlt", "--html", "none/r.html"]);
    expect([status, stdout]).toEqual([3, ""]);
    expect(stderr).toContain("its folder does not exist");
  });

  test("has no colour and no progress where nobody looks, and colour on demand", () => {
    const plain = hugelab(["compare", "fill.hlt"]);
    expect(plain.stdout + plain.stderr).not.toContain("\x1b[");
    expect(plain.stderr).toBe("");
    expect(hugelab(["compare", "fill.hlt", "--color", "always"]).stdout).toContain("\x1b[");
    const env = { FORCE_COLOR: "1" };
    expect(hugelab(["compare", "fill.hlt"], { env }).stdout).toContain("\x1b[");
  });

  test("says which knobs have no effect yet, unless quiet", () => {
    const args = ["replay", "fill.hlt", "--set", "thp.shmem_enabled=force"];
    expect(hugelab(args).stderr).toContain("thp.shmem_enabled changes nothing here");
    expect(hugelab([...args, "-q"]).stderr).toBe("");
  });

  test("records a program whose own output does not mix with the result", () => {
    const { status, stdout, stderr } = hugelab(["compare", "--json", "--", "/bin/echo", "hello"]);
    if (status === 3) return expect(stderr).toMatch(/gcc|qemu/);
    expect([status, stderr]).toEqual([0, expect.stringContaining("hello")]);
    expect(JSON.parse(stdout).trace.header.command).toEqual(["/bin/echo", "hello"]);
  });

  test("a program that cannot be started is a mistake, and nothing is left behind", () => {
    const before = readdirSync(tmpdir()).filter((name) => /^hugelab-\w{6}$/.test(name));
    const { status, stdout } = hugelab(["compare", "--", "./none"]);
    expect([status, stdout]).toEqual([2, ""]);
    expect(readdirSync(tmpdir()).filter((name) => /^hugelab-\w{6}$/.test(name))).toEqual(before);
  });
});

describe("odd programs", () => {
  /** The figures of "never" for a program that maps `call` and touches one page of it. */
  function replayed(call: Pick<MapCall, "nrPages" | "backing" | "flags">, page: number) {
    const chunks: Uint8Array[] = [];
    const sink = createTraceWriter((chunk) => chunks.push(chunk.slice()), DEFLATE_CODEC);
    const has = { exactTouches: true, counts: false, order: "none" } as const;
    sink.begin({ command: ["odd"], source: "synthetic", has });
    sink.process(0, -1, "exec");
    sink.thread(0, 0);
    const placement = { kind: "any" } as const;
    sink.map(0, { ...call, mapping: 0, prot: PROT_READ_WRITE, isShared: false, placement });
    sink.touch(0, 0, page, 1, true);
    sink.exit(0, 0);
    sink.end(1);
    const ended = hugelab(["replay", "-", "--json"], { input: Buffer.concat(chunks) });
    expect(ended.stderr).toBe("");
    return JSON.parse(ended.stdout).setting;
  }

  test("a reservation of 16 TiB of which one page is used costs one page", () => {
    const nrPages = 2 ** 32;
    const backing = { kind: "anonymous" } as const;
    const { memory, faults } = replayed({ nrPages, backing, flags: ["noreserve"] }, nrPages - 1);
    expect([memory.peakRssBytes, faults.total]).toEqual([4096, 1]);
  });

  test("a page far into a file costs one page of cache and one of its own", () => {
    const backing = { kind: "file", path: "/data", firstPage: 2 ** 35 - 1 } as const;
    const { memory } = replayed({ nrPages: 1, backing, flags: [] }, 0);
    expect(memory.peakRssBytes).toBe(4096);
  });
});

describe("options from elsewhere", () => {
  test("--dry-run says what was resolved and from where, and runs nothing", () => {
    writeFileSync(join(folder, "hugelab.yaml"), "cpus: 2\nset:\n  thp.use_zero_page: 0\n");
    try {
      const args = ["replay", "none.hlt", "--dry-run", "--mem", "1g", "--preset", "always"];
      const { status, stdout } = hugelab(args, { env: { HUGELAB_SEED: "9" } });
      expect(status).toBe(0);
      expect(stdout).toMatch(/^mem +1073741824 +flag --mem$/m);
      expect(stdout).toMatch(/^cpus +2 +file hugelab\.yaml:1$/m);
      expect(stdout).toMatch(/^seed +9 +environment HUGELAB_SEED$/m);
      expect(stdout).toMatch(/^thp\.enabled +always +preset always \(flag --preset\)$/m);
      expect(stdout).toMatch(/^thp\.use_zero_page +0 +file hugelab\.yaml:3$/m);
    } finally {
      rmSync(join(folder, "hugelab.yaml"));
    }
  });
});

describe("pipes and signals", () => {
  test("a reader that has enough is a quiet success", async () => {
    const child = spawn(process.execPath, [HUGELAB, "list", "knobs"], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    child.stdout.destroy();
    let stderr = "";
    child.stderr.on("data", (chunk) => {
      stderr += chunk;
    });
    const status = await new Promise((ended) => child.on("close", ended));
    expect([status, stderr]).toEqual([0, ""]);
  });

  test("Ctrl-C ends the workers and removes what was copied", async () => {
    const child = spawn(process.execPath, [HUGELAB, "compare", "-"], {
      stdio: ["pipe", "ignore", "ignore"],
      env: { ...process.env, TMPDIR: folder },
    });
    child.stdin.write(readFileSync(trace).subarray(0, 100));
    while (!readdirSync(folder).some((name) => name.startsWith("hugelab-"))) {
      await new Promise((later) => setTimeout(later, 20));
    }
    child.kill("SIGINT");
    const status = await new Promise((ended) => child.on("close", ended));
    expect(status).toBe(130);
    expect(readdirSync(folder).filter((name) => name.startsWith("hugelab-"))).toEqual([]);
  });
});

describe("completion", () => {
  /** What bash offers for a command line. */
  function offered(words: readonly string[]): string[] {
    const script = `source <("$0" "$1" completion bash)
      COMP_WORDS=(hugelab "\${@:2}"); COMP_CWORD=$((\${#COMP_WORDS[@]} - 1)); _hugelab
      printf '%s\\n' "\${COMPREPLY[@]}"`;
    const args = ["-c", script, process.execPath, HUGELAB, ...words];
    return spawnSync("bash", args, { encoding: "utf8", cwd: folder }).stdout.trim().split("\n");
  }

  test("bash completes commands, options, knobs and lists", () => {
    expect(offered(["comp"])).toEqual(["compare", "completion"]);
    expect(offered(["compare", "--tr"])).toEqual(["--translation"]);
    expect(offered(["replay", "x", "--set", "khugepaged.max_ptes_s"])).toEqual([
      "khugepaged.max_ptes_swap=",
      "khugepaged.max_ptes_shared=",
    ]);
    expect(offered(["list", "kn"])).toEqual(["knobs"]);
    expect(offered(["compare", "fill"])).toEqual(["fill.hlt"]);
  });
});

test("list --json is a document with the list's items", () => {
  const { items } = JSON.parse(hugelab(["list", "profiles", "--json"]).stdout);
  expect(items[0]).toEqual({ name: "linux-6.18", default: "yes" });
});
