#!/usr/bin/env node
/**
 * Which behaviour rules have a test, which are set aside with a reason, which are open.
 *
 * A rule is a line of docs/rules/*.md that opens with its ID. It is tested when a test's title names it, or the `rules:`
 * line of a scenario file; it is set aside when a line of docs/rules-set-aside.md opens with it. Never both.
 *
 * Usage: node scripts/rule-coverage.mjs [--json] [--open PREFIX]
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

/** Prefixes of rule IDs and the file of docs/rules they are defined in. */
export const RULE_FILES = {
  ANON: "anon.md",
  COLL: "collapse.md",
  PHYS: "physical.md",
  PROC: "procfs.md",
  SHM: "shmem.md",
};
const PREFIXES = Object.keys(RULE_FILES).join("|");
const RULE_ID = new RegExp(`\\b(?:${PREFIXES})-\\d{3}\\b`, "g");
const EXACT_ID = new RegExp(`^(?:${PREFIXES})-\\d{3}$`);
/** Whatever looks as if it were meant as a rule ID. */
const NEARLY_ID = new RegExp(`\\b(?:${PREFIXES})[-_]?\\d+\\b`, "g");

const LEFT_OUT = new Set(["node_modules", ".git", "dist", "build", "coverage"]);

/** All rule IDs in a text, in order. */
export function ruleIds(text) {
  return text.match(RULE_ID) ?? [];
}

/** Words that look like rule IDs and are not: "ANON-21", "COLL_031". */
export function malformedIds(text) {
  return (text.match(NEARLY_ID) ?? []).filter((word) => !EXACT_ID.test(word));
}

/** Rules that a document of docs/rules defines: the ID is the first word of a line, list item or table row. */
export function definedRules(text) {
  const first = new RegExp(`^[\\s|*-]*((?:${PREFIXES})-\\d{3})\\b`, "gm");
  return [...text.matchAll(first)].map((match) => match[1]);
}

const TITLE =
  /\b(?:test|it|describe)((?:\.\w+)*)\s*\(\s*(?:"((?:\\.|[^"\\])*)"|'((?:\\.|[^'\\])*)'|`((?:\\.|[^`\\])*)`)/g;

/** Titles of the tests in a test file: `modifier` is "", ".skip" and the like. */
export function testTitles(text) {
  return [...text.matchAll(TITLE)].map((match) => ({
    modifier: match[1],
    title: match[2] ?? match[3] ?? match[4],
    offset: match.index,
  }));
}

/** Rules that a file of this path tests. */
export function testedRules(path, text) {
  if (/\.(?:test|spec)\.[cm]?tsx?$/.test(path)) {
    return testTitles(text).flatMap(({ title }) => ruleIds(title));
  }
  if (/\.(?:scn|ya?ml)$/.test(path)) {
    const lines = text.split("\n").filter((line) => /^\s*(?:#\s*)?rules\s*:/.test(line));
    return lines.flatMap(ruleIds);
  }
  return [];
}

/**
 * `needless`: rules that are set aside though they have a test, or set aside twice.
 * @returns {{byPrefix: Record<string, {rules: number, tested: number, setAside: number, open: string[]}>, unknown: string[], needless: string[]}}
 */
export function ruleCoverage(project) {
  const defined = readRules(project);
  const tested = new Set();
  for (const path of projectFiles(project)) {
    if (!/\.(?:[cm]?tsx?|scn|ya?ml)$/.test(path)) continue;
    for (const id of testedRules(path, readFileSync(join(project, path), "utf8"))) tested.add(id);
  }
  const asidePath = join(project, "docs", "rules-set-aside.md");
  const asideLines = existsSync(asidePath) ? definedRules(readFileSync(asidePath, "utf8")) : [];
  const setAside = new Set(asideLines);

  const byPrefix = {};
  for (const prefix of Object.keys(RULE_FILES)) {
    const rules = [...defined].filter((id) => id.startsWith(`${prefix}-`));
    byPrefix[prefix] = {
      rules: rules.length,
      tested: rules.filter((id) => tested.has(id)).length,
      setAside: rules.filter((id) => setAside.has(id) && !tested.has(id)).length,
      open: rules.filter((id) => !tested.has(id) && !setAside.has(id)),
    };
  }
  const unknown = [...new Set([...tested, ...setAside])].filter((id) => !defined.has(id)).sort();
  const isWrongLine = (id, i) => tested.has(id) || asideLines.indexOf(id) !== i;
  return { byPrefix, unknown, needless: asideLines.filter(isWrongLine) };
}

/** IDs of all rules of docs/rules. */
export function readRules(project) {
  const rules = new Set();
  for (const name of Object.values(RULE_FILES)) {
    const text = readFileSync(join(project, "docs", "rules", name), "utf8");
    for (const id of definedRules(text)) rules.add(id);
  }
  return rules;
}

/** Files of the project, relative, without what is built or installed. */
export function* projectFiles(project, folder = "") {
  for (const entry of readdirSync(join(project, folder), { withFileTypes: true })) {
    if (LEFT_OUT.has(entry.name)) continue;
    const path = folder === "" ? entry.name : `${folder}/${entry.name}`;
    if (entry.isDirectory()) yield* projectFiles(project, path);
    else if (entry.isFile()) yield path;
  }
}

/** One line for people: "rules with a test: ANON 12/232, ...". */
export function coverageLine({ byPrefix }) {
  const parts = Object.entries(byPrefix).map(([p, row]) => `${p} ${row.tested}/${row.rules}`);
  return `rules with a test: ${parts.join(", ")}`;
}

function main(args) {
  const openAt = args.indexOf("--open");
  const prefix = openAt < 0 ? undefined : args[openAt + 1];
  if (openAt >= 0 && !(prefix in RULE_FILES)) {
    process.stderr.write(`--open wants one of ${Object.keys(RULE_FILES).join(", ")}\n`);
    return 2;
  }
  const coverage = ruleCoverage(resolve(import.meta.dirname, ".."));
  if (args.includes("--json")) {
    process.stdout.write(`${JSON.stringify(coverage, null, 2)}\n`);
    return 0;
  }
  for (const [name, row] of Object.entries(coverage.byPrefix)) {
    const percent = Math.round((100 * row.tested) / row.rules);
    const rest = `${row.setAside} set aside, ${row.open.length} open`;
    process.stdout.write(`${name}  ${row.tested}/${row.rules} tested (${percent} %), ${rest}\n`);
    if (name === prefix) process.stdout.write(`${row.open.join(" ")}\n`);
  }
  if (coverage.unknown.length > 0) {
    process.stdout.write(`not in docs/rules: ${coverage.unknown.join(" ")}\n`);
  }
  if (coverage.needless.length > 0) {
    process.stdout.write(`tested or named before, and set aside: ${coverage.needless.join(" ")}\n`);
  }
  return coverage.unknown.length + coverage.needless.length > 0 ? 1 : 0;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  process.exitCode = main(process.argv.slice(2));
}
