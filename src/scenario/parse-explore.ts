/**
 * Lines of a scenario that is explored: what each task does, and what is claimed of the ends.
 *
 * Entry: ExplorationReader; take() for each line after the set-up part, finish() for the result. The lines are `task NAME: STATEMENT`,
 *        then `always|sometimes|never CLAIM [if RESULTS]`.
 */

import { ERRNO_NAMES, errnoNamed } from "../base/errno.ts";
import { MAIN, type ScenarioNames } from "./names.ts";
import { readExpectation } from "./parse-expect.ts";
import { LineReader, type Word } from "./parse-line.ts";
import { readStatement } from "./parse-statement.ts";
import { integerOf } from "./parse-values.ts";
import type {
  Claim,
  ClaimKind,
  Exploration,
  Header,
  TaskResult,
  TaskStatement,
  Wanted,
} from "./syntax.ts";

export const CLAIM_KINDS = ["always", "sometimes", "never"] as const;
/** Tasks that can be explored side by side. */
export const MOST_TASKS = 8;
/** Statements of a task. */
const MOST_STATEMENTS = 100;
/** What a task cannot do: these are of the scenario as a whole. */
const NOT_IN_TASKS = ["hold", "continue", "snapshot", "restore", "mark", "thread"];

interface Script {
  readonly name: string;
  readonly statements: TaskStatement[];
}

export class ExplorationReader {
  private readonly names: ScenarioNames;
  private readonly on: Header["on"];
  private readonly scripts = new Map<string, Script>();
  private readonly claims: Claim[] = [];

  constructor(names: ScenarioNames, on: Header["on"]) {
    this.names = names;
    this.on = on;
  }

  /** True once a task was read: only tasks and claims may follow. */
  get hasTasks(): boolean {
    return this.scripts.size > 0;
  }

  /** Reads the line if it is a task's or a claim; false, with nothing taken, if it is not. */
  take(reader: LineReader): boolean {
    const word = reader.peek();
    const kind = CLAIM_KINDS.find((known) => known === word?.text);
    if (word?.text !== "task" && kind === undefined) return false;
    reader.take("");
    if (kind === undefined) this.takeTask(reader, word!);
    else this.takeClaim(reader, word!, kind);
    return true;
  }

  private takeTask(reader: LineReader, word: Word): void {
    if (this.claims.length > 0) throw reader.error(word, "tasks before what is claimed of them");
    const label = reader.takeLabel();
    if (label === undefined)
      throw reader.error(reader.take("a name for the task and a colon"), "a name and a colon");
    const { names, on } = this;
    const actorLabel = reader.takeLabel();
    const actor = names.useActor(reader, actorLabel ?? { text: MAIN, column: 0 });
    const script = this.scriptOf(reader, label);
    if (script.statements.length >= MOST_STATEMENTS)
      throw reader.error(label, `at most ${MOST_STATEMENTS} statements in a task`);
    const verb = reader.peek();
    if (verb !== undefined && NOT_IN_TASKS.includes(verb.text))
      throw reader.error(verb, "a statement that a task can make beside others");
    const [plain, wanted] = splitResults(reader);
    const statement = readStatement({ reader: plain, names, on, actor });
    if (wanted.length > 0 && statement.wanted !== undefined)
      throw reader.errorAt(reader.end, "two results", "one `-> RESULT`");
    script.statements.push({ statement, wanted });
  }

  private scriptOf(reader: LineReader, label: Word): Script {
    const known = this.scripts.get(label.text);
    if (known !== undefined) return known;
    if (this.scripts.size >= MOST_TASKS) throw reader.error(label, `at most ${MOST_TASKS} tasks`);
    if (this.names.isTask(label.text))
      throw reader.error(label, `a new name: ${label.text} is a process or thread`);
    const name = this.names.define(reader, "script", label);
    const script = { name, statements: [] };
    this.scripts.set(name, script);
    return script;
  }

