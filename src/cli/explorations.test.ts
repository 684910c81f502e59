import { join, relative } from "node:path";
import { describe, expect, test } from "vitest";
import { NO_PAINT } from "../lab/paint.ts";
import { exploreScenario, replaySchedule } from "../scenario/explore.ts";
import { EXPLORE_FOLDER } from "./explore.ts";
import { exploredText } from "./explore-report.ts";
import { readScenarios } from "./scenario-files.ts";
import { findLibrary } from "./scenario-library.ts";

// Rules in the headers of these files are tested here: each file says what would be otherwise.
const FOLDER = join(findLibrary(), EXPLORE_FOLDER);
/** Runs that suffice for each: what an end must be `sometimes` is judged when all are known. */
const MOST_RUNS = 1000;
const NR_SAMPLES = 30;

describe("the bundled explorations find nothing wrong", () => {
  const scenarios = readScenarios([FOLDER]);

  test.each(scenarios.map((scenario) => ({ name: relative(FOLDER, scenario.file), scenario })))(
    "$name",
    ({ scenario }) => {
      const common = { seed: 1, merge: "states", mostRuns: MOST_RUNS } as const;
      for (const how of [
        { nrSamples: 0, check: "end" },
        { nrSamples: NR_SAMPLES, check: "every" },
      ] as const) {
        const explored = exploreScenario(scenario, { ...common, ...how });
        const text = exploredText({ explored, seed: 1, seconds: 1, ...how }, NO_PAINT);
        expect(explored.explored.isComplete).toBe(how.nrSamples === 0);
        expect(explored.setUp.length + explored.findings.length === 0 ? "" : text).toBe("");
      }
    },
    60_000,
  );

  test("each has several tasks, which find nothing wrong one after the other either", () => {
    for (const scenario of scenarios) {
      const { exploration } = scenario;
      expect(exploration?.tasks.length).toBeGreaterThan(1);
      expect(replaySchedule(scenario, []).findings).toEqual([]);
    }
  });
});
