import { expect, test } from "vitest";
import { HUGE_SIZE, regionOf } from "../base/address.ts";
import { getUserPageFast } from "../fault/gup.ts";
import { beginSplit } from "../huge/split-folio.ts";
import { readPage } from "../machine/access.ts";
import { written } from "../machine/collapse-test-kit.ts";
import { digestOf } from "../machine/digest.ts";
import { createMachine, type Machine } from "../machine/machine.ts";
import { restore, snapshot } from "../machine/snapshot.ts";
import { type Kit, machine, of, part, type Range } from "../machine/test-kit.ts";
import { PG } from "../phys/frame-table.ts";
import { fieldsFor, migratePhases } from "../reclaim/migrate-phases.ts";
import { blockingLock, isFolioBusy, takeLock } from "../sched/locks.ts";
import { DONE, definePhases } from "../sched/phase-table.ts";
import {
  callOperation,
  hold,
  release,
  runToEnd,
  runToPhase,
  startOperation,
  stepOperation,
} from "../sched/runner.ts";
import type { Operation } from "../sched/state.ts";
import { createTask, taskOf } from "../sched/tasks.ts";
import { type CallKind, locksOf, locksOfAdvice } from "../syscall/call-locks.ts";
import { MADV } from "../syscall/madvise.ts";
import { PROT } from "../syscall/mmap.ts";
import { sysSetThpDisable } from "../syscall/prctl.ts";
import { protectWrites, registerRange, UFFD_MODE } from "../syscall/userfaultfd.ts";
import { type CollapseOp, collapseFields } from "./collapse-op.ts";
import { beginCollapse, collapsePhases } from "./collapse-phases.ts";
import { ACTOR, SCAN, scanResultName } from "./scan-result.ts";

interface Scene {
  readonly t: Kit;
  readonly range: Range;
  readonly child: Range | null;
  readonly op: CollapseOp;
}

type Mapped = Omit<Scene, "op">;

const small = () => machine({ memory: 16 });

/** Every way in which the sources of a collapse can be there. */
const MAPPED: Readonly<Record<string, () => Mapped>> = {
  "512 pages": () => {
    const t = small();
    return { t, range: written(t), child: null };
  },
  "pages with holes, zero pages and pages shared with a child": () => {
    const t = small();
    const range = written(t, 40);
    t.read(range, 100);
    const child = of(t.fork(), range);
    t.write(child, 3);
    return { t, range, child };
  },
  "pages of which some are swapped out": () => {
    const t = small();
    const range = written(t, 100);
    t.swapon({ pages: 64 });
    t.madvise(part(range, 0, 10), "PAGEOUT");
    return { t, range, child: of(t.fork(), range) };
  },
  "folios of 64 kB in locked memory": () => {
    const t = machine({ memory: 16, sizes: { "64kB": "always", "2048kB": "never" } });
    const range = t.map({ huge: 1, advice: "HUGEPAGE" });
    t.fill(part(range, 0, 100));
    t.mlock(range, "onFault");
    return { t, range, child: null };
  },
};

function begin({ t, range, child }: Mapped, actor: keyof typeof ACTOR = "madvise"): Scene {
  const task = createTask(t.m, "collapser", range.mm.id);
  const op = beginCollapse(t.m, task.id, range.mm, regionOf(range.start), ACTOR[actor]);
  return { t, range, child, op };
}

/** Begun and held before the phase. */
function heldAt(phase: string, mapped: Mapped = MAPPED["512 pages"](), actor?: keyof typeof ACTOR) {
  const scene = begin(mapped, actor);
  expect(runToPhase(scene.t.m, scene.op.id, phase)).toBe("ran");
  scene.t.check();
  return scene;
}

function finish({ t, op }: Pick<Scene, "t" | "op">): string {
  release(t.m, op.id);
  runToEnd(t.m, op.id);
  t.check();
  return scanResultName(op.result);
}

function endOf(m: Machine, op: number): string {
  release(m, op);
  runToEnd(m, op);
  return digestOf(m);
}

