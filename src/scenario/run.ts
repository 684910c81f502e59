/**
 * Carries a scenario through a back end, or through two with a comparison after every statement.
 *
 * Entry: runScenario, runBoth. Pure: the back ends do what is to be done.
 * Holds: a statement that gave something else than it should ends the run, because what follows would mean nothing; a failed
 *        expectation does not. Back ends are ended whatever happens.
 */

import { errnoName, errnoNamed } from "../base/errno.ts";
import { MADV } from "../syscall/madvise.ts";
import { type Backend, CannotDo, type StepResult, type TracedEvent } from "./backend.ts";
import { compareObservations, type Difference } from "./compare.ts";
import { checkExpectation, eventText } from "./expect.ts";
import { MAIN } from "./names.ts";
import type { Observation } from "./observation.ts";
import type {
  Expectation,
  Exploration,
  Scenario,
  Statement,
  Step,
  TaskResult,
  Wanted,
} from "./syntax.ts";

/** Something that is not as it should be. */
export interface Finding {
  readonly line: number;
  /** Column to point at, -1 for the whole line. */
  readonly column: number;
  readonly wanted: string;
  readonly seen: string;
  /** Which back end was seen; "both" for a difference between the two. */
  readonly where: "model" | "kernel" | "both";
  readonly differences: readonly Difference[];
}

export interface RunResult {
  readonly findings: readonly Finding[];
  readonly nrStatements: number;
  readonly nrExpectations: number;
}

/** What follows a run step by step. */
export interface RunOptions {
  /** Called when all steps are done or one has failed, before the back end ends: dumps look at it then. */
  readonly atEnd?: (findings: readonly Finding[]) => void;
  /** Called after every statement with what can be seen; asking for it costs an observation a statement. */
  readonly afterStatement?: (statement: Statement, result: StepResult, seen: Observation) => void;
}

export function runScenario(
  scenario: Scenario,
  backend: Backend,
  options: RunOptions = {},
): RunResult {
  return runOn(scenario, [backend], options);
}

/** Runs on both; `left` and `right` are compared after every statement, and expectations are held against both. */
export function runBoth(
  scenario: Scenario,
  left: Backend,
  right: Backend,
  options: RunOptions = {},
): RunResult {
  return runOn(scenario, [left, right], options);
}

function runOn(scenario: Scenario, backends: readonly Backend[], options: RunOptions): RunResult {
  const begun: Backend[] = [];
  try {
    for (const backend of backends) {
      begun.push(backend);
      backend.begin(scenario.header);
    }
    const run = new Run(
      backends.map((backend) => new Side(backend)),
      options,
    );
    const isWhole = scenario.steps.every((step) => run.step(step));
    if (isWhole && scenario.exploration !== undefined) run.explored(scenario.exploration);
    const result = run.result();
    options.atEnd?.(result.findings);
    return result;
  } finally {
    for (const backend of begun) backend.end();
  }
}

/** A page freed lazily waits in a per-CPU batch until the batch is full: smaps' LazyFree is exact once they are drained. */
function leavesBatches({ action }: Statement): boolean {
  return action.verb === "madvise" && action.advice === MADV.FREE;
}

/** One back end and what was seen of it. */
class Side {
  readonly backend: Backend;
  marked: Observation;
  private plain: Observation | null = null;
  private drained: Observation | null = null;

  constructor(backend: Backend) {
    this.backend = backend;
    this.marked = backend.observe({ isDrained: false });
  }

  /** State after the last statement; looked at once. */
  now(isDrained = false): Observation {
    if (isDrained) this.drained ??= this.backend.observe({ isDrained: true });
    else this.plain ??= this.drained ?? this.backend.observe({ isDrained: false });
    return isDrained ? this.drained! : this.plain!;
  }

  forget(): void {
    this.plain = null;
    this.drained = null;
  }
}

class Run {
  private readonly sides: readonly Side[];
  private readonly options: RunOptions;
  private readonly findings: Finding[] = [];
  private readonly processOf = new Map<string, string>([[MAIN, MAIN]]);
  /** The statement in which each task was held last. */
  private readonly held = new Map<string, Statement>();
  private nrStatements = 0;
  private nrExpectations = 0;

  constructor(sides: readonly Side[], options: RunOptions) {
    this.sides = sides;
    this.options = options;
  }

  result(): RunResult {
    const { findings, nrStatements, nrExpectations } = this;
    return { findings, nrStatements, nrExpectations };
  }

  /** False if the run ends here. */
  step(step: Step): boolean {
    const { line } = step.kind === "expect" ? step.expectation : step.statement;
    try {
      if (step.kind === "statement") return this.statement(step.statement);
      this.expectation(step.expectation);
      return true;
    } catch (error) {
      // A back end knows what it cannot do, this run where it was asked to.
      if (error instanceof CannotDo && error.line === 0) throw new CannotDo(line, error.message);
      throw error;
    }
  }

  /** One schedule of the tasks: one after the other. What is claimed of every end must hold of this one. */
  explored({ tasks, claims }: Exploration): void {
    this.mark();
    const results = new Map<string, readonly StepResult[]>();
    for (const { name, statements } of tasks) {
      const ofTask: StepResult[] = [];
      results.set(name, ofTask);
      for (const { statement, wanted } of statements) {
        const either = wanted.length > 0 ? wanted : [statement.wanted ?? "success"];
        if (!this.statement(statement, either, (result) => ofTask.push(result))) return;
      }
    }
    for (const { kind, what, given } of claims) {
      const isMeant = kind === "always" && given.every((one) => gaveResult(results, one));
      // Events are those of the last statement here.
      const isState = what.kind === "state" && what.expectation.subject.kind !== "trace";
      if (isMeant && isState) this.expectation(what.expectation);
    }
  }

