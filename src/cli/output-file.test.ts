import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { NotPossibleHere } from "./not-possible.ts";
import { checkOutput, writeOutput } from "./output-file.ts";
import { terminalFor } from "./terminal.ts";

const terminal = terminalFor({ quiet: true });
let folder = "";

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "hugelab-output-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

describe("an output file", () => {
  test("is replaced whole, and nothing stays beside it", async () => {
    const path = join(folder, "report.html");
    writeFileSync(path, "old");
    await writeOutput(terminal, path, "new");
    expect([readFileSync(path, "utf8"), readdirSync(folder)]).toEqual(["new", ["report.html"]]);
  });

  test("that cannot be written leaves nothing behind", async () => {
    const path = join(folder, "none", "report.html");
    await expect(writeOutput(terminal, path, "x")).rejects.toThrow(NotPossibleHere);
    expect(readdirSync(folder)).toEqual([]);
  });

  test("is refused before the work if its folder does not exist or it is a folder", () => {
    expect(() => checkOutput(join(folder, "none", "x"))).toThrow("its folder does not exist");
    expect(() => checkOutput(folder)).toThrow("it is a folder");
    expect(() => checkOutput(join(folder, "x"))).not.toThrow();
    expect(readdirSync(folder)).toEqual([]);
  });

  test("that is a device is written to, not replaced", async () => {
    const path = join(folder, "null");
    symlinkSync("/dev/null", path);
    await writeOutput(terminal, path, "x");
    expect(readFileSync(path, "utf8")).toBe("");
  });
});
