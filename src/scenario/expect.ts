/**
 * Whether an observation is as an `expect` line says.
 *
 * Entry: checkExpectation. Holds: the answer names the first page or field that is otherwise.
 */

import { PAGE_SIZE } from "../base/address.ts";
import { type Backend, CannotDo, type TracedEvent } from "./backend.ts";
import { formatSize, formatSpan, formatStatement, formatValue } from "./format.ts";
import {
  type Observation,
  PAGE_BIT,
  PAGE_STATES,
  type ProcessObservation,
  type RangeObservation,
  type VmaObservation,
} from "./observation.ts";
import type { Condition, Expectation, Span, WantedValue } from "./syntax.ts";

/** What an expectation is held against. */
export interface Seen {
  readonly backend: Backend;
  readonly now: Observation;
  /** At the last `mark`, else at the start. */
  readonly marked: Observation;
  /** Process of each living task. */
  readonly processOf: ReadonlyMap<string, string>;
}

/** What is otherwise than it should be. */
export interface Mismatch {
  readonly wanted: string;
  readonly seen: string;
  /** Column in the line, -1 for the whole line. */
  readonly column: number;
}

const PRESENT: ReadonlySet<string> = new Set(["small", "huge", "part", "zero", "hugezero", "file"]);
/**
 * Counters of which `expect counters` wants all changes named. Not thp_zero_page_alloc: a live kernel keeps the huge zero folio
 * for whoever used it before.
 */
const CLOSED =
  /^thp_(?!zero_page_alloc$)|^nr_anon_transparent_hugepages$|^pages_collapsed$|^full_scans$|kB\//;
/** Fields that are numbers of something else than bytes. */
const PLAIN_FIELDS: ReadonlySet<string> = new Set(["THPeligible", "THP_enabled"]);

export function checkExpectation(seen: Seen, expectation: Expectation): Mismatch | null {
  const { subject, conditions } = expectation;
  switch (subject.kind) {
    case "span":
      return checkSpan(seen, expectation, subject.span, subject.state);
    case "smaps":
      return checkSmaps(seen, expectation, subject.span);
    case "trace":
      return checkTrace(seen, expectation, subject);
    case "status":
      return checkStatus(processSeen(seen, expectation), conditions);
    case "faults":
      return checkFaults(seen, expectation);
    case "counters":
      return checkCounters(seen, conditions);
    case "knob":
      return checkKnobs(seen.backend, conditions);
  }
}

function processSeen(seen: Seen, { actor, line }: Expectation): ProcessObservation {
  const name = seen.processOf.get(actor) ?? actor;
  const process = seen.now.processes.find((candidate) => candidate.name === name);
  if (process === undefined) throw new CannotDo(line, `process ${name} does not exist`);
  return process;
}

function rangeSeen(process: ProcessObservation, span: Span, line: number): RangeObservation {
  const range = process.ranges.find((candidate) => candidate.name === span.range);
  if (range === undefined) throw new CannotDo(line, `range ${span.range} has no place`);
  const last = span.end < 0 ? 0 : span.end;
  if (last > range.nrPages)
    throw new CannotDo(line, `${formatSpan(span)} reaches behind the ${range.nrPages} pages of it`);
  return range;
}

function pagesOf(span: Span, range: RangeObservation): number[] {
  const end = span.end < 0 ? range.nrPages : span.end;
  const pages: number[] = [];
  for (let page = span.first; page < end; page += span.step) pages.push(page);
  return pages;
}

function checkSpan(
  seen: Seen,
  expectation: Expectation,
  span: Span,
  state: string | undefined,
): Mismatch | null {
  const process = processSeen(seen, expectation);
  const range = rangeSeen(process, span, expectation.line);
  const pages = pagesOf(span, range);
  if (state !== undefined) {
    const wrong = pages.find((page) => !isInState(range, page, state));
    if (wrong !== undefined) {
      const found = PAGE_STATES[range.pages.state[wrong]];
      return { wanted: state, seen: `${span.range}[${wrong}] ${found}`, column: -1 };
    }
  }
  for (const condition of expectation.conditions) {
    const found = checkSpanCondition(seen, expectation, process, range, pages, condition, span);
    if (found !== null) return mismatch(condition, found);
  }
  return null;
}

