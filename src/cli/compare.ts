/**
 * `hugelab compare`: one program under several THP settings, side by side.
 *
 * Entry: registerCompare. Owns: nothing; replays run in workers, reports are pure functions of src/lab.
 */

import { availableParallelism } from "node:os";
import type { Command } from "commander";
import type { ByteStyle } from "../base/units.ts";
import { UsageError } from "../base/usage-error.ts";
import { compareReplays } from "../lab/comparison.ts";
import type { ReplayOutcome } from "../lab/replay.ts";
import { closingLine, ndjsonLine, renderJson } from "../lab/report-json.ts";
import { renderMarkdown } from "../lab/report-markdown.ts";
import { shellWords } from "../lab/report-rows.ts";
import { renderTable } from "../lab/report-table.ts";
import type { ComparisonResult } from "../lab/result.ts";
import { knobsWithoutEffect, type Setting } from "../lab/setting.ts";
import { type Cleanup, withCleanup } from "./cleanup.ts";
import { replayInWorkers } from "./compare-workers.ts";
import { typedArguments, wantsExamples } from "./examples.ts";
import { describeMachine, type Experiment, experimentFor, parseGeometry } from "./experiment.ts";
import { withReplayCommand } from "./failure.ts";
import {
  addMachineOptions,
  addReportOptions,
  collect,
  type Format,
  FROM_HELP,
  sourcesOf,
  terminalOf,
} from "./global-options.ts";
import { checkOutput, writeOutput } from "./output-file.ts";
import { describeResolved, resolveCompareSettings, resolveMachine } from "./resolve.ts";
import type { Terminal } from "./terminal.ts";
import { openTraceInput, type TraceInput } from "./trace-input.ts";

interface CompareOptions {
  readonly setting?: readonly string[];
  readonly set?: readonly string[];
  readonly format?: Format;
  readonly json?: boolean;
  readonly ndjson?: boolean;
  readonly html?: string;
  readonly output?: string;
  readonly bytes?: boolean;
  readonly dryRun?: boolean;
  readonly jobs?: string;
  readonly from?: string;
}

const EXAMPLES = `
Examples:
  hugelab compare -- ./my-program --with arguments    record it, then compare
  hugelab compare redis.hlt                           never, madvise, always, always+defrag, 64kB
  hugelab compare redis.hlt --html report.html --format md
  hugelab compare redis.hlt --setting always --setting mine:always,thp.use_zero_page=0
  hugelab compare redis.hlt --mem 2g --translation nested --json | jq .advice
  zcat redis.hlt.gz | hugelab compare -
`;

/** Adds the command to the program. */
export function registerCompare(program: Command): void {
  const command = program
    .command("compare")
    .summary("one real program under several THP settings, side by side")
    .description(
      "Replays a recording under several THP settings and shows memory, faults, huge coverage, translation and predicted " +
        "run time side by side, ending with what to set. With -- a program is recorded first.",
    )
    .usage("[options] (TRACE | -- CMD ARGS...)")
    .argument("[trace]", "a recording; - is stdin")
    .argument("[cmd...]")
    .option(
      "-s, --setting <spec>",
      "preset or [NAME:][PRESET,]KNOB=VALUE,...; may be repeated",
      collect,
    )
    .option(
      "--set <knob=value>",
      "under every setting that does not set it; may be repeated",
      collect,
    )
    .option("--from <form>", FROM_HELP)
    .option("-j, --jobs <n>", "settings replayed at a time; default: one per CPU");
  addMachineOptions(command);
  addReportOptions(command)
    .option("--ndjson", "a line per setting as soon as it is known; the same as --format ndjson")
    .option("--html <file>", "also write the report as one self-contained HTML file")
    .option("--dry-run", "print what was resolved and from where, and stop")
    .addHelpText("after", ({ command: c }) => (wantsExamples(c) ? EXAMPLES : ""))
    .action(compare);
}

async function compare(
  trace: string | undefined,
  rest: readonly string[],
  options: CompareOptions,
  command: Command,
): Promise<void> {
  const terminal = terminalOf(command);
  const given = splitAtDashes(command, trace === undefined ? [] : [trace, ...rest]);
  checkOutput(options.output);
  checkOutput(options.html);
  const sources = sourcesOf(command.opts(), terminal);
  const settings = resolveCompareSettings(sources);
  const machine = resolveMachine(sources, parseGeometry);
  const experiment = experimentFor(machine);
  if (options.dryRun) {
    const knobs = settings.value.map((setting) => ({
      name: "setting",
      value: `${setting.name}: ${knobText(setting)}`,
      from: settings.from,
    }));
    return terminal.print(describeResolved([...describeMachine(machine, experiment), ...knobs]));
  }

  for (const sentence of knobsWithoutEffect(settings.value)) terminal.note(sentence);
  await withCleanup(async (cleanup) => {
    const input = await inputOf(given, options.from, cleanup, terminal);
    const nrWorkers = machine.jobs.value || availableParallelism();
    await runComparison({
      terminal,
      options,
      settings: settings.value,
      experiment,
      input,
      nrWorkers,
      cleanup,
    });
  });
}

/** What stands before and after "--"; commander does not tell them apart. */
interface GivenInput {
  readonly trace: string | undefined;
  readonly command: readonly string[] | undefined;
}

