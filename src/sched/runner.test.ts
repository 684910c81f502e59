import { expect, test } from "vitest";
import { definePhases, listPhases, type Phase } from "./phase-table.ts";
import {
  callOperation,
  findOperation,
  innermostOf,
  letOthersRun,
  release,
  runAtOnce,
  runToEnd,
  runToPhase,
  startOperation,
  stepOperation,
} from "./runner.ts";
import { createSched, type Operation, type SchedState } from "./state.ts";
import { createTask, taskOf } from "./tasks.ts";

interface State extends SchedState {
  readonly log: string[];
}

interface Walk extends Operation {
  readonly mm: number;
  readonly head: number;
}

function phase(name: string, holds: string, next: string): Phase<State, Walk> {
  return {
    holds,
    run(m, op) {
      m.log.push(`${op.id}:${name}`);
      op.result = -7;
      return next;
    },
  };
}

/** Locks are taken, kept, changed and dropped along these rows. */
const walk = definePhases<State, Walk>({
  name: "walk",
  about: "four phases",
  first: "look",
  phases: {
    look: phase("look", "mmap:read", "work"),
    work: phase("work", "mmap:read folio", "write"),
    write: phase("write", "mmap", "rest"),
    rest: phase("rest", "", "done"),
  },
  lockId: (op, name) => (name === "mmap" ? op.mm : op.head),
  frames: () => [],
});

/** Calls a walk in its first phase, and takes over its result. */
const outer = definePhases<State, Walk>({
  name: "outer",
  about: "calls a walk",
  first: "begin",
  phases: {
    begin: {
      holds: "folio",
      run(m, op) {
        m.log.push("begin");
        callOperation<State, Walk>(m, inner, op, { mm: op.mm, head: op.head });
        return "end";
      },
    },
    end: {
      holds: "",
      run(m, op) {
        m.log.push(`end ${op.callResult}`);
        op.result = op.callResult;
        return "done";
      },
    },
  },
  lockId: (op) => op.head,
  frames: () => [],
});

const inner = definePhases<State, Walk>({
  name: "inner",
  about: "runs under its caller's folio lock",
  first: "one",
  phases: { one: phase("one", "folio anonVma", "two"), two: phase("two", "folio", "done") },
  lockId: (op) => op.head,
  frames: () => [],
});

function state(): State {
  const phaseTables = { walk, outer, inner } as unknown as SchedState["phaseTables"];
  return { sched: createSched(), phaseTables, events: null, log: [] };
}

function held(m: State): string[] {
  return m.sched.locks.map(({ name, id, mode, task }) => `${task}:${name} ${id} ${mode}`);
}

test("a lock that successive phases name stays held between them, others come and go", () => {
  const m = state();
  const task = createTask(m, "a");
  const op = startOperation(m, walk, task.id, { mm: 3, head: 64 });
  const seen: string[][] = [held(m)];
  while (stepOperation(m, op.id) === "ran") seen.push(held(m));
  expect(seen).toEqual([[], ["1:mmap 3 read"], [], []]);
  expect(held(m)).toEqual([]);
});

test("inside a phase exactly its locks are held", () => {
  const m = state();
  const seen: string[] = [];
  m.events = { emit: (_event, _op, number) => seen.push(`${number} ${held(m).join(", ")}`) };
  const op = startOperation(m, walk, createTask(m, "a").id, { mm: 3, head: 64 });
  runToEnd(m, op.id);
  expect(seen).toEqual([
    "0 1:mmap 3 read",
    "1 1:mmap 3 read, 1:folio 64 write",
    "2 1:mmap 3 write",
    "3 ",
  ]);
});

