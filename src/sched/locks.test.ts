import { expect, test } from "vitest";
import {
  LOCK_NAMES,
  type LockMode,
  type LockName,
  mayTakeInside,
  parseHolds,
} from "./lock-order.ts";
import { dropLock, dropLocks, isFolioBusy, isLocked, takeLock, tryLock } from "./locks.ts";
import { createSched, type SchedState } from "./state.ts";
import {
  advanceClock,
  advanceToNextWake,
  createTask,
  endTask,
  isRunnable,
  sleepTask,
} from "./tasks.ts";

function state(): SchedState {
  return { sched: createSched(), phaseTables: {}, events: null };
}

function request(task: number, name: LockName, id = 1, mode: LockMode = "write") {
  return { name, id, mode, task, operation: task };
}

test("ANON-334 the order is mm, VMA, folio, anon_vma, page table, then queue and LRU", () => {
  const m = state();
  const order: LockName[] = ["mmap", "vma", "folio", "anonVma", "pageTable", "deferredQueue"];
  for (const name of order) expect(takeLock(m, request(1, name))).toBe(true);
  dropLock(m, "deferredQueue", 1);
  expect(takeLock(m, request(1, "lru"))).toBe(true);
});

test("ANON-334 every pair against the order is an assertion, and so are two of a kind", () => {
  for (const outer of LOCK_NAMES) {
    for (const inner of LOCK_NAMES) {
      const m = state();
      takeLock(m, request(1, outer));
      const take = () => takeLock(m, request(1, inner, 2));
      if (mayTakeInside(outer, inner)) expect(take()).toBe(true);
      else expect(take).toThrow("against the order");
    }
  }
});

test("ANON-334 trying is allowed against the order: copy-on-write tries for the folio under the page table", () => {
  const m = state();
  takeLock(m, request(1, "pageTable"));
  expect(tryLock(m, request(1, "folio"))).toBe(true);
  takeLock(m, request(2, "pageTable", 2));
  expect(tryLock(m, request(2, "folio"))).toBe(false);
});

test("readers share, a writer is alone, and instances are apart", () => {
  const m = state();
  expect(takeLock(m, request(1, "mmap", 5, "read"))).toBe(true);
  expect(takeLock(m, request(2, "mmap", 5, "read"))).toBe(true);
  expect(takeLock(m, request(3, "mmap", 5, "write"))).toBe(false);
  expect(takeLock(m, request(3, "mmap", 6, "write"))).toBe(true);
  dropLocks(m, 1);
  expect(takeLock(m, request(4, "mmap", 5, "write"))).toBe(false);
  dropLocks(m, 2);
  expect(takeLock(m, request(4, "mmap", 5, "write"))).toBe(true);
  expect(takeLock(m, request(1, "mmap", 5, "read"))).toBe(false);
});

test("a folio is busy for everyone but its holder", () => {
  const m = state();
  takeLock(m, request(1, "folio", 512));
  expect([isFolioBusy(m, 512), isFolioBusy(m, 1024), isLocked(m, "folio", 512)]).toEqual([
    true,
    false,
    true,
  ]);
  m.sched.current = 1;
  expect(isFolioBusy(m, 512)).toBe(false);
});

test("a holds text is read top down; disorder and unknown names are refused", () => {
  expect(parseHolds("mmap:read folio anonVma:write")).toEqual([
    { name: "mmap", mode: "read" },
    { name: "folio", mode: "write" },
    { name: "anonVma", mode: "write" },
  ]);
  expect(parseHolds("")).toEqual([]);
  expect(() => parseHolds("folio mmap")).toThrow("out of order");
  expect(() => parseHolds("mutex")).toThrow("does not exist");
  expect(() => parseHolds("mmap:try")).toThrow("does not exist");
});

test("sleepers wake in the order of their times, ids of ended tasks are used again", () => {
  const m = state();
  const [a, b, c] = ["a", "b", "c"].map((name) => createTask(m, name));
  advanceClock(m, 1000);
  sleepTask(m, a, 5e9);
  sleepTask(m, b, 1e9);
  expect([isRunnable(m, a), isRunnable(m, b), isRunnable(m, c)]).toEqual([false, false, true]);
  expect([advanceToNextWake(m), m.sched.nowNs]).toEqual([b, 1e9 + 1000]);
  expect([isRunnable(m, a), isRunnable(m, b)]).toEqual([false, true]);
  expect([advanceToNextWake(m), advanceToNextWake(m), m.sched.nowNs]).toEqual([
    a,
    null,
    5e9 + 1000,
  ]);
  endTask(m, b.id);
  expect(createTask(m, "d").id).toBe(b.id);
});

test("a task that waits for a lock can run once it could have it", () => {
  const m = state();
  const task = createTask(m, "a");
  takeLock(m, request(9, "mmap", 3, "read"));
  task.waitsFor = { what: "mmap", id: 3, mode: "write" };
  expect(isRunnable(m, task)).toBe(false);
  task.waitsFor = { what: "mmap", id: 3, mode: "read" };
  expect(isRunnable(m, task)).toBe(true);
});
