/**
 * `hugelab replay`: one recording under one setting.
 *
 * Entry: registerReplay.
 */

import type { Command } from "commander";
import { compareReplays } from "../lab/comparison.ts";
import type { ReplayOutcome } from "../lab/replay.ts";
import { renderJson } from "../lab/report-json.ts";
import { renderMarkdown } from "../lab/report-markdown.ts";
import { shellWords } from "../lab/report-rows.ts";
import { renderTable } from "../lab/report-table.ts";
import type { ComparisonResult } from "../lab/result.ts";
import { knobsWithoutEffect, type Setting } from "../lab/setting.ts";
import { withCleanup } from "./cleanup.ts";
import { replayInWorkers } from "./compare-workers.ts";
import { wantsExamples } from "./examples.ts";
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
import { describeResolved, resolveMachine, resolveReplaySetting } from "./resolve.ts";
import type { Terminal } from "./terminal.ts";
import { openTraceInput } from "./trace-input.ts";

interface ReplayOptions {
  readonly format?: Format;
  readonly json?: boolean;
  readonly output?: string;
  readonly bytes?: boolean;
  readonly dryRun?: boolean;
  readonly from?: string;
}

const EXAMPLES = `
Examples:
  hugelab replay redis.hlt --set thp.enabled=always --set thp.defrag=always
  hugelab replay redis.hlt --preset 64kB --json
  hugelab replay - --preset always <redis.hlt
`;

/** Adds the command to the program. */
export function registerReplay(program: Command): void {
  const command = program
    .command("replay")
    .summary("one recording under one setting")
    .description(
      "Replays a recording under one setting: a preset, or the kernel's defaults, with knobs changed.",
    )
    .argument("<trace>", "a recording; - is stdin")
    .option("--from <form>", FROM_HELP)
    .option("--preset <name>", "start from never, madvise, always, always+defrag or 64kB")
    .option("--set <knob=value>", "set a knob; may be repeated", collect);
  addMachineOptions(command);
  addReportOptions(command)
    .option("--dry-run", "print what was resolved and from where, and stop")
    .addHelpText("after", ({ command: c }) => (wantsExamples(c) ? EXAMPLES : ""))
    .action(replay);
}

async function replay(trace: string, options: ReplayOptions, command: Command): Promise<void> {
  const terminal = terminalOf(command);
  checkOutput(options.output);
  const sources = sourcesOf(command.opts(), terminal);
  const { setting, knobs } = resolveReplaySetting(sources);
  const machine = resolveMachine(sources, parseGeometry);
  const experiment = experimentFor(machine);
  if (options.dryRun) {
    return terminal.print(describeResolved([...describeMachine(machine, experiment), ...knobs]));
  }

  for (const sentence of knobsWithoutEffect([setting])) terminal.note(sentence);
  const outcome = await replayOnce(trace, options.from, setting, experiment, terminal);
  const result = resultOf(outcome, setting, experiment);
  await writeOutput(terminal, options.output ?? "-", await render(result, options, terminal));
}

/** The replay's outcome, with progress shown. */
function replayOnce(
  trace: string,
  from: string | undefined,
  setting: Setting,
  { machine, geometry, mode, costs }: Experiment,
  terminal: Terminal,
): Promise<ReplayOutcome> {
  return withCleanup(async (cleanup) => {
    const input = await openTraceInput(trace, from, cleanup);
    const progress = terminal.startProgress("replay");
    const outcomes: ReplayOutcome[] = [];
    try {
      await replayInWorkers({
        jobs: [
          {
            tracePath: input.path,
            traceName: input.name,
            format: input.format,
            request: { setting, machine, geometry, mode, costs },
          },
        ],
        nrWorkers: 1,
        cleanup,
        onProgress: (_, share) => progress.update(share, setting.name),
        onOutcome: (_, outcome) => {
          outcomes.push(outcome);
        },
      });
    } catch (error) {
      const knobs = Object.entries(setting.knobs).flatMap(([name, value]) => [
        "--set",
        `${name}=${value}`,
      ]);
      const again = ["hugelab", "replay", input.name, ...knobs, "--mem", machine.memoryBytes];
      const rest = ["--cpus", machine.nrCpus, "--profile", machine.profile, "--seed", machine.seed];
      throw withReplayCommand(error, machine.seed, shellWords([...again, ...rest].map(String)));
    } finally {
      progress.end();
    }
    return outcomes[0];
  });
}

/** A comparison of one: without a baseline there is no prediction and no advice. */
function resultOf(
  outcome: ReplayOutcome,
  setting: Setting,
  experiment: Experiment,
): ComparisonResult {
  const compared = compareReplays({
    outcomes: [outcome],
    settings: [setting],
    machine: experiment.summary,
    costQuality: experiment.costQuality,
  });
  const text =
    "One setting was replayed; hugelab compare shows it beside others and predicts run times.";
  return { ...compared, settings: [outcome.result], advice: { setting: "", text } };
}

async function render(
  result: ComparisonResult,
  options: ReplayOptions,
  terminal: Terminal,
): Promise<string> {
  const { trace, machine, notModelled } = result;
  const setting = result.settings[0];
  const document = {
    schema: "hugelab.replay",
    version: 1,
    trace,
    machine,
    setting,
    notModelled,
  } as const;
  const bytes = options.bytes ? "exact" : "scaled";
  switch (options.json ? "json" : (options.format ?? "table")) {
    case "json":
      return renderJson(document);
    case "ndjson":
      return `${JSON.stringify(document)}\n`;
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
