/**
 * What a run of scenarios came to, for people and as JSON.
 *
 * Entry: outcomeText, summaryText, outcomesJson, statusOf.
 */

import type { Paint } from "../lab/paint.ts";
import { describeDifferences } from "../scenario/compare.ts";
import type { Finding, RunResult } from "../scenario/run.ts";
import type { Scenario } from "../scenario/syntax.ts";

/** Where a file ran. */
export type On = "model" | "kernel" | "both";

/** What became of one file. */
export type Outcome =
  | {
      readonly kind: "ran";
      readonly scenario: Scenario;
      readonly result: RunResult;
      readonly on: On;
      /** Runs with a finding that a repeat on the kernel did not have. */
      readonly nrUnstable: number;
      /** The first of them. */
      readonly unstable?: RunResult;
    }
  /** Only the model can do it, and the kernel was asked for. */
  | { readonly kind: "skipped"; readonly scenario: Scenario }
  | {
      readonly kind: "impossible";
      readonly scenario: Scenario;
      readonly line: number;
      readonly problem: string;
    };

/** One line; under it the findings, if there are any. */
export function outcomeText(outcome: Outcome, paint: Paint): string {
  const { file } = outcome.scenario;
  switch (outcome.kind) {
    case "skipped":
      return `skipped  ${file}  only the model can do it\n`;
    case "impossible": {
      const line = outcome.line > 0 ? `:${outcome.line}` : "";
      return `not possible  ${file}${line}  ${outcome.problem}\n`;
    }
    case "ran": {
      const { findings, nrStatements, nrExpectations } = outcome.result;
      const counts = `${nrStatements} statements, ${nrExpectations} expectations`;
      const unstable =
        outcome.nrUnstable > 0 ? `, at attempt ${outcome.nrUnstable + 1} (unstable)` : "";
      if (findings.length === 0) return `${paint.good("ok")}  ${file}  ${counts}${unstable}\n`;
      const texts = findings.map((finding) => findingText(outcome.scenario, finding));
      return `${paint.bad("failed")}  ${file}  ${counts}\n${texts.join("")}`;
    }
  }
}

/** Place, what was expected and seen, and the line with a caret. */
export function findingText({ file, text }: Scenario, finding: Finding): string {
  const { line, column, wanted, seen, where, differences } = finding;
  const source = (text[line - 1] ?? "").replaceAll("\t", " ");
  const at = column >= 0 ? column : source.search(/\S/);
  const on = where === "both" ? "" : `on the ${where}: `;
  const caret = `    ${source}\n    ${" ".repeat(Math.max(0, at))}^\n`;
  const table =
    differences.length === 0 ? "" : indented(describeDifferences(differences, "model", "kernel"));
  return `  ${file}:${line}: ${on}expected ${wanted}, found ${seen}\n${caret}${table}`;
}

function indented(text: string): string {
  return text
    .split("\n")
    .map((line) => `    ${line.trimEnd()}\n`)
    .join("");
}

/** "3 scenarios: 2 ok, 1 failed". */
export function summaryText(outcomes: readonly Outcome[]): string {
  const nr = { ok: 0, failed: 0, skipped: 0, "not possible": 0 };
  for (const outcome of outcomes) {
    if (outcome.kind === "skipped") nr.skipped++;
    else if (outcome.kind === "impossible") nr["not possible"]++;
    else if (outcome.result.findings.length === 0) nr.ok++;
    else nr.failed++;
  }
  const parts = Object.entries(nr).filter(([name, count]) => count > 0 || name === "ok");
  const list = parts.map(([name, count]) => `${count} ${name}`).join(", ");
  return `${outcomes.length} scenarios: ${list}\n`;
}

/** Exit status: 1 for findings, else 3 for what was not possible, else 0. */
export function statusOf(outcomes: readonly Outcome[]): number {
  const hasFindings = (outcome: Outcome) =>
    outcome.kind === "ran" && outcome.result.findings.length > 0;
  if (outcomes.some(hasFindings)) return 1;
  return outcomes.some((outcome) => outcome.kind === "impossible") ? 3 : 0;
}

export function outcomesJson(outcomes: readonly Outcome[], on: On): string {
  const files = outcomes.map((outcome) => {
    const { file, header } = outcome.scenario;
    const common = { file, title: header.title, rules: header.rules };
    if (outcome.kind === "skipped") return { ...common, status: "skipped" };
    if (outcome.kind === "impossible") {
      const { line, problem } = outcome;
      return { ...common, status: "not possible", line, problem };
    }
    const { findings, nrStatements, nrExpectations } = outcome.result;
    const status = findings.length === 0 ? "ok" : "failed";
    const { on: ranOn, nrUnstable } = outcome;
    return { ...common, status, on: ranOn, nrStatements, nrExpectations, nrUnstable, findings };
  });
  return `${JSON.stringify({ schema: "hugelab.run", version: 1, on, files }, null, 2)}\n`;
}
