import { describe, expect, test } from "vitest";
import { fixtureComparison, fixtureSetting, fixtureTrace } from "./comparison.fixture.ts";
import { COST_ERROR, compareReplays, LARGEST_GAIN, type Replays, RUN_NOISE } from "./comparison.ts";
import type { TimePart } from "./result.ts";

const part = (name: string, ms: number): TimePart => ({ name, ms, basis: "given" });

const NEVER = [part("page walks", 300), part("page faults", 100)];
const ALWAYS = [part("page walks", 50), part("page faults", 40), part("zeroing", 60)];

/** Replays under never and always of a run that took 1000 ms if there was one. */
function replays(nrRuns = 5, never = NEVER): Replays {
  const trace = fixtureTrace({ nrRuns });
  const outcome = (name: string, parts: readonly TimePart[]) => ({
    result: fixtureSetting({ name, peakMib: 100, predictedMs: null, parts }),
    trace,
    notModelled: ["Swap."],
  });
  return {
    outcomes: [outcome("never", never), outcome("always", ALWAYS)],
    settings: [
      { name: "never", knobs: { "thp.enabled": "never" } },
      { name: "always", knobs: { "thp.shmem_enabled": "force" } },
    ],
    machine: fixtureComparison().machine,
    costQuality: "measured",
  };
}

describe("predicted times", () => {
  test("the baseline's is the recorded one, give or take the noise", () => {
    const { time } = compareReplays(replays()).settings[0];
    expect([time.predictedMs, time.uncertainty]).toEqual([1000, RUN_NOISE]);
  });

  test("another's has the baseline's parts taken out and its own put in", () => {
    // 1000 - (300 + 100) + (50 + 40 + 60)
    expect(compareReplays(replays()).settings[1].time.predictedMs).toBe(750);
  });

  test("the uncertainty grows with what is shifted, also where parts cancel out", () => {
    const { time } = compareReplays(replays()).settings[1];
    // 250 ms of walks, 60 of faults, 60 of zeroing
    expect(time.uncertainty).toBeCloseTo(RUN_NOISE + (COST_ERROR.measured * 370) / 750, 12);
    const builtIn = compareReplays({ ...replays(), costQuality: "builtIn" }).settings[1];
    expect(builtIn.time.uncertainty).toBeGreaterThan(time.uncertainty);
  });

  test("a part that the setting no longer has counts as shifted", () => {
    const never = [...NEVER, part("splits", 200)];
    const { time } = compareReplays(replays(5, never)).settings[1];
    expect(time.uncertainty).toBeCloseTo(RUN_NOISE + (COST_ERROR.measured * 570) / 550, 12);
  });

  test("costs of another machine cannot explain the whole run away", () => {
    const result = compareReplays(replays(5, [part("page walks", 5000)]));
    expect(result.settings[1].time.predictedMs).toBeCloseTo(1000 * (1 - LARGEST_GAIN), 9);
  });

  test("are absent without a plain run, and the parts stay", () => {
    const { settings, advice } = compareReplays(replays(0));
    expect(settings.map((s) => s.time.predictedMs)).toEqual([null, null]);
    expect(settings[1].time.parts).toEqual(ALWAYS);
    expect(advice.text).toContain("no real run time was recorded");
  });
});

test("what is left out is said once, with knobs that have no effect", () => {
  expect(compareReplays(replays()).notModelled).toEqual([
    "Swap.",
    "thp.shmem_enabled changes nothing here: shared memory and tmpfs are not simulated as huge.",
  ]);
});
