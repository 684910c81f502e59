/**
 * From measured settings to advice: which setting to use, what it gains, what it costs and how sure that is.
 *
 * Entry: judge (the decision, as data) and adviceFor (the decision in words).
 * Holds: a gain counts only beyond the uncertainty of the prediction; memory may grow only as ADVICE_LIMITS allows; what
 *        the data does not show is not claimed. The first setting is the baseline (THP off).
 * Units: gains and growths are shares of the baseline's value: 0.1 is a tenth less time, a tenth more memory.
 */

import { formatBytes, formatChange, formatCount, formatMs, formatNs } from "../base/units.ts";
import { knobNamed, sysfsPath } from "../huge/knob-files.ts";
import type { Advice, SettingResult, TraceSummary } from "./result.ts";

/** The thresholds of the decision; reports print those that decided. */
export const ADVICE_LIMITS = {
  /** A smaller gain is not worth a change, however certain. */
  smallestGain: 0.01,
  /** Growth of peak RSS that counts as none: below this share, or below these bytes. */
  freeGrowth: 0.02,
  freeGrowthBytes: 16 * 2 ** 20,
  /** A larger growth is never advised. Up to here each percent of memory must buy a percent of time. */
  worstGrowth: 0.5,
  /** Without a predicted time: the modelled cost must fall by this share. */
  smallestCostDrop: 0.05,
} as const;

/** Why a setting was chosen or passed over. */
export type Verdict =
  | "baseline"
  | "gains"
  /** The gain is below the uncertainty or below smallestGain. */
  | "no clear gain"
  | "slower"
  /** It gains, and memory grows by more than the gain pays for. */
  | "too much memory"
  /** The machine was too small for it: its figures are not those of the program. */
  | "out of memory"
  | "unknown";

export interface Candidate {
  readonly setting: SettingResult;
  readonly verdict: Verdict;
  /** Share of the baseline's predicted time saved; negative if slower; null if it cannot be told. */
  readonly gain: number | null;
  /** Half-width of the interval around `gain`. */
  readonly gainUncertainty: number;
  /** Share by which the peak of the resident set, all processes, grows; negative if it shrinks. */
  readonly growth: number;
  readonly growthBytes: number;
}

export interface Judgement {
  readonly chosen: Candidate;
  /** In the order of the settings; the first is the baseline. */
  readonly candidates: readonly Candidate[];
  /** What `gain` compares: predicted run times, only the modelled costs, or nothing. */
  readonly basis: "time" | "modelled cost" | "none";
}

/** The decision. `settings` holds at least one; the first is the baseline. */
export function judge(settings: readonly SettingResult[]): Judgement {
  const basis = basisOf(settings);
  const candidates = settings.map((setting) => candidateOf(setting, settings[0], basis));
  const gaining = candidates.filter((candidate) => candidate.verdict === "gains");
  const chosen = gaining.length === 0 ? candidates[0] : gaining.reduce(betterOf);
  return { chosen, candidates, basis };
}

/** The decision in words, as the last paragraph of every report. */
export function adviceFor(settings: readonly SettingResult[], trace: TraceSummary): Advice {
  const judgement = judge(settings);
  const baseline = settings[0];
  if (baseline.faults.outOfMemory !== undefined) return noAdvice(baseline);
  const sentences =
    settings.length === 1
      ? ["Only one setting was run, so there is nothing to choose between."]
      : [
          whatToSet(judgement),
          whatItGains(judgement),
          ...whatItCosts(judgement),
          ...whatElse(judgement),
          howSure(judgement, trace),
        ];
  return { setting: judgement.chosen.setting.name, text: sentences.join(" ") };
}

/** Not even the baseline fits: whatever is faster here would not be the program that was recorded. */
function noAdvice(baseline: SettingResult): Advice {
  const failed = formatCount(baseline.faults.outOfMemory!);
  const text =
    `No advice: the machine is too small for the program. Under "${baseline.name}" ${failed} faults or forks found no ` +
    "memory, where a real machine would reclaim, swap or kill, which is not modelled. Run with a larger --mem.";
  return { setting: "", text };
}

