/**
 * The live kernel's figures: native/livebench, run between our own measurements so that both see the same host.
 *
 * Units: nanoseconds per operation; null where there is no Linux, no compiler or no huge pages.
 */

import { spawnSync } from "node:child_process";
import { nativeProgram } from "../src/cli/native-build.ts";
import { NotPossibleHere } from "../src/cli/not-possible.ts";

export type Experiment = "fault4k" | "fault2m" | "munmap4k" | "fork1g" | "cow4k" | "collapse";

/** Takes samples of an experiment; none if it cannot be done here. */
export type KernelProbe = (experiment: Experiment, rounds: number) => number[];

/** The probe of this host, and why there is none where it has none. */
export function kernelProbe(): { probe: KernelProbe; missing: string | null } {
  if (process.platform !== "linux") return { probe: () => [], missing: "this is not Linux" };
  let program: string;
  try {
    program = nativeProgram("livebench/livebench.c");
  } catch (error) {
    if (!(error instanceof NotPossibleHere)) throw error;
    return { probe: () => [], missing: error.message };
  }
  return { probe: (experiment, rounds) => sample(program, experiment, rounds), missing: null };
}

function sample(program: string, experiment: Experiment, rounds: number): number[] {
  const run = spawnSync(program, [experiment, String(rounds)], { encoding: "utf8" });
  if (run.status !== 0) throw new Error(`livebench ${experiment}: ${run.stderr || run.signal}`);
  return JSON.parse(run.stdout) as number[];
}
