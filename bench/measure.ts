/**
 * The measuring half of `npm run accuracy`: real programs with THP off and always, in turn, on the running kernel.
 *
 * Entry: withKnobs (THP always for as long as the work runs, put back in any case), measurePairs.
 * Method: native/livebench/launch.c runs a program apart from the host's other work; the machine's knobs are locked against
 *        others of ours for one program at a time.
 * Units: milliseconds and bytes; medians over the rounds. A ratio is the median of the rounds' own ratios, so that a slow
 *        drift of the host cancels out.
 */

import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { nativeProgram } from "../src/cli/native-build.ts";
import { NotPossibleHere } from "../src/cli/not-possible.ts";
import type { AccuracyProgram } from "./programs.ts";
import { median } from "./row.ts";

const THP = "/sys/kernel/mm/transparent_hugepage";

/** What one run took. */
interface Run {
  readonly wallMs: number;
  readonly userMs: number;
  readonly systemMs: number;
  readonly minorFaults: number;
  readonly majorFaults: number;
  readonly peakRssBytes: number;
  /** 1 if it ran with real-time priority. */
  readonly realTime: number;
  /** Of new 4K pages before the run, neighbours in one aligned group of eight frames; 0 if not known. */
  readonly framesTogether: number;
  /** Exit status, or 256 + signal. */
  readonly status: number;
}

/** Medians of one setting. */
export interface Measured {
  readonly wallMs: number;
  /** User and system time of the program and its children. */
  readonly cpuMs: number;
  readonly userMs: number;
  readonly systemMs: number;
  readonly minorFaults: number;
  readonly peakRssBytes: number;
  /** Least and greatest of the rounds: layouts are random, and huge pages fit one better than another. */
  readonly peakRssRange: readonly [number, number];
}

export interface MeasuredPair {
  readonly nrRounds: number;
  readonly never: Measured;
  readonly always: Measured;
  /** Time with THP always through time with THP off; CPU time and wall time. */
  readonly cpuRatio: number;
  readonly wallRatio: number;
  /** Half of the 95 % interval of the median CPU ratio, by the order of the rounds' ratios. */
  readonly cpuRatioError: number;
  /** Medians of the rounds' differences, THP always less THP off. The kernel splits the two by its ticks. */
  readonly userChangeMs: number;
  readonly systemChangeMs: number;
  readonly isRealTime: boolean;
  /** Median over the runs with THP off, and their range. */
  readonly framesTogether: number;
  readonly framesTogetherRange: readonly [number, number];
}

const LOCK_WAIT_S = 900;

/** Runs `work` while THP is always on and khugepaged rests; both are put back, also if this process is killed. */
export async function withKnobs<T>(work: () => T | Promise<T>): Promise<T> {
  const lock = join(tmpdir(), "hugelab-kernel.lock");
  const knobs = [`${THP}/enabled=always`, `${THP}/khugepaged/scan_sleep_millisecs=3600000`];
  const keeper = spawn(
    "flock",
    ["--wait", String(LOCK_WAIT_S), lock, nativeProgram("livebench/keep-knobs.c"), ...knobs],
    { stdio: ["pipe", "pipe", "pipe"] },
  );
  const ended = once(keeper, "exit");
  const isReady = await Promise.race([
    once(keeper.stdout, "data").then(() => true),
    ended.then(() => false),
  ]);
  if (!isReady) {
    throw new NotPossibleHere(
      "the kernel's THP knobs cannot be written",
      "run it as root on Linux",
    );
  }
  try {
    return await work();
  } finally {
    keeper.stdin.end();
    await ended;
  }
}

/** What the numbers were taken on, in one line. */
export function thpState(): string {
  const read = (name: string) => readFileSync(`${THP}/${name}`, "utf8").trim();
  return `enabled=${read("enabled")}, defrag=${read("defrag")}, khugepaged parked (scan_sleep_millisecs=3600000)`;
}

/** One run of each setting per round, the order changing from round to round; one more before that is not counted. */
export function measurePairs(
  program: AccuracyProgram,
  folder: string,
  nrRounds: number,
): MeasuredPair {
  launch(program, folder, "never");
  const never: Run[] = [];
  const always: Run[] = [];
  for (let round = 0; round < nrRounds; round++) {
    if (round % 2 === 0) never.push(launch(program, folder, "never"));
    always.push(launch(program, folder, "asis"));
    if (round % 2 === 1) never.push(launch(program, folder, "never"));
  }
  const cpuRatios = never.map((run, i) => cpuMs(always[i]) / cpuMs(run));
  return {
    nrRounds,
    never: mediansOf(never),
    always: mediansOf(always),
    cpuRatio: median(cpuRatios),
    wallRatio: median(never.map((run, i) => always[i].wallMs / run.wallMs)),
    cpuRatioError: errorOfMedian(cpuRatios),
    userChangeMs: median(never.map((run, i) => always[i].userMs - run.userMs)),
    systemChangeMs: median(never.map((run, i) => always[i].systemMs - run.systemMs)),
    framesTogether: median(never.map((run) => run.framesTogether)),
    framesTogetherRange: rangeOf(never.map((run) => run.framesTogether)),
    isRealTime: [...never, ...always].every((run) => run.realTime === 1),
  };
}

function launch(program: AccuracyProgram, folder: string, thp: "never" | "asis"): Run {
  const launcher = nativeProgram("livebench/launch.c");
  const run = spawnSync(launcher, [thp, program.driver, ...program.command], {
    cwd: folder,
    encoding: "utf8",
    stdio: ["ignore", "ignore", "pipe", "pipe"],
  });
  const report = run.output?.[3];
  if (run.status !== 0 || !report) throw new Error(`${program.name}: ${run.stderr}`);
  const result = JSON.parse(report) as Run;
  if (result.status !== 0) {
    throw new Error(`${program.name} ended with status ${result.status}: ${run.stderr}`);
  }
  return result;
}

function cpuMs(run: Run): number {
  return run.userMs + run.systemMs;
}

function mediansOf(runs: readonly Run[]): Measured {
  const of = (field: (run: Run) => number) => median(runs.map(field));
  return {
    wallMs: of((run) => run.wallMs),
    cpuMs: of(cpuMs),
    userMs: of((run) => run.userMs),
    systemMs: of((run) => run.systemMs),
    minorFaults: of((run) => run.minorFaults),
    peakRssBytes: of((run) => run.peakRssBytes),
    peakRssRange: rangeOf(runs.map((run) => run.peakRssBytes)),
  };
}

function rangeOf(values: readonly number[]): readonly [number, number] {
  return [Math.min(...values), Math.max(...values)];
}

/** The true median lies between these two of the sorted values with 95 %, however they are distributed. */
function errorOfMedian(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const reach = 0.98 * Math.sqrt(sorted.length);
  const first = Math.max(0, Math.floor(sorted.length / 2 - reach));
  return (sorted[sorted.length - 1 - first] - sorted[first]) / 2;
}
