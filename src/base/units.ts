/**
 * Sizes and times as people write them on a command line, and as reports print them.
 *
 * Entry: parseSize, parseDuration for input; formatBytes, formatCount, formatNs, formatMs, formatShare for output.
 * Units: every prefix is binary (k = 1024); `p` is a 4 KiB page, `hp` a 2 MiB huge page. Sizes are integers of bytes
 *        below 2^53, times are nanoseconds. Simulated time is labelled by whoever prints it.
 */

import { HUGE_SIZE, PAGE_SIZE } from "./address.ts";
import { UsageError } from "./usage-error.ts";

const SIZE_UNITS: Readonly<Record<string, number>> = {
  "": 1,
  b: 1,
  k: 2 ** 10,
  m: 2 ** 20,
  g: 2 ** 30,
  t: 2 ** 40,
  p: PAGE_SIZE,
  hp: HUGE_SIZE,
};

const DURATION_UNITS: Readonly<Record<string, number>> = {
  ns: 1,
  us: 1e3,
  ms: 1e6,
  s: 1e9,
  m: 60e9,
  min: 60e9,
  h: 3600e9,
};

const SIZE_WANTED = "a size such as 512m, 4g, 0x100000, 512p (4 KiB pages) or 4hp (huge pages)";
const DURATION_WANTED = "a time such as 500ms, 2s or 10us";

/** Bytes of `text`, e.g. "4g", "512MiB", "0x1000", "512p", "4hp". `where` names the flag. Throws UsageError. */
export function parseSize(text: string, where: string): number {
  const hex = /^0x([0-9a-f]+)$/i.exec(text);
  if (hex) return checkedInteger(Number.parseInt(hex[1], 16), text, where, SIZE_WANTED);
  if (/^0x/i.test(text)) {
    const good = /^0x[0-9a-f]*/i.exec(text)![0];
    throw badAt(text, good.length, where, SIZE_WANTED);
  }

  const { digits, unit } = splitNumber(text, where, SIZE_WANTED);
  const plain = unit.toLowerCase().replace(/^([kmgt])(ib|i|b)$/, "$1");
  const factor = SIZE_UNITS[plain];
  if (factor === undefined) {
    throw badAt(text, digits.length + goodUnitLength(unit), where, SIZE_WANTED);
  }
  return checkedInteger(Number(digits) * factor, text, where, SIZE_WANTED);
}

/** Nanoseconds of `text`, e.g. "500ms", "2s", "1.5s"; "0" needs no unit. Throws UsageError. */
export function parseDuration(text: string, where: string): number {
  if (text === "0") return 0;
  const found = /^\d+(\.\d+)?/.exec(text);
  if (!found) throw badAt(text, 0, where, DURATION_WANTED);
  const factor = DURATION_UNITS[text.slice(found[0].length).toLowerCase()];
  if (factor === undefined) throw badAt(text, found[0].length, where, DURATION_WANTED);
  return Math.round(Number(found[0]) * factor);
}

/** An integer in low..high written in decimal or hex. Throws UsageError. */
export function parseInteger(text: string, low: number, high: number, where: string): number {
  const wanted = `a whole number from ${low} to ${high}`;
  const good = /^(0x[0-9a-f]+|\d+)/i.exec(text);
  if (good?.[0] !== text) throw badAt(text, good ? good[0].length : 0, where, wanted);
  const value = Number(text);
  if (value < low || value > high) throw new UsageError(where, quote(text), wanted);
  return value;
}

/** `text` in double quotes, or the words "nothing" for an empty one; for messages. */
export function quote(text: string): string {
  return text === "" ? "nothing" : JSON.stringify(text);
}

function splitNumber(text: string, where: string, wanted: string) {
  const digits = /^\d*/.exec(text)![0];
  if (digits === "") throw badAt(text, 0, where, wanted);
  return { digits, unit: text.slice(digits.length) };
}

/** How many characters of a wrong unit still begin a right one: "kX" has 1, "q" has 0. */
function goodUnitLength(unit: string): number {
  const good = /^([kmgt](ib|i|b)?|hp|h|p|b)/i.exec(unit);
  return good ? good[0].length : 0;
}

function checkedInteger(value: number, text: string, where: string, wanted: string): number {
  if (Number.isSafeInteger(value)) return value;
  throw new UsageError(where, quote(text), `${wanted}, below 2^53 bytes`);
}

function badAt(text: string, column: number, where: string, wanted: string): UsageError {
  if (text === "") return new UsageError(where, "nothing", wanted);
  return new UsageError(where, quote(text), wanted, { text, column });
}

/** How reports write a size: scaled for people, or the exact number of bytes (`--bytes`). */
export type ByteStyle = "scaled" | "exact";

const BYTE_STEPS = ["B", "KiB", "MiB", "GiB", "TiB"] as const;

/** E.g. "201.4 MiB"; with "exact" the plain number of bytes. Three to four significant digits. */
export function formatBytes(bytes: number, style: ByteStyle = "scaled"): string {
  if (style === "exact") return String(Math.round(bytes));
  let value = bytes;
  let step = 0;
  while (Math.abs(value) >= 1024 && step < BYTE_STEPS.length - 1) {
    value /= 1024;
    step++;
  }
  return `${step === 0 ? String(Math.round(value)) : decimals(value)} ${BYTE_STEPS[step]}`;
}

/** A count in groups of three for people: "12 034", and "12.7 M" and "48.1 G" from ten million on. */
export function formatCount(count: number): string {
  const size = Math.abs(count);
  if (size >= 1e12) return `${decimals(count / 1e12)} T`;
  if (size >= 1e9) return `${decimals(count / 1e9)} G`;
  if (size >= 1e7) return `${decimals(count / 1e6)} M`;
  return groups(Math.round(count));
}

/** Nanoseconds as "870 ns", "1.37 us", "24.1 ms", "2.05 s". */
export function formatNs(ns: number): string {
  const size = Math.abs(ns);
  if (size < 1000) return `${Math.round(ns)} ns`;
  if (size < 1e6) return `${decimals(ns / 1e3)} us`;
  if (size < 1e9) return `${decimals(ns / 1e6)} ms`;
  return `${decimals(ns / 1e9)} s`;
}

/** Milliseconds as formatNs writes them. */
export function formatMs(ms: number): string {
  return formatNs(ms * 1e6);
}

/** A share 0..1 as "63.2 %"; tiny shares that are not 0 read "<0.1 %". */
export function formatShare(share: number): string {
  if (share > 0 && share < 0.0005) return "<0.1 %";
  return `${(share * 100).toFixed(1)} %`;
}

/** A relative change as "+12.3 %" or "-4.0 %"; "0.0 %" when it rounds to nothing. */
export function formatChange(change: number): string {
  const text = (change * 100).toFixed(1);
  if (Number(text) === 0) return "0.0 %";
  return `${change > 0 ? "+" : ""}${text} %`;
}

function decimals(value: number): string {
  const size = Math.abs(value);
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2);
}

function groups(integer: number): string {
  const text = String(Math.abs(integer));
  const grouped = text.length < 5 ? text : text.replace(/\B(?=(\d{3})+$)/g, " ");
  return integer < 0 ? `-${grouped}` : grouped;
}
