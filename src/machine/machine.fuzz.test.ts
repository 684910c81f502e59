import fc from "fast-check";
import { expect, test } from "vitest";
import { PROFILES } from "../base/profile.ts";
import { digestOf } from "./digest.ts";
import { FuzzRun } from "./fuzz-run.ts";
import { STEP_WEIGHTS, type Step, type StepName } from "./fuzz-steps.ts";

// HUGELAB_FUZZ_RUNS=1000 runs longer and shrinks what fails; HUGELAB_FUZZ_SEED takes another sequence.
const RUNS = process.env.HUGELAB_FUZZ_RUNS;
const NR_RUNS = Number(RUNS ?? 15);
const SEED = Number(process.env.HUGELAB_FUZZ_SEED ?? 20260101);
const HOW = { seed: SEED, endOnFailure: RUNS === undefined };

const name = fc.oneof(
  ...(Object.keys(STEP_WEIGHTS) as StepName[]).map((key) => ({
    weight: STEP_WEIGHTS[key],
    arbitrary: fc.constant(key),
  })),
);
const number = fc.integer({ min: 0, max: 100_000 });
const step: fc.Arbitrary<Step> = fc.record({
  name,
  who: number,
  at: number,
  length: number,
  variant: number,
});

function histories(maxLength: number): fc.Arbitrary<Step[]> {
  return fc.array(step, { minLength: 1, maxLength, size: "max" });
}

for (const profile of PROFILES) {
  test(`random histories keep every invariant and read what was written (${profile.name})`, () => {
    fc.assert(
      fc.property(histories(120), fc.constantFrom(24, 48, 64), (list, memoryMb) => {
        const run = new FuzzRun({ profile, memoryMb, nrNodes: 1 });
        for (const one of list) run.step(one);
        run.finish();
      }),
      { ...HOW, numRuns: NR_RUNS },
    );
  }, 600_000);
}

test("a history interrupted by detours that a restore undoes ends in the same digest", () => {
  fc.assert(
    fc.property(histories(40), fc.constantFrom(...PROFILES), (list, profile) => {
      const straight = new FuzzRun({ profile, memoryMb: 32, nrNodes: 1 });
      const detoured = new FuzzRun({ profile, memoryMb: 32, nrNodes: 1 });
      for (const [i, one] of list.entries()) {
        straight.step(one);
        if (i % 16 === 8) detoured.detour();
        detoured.step(one);
      }
      expect(digestOf(detoured.m)).toBe(digestOf(straight.m));
    }),
    { ...HOW, numRuns: Math.max(2, NR_RUNS / 5) },
  );
}, 600_000);

test("one changed page changes the digest", () => {
  const run = new FuzzRun({ profile: PROFILES[0], memoryMb: 32, nrNodes: 1 });
  const before = digestOf(run.m);
  const { tag } = run.m.frames;
  tag[run.m.zeroPfn] = 1;
  expect(digestOf(run.m)).not.toBe(before);
  tag[run.m.zeroPfn] = 0;
  expect(digestOf(run.m)).toBe(before);
});
