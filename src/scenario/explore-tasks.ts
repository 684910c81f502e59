/**
 * Tasks of a scenario that go on side by side on the model: whether one can take a step now, and the step.
 *
 * Entry: createTasks, canStep, takeStep.
 * Steps: a phase of an operation; a plain call as a whole, which can be made when nobody else has a lock that it takes; one access to
 *        a page. An access to a page that is not mapped as it should be is a fault, phase by phase, and then the access again.
 *        Pages that somebody migrates or swaps are waited for.
 * Holds: nobody but its own task makes an operation go on.
 */

import { PAGE_SIZE, pteIndexOf, regionOf } from "../base/address.ts";
import { assert } from "../base/assert.ts";
import { ENOMEM } from "../base/errno.ts";
import { passUnderWay } from "../collapse/khugepaged-phases.ts";
import { isAccessible, isEntryBusy } from "../fault/fault.ts";
import { beginFault } from "../fault/huge-fault-phases.ts";
import { FAULT_SIGBUS, FAULT_SIGSEGV, FAULT_WAIT, faultKindOf, poisonOf } from "../fault/kinds.ts";
import { pageTag, readPage, writePage } from "../machine/access.ts";
import { type CallLock, lockHolder } from "../sched/locks.ts";
import { canStep as canStepOperation, hold, innermostOf, stepOperation } from "../sched/runner.ts";
import { CALLER } from "../sched/state.ts";
import { createTask, taskOf } from "../sched/tasks.ts";
import { locksOf } from "../syscall/call-locks.ts";
import { MADV } from "../syscall/madvise.ts";
import type { StepResult } from "./backend.ts";
import { formatStatement } from "./format.ts";
import { addressesOf } from "./layout.ts";
import { locksWanted } from "./model-holds.ts";
import { resultIn, type StartedStatement, startIn } from "./model-operations.ts";
import type { ModelProcess, ModelState } from "./model-state.ts";
import { carryOut } from "./model-verbs.ts";
import { resultText } from "./run.ts";
import type { Action, Span, Statement, TaskScript } from "./syntax.ts";

/** How far a task is. Changes with the state: part of every checkpoint. */
export interface TaskProgress {
  /** Id in the machine's scheduler. */
  readonly task: number;
  /** Statement that is next or under way. */
  at: number;
  /** The next page of its span, where it touches pages. */
  page: number;
  /** Operation of the statement, or of the fault of a touch, that is under way; 0 none. */
  operation: number;
  started: StartedStatement | null;
  /** It has found the page's entry being migrated, and sleeps until it is not. */
  isWaiting: boolean;
  readonly results: StepResult[];
}

/** A task with what it is to do. */
export interface ExploredTask {
  readonly script: TaskScript;
  readonly progress: TaskProgress;
}

/** Tags that writes of one statement store: the same whatever the order of the tasks. */
const TAGS_PER_STATEMENT = 1 << 18;

/** Tasks that have not done anything yet. */
export function createTasks(state: ModelState, scripts: readonly TaskScript[]): ExploredTask[] {
  return scripts.map((script) => {
    const process = processOf(state, script.statements[0].statement);
    assert(process !== null, "a task begins in a process that is gone");
    const { id } = createTask(state.m, script.name, process.mm.id);
    const progress: TaskProgress = {
      task: id,
      at: 0,
      page: 0,
      operation: 0,
      started: null,
      isWaiting: false,
      results: [],
    };
    const task = { script, progress };
    beginEarly(state, task);
    return task;
  });
}

/** True when it has made all its statements, or its process is gone. */
export function isOver(state: ModelState, { script, progress }: ExploredTask): boolean {
  if (progress.operation !== 0) return false;
  const next = script.statements[progress.at];
  return next === undefined || processOf(state, next.statement) === null;
}

/** True if a step of the task would do something. */
export function canStep(state: ModelState, task: ExploredTask): boolean {
  const { progress } = task;
  if (progress.operation !== 0) return canStepOperation(state.m, progress.operation);
  if (isOver(state, task)) return false;
  return waitsFor(state, task) === null;
}

