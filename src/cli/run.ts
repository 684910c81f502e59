/**
 * `hugelab run FILE...`: scenario files on the model, on the live kernel, or on both side by side.
 *
 * Entry: registerRun. Exit status: 0 all as expected, 1 a finding, 2 a mistake in a file, 3 not possible here, 4 a defect.
 */

import { Argument, type Command, Option } from "commander";
import { oneOf } from "../base/nearest.ts";
import { type Backend, CannotDo } from "../scenario/backend.ts";
import { createModelBackend, type ModelBackend } from "../scenario/model-backend.ts";
import { runBoth, runScenario } from "../scenario/run.ts";
import type { Scenario } from "../scenario/syntax.ts";
import { wantsExamples } from "./examples.ts";
import { withReplayCommand } from "./failure.ts";
import { type GlobalOptions, terminalOf } from "./global-options.ts";
import { kernelBackend } from "./kernel-side.ts";
import { readScenarios } from "./scenario-files.ts";
import {
  type On,
  type Outcome,
  outcomesJson,
  outcomeText,
  statusOf,
  summaryText,
} from "./scenario-report.ts";

const EXAMPLES = `
Examples:
  hugelab run scenarios/anon/fork-write.scn
  hugelab run scenarios --on both
  hugelab run my.scn --json

The language: docs/scenarios.md.
`;

export const ON = ["model", "kernel", "both"] as const;

interface RunFlags extends GlobalOptions {
  readonly on: string;
  readonly json?: boolean;
}

/** Adds the command to the program. */
export function registerRun(program: Command): void {
  program
    .command("run")
    .summary("scenario files on the model, the live kernel or both")
    .description("Runs scenarios: what processes do to memory, and what must be seen afterwards.")
    .addArgument(new Argument("<file...>", "scenario files, folders of them, or - for stdin"))
    .addOption(new Option("--on <where>", ON.join(", ")).default("model"))
    .option("--json", "one JSON document")
    .addHelpText("after", ({ command }) => (wantsExamples(command) ? EXAMPLES : ""))
    .action(run);
}

async function run(words: string[], _: RunFlags, command: Command): Promise<void> {
  const flags = command.optsWithGlobals<RunFlags>();
  const on = oneOf(flags.on, ON, "--on");
  const terminal = terminalOf(command);
  const scenarios = readScenarios(words);
  const sides: Sides = {
    model: on === "kernel" ? null : createModelBackend(),
    kernel: on === "model" ? null : kernelBackend(),
  };
  const outcomes: Outcome[] = [];
  for (const scenario of scenarios) {
    const outcome = runOne(scenario, sides, on);
    outcomes.push(outcome);
    const isFine = outcome.kind === "ran" && outcome.result.findings.length === 0;
    if (flags.json !== true && !(isFine && flags.quiet === true))
      await terminal.print(outcomeText(outcome, terminal.paint));
  }
  if (flags.json === true) await terminal.print(outcomesJson(outcomes, on));
  else if (outcomes.length > 1) await terminal.print(summaryText(outcomes));
  process.exitCode = statusOf(outcomes);
}

interface Sides {
  readonly model: ModelBackend | null;
  readonly kernel: Backend | null;
}

/** One file where it can run: what only the model can do runs there alone, also with --on both. */
function runOne(scenario: Scenario, { model, kernel }: Sides, on: On): Outcome {
  const isForModel = scenario.header.on === "model";
  if (isForModel && model === null) return { kind: "skipped", scenario };
  try {
    if (model !== null && kernel !== null && !isForModel)
      return { kind: "ran", scenario, on, result: runBoth(scenario, model, kernel) };
    const backend = model ?? kernel!;
    return { kind: "ran", scenario, on: backend.name, result: runScenario(scenario, backend) };
  } catch (error) {
    if (error instanceof CannotDo)
      return { kind: "impossible", scenario, line: error.line, problem: error.message };
    const { seed } = scenario.header.machine;
    throw withReplayCommand(error, seed, `hugelab run ${scenario.file} --on ${on}`);
  }
}
