import { expect, test } from "vitest";
import { pteIndexOf, regionOf } from "../base/address.ts";
import { digestOf } from "../machine/digest.ts";
import { createMachine } from "../machine/machine.ts";
import { restore, snapshot } from "../machine/snapshot.ts";
import { type Kit, machine, part, type Range } from "../machine/test-kit.ts";
import { blockingLock } from "../sched/locks.ts";
import { release, runToEnd, runToPhase, stepOperation } from "../sched/runner.ts";
import { createTask } from "../sched/tasks.ts";
import { locksOf } from "../syscall/call-locks.ts";
import { beginFault, hugeFaultPhases } from "./huge-fault-phases.ts";
import { FAULT_OOM, faultKindOf } from "./kinds.ts";

/** A write fault of a thread of its own on a page, held before `phase`. */
function held(t: Kit, range: Range, page: number, phase: string): number {
  const addr = range.start + page * 4096;
  const task = createTask(t.m, `thread ${page}`, range.mm.id);
  const op = beginFault(t.m, task.id, range.mm, regionOf(addr), pteIndexOf(addr), "write");
  runToPhase(t.m, op.id, phase);
  t.check();
  return op.id;
}

function finish(t: Kit, op: number): string {
  release(t.m, op);
  const result = runToEnd(t.m, op)!;
  t.check();
  return result < 0 ? `${result}` : faultKindOf(result);
}

test("ANON-331 ANON-068 two threads fault the same 2M: both allocate, one installs, only that one counts", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  const changed = t.deltas(() => {
    const [first, second] = [held(t, range, 0, "install"), held(t, range, 5, "install")];
    expect([finish(t, second), finish(t, first)]).toEqual(["anon 2M", "spurious"]);
  });
  expect(changed).toEqual({
    pgfault: 2,
    thp_fault_alloc: 1,
    nr_anon_pages: 512,
    nr_anon_transparent_hugepages: 1,
    nr_inactive_anon: 512,
    nr_page_table_pages: 3,
    "2048kB/anon_fault_alloc": 1,
    "2048kB/nr_anon": 1,
  });
  expect([t.write(range, 0), t.write(range, 5), t.smaps(range).Rss]).toEqual([
    "none",
    "none",
    2048,
  ]);
});

test("ANON-331 the one that comes second may also be a plain fault, or lose to one", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  const op = held(t, range, 0, "deposit");
  expect(t.write(range, 7)).toBe("anon 2M");
  const contents = t.contents(range);
  expect([finish(t, op), t.contents(range)]).toEqual(["spurious", contents]);
});

test("ANON-332 a fault that finds a page table where it read nothing gives everything back and the access is made again", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  const op = held(t, range, 0, "install");
  t.exhaust(9); // the other thread gets no huge folio
  expect(t.write(range, 3)).toBe("anon 4k");
  t.release();
  const changed = t.thpDeltas(() => expect(finish(t, op)).toBe("spurious"));
  expect(changed).toEqual({});
  expect([t.smaps(range).Rss, t.write(range, 0), t.isHuge(range)]).toEqual([4, "anon 4k", false]);
});

test("ANON-062 the folio is allocated, charged and given its table before the entry is looked at again", () => {
  expect(Object.keys(hugeFaultPhases.phases)).toEqual(
    expect.arrayContaining(["allocate", "charge", "deposit", "install"]),
  );
  const t = machine({ enabled: "always" });
  const group = t.memcg(2000);
  const range = t.map({ huge: 1, mm: t.exec(group) });
  const before = t.m.memcgs[group]!.usage;
  const op = held(t, range, 0, "charge");
  expect([t.m.memcgs[group]!.usage - before, t.vma(range).anonVma !== null]).toEqual([0, true]);
  const tables = range.mm.nrPteTables;
  runToPhase(t.m, op, "deposit");
  expect([t.m.memcgs[group]!.usage - before, range.mm.nrPteTables - tables]).toEqual([512, 0]);
  runToPhase(t.m, op, "install");
  expect([range.mm.nrPteTables - tables, t.entry(range)]).toEqual([1, ""]);
  expect(finish(t, op)).toBe("anon 2M");
});

test("ANON-336 whoever fails after the charge gives it back", () => {
  const t = machine({ enabled: "always" });
  const group = t.memcg(2000);
  const range = t.map({ huge: 1, mm: t.exec(group) });
  const before = t.m.memcgs[group]!.usage;
  const op = held(t, range, 0, "install");
  expect(t.write(range, 9)).toBe("anon 2M");
  expect(t.m.memcgs[group]!.usage - before).toBe(1024);
  finish(t, op);
  expect(t.m.memcgs[group]!.usage - before).toBe(512);
});

test("a group without room, or no huge folio: pages, counted as a plain fault counts them", () => {
  for (const why of ["charge", "allocate"] as const) {
    const make = () => {
      const t = machine({ enabled: "always" });
      const range = t.map({ huge: 1, mm: t.exec(why === "charge" ? t.memcg(100) : 0) });
      if (why === "allocate") t.exhaust(9);
      return { t, range };
    };
    const plain = make();
    const wanted = plain.t.deltas(() => plain.t.write(plain.range, 3));
    const { t, range } = make();
    const changed = t.deltas(() => expect(finish(t, held(t, range, 3, "pages"))).toBe("anon 4k"));
    expect([why, changed]).toEqual([why, wanted]);
  }
});

test("ANON-068 no frame for the table: out of memory, and the folio is back", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  t.write(t.map({ pages: 1, at: range.start + 2 ** 29 })); // the upper tables
  const op = held(t, range, 0, "deposit");
  t.exhaustAll();
  expect(finish(t, op)).toBe(`${FAULT_OOM}`);
  expect(t.smaps(range).Rss).toBe(0);
});

test("ANON-330 while a thread is in a fault its VMAs stay: munmap waits, another thread's fault does not", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  held(t, range, 0, "install");
  const task = createTask(t.m, "main", t.mm.id);
  const end = range.start + 2 ** 21;
  expect(blockingLock(t.m, task, locksOf(t.mm, "munmap", range.start, end))?.name).toBe("mmap");
  expect(blockingLock(t.m, task, locksOf(t.mm, "fault", range.start, end))).toBeNull();
});

test("a fault held at any phase, saved and restored, ends as one that was not", () => {
  const ends = new Set<string>();
  for (const at of [-1, 0, 1, 2, 3, 4]) {
    const t = machine({ enabled: "always", memory: 16 });
    const range = t.map({ huge: 1 });
    const op = held(t, part(range, 7, 1), 0, "enter");
    for (let i = 0; i < at; i++) stepOperation(t.m, op);
    const m = at < 0 ? t.m : createMachine({ memoryBytes: 16 * 2 ** 20 });
    if (at >= 0) restore(m, snapshot(t.m));
    release(m, op);
    runToEnd(m, op);
    ends.add(digestOf(m));
  }
  expect(ends.size).toBe(1);
});