  private takeClaim(reader: LineReader, word: Word, kind: ClaimKind): void {
    if (!this.hasTasks) throw reader.error(word, "tasks before it, such as `task A: write R[0]`");
    const { line } = reader;
    const condition = columnOfIf(reader);
    const given = condition < 0 ? [] : this.conditions(reader, condition);
    const text = condition < 0 ? reader.text : reader.text.slice(0, condition);
    const from = word.column + word.text.length;
    const rest = new LineReader(reader.file, line, text, from);
    const isResults = new LineReader(reader.file, line, text, from);
    isResults.take("a state such as `R[0] huge`, or `TASK -> RESULT`");
    const what = isResults.takeIf("->")
      ? ({ kind: "results", results: this.results(rest) } as const)
      : ({ kind: "state", expectation: this.state(rest) } as const);
    this.claims.push({ line, kind, what, given });
  }

  private state(reader: LineReader) {
    return readExpectation({ reader, names: this.names, on: this.on, actor: MAIN });
  }

  private conditions(reader: LineReader, column: number): readonly TaskResult[] {
    return this.results(new LineReader(reader.file, reader.line, reader.text, column + 2));
  }

  /** "A -> 0 B.1 -> EAGAIN|EINVAL" up to the end. */
  private results(reader: LineReader): readonly TaskResult[] {
    const results: TaskResult[] = [];
    do {
      const word = reader.take("TASK -> RESULT");
      const dot = word.text.indexOf(".");
      const name = dot < 0 ? word.text : word.text.slice(0, dot);
      const task = this.names.use(reader, "script", { text: name, column: word.column });
      const nr = this.scripts.get(task)!.statements.length;
      const index = dot < 0 ? -1 : integerOf(reader, word, 1, nr, dot + 1) - 1;
      const arrow = reader.take("->");
      if (arrow.text !== "->") throw reader.error(arrow, "->");
      results.push({ task, index, wanted: wantedOf(reader, reader.take("a result")) });
    } while (!reader.isAtEnd);
    return results;
  }

  /** Undefined if there are no tasks. */
  finish(): Exploration | undefined {
    if (!this.hasTasks) return undefined;
    const tasks = [...this.scripts.values()].map(({ name, statements }) => ({ name, statements }));
    return { tasks, claims: this.claims };
  }
}

/** The statement without its results, and the results: one alone stays with the statement, which knows what it can give. */
function splitResults(reader: LineReader): [LineReader, readonly Wanted[]] {
  const rest = reader.rest();
  const arrow = rest.findIndex((word) => word.text === "->");
  const results = rest[arrow + 1];
  if (arrow < 0 || results === undefined || !results.text.includes("|")) return [reader, []];
  const after = rest[arrow + 2];
  if (after !== undefined) throw reader.error(after, "the end of the line");
  const text = reader.text.slice(0, rest[arrow].column);
  const plain = new LineReader(reader.file, reader.line, text, rest[0].column);
  return [plain, wantedOf(reader, results)];
}

/** "0|EAGAIN|SIGBUS". */
function wantedOf(reader: LineReader, word: Word): readonly Wanted[] {
  const known = [...ERRNO_NAMES, "SIGSEGV", "SIGBUS", "?"];
  let offset = 0;
  return word.text.split("|").map((text) => {
    const at = { text, column: word.column + offset };
    offset += text.length + 1;
    if (/^\d/.test(text)) return integerOf(reader, at, 0, Number.MAX_SAFE_INTEGER);
    if (known.includes(text) || errnoNamed(text) !== undefined) return text;
    throw reader.unknown(
      at,
      "an errno name, a signal, a number or ?, with | between several",
      known,
    );
  });
}

/** Column of the word `if`, -1 if there is none. */
function columnOfIf(reader: LineReader): number {
  return reader.rest().find((word) => word.text === "if")?.column ?? -1;
}