for (const [name, map] of Object.entries(MAPPED)) {
  test(`COLL-213 a collapse of ${name}: whole at every boundary, saved and restored there the end is the same`, () => {
    const whole = begin(map());
    let nr = 1;
    while (stepOperation(whole.t.m, whole.op.id) !== "done") {
      whole.t.check();
      nr++;
    }
    expect(nr).toBe(name.includes("swapped") ? 9 : 8);
    expect([whole.op.result, whole.t.states(whole.range)]).toEqual([SCAN.SUCCEED, "huge*512"]);
    const wanted = digestOf(whole.t.m);
    for (let at = 0; at < nr; at++) {
      const scene = begin(map());
      for (let i = 0; i < at; i++) stepOperation(scene.t.m, scene.op.id);
      const records = scene.t.m.sched.operations;
      expect(JSON.parse(JSON.stringify(records))).toEqual(records);
      const fresh = createMachine({ memoryBytes: 16 * 2 ** 20 });
      restore(fresh, snapshot(scene.t.m));
      expect([at, endOf(fresh, scene.op.id)]).toEqual([at, wanted]);
      expect([at, endOf(scene.t.m, scene.op.id)]).toEqual([at, wanted]);
    }
  });

  test(`COLL-131 a collapse of ${name} that is undone at the last moment leaves no trace but counters`, () => {
    const mapped = map();
    const { t, range } = mapped;
    const seen = () => [
      t.pfns(range),
      t.contents(range),
      t.states(range),
      t.smaps(range),
      t.entry(range),
    ];
    const scene = heldAt("copy", mapped);
    release(t.m, scene.op.id);
    const from = t.m.tables.payload[scene.op.pteTable * 512];
    t.m.frames.flags[from] |= PG.HWPOISON;
    t.m.poison.nrPages++;
    runToEnd(t.m, scene.op.id);
    t.m.frames.flags[from] &= ~PG.HWPOISON;
    t.m.poison.nrPages--;
    t.check();
    expect(scanResultName(scene.op.result)).toBe("copy_poisoned_page");
    const failed = seen();
    const again = begin({ t, range, child: null });
    runToPhase(t.m, again.op.id, "lock");
    expect(seen()).toEqual(failed);
    expect(finish(again)).toBe("succeeded");
  });
}

/** Calls of another thread of the same process: what they need, and what they do. */
const CALLS: Readonly<Record<string, { lock: CallKind | number; act: (scene: Scene) => unknown }>> =
  {
    "a write fault": { lock: "fault", act: ({ t, range }) => t.write(range, 5) },
    "munmap of a part": { lock: "munmap", act: ({ t, range }) => t.munmap(part(range, 2, 3)) },
    "munmap of all": { lock: "munmap", act: ({ t, range }) => t.munmap(range) },
    "mprotect of all": { lock: "mprotect", act: ({ t, range }) => t.mprotect(range, PROT.READ) },
    "a move": {
      lock: "mremap",
      act: ({ t, range }) => t.mremap(range, 512, { at: range.start + 2 ** 32 }),
    },
    "a move of one page": {
      lock: "mremap",
      act: ({ t, range }) => t.mremap(part(range, 3, 1), 1, { at: range.start + 2 ** 32 }),
    },
    fork: { lock: "fork", act: ({ t }) => t.fork() },
    "fork, and the parent exits": {
      lock: "exit",
      act: ({ t, range }) => {
        t.fork();
        t.exit(range.mm);
      },
    },
    exit: { lock: "exit", act: ({ t, range }) => t.exit(range.mm) },
    mlock: { lock: "mprotect", act: ({ t, range }) => t.mlock(range, "onFault") },
    MADV_DONTNEED: { lock: MADV.DONTNEED, act: ({ t, range }) => t.madvise(range, "DONTNEED") },
    "MADV_DONTNEED of a part": {
      lock: MADV.DONTNEED,
      act: ({ t, range }) => t.madvise(part(range, 0, 7), "DONTNEED"),
    },
    MADV_FREE: { lock: MADV.FREE, act: ({ t, range }) => t.madvise(range, "FREE") },
    MADV_PAGEOUT: { lock: MADV.PAGEOUT, act: ({ t, range }) => t.madvise(range, "PAGEOUT") },
    MADV_NOHUGEPAGE: {
      lock: MADV.NOHUGEPAGE,
      act: ({ t, range }) => t.madvise(range, "NOHUGEPAGE"),
    },
    MADV_GUARD_INSTALL: {
      lock: MADV.GUARD_INSTALL,
      act: ({ t, range }) => t.madvise(part(range, 4, 2), "GUARD_INSTALL"),
    },
    "a fault of the child": {
      lock: "fault",
      act: ({ t, range, child }) => t.write(child ?? range, 2),
    },
  };

const HOLDS_WRITE = ["isolate", "copy", "install"];

