/**
 * What an exploration came to, for people and as JSON.
 *
 * Entry: exploredText, replayedText, exploredJson.
 */

import type { Paint } from "../lab/paint.ts";
import type { Replayed, ScenarioExplored } from "../scenario/explore.ts";
import { scheduleText } from "../scenario/explore.ts";
import type { ExploreFinding, Outcome } from "../scenario/explore-world.ts";
import type { Scenario } from "../scenario/syntax.ts";
import { findingText } from "./scenario-report.ts";

/** One file, and how it was explored. */
export interface ExploredFile {
  readonly explored: ScenarioExplored;
  /** 0: all schedules. */
  readonly nrSamples: number;
  readonly seed: number;
  readonly check: "end" | "every";
  readonly seconds: number;
}

/** Counts, outcomes with what they differ in, and findings with the schedules that show them. */
export function exploredText(file: ExploredFile, paint: Paint): string {
  const { explored } = file;
  const { scenario, setUp, outcomes, findings } = explored;
  const head = `${paint.bold(scenario.file)}: ${scenario.header.title}\n`;
  if (setUp.length > 0)
    return `${head}${paint.bad("failed")} before the tasks\n${setUp.map((one) => findingText(scenario, one)).join("")}`;
  const common = commonLines(outcomes);
  const parts = [head, `  ${countsText(file)}\n`];
  if (common.size > 0 && outcomes.length > 1)
    parts.push("  at every end:\n", linesText(common, "    "));
  for (const [i, nr] of sortedCounts(explored)) {
    const own = new Map([...outcomes[i].lines].filter(([key]) => !common.has(key)));
    parts.push(
      outcomeText(outcomes[i], nr, explored, outcomes.length > 1 ? own : outcomes[i].lines),
    );
  }
  parts.push(findingsText(scenario, findings, paint));
  return `${parts.join("")}\n`;
}

function countsText({ explored, nrSamples, seed, seconds }: ExploredFile): string {
  const { nrExecuted, nrCovered, nrSteps, nrBranches, isComplete } = explored.explored;
  const nrTasks = explored.scenario.exploration!.tasks.length;
  const speed = `${seconds.toFixed(1)} s, ${perMinute(nrExecuted, seconds)} runs a minute`;
  if (nrSamples > 0)
    return `${nrExecuted} drawn orders of ${nrTasks} tasks, ${nrCovered} of them different, seed ${seed}; ${nrSteps} steps in ${speed}`;
  const all = isComplete ? "all " : "stopped after ";
  return (
    `${all}${nrCovered} orders of ${nrTasks} tasks: ${nrExecuted} executed, the others come to states seen before; ` +
    `${nrBranches} branching states, ${nrSteps} steps in ${speed}`
  );
}

function perMinute(nr: number, seconds: number): string {
  return ((nr / Math.max(seconds, 1e-6)) * 60).toFixed(0);
}

function sortedCounts({ explored }: ScenarioExplored): [number, number][] {
  return [...explored.counts].filter(([outcome]) => outcome >= 0).sort(([, a], [, b]) => b - a);
}

function outcomeText(
  outcome: Outcome,
  nr: number,
  { scenario, explored }: ScenarioExplored,
  lines: ReadonlyMap<string, string>,
): string {
  const { exploration } = scenario;
  let nrAll = 0;
  for (const count of explored.counts.values()) nrAll += count;
  const share = `${((nr / nrAll) * 100).toFixed(1)} %`;
  const results = exploration!.tasks.map(
    ({ name }, i) => `${name} -> ${outcome.results[i].join(", ") || "nothing"}`,
  );
  const states = outcome.nrStates === 1 ? "1 state" : `${outcome.nrStates} states`;
  const deadlock = outcome.isDeadlock ? "deadlock  " : "";
  return (
    `  ${String(nr).padStart(8)} ${share.padStart(7)}  ${deadlock}${results.join("  ")}  (${states})\n` +
    linesText(lines, "                    ") +
    `                    first: ${scheduleText(outcome.witness, exploration!)}\n`
  );
}

