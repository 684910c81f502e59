/**
 * The forms a recording can have, and the reader for each.
 *
 * Entry: formatOf (by the first bytes, or as the user says), createReaderFor.
 */

import { oneOf } from "../base/nearest.ts";
import { UsageError } from "../base/usage-error.ts";
import { MAGIC } from "../trace/format.ts";
import { createLackeyImporter } from "../trace/lackey.ts";
import { createPerfScriptImporter } from "../trace/perf-script.ts";
import { createTraceReader, type TraceReader } from "../trace/reader.ts";
import { createStraceImporter } from "../trace/strace.ts";
import type { TraceSink } from "../trace/trace-sink.ts";
import { DEFLATE_CODEC } from "./block-codec.ts";

export const TRACE_FORMATS = ["hugelab", "lackey", "perf-script", "strace"] as const;
export type TraceFormat = (typeof TRACE_FORMATS)[number];

interface FormatEntry {
  /** True if a file that begins with these bytes (as Latin-1 text) is of this form. */
  readonly begins: (text: string) => boolean;
  readonly create: (sink: TraceSink, name: string) => TraceReader;
  /** Bytes to read at a time: a chunk of a compressed form can be seconds of replay without progress. */
  readonly chunkBytes: number;
}

const FORMATS: Readonly<Record<TraceFormat, FormatEntry>> = {
  hugelab: {
    begins: (text) => text.startsWith(String.fromCharCode(...MAGIC)),
    create: (sink, name) => createTraceReader(sink, name, [DEFLATE_CODEC]),
    chunkBytes: 1 << 15,
  },
  lackey: {
    begins: (text) =>
      /^(==\d+== Lackey|I {2}[0-9a-f]{8,16},\d+\n| [LSM] [0-9a-f]{8,16},\d+\n)/.test(text),
    create: createLackeyImporter,
    chunkBytes: 1 << 20,
  },
  "perf-script": {
    begins: (text) => /^\s*\S.*? -?\d+\/-?\d+\s+(\[\d+\]\s+)?\d+\.\d+: /.test(text),
    create: createPerfScriptImporter,
    chunkBytes: 1 << 16,
  },
  strace: {
    begins: (text) => /^(\[pid +\d+\] |\d+ +)?([\d:.]+ )?[a-z_]\w*\(/.test(text),
    create: createStraceImporter,
    chunkBytes: 1 << 20,
  },
};

/** Enough of a file to tell its form. */
export const SNIFFED_BYTES = 4096;

/** The form of a file that begins with `bytes`; what nothing recognises is for the reader of recordings to refuse. */
export function formatOf(bytes: Uint8Array): TraceFormat {
  const text = Buffer.from(bytes).toString("latin1");
  return TRACE_FORMATS.find((format) => FORMATS[format].begins(text)) ?? "hugelab";
}

/** The form that --from names. Throws UsageError. */
export function parseTraceFormat(text: string): TraceFormat {
  if (text === "perf.data") throw new UsageError("--from", text, "the text of `perf script`");
  return oneOf(text, TRACE_FORMATS, "--from");
}

export function createReaderFor(format: TraceFormat, sink: TraceSink, name: string): TraceReader {
  return FORMATS[format].create(sink, name);
}

export function chunkBytesOf(format: TraceFormat): number {
  return FORMATS[format].chunkBytes;
}
