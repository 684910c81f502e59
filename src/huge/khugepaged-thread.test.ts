import { expect, test } from "vitest";
import { EACCES, EINVAL } from "../base/errno.ts";
import { PROFILES } from "../base/profile.ts";
import { runDueDaemons } from "../collapse/khugepaged.ts";
import { beginPass } from "../collapse/khugepaged-phases.ts";
import { NR_COSTS } from "../hw/cost-model.ts";
import { createMachine, type Machine } from "../machine/machine.ts";
import { machine } from "../machine/test-kit.ts";
import { ZONE } from "../phys/state.ts";
import { setMinFreeKbytes } from "../phys/watermarks.ts";
import { release, runToEnd, runToPhase } from "../sched/runner.ts";
import { NEVER } from "../sched/tasks.ts";
import { freezeKhugepaged, thawKhugepaged } from "./khugepaged-thread.ts";
import { readKnob, writeKnob } from "./knobs.ts";

const GIB = 2 ** 30;
const FREE = new Float64Array(NR_COSTS);

function threads(m: Machine): number {
  return m.sched.tasks.filter((task) => task?.name === "khugepaged").length;
}

function write(m: Machine, name: string, value: string): void {
  expect(writeKnob(m, name, value)).toBe(0);
}

/** How many threads there are after these writes, in a machine where all of it is off. */
function threadsAfter(writes: Readonly<Record<string, string>>, profile = PROFILES[0]): number {
  const m = createMachine({ memoryBytes: GIB, profile });
  for (const name of ["thp.enabled", "thp.shmem_enabled"]) write(m, name, "never");
  expect(threads(m)).toBe(0);
  for (const [name, value] of Object.entries(writes)) write(m, name, value);
  return threads(m);
}

test("COLL-020 COLL-022 the thread exists while the PMD size is enabled for anonymous memory, alone or by inheritance", () => {
  for (const size of ["always", "inherit", "madvise", "never"])
    for (const enabled of ["always", "madvise", "never"]) {
      const own = size === "inherit" ? enabled : size;
      const found = threadsAfter({ "thp.hugepages-2048kB.enabled": size, "thp.enabled": enabled });
      expect([size, enabled, found]).toEqual([size, enabled, own === "never" ? 0 : 1]);
    }
  expect(threadsAfter({ "thp.hugepages-64kB.enabled": "always" })).toBe(0);
  expect(threadsAfter({ "thp.hugepages-1024kB.enabled": "inherit" })).toBe(0);
});

test("COLL-021 COLL-501 shared memory of the PMD size starts it too, on 6.18 only", () => {
  const starting: readonly Readonly<Record<string, string>>[] = [
    ...["always", "within_size", "advise"].map((v) => ({
      "thp.hugepages-2048kB.shmem_enabled": v,
    })),
    ...["always", "within_size", "advise", "force"].map((v) => ({ "thp.shmem_enabled": v })),
  ];
  const idle: readonly Readonly<Record<string, string>>[] = [
    { "thp.shmem_enabled": "deny" },
    { "thp.hugepages-2048kB.shmem_enabled": "never", "thp.shmem_enabled": "always" },
    { "thp.hugepages-1024kB.shmem_enabled": "always" },
  ];
  for (const profile of PROFILES) {
    const wanted = profile.name === "linux-6.18" ? 1 : 0;
    for (const writes of starting) expect(threadsAfter(writes, profile)).toBe(wanted);
    for (const writes of idle) expect(threadsAfter(writes, profile)).toBe(0);
  }
});

test("COLL-023 every accepted write looks again, also of the value in force; a refused one does not", () => {
  const m = createMachine({ memoryBytes: 16 * GIB });
  write(m, "thp.enabled", "madvise");
  expect(threads(m)).toBe(1);
  for (const [name, value] of [
    ["thp.enabled", "madvise"],
    ["thp.hugepages-64kB.enabled", "never"],
    ["thp.shmem_enabled", "never"],
    ["thp.hugepages-64kB.shmem_enabled", "never"],
  ]) {
    setMinFreeKbytes(m, 20_000);
    expect(writeKnob(m, name, "sometimes")).toBe(-EINVAL);
    expect(m.sysctl.minFreeKbytes).toBe(20_000);
    write(m, name, value);
    expect([name, m.sysctl.minFreeKbytes, threads(m)]).toEqual([name, 67_584, 1]);
  }
});

