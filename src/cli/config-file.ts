/**
 * hugelab.yaml: defaults for a project, found in the working folder or above it.
 *
 * Entry: findConfig, parseConfig. Owns: nothing.
 * Holds: an unknown key or a wrong kind of value is a UsageError with file, line and column; values themselves are text
 *        that the same parsers as those of the flags check.
 */

import { existsSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { isMap, isScalar, isSeq, LineCounter, type Node, type Pair, parseDocument } from "yaml";
import { didYouMean } from "../base/nearest.ts";
import { quote } from "../base/units.ts";
import { UsageError } from "../base/usage-error.ts";

export const CONFIG_NAME = "hugelab.yaml";

/** A value and where it stands, e.g. "hugelab.yaml:3". */
export interface ConfigText {
  readonly text: string;
  readonly where: string;
}

/** One item of `settings`: text as for --setting, or name, preset and knobs apart. */
export interface ConfigSetting {
  readonly where: string;
  readonly text: string;
}

export interface ConfigFile {
  readonly path: string;
  /** Plain options by name: mem, cpus, profile, ... */
  readonly options: ReadonlyMap<string, ConfigText>;
  /** Knobs of `set`, by name. */
  readonly set: ReadonlyMap<string, ConfigText>;
  /** Undefined if the file has no `settings`. */
  readonly settings: readonly ConfigSetting[] | undefined;
}

/** The file in `folder` or the nearest folder above, or undefined. */
export function findConfig(folder: string): string | undefined {
  for (let at = folder; ; at = dirname(at)) {
    const path = join(at, CONFIG_NAME);
    if (existsSync(path)) return path;
    if (dirname(at) === at) return undefined;
  }
}

/** Reads and checks a file; messages name it relative to `folder`. `optionNames` are the plain options there are. */
export function readConfig(
  path: string,
  folder: string,
  optionNames: readonly string[],
): ConfigFile {
  return parseConfig(readFileSync(path, "utf8"), relative(folder, path), optionNames);
}

/** As readConfig, from text. */
export function parseConfig(
  text: string,
  path: string,
  optionNames: readonly string[],
): ConfigFile {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const place: Place = (offset) => {
    const { line, col } = lines.linePos(offset);
    const lineText = text.split("\n")[line - 1] ?? "";
    return { where: `${path}:${line}`, excerpt: { text: lineText, column: col - 1 } };
  };

  const problem = document.errors[0];
  if (problem) throw wrong(place(problem.pos[0]), "text that is not YAML", problem.message);
  const top = document.contents;
  const config = {
    path,
    options: new Map<string, ConfigText>(),
    set: new Map<string, ConfigText>(),
  };
  if (top === null) return { ...config, settings: undefined };
  if (!isMap(top)) throw wrong(place(startOf(top)), "no keys", "key: value lines");

  let settings: readonly ConfigSetting[] | undefined;
  for (const pair of top.items as Pair<Node, Node | null>[]) {
    const key = scalarText(pair.key, place);
    if (key.text === "set") readKnobs(pair.value, config.set, place);
    else if (key.text === "settings") settings = readSettings(pair.value, place);
    else if (optionNames.includes(key.text)) {
      config.options.set(key.text, scalarText(pair.value, place));
    } else {
      const known = [...optionNames, "set", "settings"];
      const wanted = `${known.join(", ")}${didYouMean(key.text, known)}`;
      throw wrong(place(startOf(pair.key)), `unknown key ${quote(key.text)}`, wanted);
    }
  }
  return { ...config, settings };
}

/** The line of an offset in the file, and the text of the line with the column. */
type Place = (offset: number) => {
  readonly where: string;
  readonly excerpt: { readonly text: string; readonly column: number };
};

function readKnobs(node: Node | null, into: Map<string, ConfigText>, place: Place): void {
  if (!isMap(node)) throw wrong(place(startOf(node)), "no knobs", "KNOB: VALUE lines under set");
  for (const pair of node.items as Pair<Node, Node | null>[]) {
    into.set(scalarText(pair.key, place).text, scalarText(pair.value, place));
  }
}

function readSettings(node: Node | null, place: Place): readonly ConfigSetting[] {
  if (!isSeq(node)) throw wrong(place(startOf(node)), "no list", "a list under settings");
  return (node.items as Node[]).map((item) => {
    if (isScalar(item)) return scalarText(item, place);
    return settingOfMap(item, place);
  });
}

/** { name: mine, preset: always, set: { khugepaged.max_ptes_none: 0 } } in the form of the flag. */
function settingOfMap(item: Node, place: Place): ConfigSetting {
  const here = place(startOf(item));
  if (!isMap(item)) throw wrong(here, "a list", "a setting's name, or name, preset and set");
  let name: string | undefined;
  const items: string[] = [];
  const knobs = new Map<string, ConfigText>();
  for (const pair of item.items as Pair<Node, Node | null>[]) {
    const key = scalarText(pair.key, place).text;
    if (key === "name") name = scalarText(pair.value, place).text;
    else if (key === "preset") items.unshift(scalarText(pair.value, place).text);
    else if (key === "set") readKnobs(pair.value, knobs, place);
    else {
      const known = ["name", "preset", "set"];
      const wanted = `${known.join(", ")}${didYouMean(key, known)}`;
      throw wrong(place(startOf(pair.key)), `unknown key ${quote(key)}`, wanted);
    }
  }
  for (const [knob, value] of knobs) items.push(`${knob}=${value.text}`);
  if (items.length === 0) throw wrong(here, "an empty setting", "a preset or knobs under set");
  return { where: here.where, text: `${name === undefined ? "" : `${name}:`}${items.join(",")}` };
}

function scalarText(node: Node | null, place: Place): ConfigText {
  const here = place(startOf(node));
  if (!isScalar(node) || node.value === null) throw wrong(here, "no value", "one value");
  // The text as written: "0x10" and "007" are for our own parsers to judge, not YAML's.
  return { text: node.source ?? String(node.value), where: here.where };
}

function startOf(node: Node | null): number {
  return node?.range?.[0] ?? 0;
}

function wrong(here: ReturnType<Place>, found: string, wanted: string): UsageError {
  return new UsageError(here.where, found, wanted, here.excerpt);
}
