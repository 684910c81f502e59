/**
 * From replays of one recording under several settings to one comparison: predicted times, advice, what is left out.
 *
 * Entry: compareReplays. Pure.
 * Holds: the first setting stands for the recorded run, so what is predicted for it is the recorded time itself; for the
 *        others the modelled parts of the first are taken out of it and their own put in. What all share (the program's
 *        own work) is never modelled and cancels.
 */

import { adviceFor, modelledMs } from "./advice.ts";
import type { ReplayOutcome } from "./replay.ts";
import {
  type ComparisonResult,
  type MachineSummary,
  RESULT_SCHEMA_VERSION,
  type SettingResult,
} from "./result.ts";
import { knobsWithoutEffect, type Setting } from "./setting.ts";

/** How far a modelled time may be off, as a share of what differs between two settings. */
export const COST_ERROR = {
  /** Costs measured on this host. */
  measured: 0.2,
  /** Costs of a table for another machine. */
  builtIn: 0.4,
} as const;

/** Run to run a real program differs by this share even when nothing changed. */
export const RUN_NOISE = 0.01;

/** A prediction takes away at most this share of the recorded time: costs of another machine can exceed all of it. */
export const LARGEST_GAIN = 0.9;

export interface Replays {
  /** In the order of the settings; the first is the baseline. */
  readonly outcomes: readonly ReplayOutcome[];
  readonly settings: readonly Setting[];
  readonly machine: MachineSummary;
  readonly costQuality: keyof typeof COST_ERROR;
}

/** The comparison that reports show. */
export function compareReplays(replays: Replays): ComparisonResult {
  const { outcomes, settings, machine, costQuality } = replays;
  const { trace, result: baseline } = outcomes[0];
  const recordedMs = trace.header.plainRun?.wallMs ?? null;
  const results = outcomes.map(({ result }) =>
    withPrediction(result, baseline, recordedMs, COST_ERROR[costQuality]),
  );
  const sentences = outcomes.flatMap((outcome) => outcome.notModelled);
  return {
    schema: "hugelab.compare",
    version: RESULT_SCHEMA_VERSION,
    trace,
    machine,
    settings: results,
    advice: adviceFor(results, trace),
    notModelled: [...new Set([...sentences, ...knobsWithoutEffect(settings)])],
  };
}

function withPrediction(
  setting: SettingResult,
  baseline: SettingResult,
  recordedMs: number | null,
  costError: number,
): SettingResult {
  const { parts } = setting.time;
  if (recordedMs === null) return { ...setting, time: { ...setting.time, recordedMs } };

  const change = modelledMs(setting) - modelledMs(baseline);
  const predictedMs = Math.max(recordedMs * (1 - LARGEST_GAIN), recordedMs + change);
  const uncertainty = RUN_NOISE + (costError * shiftedMs(setting, baseline)) / predictedMs;
  return { ...setting, time: { recordedMs, predictedMs, parts, uncertainty } };
}

/** Sum of what each part gains or loses: parts that cancel each other are uncertain all the same. */
function shiftedMs(setting: SettingResult, baseline: SettingResult): number {
  const names = new Set([...setting.time.parts, ...baseline.time.parts].map((part) => part.name));
  return [...names].reduce((sum, n) => sum + Math.abs(msOf(n, setting) - msOf(n, baseline)), 0);
}

/** A part's time in a setting; a part that it does not have took no time. */
function msOf(name: string, setting: SettingResult): number {
  return setting.time.parts
    .filter((part) => part.name === name)
    .reduce((sum, part) => sum + part.ms, 0);
}
