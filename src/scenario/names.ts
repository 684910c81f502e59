/**
 * The names a scenario may use at some point of it: processes, threads, ranges, pins, groups, snapshots.
 *
 * Entry: ScenarioNames. The parser asks it for every name and tells it what each statement makes of them, in order; nothing
 *        is carried out, so a `fork` counts as having made its child whatever it is expected to give.
 */

import { HEAP } from "./layout.ts";
import type { LineReader, Word } from "./parse-line.ts";

export const MAIN = "main";
export const NAME = /^[A-Za-z][A-Za-z0-9_-]{0,63}$/;
/** Words that cannot be names, because a line would read as something else. */
const RESERVED = new Set([
  ...["expect", "status", "faults", "counters", "knob", "trace", "seek", HEAP],
  ...["task", "always", "sometimes", "never", "if"],
]);
const MOST_OF_A_KIND = 1000;

/** A "task" is a process or a thread; a "script" is what the explorer runs beside others. */
export type NameKind = "task" | "script" | "range" | "pin" | "memcg" | "snapshot";

const KIND_WORDS: Readonly<Record<NameKind, string>> = {
  task: "process or thread",
  script: "task to be explored",
  range: "range",
  pin: "pin",
  memcg: "memory cgroup",
  snapshot: "snapshot",
};

interface Entry {
  readonly line: number;
  /** Tasks: the process that it is or is a thread of. Others: 0. */
  readonly processOf: string;
  /** Line on which it ended; 0 while it lives. */
  endLine: number;
}

type Table = Map<string, Entry>;

export class ScenarioNames {
  private tables: Record<NameKind, Table> = {
    task: new Map([[MAIN, { line: 0, processOf: MAIN, endLine: 0 }]]),
    script: new Map(),
    range: new Map(),
    pin: new Map(),
    memcg: new Map(),
    snapshot: new Map(),
  };
  private readonly saved = new Map<
    string,
    { readonly tables: Record<NameKind, Table>; readonly held: ReadonlySet<string> }
  >();
  /** Task that a model-only `hold` stopped in the middle of a statement. */
  private held = new Set<string>();

  /** A new name. */
  define(reader: LineReader, kind: NameKind, word: Word, processOf = ""): string {
    const name = checkedName(reader, kind, word);
    const table = this.tables[kind];
    const known = table.get(name);
    if (known !== undefined) {
      const since = known.line === 0 ? "from the start" : `on line ${known.line}`;
      throw reader.error(word, `a new name: ${name} was given ${since}`);
    }
    if (table.size >= MOST_OF_A_KIND)
      throw reader.error(word, `at most ${MOST_OF_A_KIND} names of a kind`);
    const owner = kind === "task" && processOf === "" ? name : processOf;
    table.set(name, { line: reader.line, processOf: owner, endLine: 0 });
    return name;
  }

  /** The heap exists from the first `brk` on. */
  defineHeap(line: number): void {
    if (!this.tables.range.has(HEAP))
      this.tables.range.set(HEAP, { line, processOf: "", endLine: 0 });
  }

  /** A name that must be known and not ended. */
  use(reader: LineReader, kind: NameKind, word: Word): string {
    const entry = this.tables[kind].get(word.text);
    if (entry === undefined) {
      const known = this.living(kind);
      const list = known.length === 0 ? "none yet" : known.slice(0, 12).join(", ");
      throw reader.unknown(word, `a ${KIND_WORDS[kind]} by name (${list})`, known);
    }
    if (entry.endLine > 0)
      throw reader.error(
        word,
        `a ${KIND_WORDS[kind]}; ${word.text} ended on line ${entry.endLine}`,
      );
    return word.text;
  }

  /** A task that is free to act. */
  useActor(reader: LineReader, word: Word): string {
    const name = this.use(reader, "task", word);
    if (this.held.has(name)) throw reader.error(word, `a task that is not held; continue ${name}`);
    return name;
  }

  isTask(name: string): boolean {
    return this.tables.task.has(name);
  }

  living(kind: NameKind): string[] {
    return [...this.tables[kind]].filter(([, entry]) => entry.endLine === 0).map(([name]) => name);
  }

  processOf(task: string): string {
    return this.tables.task.get(task)?.processOf ?? task;
  }

  /** A thread ends alone, a process with its threads. */
  endTask(task: string, line: number): void {
    for (const [name, entry] of this.tables.task)
      if (name === task || entry.processOf === task) entry.endLine = line;
  }

  release(pin: string): void {
    this.tables.pin.delete(pin);
  }

  hold(task: string): void {
    this.held.add(task);
  }

  /** The task runs on; it must be held. */
  resume(reader: LineReader, word: Word): string {
    const name = this.use(reader, "task", word);
    if (!this.held.delete(name)) throw reader.error(word, "a task that is held");
    return name;
  }

  save(snapshot: string): void {
    this.saved.set(snapshot, { tables: copied(this.tables), held: new Set(this.held) });
  }

  /** What was known at the snapshot is known again; snapshots themselves stay. */
  restore(snapshot: string): void {
    const { snapshot: snapshots, range } = this.tables;
    const { tables, held } = this.saved.get(snapshot)!;
    this.tables = { ...copied(tables), snapshot: snapshots, range };
    this.held = new Set(held);
  }
}

function checkedName(reader: LineReader, kind: NameKind, word: Word): string {
  if (!NAME.test(word.text))
    throw reader.error(
      word,
      `a name for a ${KIND_WORDS[kind]}: a letter, then letters, digits, _ or -`,
    );
  if (RESERVED.has(word.text))
    throw reader.error(word, "a name that is not a word of the language");
  return word.text;
}

function copied(tables: Record<NameKind, Table>): Record<NameKind, Table> {
  const copy = (table: Table): Table =>
    new Map([...table].map(([name, entry]) => [name, { ...entry }]));
  return {
    task: copy(tables.task),
    script: copy(tables.script),
    range: copy(tables.range),
    pin: copy(tables.pin),
    memcg: copy(tables.memcg),
    snapshot: copy(tables.snapshot),
  };
}
