/**
 * A scenario with tasks, on the model, as the explorer sees it: steps, ends, and what is wrong in either.
 *
 * Entry: ScenarioWorld.
 * Holds: what is found is found once: an end state that was seen before is not looked at again.
 */

import { PAGE_SIZE, pteIndexOf, regionOf } from "../base/address.ts";
import { AssertionFailure } from "../base/assert.ts";
import { isPageEmpty, pageTag, readPage } from "../machine/access.ts";
import { checkMachine } from "../machine/check.ts";
import { type Checkpoint, Checkpointer } from "../machine/checkpoint.ts";
import { isMigrating } from "../mm/migration.ts";
import type { World } from "../sched/explorer.ts";
import { isLocked } from "../sched/locks.ts";
import type { StepResult } from "./backend.ts";
import { CannotDo } from "./backend.ts";
import { checkExpectation, eventText, type Mismatch } from "./expect.ts";
import {
  canStep,
  createTasks,
  type ExploredTask,
  isOver,
  takeStep,
  waitText,
} from "./explore-tasks.ts";
import type { ModelBackend } from "./model-backend.ts";
import type { ModelProcess, ModelState } from "./model-state.ts";
import type { Observation } from "./observation.ts";
import { observationLines } from "./observation-text.ts";
import { isWanted, resultText } from "./run.ts";
import type { Claim, Exploration, TaskResult } from "./syntax.ts";

/** Task numbers in the order of their steps. */
export type Schedule = readonly number[];

/** Ends that look alike: the same results, pages, mappings and counters. */
export interface Outcome {
  /** Results of the statements of each task, as the scenario language writes them. */
  readonly results: readonly (readonly string[])[];
  /** What can be seen, as recordings write it. */
  readonly lines: ReadonlyMap<string, string>;
  readonly isDeadlock: boolean;
  /** States of the whole machine that look like this. */
  nrStates: number;
  /** The first schedule that was found to end so. */
  readonly witness: Schedule;
}

export type FindingKind =
  | "invariant"
  | "contents"
  | "deadlock"
  | "assertion"
  | "result"
  | "claim"
  | "unseen";

/** Something that is not as it should be. */
export interface ExploreFinding {
  readonly kind: FindingKind;
  /** Line of the statement or claim, 0 if it is about none. */
  readonly line: number;
  readonly text: string;
  /** Empty for what no schedule shows. */
  readonly witness: Schedule;
}

/** When the whole machine and the contents of all pages are checked. */
export type CheckWhen = "end" | "every";

export class ScenarioWorld implements World<Checkpoint> {
  readonly outcomes: Outcome[] = [];
  readonly findings: ExploreFinding[] = [];
  /** Claims of the kind `sometimes` that an end has borne out. */
  readonly seen = new Set<Claim>();
  readonly tasks: readonly ExploredTask[];
  /** What the last step did; only while `wantsText`. */
  lastStep = "";
  wantsText = false;

  private readonly backend: ModelBackend;
  private readonly exploration: Exploration;
  private readonly check: CheckWhen;
  private readonly marked: Observation;
  private readonly checkpointer: Checkpointer;
  private readonly outcomeOfState = new Map<string, number>();
  private readonly outcomeOfText = new Map<string, number>();
  private readonly foundTexts = new Set<string>();

  /** The set-up part has run on `backend`. */
  constructor(backend: ModelBackend, exploration: Exploration, check: CheckWhen) {
    this.backend = backend;
    this.exploration = exploration;
    this.check = check;
    this.marked = backend.observe({ isDrained: false });
    const { state } = backend;
    this.tasks = createTasks(state, exploration.tasks);
    const { m } = state;
    // Events of the tasks are told at the end: they are part of the state.
    state.eventLog.clear();
    const fixed = [m.profile, m.phaseTables, m.reclaim, m.mmuNotifier];
    const statements = exploration.tasks.flatMap((task) =>
      task.statements.map(({ statement }) => statement),
    );
    this.checkpointer = new Checkpointer(
      [state, ...this.tasks.map(({ progress }) => progress)],
      [...fixed, ...statements, state.observer, state.snapshots],
      (column) => {
        const isOfEntries = column === m.tables.payload || column === m.tables.flags;
        return isOfEntries ? m.tables.nrRows * 512 : (column as Uint8Array).length;
      },
    );
    this.discard(this.save()); // the first, which keys refer to
  }

