/**
 * `npm run accuracy`: real programs, predicted from one recording against measured on this kernel; writes docs/accuracy.md.
 *
 * Options: --rounds N (25), --only TEXT (programs whose name contains it), --keep FOLDER (data and recordings, reused by the
 *          next run), --measure-only, --no-write.
 * Needs root (THP is switched) and what `hugelab record` needs. Exits 3 where that is not to be had.
 */

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus, release, tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { frameRunFigure } from "../src/cli/calibrate-hardware.ts";
import { thisHost } from "../src/cli/calibrate-store.ts";
import { packagePath } from "../src/cli/native-build.ts";
import { NotPossibleHere } from "../src/cli/not-possible.ts";
import type { CostTableJson } from "../src/hw/cost-model.ts";
import type { ComparisonResult, SettingResult } from "../src/lab/result.ts";
import {
  accuracyMarkdown,
  accuracyTable,
  type Comparison,
  type Predicted,
} from "./accuracy-report.ts";
import { type MeasuredPair, measurePairs, thpState, withKnobs } from "./measure.ts";
import { type AccuracyProgram, accuracyPrograms, prepareData } from "./programs.ts";
import { median } from "./row.ts";

interface Options {
  readonly nrRounds: number;
  readonly only: string;
  readonly keep: string | null;
  readonly measuresOnly: boolean;
  readonly writes: boolean;
}

async function main(args: readonly string[]): Promise<number> {
  const options = optionsFrom(args);
  const { present, missing } = accuracyPrograms();
  const programs = present.filter((program) => program.name.includes(options.only));
  if (missing.length > 0) note(`not installed, left out: ${missing.join(", ")}`);

  const folder = options.keep ?? mkdtempSync(join(tmpdir(), "hugelab-accuracy-"));
  mkdirSync(folder, { recursive: true });
  try {
    for (const program of programs) prepareData(program, folder);
    const recorded = options.measuresOnly
      ? programs
      : programs.filter((program) => record(program, folder));
    const lost = programs.filter((program) => !recorded.includes(program));
    if (!options.measuresOnly) calibrate(folder);
    const { state, measured } = await measure(recorded, folder, options.nrRounds);
    const comparisons = recorded.map(
      (program, i): Comparison => ({
        program,
        measured: measured[i],
        predicted: options.measuresOnly ? null : predict(program, folder, measured[i]),
      }),
    );
    process.stdout.write(`${accuracyTable(comparisons)}\n`);
    const left = lost.map((program) => `; ${program.name} could not be recorded`).join("");
    if (options.writes && !options.measuresOnly) writeDocument(comparisons, `${state}${left}`);
    return lost.length === 0 ? 0 : 1;
  } finally {
    if (options.keep === null) rmSync(folder, { recursive: true, force: true });
  }
}

function optionsFrom(args: readonly string[]): Options {
  const after = (flag: string) => (args.includes(flag) ? args[args.indexOf(flag) + 1] : undefined);
  const keep = after("--keep");
  return {
    nrRounds: Number(after("--rounds") ?? 25),
    only: after("--only") ?? "",
    keep: keep === undefined ? null : resolve(keep),
    measuresOnly: args.includes("--measure-only"),
    writes: !args.includes("--no-write") && !args.includes("--only"),
  };
}

async function measure(
  programs: readonly AccuracyProgram[],
  folder: string,
  nrRounds: number,
): Promise<{ state: string; measured: MeasuredPair[] }> {
  const measured: MeasuredPair[] = [];
  let state = "";
  for (const program of programs) {
    note(`measuring ${program.name}: ${nrRounds} times without and with huge pages`);
    await withKnobs(() => {
      measured.push(measurePairs(program, folder, nrRounds));
      state = thpState();
    });
  }
  return { state, measured };
}

/** This host's costs as they are now, measured like the programs: its speed changes within minutes. */
function calibrate(folder: string): void {
  note("calibrating");
  const run = spawnSync(process.execPath, [hugelab(), "calibrate", "--json", "--no-store"], {
    encoding: "utf8",
    maxBuffer: 64 * 1024 * 1024,
    stdio: ["ignore", "pipe", "inherit"],
  });
  if (run.status !== 0) throw new Error(`calibrating ended with ${run.status}`);
  writeFileSync(costsOf(folder), run.stdout);
}

function costsOf(folder: string): string {
  return join(folder, "costs.json");
}

/** The calibrated table with the layout of memory that the program's own runs met: it changes with what ran before. */
function costsFor(folder: string, { framesTogether }: MeasuredPair): string {
  const path = join(folder, "costs-now.json");
  const { costs } = JSON.parse(readFileSync(costsOf(folder), "utf8")) as { costs: CostTableJson };
  const together = framesTogether > 0 ? frameRunFigure(framesTogether, "before the runs") : {};
  const hardware = { ...costs.hardware, ...together };
  writeFileSync(path, JSON.stringify({ ...costs, hardware }));
  return path;
}

