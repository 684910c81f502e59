import { expect, test } from "vitest";
import { beginSplit } from "../huge/split-folio.ts";
import { machine } from "../machine/test-kit.ts";
import { blockingLock, takeLock } from "../sched/locks.ts";
import { release, runToEnd, runToPhase } from "../sched/runner.ts";
import { createTask, isRunnable } from "../sched/tasks.ts";
import { locksOf, locksOfAdvice } from "./call-locks.ts";
import { MADV } from "./madvise.ts";

const SHARED = ["DONTNEED", "FREE", "COLD", "PAGEOUT", "POPULATE_READ", "POPULATE_WRITE"] as const;
const EXCLUSIVE = ["HUGEPAGE", "NOHUGEPAGE", "DONTFORK", "SEQUENTIAL", "MERGEABLE"] as const;

test("ANON-330 who has the mm lock shared keeps out changes of VMAs, not faults and not advice on pages", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  const [start, end] = [range.start, range.start + 4096];
  const [holder, task] = [createTask(t.m, "khugepaged"), createTask(t.m, "main", t.mm.id)];
  takeLock(t.m, { name: "mmap", id: t.mm.id, mode: "read", task: holder.id, operation: 0 });
  const mayGo = (locks: Parameters<typeof blockingLock>[2]) =>
    blockingLock(t.m, task, locks) === null;
  expect(mayGo(locksOf(t.mm, "fault", start, end))).toBe(true);
  for (const name of SHARED)
    expect([name, mayGo(locksOfAdvice(t.mm, MADV[name], start, end))]).toEqual([name, true]);
  expect(mayGo(locksOfAdvice(t.mm, MADV.COLLAPSE, start, end))).toBe(true);
  for (const name of EXCLUSIVE)
    expect([name, mayGo(locksOfAdvice(t.mm, MADV[name], start, end))]).toEqual([name, false]);
  for (const kind of ["mmap", "munmap", "mremap", "mprotect", "fork", "exit"] as const)
    expect([kind, mayGo(locksOf(t.mm, kind, start, end))]).toEqual([kind, false]);
});

test("ANON-330 who has it exclusive keeps out everybody", () => {
  const t = machine();
  const task = createTask(t.m, "main", t.mm.id);
  takeLock(t.m, { name: "mmap", id: t.mm.id, mode: "write", task: 99, operation: 0 });
  expect(blockingLock(t.m, task, locksOf(t.mm, "fault", 0, 4096))).toEqual({
    name: "mmap",
    id: t.mm.id,
    mode: "read",
  });
  expect(isRunnable(t.m, task)).toBe(false);
});

test("ANON-333 a split has the anon_vma: fork and munmap wait for it, DONTNEED does not, nor does another mapping", () => {
  const t = machine({ enabled: "always" });
  const [range, other] = [t.mapHuge(), t.mapHuge()];
  t.get(range);
  const op = beginSplit(t.m, createTask(t.m, "splitter").id, t.folio(range), 0, t.folio(range));
  const task = createTask(t.m, "main", t.mm.id);
  const end = range.start + 2 ** 21;
  const blocked = () => [
    blockingLock(t.m, task, locksOf(t.mm, "fork", 0, 0))?.name ?? "",
    blockingLock(t.m, task, locksOf(t.mm, "munmap", range.start, end))?.name ?? "",
    blockingLock(t.m, task, locksOf(t.mm, "munmap", other.start, other.start + 4096))?.name ?? "",
    blockingLock(t.m, task, locksOfAdvice(t.mm, MADV.DONTNEED, range.start, end))?.name ?? "",
  ];
  expect(blocked()).toEqual(["", "", "", ""]);
  for (const phase of ["unmap", "breakUp", "remap", "release"]) {
    runToPhase(t.m, op.id, phase);
    expect([phase, blocked()]).toEqual([phase, ["anonVma", "anonVma", "", ""]]);
  }
  release(t.m, op.id);
  runToEnd(t.m, op.id);
  expect(blocked()).toEqual(["", "", "", ""]);
});