  private mark(): void {
    for (const side of this.sides) {
      side.forget();
      side.marked = side.now();
    }
  }

  private statement(
    statement: Statement,
    either: readonly Wanted[] = [this.wantedOf(statement)],
    note: (result: StepResult) => void = () => {},
  ): boolean {
    this.nrStatements++;
    const results = this.sides.map((side) => {
      side.forget();
      return side.backend.step(statement);
    });
    this.noteTasks(statement);
    if (leavesBatches(statement)) for (const side of this.sides) side.now(true);
    let isRight = true;
    for (const [i, result] of results.entries()) {
      if (either.some((wanted) => isWanted(result, wanted))) continue;
      isRight = false;
      this.note(statement.line, either.join(" or "), resultText(result), this.sides[i]);
    }
    if (!isRight || !this.agree(statement, results)) return false;
    note(results[0]);
    if (statement.action.verb === "mark") for (const side of this.sides) side.marked = side.now();
    this.options.afterStatement?.(statement, results[0], this.sides[0].now());
    return true;
  }

  /** On two back ends: the same result and the same sight. */
  private agree({ line }: Statement, results: readonly StepResult[]): boolean {
    if (this.sides.length < 2) return true;
    const [left, right] = this.sides;
    const texts = results.map(resultText);
    const residents = results.map((result) =>
      result.kind === "value" ? (result.resident ?? []).join("") : "",
    );
    const differences: Difference[] = [];
    if (texts[0] !== texts[1])
      differences.push({ what: "result", left: texts[0], right: texts[1] });
    if (residents[0] !== residents[1])
      differences.push({ what: "mincore", left: residents[0], right: residents[1] });
    differences.push(...eventDifferences(left.backend.events(), right.backend.events()));
    differences.push(...compareObservations(left.now(), right.now()));
    if (differences.length === 0) return true;
    const names = this.sides.map(({ backend }) => backend.name).join(" and ");
    this.findings.push({
      line,
      column: -1,
      wanted: `the same on ${names}`,
      seen: `${differences[0].what} differs`,
      where: "both",
      differences,
    });
    return false;
  }

  private expectation(expectation: Expectation): void {
    this.nrExpectations++;
    const isDrained = expectation.conditions.some((condition) => condition.key === "flags");
    for (const side of this.sides) {
      const { backend, marked } = side;
      const seen = { backend, marked, now: side.now(isDrained), processOf: this.processOf };
      const found = checkExpectation(seen, expectation);
      if (found !== null) this.note(expectation.line, found.wanted, found.seen, side, found.column);
    }
  }

  private note(line: number, wanted: string, seen: string, side: Side, column = -1): void {
    const where = side.backend.name;
    this.findings.push({ line, column, wanted, seen, where, differences: [] });
  }

  /** A statement that runs on after a hold should give what it said when it was held. */
  private wantedOf({ action, wanted }: Statement): Wanted {
    const held = action.verb === "continue" ? this.held.get(action.name) : undefined;
    return wanted ?? held?.wanted ?? "success";
  }

  /** Which process a thread belongs to, and what was held. */
  private noteTasks({ actor, action }: Statement): void {
    if (action.verb === "fork") this.processOf.set(action.name, action.name);
    if (action.verb === "hold") this.held.set(action.statement.actor, action.statement);
    if (action.verb === "thread")
      this.processOf.set(action.name, this.processOf.get(actor) ?? actor);
  }
}

/** The first event that is not the same; nothing if one side cannot tell. */
function eventDifferences(
  left: readonly TracedEvent[] | null,
  right: readonly TracedEvent[] | null,
): Difference[] {
  if (left === null || right === null) return [];
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const [a, b] = [left[i], right[i]].map((event) => (event ? eventText(event) : "no more"));
    if (a !== b) return [{ what: `event ${i + 1}`, left: a, right: b }];
  }
  return [];
}

/** True if the statement of a task that is meant gave one of the results. */
function gaveResult(
  results: ReadonlyMap<string, readonly StepResult[]>,
  { task, index, wanted }: TaskResult,
): boolean {
  const result = results.get(task)?.at(index);
  return result !== undefined && wanted.some((one) => isWanted(result, one));
}

/** True if the statement gave what its line says. Contents that were read wrongly are never wanted. */
export function isWanted(result: StepResult, wanted: Wanted): boolean {
  if (result.kind === "wrongContents") return false;
  if (wanted === "?") return true;
  if (result.kind === "signal") return result.signal === wanted;
  if (wanted === "success") return result.value >= 0;
  if (typeof wanted === "number") return result.value === wanted;
  return result.value < 0 && errnoNamed(wanted) === -result.value;
}

/** "0", "EINVAL", "SIGSEGV" or what was read wrongly. */
export function resultText(result: StepResult): string {
  if (result.kind === "signal") return result.signal;
  if (result.kind === "wrongContents") return `wrong contents in page ${result.page}`;
  return result.value < 0 ? errnoName(result.value) : String(result.value);
}
