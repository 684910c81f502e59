import { expect, test } from "vitest";
import { HUGE_SIZE, PAGE_SIZE, regionOf } from "../base/address.ts";
import { EVENT } from "../base/events.ts";
import { NR_COSTS } from "../hw/cost-model.ts";
import { digestOf } from "../machine/digest.ts";
import { createMachine } from "../machine/machine.ts";
import { restore, snapshot } from "../machine/snapshot.ts";
import { type Kit, machine, part, type Range } from "../machine/test-kit.ts";
import { NO_MM } from "../mm/khugepaged-list.ts";
import type { Mm } from "../mm/state.ts";
import { takeLock } from "../sched/locks.ts";
import { release, runToEnd, runToPhase, stepOperation } from "../sched/runner.ts";
import { createTask } from "../sched/tasks.ts";
import { MAP } from "../syscall/mmap.ts";
import { sysSetThpDisable } from "../syscall/prctl.ts";
import { runDueDaemons } from "./khugepaged.ts";
import { beginPass } from "./khugepaged-phases.ts";
import { SCAN } from "./scan-result.ts";

const FREE = new Float64Array(NR_COSTS);
const SECOND = 1e9;

/** Memory in small pages, advised: whoever has it is registered, and khugepaged can collapse all of it. */
function small(t: Kit, huge: number, mm = t.mm): Range {
  const range = t.map({ mm, huge });
  t.fill(range);
  t.madvise(range, "HUGEPAGE");
  return range;
}

/** As small, and one page of each region is pinned: every lap looks at it and refuses it, under the lock all the time. */
function refused(t: Kit, huge: number, mm = t.mm): Range {
  const range = small(t, huge, mm);
  for (let i = 0; i < huge; i++) t.pin(part(range, i * 512, 1));
  return range;
}

/** What passes examine, in order: which address space, which of its regions counted from `first`. */
function scanned(t: Kit, action: () => void): { mm: number; result: number }[] {
  const seen: { mm: number; result: number }[] = [];
  t.m.events = {
    emit: (event, ...fields) => {
      if (event === EVENT.mm_khugepaged_scan_pmd) seen.push({ mm: fields[0], result: fields[4]! });
    },
  };
  action();
  t.m.events = null;
  return seen;
}

/** Regions that a pass looks at, for each of `nr` passes. */
function perPass(t: Kit, nr: number): number[] {
  return Array.from({ length: nr }, () => {
    const before = t.m.khugepaged.work.nrRegionsScanned;
    t.khugepaged();
    return t.m.khugepaged.work.nrRegionsScanned - before;
  });
}

function cursor(t: Kit): [mm: number, region: number] {
  return [t.m.khugepaged.cursorMm, t.m.khugepaged.cursorRegion];
}

test("COLL-060 there is one cursor: from nowhere it goes to the head of the list and address 0", () => {
  const t = machine();
  t.knob("khugepaged.pages_to_scan", "1");
  const other = t.exec();
  const range = refused(t, 2);
  refused(t, 1, other);
  expect(t.m.khugepaged.cursorMm).toBe(NO_MM);
  t.khugepaged();
  expect(cursor(t)).toEqual([t.mm.id, regionOf(range.start) + 1]);
  t.khugepaged();
  expect(cursor(t)).toEqual([t.mm.id, regionOf(range.start) + 2]);
  t.khugepaged();
  expect(cursor(t)).toEqual([other.id, 0]);
});

test("COLL-005 COLL-061 pages_to_scan is read once, when a pass begins", () => {
  const t = machine();
  t.knob("khugepaged.pages_to_scan", "1024");
  refused(t, 6);
  const pass = beginPass(t.m);
  runToPhase(t.m, pass.id, "settle");
  t.knob("khugepaged.pages_to_scan", "1");
  release(t.m, pass.id);
  runToEnd(t.m, pass.id);
  expect(t.m.khugepaged.work.nrRegionsScanned).toBe(2);
  expect(perPass(t, 1)).toEqual([1]);
});

test("COLL-062 a pass comes round once: the rest of the list, then one lap", () => {
  const t = machine();
  const others = [t.exec(), t.exec()];
  refused(t, 2);
  for (const mm of others) refused(t, 2, mm);
  // From nowhere: one lap of six regions, though the budget allows many.
  t.knob("khugepaged.pages_to_scan", "1000000");
  expect(perPass(t, 2)).toEqual([6, 6]);
  t.knob("khugepaged.pages_to_scan", "1");
  expect(perPass(t, 4)).toEqual([1, 1, 0, 1]);
  expect(cursor(t)[0]).toBe(others[0].id);
  // One region of the second and two of the third are left: three, and then six.
  t.knob("khugepaged.pages_to_scan", "1000000");
  expect(perPass(t, 1)).toEqual([9]);
  expect([cursor(t)[0], t.m.knobs.khugepaged.full_scans]).toEqual([NO_MM, 4]);
});

