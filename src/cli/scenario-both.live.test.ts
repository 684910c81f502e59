/**
 * Random scenarios on the model and the running kernel side by side.
 */

import fc from "fast-check";
import { afterAll, expect, test } from "vitest";
import { FUZZ_WEIGHTS, type FuzzKind, fuzzScenario } from "../scenario/fuzz-steps.ts";
import { closeSides, openSides, runOne } from "./scenario-exec.ts";

const SEED = Number(process.env.HUGELAB_FUZZ_SEED ?? 20260303);
const NR_RUNS = Number(process.env.HUGELAB_FUZZ_RUNS ?? 40);

const sides = openSides("both");
afterAll(() => closeSides(sides));

test(`random scenarios show the same on both (seed ${SEED})`, () => {
  const number = fc.nat(100_000);
  const kinds = Object.keys(FUZZ_WEIGHTS) as FuzzKind[];
  const kind = fc.oneof(
    ...kinds.map((name) => ({ weight: FUZZ_WEIGHTS[name], arbitrary: fc.constant(name) })),
  );
  const step = fc.record({
    kind,
    who: number,
    range: number,
    at: number,
    length: number,
    variant: number,
  });
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 12, size: "max" }), (steps) => {
      const outcome = runOne(fuzzScenario(steps, { title: "fuzz", swap: "on" }), sides, "both");
      expect(outcome.kind === "ran" ? outcome.result.findings : []).toEqual([]);
    }),
    { seed: SEED, numRuns: NR_RUNS },
  );
}, 300_000);
