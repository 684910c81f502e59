import { expect, test } from "vitest";
import { EAGAIN, EBUSY, EINVAL, ENOMEM, ENOSYS } from "../base/errno.ts";
import { collapse, record, written } from "../machine/collapse-test-kit.ts";
import { createMachine } from "../machine/machine.ts";
import { execProcess } from "../machine/process.ts";
import { type Kit, machine, of, part, type Range } from "../machine/test-kit.ts";
import { runToEnd, stepOperation } from "../sched/runner.ts";
import { createTask } from "../sched/tasks.ts";
import { MADV, sysMadvise } from "../syscall/madvise.ts";
import { beginMadviseCollapse, madviseCollapsePhases } from "./madvise-collapse.ts";
import {
  continuesMadvise,
  isHugeResult,
  madviseErrno,
  SCAN,
  scanResultName,
} from "./scan-result.ts";

const SIZE = 2 ** 21;

/** Regions of one VMA that were written and may be collapsed. */
function regions(t: Kit, nr: number, offset = 0): Range {
  const range = t.map({ pages: nr * 512, offset, advice: "NOHUGEPAGE" });
  t.fill(range);
  t.madvise(range, "HUGEPAGE");
  return range;
}

/** MADV_COLLAPSE of bytes from the range's start. */
function call(t: Kit, range: Range, at: number, length: number): number {
  const result = sysMadvise(t.m, range.mm, range.start + at, length, MADV.COLLAPSE);
  t.check();
  return result;
}

function hugeRegions(t: Kit, range: Range): boolean[] {
  const nr = Math.floor(range.nrPages / 512);
  return Array.from({ length: nr }, (_, i) => t.isHuge(part(range, i * 512, 1)));
}

test("COLL-240 the arguments: alignment, a length that is rounded up, one that wraps, none", () => {
  const t = machine();
  const range = regions(t, 1);
  expect([
    call(t, range, 1, 0),
    call(t, range, 0, -1),
    call(t, range, 0, 2 ** 64 - range.start),
    call(t, range, 0, 0),
  ]).toEqual([-EINVAL, -EINVAL, -EINVAL, 0]);
  expect(t.isHuge(range)).toBe(false);
  expect(call(t, range, 0, SIZE - 1)).toBe(0);
  expect(t.isHuge(range)).toBe(true);
});

test("COLL-241 COLL-312 COLL-313 an error ends the walk, a hole only makes it ENOMEM", () => {
  const t = machine();
  const make = () => regions(t, 3);
  const refused = make();
  t.madvise(part(refused, 512, 512), "NOHUGEPAGE");
  expect(call(t, refused, 0, 3 * SIZE)).toBe(-EINVAL);
  expect(hugeRegions(t, refused)).toEqual([true, false, false]);

  const pinned = make();
  t.mprotect(part(pinned, 512, 512), 1); // a VMA of its own
  t.pin(part(pinned, 600, 1));
  expect(call(t, pinned, 0, 3 * SIZE)).toBe(-EAGAIN);
  expect(hugeRegions(t, pinned)).toEqual([true, false, false]);

  const torn = make();
  t.munmap(part(torn, 512, 512));
  expect(call(t, torn, 0, 3 * SIZE)).toBe(-ENOMEM);
  expect(hugeRegions(t, torn)).toEqual([true, false, true]);

  const short = make();
  t.munmap(part(short, 3 * 512 - 1, 1));
  expect(call(t, short, 0, 3 * SIZE)).toBe(-ENOMEM);
  expect(hugeRegions(t, short)).toEqual([true, true, false]);

  const gone = make();
  t.munmap(gone);
  expect(call(t, gone, 0, 3 * SIZE)).toBe(-ENOMEM);
});

test("COLL-243 pieces without a whole region: at a region's edge they need none, inside of one they cannot have it", () => {
  const t = machine();
  const range = regions(t, 1);
  expect(call(t, range, 4096, 2 ** 20)).toBe(-EINVAL);
  expect(call(t, range, 4096, SIZE - 4096)).toBe(0);
  expect(call(t, range, 0, SIZE - 4096)).toBe(0);
  expect(t.isHuge(range)).toBe(false);
});

test("COLL-244 COLL-324 a region that lies in two VMAs is passed over without a word", () => {
  const t = machine();
  const range = regions(t, 3);
  t.mprotect(part(range, 768, 768), 1);
  expect(call(t, range, 0, 3 * SIZE)).toBe(0);
  expect(hugeRegions(t, range)).toEqual([true, false, true]);
});

