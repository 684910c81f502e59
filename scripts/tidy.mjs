#!/usr/bin/env node
/**
 * The tidy check: what a compiler and a linter do not see. Prints one line per finding as path:line: message, then a
 * summary; exits 1 if there is a finding.
 *
 * Held here: layers, purity of the engine, contracts at the top of files, comments on columns, rule IDs, names of files,
 * and documents whose links, commands and identifiers are real. Node's own modules only, and no build.
 */
import { execFileSync } from "node:child_process";
import { readFileSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { coverageLine, projectFiles, readRules, ruleCoverage } from "./rule-coverage.mjs";
import * as docs from "./tidy/docs.mjs";
import { checkImports, checkPurity } from "./tidy/layers.mjs";
import { checkCitedRules, checkTitles } from "./tidy/rules.mjs";
import { finding, source } from "./tidy/source.mjs";
import { checkColumns, checkHeader, checkName, checkSyntax } from "./tidy/style.mjs";

const PROJECT = resolve(import.meta.dirname, "..");
const IS_TEXT =
  /\.(?:ts|mjs|js|c|h|md|json|ya?ml|scn|sh|txt|html|css|svg)$|(?:^|\/)(?:run|LICENSE|\.\w+)$/;

/** Files that are tracked or would be, relative to the project; a checkout without git is walked. */
function listFiles() {
  try {
    const git = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    const paths = execFileSync("git", git, { cwd: PROJECT, stdio: ["ignore", "pipe", "ignore"] });
    return paths.toString().split("\0").filter(isFile);
  } catch {
    return [...projectFiles(PROJECT)];
  }
}

function isFile(path) {
  return (
    path !== "" && (statSync(join(PROJECT, path), { throwIfNoEntry: false })?.isFile() ?? false)
  );
}

const exists = (path) => statSync(join(PROJECT, path), { throwIfNoEntry: false }) !== undefined;
const read = (path) => (exists(path) ? readFileSync(join(PROJECT, path), "utf8") : undefined);

function checkCode(file, rules) {
  const isTest = /\.test\.ts$/.test(file.path);
  return [
    ...checkImports(file, exists),
    ...checkPurity(file),
    ...checkHeader(file),
    ...checkColumns(file),
    ...checkSyntax(file),
    ...checkCitedRules(file, rules),
    ...(isTest ? checkTitles(file) : []),
  ];
}

function checkDocument(file, scripts, rules) {
  const isRules = file.path.startsWith("docs/rules/");
  return [
    ...docs.checkLinks(file, exists, read),
    ...docs.checkCommands(file, scripts, exists),
    ...docs.checkNamedFiles(file, exists),
    ...(isRules ? [] : checkCitedRules(file, rules)),
  ];
}

/** A rule defined twice is two rules with one name. */
function checkRuleFile(file) {
  const seen = new Set();
  const findings = [];
  for (const match of file.text.matchAll(/^[\s|*-]*((?:ANON|COLL|PHYS|PROC|SHM)-\d{3})\b/gm)) {
    if (seen.has(match[1]))
      findings.push(finding(file, match.index, `${match[1]} is defined twice`));
    seen.add(match[1]);
  }
  return findings;
}

function main() {
  const startMs = performance.now();
  const scripts = JSON.parse(read("package.json")).scripts;
  const rules = readRules(PROJECT);
  const findings = [];
  const words = new Set();
  let glossary;
  const paths = listFiles();
  for (const path of paths) {
    findings.push(...checkName(path));
    // Recordings are bytes: read as one character each, so that paths are found in them too.
    const text = readFileSync(join(PROJECT, path), IS_TEXT.test(path) ? "utf8" : "latin1");
    const isCode = /^(?:src|bench|scripts)\/.*\.ts$/.test(path);
    const file = isCode ? source(path, text) : { path, text };
    if (path !== "package-lock.json") findings.push(...docs.checkOwnPaths(file));
    if (isCode) {
      findings.push(...checkCode(file, rules));
      for (const word of file.bare.match(/\w+/g) ?? []) words.add(word);
    } else if (path.endsWith(".md")) {
      findings.push(...checkDocument(file, scripts, rules));
      if (path === "docs/glossary.md") glossary = file;
      if (path.startsWith("docs/rules/")) findings.push(...checkRuleFile(file));
    }
  }
  if (glossary !== undefined) findings.push(...docs.checkGlossary(glossary, words));
  const coverage = ruleCoverage(PROJECT);
  for (const id of coverage.unknown) {
    findings.push({
      path: "docs/rules",
      line: 1,
      message: `${id} is tested or set aside, but no rule`,
    });
  }
  for (const id of coverage.needless) {
    findings.push({
      path: "docs/rules-set-aside.md",
      line: 1,
      message: `${id} has a test, or stands here twice`,
    });
  }

  for (const { path, line, message } of findings)
    process.stderr.write(`${path}:${line}: ${message}\n`);
  const seconds = ((performance.now() - startMs) / 1000).toFixed(1);
  process.stdout.write(`tidy: ${paths.length} files, ${findings.length} findings (${seconds} s)\n`);
  process.stdout.write(`${coverageLine(coverage)}\n`);
  process.exitCode = findings.length > 0 ? 1 : 0;
}

main();