/** Contents of every page that any living process has, here and where it may have been moved; what is not there is zero. */
function memoryOf({ t, range }: Mapped): string[] {
  const spaces = t.m.mms.filter((mm) => mm !== null);
  const places = [range, { ...range, start: range.start + 2 ** 32 }];
  return spaces.flatMap((mm) => places.map((place) => contentsRead(t, of(mm, place))));
}

/** Swapped pages come back, so that their contents can be compared. */
function contentsRead(t: Kit, range: Range): string {
  const region = regionOf(range.start);
  for (let i = 0; i < 512; i++) readPage(t.m, range.mm, region, i);
  const tags = t.contents(range).map((tag) => Math.max(tag, 0));
  return tags.join(" ").replace(/( 0)+$/, "");
}

for (const [name, map] of Object.entries(MAPPED).slice(0, 3)) {
  for (const [what, { lock, act }] of Object.entries(CALLS)) {
    // What MADV_FREE does to a page depends on whether it is swapped out.
    if (what === "MADV_FREE" && name.includes("swapped")) continue;
    test(`COLL-200 COLL-201 COLL-202 COLL-204 ${what} in each window of a collapse of ${name} loses nothing`, () => {
      const alone = map();
      act({ ...alone, op: null as unknown as CollapseOp });
      const wanted = memoryOf(alone);
      for (const phase of ["allocate", "swapIn", "lock", "isolate", "install"]) {
        const scene = begin(map());
        if (runToPhase(scene.t.m, scene.op.id, phase) !== "ran") continue;
        const { t, range, op } = scene;
        const task = createTask(t.m, "other", range.mm.id);
        const target = what.includes("child") ? (scene.child ?? range) : range;
        const end = range.start + HUGE_SIZE;
        const wants =
          typeof lock === "number"
            ? locksOfAdvice(target.mm, lock, range.start, end)
            : locksOf(target.mm, lock, range.start, end);
        const isBlocked = blockingLock(t.m, taskOf(t.m, task.id), wants) !== null;
        const isOwn = target.mm === range.mm;
        if (HOLDS_WRITE.includes(phase)) expect([phase, isBlocked]).toEqual([phase, isOwn]);
        if (isBlocked) release(t.m, op.id); // the call waits: the collapse goes on to its end
        const answer = act(scene);
        if (t.m.sched.operations.length > 0) finish(scene);
        t.check();
        // Its page is in the swap cache, and locked by the collapse: the write is made again, with another value.
        if (answer === "wait") {
          expect(act(scene)).toBe("swap-in");
          continue;
        }
        expect([phase, memoryOf(scene)]).toEqual([phase, wanted]);
      }
    });
  }
}

test("COLL-140 COLL-201 COLL-204 what changed while no lock was held ends the collapse with the reason, and frees the new page", () => {
  const changes: readonly [string, (t: Kit, range: Range) => unknown, string][] = [
    ["THP disabled", (t) => sysSetThpDisable(t.m, t.mm, 1, 0), "no_process_for_page"],
    ["exit", (t, range) => t.exit(range.mm), "no_process_for_page"],
    ["unmapped, nothing above", (t, range) => unmapAbove(t, range), "vma_null"],
    ["a part unmapped", (t, range) => t.munmap(part(range, 511, 1)), "not_suitable_address_range"],
    ["unmapped", (t, range) => t.munmap(range), "not_suitable_address_range"],
    ["MADV_NOHUGEPAGE", (t, range) => t.madvise(range, "NOHUGEPAGE"), "vma_check_failed"],
    ["emptied", (t, range) => t.madvise(range, "DONTNEED"), "pmd_none"],
  ];
  for (const [name, change, result] of changes) {
    for (const phase of ["allocate", "revalidate", "lock"]) {
      const scene = heldAt(phase);
      const { t, range } = scene;
      change(t, range);
      const ended = t.thpDeltas(() =>
        expect([name, phase, finish(scene)]).toEqual([name, phase, result]),
      );
      expect(ended).toEqual(phase === "allocate" ? { thp_collapse_alloc: 1 } : {});
    }
  }
});

function unmapAbove(t: Kit, range: Range): void {
  for (const { start, end } of [...range.mm.vmas])
    if (end > range.start) t.munmap({ mm: range.mm, start, nrPages: (end - start) / 4096 });
}

