/**
 * What `npm run accuracy` shows: predicted against measured, on the terminal and in docs/accuracy.md.
 *
 * Entry: accuracyTable, accuracyMarkdown. Pure.
 * Targets: peak RSS within 3 %, the ratio of run times within 5 percentage points.
 */

import type { MeasuredPair } from "./measure.ts";
import type { AccuracyProgram } from "./programs.ts";

export interface Predicted {
  /** The cost table, as reports name it. */
  readonly costs: string;
  readonly never: PredictedSetting;
  readonly always: PredictedSetting;
  /** Predicted changes with THP always: address translation, which is user time; and all that the kernel does. */
  readonly walksChangeMs: number;
  readonly kernelChangeMs: number;
  /** Predicted CPU time with THP always through that without; null if the recording has no plain run. */
  readonly ratio: number | null;
}

export interface PredictedSetting {
  readonly peakRssBytes: number;
  readonly faults: number;
}

export interface Comparison {
  readonly program: AccuracyProgram;
  readonly measured: MeasuredPair;
  /** null if only measured. */
  readonly predicted: Predicted | null;
}

const RSS_TARGET = 0.03;
const RATIO_TARGET = 0.05;

const COLUMNS = [
  "program",
  "RSS never: predicted",
  "measured",
  "off by",
  "RSS always: predicted",
  "measured",
  "off by",
  "time always/never: predicted",
  "CPU measured",
  "off by",
  "wall measured",
] as const;

const SPLIT_COLUMNS = [
  "program",
  "4K pages together",
  "user never",
  "system never",
  "user change: predicted (page walks)",
  "measured",
  "system change: predicted",
  "measured",
] as const;

/** For the terminal. */
export function accuracyTable(comparisons: readonly Comparison[]): string {
  return `${aligned(COLUMNS, comparisons.map(cellsOf))}\n\n${aligned(SPLIT_COLUMNS, comparisons.map(splitOf))}`;
}

function aligned(columns: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [columns, ...rows];
  const widths = columns.map((_, i) => Math.max(...lines.map((line) => line[i].length)));
  return lines
    .map((line) =>
      line.map((cell, i) => cell.padStart(i === 0 ? 0 : widths[i]).padEnd(widths[i])).join("  "),
    )
    .join("\n");
}

const BEGIN = "<!-- accuracy: begin, written by npm run accuracy -->";
const END = "<!-- accuracy: end -->";

const INTRODUCTION = `# Accuracy

What \`hugelab\` predicts from one recording, against what the kernel does. \`npm run accuracy\` (as root, on an otherwise idle
host) records each program once, calibrates, runs each with THP off and always in turn, predicts both from the recording, and writes
the part between the markers. Targets: peak RSS within ${RSS_TARGET * 100} %, the ratio of run times within
${RATIO_TARGET * 100} percentage points.
`;

/** The document with the part between the markers replaced; `before` is what it was, "" if there was none. */
export function accuracyMarkdown(
  before: string,
  comparisons: readonly Comparison[],
  conditions: string,
): string {
  const part = `${BEGIN}\n${sectionOf(comparisons, conditions)}\n${END}`;
  const from = before.indexOf(BEGIN);
  const to = before.indexOf(END);
  if (from < 0 || to < from)
    return `${before === "" ? INTRODUCTION : before.trimEnd()}\n\n${part}\n`;
  return before.slice(0, from) + part + before.slice(to + END.length);
}

function sectionOf(comparisons: readonly Comparison[], conditions: string): string {
  const nrRounds = comparisons[0]?.measured.nrRounds ?? 0;
  const costs = comparisons[0]?.predicted?.costs;
  const isRealTime = comparisons.every(({ measured }) => measured.isRealTime);
  return [
    `Measured on ${conditions}. Medians of ${nrRounds} interleaved rounds; ratios are medians of the rounds' own ratios, by CPU`,
    "time (user and system, children included) because a shared host's wall time holds other people's work.",
    `Each run ${isRealTime ? "has real-time priority on one CPU" : "shares the CPUs with other work"}; memory that a hypervisor would have to back first is touched before it.`,
    costs === undefined ? "" : `Predicted with costs ${costs}.`,
    "",
    ...tableLines(COLUMNS, comparisons.map(cellsOf)),
    "",
    'The same by user and system time, THP always less THP off, in ms. "Together" are neighbouring 4K pages that share one line of',
    "a hypervisor's tables (an aligned group of eight frames), before the runs with THP off: median and range of the rounds.",
    "",
    ...tableLines(SPLIT_COLUMNS, comparisons.map(splitOf)),
    "",
    ...comparisons.map(describeRun),
    "",
    verdictOf(comparisons),
    noiseOf(comparisons),
  ].join("\n");
}

