/**
 * `expect` lines: a subject and conditions on it.
 *
 * Entry: readExpectation. Holds: what a key may stand with, and whether it takes a number or a word, is in the tables here.
 */

import { VMSTAT_NAMES } from "../base/counters.ts";
import { KNOBS, READ_ONLY_KNOBS } from "../huge/knob-files.ts";
import { TRACED_EVENTS } from "./backend.ts";
import { PAGE_STATES, SMAPS_FIELDS, STATUS_FIELDS } from "./observation.ts";
import type { LineReader, Word } from "./parse-line.ts";
import type { LineContext } from "./parse-statement.ts";
import { keyOf, numberValue, spanOf, unquoted } from "./parse-values.ts";
import type { Condition, Expectation, Subject } from "./syntax.ts";

/** States an expectation can name. */
const STATE_WORDS: readonly string[] = [...PAGE_STATES, "present"];
const NUMBER_KEYS = ["mapcount", "order", "index", "exclusive", "resident", "folios", "skew"];
const WORD_KEYS = ["value", "shared-with", "flags", "reason", "vmas"];
const SPAN_KEYS = [...NUMBER_KEYS, ...WORD_KEYS];
const FLAG_NAMES = [
  "dirty",
  "active",
  "referenced",
  "mlocked",
  "unevictable",
  "swapbacked",
  "uptodate",
  "swapcache",
  "lru",
  "uffd_wp",
];
const SUBJECTS = ["status", "faults", "counters", "knob"] as const;
/** What can be said of traced events: the kernel's fields, and how many there are. */
const EVENT_NUMBERS = [
  "referenced",
  "none_or_zero",
  "unmapped",
  "isolated",
  "swapped_in",
  "ret",
  "count",
];
const EVENT_WORDS = ["status", "scan_pfn"];
const COUNTER = /^([a-z][a-z0-9_]*|\d+kB\/[a-z_]+)$/;

/** The rest of a line after "expect". `actor` acts unless the line names another. */
export function readExpectation(context: LineContext): Expectation {
  const { reader, names } = context;
  const label = reader.takeLabel();
  const actor = label === undefined ? context.actor : names.use(reader, "task", label);
  const word = reader.take("a span, or one of status, faults, counters, knob, trace");
  const kind = SUBJECTS.find((subject) => subject === word.text);
  const line = { line: reader.line, actor };
  if (kind !== undefined) {
    const subject: Subject = { kind };
    return { ...line, subject, conditions: readNamed(context, kind) };
  }
  if (word.text === "trace") return { ...line, ...readTrace(reader) };
  const span = spanOf(reader, names, word, 0, "strided");
  if (reader.takeIf("smaps")) {
    if (span.step !== 1)
      throw reader.error(word, "a span without steps: smaps looks at the VMAs that begin in it");
    const subject: Subject = { kind: "smaps", span };
    return { ...line, subject, conditions: readNamed(context, "smaps") };
  }
  if (span.end >= 0 && span.end === span.first) throw reader.error(word, "at least one page");
  return { ...line, ...readSpanConditions(context, span) };
}

function readSpanConditions(
  { reader, names, on }: LineContext,
  span: Extract<Subject, { kind: "span" }>["span"],
): Pick<Expectation, "subject" | "conditions"> {
  let state: string | undefined;
  const conditions: Condition[] = [];
  while (!reader.isAtEnd) {
    const word = reader.take("");
    const found = keyOf(word);
    if (found === undefined) {
      if (!STATE_WORDS.includes(word.text) || state !== undefined || conditions.length > 0)
        throw reader.unknown(word, "one state, then KEY=VALUE", [...STATE_WORDS, "smaps"]);
      state = word.text;
      continue;
    }
    const { key, offset } = found;
    if (!SPAN_KEYS.includes(key))
      throw reader.unknown({ ...word, text: key }, `one of ${SPAN_KEYS.join(", ")}`, SPAN_KEYS);
    if (conditions.some((condition) => condition.key === key))
      throw reader.error(word, `${key} once`);
    if (key === "reason" && on !== "model")
      throw reader.error(word, "`on: model` in the header: only the model knows reasons");
    const column = word.column;
    const text = word.text.slice(offset);
    if (NUMBER_KEYS.includes(key) || (key === "vmas" && !text.includes("+"))) {
      conditions.push({ key, value: numberValue(reader, word, offset), column });
      continue;
    }
    checkWord(reader, word, key, offset);
    if (key === "shared-with") names.use(reader, "task", { text, column: word.column + offset });
    conditions.push({ key, value: { kind: "word", text: unquoted(reader, word, offset) }, column });
  }
  if (state === undefined && conditions.length === 0)
    reader.take("a state such as huge, or KEY=VALUE");
  const subject: Subject =
    state === undefined ? { kind: "span", span } : { kind: "span", span, state };
  return { subject, conditions };
}