test("COLL-062 without anybody to visit a pass ends at once and the daemon waits for a registration", () => {
  const t = machine();
  expect([t.khugepaged(), t.m.khugepaged.pause]).toEqual([0, "idle"]);
  const range = refused(t, 1);
  t.khugepaged();
  t.exit(range.mm);
  expect([t.khugepaged(), t.m.khugepaged.pause]).toEqual([0, "idle"]);
  expect(t.m.knobs.khugepaged.full_scans).toBe(1);
});

test("COLL-063 COLL-214 an address space whose mmap lock is taken is passed by at no charge, from its start next time", () => {
  const t = machine();
  t.knob("khugepaged.pages_to_scan", "1024");
  const other = t.exec();
  refused(t, 3);
  refused(t, 3, other);
  t.khugepaged(); // two regions of the first
  const task = createTask(t.m, "writer");
  const lock = { name: "mmap", id: t.mm.id, mode: "write" } as const;
  takeLock(t.m, { ...lock, task: task.id, operation: 0 });
  const pass = beginPass(t.m);
  runToPhase(t.m, pass.id, "scan");
  expect([pass.progress, pass.mmId, cursor(t)]).toEqual([1, other.id, [other.id, 0]]);
  release(t.m, pass.id);
  runToEnd(t.m, pass.id);
  t.m.sched.locks.length = 0;
  expect(perPass(t, 1)).toEqual([2]); // the last of the other, and the first of the first again
  expect(cursor(t)[0]).toBe(t.mm.id);
});

test("COLL-063 a reader of the address space does not keep khugepaged out", () => {
  const t = machine();
  refused(t, 3);
  const task = createTask(t.m, "reader");
  takeLock(t.m, { name: "mmap", id: t.mm.id, mode: "read", task: task.id, operation: 0 });
  expect(perPass(t, 1)).toEqual([3]);
});

test("COLL-064 under PR_SET_THP_DISABLE nothing is looked at; lifting it is enough to go on", () => {
  const t = machine();
  const range = small(t, 2);
  sysSetThpDisable(t.m, t.mm, 1, 0);
  expect(scanned(t, () => t.khugepaged())).toEqual([]);
  expect(t.m.khugepaged.mms).toEqual([t.mm.id]);
  expect(t.m.knobs.khugepaged.full_scans).toBe(1);
  sysSetThpDisable(t.m, t.mm, 0, 0);
  expect([t.khugepaged(), t.isHuge(range)]).toEqual([2, true]);
});

test("COLL-064 COLL-204 an address space that ends while the daemon is in it is left, and then off the list", () => {
  const t = machine();
  small(t, 2);
  const other = t.exec();
  const range = small(t, 1, other);
  const pass = beginPass(t.m);
  runToPhase(t.m, pass.id, "revalidate");
  t.exit(t.mm);
  expect(t.m.khugepaged.mms).toEqual([t.mm.id, other.id]);
  release(t.m, pass.id);
  expect([runToEnd(t.m, pass.id), t.isHuge(range)]).toEqual([1, true]);
  expect(t.m.khugepaged.mms).toEqual([other.id]);
  t.check();
});

test("COLL-065 a region costs 512 whatever comes of it, a VMA passed over 1, a visit 1", () => {
  // What each costs, and how often it is met on the way through an address space that has it.
  const costs: readonly { readonly make: (t: Kit) => void; readonly cost: number }[] = [
    { make: (t) => refused(t, 3), cost: 1 + 3 * 512 },
    { make: (t) => void t.mapHuge(3), cost: 1 + 3 * 512 },
    // Collapsed regions end their visits: three, and one for the rest.
    { make: (t) => void small(t, 3), cost: 3 * (1 + 512) + 1 },
    {
      make: (t) => {
        const range = refused(t, 3);
        t.munmap(part(range, 512, 512)); // empty, and between two VMAs
      },
      cost: 1 + 2 * 512,
    },
    {
      make: (t) => {
        const range = refused(t, 1);
        t.map({ pages: 1, at: range.start + 2 * HUGE_SIZE });
        t.map({ huge: 1, at: range.start + 3 * HUGE_SIZE }); // never touched
      },
      cost: 1 + 512 + 1 + 1,
    },
  ];
  for (const { make, cost } of costs) {
    const t = machine();
    make(t);
    const stack = 1;
    const pass = beginPass(t.m);
    while (stepOperation(t.m, pass.id) !== "done");
    expect(pass.progress).toBe(cost + stack);
  }
});

