import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { nativeProgram, packagePath } from "./native-build.ts";
import { NotPossibleHere } from "./not-possible.ts";

let scratch = "";
const saved = { cache: process.env.XDG_CACHE_HOME, path: process.env.PATH, cc: process.env.CC };

beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), "hugelab-build-"));
  process.env.XDG_CACHE_HOME = join(scratch, "cache");
  mkdirSync(join(scratch, "bin"));
});

afterEach(() => {
  restore("XDG_CACHE_HOME", saved.cache);
  restore("PATH", saved.path);
  restore("CC", saved.cc);
  rmSync(scratch, { recursive: true, force: true });
});

function restore(name: string, value: string | undefined): void {
  if (value === undefined) delete process.env[name];
  else process.env[name] = value;
}

/** A stand-in compiler: writes a runnable script to the path after -o, and counts how often it ran. */
function fakeCompiler(script: string): void {
  const path = join(scratch, "bin", "cc");
  writeFileSync(
    path,
    `#!/bin/sh\n[ "$1" = --version ] && exit 0\necho run >>${scratch}/runs\n${script}\n`,
    {
      mode: 0o755,
    },
  );
  delete process.env.CC;
  process.env.PATH = `${join(scratch, "bin")}:/usr/bin:/bin`;
}

const WRITE_OUTPUT = `while [ "$1" != -o ]; do shift; done; printf '#!/bin/sh\\necho built\\n' >"$2"; chmod +x "$2"`;

test("a program is built once and then taken from the cache", () => {
  fakeCompiler(WRITE_OUTPUT);

  const first = nativeProgram("calibrate/calibrate.c");
  const second = nativeProgram("calibrate/calibrate.c");

  expect(second).toBe(first);
  expect(execFileSync(first, { encoding: "utf8" })).toBe("built\n");
  expect(execFileSync("cat", [join(scratch, "runs")], { encoding: "utf8" })).toBe("run\n");
});

test("a compiler that fails leaves nothing in the cache", () => {
  fakeCompiler(
    `while [ "$1" != -o ]; do shift; done; echo half >"$2"; echo "error: no" >&2; exit 1`,
  );

  expect(() => nativeProgram("calibrate/calibrate.c")).toThrow("does not compile");
  expect(readdirSync(join(scratch, "cache", "hugelab"))).toEqual([]);
});

test("missing C headers name the Debian package", () => {
  fakeCompiler(`echo "x.c:1:10: fatal error: stdio.h: No such file or directory" >&2; exit 1`);

  expect(() => nativeProgram("calibrate/calibrate.c")).toThrow(/libc6-dev/);
});

test("without a compiler the error names the Debian package and exits 3", () => {
  process.env.PATH = join(scratch, "bin");
  delete process.env.CC;

  let caught: unknown;
  try {
    nativeProgram("calibrate/calibrate.c");
  } catch (error) {
    caught = error;
  }

  expect(caught).toBeInstanceOf(NotPossibleHere);
  expect((caught as NotPossibleHere).exitCode).toBe(3);
  expect((caught as NotPossibleHere).message).toContain('"gcc"');
});

test("package files are found from the sources", () => {
  expect(readdirSync(packagePath("native"))).toContain("calibrate");
});