/** What a task that is in no operation waits for; null if it can go on. */
function waitsFor(state: ModelState, { script, progress }: ExploredTask): string | null {
  const { statement } = script.statements[progress.at];
  const { action } = statement;
  const { mm } = processOf(state, statement)!;
  const { m } = state;
  const faultLocks = () => lockText(state, progress.task, locksOf(mm, "fault", 0, 0));
  switch (action.verb) {
    case "read":
    case "write": {
      const [region, pte] = pageAt(state, action.span, progress.page);
      if (isAccessible(m, mm, region, pte, action.verb)) return null;
      if (progress.isWaiting && isEntryBusy(m, mm, region, pte)) return "an entry";
      return faultLocks();
    }
    case "pin":
    case "poison":
    case "soft-offline":
    case "hold-page": {
      const access = action.verb === "pin" ? "write" : "read";
      const missing = pagesOf(state, action.span).filter(
        ([region, pte]) => !isAccessible(m, mm, region, pte, access),
      );
      if (missing.some(([region, pte]) => isEntryBusy(m, mm, region, pte))) return "an entry";
      return missing.length === 0 ? null : faultLocks();
    }
    case "exit":
      if (isBusyFor(state, mm.id, progress.task)) return "another task of the process";
      return lockText(state, progress.task, locksWanted(state, mm, action));
    default:
      if (populates(action) && "span" in action)
        for (const [region, pte] of pagesOf(state, action.span))
          if (isEntryBusy(m, mm, region, pte)) return "an entry";
      return lockText(state, progress.task, locksWanted(state, mm, action));
  }
}

/** A process ends only after its threads: true if another of its tasks is in the middle of something. */
function isBusyFor({ m }: ModelState, mmId: number, task: number): boolean {
  return m.sched.operations.some(
    (op) =>
      op.task !== task &&
      op.task !== CALLER &&
      op.phase !== m.phaseTables[op.table].first &&
      taskOf(m, op.task).mmId === mmId,
  );
}

/** Calls that fault pages in, and so wait for their migration. */
function populates(action: Action): boolean {
  if (action.verb === "mlock" || action.verb === "mlock2") return true;
  const { POPULATE_READ, POPULATE_WRITE } = MADV;
  return (
    action.verb === "madvise" && [POPULATE_READ, POPULATE_WRITE].some((a) => a === action.advice)
  );
}

function lockText({ m }: ModelState, task: number, wanted: readonly CallLock[]): string | null {
  for (const { name, id, mode } of wanted)
    if (lockHolder(m, name, id, mode, task) !== null) return `${name} lock ${id} for ${mode}`;
  return null;
}

/** What keeps a task from going on, for people; "" if nothing does. */
export function waitText(state: ModelState, task: ExploredTask): string {
  const { progress } = task;
  if (progress.operation === 0) return isOver(state, task) ? "" : (waitsFor(state, task) ?? "");
  const op = innermostOf(state.m, progress.operation)!;
  const table = state.m.phaseTables[op.table];
  for (const { name, mode } of table.needs[op.phase]) {
    const text = lockText(state, op.task, [{ name, id: table.lockId(op, name), mode }]);
    if (text !== null) return `${text}, for phase ${op.phase} of ${op.table}`;
  }
  const isWaiting = table.mustWait?.(state.m, op) === true;
  return isWaiting ? `an entry, in phase ${op.phase} of ${op.table}` : "";
}

/** One step of a task that can take one. What was done, for people, if `wantsText`. */
export function takeStep(state: ModelState, task: ExploredTask, wantsText = false): string {
  const { script, progress } = task;
  const { statement } = script.statements[progress.at];
  if (progress.operation !== 0) return stepOne(state, task, wantsText);
  const { verb } = statement.action;
  if (verb === "read" || verb === "write") return touchOne(state, task, wantsText);
  if (isInPhases(statement.action)) progress.started = startIn(state, statement, progress.task);
  if (progress.started !== null) {
    begin(state, progress, progress.started.operation);
    return stepOne(state, task, wantsText);
  }
  setTag(state, task);
  const result = carryOut(state, statement);
  end(state, task, result);
  return wantsText ? `${formatStatement(statement)} -> ${resultText(result)}` : "";
}

/** The next phase of the operation under way. */
function stepOne(state: ModelState, task: ExploredTask, wantsText: boolean): string {
  const { m } = state;
  const { progress } = task;
  const before = wantsText ? phaseText(state, progress.operation) : "";
  const stepped = stepOperation(m, progress.operation);
  if (stepped !== "done") {
    if (!wantsText) return "";
    return `${before} ${stepped === "blocked" ? "waits" : `-> ${phaseText(state, progress.operation)}`}`;
  }
  progress.operation = 0;
  const { started } = progress;
  progress.started = null;
  if (started === null) return `${before} -> ${endFault(state, task)}`;
  const result = resultIn(state, started);
  assert(result !== "again", "a touch is explored as another statement");
  end(state, task, result);
  return wantsText ? `${before} -> ${resultText(result)}` : "";
}

function phaseText({ m }: ModelState, operation: number): string {
  const op = innermostOf(m, operation);
  return op === null ? "done" : `${op.table}: ${op.phase}`;
}