test("COLL-128 COLL-202 another PMD table in the place of the one seen before the lock is a failure", () => {
  const scene = heldAt("lock");
  const { t, range } = scene;
  t.munmap(range);
  t.map({ huge: 1, at: 2 ** 42, advice: "HUGEPAGE" });
  t.write({ ...range, start: 2 ** 42 }); // takes the freed row
  t.map({ huge: 1, at: range.start, advice: "NOHUGEPAGE" });
  t.fill(range);
  t.madvise(range, "HUGEPAGE");
  expect(finish(scene)).toBe("failed");
});

test("COLL-203 a huge page that is there when the lock is back is as good", () => {
  for (const phase of ["revalidate", "lock"]) {
    const scene = heldAt(phase);
    const { t, range } = scene;
    t.madvise(range, "DONTNEED");
    expect(t.write(range)).toBe("anon 2M");
    expect(finish(scene)).toBe("page_pmd_mapped");
  }
});

test("COLL-203 of two collapses of one region the second finds it huge", () => {
  const first = heldAt("lock");
  const second = begin(first);
  runToPhase(first.t.m, second.op.id, "lock");
  expect([finish(second), finish(first)]).toEqual(["succeeded", "page_pmd_mapped"]);
  const third = heldAt("copy");
  const blocked = begin(third);
  expect(runToPhase(third.t.m, blocked.op.id, "allocate")).toBe("blocked");
  expect([finish(third), finish(blocked)]).toEqual(["succeeded", "page_pmd_mapped"]);
});

test("COLL-205 a pin before the pages are taken refuses, and everything is put back; one through a child afterwards is harmless", () => {
  for (const phase of ["allocate", "lock", "isolate"]) {
    const scene = heldAt(phase);
    const { t, range } = scene;
    const before = [t.pfns(range), t.contents(range), t.entry(part(range, 9, 1))];
    t.pin(part(range, 300, 1));
    expect(finish(scene)).toBe("not_suitable_page_count");
    expect([t.pfns(range), t.contents(range), t.entry(part(range, 9, 1))]).toEqual(before);
  }
  const mapped = MAPPED["pages with holes, zero pages and pages shared with a child"]();
  const scene = heldAt("copy", mapped);
  const { t, range } = scene;
  const child = scene.child!;
  const held = t.get(part(child, 7, 1));
  expect(finish(scene)).toBe("succeeded");
  expect(t.pfns(part(child, 7, 1))).toEqual([held]);
  expect(t.pfns(range)).not.toContain(held);
  t.put(held);
});

test("COLL-205 COLL-209 once the entry is gone lockless GUP finds nothing, and accesses fault and wait", () => {
  for (const phase of ["copy", "install"]) {
    const scene = heldAt(phase);
    const { t, range } = scene;
    expect(getUserPageFast(t.m, t.mm, regionOf(range.start), 3, "read")).toBe(-11);
    expect([t.write(range, 3), t.read(range, 4)]).toEqual(["wait", "wait"]);
    expect(finish(scene)).toBe("succeeded");
    expect(t.write(range, 3)).toBe("none");
  }
});

test("COLL-209 what is written before the pages are taken is in the new page", () => {
  const scene = heldAt("isolate");
  const { t, range } = scene;
  expect(t.write(range, 17)).toBe("none");
  const contents = t.contents(range);
  finish(scene);
  expect(t.contents(range)).toEqual(contents);
});

test("COLL-200 a fault of another region of the process waits as well, in another process nobody does", () => {
  const mapped = MAPPED["512 pages"]();
  const { t } = mapped;
  const other = t.map({ huge: 1 });
  const stranger = t.map({ huge: 1, mm: t.exec() });
  const scene = heldAt("copy", mapped);
  expect([t.write(other), t.write(stranger)]).toEqual(["wait", "anon 4k"]);
  finish(scene);
});

test("COLL-200 a fault lets a collapse go on that nobody holds, and is one fault", () => {
  const scene = heldAt("copy");
  const { t, range, op } = scene;
  release(t.m, op.id);
  expect(t.deltas(() => expect(t.write(range, 9)).toBe("spurious")).pgfault).toBe(1);
  expect(t.isHuge(range)).toBe(true);
});

test("COLL-206 a page that is swapped out before the swap-in comes back, one swapped out after it refuses", () => {
  const make = () => {
    const mapped = MAPPED["512 pages"]();
    mapped.t.swapon({ pages: 64 });
    return mapped;
  };
  const late = heldAt("lock", make());
  late.t.madvise(part(late.range, 0, 3), "PAGEOUT");
  expect(finish(late)).toBe("pte_non_present");
  expect(late.t.states(late.range)).toBe("swap*3 small*509");

  const early = make();
  early.t.madvise(part(early.range, 9, 1), "PAGEOUT");
  const scene = heldAt("revalidate", early);
  scene.t.madvise(part(scene.range, 0, 3), "PAGEOUT");
  expect(finish(scene)).toBe("succeeded");
});

