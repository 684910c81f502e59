/**
 * Runs of the program without the recorder and with huge pages switched off: what the replay is compared with.
 *
 * Entry: plainRun.
 * Owns:  nothing; native/recorder/launcher.c starts the program under prctl(PR_SET_THP_DISABLE) and measures.
 * Holds: the program's output is not shown: it comes once, from the recorded run. Standard input is given again if it is
 *        a file; from a pipe or a terminal it could be read only once, so those runs get none.
 */

import { spawn } from "node:child_process";
import { closeSync, fstatSync, openSync } from "node:fs";
import { cpus, release } from "node:os";
import type { Readable } from "node:stream";
import type { PlainRun } from "../trace/trace-sink.ts";

/** One run as the launcher measured it. Times in microseconds. */
interface Measured {
  readonly wallUs: number;
  readonly userUs: number;
  readonly systemUs: number;
  readonly minorFaults: number;
  readonly majorFaults: number;
  readonly peakKib: number;
}

/** What to run. */
export interface PlainRequest {
  readonly launcher: string;
  readonly program: string;
  readonly command: readonly string[];
  /** Shell command that runs beside the program; empty: none. */
  readonly driver: string;
  readonly nrRuns: number;
}

/** Field by field the median of the runs; undefined if the launcher measured nothing or the user interrupted. */
export async function plainRun(request: PlainRequest): Promise<PlainRun | undefined> {
  const runs: Measured[] = [];
  for (let i = 0; i < request.nrRuns; i++) {
    const run = await measured(request);
    if (run === undefined) return undefined;
    runs.push(run);
  }
  if (runs.length === 0) return undefined;
  const middle = (field: keyof Measured) => median(runs.map((run) => run[field]));
  return {
    nrRuns: runs.length,
    wallMs: middle("wallUs") / 1000,
    userMs: middle("userUs") / 1000,
    systemMs: middle("systemUs") / 1000,
    minorFaults: middle("minorFaults"),
    majorFaults: middle("majorFaults"),
    peakRssBytes: middle("peakKib") * 1024,
    kernel: release(),
    cpu: cpus()[0]?.model ?? "unknown",
  };
}

/** True if plain runs can be given the input that the recorded run gets. */
export function isInputRepeatable(): boolean {
  try {
    const stat = fstatSync(0);
    return stat.isFile() || stat.isCharacterDevice();
  } catch {
    return true;
  }
}

async function measured(request: PlainRequest): Promise<Measured | undefined> {
  const input = openInput();
  const args = ["plain", request.driver, request.program, ...request.command];
  const child = spawn(request.launcher, args, {
    stdio: [input ?? "ignore", "ignore", "ignore", "pipe"],
  });
  let text = "";
  (child.stdio[3] as Readable).on("data", (chunk) => {
    text += String(chunk);
  });
  let isInterrupted = false;
  const stop = () => {
    isInterrupted = true;
    child.kill("SIGTERM");
  };
  process.on("SIGINT", stop);
  process.on("SIGTERM", stop);
  await new Promise((resolve) => child.on("close", resolve));
  process.off("SIGINT", stop);
  process.off("SIGTERM", stop);
  if (input !== undefined) closeSync(input);
  if (isInterrupted) process.exit(130);

  const numbers = text.trim().split(" ").map(Number);
  if (numbers.length < 6 || numbers.some(Number.isNaN)) return undefined;
  const [wallUs, userUs, systemUs, minorFaults, majorFaults, peakKib] = numbers;
  return { wallUs, userUs, systemUs, minorFaults, majorFaults, peakKib };
}

/** A descriptor at the beginning of standard input if that is a file. */
function openInput(): number | undefined {
  try {
    return fstatSync(0).isFile() ? openSync("/proc/self/fd/0", "r") : undefined;
  } catch {
    return undefined;
  }
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}