function linesText(lines: ReadonlyMap<string, string>, indent: string): string {
  const counters: string[] = [];
  const texts: string[] = [];
  for (const [key, text] of lines)
    if (key.startsWith("counter ")) counters.push(`${key.slice("counter ".length)}=${text}`);
    else texts.push(`${indent}${key}: ${text}\n`);
  if (counters.length > 0) texts.push(`${indent}counters ${counters.join(" ")}\n`);
  return texts.join("");
}

/** What is the same in all outcomes. */
function commonLines(outcomes: readonly Outcome[]): ReadonlyMap<string, string> {
  const [first, ...others] = outcomes;
  if (first === undefined) return new Map();
  const isCommon = ([key, text]: [string, string]) =>
    others.every((other) => other.lines.get(key) === text);
  return new Map([...first.lines].filter(isCommon));
}

function findingsText(
  scenario: Scenario,
  findings: readonly ExploreFinding[],
  paint: Paint,
): string {
  if (findings.length === 0) return `  ${paint.good("ok")}\n`;
  const texts = findings.map(({ kind, line, text, witness }) => {
    const source = line > 0 ? `    ${(scenario.text[line - 1] ?? "").trim()}\n` : "";
    const place = line > 0 ? `${scenario.file}:${line}: ` : "";
    const schedule = scheduleText(witness, scenario.exploration!);
    const how =
      witness.length > 0 ? `    hugelab explore ${scenario.file} --replay "${schedule}"\n` : "";
    return `  ${paint.bad(KIND_WORDS[kind])}  ${place}${text}\n${source}${how}`;
  });
  return texts.join("");
}

const KIND_WORDS: Readonly<Record<ExploreFinding["kind"], string>> = {
  invariant: "invariant broken",
  contents: "wrong contents",
  deadlock: "deadlock",
  assertion: "assertion failed",
  result: "result",
  claim: "claim",
  unseen: "never seen",
};

/** Each step in its order, then the end. */
export function replayedText(replayed: Replayed, paint: Paint): string {
  const { scenario, steps, outcomes, findings, setUp } = replayed;
  if (setUp.length > 0) return setUp.map((one) => findingText(scenario, one)).join("");
  const width = Math.max(...steps.map(({ task }) => task.length));
  const lines = steps.map(
    ({ task, text }, i) => `${String(i + 1).padStart(4)}  ${task.padEnd(width)}  ${text}\n`,
  );
  const end = outcomes.map(({ lines: seen }) => linesText(seen, "  ")).join("");
  return `${lines.join("")}at the end:\n${end}${findingsText(scenario, findings, paint)}`;
}

export function exploredJson(files: readonly ExploredFile[]): string {
  const list = files.map(({ explored, nrSamples, seed, check, seconds }) => {
    const { scenario, setUp, outcomes, findings } = explored;
    const { counts, ...totals } = explored.explored;
    const schedule = (witness: readonly number[]) => scheduleText(witness, scenario.exploration!);
    return {
      file: scenario.file,
      title: scenario.header.title,
      rules: scenario.header.rules,
      tasks: scenario.exploration!.tasks.map(({ name }) => name),
      nrSamples,
      seed,
      check,
      seconds,
      ...totals,
      setUp,
      outcomes: outcomes.map((outcome, i) => ({
        nrOrders: counts.get(i) ?? 0,
        nrStates: outcome.nrStates,
        isDeadlock: outcome.isDeadlock,
        results: outcome.results,
        seen: Object.fromEntries(outcome.lines),
        witness: schedule(outcome.witness),
      })),
      findings: findings.map((finding) => ({ ...finding, witness: schedule(finding.witness) })),
    };
  });
  return `${JSON.stringify({ schema: "hugelab.explore", version: 1, files: list }, null, 2)}\n`;
}
