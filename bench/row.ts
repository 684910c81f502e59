/**
 * One line of the benchmark: a figure, what it is measured against, and whether it holds its floor.
 *
 * Units: `value` in `unit`; `ratio` = the live kernel's time through ours, from the same run.
 */

/** What must hold (floor) and where we are going (goal), of the row's judged figure. */
export interface Target {
  readonly of: "ratio" | "value";
  readonly better: "higher" | "lower";
  readonly floor: number;
  readonly goal: number;
}

export interface BenchRow {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  /** null where nothing is compared with the live kernel, or it could not be had. */
  readonly ratio: number | null;
  /** The live kernel's figure in the same unit. */
  readonly kernel: number | null;
  readonly floor: number | null;
  readonly goal: number | null;
  /** null if there is no floor, or the figure it is about could not be measured. */
  readonly floorHeld: boolean | null;
  readonly note: string;
}

/** A row; `kernel` is the live kernel's figure in the same unit. */
export function row(
  name: string,
  value: number,
  unit: string,
  extra: { target?: Target; kernel?: number | null; note?: string } = {},
): BenchRow {
  const { target, kernel = null, note = "" } = extra;
  const ratio = kernel === null ? null : kernel / value;
  const judged = target?.of === "ratio" ? ratio : value;
  return {
    name,
    value,
    unit,
    ratio,
    kernel,
    floor: target?.floor ?? null,
    goal: target?.goal ?? null,
    floorHeld: target && judged !== null ? holds(judged, target) : null,
    note,
  };
}

function holds(figure: number, target: Target): boolean {
  return target.better === "higher" ? figure >= target.floor : figure <= target.floor;
}

/** The middle value; of an even number the lower middle. NaN of nothing. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted.length === 0 ? Number.NaN : sorted[(sorted.length - 1) >> 1];
}

/** The table for people. */
export function tableOf(rows: readonly BenchRow[]): string {
  const cells = [
    ["", "value", "unit", "kernel", "ratio", "floor", "goal", ""],
    ...rows.map((r) => [
      r.name,
      figure(r.value),
      r.unit,
      figure(r.kernel),
      r.ratio === null ? "" : `${figure(r.ratio)}x`,
      figure(r.floor),
      figure(r.goal),
      verdict(r),
    ]),
  ];
  const widths = cells[0].map((_, i) => Math.max(...cells.map((line) => line[i].length)));
  return cells
    .map((line) =>
      line
        .map((cell, i) =>
          i === 0 || i === 2 || i === 7 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]),
        )
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

function verdict(r: BenchRow): string {
  const held = r.floorHeld === null ? "" : r.floorHeld ? "ok" : "BELOW FLOOR";
  return [held, r.note].filter((part) => part !== "").join("; ");
}

function figure(value: number | null): string {
  if (value === null) return "";
  return Math.abs(value) >= 1000 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
}
