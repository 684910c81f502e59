/**
 * The comparison as text for a terminal: facts, one table with a column per setting, what is not modelled, the advice.
 *
 * Entry: renderTable. Pure: colours come as functions, the width as a number.
 * Holds: no line is wider than the width, except a command to paste or a table of two columns; too many settings go on in a second
 *        table that repeats the first column. Colour says nothing that a mark does not say too.
 */

import type { ByteStyle } from "../base/units.ts";
import { sysfsCommands } from "./advice.ts";
import type { Paint } from "./paint.ts";
import { type ReportCell, type ReportSection, reportFacts, reportSections } from "./report-rows.ts";
import type { ComparisonResult } from "./result.ts";

export interface TableOptions {
  /** Columns of the terminal. */
  readonly width: number;
  readonly bytes: ByteStyle;
  readonly paint: Paint;
}

const GAP = 2;
const MARKS: Readonly<Record<ReportCell["mark"], string>> = { best: "*", worst: "!", none: " " };

/** The whole report, ending with a newline. */
export function renderTable(result: ComparisonResult, options: TableOptions): string {
  const { paint, width } = options;
  const sections = reportSections(result, options.bytes);
  const blocks = [
    reportFacts(result, options.bytes).flatMap((fact) => wrap(fact, width, 11)),
    ...columnBlocks(result, sections, width).map((columns) =>
      tableLines(result, sections, columns, options),
    ),
    wrap("* best  ! worst of a row, where settings differ by more than 1 %", width).map(paint.dim),
    ...(result.notModelled.length === 0
      ? []
      : [
          [
            paint.bold("Not modelled"),
            ...result.notModelled.flatMap((s) => wrap(`- ${s}`, width, 2)),
          ],
        ]),
    adviceLines(result, options),
  ];
  return `${blocks.map((lines) => lines.join("\n")).join("\n\n")}\n`;
}

/**
 * `text` broken at blanks into lines of at most `width`; lines after the first are indented. A number keeps what follows
 * it: "102 400", "20.0 MiB".
 */
export function wrap(text: string, width: number, indent = 0): readonly string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(/(?<=[^\s\d])(?=\s)/)) {
    const isFull = line !== "" && line.length + word.trimEnd().length > width;
    if (isFull) {
      lines.push(line);
      line = " ".repeat(indent) + word.trimStart();
    } else {
      line += word;
    }
  }
  lines.push(line);
  return lines;
}

/** Which settings stand side by side: the first always, then as many as the width holds. */
function columnBlocks(
  result: ComparisonResult,
  sections: readonly ReportSection[],
  width: number,
): readonly (readonly number[])[] {
  const left = labelWidth(sections);
  const widths = result.settings.map((_, column) => columnWidth(result, sections, column) + GAP);
  const blocks: number[][] = [[0]];
  for (let column = 1; column < widths.length; column++) {
    const block = blocks.at(-1)!;
    const used = left + block.reduce((sum, c) => sum + widths[c], 0);
    const hasRoom = used + widths[column] <= width || block.length === 1;
    if (hasRoom) block.push(column);
    else blocks.push([0, column]);
  }
  return blocks;
}

function tableLines(
  result: ComparisonResult,
  sections: readonly ReportSection[],
  columns: readonly number[],
  { paint, width }: TableOptions,
): readonly string[] {
  const left = labelWidth(sections);
  const widths = columns.map((column) => columnWidth(result, sections, column));
  const gap = " ".repeat(GAP);
  const heads = columns.map((column, i) => `${result.settings[column].name} `.padStart(widths[i]));
  const chosen = columns.map((column) => result.settings[column].name === result.advice.setting);
  const head = heads.map((name, i) => gap + paint.bold(chosen[i] ? paint.good(name) : name));
  const lines = [(" ".repeat(left) + head.join("")).trimEnd()];

  for (const section of sections) {
    lines.push(paint.bold(section.title));
    if (section.note) lines.push(...wrap(section.note, width).map(paint.dim));
    for (const row of section.rows) {
      const cells = columns.map(
        (column, i) => gap + paintCell(row.cells[column], widths[i], paint),
      );
      lines.push((`  ${row.name}`.padEnd(left) + cells.join("")).trimEnd());
    }
  }
  return lines;
}

function paintCell(cell: ReportCell, width: number, paint: Paint): string {
  const text = (cell.text + MARKS[cell.mark]).padStart(width);
  if (cell.mark === "best") return paint.good(text);
  return cell.mark === "worst" ? paint.bad(text) : text;
}

function adviceLines(result: ComparisonResult, { paint, width }: TableOptions): readonly string[] {
  const chosen = result.settings.find((setting) => setting.name === result.advice.setting);
  const commands = chosen ? sysfsCommands(chosen).map((command) => paint.dim(`  ${command}`)) : [];
  return [...commands, ...(commands.length > 0 ? [""] : []), ...wrap(result.advice.text, width)];
}

function labelWidth(sections: readonly ReportSection[]): number {
  const names = sections.flatMap((section) => section.rows.map((row) => row.name.length + 2));
  return Math.max(0, ...names);
}

/** Widest text of a column, with its mark. */
function columnWidth(
  result: ComparisonResult,
  sections: readonly ReportSection[],
  column: number,
): number {
  const texts = sections.flatMap((s) => s.rows.map((row) => row.cells[column].text.length));
  return Math.max(result.settings[column].name.length, ...texts) + 1;
}
