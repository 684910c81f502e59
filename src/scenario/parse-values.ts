/**
 * The small parts of a line: spans, pages, sizes, protections, results, KEY=VALUE words.
 *
 * Holds: every function throws UsageError with the place in the line.
 */

import { PAGE_SIZE } from "../base/address.ts";
import { ERRNO_NAMES, errnoNamed } from "../base/errno.ts";
import { parseInteger, parseSize } from "../base/units.ts";
import { MADV } from "../syscall/madvise.ts";
import { WINDOW_BYTES, WINDOW_PAGES } from "./layout.ts";
import type { ScenarioNames } from "./names.ts";
import type { LineReader, Word } from "./parse-line.ts";
import type { Span, Wanted, WantedValue } from "./syntax.ts";

const SPAN_WANTED = "a span such as R, R[3], R[0..8] or R[0..2hp]";
const PAGES_PER_HUGE = 512;
const ADVICE: Readonly<Record<string, number>> = MADV;

/** How a span may be used: `by` only where pages are visited one by one. */
export type SpanUse = "whole" | "strided";

/** A span of a known range. */
export function readSpan(reader: LineReader, names: ScenarioNames, use: SpanUse = "whole"): Span {
  return spanOf(reader, names, reader.take(SPAN_WANTED), 0, use);
}

/** A span in `word` from character `offset` on. */
export function spanOf(
  reader: LineReader,
  names: ScenarioNames,
  word: Word,
  offset: number,
  use: SpanUse,
): Span {
  const text = word.text.slice(offset);
  const bracket = text.indexOf("[");
  const name = { text: bracket < 0 ? text : text.slice(0, bracket), column: word.column + offset };
  const range = names.use(reader, "range", name);
  if (bracket < 0) return { range, first: 0, end: -1, step: 1 };
  if (!text.endsWith("]")) throw reader.error(word, SPAN_WANTED, offset + text.indexOf("]") + 1);
  return { range, ...pagesIn(reader, word, offset + bracket + 1, use) };
}

/** What stands between the brackets, from character `from` of the word to its last but one. */
function pagesIn(reader: LineReader, word: Word, from: number, use: SpanUse): Omit<Span, "range"> {
  const inside = word.text.slice(from, -1);
  const form = /^( *)([^. ]*)( *)(?:\.\.( *)([^. ]*)(?: +by +([^ ]*))?)? *$/.exec(inside);
  if (form === null) throw reader.error(word, "PAGE, PAGE..PAGE or PAGE..PAGE by NUMBER", from);
  const [, lead, firstText, gap, lead2, endText, stepText] = form;
  const firstAt = from + lead.length;
  const first = pageOf(reader, word, firstText, firstAt);
  if (endText === undefined) {
    if (first >= WINDOW_PAGES) throw beyond(reader, word, firstAt);
    return { first, end: first + 1, step: 1 };
  }
  const endAt = firstAt + firstText.length + gap.length + 2 + lead2.length;
  const end = pageOf(reader, word, endText, endAt);
  if (end < first) throw reader.error(word, `a page from ${first} on`, endAt);
  if (stepText === undefined) return { first, end, step: 1 };
  const stepAt = from + inside.lastIndexOf(stepText);
  if (use === "whole")
    throw reader.error(word, "no `by`: only read, write and expect take it", stepAt);
  const parse = () => parseInteger(stepText, 1, WINDOW_PAGES, "");
  return { first, end, step: reader.within(word, stepAt, parse) };
}

function beyond(reader: LineReader, word: Word, offset: number) {
  return reader.error(word, "a page less than 1 GiB from the start of the range", offset);
}

/** "3" or "1hp", at most 1 GiB. */
function pageOf(reader: LineReader, word: Word, text: string, offset: number): number {
  const isHuge = text.endsWith("hp");
  const digits = isHuge ? text.slice(0, -2) : text;
  const most = Number.MAX_SAFE_INTEGER;
  if (!/^(0x[0-9a-fA-F]+|\d+)$/.test(digits))
    throw reader.error(word, "a page: a number such as 3, or 1hp for 2 MiB", offset);
  const page = reader.within(word, offset, () => parseInteger(digits, 0, most, ""));
  const pages = isHuge ? page * PAGES_PER_HUGE : page;
  if (pages > WINDOW_PAGES) throw beyond(reader, word, offset);
  return pages;
}

