/**
 * One scenario on the back ends that were asked for, with what a live kernel needs: a run that others disturbed is repeated, and a
 * finding counts only if it stays.
 *
 * Entry: openSides, runOne, closeSides.
 */

import { type Backend, CannotDo } from "../scenario/backend.ts";
import { createModelBackend, type ModelBackend } from "../scenario/model-backend.ts";
import { type RunOptions, type RunResult, runBoth, runScenario } from "../scenario/run.ts";
import type { Scenario } from "../scenario/syntax.ts";
import { withReplayCommand } from "./failure.ts";
import { createKernelBackend, type KernelBackend } from "./kernel-backend.ts";
import { KernelFailure } from "./kernel-supervisor.ts";
import { NotPossibleHere } from "./not-possible.ts";
import type { On, Outcome } from "./scenario-report.ts";

export interface Sides {
  readonly model: ModelBackend | null;
  readonly kernel: KernelBackend | null;
}

/** Times that a run with a finding on the kernel is repeated; one that passes means noise. */
const REPEATS = 3;
const MOST_DISTURBED = 10;

/** Throws NotPossibleHere if the kernel is wanted and cannot be had. */
export function openSides(on: On): Sides {
  return {
    model: on === "kernel" ? null : createModelBackend(),
    kernel: on === "model" ? null : createKernelBackend(),
  };
}

export function closeSides({ kernel }: Sides): void {
  kernel?.close();
}

/** One file where it can run: what only the model can do runs there alone, also on both. */
export function runOne(
  scenario: Scenario,
  sides: Sides,
  on: On,
  options: RunOptions = {},
): Outcome {
  const isForModel = scenario.header.on === "model";
  if (isForModel && sides.model === null) return { kind: "skipped", scenario };
  const kernel = isForModel ? null : sides.kernel;
  try {
    if (kernel === null) {
      const result = runScenario(scenario, sides.model!, options);
      return { kind: "ran", scenario, on: "model", result, nrUnstable: 0 };
    }
    return { kind: "ran", scenario, on, ...runSteadily(scenario, sides.model, kernel, options) };
  } catch (error) {
    return problemOf(error, scenario, on);
  }
}

function runSteadily(
  scenario: Scenario,
  model: Backend | null,
  kernel: KernelBackend,
  options: RunOptions,
): { result: RunResult; nrUnstable: number; unstable?: RunResult } {
  const once = () => undisturbed(scenario, model, kernel, options);
  const first = once();
  let result = first;
  for (let nr = 0; nr < REPEATS && result.findings.length > 0; nr++) {
    const again = once();
    if (again.findings.length === 0) return { result: again, nrUnstable: nr + 1, unstable: first };
    result = again;
  }
  return { result, nrUnstable: 0 };
}

function undisturbed(
  scenario: Scenario,
  model: Backend | null,
  kernel: KernelBackend,
  options: RunOptions,
): RunResult {
  for (let nr = 0; nr < MOST_DISTURBED; nr++) {
    const result =
      model === null
        ? runScenario(scenario, kernel, options)
        : runBoth(scenario, model, kernel, options);
    if (!kernel.wasDisturbed()) return result;
  }
  throw new CannotDo(0, `other programs took the kernel's huge pages ${MOST_DISTURBED} times`);
}

function problemOf(error: unknown, scenario: Scenario, on: On): Outcome {
  if (error instanceof CannotDo)
    return { kind: "impossible", scenario, line: error.line, problem: error.message };
  if (error instanceof KernelFailure || error instanceof NotPossibleHere)
    return { kind: "impossible", scenario, line: 0, problem: error.message };
  const { seed } = scenario.header.machine;
  throw withReplayCommand(error, seed, `hugelab run ${scenario.file} --on ${on}`);
}