function tableLines(
  columns: readonly string[],
  rows: readonly (readonly string[])[],
): readonly string[] {
  const rule = `|${columns.map(() => "---").join("|")}|`;
  return [`| ${columns.join(" | ")} |`, rule, ...rows.map((row) => `| ${row.join(" | ")} |`)];
}

function splitOf({ program, measured, predicted }: Comparison): string[] {
  const change = (ms: number | undefined) =>
    ms === undefined ? "" : `${ms >= 0 ? "+" : ""}${ms.toFixed(1)}`;
  return [
    program.name,
    `${measured.framesTogether.toFixed(1)} (${measured.framesTogetherRange.map((nr) => nr.toFixed(1)).join(" to ")})`,
    measured.never.userMs.toFixed(0),
    measured.never.systemMs.toFixed(0),
    change(predicted?.walksChangeMs),
    change(measured.userChangeMs),
    change(predicted?.kernelChangeMs),
    change(measured.systemChangeMs),
  ];
}

function cellsOf({ program, measured, predicted }: Comparison): string[] {
  const rss = (key: "never" | "always") => {
    const found = measured[key].peakRssBytes;
    const expected = predicted?.[key].peakRssBytes;
    return expected === undefined
      ? ["", megabytes(found), ""]
      : [megabytes(expected), megabytes(found), marked(expected / found - 1, RSS_TARGET, "%")];
  };
  const error = `± ${measured.cpuRatioError.toFixed(3)}`;
  const ratio = predicted?.ratio ?? null;
  return [
    program.name,
    ...rss("never"),
    ...rss("always"),
    ratio === null ? "" : ratio.toFixed(3),
    `${measured.cpuRatio.toFixed(3)} ${error}`,
    ratio === null ? "" : marked(ratio - measured.cpuRatio, RATIO_TARGET, "pp"),
    measured.wallRatio.toFixed(3),
  ];
}

function describeRun({ program, measured, predicted }: Comparison): string {
  const { never, always } = measured;
  const faults = (key: "never" | "always") =>
    predicted ? `${predicted[key].faults} predicted, ` : "";
  return (
    `- **${program.name}** (${program.character}): ${Math.round(never.cpuMs)} ms of CPU without huge pages, ` +
    `${Math.round(always.cpuMs)} ms with; faults ${faults("never")}${never.minorFaults} measured without, ` +
    `${faults("always")}${always.minorFaults} measured with; peak RSS with them from ` +
    `${megabytes(always.peakRssRange[0])} to ${megabytes(always.peakRssRange[1])}, by where its mappings lie.`
  );
}

function verdictOf(comparisons: readonly Comparison[]): string {
  const judged = comparisons.flatMap(({ program, measured, predicted }) =>
    predicted
      ? [
          {
            name: program.name,
            rssOff: Math.max(
              Math.abs(predicted.never.peakRssBytes / measured.never.peakRssBytes - 1),
              Math.abs(predicted.always.peakRssBytes / measured.always.peakRssBytes - 1),
            ),
            ratioOff:
              predicted.ratio === null ? null : Math.abs(predicted.ratio - measured.cpuRatio),
          },
        ]
      : [],
  );
  const rssHeld = judged.filter((j) => j.rssOff <= RSS_TARGET).length;
  const ratioHeld = judged.filter((j) => j.ratioOff !== null && j.ratioOff <= RATIO_TARGET).length;
  return `Peak RSS is within the target for ${rssHeld} of ${judged.length} programs, the run-time ratio for ${ratioHeld}.`;
}

/** Where the rounds differ among themselves by more than the target, they can neither confirm nor refute a prediction. */
function noiseOf(comparisons: readonly Comparison[]): string {
  const noisy = comparisons.filter(({ measured }) => measured.cpuRatioError > RATIO_TARGET);
  if (noisy.length === 0) return "";
  const names = noisy.map(({ program }) => program.name).join(", ");
  return (
    `The 95 % interval of the measured ratio (half of it after ±) is wider than the target for ${names}: ` +
    "its time changes from run to run by more than this many rounds even out."
  );
}

/** A deviation with its sign; an exclamation mark beyond the target. */
function marked(off: number, target: number, unit: "%" | "pp"): string {
  const text = `${off >= 0 ? "+" : ""}${(off * 100).toFixed(1)} ${unit}`;
  return Math.abs(off) > target ? `${text} !` : text;
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
