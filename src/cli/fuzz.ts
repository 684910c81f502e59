/**
 * `hugelab fuzz`: random scenarios on the model, or on model and kernel side by side, until one fails.
 *
 * Entry: registerFuzz. A failure is shrunk and written as a scenario file that `hugelab run` replays.
 * Exit status: 0 none failed, 1 a difference or wrong contents, 3 not possible here, 4 a broken invariant.
 */

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Command, Option } from "commander";
import fc from "fast-check";
import { AssertionFailure } from "../base/assert.ts";
import { oneOf } from "../base/nearest.ts";
import { parseInteger } from "../base/units.ts";
import type { Paint } from "../lab/paint.ts";
import { formatScenario } from "../scenario/format.ts";
import {
  FUZZ_WEIGHTS,
  type FuzzKind,
  type FuzzStep,
  fuzzScenario,
} from "../scenario/fuzz-steps.ts";
import { parseScenario } from "../scenario/parse.ts";
import { reduceScenario, withSteps } from "../scenario/reduce.ts";
import type { Scenario } from "../scenario/syntax.ts";
import { wantsExamples } from "./examples.ts";
import { DefectFound } from "./failure.ts";
import { type GlobalOptions, terminalOf } from "./global-options.ts";
import { closeSides, openSides, runOne, type Sides } from "./scenario-exec.ts";
import { type On, type Outcome, outcomeText } from "./scenario-report.ts";
import type { Progress } from "./terminal.ts";

const EXAMPLES = `
Examples:
  hugelab fuzz --runs 1000
  hugelab fuzz --on both --seconds 60 --out found.scn
  hugelab fuzz --seed 42
`;

interface FuzzFlags extends GlobalOptions {
  readonly on: string;
  readonly runs: string;
  readonly steps: string;
  readonly seed?: string;
  readonly seconds?: string;
  readonly out: string;
  readonly unstable?: string;
}

/** Scenarios in a row that have a swap device, or have none. */
const RUNS_PER_SETTING = 100;
/** Runs that making a failure smaller may cost. */
const MOST_TRIES = 300;

/** What a whole run of the fuzzer came to. */
interface Tally {
  nrRuns: number;
  nrStatements: number;
  nrUnstable: number;
  nrImpossible: number;
  /** Told of a finding that a repeat did not have. */
  noteUnstable?: (outcome: Outcome) => void;
  failure: { readonly scenario: Scenario; readonly outcome: Outcome | AssertionFailure } | null;
}

/** Adds the command to the program. */
export function registerFuzz(program: Command): void {
  program
    .command("fuzz")
    .summary("random scenarios on the model, or on model and kernel side by side")
    .description("Runs random scenarios until one fails, and writes the smallest that still does.")
    .addOption(new Option("--on <where>", "model, both").default("model"))
    .option("--runs <n>", "scenarios to try", "500")
    .option("--steps <n>", "longest scenario, in statements", "25")
    .option("--seed <n>", "another sequence of scenarios; default: from the clock")
    .option("--seconds <t>", "stop after that time, though runs are left")
    .option("--out <file>", "where a failing scenario is written", "fuzz-failure.scn")
    .option("--unstable <folder>", "where findings are written that a repeat did not have")
    .addHelpText("after", ({ command }) => (wantsExamples(command) ? EXAMPLES : ""))
    .action(fuzz);
}

async function fuzz(_: FuzzFlags, command: Command): Promise<void> {
  const flags = command.optsWithGlobals<FuzzFlags>();
  const on = oneOf(flags.on, ["model", "both"] as const, "--on");
  const limits = {
    nrRuns: parseInteger(flags.runs, 1, 100_000_000, "--runs"),
    nrSteps: parseInteger(flags.steps, 1, 1000, "--steps"),
    seconds: flags.seconds && parseInteger(flags.seconds, 1, 1_000_000, "--seconds"),
    seed:
      flags.seed === undefined
        ? Date.now() % 2 ** 31
        : parseInteger(flags.seed, 0, 2 ** 31 - 1, "--seed"),
  };
  const { seed } = limits;
  const terminal = terminalOf(command);
  terminal.note(`seed ${seed}`);
  const progress = terminal.startProgress("fuzz");
  const sides = openSides(on);
  const startMs = performance.now();
  let tally: Tally;
  try {
    tally = search(sides, on, limits, progress, (outcome, nr) => {
      if (flags.unstable !== undefined)
        writeUnstable(flags.unstable, `${seed}-${nr}`, outcome, terminal.paint);
    });
  } finally {
    progress.end();
    closeSides(sides);
  }
  const seconds = (performance.now() - startMs) / 1000;
  const { failure, nrRuns, nrStatements, nrUnstable } = tally;
  const rate = `${(nrRuns / seconds).toFixed(0)} scenarios/s`;
  const unstable = nrUnstable > 0 ? `, ${nrUnstable} unstable` : "";
  await terminal.print(
    `${nrRuns} scenarios, ${nrStatements} statements, seed ${seed}: ` +
      `${failure === null ? "no failure" : "a failure"}${unstable} (${rate})\n`,
  );
  if (failure === null) return;
  writeFileSync(flags.out, formatScenario(failure.scenario));
  const again = `hugelab run ${flags.out} --on ${on}`;
  if (failure.outcome instanceof AssertionFailure) {
    const { message, stack } = failure.outcome;
    throw new DefectFound(message, seed, again, stack);
  }
  const named = parseScenario(flags.out, formatScenario(failure.scenario));
  await terminal.print(outcomeText({ ...failure.outcome, scenario: named }, terminal.paint));
  await terminal.print(`again with: ${again}\n`);
  process.exitCode = 1;
}