/** Records a program unless its recording is already there; false if that failed, and the others go on. */
function record(program: AccuracyProgram, folder: string): boolean {
  const trace = traceOf(program, folder);
  if (existsSync(trace)) return true;
  const driver = program.driver === "" ? [] : ["--driver", program.driver];
  const args = ["record", "-o", trace, ...driver, "--", ...program.command];
  note(`recording ${program.name}`);
  const run = spawnSync(process.execPath, [hugelab(), ...args], {
    cwd: folder,
    stdio: ["ignore", "ignore", "inherit"],
  });
  if (run.status === 0) return true;
  rmSync(trace, { force: true });
  if (run.status === 3)
    throw new NotPossibleHere(`${program.name} cannot be recorded here`, "see the line above");
  note(`recording ${program.name} ended with ${run.status}: left out`);
  return false;
}

/** Peak RSS depends on where mappings happen to lie; so does the kernel's. The median of these layouts is predicted. */
const SEEDS = [1, 2, 3, 4, 5];

function predict(program: AccuracyProgram, folder: string, measured: MeasuredPair): Predicted {
  note(`predicting ${program.name}`);
  const costs = costsFor(folder, measured);
  const results = SEEDS.map((seed) => compare(traceOf(program, folder), costs, seed));
  const rss = (name: string) =>
    median(results.map((result) => settingNamed(result, name).memory.peakRssBytes));
  const ratios = results.map(ratioOf).filter((ratio) => ratio !== null);
  const first = results[0];
  const change = (isWanted: (part: string) => boolean) =>
    median(results.map((result) => changeOf(result, isWanted)));
  return {
    costs: `measured just before, ${first.machine.translation}, ${first.machine.geometry}`,
    walksChangeMs: change((part) => part === WALKS),
    kernelChangeMs: change((part) => part !== WALKS),
    never: { peakRssBytes: rss("never"), faults: settingNamed(first, "never").faults.total },
    always: { peakRssBytes: rss("always"), faults: settingNamed(first, "always").faults.total },
    ratio: ratios.length === 0 ? null : median(ratios),
  };
}

function compare(trace: string, costs: string, seed: number): ComparisonResult {
  const settings = ["--setting", "never", "--setting", "always", "--costs", costs];
  const args = ["compare", trace, ...settings, "--seed", String(seed), "--json"];
  const run = spawnSync(process.execPath, [hugelab(), ...args], {
    encoding: "utf8",
    maxBuffer: 256 * 1024 * 1024,
    stdio: ["ignore", "pipe", "inherit"],
  });
  if (run.status !== 0) throw new Error(`comparing ${trace} ended with ${run.status}`);
  return JSON.parse(run.stdout) as ComparisonResult;
}

/** The one part of a prediction that is not the kernel's time. */
const WALKS = "page walks";

/** Predicted time of the wanted parts, THP always less THP off. */
function changeOf(result: ComparisonResult, isWanted: (part: string) => boolean): number {
  const sum = (name: string) =>
    settingNamed(result, name)
      .time.parts.filter((part) => isWanted(part.name))
      .reduce((ms, part) => ms + part.ms, 0);
  return sum("always") - sum("never");
}

function settingNamed(result: ComparisonResult, name: string): SettingResult {
  const found = result.settings.find((setting) => setting.name === name);
  if (!found) throw new Error(`the comparison has no setting ${name}`);
  return found;
}

/** Predicted CPU time with THP always through that without: what `compare` adds or takes, on the plain run's CPU time. */
function ratioOf(result: ComparisonResult): number | null {
  const { plainRun } = result.trace.header;
  const never = settingNamed(result, "never").time.predictedMs;
  const always = settingNamed(result, "always").time.predictedMs;
  if (plainRun === undefined || never === null || always === null) return null;
  return 1 + (always - never) / (plainRun.userMs + plainRun.systemMs);
}

function traceOf(program: AccuracyProgram, folder: string): string {
  return join(folder, `${program.name.replaceAll(/[^a-z0-9]+/g, "-")}.hlt`);
}

/** The built command beside this file. */
function hugelab(): string {
  return join(dirname(fileURLToPath(import.meta.url)), "hugelab.mjs");
}

function writeDocument(comparisons: readonly Comparison[], state: string): void {
  const path = packagePath("docs", "accuracy.md");
  const host = thisHost();
  const cpu = `${host.cpu} (${cpus().length} CPUs, ${host.isVirtual ? "virtual machine" : "bare metal"})`;
  const before = existsSync(path) ? readFileSync(path, "utf8") : "";
  writeFileSync(
    path,
    accuracyMarkdown(before, comparisons, `${cpu}, Linux ${release()}; ${state}`),
  );
  note(`wrote ${path}`);
}

function note(text: string): void {
  process.stderr.write(`accuracy: ${text}\n`);
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof NotPossibleHere)) throw error;
  note(error.message);
  process.exitCode = error.exitCode;
}
