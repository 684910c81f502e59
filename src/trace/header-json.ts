/**
 * The TraceHeader as JSON text: encoding, and decoding with a check of every field.
 *
 * The header block is the one part of a recording that people may want to read with other tools, so it is JSON.
 */

import type { PlainRun, TraceHeader, TraceSource } from "./trace-sink.ts";

const SOURCES: readonly TraceSource[] = [
  "qemu-plugin",
  "perf",
  "lackey",
  "strace",
  "perf-script",
  "synthetic",
];

/** UTF-8 bytes of the header block. */
export function encodeHeader(header: TraceHeader): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(header));
}

/** A header that passed every check, or what is wrong with it. */
export type DecodedHeader =
  | { readonly header: TraceHeader }
  | { readonly found: string; readonly wanted: string };

/** Reads the header block. Unknown fields are ignored: a later minor version may have added them. */
export function decodeHeader(bytes: Uint8Array): DecodedHeader {
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    return { found: "bytes that are no JSON", wanted: "the recording's header as JSON" };
  }
  if (!isRecord(json)) return { found: "JSON that is no object", wanted: "the recording's header" };

  const { command, source, has, plainRun, notes } = json;
  if (!isTextList(command)) return wrong("command", "a list of words");
  if (!isOneOf(source, SOURCES)) return wrong("source", `one of ${SOURCES.join(", ")}`);
  if (!isRecord(has)) return wrong("has", "an object");
  const { exactTouches, counts, order } = has;
  if (typeof exactTouches !== "boolean") return wrong("has.exactTouches", "true or false");
  if (typeof counts !== "boolean") return wrong("has.counts", "true or false");
  if (!isOneOf(order, ["none", "windows", "full"] as const)) {
    return wrong("has.order", "none, windows or full");
  }
  if (plainRun !== undefined && !isPlainRun(plainRun)) return wrong("plainRun", "its nine fields");
  if (notes !== undefined && typeof notes !== "string") return wrong("notes", "a text");

  return {
    header: {
      command,
      source,
      has: { exactTouches, counts, order },
      ...(plainRun === undefined ? {} : { plainRun }),
      ...(notes === undefined ? {} : { notes }),
    },
  };
}

function wrong(field: string, wanted: string): DecodedHeader {
  return { found: `a header whose "${field}" is missing or of another type`, wanted };
}

function isPlainRun(value: unknown): value is PlainRun {
  if (!isRecord(value)) return false;
  const numbers = [
    "nrRuns",
    "wallMs",
    "userMs",
    "systemMs",
    "minorFaults",
    "majorFaults",
    "peakRssBytes",
  ];
  if (typeof value.kernel !== "string" || typeof value.cpu !== "string") return false;
  return numbers.every((name) => Number.isFinite(value[name]) && (value[name] as number) >= 0);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isTextList(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === "string");
}

function isOneOf<T extends string>(value: unknown, words: readonly T[]): value is T {
  return typeof value === "string" && (words as readonly string[]).includes(value);
}