/** Shell commands that make a live kernel use the setting, one a line; root's. */
export function sysfsCommands(setting: SettingResult): readonly string[] {
  return Object.entries(knobsToSet(setting)).map(
    ([name, value]) => `echo ${value} > ${sysfsPath(knobNamed(name, "setting"))}`,
  );
}

/** The knobs that differ from the default, and thp.enabled in any case: distributions differ in its default. */
function knobsToSet(setting: SettingResult): Readonly<Record<string, string>> {
  return { "thp.enabled": knobNamed("thp.enabled", "setting").byDefault, ...setting.knobs };
}

function basisOf(settings: readonly SettingResult[]): Judgement["basis"] {
  if (settings[0].time.predictedMs !== null) return "time";
  return settings[0].time.parts.length > 0 ? "modelled cost" : "none";
}

function candidateOf(
  setting: SettingResult,
  baseline: SettingResult,
  basis: Judgement["basis"],
): Candidate {
  const before = baseline.memory.peakTotalRssBytes;
  const growthBytes = setting.memory.peakTotalRssBytes - before;
  const measured = {
    setting,
    gain: gainOf(setting, baseline, basis),
    gainUncertainty:
      basis === "time" ? Math.max(baseline.time.uncertainty, setting.time.uncertainty) : 0,
    growth: before === 0 ? 0 : growthBytes / before,
    growthBytes,
  };
  const verdict = setting === baseline ? "baseline" : verdictOn(measured, basis);
  return { ...measured, verdict };
}

function gainOf(
  setting: SettingResult,
  baseline: SettingResult,
  basis: Judgement["basis"],
): number | null {
  const before = basis === "time" ? baseline.time.predictedMs : modelledMs(baseline);
  const after = basis === "time" ? setting.time.predictedMs : modelledMs(setting);
  if (basis === "none" || before === null || after === null || before <= 0) return null;
  return 1 - after / before;
}

function verdictOn(candidate: Omit<Candidate, "verdict">, basis: Judgement["basis"]): Verdict {
  const { gain, gainUncertainty, growth } = candidate;
  if (candidate.setting.faults.outOfMemory !== undefined) return "out of memory";
  if (gain === null) return "unknown";

  const { smallestGain, smallestCostDrop, worstGrowth } = ADVICE_LIMITS;
  const threshold = basis === "time" ? Math.max(smallestGain, gainUncertainty) : smallestCostDrop;
  if (gain < -threshold) return "slower";
  if (gain <= threshold) return "no clear gain";
  if (isFreeGrowth(candidate.growthBytes, growth)) return "gains";
  // A share of the modelled cost is not a share of the run: it cannot pay for memory.
  const isPaidFor = basis === "time" && growth <= gain && growth <= worstGrowth;
  return isPaidFor ? "gains" : "too much memory";
}

function isFreeGrowth(growthBytes: number, growth: number): boolean {
  return growth <= ADVICE_LIMITS.freeGrowth || growthBytes <= ADVICE_LIMITS.freeGrowthBytes;
}

/** Of two that gain: within the uncertainty the smaller one, then the one named first, then the faster. */
function betterOf(a: Candidate, b: Candidate): Candidate {
  const faster = b.gain! > a.gain! ? b : a;
  const apart = Math.abs(a.gain! - b.gain!);
  const isTie = apart <= Math.max(a.gainUncertainty, b.gainUncertainty);
  const smaller = a.growthBytes <= b.growthBytes ? a : b;
  const isSameSize = isFreeGrowth(
    Math.abs(a.growthBytes - b.growthBytes),
    Math.abs(a.growth - b.growth),
  );
  if (isTie && !isSameSize) return smaller;
  return apart <= ADVICE_LIMITS.smallestGain ? a : faster;
}

/** Sum of a setting's modelled parts (ms). */
export function modelledMs(setting: SettingResult): number {
  return setting.time.parts.reduce((sum, part) => sum + part.ms, 0);
}

