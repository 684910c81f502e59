/**
 * `hugelab largepages3`: the benchmark of the 2011 log, its published figures beside the model's prediction with this host's
 * calibration and a run of the same program here.
 *
 * Entry: registerLargepages3. The native run advises its own memory, so no knob of the host is touched.
 */

import { spawnSync } from "node:child_process";
import { freemem } from "node:os";
import type { Command } from "commander";
import { UsageError } from "../base/usage-error.ts";
import { meanOf2011, PASSES, predictLargepages3 } from "../lab/largepages3.ts";
import { wantsExamples } from "./examples.ts";
import { type Experiment, experimentFor, parseGeometry } from "./experiment.ts";
import { addMachineOptions, sourcesOf, terminalOf } from "./global-options.ts";
import { nativeProgram } from "./native-build.ts";
import { NotPossibleHere } from "./not-possible.ts";
import { resolveMachine } from "./resolve.ts";
import type { Terminal } from "./terminal.ts";

interface Largepages3Options {
  readonly size: string;
  readonly runs: string;
  readonly native: boolean;
  readonly json?: boolean;
}

/** Microseconds of the five passes with huge pages and without. */
interface Times {
  readonly on: readonly number[];
  readonly off: readonly number[];
}

const EXAMPLES = `
Examples:
  hugelab largepages3                  3 GiB, as in 2011, on the model and here
  hugelab largepages3 --size 512       smaller and quicker
  hugelab largepages3 --no-native      the model only: needs no compiler and little memory
`;

/** Adds the command to the program. */
export function registerLargepages3(program: Command): void {
  const command = program
    .command("largepages3")
    .summary("the benchmark of the 2011 log: its figures, the model's prediction and a native run")
    .description(
      "Five timed passes over one large malloc: what page faults and TLB misses cost with huge pages and without. Prints the " +
        "figures published in 2011 beside what the model predicts for this host and what a run of the same program here " +
        "takes. The model prices faults, clearing and page walks; the stores themselves are taken from the native run.",
    )
    .option("--size <MiB>", "memory to allocate", "3072")
    .option("--runs <n>", "native runs of each kind; the fastest of each pass counts", "3")
    .option("--no-native", "only the log and the model")
    .option("--json", "print one JSON document");
  addMachineOptions(command)
    .addHelpText("after", ({ command: c }) => (wantsExamples(c) ? EXAMPLES : ""))
    .action(largepages3);
}

async function largepages3(options: Largepages3Options, command: Command): Promise<void> {
  const terminal = terminalOf(command);
  const sizeMib = numberIn("--size", options.size, 4, 65536);
  const nrRuns = numberIn("--runs", options.runs, 1, 100);
  const experiment = experimentFor(
    resolveMachine(sourcesOf(command.opts(), terminal), parseGeometry),
  );
  const log: Times = { on: meanOf2011("THP on"), off: meanOf2011("THP off") };
  const model = predict(experiment, sizeMib);
  const native = options.native ? runHere(sizeMib, nrRuns, terminal) : null;
  if (options.json === true) {
    const document = { schema: "hugelab.largepages3", version: 1, sizeMib, passes: PASSES };
    await terminal.print(`${JSON.stringify({ ...document, log, model, native }, null, 2)}\n`);
    return;
  }
  await terminal.print(report(log, model, native, sizeMib, experiment));
}

function numberIn(option: string, text: string, low: number, high: number): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= low && value <= high) return value;
  throw new UsageError(option, `"${text}"`, `a whole number from ${low} to ${high}`);
}

function predict({ geometry, costs }: Experiment, sizeMib: number): Times {
  const times = (thp: "always" | "never") =>
    predictLargepages3({ sizeBytes: sizeMib * 2 ** 20, thp, geometry, costs }).map(
      ({ ns }) => ns / 1000,
    );
  return { on: times("always"), off: times("never") };
}

/** The fastest of each pass: whatever else ran here only ever makes one slower. Null, with a note, where it cannot be had. */
function runHere(sizeMib: number, nrRuns: number, terminal: Terminal): Times | null {
  if (sizeMib * 2 ** 20 > freemem() / 2) {
    terminal.note(`no native run: ${sizeMib} MiB is more than half of the free memory`);
    return null;
  }
  try {
    const program = nativeProgram("programs/largepages3.c");
    const best = (how: "huge" | "small") => {
      const runs = Array.from({ length: nrRuns }, () => runOnce(program, sizeMib, how));
      return PASSES.map((_, pass) => Math.min(...runs.map((run) => run[pass])));
    };
    return { on: best("huge"), off: best("small") };
  } catch (error) {
    if (!(error instanceof NotPossibleHere)) throw error;
    terminal.note(`no native run: ${error.message}`);
    return null;
  }
}

function runOnce(program: string, sizeMib: number, how: "huge" | "small"): number[] {
  const run = spawnSync(program, [String(sizeMib), how], { encoding: "utf8" });
  const lines = (run.stdout ?? "").trim().split("\n");
  const times = PASSES.map((name, pass) => Number(lines[pass]?.replace(name, "")));
  if (run.status !== 0 || times.some(Number.isNaN))
    throw new NotPossibleHere(
      `largepages3 failed: ${(run.stderr ?? "").trim()}`,
      "try a smaller --size",
    );
  return times;
}

/**
 * One row a pass. What the model predicts is the time that huge pages change; with a native run it is laid on the time that the
 * run with huge pages takes for the stores, so that both "off" columns can be compared.
 */
function report(
  log: Times,
  model: Times,
  native: Times | null,
  sizeMib: number,
  { summary }: Experiment,
): string {
  const rows = PASSES.map((name, pass) => {
    const saved = model.off[pass] - model.on[pass];
    const cells = [name, ...timesOf(log, pass), us(saved)];
    if (native === null) return cells;
    const predictedOff = native.on[pass] + saved;
    return [
      ...cells,
      ...timesOf(native, pass),
      us(predictedOff),
      ratio(predictedOff, native.on[pass]),
    ];
  });
  const head = ["pass", "2011 on", "off", "off/on", "model: off - on"];
  const more = ["here on", "off", "off/on", "off predicted", "off/on"];
  const notes = [
    `Microseconds. 2011: 3072 MiB, mean of two runs. Here and on the model: ${sizeMib} MiB.`,
    `Model: ${summary.geometry}; costs ${summary.costs}.`,
  ];
  const table = aligned([native === null ? head : [...head, ...more], ...rows]);
  return `${table}\n${notes.join("\n")}\n`;
}

function timesOf({ on, off }: Times, pass: number): string[] {
  return [us(on[pass]), us(off[pass]), ratio(off[pass], on[pass])];
}

function us(value: number): string {
  return value.toFixed(0);
}

function ratio(a: number, b: number): string {
  return (a / b).toFixed(3);
}

function aligned(rows: readonly (readonly string[])[]): string {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const line = (row: readonly string[]) =>
    row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join("  ");
  return `${rows.map(line).join("\n")}\n`;
}