test("COLL-023 a daemon that waits for work is woken by such a write if there is some, a scan sleep goes on", () => {
  const t = machine();
  const task = () => t.m.sched.tasks[t.m.khugepaged.task]!;
  t.khugepaged();
  expect([t.m.khugepaged.pause, task().wakeNs]).toEqual(["idle", NEVER]);
  t.knob("thp.enabled", "madvise");
  expect(task().wakeNs).toBe(NEVER); // nobody is registered
  t.mapHuge();
  expect(task().wakeNs).toBe(t.m.sched.nowNs);
  t.khugepaged();
  t.knob("thp.enabled", "madvise");
  expect([t.m.khugepaged.pause, task().wakeNs]).toEqual(["scan", 10e9]);
});

test("COLL-025 stopping unregisters nobody and forgets the cursor; the next thread begins at the head of the list", () => {
  const t = machine();
  t.knob("khugepaged.pages_to_scan", "1");
  const [first, second] = [t.mm, t.exec()];
  for (const mm of [first, second]) {
    const range = t.map({ mm, huge: 2 });
    t.fill(range);
    t.madvise(range, "HUGEPAGE");
  }
  const { khugepaged } = t.m;
  for (let pass = 0; pass < 3; pass++) t.khugepaged();
  expect(khugepaged.cursorMm).toBe(second.id);
  t.knob("thp.enabled", "never");
  expect([threads(t.m), khugepaged.task, khugepaged.cursorMm]).toEqual([0, 0, -1]);
  expect(khugepaged.mms).toEqual([first.id, second.id]);
  expect(t.khugepaged()).toBe(null);
  t.knob("thp.enabled", "madvise");
  t.khugepaged(); // the first has two huge regions now: one of them is looked at
  expect(khugepaged.cursorMm).toBe(first.id);
  t.check();
});

test("COLL-025 an address space that ended under the cursor leaves the list when the thread ends", () => {
  const t = machine();
  t.knob("khugepaged.pages_to_scan", "1");
  t.mapHuge(2);
  const other = t.exec();
  t.write(t.map({ mm: other, huge: 1, advice: "HUGEPAGE" }));
  t.khugepaged();
  t.exit(t.mm);
  expect(t.m.khugepaged.mms).toEqual([t.mm.id, other.id]);
  t.knob("thp.enabled", "never");
  expect(t.m.khugepaged.mms).toEqual([other.id]);
});

test("COLL-023 a pass that somebody holds ends later, and its thread with it", () => {
  const t = machine();
  t.mapHuge(3);
  const pass = beginPass(t.m);
  expect(runToPhase(t.m, pass.id, "settle")).toBe("ran");
  t.knob("thp.enabled", "never");
  expect([threads(t.m), t.m.isKhugepagedRunning]).toEqual([1, false]);
  release(t.m, pass.id);
  expect(runToEnd(t.m, pass.id)).toBe(0);
  expect(t.khugepaged()).toBe(null);
  expect(threads(t.m)).toBe(0);

  t.knob("thp.enabled", "always");
  const again = beginPass(t.m);
  runToPhase(t.m, again.id, "settle");
  release(t.m, again.id);
  t.knob("thp.enabled", "never"); // this one waits for it
  expect([threads(t.m), t.m.sched.operations]).toEqual([0, []]);
});

test("COLL-026 without the daemon min_free_kbytes is the root of 16 times the memory above the high marks", () => {
  const m = createMachine({ memoryBytes: 16 * GIB });
  expect(m.sysctl.minFreeKbytes).toBe(4 * (512 * 3 * 2 + 512 * 3 * 9)); // three zones, COLL-028
  const usable = m.zones
    .filter(({ kind }) => kind !== ZONE.MOVABLE)
    .reduce((sum, zone) => sum + zone.managedPages - zone.watermarks.high, 0);
  write(m, "thp.enabled", "never");
  const kbytes = m.sysctl.minFreeKbytes;
  expect(kbytes ** 2 <= 64 * usable && (kbytes + 1) ** 2 > 64 * usable).toBe(true);
  // Each zone's share of it stands in its watermarks.
  const minima = m.zones.reduce((sum, { watermarks }) => sum + watermarks.min, 0);
  expect(Math.abs(minima - kbytes / 4)).toBeLessThan(m.zones.length);
});

