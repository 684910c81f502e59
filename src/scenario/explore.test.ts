import { expect, test } from "vitest";
import { UsageError } from "../base/usage-error.ts";
import {
  exploreScenario,
  parseSchedule,
  replaySchedule,
  type ScenarioExploreOptions,
  scheduleText,
} from "./explore.ts";
import { formatScenario } from "./format.ts";
import { createModelBackend } from "./model-backend.ts";
import { parseScenario } from "./parse.ts";
import { runScenario } from "./run.ts";
import type { Scenario } from "./syntax.ts";

const HEADER = `scenario: a test
on: model
machine: memory=16m cpus=1
knobs: thp.enabled=always
`;

function scenario(text: string): Scenario {
  return parseScenario("test.scn", HEADER + text);
}

function explored(text: string, options: Partial<ScenarioExploreOptions> = {}) {
  return exploreScenario(scenario(text), {
    nrSamples: 0,
    seed: 1,
    check: "end",
    merge: "states",
    mostRuns: 1e9,
    ...options,
  });
}

const TWO_FAULTS = `
map R 1hp
task A: write R[3]
task B: read R[4]
task C: madvise R[0..8] DONTNEED
`;
const FAULT_AND_ZAP = `
map R 1hp
task A: write R[3]
task C: madvise R[0..8] DONTNEED
task C: madvise R[4] NOHUGEPAGE
`;
const SPLIT = `
map R 1hp
write R[0..512 by 128]
fork P
task S: split R[0]
task F: P: write R[128]
task X: madvise R[128] DONTNEED
`;

function outcomes({ explored: { counts }, outcomes: list }: ReturnType<typeof explored>) {
  const texts = list.map(({ results, lines }, i) => [
    JSON.stringify([results, [...lines]]),
    counts.get(i),
  ]);
  return Object.fromEntries(texts);
}

for (const [name, text] of Object.entries({ FAULT_AND_ZAP, SPLIT })) {
  test(`merging states changes neither the outcomes nor how many orders lead to each: ${name}`, () => {
    const merged = explored(text, { check: "every" });
    const plain = explored(text, { merge: "runs" });
    expect(outcomes(merged)).toEqual(outcomes(plain));
    expect(merged.explored.nrCovered).toBe(plain.explored.nrExecuted);
    expect(merged.explored.nrExecuted).toBeLessThan(plain.explored.nrExecuted / 2);
    expect([merged.findings, plain.findings]).toEqual([[], []]);
  }, 90_000);

  test(`every witness, replayed, ends as it says: ${name}`, () => {
    const merged = explored(text);
    expect(merged.outcomes.length).toBeGreaterThan(1);
    for (const { witness, lines, results } of merged.outcomes) {
      const replayed = replaySchedule(scenario(text), witness);
      expect(replayed.steps.length).toBe(witness.length);
      expect(replayed.outcomes.map((end) => [end.results, [...end.lines]])).toEqual([
        [results, [...lines]],
      ]);
    }
  }, 60_000);
}

test("drawn orders end as some of all orders do, and the same seed draws the same", () => {
  const wanted = Object.keys(outcomes(explored(TWO_FAULTS)));
  const drawn = explored(TWO_FAULTS, { nrSamples: 40, seed: 5, check: "every" });
  expect(wanted).toEqual(expect.arrayContaining(Object.keys(outcomes(drawn))));
  expect(outcomes(drawn)).toEqual(outcomes(explored(TWO_FAULTS, { nrSamples: 40, seed: 5 })));
  expect(drawn.explored.nrExecuted).toBe(40);
});

test("claims: what is not always so, what is sometimes never so, and what must never be, each with its witness", () => {
  const { findings } = explored(`${TWO_FAULTS}
always R[9] huge
sometimes R[3] swapped
never R[4] zero
always R[3] none if C -> EINVAL
sometimes A -> 0 B -> 0
never R[3] poisoned
`);
  const places = new Set(findings.map(({ kind, line }) => `${kind} ${line}`));
  expect([...places].toSorted()).toEqual(["claim 11", "claim 13", "unseen 12"]);
  const never = findings.find(({ line }) => line === 13)!;
  const alone = scenario(`${TWO_FAULTS}never R[4] zero\n`);
  expect(replaySchedule(alone, never.witness).findings.map(({ kind }) => kind)).toEqual(["claim"]);
});

test("a result that the line does not name is a finding; those named with | are not", () => {
  const text = (results: string) => `
map R 1hp
task A: unmap R[0..8]
task B: madvise R[0..8] POPULATE_READ -> ${results}
`;
  expect(explored(text("0|ENOMEM")).findings).toEqual([]);
  expect(explored(text("0")).findings.map(({ kind, text: said }) => [kind, said])).toEqual([
    ["result", "task B gives ENOMEM, not 0"],
  ]);
});