/** One access if the page is mapped as it should be, else the beginning of a fault. */
function touchOne(state: ModelState, task: ExploredTask, wantsText: boolean): string {
  const { m } = state;
  const { progress, script } = task;
  const { statement } = script.statements[progress.at];
  const { action } = statement;
  assert(action.verb === "read" || action.verb === "write", "what is touched is a page");
  const { mm, shadow } = processOf(state, statement)!;
  const [region, pte, page] = pageAt(state, action.span, progress.page);
  progress.isWaiting = false;
  if (!isAccessible(m, mm, region, pte, action.verb)) {
    begin(state, progress, beginFault(m, progress.task, mm, region, pte, action.verb).id);
    return stepOne(state, task, wantsText);
  }
  if (action.verb === "write") {
    const tag = tagOf(task) + progress.page;
    writePage(m, mm, region, pte, tag);
    shadow.write(page, tag);
  } else {
    readPage(m, mm, region, pte);
    const seen = pageTag(m, mm, region, pte);
    const at = action.span.first + progress.page * action.span.step;
    if (!shadow.allows(page, seen)) {
      end(state, task, { kind: "wrongContents", page: at });
      return wantsText ? `read of page ${at} sees ${seen}` : "";
    }
  }
  progress.page++;
  if (progress.page >= nrPagesOf(state, action.span)) end(state, task, { kind: "value", value: 0 });
  return wantsText ? `${action.verb} of page ${page % 512} of its region` : "";
}

/** A fault is over: the access is made again, or it was the last. */
function endFault(state: ModelState, task: ExploredTask): string {
  const { progress } = task;
  const { result } = taskOf(state.m, progress.task);
  if (result >= 0) return faultKindOf(result);
  if (result === FAULT_WAIT) {
    progress.isWaiting = true;
    return "waits for the entry";
  }
  const ended = refused(result);
  end(state, task, ended);
  return resultText(ended);
}

function refused(result: number): StepResult {
  if (result === FAULT_SIGSEGV) return { kind: "signal", signal: "SIGSEGV" };
  return result === FAULT_SIGBUS || poisonOf(result) !== null
    ? { kind: "signal", signal: "SIGBUS" }
    : { kind: "value", value: -ENOMEM };
}

function begin({ m }: ModelState, progress: TaskProgress, operation: number): void {
  progress.operation = operation;
  hold(m, operation);
}

/** The statement has come to its result. */
function end(state: ModelState, task: ExploredTask, result: StepResult): void {
  const { progress } = task;
  progress.results.push(result);
  progress.at++;
  progress.page = 0;
  beginEarly(state, task);
}

/**
 * Operations that do not look at anything when they begin are begun at once, so that beginning is no step of its own: what begins
 * later would be the same.
 */
function beginEarly(state: ModelState, { script, progress }: ExploredTask): void {
  const next = script.statements[progress.at]?.statement;
  if (next === undefined || !beginsBlindly(next.action) || processOf(state, next) === null) return;
  if (next.action.verb === "khugepaged" && passUnderWay(state.m) !== null) return;
  progress.started = startIn(state, next, progress.task);
  if (progress.started !== null) begin(state, progress, progress.started.operation);
}

/** What a pass of khugepaged finds does not matter when it begins, nor the memory that is to be collapsed. */
function beginsBlindly(action: Action): boolean {
  if (action.verb === "khugepaged") return true;
  return action.verb === "madvise" && action.advice === MADV.COLLAPSE;
}

/** What changes contents is one step: the plain record of them is changed in that step too. */
function isInPhases(action: Action): boolean {
  if (action.verb !== "madvise") return true;
  return action.advice === MADV.COLLAPSE || action.advice === MADV.PAGEOUT;
}

function setTag(state: ModelState, task: ExploredTask): void {
  state.nextTag = tagOf(task);
}

/** First tag of the statement under way. Those of the set-up part are smaller. */
function tagOf({ progress }: ExploredTask): number {
  return (progress.task * 100 + progress.at + 1) * TAGS_PER_STATEMENT;
}

function processOf(state: ModelState, { actor }: Statement): ModelProcess | null {
  const name = state.tasks.get(actor);
  return name === undefined ? null : (state.processes.get(name) ?? null);
}

/** Region, PTE index and page number of the n-th page of a span. */
function pageAt(state: ModelState, span: Span, n: number): readonly [number, number, number] {
  const address = addressesOf(state.layout, span).start + n * span.step * PAGE_SIZE;
  return [regionOf(address), pteIndexOf(address), address / PAGE_SIZE];
}

function nrPagesOf(state: ModelState, span: Span): number {
  const { start, end: to } = addressesOf(state.layout, span);
  return Math.ceil((to - start) / PAGE_SIZE / span.step);
}

function pagesOf(state: ModelState, span: Span): (readonly [number, number, number])[] {
  return Array.from({ length: nrPagesOf(state, span) }, (_, n) => pageAt(state, span, n));
}
