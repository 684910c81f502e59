/**
 * An explanation as lines for a terminal.
 *
 * Entry: explanationText.
 */

import { HUGE_SIZE } from "../base/address.ts";
import { formatBytes, formatCount, formatNs } from "../base/units.ts";
import type { ExplainedRun, Explanation } from "./explain.ts";

const HEAD = [
  "process",
  "address",
  "memory",
  "p e h",
  "mapped",
  "reason (rule)",
  "khugepaged",
  "cost",
  "growth",
  "walks/s",
];

/** A row for each run of equal windows, columns aligned, and what the words mean. */
export function explanationText(explanation: Explanation): string {
  const rows = [HEAD, ...explanation.windows.map((run) => rowOf(run, explanation))];
  const widths = HEAD.map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const lines = rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column]))
      .join("  ")
      .trimEnd(),
  );
  return `${[...lines, "", ...notesOf(explanation)].join("\n")}\n`;
}

function rowOf(run: ExplainedRun, explanation: Explanation): string[] {
  const { reason, collapse } = run;
  return [
    String(run.process),
    `0x${run.startAddress.toString(16)}`,
    formatBytes(run.nrWindows * HUGE_SIZE),
    [run.isPermitted, run.isEligible, run.isHuge].map((is) => (is ? "+" : "-")).join(" "),
    formatBytes(run.presentBytes),
    reason === null ? "" : `${reason.name} (${reason.rule})`,
    nextOf(run, explanation),
    collapse === null ? "" : formatNs(collapse.costNs),
    collapse === null ? "" : formatBytes(collapse.growthBytes),
    run.walkCyclesPerSecond === 0 ? "" : formatCount(Math.round(run.walkCyclesPerSecond)),
  ];
}

function nextOf(run: ExplainedRun, { isKhugepagedRunning, horizonNs }: Explanation): string {
  if (run.collapse === null) return "";
  if (!isKhugepagedRunning) return "does not run";
  if (run.collapsedAfterNs === null) return `not within ${formatNs(horizonNs)}`;
  return `in ${formatNs(run.collapsedAfterNs)}`;
}

function notesOf({ atNs, windows }: Explanation): string[] {
  const used = new Map(
    windows.flatMap(({ reason }) => (reason === null ? [] : [[reason.name, reason]])),
  );
  return [
    `At ${formatNs(atNs)} of virtual time. p e h: permitted, eligible, huge. khugepaged, cost, growth: if the program stood still.`,
    "walks/s: cycles of page walks per second so far, the most that huge pages could save.",
    ...[...used.values()].map(({ name, rule, text }) => `${name} (${rule}): ${text}`),
  ];
}