function isInState(range: RangeObservation, page: number, state: string): boolean {
  const found = PAGE_STATES[range.pages.state[page]];
  return state === "present" ? PRESENT.has(found) : found === state;
}

function mismatch(condition: Condition, seen: string): Mismatch {
  const { key, value, column } = condition;
  return { wanted: `${key}=${formatValue(value)}`, seen, column };
}

/** What was seen instead, or null. */
function checkSpanCondition(
  seen: Seen,
  { actor, line }: Expectation,
  process: ProcessObservation,
  range: RangeObservation,
  pages: readonly number[],
  { key, value }: Condition,
  span: Span,
): string | null {
  const { columns, eachPage } = columnsOf(range, pages);
  switch (key) {
    case "mapcount":
      return eachPage(value, (page) => columns.mapcount[page]);
    case "order":
      return eachPage(value, (page) => columns.order[page]);
    case "index":
      return eachPage(value, (page) => columns.index[page]);
    case "exclusive":
      return eachPage(value, (page) => columns.bits[page] & PAGE_BIT.EXCLUSIVE);
    case "folios": {
      const folios = new Set(pages.map((page) => columns.folio[page]).filter((id) => id >= 0));
      return holds(value, folios.size) ? null : `folios=${folios.size}`;
    }
    case "skew": {
      const skew = (range.start / PAGE_SIZE) % 512;
      return holds(value, skew) ? null : `skew=${skew}`;
    }
    case "flags":
      return checkFlags(range, pages, textOf(value));
    case "shared-with":
      return checkShared(seen, range, pages, textOf(value));
    case "vmas":
      return checkVmas(process.vmas, range, span, value);
    case "resident":
      return checkResident(seen.backend, actor, line, span, pages, value);
    case "value":
      return checkContents(seen.backend, actor, span, pages, textOf(value));
    case "reason": {
      const reason = seen.backend.reasonOf?.(actor, span);
      if (reason === undefined) throw new CannotDo(line, "reasons are not known here");
      return reason === textOf(value) ? null : `reason=${JSON.stringify(reason)}`;
    }
    default:
      throw new CannotDo(line, `condition ${key} is not known`);
  }
}

function columnsOf(range: RangeObservation, pages: readonly number[]) {
  const eachPage = (value: WantedValue, of: (page: number) => number): string | null => {
    const wrong = pages.find((page) => !holds(value, of(page)));
    return wrong === undefined ? null : `${range.name}[${wrong}] ${of(wrong)}`;
  };
  return { columns: range.pages, eachPage };
}

function holds(value: WantedValue, number: number): boolean {
  return value.kind === "number" && value.low <= number && number <= value.high;
}

function textOf(value: WantedValue): string {
  return value.kind === "word" ? value.text : String(value.low);
}

function checkFlags(
  range: RangeObservation,
  pages: readonly number[],
  text: string,
): string | null {
  for (const word of text.split(",")) {
    const isWanted = !word.startsWith("!");
    const name = (isWanted ? word : word.slice(1)).toUpperCase() as keyof typeof PAGE_BIT;
    const wrong = pages.find(
      (page) => ((range.pages.bits[page] & PAGE_BIT[name]) !== 0) !== isWanted,
    );
    if (wrong !== undefined)
      return `${range.name}[${wrong}] ${isWanted ? "without" : "with"} ${name.toLowerCase()}`;
  }
  return null;
}

function checkShared(
  seen: Seen,
  range: RangeObservation,
  pages: readonly number[],
  task: string,
): string | null {
  const name = seen.processOf.get(task) ?? task;
  const other = seen.now.processes
    .find((process) => process.name === name)
    ?.ranges.find((candidate) => candidate.name === range.name);
  const isShared = (page: number) =>
    other !== undefined &&
    range.pages.folio[page] >= 0 &&
    range.pages.folio[page] === other.pages.folio[page] &&
    range.pages.index[page] === other.pages.index[page];
  const wrong = pages.find((page) => !isShared(page));
  return wrong === undefined ? null : `${range.name}[${wrong}] is not the same page there`;
}

