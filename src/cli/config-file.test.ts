import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { UsageError } from "../base/usage-error.ts";
import { findConfig, parseConfig } from "./config-file.ts";

const OPTIONS = ["mem", "cpus", "seed"];
const parse = (text: string) => parseConfig(text, "hugelab.yaml", OPTIONS);

function errorOf(text: string): UsageError {
  try {
    parse(text);
  } catch (error) {
    if (error instanceof UsageError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

describe("hugelab.yaml", () => {
  test("holds options, knobs and settings, each with its line", () => {
    const config = parse(
      [
        "mem: 2g",
        "seed: 0x10",
        "set:",
        "  thp.use_zero_page: 0",
        "settings:",
        "  - never",
        "  - name: mine",
        "    preset: always",
        "    set: { khugepaged.max_ptes_none: 007 }",
      ].join("\n"),
    );
    expect([...config.options]).toEqual([
      ["mem", { text: "2g", where: "hugelab.yaml:1" }],
      ["seed", { text: "0x10", where: "hugelab.yaml:2" }],
    ]);
    expect([...config.set]).toEqual([
      ["thp.use_zero_page", { text: "0", where: "hugelab.yaml:4" }],
    ]);
    expect(config.settings).toEqual([
      { text: "never", where: "hugelab.yaml:6" },
      { text: "mine:always,khugepaged.max_ptes_none=007", where: "hugelab.yaml:7" },
    ]);
  });

  test("may be empty", () => {
    const { options, set, settings } = parse("# nothing yet\n");
    expect([options.size, set.size, settings]).toEqual([0, 0, undefined]);
  });

  test("an unknown key is shown in its line, with the nearest key", () => {
    const error = errorOf("cpus: 2\nmemm: 2g\n");
    expect(error.message).toBe(
      'hugelab.yaml:2: found unknown key "memm", expected mem, cpus, seed, set, settings; did you mean mem?',
    );
    expect(error.excerpt).toEqual({ text: "memm: 2g", column: 0 });
  });

  test.each([
    ["mem: [1, 2]", 1, "found no value"],
    ["mem:", 1, "found no value"],
    ["settings: never", 1, "found no list"],
    ["settings:\n  - { preset: always, sett: {} }", 2, 'unknown key "sett"'],
    ["settings:\n  - { name: x }", 2, "an empty setting"],
    ["set: always", 1, "found no knobs"],
    ["- a\n- b", 1, "found no keys"],
    ["mem: '2g\n", 1, "not YAML"],
  ])("%j is refused with its line", (text, line, found) => {
    const { message } = errorOf(text);
    expect(message).toMatch(new RegExp(`^hugelab\\.yaml:${line === 1 ? "\\d" : line}: `));
    expect(message).toContain(found);
  });

  test("is found in the folder or the nearest one above", () => {
    const top = mkdtempSync(join(tmpdir(), "hugelab-config-"));
    try {
      const inner = join(top, "a", "b");
      mkdirSync(inner, { recursive: true });
      writeFileSync(join(top, "hugelab.yaml"), "mem: 1g\n");
      expect(findConfig(inner)).toBe(join(top, "hugelab.yaml"));
      writeFileSync(join(top, "a", "hugelab.yaml"), "mem: 2g\n");
      expect(findConfig(inner)).toBe(join(top, "a", "hugelab.yaml"));
    } finally {
      rmSync(top, { recursive: true });
    }
  });
});
