/**
 * `hugelab record`: records a real program.
 *
 * Entry: registerRecord.
 * Owns:  the progress line. The work is record-run.ts (exact, under the emulator) and record-light.ts (by perf).
 */

import type { Command } from "commander";
import { UsageError } from "../base/usage-error.ts";
import { wantsExamples } from "./examples.ts";
import type { RecordSummary } from "./record-convert.ts";
import { type RecordResult, type RecordWatcher, recordProgram, signalName } from "./record-run.ts";

interface RecordOptions {
  readonly output: string;
  readonly plainRuns: string;
  readonly plainRun: boolean;
  readonly interval: string;
  readonly window: string;
  readonly sample: string;
  readonly windows: boolean;
  readonly full?: boolean;
  readonly driver: string;
  readonly light?: boolean;
  readonly quiet?: boolean;
  readonly progress?: boolean;
}

const EXAMPLES = `
Everything after -- is the program to record, untouched; its status is returned.

Examples:
  hugelab record -o gzip.hlt -- gzip -k big.tar
  hugelab record -o all.hlt --full -- ./short-program
  hugelab record -o redis.hlt --driver ./load.sh -- redis-server --port 7777 --disable-thp no
`;

/** Adds the command to the program. */
export function registerRecord(program: Command): void {
  program
    .command("record")
    .summary("record a real program")
    .description(
      "Runs an x86-64 program, with its threads, forked children and what they exec, and writes what it does to its " +
        "memory: every mapping call, every first read and write of a page, access counts, and the full order of " +
        "accesses in sampled windows. Takes 5 to 12 times as long as the program alone.",
    )
    .argument("<command...>", "the program and its arguments, after --")
    .requiredOption("-o, --output <file>", "recording to write")
    .option("--full", "the order of all accesses, not only of sampled windows")
    .option("--window <n>", "accesses in a sampled window", "200k")
    .option("--sample <percent>", "share of the accesses that lie in windows", "2")
    .option("--no-windows", "no order of accesses at all")
    .option("--interval <n>", 'instructions between access counts, or "auto"', "auto")
    .option("--light", "only page faults and mapping calls, by perf, at nearly full speed")
    .option(
      "--driver <command>",
      "shell command that runs beside the program and ends it (HUGELAB_PID is its id)",
      "",
    )
    .option("--plain-runs <n>", "runs without the recorder, for real time, faults and RSS", "3")
    .option("--no-plain-run", "no such runs")
    .addHelpText("after", ({ command: self }) => (wantsExamples(self) ? EXAMPLES : ""))
    .action(async (command: string[], options: RecordOptions, self: Command) => {
      await record(command, { ...self.optsWithGlobals(), ...options });
    });
}

async function record(command: readonly string[], options: RecordOptions): Promise<void> {
  if (options.output === "-") {
    throw new UsageError("--output", '"-"', "a file: stdout belongs to the recorded program");
  }
  if (options.light === true) return light(command, options);
  const windowAccesses = options.windows ? countOf(options.window, "--window") : 0;
  const share = numberOf(options.sample, "--sample", 0.01, 100) / 100;
  const isFull = options.full === true;
  const watcher = watcherFor(options);
  const result = await recordProgram(
    {
      command,
      output: options.output,
      driver: options.driver,
      nrPlainRuns: nrPlainRunsOf(options),
      intervalTicks: options.interval === "auto" ? 0 : countOf(options.interval, "--interval"),
      windowAccesses,
      sampleEvery: isFull ? windowAccesses : Math.round(windowAccesses / share),
    },
    watcher,
  );
  watcher.end();
  if (options.quiet !== true) process.stderr.write(`hugelab: ${lastLine(result, options)}\n`);
  process.exitCode = result.status;
}

/** By perf. */
async function light(command: readonly string[], options: RecordOptions): Promise<void> {
  if (options.full === true) {
    throw new UsageError("--full", "--light", "one of them: perf sees no accesses");
  }
  if (options.driver !== "") {
    throw new UsageError("--driver", "--light", "one of them: perf records what it starts");
  }
  const watcher = watcherFor(options);
  const { output } = options;
  const request = { command, output, nrPlainRuns: nrPlainRunsOf(options) };
  const { recordLight } = await import("./record-light.ts");
  const { status, sizeBytes, elapsedMs } = await recordLight(request, watcher);
  watcher.note(`${output}: ${(sizeBytes / 1e6).toFixed(2)} MB, ${seconds(elapsedMs)}, by perf`);
  process.exitCode = status;
}

function nrPlainRunsOf(options: RecordOptions): number {
  return options.plainRun ? numberOf(options.plainRuns, "--plain-runs", 0, 99) : 0;
}

/** A count of things: digits, then perhaps k, M or G for thousands, millions or milliards. */
function countOf(text: string, option: string): number {
  const match = /^([0-9]+)([kKmMgG]?)$/.exec(text);
  const unit = { "": 1, k: 1e3, m: 1e6, g: 1e9 }[match?.[2].toLowerCase() ?? ""] ?? 1;
  const value = match === null ? 0 : Number(match[1]) * unit;
  if (value >= 1 && value <= Number.MAX_SAFE_INTEGER) return value;
  throw new UsageError(option, `"${text}"`, "a count such as 200000, 200k or 5M");
}

function numberOf(text: string, option: string, least: number, most: number): number {
  const value = text.trim() === "" ? Number.NaN : Number(text);
  if (value >= least && value <= most) return value;
  throw new UsageError(option, `"${text}"`, `a number from ${least} to ${most}`);
}

interface DrawnWatcher extends RecordWatcher {
  /** Erases the progress line. */
  end(): void;
}

function watcherFor(options: RecordOptions): DrawnWatcher {
  const { stderr } = process;
  const isDrawn = stderr.isTTY === true && options.quiet !== true && options.progress !== false;
  const erase = () => {
    if (isDrawn) stderr.write("\r\x1b[K");
  };
  return {
    note: (text) => {
      erase();
      if (options.quiet !== true) stderr.write(`hugelab: ${text}\n`);
    },
    progress: (summary, elapsedMs) => {
      if (!isDrawn) return;
      const line = `recording ${seconds(elapsedMs)}  ${detail(summary)}`;
      stderr.write(`\r${line.slice(0, (stderr.columns ?? 80) - 1)}\x1b[K`);
    },
    end: erase,
  };
}

function detail(summary: RecordSummary): string {
  const accesses = `${millions(summary.nrAccesses)} accesses`;
  const touches = `${millions(summary.nrTouches)} first touches`;
  return `${millions(summary.nrInstructions)} instructions, ${accesses}, ${touches}`;
}

function lastLine(result: RecordResult, options: RecordOptions): string {
  const { summary } = result;
  const parts = [
    `${(result.sizeBytes / 1e6).toFixed(2)} MB`,
    `${seconds(result.elapsedMs)}`,
    detail(summary),
    summary.nrProcesses === 1 ? "1 process" : `${summary.nrProcesses} processes`,
  ];
  const status = summary.status ?? 0;
  if (status >= 256) parts.push(`died by ${signalName(status - 256)}`);
  if (summary.wasAsked) parts.push("ended early");
  return `${options.output}: ${parts.join(", ")}`;
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

function millions(n: number): string {
  if (n >= 1e9) return `${(n / 1e9).toFixed(2)} G`;
  if (n >= 1e6) return `${(n / 1e6).toFixed(1)} M`;
  if (n >= 1e4) return `${(n / 1e3).toFixed(0)} k`;
  return String(n);
}