  runnable(): readonly number[] {
    const { tasks } = this;
    const ready: number[] = [];
    for (let i = 0; i < tasks.length; i++) if (canStep(this.state, tasks[i])) ready.push(i);
    return ready;
  }

  step(task: number, schedule: Schedule): boolean {
    const one = this.tasks[task];
    const { line } = one.script.statements[one.progress.at].statement;
    try {
      this.lastStep = takeStep(this.state, one, this.wantsText);
    } catch (error) {
      if (error instanceof CannotDo)
        throw error.line === 0 ? new CannotDo(line, error.message) : error;
      // A defect of the engine, asserted or not: the schedule is worth more than the place where it was noticed.
      const text = error instanceof AssertionFailure ? error.message : String(error);
      this.find("assertion", line, text, schedule);
      return false;
    }
    return this.check === "end" || this.isWhole(line, schedule);
  }

  finish(schedule: Schedule): number {
    const key = this.checkpointer.keyNow();
    const known = this.outcomeOfState.get(key);
    if (known !== undefined) return known;
    const outcome = this.outcomeNow(schedule);
    this.outcomeOfState.set(key, outcome);
    return outcome;
  }

  save(): Checkpoint {
    return this.checkpointer.save();
  }

  restore(saved: Checkpoint): void {
    this.checkpointer.restore(saved);
  }

  discard(saved: Checkpoint): void {
    this.checkpointer.discard(saved);
  }

  keyOf(saved: Checkpoint): string {
    return this.checkpointer.keyOf(saved);
  }

  get state(): ModelState {
    return this.backend.state;
  }

  private outcomeNow(schedule: Schedule): number {
    const isDeadlock = this.tasks.some((task) => !isOver(this.state, task));
    const now = this.backend.observe({ isDrained: false });
    const lines = new Map(observationLines(this.sinceMark(now)));
    const events = this.backend.events() ?? [];
    if (events.length > 0) lines.set("trace", events.map(eventText).join("; "));
    const results = this.tasks.map(({ progress }) => progress.results.map(resultText));
    const text = JSON.stringify([isDeadlock, results, [...lines]]);
    let number = this.outcomeOfText.get(text);
    if (number === undefined) {
      number = this.outcomes.length;
      this.outcomeOfText.set(text, number);
      this.outcomes.push({ results, lines, isDeadlock, nrStates: 0, witness: [...schedule] });
    }
    this.outcomes[number].nrStates++;
    this.isWhole(0, schedule);
    if (isDeadlock) this.find("deadlock", 0, this.deadlockText(), schedule);
    else this.judge(now, schedule);
    return number;
  }

  /** Results and claims. */
  private judge(now: Observation, schedule: Schedule): void {
    for (const { script, progress } of this.tasks)
      for (const [i, result] of progress.results.entries()) {
        const { statement, wanted } = script.statements[i];
        const either = wanted.length > 0 ? wanted : [statement.wanted ?? "success"];
        if (either.some((one) => isWanted(result, one))) continue;
        const text = `task ${script.name} gives ${resultText(result)}, not ${either.join(" or ")}`;
        this.find("result", statement.line, text, schedule);
      }
    for (const claim of this.exploration.claims) {
      if (!claim.given.every((one) => this.gave(one))) continue;
      const otherwise = this.otherwise(claim, now);
      const { line } = claim;
      if (claim.kind === "sometimes" && otherwise === null) this.seen.add(claim);
      else if (claim.kind === "never" && otherwise === null)
        this.find("claim", line, "an end that must never be", schedule);
      else if (claim.kind === "always" && otherwise !== null)
        this.find("claim", line, `expected ${otherwise.wanted}, found ${otherwise.seen}`, schedule);
    }
  }