function checkVmas(
  vmas: readonly VmaObservation[],
  range: RangeObservation,
  span: Span,
  value: WantedValue,
): string | null {
  const from = range.start + span.first * PAGE_SIZE;
  const to = range.start + (span.end < 0 ? range.nrPages : span.end) * PAGE_SIZE;
  const inside = vmas.filter((vma) => vma.start < to && from < vma.end);
  const layout = inside
    .map(({ start, end }) => `${(start - range.start) / PAGE_SIZE}+${(end - start) / PAGE_SIZE}`)
    .join(",");
  const isRight = value.kind === "number" ? holds(value, inside.length) : value.text === layout;
  return isRight ? null : `vmas=${inside.length} (${layout})`;
}

function checkResident(
  backend: Backend,
  actor: string,
  line: number,
  span: Span,
  pages: readonly number[],
  value: WantedValue,
): string | null {
  const whole = { ...span, step: 1 };
  const statement = { line, actor, action: { verb: "mincore" as const, span: whole } };
  const result = backend.step(statement);
  if (result.kind !== "value" || result.resident === undefined)
    return `${formatStatement(statement)} failed`;
  let nr = 0;
  for (const page of pages) nr += result.resident[page - span.first] ?? 0;
  return holds(value, nr) ? null : `resident=${nr}`;
}

function checkContents(
  backend: Backend,
  actor: string,
  span: Span,
  pages: readonly number[],
  wanted: string,
): string | null {
  const contents = backend.peek(actor, span);
  const wrong = contents.findIndex((found) => found !== wanted);
  return wrong < 0 ? null : `${span.range}[${pages[wrong]}] ${contents[wrong]}`;
}

function checkSmaps(seen: Seen, expectation: Expectation, span: Span): Mismatch | null {
  const process = processSeen(seen, expectation);
  const range = rangeSeen(process, span, expectation.line);
  const start = range.start + span.first * PAGE_SIZE;
  const end = range.start + (span.end < 0 ? range.nrPages : span.end) * PAGE_SIZE;
  const vmas = process.vmas.filter((vma) => start <= vma.start && vma.start < end);
  for (const condition of expectation.conditions) {
    const { key, value } = condition;
    const found =
      key === "VmFlags" ? vmFlagsOtherwise(vmas, textOf(value)) : fieldOf(vmas, condition);
    if (found !== null) return mismatch(condition, found);
  }
  return null;
}

function vmFlagsOtherwise(vmas: readonly VmaObservation[], text: string): string | null {
  if (vmas.length === 0) return "no VMA begins there";
  const isRight = ({ flags }: VmaObservation) =>
    text
      .split(",")
      .every((word) =>
        word.startsWith("!") ? !flags.includes(word.slice(1)) : flags.includes(word),
      );
  const wrong = vmas.find((vma) => !isRight(vma));
  return wrong === undefined ? null : `VmFlags=${wrong.flags.join(",")}`;
}

/** Sizes are summed; THPeligible must be the same in all VMAs. */
function fieldOf(vmas: readonly VmaObservation[], { key, value }: Condition): string | null {
  if (PLAIN_FIELDS.has(key)) {
    const wrong = vmas.find((vma) => !holds(value, vma.smaps[key] ?? 0));
    if (wrong === undefined && vmas.length > 0) return null;
    return wrong === undefined ? "no VMA begins there" : `${key}=${wrong.smaps[key]}`;
  }
  if (vmas.length === 0) return "no VMA begins there";
  const bytes = vmas.reduce((sum, vma) => sum + (vma.smaps[key] ?? 0) * 1024, 0);
  return holds(value, bytes) ? null : `${key}=${formatSize(bytes)}`;
}

function checkStatus(
  process: ProcessObservation,
  conditions: readonly Condition[],
): Mismatch | null {
  for (const condition of conditions) {
    const { key, value } = condition;
    const field = process.status[key];
    if (field === undefined) return mismatch(condition, `no ${key}`);
    const number = PLAIN_FIELDS.has(key) ? field : field * 1024;
    if (!holds(value, number))
      return mismatch(condition, `${key}=${PLAIN_FIELDS.has(key) ? number : formatSize(number)}`);
  }
  return null;
}