test("COLL-065 a VMA whose last region is behind the cursor costs nothing when a visit begins in its tail", () => {
  // Measured on 6.18: VMAs of one region, with and without a page behind it, one visit each.
  const perPassWith = (tailPages: number, budget: number, nrSmall: number) => {
    const t = machine({ memory: 128 });
    const base = t.map({ pages: 1 }).start;
    for (let i = 0; i < 12; i++) {
      const at = base + (i + 1) * 4 * HUGE_SIZE;
      const range = t.map({ at, pages: 512 + tailPages });
      t.fill(part(range, 0, 512));
      for (let k = 0; k < nrSmall; k++)
        t.write(t.map({ at: at + 2 * HUGE_SIZE + 2 * k * PAGE_SIZE, pages: 1 }));
      t.madvise(range, "HUGEPAGE");
    }
    t.knob("khugepaged.pages_to_scan", String(budget));
    return perPass(t, 4).at(-1);
  };
  const measured: readonly (readonly [tail: number, budget: number, small: number, nr: number])[] =
    [
      [1, 1026, 0, 2],
      [1, 1027, 0, 3],
      [0, 1026, 0, 2],
      [0, 1027, 0, 3],
      [1, 1028, 1, 2],
      [1, 1029, 1, 3],
      [0, 1029, 1, 3],
    ];
  for (const [tail, budget, nrSmall, nr] of measured)
    expect([tail, budget, nrSmall, perPassWith(tail, budget, nrSmall)]).toEqual([
      tail,
      budget,
      nrSmall,
      nr,
    ]);
});

test("COLL-066 the budget is looked at after each region: 1 is one region, 1024 are two", () => {
  for (const [budget, wanted] of [
    [1, [1, 1, 1, 1]],
    [513, [1, 1, 1, 1]],
    [514, [2, 2, 2, 2]],
    [1024, [2, 2, 2, 2]],
    [1025, [2, 2, 2, 2]],
    [1026, [3, 3, 3, 3]],
  ] as const) {
    const t = machine();
    refused(t, 12);
    t.knob("khugepaged.pages_to_scan", String(budget));
    expect([budget, perPass(t, 4)]).toEqual([budget, wanted]);
  }
});

test("COLL-066 with a budget of 1 an address space with one region takes two passes", () => {
  const t = machine();
  refused(t, 1);
  t.knob("khugepaged.pages_to_scan", "1");
  expect(perPass(t, 6)).toEqual([1, 0, 1, 0, 1, 0]);
  expect(t.m.knobs.khugepaged.full_scans).toBe(3);
});

test("COLL-067 only regions that lie wholly inside the VMA are looked at", () => {
  const t = machine();
  const range = t.map({ pages: 512 * 3, offset: 1 });
  t.fill(range);
  t.madvise(range, "HUGEPAGE");
  expect(t.khugepaged()).toBe(2);
  expect(t.states(range)).toBe("small*511 huge*1024 small*1");
});

test("COLL-068 a region that passes its scan ends the visit, collapsed or not", () => {
  const t = machine();
  small(t, 2);
  t.exhaust(9);
  const visits = () => t.m.khugepaged.work.nrVisits;
  t.khugepaged();
  expect(visits()).toBe(2); // both without memory: the second failure ends the pass (COLL-072)
  t.release();
  t.khugepaged(); // the rest of the lap, then two regions and the rest again
  expect(visits()).toBe(2 + 1 + 3);
  t.khugepaged();
  expect(visits()).toBe(6 + 1); // huge already: refused by the scan, the lock is kept
});

test("COLL-069 address spaces are visited in the order of registration, one full scan a lap", () => {
  const t = machine({ memory: 128 });
  const mms: Mm[] = [t.exec(), t.mm, t.exec(), t.exec()];
  for (const mm of mms) refused(t, 2, mm);
  t.knob("khugepaged.pages_to_scan", "1");
  const laps = scanned(t, () => {
    while (t.m.knobs.khugepaged.full_scans < 3) t.khugepaged();
  }).map(({ mm }) => mm);
  const lap = mms.flatMap(({ id }) => [id, id]);
  expect(laps).toEqual([...lap, ...lap, ...lap]);
});