function whatToSet({ chosen, candidates, basis }: Judgement): string {
  const { setting, verdict } = chosen;
  if (verdict !== "baseline") {
    const knobs = Object.entries(knobsToSet(setting)).map(([name, value]) => `${name}=${value}`);
    return `Use "${setting.name}": set ${knobs.join(" and ")}.`;
  }
  const isAllUnknown = candidates.slice(1).every((c) => c.verdict === "unknown");
  if (basis === "none" || isAllUnknown) {
    return `Nothing here tells which setting is faster, so there is no reason to leave "${setting.name}".`;
  }
  return `Stay with "${setting.name}": no other setting is worth it for this program.`;
}

function whatItGains({ chosen, candidates, basis }: Judgement): string {
  const baseline = candidates[0].setting;
  if (chosen.verdict === "baseline") return whyNobodyGains(candidates, basis);
  if (basis === "modelled cost") {
    return (
      `What the model counts (${partNames(baseline)}) falls from ${formatMs(modelledMs(baseline))} ` +
      `to ${formatMs(modelledMs(chosen.setting))} of simulated time; without a plain run nobody can ` +
      "say what share of the whole run that is."
    );
  }
  const before = baseline.time.predictedMs!;
  const after = chosen.setting.time.predictedMs!;
  return (
    `Predicted run time falls from ${formatMs(before)} to ${formatMs(after)} ` +
    `(${formatChange(after / before - 1)})${largestSavings(baseline, chosen.setting)}.`
  );
}

function whyNobodyGains(candidates: readonly Candidate[], basis: Judgement["basis"]): string {
  const known = candidates
    .slice(1)
    .filter((candidate) => candidate.gain !== null && candidate.verdict !== "out of memory");
  if (known.length === 0) return "The recording gives neither times nor costs to compare.";
  const best = known.reduce((a, b) => (b.gain! > a.gain! ? b : a));
  const what = basis === "time" ? "predicted run time" : "modelled cost";
  if (formatChange(best.gain!) === formatChange(0)) return `None lowers the ${what}.`;
  const change = `${formatChange(-best.gain!)} ${what}`;
  if (best.verdict !== "no clear gain" || best.gain! <= 0) {
    return best.gain! <= 0
      ? `The nearest, "${best.setting.name}", has ${change}.`
      : `The fastest, "${best.setting.name}", has ${change} but costs too much memory.`;
  }
  const limit =
    basis === "time"
      ? Math.max(ADVICE_LIMITS.smallestGain, best.gainUncertainty)
      : ADVICE_LIMITS.smallestCostDrop;
  return `The best, "${best.setting.name}", has ${change}, which is within the ${percent(limit)} that counts as no difference.`;
}

/** ", most of it page walks (-620 ms) and page faults (-310 ms)". */
function largestSavings(baseline: SettingResult, setting: SettingResult): string {
  const after = new Map(setting.time.parts.map((part) => [part.name, part.ms]));
  const all = baseline.time.parts.map((part) => ({
    name: part.name,
    ms: part.ms - (after.get(part.name) ?? 0),
  }));
  const saved = all.reduce((sum, saving) => sum + Math.max(0, saving.ms), 0);
  const savings = all
    .filter((saving) => saving.ms > 0.1 * saved)
    .sort((a, b) => b.ms - a.ms)
    .slice(0, 2);
  if (savings.length === 0) return "";
  const words = savings.map((saving) => `${saving.name} (-${formatMs(saving.ms)})`);
  return `, most of it from ${words.join(" and ")}`;
}

function whatItCosts({ chosen, candidates }: Judgement): readonly string[] {
  if (chosen.verdict === "baseline") return [];
  const baseline = candidates[0].setting;
  return [memoryCost(chosen, baseline), ...latencyCost(chosen.setting, baseline)];
}