function checkWord(reader: LineReader, word: Word, key: string, offset: number): void {
  const text = word.text.slice(offset);
  if (key === "value" && text !== "zero" && text !== "written")
    throw reader.error(word, "zero or written", offset);
  if (key === "vmas" && !/^\d+\+\d+(,\d+\+\d+)*$/.test(text))
    throw reader.error(word, "a number, or FIRST+PAGES for each VMA such as 0+4,4+508", offset);
  if (key === "flags") eachListed(reader, word, offset, FLAG_NAMES, "a flag of kpageflags");
}

/** Words between commas, each perhaps behind "!". */
function eachListed(
  reader: LineReader,
  word: Word,
  offset: number,
  known: readonly string[] | RegExp,
  wanted: string,
): void {
  let at = offset;
  for (const part of word.text.slice(offset).split(",")) {
    const name = part.startsWith("!") ? part.slice(1) : part;
    const isKnown = known instanceof RegExp ? known.test(name) : known.includes(name);
    const place = { text: part, column: word.column + at };
    if (!isKnown) throw reader.unknown(place, wanted, known instanceof RegExp ? [] : known);
    at += part.length + 1;
  }
}

/** `trace none`, `trace EVENT,EVENT...` (exactly these) or `trace EVENT KEY=VALUE...` (some of these). */
function readTrace(reader: LineReader): Pick<Expectation, "subject" | "conditions"> {
  const word = reader.take("none, or events such as scan_pmd");
  const events: string[] = [];
  if (word.text !== "none") {
    eachListed(reader, word, 0, TRACED_EVENTS, "an event");
    events.push(...word.text.split(","));
  }
  const conditions: Condition[] = [];
  while (!reader.isAtEnd) {
    const next = reader.take("");
    const found = keyOf(next);
    const key = found?.key ?? "";
    const known = [...EVENT_NUMBERS, ...EVENT_WORDS];
    if (events.length !== 1) throw reader.error(next, "the end of the line");
    if (found === undefined || !known.includes(key))
      throw reader.unknown(
        { ...next, text: key || next.text },
        "a field of events, or count",
        known,
      );
    if (conditions.some((condition) => condition.key === key))
      throw reader.error(next, `${key} once`);
    const value = EVENT_WORDS.includes(key)
      ? { kind: "word" as const, text: unquoted(reader, next, found.offset) }
      : numberValue(reader, next, found.offset);
    conditions.push({ key, value, column: next.column });
  }
  const subject: Subject = { kind: "trace", events, isExact: conditions.length === 0 };
  return { subject, conditions };
}

type NamedKind = (typeof SUBJECTS)[number] | "smaps";

function readNamed(context: LineContext, kind: NamedKind): readonly Condition[] {
  const { reader } = context;
  const conditions: Condition[] = [];
  if (kind === "counters" && reader.takeIf("none")) {
    reader.finish();
    return [];
  }
  do {
    const word = reader.take("KEY=VALUE");
    const found = keyOf(word);
    if (found === undefined) throw reader.error(word, "KEY=VALUE");
    const { key, offset } = found;
    checkKey(reader, kind, { text: key, column: word.column });
    if (conditions.some((condition) => condition.key === key))
      throw reader.error(word, `${key} once`);
    const isWord = kind === "knob" || key === "VmFlags";
    if (key === "VmFlags") eachListed(reader, word, offset, /^[a-z]{2}$/, "two letters of VmFlags");
    const value = isWord
      ? { kind: "word" as const, text: unquoted(reader, word, offset) }
      : numberValue(reader, word, offset);
    conditions.push({ key, value, column: word.column });
  } while (!reader.isAtEnd);
  return conditions;
}

function checkKey(reader: LineReader, kind: NamedKind, key: Word): void {
  const known = knownKeys(kind);
  const isCounter = kind === "counters" && COUNTER.test(key.text);
  const isPlausible = isCounter && (!key.text.startsWith("thp_") || known.includes(key.text));
  if (!isPlausible && !known.includes(key.text))
    throw reader.unknown(key, `a name of ${kind}`, known);
}

function knownKeys(kind: NamedKind): readonly string[] {
  switch (kind) {
    case "smaps":
      return [...SMAPS_FIELDS, "VmFlags"];
    case "status":
      return STATUS_FIELDS;
    case "faults":
      return ["minor", "major"];
    case "counters":
      return VMSTAT_NAMES;
    case "knob":
      return [...KNOBS.map((knob) => knob.name), ...READ_ONLY_KNOBS];
  }
}