test("COLL-245 a VMA that shrinks while the lock is dropped needs only what is left; one that goes ends the piece", () => {
  for (const [nrLeft, result] of [
    [2, 0],
    [1, -EINVAL],
  ] as const) {
    const t = machine();
    const range = regions(t, 3);
    const task = createTask(t.m, "caller", t.mm.id);
    const op = beginMadviseCollapse(t.m, task.id, t.mm, range.start, range.start + 3 * SIZE);
    while (t.m.sched.operations.length < 2) stepOperation(t.m, op.id);
    while (t.m.sched.operations.length > 1) stepOperation(t.m, op.id);
    // The first region is done and nobody has the lock.
    t.munmap(part(range, nrLeft * 512, (3 - nrLeft) * 512));
    t.check();
    expect([nrLeft, runToEnd(t.m, op.id)]).toEqual([nrLeft, result]);
    expect(hugeRegions(t, part(range, 0, nrLeft * 512))).toEqual(Array(nrLeft).fill(true));
  }
});

test("COLL-246 COLL-247 COLL-325 what is left of a VMA is tried after some failures, and the errno is that of the last one", () => {
  const t = machine();
  const goesOn = regions(t, 2);
  t.pin(part(goesOn, 3, 1));
  expect(call(t, goesOn, 0, 2 * SIZE)).toBe(-EAGAIN);
  expect(hugeRegions(t, goesOn)).toEqual([false, true]);

  const stops = regions(t, 3);
  t.pin(part(stops, 3, 1));
  t.madvise(part(stops, 512, 512), "DONTNEED");
  expect(call(t, stops, 0, 3 * SIZE)).toBe(-EINVAL);
  expect(hugeRegions(t, stops)).toEqual([false, false, false]);
});

test("COLL-246 section 15: strings, errnos and consequences of all results", () => {
  const names = Object.values(SCAN).map((result) => scanResultName(result));
  expect(new Set(names).size).toBe(32);
  const errnos = Object.entries(SCAN).filter(([, result]) => madviseErrno(result) !== -EINVAL);
  expect(Object.fromEntries(errnos.map(([name, result]) => [name, madviseErrno(result)]))).toEqual({
    SUCCEED: 0,
    PMD_MAPPED: 0,
    EXCEED_NONE_PTE: -EBUSY,
    PAGE_COUNT: -EAGAIN,
    PAGE_LRU: -EAGAIN,
    PAGE_LOCK: -EAGAIN,
    DEL_PAGE_LRU: -EAGAIN,
    ALLOC_HUGE_PAGE_FAIL: -ENOMEM,
    CGROUP_CHARGE_FAIL: -EBUSY,
    PAGE_FILLED: -EAGAIN,
  });
  const goOn = Object.entries(SCAN).filter(
    ([, result]) => continuesMadvise(result) && !isHugeResult(result),
  );
  expect(goOn.map(([name]) => name)).toEqual([
    "PMD_NULL",
    "PTE_NON_PRESENT",
    "PTE_UFFD_WP",
    "LACK_REFERENCED_PAGE",
    "PAGE_NULL",
    "PAGE_COUNT",
    "PAGE_LRU",
    "PAGE_LOCK",
    "PAGE_COMPOUND",
    "DEL_PAGE_LRU",
    "PAGE_RO",
  ]);
});

test("COLL-248 COLL-310 nothing is changed but the pages: no flag of the VMA, no registration", () => {
  const t = machine();
  const range = t.map({ huge: 1 });
  t.fill(range);
  const before = { ...t.vma(range) };
  expect(call(t, range, 0, SIZE)).toBe(0);
  expect(t.vma(range)).toEqual(before);
  expect(t.mm.isKhugepagedCandidate).toBe(false);
});

test("COLL-249 a second call finds all huge and allocates nothing; pages_collapsed is khugepaged's alone", () => {
  const t = machine();
  const range = regions(t, 2);
  expect(call(t, range, 0, 2 * SIZE)).toBe(0);
  expect(t.thpDeltas(() => expect(call(t, range, 0, 2 * SIZE)).toBe(0))).toEqual({});
  expect(t.m.knobs.khugepaged.pages_collapsed).toBe(0);
});

