import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const PROJECT = resolve(import.meta.dirname, "../..");
const HUGELAB = join(PROJECT, "dist", "hugelab.mjs");

let folder = "";

function hugelab(args: readonly string[], input?: string) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [HUGELAB, ...args], {
    cwd: folder,
    encoding: "utf8",
    input,
    env: { PATH: process.env.PATH, HOME: folder, XDG_CONFIG_HOME: folder },
  });
  return { status, stdout, stderr };
}

const GOOD =
  "scenario: good\nknobs: thp.enabled=always\nmap R 1hp\nwrite R[0]\nexpect R huge\nfork C\n";
const BAD = "scenario: bad\nmap R 1hp\nwrite R[0]\nexpect R[0..4] huge\n";

beforeAll(() => {
  const built = spawnSync(process.execPath, [join(PROJECT, "scripts", "build.mjs")], {
    encoding: "utf8",
  });
  if (built.status !== 0) throw new Error(built.stderr);
  folder = mkdtempSync(join(tmpdir(), "hugelab-scenarios-"));
  writeFileSync(join(folder, "good.scn"), GOOD);
  writeFileSync(join(folder, "bad.scn"), BAD);
}, 120_000);

afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("run", () => {
  test("a scenario that holds is one line", () => {
    expect(hugelab(["run", "good.scn"])).toEqual({
      status: 0,
      stdout: "ok  good.scn  3 statements, 1 expectations\n",
      stderr: "",
    });
    expect(hugelab(["run", "good.scn", "-q"]).stdout).toBe("");
    expect(hugelab(["run", "-"], GOOD).stdout).toBe("ok  stdin  3 statements, 1 expectations\n");
  });

  test("one that does not says where, what was expected and what was seen, and ends with 1", () => {
    const { status, stdout } = hugelab(["run", "bad.scn"]);
    expect(status).toBe(1);
    expect(stdout).toBe(
      "failed  bad.scn  2 statements, 1 expectations\n" +
        "  bad.scn:4: on the model: expected huge, found R[0] small\n" +
        "    expect R[0..4] huge\n    ^\n",
    );
  });

  test("a folder is all its scenarios, in the order of their names", () => {
    const { status, stdout } = hugelab(["run", "."]);
    expect(status).toBe(1);
    expect(stdout.split("\n").filter((line) => /^\w/.test(line))).toEqual([
      "failed  bad.scn  2 statements, 1 expectations",
      "ok  good.scn  3 statements, 1 expectations",
      "2 scenarios: 1 ok, 1 failed",
    ]);
  });

  test("a mistake in a file is one line with a caret, and nothing is run", () => {
    const { status, stdout, stderr } = hugelab(["run", "good.scn", "-"], "scenario: x\nwirte R\n");
    expect([status, stdout]).toEqual([2, ""]);
    expect(stderr).toBe(
      'hugelab: stdin:2: found "wirte", expected a verb; did you mean write?\n  wirte R\n  ^\n',
    );
  });

  test("a dump is what a process's file says at the end", () => {
    const { stdout } = hugelab(["run", "good.scn", "--dump", "smaps@C", "-q"]);
    expect(stdout).toMatch(/^smaps of C:\n/);
    expect(stdout).toContain("AnonHugePages:      2048 kB\n");
    expect(hugelab(["run", "good.scn", "--dump", "smaps@D"]).status).toBe(2);
    expect(hugelab(["run", "good.scn", "--dump", "smap"]).stderr).toContain("did you mean smaps?");
  });

  test("--json is one document with every finding", () => {
    const { status, stdout } = hugelab(["run", "good.scn", "bad.scn", "--json"]);
    expect(status).toBe(1);
    const document = JSON.parse(stdout);
    expect(document).toMatchObject({ schema: "hugelab.run", version: 1, on: "model" });
    expect(document.files.map((file: { status: string }) => file.status)).toEqual(["ok", "failed"]);
    expect(document.files[1].findings[0]).toMatchObject({ line: 4, wanted: "huge" });
  });
});

describe("verify", () => {
  test("the scenarios of a rule against their recordings", () => {
    const { status, stdout } = hugelab(["verify", "ANON-151"]);
    expect(stdout).toMatch(/^\d+ scenarios: \d+ ok\n$/);
    expect(status).toBe(0);
    expect(hugelab(["verify", `ANON-${999}`]).status).toBe(2);
  });

  test("a file that was never recorded is not possible", () => {
    const { status, stdout } = hugelab(["verify", "good.scn"]);
    expect(status).toBe(3);
    expect(stdout).toContain("there is no recording of it");
  });
});

describe("fuzz", () => {
  test("a seed gives the same scenarios again, and none fails", () => {
    const args = ["fuzz", "--runs", "10", "--seed", "7"];
    const [first, second] = [hugelab(args), hugelab(args)];
    expect(first.status).toBe(0);
    expect(first.stderr).toBe("hugelab: seed 7\n");
    const counts = (text: string) => text.replace(/\(.*/, "");
    expect(counts(first.stdout)).toMatch(/^10 scenarios, \d+ statements, seed 7: no failure /);
    expect(counts(second.stdout)).toBe(counts(first.stdout));
    expect(existsSync(join(folder, "fuzz-failure.scn"))).toBe(false);
  });

  test("what it may not be asked for", () => {
    expect(hugelab(["fuzz", "--on", "kernel"]).stderr).toContain("expected model or both");
    expect(hugelab(["fuzz", "--runs", "x"]).status).toBe(2);
    expect(readFileSync(join(folder, "good.scn"), "utf8")).toBe(GOOD);
  });
});

describe("explore", () => {
  const TASKS = "scenario: two writes\nmap R 2p\ntask A: write R[0]\ntask B: write R[1]\n";

  test("all orders, their outcomes, and the schedule of what is wrong", () => {
    const wrong = `${TASKS}always R[1] none if A -> 0\n`;
    const { status, stdout } = hugelab(["explore", "-"], wrong);
    expect(status).toBe(1);
    expect(stdout).toContain("all 6 orders of 2 tasks");
    expect(stdout).toContain("stdin:5: expected none, found R[1] small");
    const schedule = /--replay "([^"]*)"/.exec(stdout)![1];
    const again = hugelab(["explore", "-", "--replay", schedule], wrong);
    expect([again.status, again.stdout.split("\n").length]).toEqual([1, 12]);
    expect(hugelab(["explore", "-"], TASKS).status).toBe(0);
  });

  test("--json is one document", () => {
    const { status, stdout } = hugelab(["explore", "-", "--json", "--samples", "5"], TASKS);
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      schema: "hugelab.explore",
      files: [{ tasks: ["A", "B"], nrSamples: 5, nrExecuted: 5, findings: [] }],
    });
  });

  test("what it may not be asked for", () => {
    expect(hugelab(["explore"]).status).toBe(2);
    expect(hugelab(["explore", "good.scn"]).stderr).toContain("no tasks");
    expect(hugelab(["explore", "-", "--replay", "A C"], TASKS).stderr).toContain(
      "tasks by name (A, B)",
    );
    expect(hugelab(["explore", "-", "--check", "never"], TASKS).status).toBe(2);
  });
});
