/**
 * What a back end gave and showed at every statement of a scenario: kept in a file, and compared with another.
 *
 * Entry: recordScenario, writeRecording, readRecording, compareRecordings.
 * Format: a line of JSON for each statement: `do` the statement, `gave` its result, `seen` the lines of observation-text.ts that
 *        changed since the statement before (null: gone).
 */

import { UsageError } from "../base/usage-error.ts";
import type { Backend, StepResult, TracedEvent } from "./backend.ts";
import { eventText } from "./expect.ts";
import { formatStatement } from "./format.ts";
import { type ObservationLines, observationLines } from "./observation-text.ts";
import { type RunResult, resultText, runScenario } from "./run.ts";
import type { Scenario } from "./syntax.ts";

export interface RecordedStep {
  /** Line of the scenario; 0 if read from a file. */
  readonly line: number;
  readonly statement: string;
  readonly result: string;
  readonly seen: ObservationLines;
}

/** One thing at which two recordings of a scenario part. */
export interface RecordingDifference {
  readonly line: number;
  readonly statement: string;
  /** "result" or a key of the lines. */
  readonly key: string;
  readonly model: string;
  readonly kernel: string;
}

export interface Recorded {
  readonly steps: readonly RecordedStep[];
  readonly result: RunResult;
}

/** Runs a scenario and notes everything. */
export function recordScenario(scenario: Scenario, backend: Backend): Recorded {
  const steps: RecordedStep[] = [];
  const result = runScenario(scenario, backend, {
    afterStatement: (statement, gave, seen) => {
      steps.push({
        line: statement.line,
        statement: formatStatement(statement),
        result: resultWithResidency(gave),
        seen: withEvents(observationLines(seen), backend.events() ?? []),
      });
    },
  });
  return { steps, result };
}

function withEvents(lines: ObservationLines, events: readonly TracedEvent[]): ObservationLines {
  if (events.length === 0) return lines;
  return new Map([...lines, ["events", events.map(eventText).join("; ")]]);
}

function resultWithResidency(result: StepResult): string {
  const text = resultText(result);
  const resident = result.kind === "value" ? result.resident : undefined;
  return resident === undefined ? text : `${text} ${resident.join("")}`;
}

/** The text of a recording's file. */
export function writeRecording(steps: readonly RecordedStep[]): string {
  let before: ObservationLines = new Map();
  const lines = steps.map((step) => {
    const seen: Record<string, string | null> = {};
    for (const [key, text] of step.seen) if (before.get(key) !== text) seen[key] = text;
    for (const key of before.keys()) if (!step.seen.has(key)) seen[key] = null;
    before = step.seen;
    return JSON.stringify({ do: step.statement, gave: step.result, seen });
  });
  return lines.map((line) => `${line}\n`).join("");
}

/** The steps of a recording's file. Throws UsageError for a file that is none. */
export function readRecording(file: string, text: string): RecordedStep[] {
  const lines = text.split("\n").filter((line) => line !== "");
  let seen = new Map<string, string>();
  return lines.map((line, i) => {
    const record = parsed(file, i + 1, line);
    seen = new Map(seen);
    for (const [key, value] of Object.entries(record.seen)) {
      if (value === null) seen.delete(key);
      else seen.set(key, value);
    }
    return { line: 0, statement: record.do, result: record.gave, seen };
  });
}

interface RecordLine {
  readonly do: string;
  readonly gave: string;
  readonly seen: Readonly<Record<string, string | null>>;
}

function parsed(file: string, line: number, text: string): RecordLine {
  const wanted = "a line of a recording: {do, gave, seen}";
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new UsageError(`${file}:${line}`, "no JSON", wanted);
  }
  const record = value as Partial<RecordLine> | null;
  const isRecord =
    typeof record === "object" &&
    typeof record?.do === "string" &&
    typeof record.gave === "string" &&
    typeof record.seen === "object";
  if (!isRecord) throw new UsageError(`${file}:${line}`, "something else", wanted);
  return record as RecordLine;
}

/**
 * Every difference of two recordings, up to the first statement at which one of them is of another scenario. A difference that
 * stays is given once, where it begins.
 */
export function compareRecordings(
  model: readonly RecordedStep[],
  kernel: readonly RecordedStep[],
): RecordingDifference[] {
  const differences: RecordingDifference[] = [];
  let standing = new Map<string, string>();
  for (let i = 0; i < Math.max(model.length, kernel.length); i++) {
    const [a, b] = [model[i], kernel[i]] as [RecordedStep | undefined, RecordedStep | undefined];
    if (a?.statement !== b?.statement) {
      const [left, right] = [a?.statement ?? "the end", b?.statement ?? "the end"];
      const line = a?.line ?? 0;
      differences.push({ line, statement: left, key: "statement", model: left, kernel: right });
      return differences;
    }
    const here = differencesAt(a!, b!);
    const now = new Map(
      here.map(({ key, model: left, kernel: right }) => [key, `${left}\n${right}`]),
    );
    differences.push(...here.filter(({ key }) => standing.get(key) !== now.get(key)));
    standing = now;
  }
  return differences;
}

function differencesAt(model: RecordedStep, kernel: RecordedStep): RecordingDifference[] {
  const { line, statement } = model;
  const found: RecordingDifference[] = [];
  const note = (key: string, left: string, right: string) => {
    if (left !== right) found.push({ line, statement, key, model: left, kernel: right });
  };
  note("result", model.result, kernel.result);
  for (const key of new Set([...model.seen.keys(), ...kernel.seen.keys()]))
    note(key, model.seen.get(key) ?? "nothing", kernel.seen.get(key) ?? "nothing");
  return found;
}
