/**
 * A scenario file from its text.
 *
 * Entry: parseScenario. Holds: the only exception is UsageError, with file and line, the place in the line, what was found and
 *        what was expected; a Scenario that was parsed has names that exist and values that can be meant.
 */

import { UsageError } from "../base/usage-error.ts";
import { MAIN, ScenarioNames } from "./names.ts";
import { readExpectation } from "./parse-expect.ts";
import { ExplorationReader } from "./parse-explore.ts";
import { HEADER_WORDS, HeaderReader } from "./parse-header.ts";
import { LineReader } from "./parse-line.ts";
import { readStatement } from "./parse-statement.ts";
import type { Header, Scenario, Step } from "./syntax.ts";

export const MOST_CHARACTERS = 2 ** 20;
export const MOST_LINES = 10_000;

/** `file` is how messages name it. Throws UsageError. */
export function parseScenario(file: string, text: string): Scenario {
  if (text.length > MOST_CHARACTERS)
    throw new UsageError(file, `${text.length} characters`, `at most ${MOST_CHARACTERS}`);
  const lines = text.replace(/^\uFEFF/, "").split(/\r?\n/);
  if (lines.length > MOST_LINES)
    throw new UsageError(file, `${lines.length} lines`, `at most ${MOST_LINES}`);
  const parser = new Parser(file);
  for (const [i, line] of lines.entries()) parser.line(i + 1, line);
  return parser.finish(lines);
}

class Parser {
  private readonly file: string;
  private readonly headerReader = new HeaderReader();
  private header: Header | undefined;
  private readonly names = new ScenarioNames();
  private readonly steps: Step[] = [];
  private exploration: ExplorationReader | undefined;

  constructor(file: string) {
    this.file = file;
  }

  line(number: number, text: string): void {
    const title = /^\s*scenario:/.exec(text);
    if (title !== null && this.header === undefined) {
      this.headerReader.takeTitle(this.file, number, text, title[0].length);
      return;
    }
    const reader = new LineReader(this.file, number, text);
    if (reader.isAtEnd) return;
    const label = reader.takeLabel();
    if (label !== undefined && !this.names.isTask(label.text)) {
      if (this.header === undefined) {
        this.headerReader.take(reader, label);
        return;
      }
      if (HEADER_WORDS.some((word) => word === label.text))
        throw reader.error(label, "header lines before the first statement");
    }
    this.header ??= this.headerReader.finish(reader);
    const { header, names } = this;
    this.exploration ??= new ExplorationReader(names, header.on);
    if (label === undefined && this.exploration.take(reader)) return;
    if (this.exploration.hasTasks) {
      const first = label ?? reader.take("");
      throw reader.error(first, "a task, or always, sometimes, never: tasks come last");
    }
    if (label === undefined && reader.takeIf("expect")) {
      const context = { reader, names, on: header.on, actor: MAIN };
      this.steps.push({ kind: "expect", expectation: readExpectation(context) });
      return;
    }
    const actor = names.useActor(reader, label ?? { text: MAIN, column: 0 });
    const statement = readStatement({ reader, names, on: header.on, actor });
    this.steps.push({ kind: "statement", statement });
  }

  finish(lines: readonly string[]): Scenario {
    const last = new LineReader(this.file, lines.length, "");
    const header = this.header ?? this.headerReader.finish(last);
    const scenario = { file: this.file, text: lines, header, steps: this.steps };
    const exploration = this.exploration?.finish();
    return exploration === undefined ? scenario : { ...scenario, exploration };
  }
}