test("COLL-026 the recommendation is at most a twentieth of memory, and does not count the movable zone", () => {
  const small = createMachine({ memoryBytes: GIB / 2 });
  const managed = small.zones.reduce((sum, zone) => sum + zone.managedPages, 0);
  expect(small.sysctl.minFreeKbytes).toBe(4 * Math.floor(managed / 20));
  const movable = createMachine({ memoryBytes: 16 * GIB, movableBytesPerNode: 4 * GIB });
  expect(movable.sysctl.minFreeKbytes).toBe(67_584);
});

test("COLL-027 a user's value is only ever raised, and remembered when the daemon goes", () => {
  const m = createMachine({ memoryBytes: 16 * GIB });
  const after = (value: string) => {
    write(m, "thp.enabled", value);
    return m.sysctl.minFreeKbytes;
  };
  setMinFreeKbytes(m, 100_000);
  expect([after("never"), after("madvise"), after("never")]).toEqual([100_000, 100_000, 100_000]);
  setMinFreeKbytes(m, 20_000);
  expect([after("always"), after("never"), after("always")]).toEqual([67_584, 67_584, 67_584]);
});

test("COLL-028 COLL-031 at boot the daemon exists, the knobs have their defaults, and min_free_kbytes is the recommendation", () => {
  const m = createMachine({ memoryBytes: 16 * GIB });
  expect([threads(m), m.sysctl.minFreeKbytes]).toEqual([1, 67_584]);
  expect(readKnob(m, "khugepaged.defrag")).toBe("1\n");
  for (const [mode, nr] of [
    ["always", 1],
    ["madvise", 1],
    ["never", 0],
  ] as const) {
    const booted = createMachine({
      memoryBytes: GIB,
      bootParameters: `transparent_hugepage=${mode}`,
    });
    expect(readKnob(booted, "thp.enabled")).toContain(`[${mode}]`);
    expect(threads(booted)).toBe(nr);
  }
});

test("COLL-029 on a machine with little memory all of it is off and can be switched on", () => {
  const m = createMachine({ memoryBytes: GIB / 4 });
  expect([readKnob(m, "thp.enabled"), threads(m)]).toEqual(["always madvise [never]\n", 0]);
  write(m, "thp.enabled", "always");
  expect(threads(m)).toBe(1);
});

test("COLL-008 COLL-009 nobody writes the daemon's counters", () => {
  const m = createMachine({ memoryBytes: GIB });
  for (const name of ["khugepaged.pages_collapsed", "khugepaged.full_scans"])
    expect(writeKnob(m, name, "0")).toBe(-EACCES);
});

test("COLL-030 frozen, the daemon begins nothing; a pass under way goes on, and what fell due meanwhile comes once", () => {
  const t = machine();
  const range = t.map({ huge: 1 });
  t.fill(range);
  t.madvise(range, "HUGEPAGE");
  const { work } = t.m.khugepaged;
  const passesUntil = (seconds: number) => {
    runDueDaemons(t.m, seconds * 1e9, FREE);
    return work.nrPasses;
  };
  expect(passesUntil(25)).toBe(3); // at 0, 10 and 20 s
  freezeKhugepaged(t.m);
  expect([passesUntil(65), t.khugepaged()]).toEqual([3, null]);
  thawKhugepaged(t.m);
  expect([passesUntil(66), passesUntil(76)]).toEqual([4, 5]);

  const fresh = t.map({ huge: 1 });
  t.fill(fresh);
  t.madvise(fresh, "HUGEPAGE");
  const pass = beginPass(t.m);
  runToPhase(t.m, pass.id, "copy");
  release(t.m, pass.id);
  freezeKhugepaged(t.m);
  passesUntil(77);
  expect([t.isHuge(fresh), t.m.sched.operations]).toEqual([true, []]);
});