test("COLL-070 COLL-297 pages_collapsed counts regions that khugepaged collapsed, and MADV_COLLAPSE moves neither counter", () => {
  const t = machine();
  const range = small(t, 3);
  t.madvise(part(range, 0, 512), "COLLAPSE");
  const { khugepaged } = t.m.knobs;
  expect([khugepaged.pages_collapsed, khugepaged.full_scans]).toEqual([0, 0]);
  expect(t.deltas(() => t.khugepaged()).thp_collapse_alloc).toBe(2);
  expect([khugepaged.pages_collapsed, khugepaged.full_scans]).toEqual([2, 1]);
  khugepaged.pages_collapsed = 2 ** 32 - 1;
  khugepaged.full_scans = 2 ** 32 - 1;
  small(t, 1);
  t.khugepaged();
  expect([khugepaged.pages_collapsed, khugepaged.full_scans]).toEqual([0, 0]);
});

test("COLL-071 the daemon sleeps scan_sleep_millisecs between passes and no longer than a knob write", () => {
  const t = machine();
  refused(t, 1);
  const { work } = t.m.khugepaged;
  const passesAt = (...seconds: readonly number[]) =>
    seconds.map((at) => {
      runDueDaemons(t.m, at * SECOND, FREE);
      return work.nrPasses;
    });
  expect(passesAt(0, 9, 9.99, 10, 19, 20)).toEqual([1, 1, 1, 2, 2, 3]);
  t.knob("khugepaged.scan_sleep_millisecs", "3000"); // now, and 3 s from then on
  expect(passesAt(21, 22.9, 23, 25.9, 26)).toEqual([4, 4, 5, 5, 6]);
  t.knob("khugepaged.alloc_sleep_millisecs", "60000");
  expect(passesAt(27.5)).toEqual([7]);
  t.knob("khugepaged.max_ptes_none", "511");
  t.knob("khugepaged.pages_to_scan", "4096");
  expect(passesAt(28)).toEqual([7]);
});

test("COLL-006 COLL-071 with scan_sleep_millisecs of 0 the daemon does not sleep: only its work lets time pass", () => {
  const t = machine();
  refused(t, 2);
  const prices = new Float64Array(NR_COSTS).fill(1000); // 1 us for each entry read and each pass
  t.knob("khugepaged.scan_sleep_millisecs", "0");
  runDueDaemons(t.m, 10_000_000, prices);
  const { work } = t.m.khugepaged;
  const entriesPerPass = work.nrPtesScanned / work.nrPasses;
  expect(work.nrPasses).toBe(Math.floor(10_000 / (entriesPerPass + 1)) + 1);
  expect(work.busyNs).toBe((work.nrPtesScanned + work.nrPasses) * 1000);
});

test("COLL-015 the same limit says which huge pages are mostly unused: at 511 none is", () => {
  const nrSplitAt = (limit: number) => {
    const t = machine();
    t.mapHuge(); // one page written
    return t.dropSlab(limit);
  };
  expect([nrSplitAt(511), nrSplitAt(510)]).toEqual([0, 1]);
});

test("COLL-071 an idle daemon looks as soon as somebody is registered", () => {
  const t = machine();
  runDueDaemons(t.m, 5 * SECOND, FREE);
  expect(t.m.khugepaged.pause).toBe("idle");
  const range = small(t, 1);
  runDueDaemons(t.m, 5 * SECOND, FREE);
  expect([t.isHuge(range), t.m.khugepaged.pause]).toEqual([true, "scan"]);
});

test("COLL-007 COLL-072 COLL-345 without memory a pass sleeps once and goes on, the second failure ends it", () => {
  const t = machine();
  t.knob("khugepaged.alloc_sleep_millisecs", "7000");
  small(t, 4);
  t.exhaust(9);
  const seen = scanned(t, () => runDueDaemons(t.m, 6.9 * SECOND, FREE));
  expect(seen).toEqual([{ mm: t.mm.id, result: SCAN.ALLOC_HUGE_PAGE_FAIL }]);
  expect(t.m.khugepaged.pause).toBe("alloc");
  runDueDaemons(t.m, 7 * SECOND, FREE);
  expect([t.m.khugepaged.work.nrRegionsScanned, t.m.khugepaged.pause]).toEqual([2, "scan"]);
  // The scan sleep begins there.
  runDueDaemons(t.m, 16.9 * SECOND, FREE);
  expect(t.m.khugepaged.work.nrPasses).toBe(1);
  t.release();
  runDueDaemons(t.m, 17 * SECOND, FREE);
  expect(t.m.knobs.khugepaged.pages_collapsed).toBe(4);
});