  /** What is not as the claim says; null if it holds here. */
  private otherwise({ what }: Claim, now: Observation): Pick<Mismatch, "wanted" | "seen"> | null {
    if (what.kind === "results") {
      const wrong = what.results.find((one) => !this.gave(one));
      if (wrong === undefined) return null;
      const result = this.resultOf(wrong);
      return {
        wanted: `${wrong.task} -> ${wrong.wanted.join("|")}`,
        seen: result === undefined ? "nothing" : resultText(result),
      };
    }
    const { backend, marked } = this;
    const processOf = this.state.tasks;
    return checkExpectation({ backend, marked, now, processOf }, what.expectation);
  }

  private gave(one: TaskResult): boolean {
    const result = this.resultOf(one);
    return result !== undefined && one.wanted.some((wanted) => isWanted(result, wanted));
  }

  private resultOf({ task, index }: TaskResult): StepResult | undefined {
    const { progress, script } = this.tasks.find(({ script: { name } }) => name === task)!;
    return progress.results[index < 0 ? script.statements.length - 1 : index];
  }

  /** Counters since the tasks began. */
  private sinceMark(now: Observation): Observation {
    const counters: Record<string, number> = {};
    for (const [name, nr] of Object.entries(now.counters))
      if (nr !== (this.marked.counters[name] ?? 0))
        counters[name] = nr - (this.marked.counters[name] ?? 0);
    return { ...now, counters };
  }

  /** The invariants of the machine and the contents of all pages. */
  private isWhole(line: number, schedule: Schedule): boolean {
    const { m, extra } = this.state;
    const problems = checkMachine(m, extra);
    if (problems.length > 0)
      this.find("invariant", line, problems.slice(0, 3).join("; "), schedule);
    const wrong = [...this.state.processes]
      .map(([name, process]) => contentsProblem(this.state, name, process))
      .find((text) => text !== null);
    if (wrong !== undefined) this.find("contents", line, wrong, schedule);
    return problems.length === 0 && wrong === undefined;
  }

  private deadlockText(): string {
    const waiting = this.tasks
      .filter((task) => !isOver(this.state, task))
      .map((task) => `${task.script.name} waits for ${waitText(this.state, task)}`);
    return waiting.join("; ");
  }

  private find(kind: FindingKind, line: number, text: string, schedule: Schedule): void {
    const known = `${kind} ${line} ${text}`;
    if (this.foundTexts.has(known)) return;
    this.foundTexts.add(known);
    this.findings.push({ kind, line, text, witness: [...schedule] });
  }
}

/**
 * The first page that does not hold what was last written to it. Not looked at: an address space that somebody is changing under its
 * lock, and entries that are being migrated.
 */
function contentsProblem(
  { m, layout }: ModelState,
  name: string,
  { mm, shadow }: ModelProcess,
): string | null {
  const isBusy = m.sched.locks.some(
    (lock) => lock.name === "mmap" && lock.id === mm.id && lock.mode === "write",
  );
  if (isBusy) return null;
  const isQuiet = m.sched.operations.length === 0 && !isLocked(m, "mmap", mm.id);
  for (const range of layout.ranges.values())
    for (const vma of mm.vmas) {
      const from = Math.max(vma.start, range.start);
      const to = Math.min(vma.end, range.start + range.nrPages * PAGE_SIZE);
      for (let at = from; at < to; at += PAGE_SIZE) {
        const place = [regionOf(at), pteIndexOf(at)] as const;
        let tag = pageTag(m, mm, ...place);
        if (tag < 0 && isPageEmpty(m, mm, ...place)) tag = 0;
        if (tag < 0 && isMigrating(m.tables, mm.root, ...place)) continue;
        // Swapped. At the end nobody minds if it comes back; what is no memory then was never promised.
        if (tag < 0 && isQuiet && readPage(m, mm, ...place) >= 0) tag = pageTag(m, mm, ...place);
        if (tag >= 0 && !shadow.allows(at / PAGE_SIZE, tag))
          return `page ${range.name}[${(at - range.start) / PAGE_SIZE}] of ${name} holds another write than the last`;
      }
    }
  return null;
}