/** A size of whole pages, at most `most` bytes. */
export function pagesSize(
  reader: LineReader,
  word: Word,
  offset = 0,
  most: number = WINDOW_BYTES,
): number {
  const bytes = sizeOf(reader, word, offset);
  if (bytes % PAGE_SIZE !== 0) throw reader.error(word, "whole pages of 4096 bytes", offset);
  if (bytes > most) throw reader.error(word, `at most ${most / 2 ** 20}m`, offset);
  return bytes;
}

/** Any size in bytes. */
export function sizeOf(reader: LineReader, word: Word, offset = 0): number {
  return reader.within(word, offset, () => parseSize(word.text.slice(offset), ""));
}

/** An integer in decimal or hexadecimal. */
export function integerOf(reader: LineReader, word: Word, low: number, high: number, offset = 0) {
  return reader.within(word, offset, () => parseInteger(word.text.slice(offset), low, high, ""));
}

const PROT = /^(r?w?x?|none)$/;

/** Letters of "rwx" in that order; "none" gives "". */
export function protOf(reader: LineReader, word: Word, offset = 0): string {
  const text = word.text.slice(offset);
  if (text === "" || !PROT.test(text))
    throw reader.error(word, "a protection: letters of rwx in that order, or none", offset);
  return text === "none" ? "" : text;
}

/** The number of an advice given by name or number. */
export function adviceOf(reader: LineReader, word: Word): number {
  const known = Object.hasOwn(ADVICE, word.text) ? ADVICE[word.text] : undefined;
  if (known !== undefined) return known;
  if (/^\d/.test(word.text)) return integerOf(reader, word, 0, 0x7fffffff);
  throw reader.unknown(word, "an advice such as HUGEPAGE, or its number", Object.keys(ADVICE));
}

/** The name of an advice, or its number as text. */
export function adviceName(advice: number): string {
  const found = Object.entries(ADVICE).find(([, number]) => number === advice);
  return found === undefined ? String(advice) : found[0];
}

/** The rest of a line from "->" on. */
export function readWanted(reader: LineReader, takes: "result" | "signal"): Wanted | undefined {
  if (!reader.takeIf("->")) return undefined;
  const what = takes === "signal" ? "SIGSEGV, SIGBUS or ?" : "an errno name, a number or ?";
  const word = reader.take(what);
  const isSignal = word.text === "SIGSEGV" || word.text === "SIGBUS";
  if (word.text === "?" || (isSignal && takes === "signal")) return word.text;
  if (takes === "result") {
    if (errnoNamed(word.text) !== undefined) return word.text;
    if (/^\d/.test(word.text)) return integerOf(reader, word, 0, Number.MAX_SAFE_INTEGER);
  }
  throw reader.unknown(word, what, takes === "signal" ? ["SIGSEGV", "SIGBUS"] : ERRNO_NAMES);
}

/** Splits "key=value"; undefined for a word without "=" outside brackets. */
export function keyOf(word: Word): { key: string; offset: number } | undefined {
  const equals = word.text.indexOf("=");
  const bracket = word.text.search(/["[]/);
  if (equals < 0 || (bracket >= 0 && bracket < equals)) return undefined;
  return { key: word.text.slice(0, equals), offset: equals + 1 };
}

/** A number or size, or LOW..HIGH, possibly negative. */
export function numberValue(reader: LineReader, word: Word, offset: number): WantedValue {
  const text = word.text.slice(offset);
  const dots = text.indexOf("..");
  const one = (from: number, to: number) => signedSize(reader, word, from, to);
  if (dots < 0) {
    const value = one(offset, word.text.length);
    return { kind: "number", low: value, high: value };
  }
  const low = one(offset, offset + dots);
  const high = one(offset + dots + 2, word.text.length);
  if (high < low) throw reader.error(word, `a value from ${low} on`, offset + dots + 2);
  return { kind: "number", low, high };
}

function signedSize(reader: LineReader, word: Word, from: number, to: number): number {
  const text = word.text.slice(from, to);
  const sign = text.startsWith("-") ? 1 : 0;
  const size = reader.within(word, from + sign, () => parseSize(text.slice(sign), ""));
  return sign === 1 && size > 0 ? -size : size;
}

/** Text that may stand in double quotes, with JSON's escapes. */
export function unquoted(reader: LineReader, word: Word, offset: number): string {
  const text = word.text.slice(offset);
  if (!text.includes('"')) return text;
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "string") return value;
  } catch {
    // Falls through to the one message for all of it.
  }
  throw reader.error(word, 'one text in double quotes, such as "a b\\n"', offset);
}