test("COLL-206 COLL-207 COLL-211 while they are copied the old pages are locked: nobody reclaims, moves or splits them", () => {
  const mapped = MAPPED["pages with holes, zero pages and pages shared with a child"]();
  mapped.t.swapon({ pages: 64 });
  const scene = heldAt("copy", mapped);
  const { t } = scene;
  const child = scene.child!;
  const frames = t.pfns(child);
  expect(isFolioBusy(t.m, frames[7])).toBe(true);
  t.madvise(part(child, 0, 40), "PAGEOUT");
  expect(t.pfns(child)[7]).toBe(frames[7]);
  const held = t.get(part(child, 7, 1));
  const task = createTask(t.m, "mover");
  const op = startOperation(t.m, migratePhases, task.id, fieldsFor(t.m, held));
  expect(stepOperation(t.m, op.id)).toBe("blocked");
  expect(finish(scene)).toBe("succeeded");
  expect(runToEnd(t.m, op.id)).toBe(0);
  t.put(held);
});

test("COLL-207 a page that is being moved refuses, or is waited for and taken from its new place", () => {
  for (const [phase, result] of [
    ["unmap", "page_locked"], // the mover has the folio, not yet its mappings
    ["move", "pte_non_present"],
    ["remap", "succeeded"], // and here the anon_vma: the collapse waits for that
  ] as const) {
    const scene = heldAt("lock");
    const { t, range } = scene;
    const contents = t.contents(range);
    const held = t.get(part(range, 50, 1));
    const task = createTask(t.m, "mover");
    const mover = startOperation(t.m, migratePhases, task.id, fieldsFor(t.m, held));
    if (phase === "remap") {
      while (mover.phase !== "remap") stepOperation(t.m, mover.id);
      takeLock(t.m, {
        name: "anonVma",
        id: mover.anonVma,
        mode: "write",
        task: task.id,
        operation: mover.id,
      });
      hold(t.m, mover.id);
    } else {
      runToPhase(t.m, mover.id, phase);
    }
    release(t.m, scene.op.id);
    const isWaiting = phase === "remap";
    expect(runToEnd(t.m, scene.op.id) === null).toBe(isWaiting);
    release(t.m, mover.id);
    expect(runToEnd(t.m, mover.id)).toBe(0);
    t.put(held);
    if (isWaiting) runToEnd(t.m, scene.op.id);
    expect([phase, scanResultName(scene.op.result)]).toEqual([phase, result]);
    expect(t.contents(range)).toEqual(contents);
  }
});

test("COLL-208 a child that writes or unmaps old pages while they are copied", () => {
  const mapped = MAPPED["pages with holes, zero pages and pages shared with a child"]();
  const scene = heldAt("copy", mapped);
  const { t, range } = scene;
  const child = scene.child!;
  const contents = t.contents(child);
  expect(t.write(child, 7)).toBe("copy-on-write 4k");
  t.munmap(part(child, 8, 4));
  expect(finish(scene)).toBe("succeeded");
  expect(t.contents(part(range, 7, 5))).toEqual(contents.slice(7, 12));
});

test("COLL-202 COLL-209 holes made and pages protected meanwhile: khugepaged's limit, a userfaultfd's rights", () => {
  const limited = heldAt("isolate", MAPPED["512 pages"](), "khugepaged");
  limited.t.knob("khugepaged.max_ptes_none", "3");
  release(limited.t.m, limited.op.id);
  limited.t.madvise(part(limited.range, 0, 1), "COLD");
  expect(finish(limited)).toBe("succeeded");

  const holes = heldAt("lock", MAPPED["512 pages"](), "khugepaged");
  holes.t.knob("khugepaged.max_ptes_none", "3");
  holes.t.madvise(part(holes.range, 0, 4), "DONTNEED");
  const counted = holes.t.deltas(() => expect(finish(holes)).toBe("exceed_none_pte"));
  expect(counted.thp_scan_exceed_none_pte).toBe(1);

  const watched = heldAt("lock");
  registerRange(watched.t.m, watched.t.mm, watched.range.start, HUGE_SIZE, UFFD_MODE.WP);
  protectWrites(watched.t.m, watched.t.mm, watched.range.start, 4096, "protect");
  expect(finish(watched)).toBe("pte_uffd_wp");
});

