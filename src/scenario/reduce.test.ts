import { expect, test } from "vitest";
import { formatStep } from "./format.ts";
import { parseScenario } from "./parse.ts";
import { reduceScenario, withSteps } from "./reduce.ts";
import type { Scenario } from "./syntax.ts";

const LONG = `scenario: x
knobs: thp.enabled=always

map R 2hp
write R
fork C
map S 1hp
C: write R[3]
C: write S[0]
fork D
D: write R[1]
unmap S
C: exit
write R[7]
`;

const texts = (scenario: Scenario) => scenario.steps.map(formatStep);

test("a scenario is reduced to the steps that matter and those they need", () => {
  const scenario = parseScenario("f", LONG);
  const fails = (candidate: Scenario) => texts(candidate).includes("C: write R[3]");
  expect(texts(reduceScenario(scenario, fails, 1000))).toEqual([
    "map R 4m",
    "fork C",
    "C: write R[3]",
  ]);
});

test("a scenario of which every step matters stays as it is", () => {
  const scenario = parseScenario("f", LONG);
  const fails = (candidate: Scenario) => candidate.steps.length === scenario.steps.length;
  expect(texts(reduceScenario(scenario, fails, 1000))).toEqual(texts(scenario));
});

test("the question is asked no more often than allowed", () => {
  let nr = 0;
  const never = () => {
    nr++;
    return false;
  };
  reduceScenario(parseScenario("f", LONG), never, 5);
  expect(nr).toBe(5);
});

test("steps that name what is not made go with it", () => {
  const scenario = parseScenario("f", LONG);
  const kept = scenario.steps.filter((step) => formatStep(step) !== "fork C");
  expect(texts(withSteps(scenario, kept)).some((text) => text.startsWith("C:"))).toBe(false);
});
