/**
 * The library of scenarios that comes with the program: where it is, the recordings of the kernel, and the ledger of accepted
 * differences.
 *
 * Entry: findLibrary, recordingPath, readLedger.
 */

import { existsSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { parse, YAMLParseError } from "yaml";
import { UsageError } from "../base/usage-error.ts";
import { NotPossibleHere } from "./not-possible.ts";

const FOLDER = "scenarios";
const RECORDINGS = "recordings";
const LEDGER = "ledger.yaml";
const ENVIRONMENT = "environment.json";

/** Folder of the library: beside the program, as it is in the source tree and in the package. */
export function findLibrary(): string {
  for (let at = dirname(fileURLToPath(import.meta.url)); ; at = dirname(at)) {
    const folder = join(at, FOLDER);
    if (existsSync(join(folder, LEDGER))) return folder;
    if (dirname(at) === at)
      throw new NotPossibleHere("the library of scenarios is not installed", "name files instead");
  }
}

/** Where the recording of a scenario of the library is kept; undefined for files from elsewhere. */
export function recordingPath(library: string, file: string): string | undefined {
  const name = relative(library, file);
  if (name.startsWith("..")) return undefined;
  return join(library, RECORDINGS, name.replace(/\.scn$/, ".ndjson"));
}

/** Kernel, configuration and knobs under which the recordings were made. */
export function environmentPath(library: string): string {
  return join(library, RECORDINGS, ENVIRONMENT);
}

/** A difference that is known and accepted. */
export interface LedgerEntry {
  /** Relative to the library. */
  readonly scenario: string;
  /** Key of the lines that differ, as verify prints it. */
  readonly key: string;
  readonly reason: string;
}

/** The entries of the ledger. Throws UsageError for one that lacks a field. */
export function readLedger(library: string): LedgerEntry[] {
  const path = join(library, LEDGER);
  return parseLedger(path, readFileSync(path, "utf8"));
}

export function parseLedger(path: string, text: string): LedgerEntry[] {
  const wanted = "a list of entries with scenario, key and reason";
  let value: unknown;
  try {
    value = parse(text) ?? [];
  } catch (error) {
    if (!(error instanceof YAMLParseError)) throw error;
    const line = error.linePos?.[0].line ?? 1;
    throw new UsageError(`${path}:${line}`, "no YAML", wanted);
  }
  if (!Array.isArray(value)) throw new UsageError(path, "no list", wanted);
  return value.map((entry: Partial<LedgerEntry> | null, i) => {
    const { scenario, key, reason } = entry ?? {};
    for (const field of [scenario, key, reason])
      if (typeof field !== "string" || field.trim() === "")
        throw new UsageError(path, `entry ${i + 1}`, wanted);
    return { scenario: scenario!, key: key!, reason: reason! };
  });
}
