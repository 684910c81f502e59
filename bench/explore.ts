/**
 * The explorer: interleavings executed a minute, each on its own, and interleavings covered when states are merged.
 *
 * Entry: exploreRows.
 * Units: a minute of CPU time.
 */

import { exploreScenario } from "../src/scenario/explore.ts";
import { parseScenario } from "../src/scenario/parse.ts";
import type { Scenario } from "../src/scenario/syntax.ts";
import { cpuNs } from "./clock.ts";
import { type BenchRow, median, row } from "./row.ts";

const SET_UP = `scenario: for the benchmark
on: model
machine: memory=16m cpus=1
knobs: thp.enabled=never
map R 1hp
write R[0..512 by 64]
task collapse: madvise R COLLAPSE
`;
const AGAINST_FAULTS = `${SET_UP}task access: write R[64]\ntask access: write R[65]\ntask access: read R[128]\n`;
const AGAINST_COLLAPSE = `${SET_UP}task second: madvise R COLLAPSE\n`;
const REPEATS = 5;
const WARM_UPS = 3;
const NS_PER_MINUTE = 60e9;

export function exploreRows(): BenchRow[] {
  return [
    row("interleavings executed", perMinute(AGAINST_FAULTS, "runs"), "/min", {
      target: { of: "value", better: "higher", floor: 100_000, goal: 250_000 },
    }),
    row("interleavings covered, states merged", perMinute(AGAINST_COLLAPSE, "states"), "/min", {
      note: "each once: what follows a state seen before is counted, not run",
    }),
  ];
}

function perMinute(text: string, merge: "runs" | "states"): number {
  const scenario = parseScenario("bench", text);
  for (let i = 0; i < WARM_UPS; i++) covered(scenario, merge);
  const rates = Array.from({ length: REPEATS }, () => {
    const startNs = cpuNs();
    const nr = covered(scenario, merge);
    return (nr / (cpuNs() - startNs)) * NS_PER_MINUTE;
  });
  return median(rates);
}

/** Everything explored and checked at each end. */
function covered(scenario: Scenario, merge: "runs" | "states"): number {
  const { explored, findings } = exploreScenario(scenario, {
    nrSamples: 0,
    seed: 1,
    check: "end",
    merge,
    mostRuns: Number.POSITIVE_INFINITY,
  });
  if (findings.length > 0) throw new Error(`the explorer found ${findings[0].text}`);
  return explored.nrCovered;
}
