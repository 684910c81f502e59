import fc from "fast-check";
import { expect, test } from "vitest";
import { formatScenario } from "./format.ts";
import {
  FUZZ_WEIGHTS,
  type FuzzKind,
  type FuzzSetting,
  type FuzzStep,
  fuzzScenario,
} from "./fuzz-steps.ts";
import { createModelBackend } from "./model-backend.ts";
import { parseScenario } from "./parse.ts";
import { runScenario } from "./run.ts";

// HUGELAB_FUZZ_RUNS=1000 runs longer; HUGELAB_FUZZ_SEED takes another sequence.
const NR_RUNS = Number(process.env.HUGELAB_FUZZ_RUNS ?? 30);
const SEED = Number(process.env.HUGELAB_FUZZ_SEED ?? 20260302);

const number = fc.nat(100_000);
const kinds = Object.keys(FUZZ_WEIGHTS) as FuzzKind[];
const kind = fc.oneof(
  ...kinds.map((name) => ({ weight: FUZZ_WEIGHTS[name], arbitrary: fc.constant(name) })),
);
const step: fc.Arbitrary<FuzzStep> = fc.record({
  kind,
  who: number,
  range: number,
  at: number,
  length: number,
  variant: number,
});
const lists = fc.array(step, { minLength: 1, maxLength: 25, size: "max" });
const settings = fc.constantFrom<FuzzSetting>(
  { title: "fuzz", swap: "on" },
  { title: "fuzz", swap: "none" },
);

test(`random scenarios keep every invariant and read what was written (seed ${SEED})`, () => {
  const model = createModelBackend();
  fc.assert(
    fc.property(lists, settings, (steps, setting) => {
      const { findings } = runScenario(fuzzScenario(steps, setting), model);
      expect(findings).toEqual([]);
    }),
    { seed: SEED, numRuns: NR_RUNS },
  );
}, 300_000);

test("a random scenario is the same after it was written to a file", () => {
  fc.assert(
    fc.property(lists, settings, (steps, setting) => {
      const text = formatScenario(fuzzScenario(steps, setting));
      expect(formatScenario(parseScenario("fuzz.scn", text))).toBe(text);
    }),
    { seed: SEED, numRuns: 200 },
  );
});