test("who finds a lock taken waits and changes nothing; it goes on when the lock is dropped", () => {
  const m = state();
  const [a, b] = [createTask(m, "a"), createTask(m, "b")];
  const first = startOperation(m, walk, a.id, { mm: 3, head: 64 });
  const second = startOperation(m, walk, b.id, { mm: 3, head: 64 });
  runToPhase(m, first.id, "work");
  runToPhase(m, second.id, "write");
  expect(m.log).toEqual(["1:look", "2:look", "2:work"]);
  expect(stepOperation(m, second.id)).toBe("blocked");
  expect(b.waitsFor).toEqual({ what: "mmap", id: 3, mode: "write" });
  expect([stepOperation(m, first.id), stepOperation(m, second.id)]).toEqual(["ran", "ran"]);
  expect(b.waitsFor).toBeNull();
});

test("what a phase calls runs before the caller's next phase, under the locks of the calling one", () => {
  const m = state();
  const task = createTask(m, "a");
  const op = startOperation(m, outer, task.id, { mm: 1, head: 8 });
  expect(stepOperation(m, op.id)).toBe("ran");
  const called = innermostOf(m, op.id)!;
  expect([called.table, called.caller, task.operation]).toEqual(["inner", op.id, called.id]);
  expect(stepOperation(m, op.id)).toBe("ran");
  // The folio lock is the caller's: the callee names it, and leaves it when it ends.
  expect(m.sched.locks.map(({ name, operation }) => [name, operation])).toEqual([["folio", op.id]]);
  expect([stepOperation(m, op.id), task.operation]).toEqual(["ran", op.id]);
  expect([stepOperation(m, op.id), task.operation, task.result]).toEqual(["done", 0, -7]);
  expect(m.log).toEqual(["begin", `${called.id}:one`, `${called.id}:two`, "end -7"]);
  expect([held(m), m.sched.operations]).toEqual([[], []]);
});

test("an operation held at a phase is stepped by its owner only", () => {
  const m = state();
  const op = startOperation(m, walk, createTask(m, "a").id, { mm: 3, head: 64 });
  expect(runToPhase(m, op.id, "write")).toBe("ran");
  expect(letOthersRun(m)).toBe(false);
  expect(stepOperation(m, op.id)).toBe("ran");
  release(m, op.id);
  expect([letOthersRun(m), letOthersRun(m), findOperation(m, op.id)]).toEqual([true, false, null]);
  expect(m.log).toEqual(["1:look", "1:work", "1:write", "1:rest"]);
});

test("a plain call lets the holder of its lock go on, unless that is held", () => {
  for (const isHeld of [false, true]) {
    const m = state();
    const op = startOperation(m, walk, createTask(m, "a").id, { mm: 3, head: 64 });
    expect(runToPhase(m, op.id, "work")).toBe("ran"); // holds mmap 3 shared
    if (!isHeld) release(m, op.id);
    const writer = definePhases<State, Walk>({ ...walk, first: "write" });
    const result = runAtOnce<State, Walk>(m, writer, { mm: 3, head: 64 });
    const after = isHeld ? ["1:look"] : ["1:look", "1:work", "2:write", "2:rest"];
    expect([result, m.log]).toEqual([isHeld ? null : -7, after]);
    expect(m.sched.operations.map(({ id }) => id)).toEqual([op.id]);
  }
});

test("records between phases are plain data", () => {
  const m = state();
  const op = startOperation(m, outer, createTask(m, "a").id, { mm: 1, head: 8 });
  stepOperation(m, op.id);
  expect(JSON.parse(JSON.stringify(m.sched))).toEqual(m.sched);
});

test("a table lists its phases with their locks", () => {
  expect(listPhases(walk as never).map(({ phase: name, holds }) => [name, holds])).toEqual([
    ["look", "mmap:read"],
    ["work", "mmap:read folio"],
    ["write", "mmap"],
    ["rest", ""],
  ]);
});

test("misuse is an assertion", () => {
  const m = state();
  const task = createTask(m, "a");
  const op = startOperation(m, walk, task.id, { mm: 1, head: 8 });
  expect(() => startOperation(m, walk, task.id, { mm: 1, head: 8 })).toThrow("middle of another");
  runToEnd(m, op.id);
  expect(() => stepOperation(m, op.id)).toThrow("over");
  expect(() => taskOf(m, 9)).toThrow("no such task");
});