function memoryCost(chosen: Candidate, baseline: SettingResult): string {
  const { growth, growthBytes, setting } = chosen;
  if (growthBytes <= 0) {
    return growthBytes === 0
      ? "Peak RSS stays the same."
      : `Peak RSS falls by ${formatBytes(-growthBytes)} (${formatChange(growth)}).`;
  }
  const unwritten = setting.memory.peakNeverWrittenBytes - baseline.memory.peakNeverWrittenBytes;
  const rest =
    unwritten > 0 ? `; at the peak ${formatBytes(unwritten)} more were never written` : "";
  return `It costs memory: peak RSS grows by ${formatBytes(growthBytes)} (${formatChange(growth)})${rest}.`;
}

/** The slowest faults, if they get markedly slower: that is what a latency-bound program would notice. */
function latencyCost(setting: SettingResult, baseline: SettingResult): readonly string[] {
  const before = baseline.faults.latencyNs.max;
  const after = setting.faults.latencyNs.max;
  if (before <= 0 || after < 2 * before) return [];
  return [`The slowest fault takes ${formatNs(after)} instead of ${formatNs(before)} (simulated).`];
}

/** Settings that would be faster but were refused, and what would change the advice. */
function whatElse({ chosen, candidates, basis }: Judgement): readonly string[] {
  const chosenGain = chosen.gain ?? 0;
  const refused = candidates.filter((c) => c.verdict === "too much memory" && c.gain! > chosenGain);
  const sentences = refused.map((c) => {
    const price = `"${c.setting.name}" would need ${formatBytes(c.growthBytes)} (${formatChange(c.growth)}) more memory`;
    return basis === "time"
      ? `${price} for ${formatChange(-c.gain!)} run time; the advice allows one percent of memory for one percent of time.`
      : `${price}; without a plain run a gain that would pay for it cannot be shown.`;
  });
  for (const c of candidates.filter((other) => other.verdict === "out of memory")) {
    sentences.push(`"${c.setting.name}" does not fit into the machine's memory.`);
  }
  const slower = candidates.filter((c) => c.verdict === "slower").map((c) => `"${c.setting.name}"`);
  if (slower.length > 0) sentences.push(`Slower here: ${slower.join(", ")}.`);
  return sentences;
}

function howSure({ chosen, candidates, basis }: Judgement, trace: TraceSummary): string {
  const limits = whatLimits(trace);
  const because = limits.length > 0 ? ` ${limits.join(" ")}` : "";
  if (basis !== "time") return `How sure: not sure, since no real run time was recorded.${because}`;

  const uncertainty = Math.max(...candidates.map((c) => c.gainUncertainty));
  if (chosen.verdict === "baseline") {
    return `How sure: predictions are good to ±${percent(uncertainty)}.${because}`;
  }
  const times = chosen.gainUncertainty > 0 ? chosen.gain! / chosen.gainUncertainty : Infinity;
  const word = times >= 3 ? "sure" : times >= 1.5 ? "fairly sure" : "not very sure";
  const interval = `the gain is ${percent(chosen.gain!)} with an uncertainty of ±${percent(chosen.gainUncertainty)}`;
  return `How sure: ${word}; ${interval}.${because}`;
}

/** What in the recording weakens the prediction, one sentence each. */
function whatLimits(trace: TraceSummary): readonly string[] {
  const { has, plainRun } = trace.header;
  if (trace.nrPagesTouched === 0) {
    return ["The recording has no accesses, so memory, faults and times cannot be told from it."];
  }
  const limits: string[] = [];
  if (has.order === "none")
    limits.push("The recording has no order of accesses, so TLB misses are not part of it.");
  if (!has.exactTouches)
    limits.push("First touches are not exact, so faults and RSS are estimates.");
  if (plainRun && plainRun.nrRuns < 3)
    limits.push(
      `The recorded time rests on ${plainRun.nrRuns === 1 ? "one plain run" : "two plain runs"}.`,
    );
  return limits;
}

function partNames(setting: SettingResult): string {
  return setting.time.parts.map((part) => part.name).join(", ");
}

function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}
