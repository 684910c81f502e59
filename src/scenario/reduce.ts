/**
 * Makes a failing scenario smaller while it still fails.
 *
 * Entry: reduceScenario. Pure: whether a scenario fails is the caller's question, asked at most `mostTries` times.
 * Holds: the result parses, and `fails` said yes to it; steps keep their order.
 */

import { UsageError } from "../base/usage-error.ts";
import { formatScenario } from "./format.ts";
import { parseScenario } from "./parse.ts";
import type { Scenario, Step } from "./syntax.ts";

/** Leaves out runs of steps, halves first, then one by one, as long as something can go. */
export function reduceScenario(
  scenario: Scenario,
  fails: (candidate: Scenario) => boolean,
  mostTries: number,
): Scenario {
  let best = scenario;
  let nrTries = 0;
  for (let size = best.steps.length >>> 1; size >= 1; ) {
    let hasShrunk = false;
    for (let end = best.steps.length; end > 0 && nrTries < mostTries; end -= size) {
      const kept = best.steps.filter((_, i) => i < end - size || i >= end);
      const candidate = withSteps(scenario, kept);
      if (candidate.steps.length >= best.steps.length) continue;
      nrTries++;
      if (!fails(candidate)) continue;
      best = candidate;
      hasShrunk = true;
      end = Math.min(end, best.steps.length + size);
    }
    if (!hasShrunk || size > 1) size >>>= 1;
  }
  return best;
}

/** The scenario with these steps, less those that name what is no longer made. */
export function withSteps(scenario: Scenario, steps: readonly Step[]): Scenario {
  const kept = [...steps];
  const firstLine = linesBefore(scenario);
  for (;;) {
    try {
      return parseScenario(scenario.file, formatScenario({ header: scenario.header, steps: kept }));
    } catch (error) {
      const line = error instanceof UsageError ? /:(\d+)$/.exec(error.where)?.[1] : undefined;
      const index = line === undefined ? -1 : Number(line) - 1 - firstLine;
      if (index < 0 || index >= kept.length) throw error;
      kept.splice(index, 1);
    }
  }
}

/** Lines of the text before the first step. */
function linesBefore({ header }: Scenario): number {
  return formatScenario({ header, steps: [] }).split("\n").length - 1;
}
