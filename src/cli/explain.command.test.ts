import { spawnSync } from "node:child_process";
import { join, resolve } from "node:path";
import { describe, expect, test } from "vitest";

const PROJECT = resolve(import.meta.dirname, "../..");
const HUGELAB = join(PROJECT, "dist", "hugelab.mjs");
const TRACE = join(PROJECT, "recordings", "largepages.hlt");

/** Runs the built command. */
function explain(...args: readonly string[]) {
  return spawnSync(process.execPath, [HUGELAB, "explain", TRACE, ...args], {
    encoding: "utf8",
    env: { PATH: process.env.PATH, NO_COLOR: "1" },
  });
}

test("a table says of each window whether it is huge, and why not", () => {
  const { status, stdout } = explain("--at", "10ms", "--preset", "never");
  expect(status).toBe(0);
  expect(stdout).toMatch(/^process {2}address .* p e h {2}mapped/);
  expect(stdout).toContain("policy (ANON-021): the policy of 2048kB is never");
});

test("--json is one versioned document", () => {
  const { stdout } = explain("--at", "10ms", "--preset", "always", "--json");
  const document = JSON.parse(stdout);
  expect([document.schema, document.version, document.atNs]).toEqual(["hugelab.explain", 1, 1e7]);
  expect(document.windows.some(({ isHuge }: { isHuge: boolean }) => isHuge)).toBe(true);
});

describe("a mistake is one line, and exit 2", () => {
  test.each([
    [["--at", "9999s"], /--at: found 9999 s, expected a moment before the recording's end, /],
    [["--at", "soon"], /--at: found "soon", expected a time such as 500ms/],
    [["--at", "1ms", "--addr", "zz"], /--addr: found zz, expected a user address/],
  ])("%s", (args, wanted) => {
    const { status, stderr } = explain(...args);
    expect([status, stderr.split("\n")[0]]).toEqual([2, expect.stringMatching(wanted)]);
  });
});
