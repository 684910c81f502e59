/**
 * Scenario files named on a command line: files, folders with all *.scn below them, and "-" for stdin.
 *
 * Entry: readScenarios. Holds: files of a folder come in the order of their names, so that every run has the same order.
 */

import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { UsageError } from "../base/usage-error.ts";
import { parseScenario } from "../scenario/parse.ts";
import type { Scenario } from "../scenario/syntax.ts";

const SUFFIX = ".scn";

/** Every scenario that the words name, parsed. Throws UsageError for the first mistake, before anything is run. */
export function readScenarios(words: readonly string[]): Scenario[] {
  return words.flatMap(scenarioPaths).map(readScenario);
}

/** Paths of a word, "-" as it is. */
export function scenarioPaths(word: string): string[] {
  if (word === "-" || !statSync(word).isDirectory()) return [word];
  const found = filesBelow(word);
  if (found.length === 0)
    throw new UsageError(word, "a folder without scenarios", `files that end in ${SUFFIX}`);
  return found;
}

function filesBelow(folder: string): string[] {
  const entries = readdirSync(folder, { withFileTypes: true });
  entries.sort((a, b) => (a.name < b.name ? -1 : 1));
  return entries.flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return filesBelow(path);
    return entry.name.endsWith(SUFFIX) ? [path] : [];
  });
}

function readScenario(path: string): Scenario {
  const name = path === "-" ? "stdin" : path;
  const bytes = readFileSync(path === "-" ? 0 : path);
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new UsageError(name, "bytes that are no UTF-8", "a text file");
  }
  return parseScenario(name, text);
}
