/**
 * `hugelab explore FILE...`: all orders of the tasks of a scenario, a sample of them, or one that is given.
 *
 * Entry: registerExplore. Exit status: 0 nothing is wrong, 1 a finding, 2 a mistake in a file, 3 not possible here.
 */

import { join } from "node:path";
import { type Command, Option } from "commander";
import { oneOf } from "../base/nearest.ts";
import { parseInteger } from "../base/units.ts";
import { UsageError } from "../base/usage-error.ts";
import { CannotDo } from "../scenario/backend.ts";
import {
  exploreScenario,
  parseSchedule,
  replaySchedule,
  type ScenarioExplored,
} from "../scenario/explore.ts";
import type { Scenario } from "../scenario/syntax.ts";
import { wantsExamples } from "./examples.ts";
import { type ExploredFile, exploredJson, exploredText, replayedText } from "./explore-report.ts";
import { type GlobalOptions, terminalOf } from "./global-options.ts";
import { readScenarios } from "./scenario-files.ts";
import { findLibrary } from "./scenario-library.ts";
import type { Terminal } from "./terminal.ts";

const EXAMPLES = `
Examples:
  hugelab explore scenarios/explore/split-fault.scn
  hugelab explore --all --check every
  hugelab explore my.scn --samples 10000 --seed 7
  hugelab explore my.scn --replay "A*3 B A B"

How tasks are written: docs/scenarios.md. What is counted: docs/exploring.md.
`;

/** Where the bundled explorations are, in the library. */
export const EXPLORE_FOLDER = "explore";
const CHECKS = ["end", "every"] as const;

interface ExploreFlags extends GlobalOptions {
  readonly all?: boolean;
  readonly samples?: string;
  readonly seed: string;
  readonly check?: string;
  readonly replay?: string;
  readonly merge: boolean;
  readonly most: string;
  readonly json?: boolean;
}

/** Adds the command to the program. */
export function registerExplore(program: Command): void {
  program
    .command("explore")
    .summary("all orders in which the tasks of a scenario can run")
    .description("Runs the tasks of scenarios in every order, and says what can come of it.")
    .argument("[file...]", "scenario files with tasks, folders of them, or - for stdin")
    .option("--all", "the explorations that come with the program")
    .option("--samples <n>", "draw that many orders instead of running all")
    .option("--seed <n>", "of the drawing", "1")
    .addOption(
      new Option("--check <when>", "check the whole machine at each end, or after every step"),
    )
    .option("--replay <schedule>", 'run this order and print each step, e.g. "A*3 B A"')
    .option("--no-merge", "run every order to its end, also from states that were seen before")
    .option("--most <n>", "stop after that many runs", "1000000")
    .option("--json", "one JSON document")
    .addHelpText("after", ({ command }) => (wantsExamples(command) ? EXAMPLES : ""))
    .action(explore);
}

async function explore(words: string[], _: ExploreFlags, command: Command): Promise<void> {
  const flags = command.optsWithGlobals<ExploreFlags>();
  const terminal = terminalOf(command);
  const scenarios = scenariosOf(words, flags);
  if (flags.replay !== undefined) {
    await replay(scenarios, flags, terminal);
    return;
  }
  const files: ExploredFile[] = [];
  for (const scenario of scenarios) {
    const file = exploreOne(scenario, flags, terminal);
    files.push(file);
    if (flags.json !== true) await terminal.print(exploredText(file, terminal.paint));
  }
  if (flags.json === true) await terminal.print(exploredJson(files));
  process.exitCode = Math.max(...files.map(({ explored }) => statusOf(explored)));
}

function scenariosOf(words: readonly string[], flags: ExploreFlags): Scenario[] {
  if (words.length > 0 === (flags.all === true))
    throw new UsageError(
      "explore",
      words.length > 0 ? "files and --all" : "no file",
      "one of them",
    );
  const isAll = flags.all === true;
  const named = readScenarios(isAll ? [join(findLibrary(), EXPLORE_FOLDER)] : words);
  const found = named.filter(({ exploration }) => exploration !== undefined);
  if (found.length === 0)
    throw new UsageError(named[0].file, "no tasks", "lines such as `task A: write R[0]`");
  return found;
}

function exploreOne(scenario: Scenario, flags: ExploreFlags, terminal: Terminal): ExploredFile {
  const nrSamples =
    flags.samples === undefined ? 0 : parseInteger(flags.samples, 1, 1e9, "--samples");
  const seed = parseInteger(flags.seed, 0, 2 ** 31 - 1, "--seed");
  const mostRuns = parseInteger(flags.most, 1, 1e12, "--most");
  // A sample looks at few states, and should look well.
  const check =
    flags.check === undefined
      ? nrSamples > 0
        ? "every"
        : "end"
      : oneOf(flags.check, CHECKS, "--check");
  const progress = terminal.startProgress("explore");
  const startMs = performance.now();
  try {
    const explored = exploreScenario(scenario, {
      nrSamples,
      seed,
      check,
      merge: flags.merge ? "states" : "runs",
      mostRuns,
      onRun: (share, nr) => progress.update(share, `${nr} runs  ${scenario.file}`),
    });
    return { explored, nrSamples, seed, check, seconds: (performance.now() - startMs) / 1000 };
  } catch (error) {
    throw error instanceof CannotDo ? impossible(error, scenario) : error;
  } finally {
    progress.end();
  }
}

function impossible({ line, message }: CannotDo, { file }: Scenario): UsageError {
  return new UsageError(line > 0 ? `${file}:${line}` : file, message, "what the model can do");
}

async function replay(
  scenarios: readonly Scenario[],
  flags: ExploreFlags,
  terminal: Terminal,
): Promise<void> {
  const [scenario, another] = scenarios;
  if (another !== undefined) throw new UsageError("--replay", "several files", "one");
  const schedule = parseSchedule(flags.replay!, scenario.exploration!);
  const replayed = replaySchedule(scenario, schedule);
  await terminal.print(
    flags.json === true
      ? `${JSON.stringify({ schema: "hugelab.explore-replay", version: 1, steps: replayed.steps, findings: replayed.findings }, null, 2)}\n`
      : replayedText(replayed, terminal.paint),
  );
  process.exitCode = statusOf(replayed);
}

function statusOf({ setUp, findings }: ScenarioExplored): number {
  return setUp.length + findings.length > 0 ? 1 : 0;
}