test("COLL-072 the sleep for memory is ended by the same knob writes, and memory found in between is used", () => {
  const t = machine();
  const range = small(t, 2);
  t.exhaust(9);
  runDueDaemons(t.m, SECOND, FREE);
  t.release();
  runDueDaemons(t.m, 2 * SECOND, FREE);
  expect(t.m.khugepaged.pause).toBe("alloc");
  t.knob("khugepaged.scan_sleep_millisecs", "10000");
  runDueDaemons(t.m, 2 * SECOND, FREE);
  expect(t.m.khugepaged.pause).toBe("scan");
  expect([t.isHuge(range), t.isHuge(part(range, 512, 512))]).toEqual([false, true]);
});

test("COLL-072 a failure that spends the budget ends the pass without that sleep", () => {
  const t = machine();
  small(t, 3);
  t.exhaust(9);
  t.knob("khugepaged.pages_to_scan", "1");
  t.khugepaged();
  expect([t.m.khugepaged.pause, t.m.sched.nowNs]).toEqual(["scan", 0]);
});

test("COLL-072 a memcg without room costs no sleep", () => {
  const t = machine();
  const mm = t.exec(t.memcg(520));
  const range = t.map({ mm, huge: 1 });
  t.fill(part(range, 0, 500));
  t.madvise(range, "HUGEPAGE");
  const seen = scanned(t, () => t.khugepaged());
  expect(seen).toEqual([{ mm: mm.id, result: SCAN.CGROUP_CHARGE_FAIL }]);
  expect(t.m.sched.nowNs).toBe(0);
});

test("COLL-072 a plain pass lets the time of its sleep pass", () => {
  const t = machine();
  small(t, 4);
  t.exhaust(9);
  expect(t.khugepaged()).toBe(0);
  expect([t.m.khugepaged.work.nrRegionsScanned, t.m.sched.nowNs]).toEqual([2, 60 * SECOND]);
});

/** Two address spaces with regions of every kind: refused, collapsed, without memory at first. */
function mixed(): Kit {
  const t = machine({ memory: 16 });
  const range = small(t, 2);
  t.pin(part(range, 3, 1));
  small(t, 1, t.exec());
  t.knob("khugepaged.alloc_sleep_millisecs", "100");
  return t;
}

test("COLL-073 saved and restored at every phase of a pass, the end is the same", () => {
  const make = () => {
    const t = mixed();
    return { t, pass: beginPass(t.m).id };
  };
  const whole = make();
  let nr = 1;
  while (stepOperation(whole.t.m, whole.pass) !== "done") nr++;
  const wanted = digestOf(whole.t.m);
  whole.t.check();
  expect(whole.t.m.knobs.khugepaged.pages_collapsed).toBe(2);
  for (let at = 0; at < nr; at++) {
    const { t, pass } = make();
    for (let i = 0; i < at; i++) stepOperation(t.m, pass);
    const fresh = createMachine({ memoryBytes: 16 * 2 ** 20 });
    restore(fresh, snapshot(t.m));
    for (const m of [fresh, t.m]) {
      runToEnd(m, pass);
      expect([at, digestOf(m)]).toEqual([at, wanted]);
    }
  }
});

test("COLL-073 the same calls give the same passes, their traces and their end", () => {
  const run = () => {
    const t = mixed();
    const trace = scanned(t, () => runDueDaemons(t.m, 100 * SECOND, FREE));
    return { trace, end: digestOf(t.m), khugepaged: t.m.khugepaged };
  };
  const first = run();
  expect(first.khugepaged.work.nrPasses).toBe(11); // at 0, 10, ... 100 s
  expect(run()).toEqual(first);
});

test("COLL-002 COLL-104 max_ptes_none is read at each region", () => {
  const t = machine();
  const range = t.map({ huge: 2 });
  for (const first of [0, 512]) t.fill(part(range, first, 500));
  t.madvise(range, "HUGEPAGE");
  t.knob("khugepaged.max_ptes_none", "11");
  expect(t.khugepaged()).toBe(0);
  const pass = beginPass(t.m);
  runToPhase(t.m, pass.id, "settle");
  t.knob("khugepaged.max_ptes_none", "12");
  release(t.m, pass.id);
  expect(runToEnd(t.m, pass.id)).toBe(1);
  expect([t.isHuge(range), t.isHuge(part(range, 512, 512))]).toEqual([false, true]);
});

test("a stack is looked at like other memory, and a VMA that may be dropped too", () => {
  const t = machine();
  const range = t.map({ huge: 1, flags: MAP.GROWSDOWN });
  t.fill(range);
  t.madvise(range, "HUGEPAGE");
  expect(t.khugepaged()).toBe(1);
});