test("a call waits for the locks of operations under way: munmap only runs when no fault is in the middle", () => {
  const { explored: found, findings } = explored(
    `
map R 1hp
task A: write R[3] -> ?
task B: unmap R
`,
    { merge: "runs" },
  );
  // Before the fault, between the fault and the access, and after it; never between two phases of the fault.
  expect([found.nrExecuted, findings]).toEqual([3, []]);
});

test("COLL-280 what the scan counted is told as it was, though a fault has filled a page before the pages are taken", () => {
  const { outcomes: ends } = explored(`
knob thp.enabled=never
map R 1hp
write R[0]
task C: madvise R COLLAPSE
task F: write R[1]
`);
  const counts = ends.map(({ lines }) => lines.get("trace")!.match(/none_or_zero=\d+/g));
  // Isolated, then scanned: the events come in this order.
  expect(counts.toSorted()).toEqual([
    ["none_or_zero=510", "none_or_zero=510"],
    ["none_or_zero=510", "none_or_zero=511"],
    ["none_or_zero=511", "none_or_zero=511"],
  ]);
});

test("COLL-207 a collapse that brings pages back waits for those that a split is moving", () => {
  const { outcomes: ends, findings } = explored(`
map R 1hp
write R[0..512 by 64]
protect R[0] r
protect R[0] rw
task C: madvise R COLLAPSE -> 0|EAGAIN
task S: split R[0] -> 0|EAGAIN|EFAULT
never trace swapin ret=16
never trace collapse status=page_locked if S -> EFAULT
`);
  expect(findings).toEqual([]);
  expect(ends.some(({ lines }) => lines.get("trace")!.includes("swapin"))).toBe(true);
});

test("a process ends before its task begins or after it is done, never in the middle of a fault", () => {
  const { explored: found, outcomes: ends } = explored(
    "map R 1hp\nfork C\ntask A: C: write R[3]\ntask E: C: exit\n",
    { merge: "runs", check: "every" },
  );
  // Before the fault, between the fault and the access, after the access.
  expect(found.nrExecuted).toBe(3);
  expect(ends.map(({ results }) => results)).toContainEqual([[], ["0"]]);
});

test("a file with tasks runs them one after the other where it is run, and holds what is always so", () => {
  const text = `${TWO_FAULTS}always R[9] huge\nalways R[3] huge if C -> EINVAL\nnever R[4] zero\n`;
  const result = runScenario(scenario(text), createModelBackend());
  expect(result.nrStatements).toBe(4);
  expect(result.findings.map(({ line }) => line)).toEqual([10]);
});

test("a scenario with tasks is written as it was read", () => {
  const text = `${TWO_FAULTS}fork`.replace(
    "fork",
    `
always R[3] huge if A -> 0 B.1 -> 0|EAGAIN
sometimes A -> EAGAIN
never status VmPTE=4k
`,
  );
  const first = scenario(text);
  const again = parseScenario("test.scn", formatScenario(first));
  expect(formatScenario(again)).toBe(formatScenario(first));
  expect(again.exploration?.tasks.length).toBe(3);
  expect(again.exploration?.claims.length).toBe(3);
});

const MISTAKES: readonly (readonly [string, number, string])[] = [
  ["task A write R[0]", 5, "a name and a colon"],
  ["task A: mark", 8, "a statement that a task can make beside others"],
  ["task main: write R[0]", 5, "a new name: main is a process or thread"],
  ["task A: write R[0] -> 0|EFOO", 24, "an errno name, a signal"],
  ["task A: write R[0]\nwrite R[1]", 0, "tasks come last"],
  ["always R[0] huge", 0, "tasks before it"],
  ["task A: write R[0]\nalways R[0] huge if B -> 0", 20, "a task to be explored by name (A)"],
  ["task A: write R[0]\nalways R[0] huge if A.2 -> 0", 22, "from 1 to 1"],
  ["task A: write R[0]\nalways R[0] hug", 12, "one state"],
  ["task A: write R[0]\nalways A -> 0\ntask B: read R[0]", 0, "tasks before what is claimed"],
];

test.each(MISTAKES)("the mistake in %j is shown at its place", (text, column, wanted) => {
  let error: unknown;
  try {
    scenario(`map R 1hp\n${text}\n`);
  } catch (thrown) {
    error = thrown;
  }
  expect(error).toBeInstanceOf(UsageError);
  const { excerpt, wanted: said } = error as UsageError;
  expect([said, excerpt?.column]).toEqual([expect.stringContaining(wanted), column]);
});

test("schedules are written and read with repeats", () => {
  const { exploration } = scenario(TWO_FAULTS);
  const schedule = [0, 0, 0, 1, 0, 2, 2];
  expect(scheduleText(schedule, exploration!)).toBe("A*3 B A C*2");
  expect(parseSchedule("A*3 B A C*2", exploration!)).toEqual(schedule);
  expect(() => parseSchedule("A D", exploration!)).toThrow(UsageError);
  expect(() => replaySchedule(scenario(TWO_FAULTS), [2, 2])).toThrow(/step 2, C, which is over/);
});