/** The scenario, and what was found as comments. */
function writeUnstable(folder: string, name: string, outcome: Outcome, paint: Paint): void {
  const text = formatScenario(outcome.scenario);
  const found = outcomeText({ ...outcome, scenario: parseScenario(name, text) }, paint);
  const comments = found.replaceAll(/^/gm, "# ");
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, `${name}.scn`), `${text}\n${comments.trimEnd()}\n`);
}

interface Limits {
  readonly nrRuns: number;
  readonly nrSteps: number;
  readonly seconds: number | "" | undefined;
  readonly seed: number;
}

function search(
  sides: Sides,
  on: On,
  limits: Limits,
  progress: Progress,
  noteUnstable: (outcome: Outcome, nr: number) => void,
): Tally {
  const { nrRuns, nrSteps, seed, seconds } = limits;
  const tally: Tally = {
    nrRuns: 0,
    nrStatements: 0,
    nrUnstable: 0,
    nrImpossible: 0,
    noteUnstable: (outcome) => noteUnstable(outcome, tally.nrRuns),
    failure: null,
  };
  const title = `found by hugelab fuzz, seed ${seed}`;
  const property = fc.property(stepLists(nrSteps), (steps) => {
    const hasSwap = Math.floor(tally.nrRuns / RUNS_PER_SETTING) % 2 === 1;
    const random = fuzzScenario(steps, { title, swap: hasSwap ? "on" : "none" });
    // As a file would have it, so that lines are the file's.
    const scenario = parseScenario("fuzz", formatScenario(random));
    tally.nrRuns++;
    tally.nrStatements += scenario.steps.length;
    progress.update(tally.nrRuns / nrRuns, `${tally.nrStatements} statements`);
    tally.failure = tryOne(scenario, sides, on, tally);
    return tally.failure === null;
  });
  const limit =
    typeof seconds === "number"
      ? { interruptAfterTimeLimit: seconds * 1000, markInterruptAsFailure: false }
      : {};
  const details = fc.check(property, { seed, numRuns: nrRuns, endOnFailure: true, ...limit });
  if (details.failed && tally.failure === null) throw details.errorInstance;
  if (tally.failure !== null) tally.failure = reduced(tally.failure, sides, on, progress);
  return tally;
}

type Failure = NonNullable<Tally["failure"]>;

/** The smallest scenario found that fails in some way. What comes after the failing line goes first. */
function reduced(failure: Failure, sides: Sides, on: On, progress: Progress): Failure {
  let smallest = failure;
  let nrTries = 0;
  const fails = (candidate: Scenario) => {
    progress.update(++nrTries / MOST_TRIES, "making the failing scenario smaller");
    const found = tryOne(candidate, sides, on, { nrUnstable: 0, nrImpossible: 0 });
    if (found !== null) smallest = found;
    return found !== null;
  };
  const { scenario, outcome } = failure;
  const line =
    outcome instanceof AssertionFailure || outcome.kind !== "ran"
      ? Number.NaN
      : outcome.result.findings[0].line;
  const isBefore = ({ steps }: Scenario, i: number) => {
    const step = steps[i];
    return !((step.kind === "expect" ? step.expectation : step.statement).line > line);
  };
  const cut = withSteps(
    scenario,
    scenario.steps.filter((_, i) => isBefore(scenario, i)),
  );
  reduceScenario(fails(cut) ? cut : scenario, fails, MOST_TRIES);
  return smallest;
}

/** Null if nothing is wrong with it. */
function tryOne(
  scenario: Scenario,
  sides: Sides,
  on: On,
  tally: Pick<Tally, "nrUnstable" | "nrImpossible" | "noteUnstable">,
): Failure | null {
  let outcome: Outcome;
  try {
    // Compared with the kernel after every statement; alone, looking at the model after each costs little and may fail.
    outcome = runOne(scenario, sides, on, on === "model" ? { afterStatement: () => {} } : {});
  } catch (error) {
    if (!(error instanceof DefectFound)) throw error;
    return { scenario, outcome: new AssertionFailure(error.message) };
  }
  if (outcome.kind !== "ran") {
    tally.nrImpossible++;
    return null;
  }
  if (outcome.unstable !== undefined) {
    tally.nrUnstable++;
    tally.noteUnstable?.({ ...outcome, result: outcome.unstable });
  }
  return outcome.result.findings.length === 0 ? null : { scenario, outcome };
}

function stepLists(maxLength: number): fc.Arbitrary<FuzzStep[]> {
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
  return fc.array(step, { minLength: 1, maxLength, size: "max" });
}
