/**
 * Two observations of the same scenario side by side: where they differ.
 *
 * Entry: compareObservations, describeDifferences.
 * Holds: only what repeats on a live kernel is compared (docs/scenarios.md); addresses relative to a range.
 */

import { PAGE_SIZE } from "../base/address.ts";
import { isClosedCounter } from "./expect.ts";
import {
  EXACT_BITS,
  type Observation,
  PAGE_STATES,
  type PageColumns,
  type ProcessObservation,
  type RangeObservation,
  SMAPS_FIELDS,
  STATUS_FIELDS,
  type VmaObservation,
} from "./observation.ts";

/** One thing that differs. */
export interface Difference {
  /** E.g. "C: R[3..8] mapcount", "counters thp_split_pmd". */
  readonly what: string;
  readonly left: string;
  readonly right: string;
}

const MOST = 12;
const COLUMNS = ["state", "order", "index", "folio", "mapcount", "bits"] as const;

/** The first differences, in the order of processes; none if the two agree. */
export function compareObservations(left: Observation, right: Observation): Difference[] {
  const found: Difference[] = [];
  const names = (observation: Observation) =>
    observation.processes.map((process) => process.name).join(" ");
  if (names(left) !== names(right))
    return [{ what: "processes", left: names(left), right: names(right) }];
  for (const [i, process] of left.processes.entries())
    compareProcesses(process, right.processes[i], found);
  compareNumbers("counters", left.counters, right.counters, counterNames(left, right), found);
  return found.slice(0, MOST);
}

function counterNames(left: Observation, right: Observation): string[] {
  const names = new Set([...Object.keys(left.counters), ...Object.keys(right.counters)]);
  return [...names].filter(isClosedCounter).sort();
}

function compareProcesses(
  left: ProcessObservation,
  right: ProcessObservation,
  found: Difference[],
): void {
  const label = left.name === "main" ? "" : `${left.name}: `;
  const names = (process: ProcessObservation) => process.ranges.map((r) => r.name).join(" ");
  if (names(left) !== names(right)) {
    found.push({ what: `${label}ranges`, left: names(left), right: names(right) });
    return;
  }
  for (const [i, range] of left.ranges.entries())
    compareRanges(label, range, right.ranges[i], found);
  compareVmas(label, left, right, found);
  const known = STATUS_FIELDS.filter(
    (name) => isComparedStatus(name) && name in left.status && name in right.status,
  );
  compareNumbers(`${label}status`, left.status, right.status, known, found);
}

/** A live process has memory of its own besides the scenario's: what that may change is not compared. */
export function isComparedStatus(field: string): boolean {
  return field !== "VmLck" && field !== "RssAnon";
}

function compareRanges(
  label: string,
  left: RangeObservation,
  right: RangeObservation,
  found: Difference[],
): void {
  const { name, nrPages } = left;
  if (nrPages !== right.nrPages) {
    const [a, b] = [String(nrPages), String(right.nrPages)];
    found.push({ what: `${label}${name} pages`, left: a, right: b });
    return;
  }
  for (const column of COLUMNS) {
    const first = firstDifference(left.pages, right.pages, column, 0, nrPages);
    if (first < 0) continue;
    let end = first + 1;
    const isSame = (page: number) =>
      cell(left.pages, column, page) === cell(left.pages, column, first) &&
      cell(right.pages, column, page) === cell(right.pages, column, first);
    while (end < nrPages && isSame(end)) end++;
    const span = end === first + 1 ? `[${first}]` : `[${first}..${end}]`;
    found.push({
      what: `${label}${name}${span} ${column === "bits" ? "exclusive" : column}`,
      left: shownCell(left.pages, column, first),
      right: shownCell(right.pages, column, first),
    });
  }
}

type Column = (typeof COLUMNS)[number];

function cell(pages: PageColumns, column: Column, page: number): number {
  return column === "bits" ? pages.bits[page] & EXACT_BITS : pages[column][page];
}

function firstDifference(
  left: PageColumns,
  right: PageColumns,
  column: Column,
  from: number,
  end: number,
): number {
  for (let page = from; page < end; page++)
    if (cell(left, column, page) !== cell(right, column, page)) return page;
  return -1;
}

function shownCell(pages: PageColumns, column: Column, page: number): string {
  if (column === "state") return PAGE_STATES[pages.state[page]];
  return String(cell(pages, column, page));
}

function compareVmas(
  label: string,
  left: ProcessObservation,
  right: ProcessObservation,
  found: Difference[],
): void {
  const nr = Math.max(left.vmas.length, right.vmas.length);
  for (let i = 0; i < nr; i++) {
    const [a, b] = [vmaText(left, i), vmaText(right, i)];
    if (a !== b) {
      found.push({ what: `${label}VMA ${i + 1}`, left: a, right: b });
      return; // what follows would be shifted
    }
    const where = `${label}smaps of ${a.split(" ")[0]}`;
    compareNumbers(where, left.vmas[i].smaps, right.vmas[i].smaps, SMAPS_FIELDS, found);
  }
}

/** "R+0..512 rw-p rd wr ...", or "none". */
function vmaText(process: ProcessObservation, i: number): string {
  const vma = process.vmas[i] as VmaObservation | undefined;
  if (vma === undefined) return "none";
  const range = process.ranges.find(
    ({ start, nrPages }) => vma.start < start + nrPages * PAGE_SIZE && start < vma.end,
  );
  const base = range?.start ?? 0;
  const pages = `${(vma.start - base) / PAGE_SIZE}..${(vma.end - base) / PAGE_SIZE}`;
  return `${range?.name ?? "?"}+${pages} ${vma.permissions} ${vma.flags.join(" ")}`;
}

function compareNumbers(
  where: string,
  left: Readonly<Record<string, number>>,
  right: Readonly<Record<string, number>>,
  names: readonly string[],
  found: Difference[],
): void {
  for (const name of names) {
    const [a, b] = [left[name] ?? 0, right[name] ?? 0];
    if (a !== b) found.push({ what: `${where} ${name}`, left: String(a), right: String(b) });
  }
}

/** A table of differences with the names of the two sides. */
export function describeDifferences(
  differences: readonly Difference[],
  leftName: string,
  rightName: string,
): string {
  const rows = [{ what: "", left: leftName, right: rightName }, ...differences];
  const width = (key: keyof Difference) =>
    Math.min(60, Math.max(...rows.map((row) => row[key].length)));
  const [whatWidth, leftWidth] = [width("what"), width("left")];
  return rows
    .map((row) => `${row.what.padEnd(whatWidth)}  ${row.left.padEnd(leftWidth)}  ${row.right}`)
    .join("\n");
}