test("COLL-130 what is tested again when the pages are taken: sharing, use, holes", () => {
  const shared = heldAt("lock", MAPPED["512 pages"](), "khugepaged");
  shared.t.fork();
  const counted = shared.t.deltas(() => expect(finish(shared)).toBe("exceed_shared_pte"));
  expect(counted.thp_scan_exceed_share_pte).toBe(1);

  const idle = heldAt("lock", MAPPED["512 pages"](), "khugepaged");
  idle.t.madvise(idle.range, "COLD");
  expect(finish(idle)).toBe("lack_referenced_page");
});

test("COLL-212 memory that fails before the pages are taken refuses", () => {
  const t = machine({ memory: 16, memoryFailure: "on" });
  const range = written(t);
  const scene = heldAt("lock", { t, range, child: null });
  t.madvise(part(range, 3, 1), "HWPOISON");
  expect(finish(scene)).toBe("pte_non_present");
});

test("COLL-211 a large source that is split meanwhile is taken in pieces", () => {
  const t = machine({ memory: 16, sizes: { "64kB": "always", "2048kB": "never" } });
  const range = t.map({ huge: 1, advice: "HUGEPAGE" });
  t.fill(range);
  const contents = t.contents(range);
  const scene = heldAt("lock", { t, range, child: null });
  const held = t.get(part(range, 16, 1));
  const task = createTask(t.m, "splitter");
  const split = beginSplit(t.m, task.id, held, 0, held);
  expect(runToEnd(t.m, split.id)).toBe(0);
  t.put(held);
  expect(finish(scene)).toBe("succeeded");
  expect(t.contents(range)).toEqual(contents);
});

test("COLL-068 the caller's mmap lock is given back if the scan refuses, and is gone if it went further", () => {
  interface Visit extends Operation {
    readonly mmId: number;
    readonly region: number;
  }
  const visit = definePhases<Machine, Visit>({
    name: "visit",
    about: "one region, for a test",
    first: "look",
    phases: {
      look: {
        holds: "mmap:read",
        run(m, op) {
          callOperation(m, collapsePhases, op, collapseFields(op.mmId, op.region, ACTOR.madvise));
          return "after";
        },
      },
      after: { holds: "mmap:read", run: () => DONE },
    },
    lockId: (op) => op.mmId,
    frames: () => [],
  });
  for (const [nrPins, nrLocks] of [
    [1, 1],
    [0, 0],
  ]) {
    const { t, range } = MAPPED["512 pages"]();
    t.m.phaseTables = { ...t.m.phaseTables, visit };
    if (nrPins > 0) t.pin(range);
    const task = createTask(t.m, "visitor");
    const fields = { mmId: t.mm.id, region: regionOf(range.start) };
    const op = startOperation(t.m, visit, task.id, fields);
    while (op.phase !== "after" || t.m.sched.operations.length > 1) stepOperation(t.m, op.id);
    expect([op.callLocks, t.m.sched.locks.length]).toEqual([nrLocks, nrLocks]);
    runToEnd(t.m, op.id);
    expect(t.m.sched.locks).toEqual([]);
  }
});

test("an address space that is gone is not taken for one that has come after it", () => {
  const scene = heldAt("revalidate");
  const { t, range } = scene;
  t.exit(range.mm);
  const mm = t.exec();
  t.map({ huge: 1, mm, at: range.start, advice: "HUGEPAGE" });
  t.fill(of(mm, range));
  expect(finish(scene)).toBe("no_process_for_page");
});

test("COLL-344 the old page table is in use until its last entry was read, and is the deposit then", () => {
  const scene = heldAt("install");
  const { t, op } = scene;
  const { pteTable, pmdSlot } = op;
  const { tables, frames } = t.m;
  expect(tables.nrUsed[pteTable]).toBe(512);
  expect(frames.flags[tables.pfn[pteTable]] & PG.PGTABLE).not.toBe(0);
  expect(finish(scene)).toBe("succeeded");
  expect([tables.nrUsed[pteTable], tables.depositHead[pmdSlot >>> 9]]).toEqual([0, pteTable]);
});

test("COLL-120 COLL-358 no lock is held while the huge page is allocated, nor until the region is looked at again", () => {
  for (const phase of ["allocate", "revalidate", "lock"]) {
    const { t } = heldAt(phase);
    expect([phase, t.m.sched.locks]).toEqual([phase, []]);
  }
});