function splitAtDashes(command: Command, operands: readonly string[]): GivenInput {
  const typed = typedArguments(command);
  const dashes = typed.indexOf("--");
  const nrAfter = dashes < 0 ? 0 : typed.length - dashes - 1;
  const before = operands.slice(0, operands.length - nrAfter);
  const after = operands.slice(operands.length - nrAfter);
  if (before.length > 1) {
    const wanted = "one recording; a program to record stands after --";
    throw new UsageError("compare", before.slice(0, 2).join(" and "), wanted);
  }
  if (dashes >= 0 && before.length > 0) {
    throw new UsageError("compare", "a recording and a program", "one of them");
  }
  if (dashes >= 0 && after.length === 0) {
    throw new UsageError("compare", "nothing after --", "a program to record");
  }
  return { trace: before[0], command: after.length > 0 ? after : undefined };
}

async function inputOf(
  given: GivenInput,
  from: string | undefined,
  cleanup: Cleanup,
  terminal: Terminal,
): Promise<TraceInput> {
  if (given.trace !== undefined) return openTraceInput(given.trace, from, cleanup);
  if (given.command === undefined) {
    throw new UsageError("compare", "nothing to compare", "TRACE or -- CMD ARGS...");
  }
  const { recordForCompare } = await import("./compare-record.ts");
  return recordForCompare(given.command, cleanup, terminal);
}

interface ComparisonRun {
  readonly terminal: Terminal;
  readonly options: CompareOptions;
  readonly settings: readonly Setting[];
  readonly experiment: Experiment;
  readonly input: TraceInput;
  readonly nrWorkers: number;
  readonly cleanup: Cleanup;
}

async function runComparison(run: ComparisonRun): Promise<void> {
  const { terminal, options, settings, experiment, input } = run;
  const { machine, geometry, mode, costs } = experiment;
  const format = options.json ? "json" : options.ndjson ? "ndjson" : (options.format ?? "table");
  const isStreamed = format === "ndjson" && (options.output ?? "-") === "-";
  const outcomes: ReplayOutcome[] = [];
  const shares = settings.map(() => 0);
  const compared = (known: readonly Setting[]) =>
    compareReplays({
      outcomes,
      settings: known,
      machine: experiment.summary,
      costQuality: experiment.costQuality,
    });
  const progress = terminal.startProgress("compare");
  const draw = () => {
    const done = shares.reduce((sum, share) => sum + share, 0) / shares.length;
    const active = settings.filter((_, i) => shares[i] > 0 && shares[i] < 1).map((s) => s.name);
    progress.update(done, active.join(" "));
  };
  try {
    await replayInWorkers({
      jobs: settings.map((setting) => ({
        tracePath: input.path,
        traceName: input.name,
        format: input.format,
        request: { setting, machine, geometry, mode, costs },
      })),
      nrWorkers: run.nrWorkers,
      cleanup: run.cleanup,
      onProgress: (index, share) => {
        shares[index] = share;
        draw();
      },
      onOutcome: async (index, outcome) => {
        shares[index] = 1;
        outcomes.push(outcome);
        draw();
        if (!isStreamed) return;
        // The prediction of a setting needs the baseline's costs, and that one comes first.
        const known = compared(settings.slice(0, outcomes.length));
        await terminal.print(ndjsonLine({ type: "setting", setting: known.settings.at(-1)! }));
      },
    });
  } catch (error) {
    throw withReplayCommand(error, machine.seed, compareCommand(run));
  } finally {
    progress.end();
  }

  const result = compared(settings);
  if (isStreamed) await terminal.print(ndjsonLine(closingLine(result)));
  else await writeOutput(terminal, options.output ?? "-", await render(result, format, run));
  if (options.html !== undefined) {
    await writeOutput(terminal, options.html, await render(result, "html", run));
    terminal.note(`report written to ${options.html}`);
  }
}

async function render(
  result: ComparisonResult,
  format: Format,
  run: ComparisonRun,
): Promise<string> {
  const { terminal, options } = run;
  const bytes: ByteStyle = options.bytes ? "exact" : "scaled";
  switch (format) {
    case "json":
      return renderJson(result);
    case "ndjson":
      return [
        ...result.settings.map((setting) => ndjsonLine({ type: "setting", setting })),
        ndjsonLine(closingLine(result)),
      ].join("");
    case "md":
      return renderMarkdown(result, bytes);
    case "html": {
      const { renderHtml } = await import("../lab/report-html.ts");
      return renderHtml(result, bytes);
    }
    case "table":
      return renderTable(result, { width: terminal.width, bytes, paint: terminal.paint });
  }
}

function knobText(setting: Setting): string {
  return Object.entries(setting.knobs)
    .map(([name, value]) => `${name}=${value}`)
    .join(" ");
}

/** The command that meets the same defect again. */
function compareCommand({ settings, experiment, input }: ComparisonRun): string {
  const { memoryBytes, nrCpus, profile, geometry, translation, seed } = experiment.machine;
  const flags = settings.flatMap((setting) => {
    const knobs = Object.entries(setting.knobs).map(([name, value]) => `${name}=${value}`);
    return ["--setting", `${setting.name.replace(/[:,=]/g, "-")}:${knobs.join(",")}`];
  });
  const machine = ["--mem", memoryBytes, "--cpus", nrCpus, "--profile", profile];
  const hardware = ["--geometry", geometry, "--translation", translation, "--seed", seed];
  return shellWords(
    ["hugelab", "compare", input.name, ...flags, ...machine, ...hardware].map(String),
  );
}
