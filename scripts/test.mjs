#!/usr/bin/env node
/**
 * All tests from a fresh clone: `npm test`.
 *
 * Installs the packages if they are missing, then runs types, tidy, lint, the unit and script tests, the build, the tests
 * of the built command and, as root on Linux 6.18, the tests against the live kernel. A step that fails does not stop the
 * others. The last line is "N passed, N failed" over all test projects; a failed step that is no test counts as one
 * failure. Exit status 0 only without failures.
 *
 * Usage: node scripts/test.mjs [--no-live]
 */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { release, tmpdir } from "node:os";
import { join } from "node:path";
import { PROJECT, run, setUp } from "./setup.mjs";

/** Tests that passed and failed so far, and the names of what failed. */
const totals = { passed: 0, failed: 0, problems: [] };

function fail(problem, nr = 1) {
  totals.failed += nr;
  totals.problems.push(problem);
}

function title(name) {
  process.stdout.write(`\n== ${name}\n`);
}

/** A script of package.json that is no test: one failure if it fails. */
function step(script) {
  title(script);
  const startMs = performance.now();
  const isGood = run("npm", ["run", "--silent", script]);
  const seconds = ((performance.now() - startMs) / 1000).toFixed(1);
  process.stdout.write(`${script}: ${isGood ? "ok" : "FAILED"} (${seconds} s)\n`);
  if (!isGood) fail(script);
  return isGood;
}

/** Runs vitest projects and adds what their report counts. */
function tests(reports, projects) {
  title(`${projects.join(" and ")} tests`);
  const report = join(reports, `${projects.join("-")}.json`);
  const isGood = run(process.execPath, [
    join(PROJECT, "node_modules", "vitest", "vitest.mjs"),
    "run",
    "--passWithNoTests",
    ...projects.flatMap((project) => ["--project", project]),
    "--reporter=dot",
    "--reporter=json",
    `--outputFile.json=${report}`,
  ]);
  const counts = existsSync(report) ? JSON.parse(readFileSync(report, "utf8")) : undefined;
  const nrFailed = counts?.numFailedTests ?? 0;
  totals.passed += counts?.numPassedTests ?? 0;
  if (nrFailed > 0) fail(`${projects.join(" and ")} tests`, nrFailed);
  // A file that cannot be loaded, or an error outside of any test, fails the run without a failed test.
  else if (!isGood) fail(`${projects.join(" and ")} tests: the run itself`);
}

/** Why the tests against the running kernel cannot be run here, or undefined. */
function reasonAgainstLive() {
  if (process.argv.includes("--no-live")) return "--no-live was given";
  if (process.platform !== "linux") return "this is not Linux";
  if (!release().startsWith("6.18."))
    return `this kernel is ${release()}; they are written for 6.18`;
  if (process.getuid?.() !== 0) return "they need root";
  return undefined;
}

function hasLiveTests() {
  const paths = readdirSync(join(PROJECT, "src"), { recursive: true });
  return paths.some((path) => path.endsWith(".live.test.ts"));
}

function main() {
  setUp();
  const reports = mkdtempSync(join(tmpdir(), "hugelab-test-"));
  try {
    for (const script of ["types", "tidy", "lint"]) step(script);
    tests(reports, ["unit", "scripts"]);
    if (step("build")) tests(reports, ["command"]);
    const reason = reasonAgainstLive();
    if (reason !== undefined) process.stdout.write(`\nlive tests left out: ${reason}\n`);
    else if (hasLiveTests()) tests(reports, ["live"]);
  } finally {
    rmSync(reports, { recursive: true, force: true });
  }
  if (totals.problems.length > 0) process.stdout.write(`\nfailed: ${totals.problems.join(", ")}\n`);
  process.stdout.write(`\n${totals.passed} passed, ${totals.failed} failed\n`);
  process.exitCode = totals.failed > 0 ? 1 : 0;
}

main();
