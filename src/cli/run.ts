/**
 * `hugelab run FILE...`: scenario files on the model, on the live kernel, or on both side by side.
 *
 * Entry: registerRun. Exit status: 0 all as expected, 1 a finding, 2 a mistake in a file, 3 not possible here, 4 a defect.
 */

import { Argument, type Command, Option } from "commander";
import { oneOf } from "../base/nearest.ts";
import { UsageError } from "../base/usage-error.ts";
import { DUMP_NAMES, dump, dumpNeedsProcess } from "../report/dump.ts";
import type { ModelBackend } from "../scenario/model-backend.ts";
import { MAIN } from "../scenario/names.ts";
import type { Scenario } from "../scenario/syntax.ts";
import { wantsExamples } from "./examples.ts";
import { collect, type GlobalOptions, terminalOf } from "./global-options.ts";
import { closeSides, openSides, runOne, type Sides } from "./scenario-exec.ts";
import { readScenarios } from "./scenario-files.ts";
import {
  type On,
  type Outcome,
  outcomesJson,
  outcomeText,
  statusOf,
  summaryText,
} from "./scenario-report.ts";
import type { Terminal } from "./terminal.ts";

const EXAMPLES = `
Examples:
  hugelab run scenarios/anon/fork-write.scn
  hugelab run scenarios --on both
  hugelab run my.scn --dump smaps --dump status@C
  hugelab run my.scn --json

The language: docs/scenarios.md.
`;

export const ON = ["model", "kernel", "both"] as const;

interface RunFlags extends GlobalOptions {
  readonly on: string;
  readonly dump?: readonly string[];
  readonly json?: boolean;
}

/** One `--dump NAME@PROCESS`. */
interface Dump {
  readonly name: string;
  readonly process: string;
}

/** Adds the command to the program. */
export function registerRun(program: Command): void {
  program
    .command("run")
    .summary("scenario files on the model, the live kernel or both")
    .description("Runs scenarios: what processes do to memory, and what must be seen afterwards.")
    .addArgument(new Argument("<file...>", "scenario files, folders of them, or - for stdin"))
    .addOption(new Option("--on <where>", ON.join(", ")).default("model"))
    .option(
      "--dump <name[@process]>",
      "print what the model's file of this name says at the end, e.g. smaps@C",
      collect,
    )
    .option("--json", "one JSON document")
    .addHelpText("after", ({ command }) => (wantsExamples(command) ? EXAMPLES : ""))
    .action(run);
}

async function run(words: string[], _: RunFlags, command: Command): Promise<void> {
  const flags = command.optsWithGlobals<RunFlags>();
  const on = oneOf(flags.on, ON, "--on");
  const dumps = (flags.dump ?? []).map(parseDump);
  if (dumps.length > 0 && on === "kernel")
    throw new UsageError(
      "--dump",
      "--on kernel",
      "--on model or both: it prints the model's files",
    );
  const terminal = terminalOf(command);
  const scenarios = readScenarios(words);
  const sides = openSides(on);
  try {
    const outcomes = await runAll(scenarios, sides, on, { terminal, flags, dumps });
    if (flags.json === true) await terminal.print(outcomesJson(outcomes, on));
    else if (outcomes.length > 1) await terminal.print(summaryText(outcomes));
    process.exitCode = statusOf(outcomes);
  } finally {
    closeSides(sides);
  }
}

async function runAll(
  scenarios: readonly Scenario[],
  sides: Sides,
  on: On,
  how: { terminal: Terminal; flags: RunFlags; dumps: readonly Dump[] },
): Promise<Outcome[]> {
  const { terminal, flags, dumps } = how;
  const outcomes: Outcome[] = [];
  for (const scenario of scenarios) {
    let dumped = "";
    const atEnd = () => {
      dumped = dumps.map((one) => dumpText(sides.model!, one)).join("");
    };
    const outcome = runOne(scenario, sides, on, { atEnd });
    outcomes.push(outcome);
    if (flags.json === true) continue;
    const isFine = outcome.kind === "ran" && outcome.result.findings.length === 0;
    if (!(isFine && flags.quiet === true))
      await terminal.print(outcomeText(outcome, terminal.paint));
    await terminal.print(dumped);
  }
  return outcomes;
}

/** "smaps@C": the file and the process it is of. Throws UsageError for a file that does not exist. */
function parseDump(text: string): Dump {
  const at = text.lastIndexOf("@");
  const name = at < 0 ? text : text.slice(0, at);
  if (!name.startsWith("/")) oneOf(name, DUMP_NAMES, "--dump");
  return { name, process: at < 0 ? MAIN : text.slice(at + 1) };
}

function dumpText({ state }: ModelBackend, { name, process }: Dump): string {
  if (!dumpNeedsProcess(name)) return `${name}:\n${dump(state.m, null, name)}`;
  const found = state.processes.get(process);
  if (found === undefined) {
    const living = [...state.processes.keys()].join(", ");
    throw new UsageError("--dump", `process ${process}`, `one that lives at the end: ${living}`);
  }
  return `${name} of ${process}:\n${dump(state.m, found.mm.id, name)}`;
}