test("COLL-250 COLL-311 with everything off the call collapses all the same", () => {
  const t = machine({ enabled: "never", defrag: "never", sizes: { "2048kB": "never" } });
  for (const knob of ["max_ptes_none", "max_ptes_shared", "max_ptes_swap", "defrag"])
    t.knob(`khugepaged.${knob}`, "0");
  const range = t.map({ huge: 1 });
  t.write(range);
  expect(call(t, range, 0, SIZE)).toBe(0);
});

test("COLL-251 COLL-121 COLL-322 the effort is the caller's: MADV_COLLAPSE reclaims, khugepaged as its own defrag says", () => {
  const asked: boolean[] = [];
  for (const [actor, defrag] of [
    ["madvise", "0"],
    ["khugepaged", "1"],
    ["khugepaged", "0"],
  ] as const) {
    const t = machine({ defrag: "never" });
    t.knob("khugepaged.defrag", defrag);
    const range = regions(t, 1);
    t.exhaust(9);
    let nr = 0;
    t.m.reclaim = {
      wakeKswapd() {},
      compact: () => {
        nr++;
        return "complete";
      },
      reclaim: () => 0,
      reclaimMemcg: () => 0,
      outOfMemory: () => false,
    };
    expect(collapse(t, range, actor)).toBe("alloc_huge_page_failed");
    asked.push(nr > 0);
  }
  expect(asked).toEqual([true, true, false]);
});

test("COLL-242 COLL-280 one event per region, of those that are huge already without a page", () => {
  const t = machine();
  const range = regions(t, 2);
  call(t, range, 0, SIZE);
  const events = record(t, /khugepaged/);
  call(t, range, 0, 2 * SIZE);
  expect(events.map((event) => [event[2] === -1, event[5]])).toEqual([
    [true, SCAN.PMD_MAPPED],
    [false, SCAN.SUCCEED],
  ]);
});

test("shared memory is not modelled yet and says so", () => {
  const t = machine();
  const range = t.map({ huge: 1, shared: true });
  t.write(range);
  expect(call(t, range, 0, SIZE)).toBe(-ENOSYS);
});

test("COLL-201 while the call works on one region its neighbours may be unmapped, and the process may end", () => {
  for (const what of ["unmap", "exit", "fork"] as const) {
    const nr = stepsOf();
    for (let at = 0; at < nr; at++) {
      const t = machine({ memory: 16 });
      const range = regions(t, 2);
      const child = of(t.fork(), range);
      const task = createTask(t.m, "caller", t.mm.id);
      const op = beginMadviseCollapse(t.m, task.id, t.mm, range.start, range.start + 2 * SIZE);
      for (let i = 0; i < at; i++) stepOperation(t.m, op.id);
      if (what === "unmap") t.munmap(part(range, 512, 512));
      if (what === "exit") t.exit(t.mm);
      if (what === "fork") t.fork();
      if (t.m.sched.operations.length > 0) runToEnd(t.m, op.id);
      t.check();
      expect(t.contents(child).every((tag) => tag > 0)).toBe(true);
    }
  }
});

/** Steps of the call on two regions. */
function stepsOf(): number {
  const t = machine({ memory: 16 });
  const range = regions(t, 2);
  const task = createTask(t.m, "caller", t.mm.id);
  const op = beginMadviseCollapse(t.m, task.id, t.mm, range.start, range.start + 2 * SIZE);
  let nr = 1;
  while (stepOperation(t.m, op.id) !== "done") nr++;
  return nr;
}

test("a plain call that a held operation stands in the way of does nothing", () => {
  const t = machine();
  const range = written(t);
  const task = createTask(t.m, "caller", t.mm.id);
  const op = beginMadviseCollapse(t.m, task.id, t.mm, range.start, range.start + SIZE);
  while (t.m.sched.operations.at(-1)!.phase !== "copy") stepOperation(t.m, op.id);
  op.isHeld = true;
  expect(call(t, range, 0, SIZE)).toBe(-EAGAIN);
  expect(madviseCollapsePhases.phases[op.phase].holds).toBe("mmap:read");
});

test("COLL-329 a kernel without huge pages does not know the advice, not even for no memory", () => {
  for (const [thpSupport, result] of [
    ["notBuilt", -EINVAL],
    ["unsupported", 0],
  ] as const) {
    const m = createMachine({ memoryBytes: 64 * 2 ** 20, thpSupport });
    const { mm } = execProcess(m)!;
    expect(sysMadvise(m, mm, SIZE, 0, MADV.COLLAPSE)).toBe(result);
  }
});
