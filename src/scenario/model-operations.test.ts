import { describe, expect, test } from "vitest";
import { CannotDo } from "./backend.ts";
import { createModelBackend } from "./model-backend.ts";
import { parseScenario } from "./parse.ts";
import { runScenario } from "./run.ts";

const HEAD = [
  "scenario: x",
  "on: model",
  "machine: memory=64m memory_failure=on",
  "swap: 16m",
  "knobs: thp.enabled=always",
];

/** What is not as the lines say; line numbers count from the first of `lines`. */
function findings(lines: readonly string[]): string[] {
  const scenario = parseScenario("f.scn", `${[...HEAD, ...lines].join("\n")}\n`);
  const run = runScenario(scenario, createModelBackend());
  return run.findings.map(
    ({ line, wanted, seen }) => `${line - HEAD.length}: ${wanted}, not ${seen}`,
  );
}

/** A huge page in main and a thread of it, with the statement held. */
function held(phase: string, statement: string): string[] {
  return ["map R 1hp", "write R", "thread T", `hold T at ${phase}: ${statement}`];
}

describe("every statement that is an operation can be held at a phase of its own or of what it calls", () => {
  test.each([
    ["breakUp", "poison R[3]", "expect R[3] poisoned"],
    ["judge", "poison R[3]", "expect R[3] poisoned"],
    ["remap", "soft-offline R[3]", "expect R[4] small"],
    ["move", "soft-offline R[3]", "expect R[3] small"],
  ])("%s of %s", (phase, statement, after) => {
    expect(findings([...held(phase, statement), "continue T", after])).toEqual([]);
  });

  test("a pass of the deferred split shrinker, by drop-caches and by shrink", () => {
    for (const statement of ["drop-caches", "shrink nr=4"]) {
      const lines = [
        "map R 1hp",
        "write R",
        "unmap R[500..512]",
        "thread T",
        `hold T at remap: ${statement}`,
        "expect R[0..500] migrating",
        "continue T",
        "expect R[0..500] small",
        "write R[3]",
      ];
      expect(findings(lines)).toEqual([]);
    }
  });
});

test("another's call meets what is held: a fork in the middle of a split waits for the anon_vma", () => {
  const lines = [
    ...held("remap", "poison R[3]"),
    "fork C -> EAGAIN",
    "continue T",
    "fork D",
    "expect D: R[4] small mapcount=2",
  ];
  expect(findings(lines)).toEqual([]);
});

test("a snapshot with a held task goes back to it, and it can be run on from there again", () => {
  const lines = [
    ...held("breakUp", "poison R[3]"),
    "snapshot S",
    "expect R migrating",
    "continue T",
    "expect R[4] small",
    "restore S",
    "expect R migrating",
    "continue T",
    "expect R[3] poisoned",
    "expect R[4] small",
  ];
  expect(findings(lines)).toEqual([]);
});

test("a process does not exit while one of its tasks is held", () => {
  const lines = ["fork C", "C: map R 1hp", "C: thread T", "hold T at install: write R[0]"];
  expect(findings([...lines, "C: exit"])).toEqual(["5: success, not EAGAIN"]);
  expect(findings([...lines, "continue T", "C: exit"])).toEqual([]);
});

describe("what cannot be held says why", () => {
  test.each([
    ["nowhere", "write R[0]", /no operation has a phase nowhere; there are fault: enter allocate/],
    ["install", "unmap R", /unmap is no operation of several phases; those of read, write, /],
    ["install", "write R", /this write is over in one step; hold a touch of one page that faults/],
    ["retire", "write R[0]", /fault ended without coming to retire/],
  ])("at %s: %s", (phase, statement, wanted) => {
    const lines = ["map R 1hp", "thread T", `hold T at ${phase}: ${statement}`];
    expect(() => findings(lines)).toThrow(wanted);
    expect(() => findings(lines)).toThrow(CannotDo);
  });
});