function checkFaults(seen: Seen, expectation: Expectation): Mismatch | null {
  const now = processSeen(seen, expectation);
  const before = seen.marked.processes.find((process) => process.name === now.name);
  for (const condition of expectation.conditions) {
    const field = condition.key === "minor" ? "minflt" : "majflt";
    const nr = now[field] - (before?.[field] ?? 0);
    if (!holds(condition.value, nr)) return mismatch(condition, `${condition.key}=${nr}`);
  }
  return null;
}

/** Events of the last statement that are about the process. */
function checkTrace(
  seen: Seen,
  { actor, line, conditions }: Expectation,
  { events, isExact }: Extract<Expectation["subject"], { kind: "trace" }>,
): Mismatch | null {
  const all = seen.backend.events();
  if (all === null) throw new CannotDo(line, "events cannot be traced here");
  const process = seen.processOf.get(actor) ?? actor;
  const ours = all.filter((event) => event.process === process);
  if (isExact) {
    const [wanted, found] = [events, ours.map(({ name }) => name)].map((list) => list.join(","));
    return wanted === found
      ? null
      : { wanted: wanted || "none", seen: found || "none", column: -1 };
  }
  const named = ours.filter(({ name }) => name === events[0]);
  const matching = named.filter(({ fields }) => conditions.every((one) => isMet(fields, one)));
  const count = conditions.find(({ key }) => key === "count");
  const isRight = count === undefined ? matching.length > 0 : holds(count.value, matching.length);
  if (isRight) return null;
  const wanted = conditions.map(({ key, value }) => `${key}=${formatValue(value)}`).join(" ");
  return { wanted, seen: named.map(eventText).join("; ") || "none", column: -1 };
}

function isMet(fields: TracedEvent["fields"], { key, value }: Condition): boolean {
  if (key === "count") return true;
  const field = fields[key];
  return typeof field === "number" ? holds(value, field) : field === textOf(value);
}

/** "main scan_pmd referenced=0 none_or_zero=3 status=succeeded unmapped=0". */
export function eventText({ process, name, fields }: TracedEvent): string {
  const parts = Object.entries(fields).map(([key, value]) => `${key}=${value}`);
  return [process, name, ...parts].join(" ");
}

/** Every counter of CLOSED that changed must be named. */
function checkCounters(seen: Seen, conditions: readonly Condition[]): Mismatch | null {
  const changes = counterChanges(seen.marked, seen.now);
  for (const condition of conditions) {
    const nr = changes[condition.key] ?? 0;
    if (!holds(condition.value, nr)) return mismatch(condition, `${condition.key}=${nr}`);
  }
  const named = new Set(conditions.map((condition) => condition.key));
  const others = Object.entries(changes).filter(([name]) => CLOSED.test(name) && !named.has(name));
  if (others.length === 0) return null;
  const list = others.map(([name, nr]) => `${name}=${nr}`).join(" ");
  return { wanted: "no other change", seen: list, column: -1 };
}

/** Counters that differ between two observations, by how much. */
export function counterChanges(before: Observation, after: Observation): Record<string, number> {
  const changes: Record<string, number> = {};
  const names = new Set([...Object.keys(before.counters), ...Object.keys(after.counters)]);
  for (const name of names) {
    const nr = (after.counters[name] ?? 0) - (before.counters[name] ?? 0);
    if (nr !== 0) changes[name] = nr;
  }
  return changes;
}

/** True for the counters that `expect counters` and the comparison of back ends look at. */
export function isClosedCounter(name: string): boolean {
  return CLOSED.test(name);
}

function checkKnobs(backend: Backend, conditions: readonly Condition[]): Mismatch | null {
  for (const condition of conditions) {
    const text = backend.readKnob(condition.key);
    const chosen = /\[([^\]]*)\]/.exec(text)?.[1] ?? text.trimEnd();
    const wanted = textOf(condition.value);
    if (chosen !== wanted && text !== wanted) return mismatch(condition, JSON.stringify(chosen));
  }
  return null;
}
