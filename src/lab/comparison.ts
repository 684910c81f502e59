/**
 * From the replays of several settings to one comparison: predicted times, uncertainty, advice, and what is left out.
 *
 * The prediction: the recorded run had THP off, so the baseline's modelled costs are taken out of its time and the setting's
 * put in. What both settings share (the program's own work) is never modelled and cancels.
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

/** Share of a modelled difference that we do not stand behind, and of the recorded time that varies from run to run. */
const UNCERTAIN_SHARE = { ofDifference: 0.3, ofRecorded: 0.015 } as const;

const ALWAYS_LEFT_OUT: readonly string[] = [
  "khugepaged and MADV_COLLAPSE: pages become huge at faults only.",
  "Reclaim, swap and compaction: the machine has memory to spare and it is not fragmented.",
  "Huge pages of files and shared memory: page cache and tmpfs use 4 kB pages here.",
  "Data caches: a huge page changes only translations, faults and clearing.",
];

/** One result of all outcomes; the first is the baseline. */
export function comparisonOf(
  outcomes: readonly ReplayOutcome[],
  settings: readonly Setting[],
  machine: MachineSummary,
): ComparisonResult {
  const baseline = outcomes[0].result;
  const results = outcomes.map((outcome) => withPrediction(outcome.result, baseline));
  const { trace } = outcomes[0];
  const sentences = new Set(outcomes.flatMap((outcome) => outcome.notModelled));
  return {
    schema: "hugelab.compare",
    version: RESULT_SCHEMA_VERSION,
    trace,
    machine,
    settings: results,
    advice: adviceFor(results, trace),
    notModelled: [...ALWAYS_LEFT_OUT, ...knobsWithoutEffect(settings), ...sentences],
  };
}

function withPrediction(setting: SettingResult, baseline: SettingResult): SettingResult {
  const { recordedMs } = setting.time;
  const differenceMs = modelledMs(setting) - modelledMs(baseline);
  if (recordedMs === null) return setting;
  // A program cannot run in less than nothing: at most nine tenths of the recorded time can be explained away.
  const predictedMs = Math.max(recordedMs * 0.1, recordedMs + differenceMs);
  const uncertainMs =
    Math.abs(differenceMs) * UNCERTAIN_SHARE.ofDifference + recordedMs * UNCERTAIN_SHARE.ofRecorded;
  return {
    ...setting,
    time: { ...setting.time, predictedMs, uncertainty: uncertainMs / predictedMs },
  };
}
