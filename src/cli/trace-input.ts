/**
 * Where a recording comes from: a file, or a pipe that is first copied to a temporary file, since each setting's worker
 * reads it for itself.
 *
 * Entry: openTraceInput. Holds: the temporary copy is removed when the command ends, however it ends.
 */

import {
  closeSync,
  createReadStream,
  createWriteStream,
  openSync,
  readSync,
  statSync,
} from "node:fs";
import { basename, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { UsageError } from "../base/usage-error.ts";
import type { Cleanup } from "./cleanup.ts";
import { formatOf, parseTraceFormat, SNIFFED_BYTES, type TraceFormat } from "./trace-format.ts";

export interface TraceInput {
  /** A regular file. */
  readonly path: string;
  /** As the user named it, for messages: the path, or "stdin". */
  readonly name: string;
  readonly format: TraceFormat;
}

/** The recording called `path`; "-" is stdin; `from` names its form. Throws UsageError for what cannot be one. */
export async function openTraceInput(
  path: string,
  from: string | undefined,
  cleanup: Cleanup,
): Promise<TraceInput> {
  const named = from === undefined ? undefined : parseTraceFormat(from);
  const file = await regularFile(path, cleanup);
  return { ...file, format: named ?? formatOf(firstBytes(file.path)) };
}

async function regularFile(path: string, cleanup: Cleanup) {
  if (path === "-") return { path: await copyOf(process.stdin, cleanup), name: "stdin" };
  const stat = statSync(path);
  if (stat.isFile()) return { path, name: path };
  if (stat.isDirectory()) throw new UsageError(path, "a folder", "a recording");
  return { path: await copyOf(createReadStream(path), cleanup), name: basename(path) };
}

function firstBytes(path: string): Uint8Array {
  const file = openSync(path, "r");
  try {
    const bytes = new Uint8Array(SNIFFED_BYTES);
    return bytes.subarray(0, readSync(file, bytes));
  } finally {
    closeSync(file);
  }
}

async function copyOf(stream: NodeJS.ReadableStream, cleanup: Cleanup): Promise<string> {
  if ((stream as NodeJS.ReadStream).isTTY) {
    throw new UsageError("-", "a terminal", "a recording on stdin");
  }
  const path = join(cleanup.temporaryFolder(), "stdin.trace");
  await pipeline(stream, createWriteStream(path));
  return path;
}
