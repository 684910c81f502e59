import { expect, test } from "vitest";
import { regionOf } from "../base/address.ts";
import { digestOf } from "../machine/digest.ts";
import { createMachine, type Machine } from "../machine/machine.ts";
import {
  entriesOf,
  modeOf,
  type SharedScene,
  sharedScene,
  statsOf,
} from "../machine/shared-scene.fixture.ts";
import { restore, snapshot } from "../machine/snapshot.ts";
import { of, part, type Range } from "../machine/test-kit.ts";
import { ENTRY, pteTableOf } from "../mm/page-tables.ts";
import { PG } from "../phys/frame-table.ts";
import { release, runToEnd, stepOperation } from "../sched/runner.ts";
import { createTask } from "../sched/tasks.ts";
import { PROT } from "../syscall/mmap.ts";
import { beginSharedCollapse } from "./shared-collapse.ts";
import { sharedResultName } from "./shared-result.ts";

/** Phases of an operation that succeeds, in order; each is a place where others may come in before it. */
const PHASES = [
  "identify",
  "allocate",
  "isolate",
  "recount",
  "freeze",
  "checkPins",
  "copy",
  "remap",
  "release",
] as const;
type PhaseName = (typeof PHASES)[number];

/** Three that share: the pivot wrote a page of its own since, one child too, the other child has left part of it. */
function scene(): SharedScene {
  const made = sharedScene({ children: 2, memory: 16 });
  const { t, range, others } = made;
  t.write(range, 20);
  t.write(others[0], 30);
  t.munmap(part(others[1], 500, 12));
  return made;
}

/** The operation stopped before `phase`, and held there. */
function heldAt({ t, range }: SharedScene, phase: PhaseName): number {
  const task = createTask(t.m, "collapser");
  const op = beginSharedCollapse(t.m, task.id, range.mm.id, regionOf(range.start));
  op.isHeld = true;
  while (op.phase !== phase) expect(stepOperation(t.m, op.id)).toBe("ran");
  t.check();
  return op.id;
}

function finish(m: Machine, op: number): string {
  release(m, op);
  return sharedResultName(runToEnd(m, op) ?? -1);
}

test("COLL-483 saved and restored at every phase boundary, the end is the same", () => {
  const whole = scene();
  const first = heldAt(whole, "identify");
  expect(finish(whole.t.m, first)).toBe("succeed");
  const wanted = digestOf(whole.t.m);
  for (const phase of PHASES) {
    const made = scene();
    const op = heldAt(made, phase);
    const record = made.t.m.sched.operations[0];
    expect(JSON.parse(JSON.stringify(record))).toEqual(record);
    const fresh = createMachine({ memoryBytes: 16 * 2 ** 20, sharedCollapse: "present" });
    restore(fresh, snapshot(made.t.m));
    expect([phase, finish(fresh, op), digestOf(fresh)]).toEqual([phase, "succeed", wanted]);
  }
});

test("COLL-433 COLL-438 between freeze and remap no entry maps a source: all are migration entries that keep their bits", () => {
  for (const phase of ["checkPins", "copy", "remap"] as const) {
    const made = scene();
    const { t, range, others } = made;
    const sources = new Set(t.pfns(range));
    const kept = ENTRY.WRITE | ENTRY.YOUNG | ENTRY.DIRTY | ENTRY.SOFT_DIRTY | ENTRY.UFFD_WP;
    const bits = () =>
      [range, ...others].map((r) => {
        const base = pteTableOf(t.m.tables, r.mm.root, regionOf(r.start)) * 512;
        return [...t.m.tables.flags.slice(base, base + 512)].map((flags) => flags & kept);
      });
    const before = bits();
    heldAt(made, phase);
    expect(bits()).toEqual(before);
    for (const r of [range, ...others])
      for (const pfn of t.pfns(r)) expect(sources.has(pfn)).toBe(false);
    expect(t.entry(part(range, 20, 1))).toBe("WRITE YOUNG DIRTY MIGRATION EXCLUSIVE");
    expect(t.entry(part(range, 21, 1))).toBe("YOUNG DIRTY MIGRATION");
    expect([t.write(range, 20), t.read(others[0], 21)]).toEqual(["wait", "wait"]);
    // What is the child's own is not touched, be it a copy or the page that the pivot copied.
    expect([t.write(others[0], 30), t.read(others[0], 20)]).toEqual(["none", "none"]);
  }
});

test("COLL-433 TLBs are told before an entry changes, for every address space", () => {
  const made = scene();
  const { t, range, others } = made;
  const told = new Map<number, number>();
  t.m.mmuNotifier = {
    invalidateRange: (mmId, start, end) => void told.set(mmId, (told.get(mmId) ?? 0) + end - start),
    release: () => undefined,
  };
  heldAt(made, "checkPins");
  expect([...told].sort(([a], [b]) => a - b)).toEqual([
    [range.mm.id, 512],
    [others[0].mm.id, 510],
    [others[1].mm.id, 499],
  ]);
});

/** What one of those who share may do in a gap; `who` is its part of the region. */
const ACTIONS: Readonly<Record<string, (s: SharedScene, who: Range) => void>> = {
  "a write fault on a shared page": ({ t }, who) => void t.write(who, 5),
  "a write fault on the pivot's own page": ({ t }, who) => void t.write(who, 20),
  "a read fault": ({ t }, who) => void t.read(who, 6),
  "munmap of a part": ({ t }, who) => void t.munmap(part(who, 2, 30)),
  "munmap of all": ({ t }, who) => void t.munmap(who),
  "MADV_DONTNEED of a part": ({ t }, who) => void t.madvise(part(who, 10, 20), "DONTNEED"),
  "MADV_DONTNEED of all": ({ t }, who) => void t.madvise(part(who, 0, 500), "DONTNEED"),
  "MADV_FREE of a part": ({ t }, who) => void t.madvise(part(who, 10, 20), "FREE"),
  "MADV_PAGEOUT without swap": ({ t }, who) => void t.madvise(part(who, 10, 20), "PAGEOUT"),
  MADV_COLD: ({ t }, who) => void t.madvise(part(who, 10, 20), "COLD"),
  "MADV_NOHUGEPAGE of a part": ({ t }, who) => void t.madvise(part(who, 7, 1), "NOHUGEPAGE"),
  MADV_COLLAPSE: ({ t }, who) => void t.madvise(who, "COLLAPSE"),
  "mprotect of a part": ({ t }, who) => void t.mprotect(part(who, 1, 40), PROT.READ),
  "mprotect to nothing": ({ t }, who) => void t.mprotect(part(who, 0, 500), PROT.NONE),
  "mlock on fault": ({ t }, who) => void t.mlock(part(who, 0, 500), "onFault"),
  fork: ({ t }, who) => void t.fork(who.mm),
  "fork, and the child exits": ({ t }, who) => t.exit(t.fork(who.mm)),
  "fork, and the parent exits": ({ t }, who) => {
    t.fork(who.mm);
    t.exit(who.mm);
  },
  exit: ({ t }, who) => t.exit(who.mm),
  "exit of all": ({ t }) => {
    for (const mm of [...t.m.mms]) if (mm !== null) t.exit(mm);
  },
  "a move elsewhere": ({ t }, who) => {
    t.mremap(part(who, 0, 500), 500, { at: who.start + 2 ** 32 });
  },
  "a move of one page": ({ t }, who) => {
    t.mremap(part(who, 3, 1), 1, { at: who.start + 2 ** 32 });
  },
  "the deferred split shrinker": ({ t }) => void t.dropSlab(0),
};

/** Whoever wants the pivot for itself waits until the operation has dropped its lock. */
function letPass({ t }: SharedScene, op: number): void {
  while (t.m.sched.locks.some(({ name }) => name === "mmap")) stepOperation(t.m, op);
}

/** Contents of every page that any process maps, there or where it was moved. */
function memoryOf({ t, range }: SharedScene): string {
  const mms = t.m.mms.filter((mm) => mm !== null);
  const places = [range, { ...range, start: range.start + 2 ** 32 }];
  return JSON.stringify(mms.map((mm) => places.map((place) => t.contents(of(mm, place)).join())));
}

/** Reasons that a change of the mappings may lead to (COLL-483). */
const ENDS = /^(succeed|not_candidate|not_shared|vma|uffd|lock|lru|pinned|root|compound|already)$/;

for (const [what, act] of Object.entries(ACTIONS))
  test(`COLL-483 ${what} by each sharer before each phase: it completes or leaves no trace, and nothing is lost`, () => {
    const twice = what.includes("fault on") || what === "a read fault" || what === "MADV_COLLAPSE";
    const takesLockShared = /fault on|read fault|MADV_(DONTNEED|FREE|PAGEOUT|COLD)|shrinker/.test(
      what,
    );
    for (const index of [0, 1, 2]) {
      const who = (s: SharedScene) => [s.range, ...s.others][index];
      const alone = scene();
      act(alone, who(alone));
      if (twice) act(alone, who(alone)); // one that has to wait is made again
      const wanted = memoryOf(alone);
      for (const phase of PHASES) {
        const made = scene();
        const op = heldAt(made, phase);
        if (!takesLockShared) letPass(made, op);
        act(made, who(made)); // checks the whole machine
        const end = finish(made.t.m, op);
        made.t.check();
        if (twice) act(made, who(made));
        expect(end).toMatch(ENDS);
        expect([index, phase, memoryOf(made)]).toEqual([index, phase, wanted]);
        expect(made.t.m.sched.locks).toEqual([]);
        for (const flags of made.t.m.frames.flags)
          if ((flags & PG.LOCKED) !== 0) throw new Error("locked");
      }
    }
  });

test("COLL-483 COLL-434 a reference taken before any phase ends on the page that its owner maps", () => {
  for (const [index, page] of [
    [0, 20],
    [0, 40],
    [1, 40],
  ] as const) {
    const ends = PHASES.map((phase) => {
      const made = scene();
      const { t } = made;
      const who = part([made.range, ...made.others][index], page, 1);
      const op = heldAt(made, phase);
      // Between freeze and remap there is nothing to take a reference through: it has to wait.
      const isThere = t.pfns(who)[0] >= 0;
      const pfn = isThere ? t.get(who) : -1;
      const end = finish(t.m, op);
      t.check();
      if (isThere) expect([phase, t.pfns(who)[0]]).toEqual([phase, pfn]);
      return `${isThere ? "taken" : "waits"} ${end}`;
    });
    expect(ends).toEqual([
      "taken pinned",
      "taken pinned",
      "taken pinned",
      "taken pinned",
      "taken pinned",
      "waits succeed",
      "waits succeed",
      "waits succeed",
      "taken succeed",
    ]);
  }
});

test("COLL-434 COLL-439 a pin taken after the pages were isolated is found when they are frozen; all entries come back bit for bit", () => {
  const made = scene();
  const { t, range, others } = made;
  const entries = () => [range, ...others].map((r) => entriesOf(t, r.mm, r.start));
  const before = entries();
  const op = heldAt(made, "freeze");
  t.pin(part(range, 20, 1)); // exclusive: its mapping is never taken away
  t.pin(part(others[1], 50, 1));
  expect(finish(t.m, op)).toBe("pinned");
  t.check();
  expect(entries()).toEqual(before);
  expect(statsOf(t)).toMatchObject({ shared_abort_pinned: 1, thp_shared_collapse_alloc: 1 });
  expect(modeOf(t).records[0]).toMatchObject({ nrFrozen: 1520, nrRestored: 1520, nrPagesFreed: 0 });
});

test("COLL-435 COLL-439 a page that fails while it is to be copied: COPY_MC, and everything is as it was", () => {
  const made = scene();
  const { t, range, others } = made;
  const entries = () => [range, ...others].map((r) => entriesOf(t, r.mm, r.start));
  const before = entries();
  const pfn = t.pfns(range)[44];
  const op = heldAt(made, "copy");
  t.m.frames.flags[pfn] |= PG.HWPOISON;
  expect(finish(t.m, op)).toBe("copy_mc");
  t.m.frames.flags[pfn] &= ~PG.HWPOISON;
  t.check();
  expect(entries()).toEqual(before);
});

test("COLL-441 COLL-440 entries that stand longer than the bound before the pins are looked at: STALL", () => {
  for (const [ms, phase, end] of [
    [4, "checkPins", "succeed"],
    [6, "checkPins", "stall"],
    [60, "copy", "succeed"], // from there on it runs to its end
  ] as const) {
    const made = scene();
    const { t } = made;
    t.knob("khugepaged.shared_collapse_batch_ms", "5");
    const op = heldAt(made, phase);
    t.m.sched.nowNs += ms * 1e6;
    expect([ms, finish(t.m, op)]).toEqual([ms, end]);
    t.check();
    expect(modeOf(t).stats.shared_stall_ns_max).toBeGreaterThan(ms * 1e6);
  }
});

test("COLL-441 the work of freezing counts too: five thousand entries at 60 ns fill no millisecond, at 1 us they do", () => {
  for (const [pteNs, end] of [
    [60, "succeed"],
    [1000, "stall"],
  ] as const) {
    const made = scene();
    modeOf(made.t).prices = { pteNs, vmaNs: 0, flushNs: 0, copyNs: 0 };
    made.t.knob("khugepaged.shared_collapse_batch_ms", "1");
    expect(finish(made.t.m, heldAt(made, "identify"))).toBe(end);
  }
});

test("COLL-432 COLL-440 sharers that come after the first count are counted again before anything is frozen", () => {
  const made = scene();
  const { t, range } = made;
  t.knob("khugepaged.shared_collapse_max_sharers", "3");
  const op = heldAt(made, "recount");
  t.fork(made.others[1].mm); // the pivot itself is locked
  const before = entriesOf(t, range.mm, range.start);
  expect(finish(t.m, op)).toBe("budget");
  t.check();
  expect(entriesOf(t, range.mm, range.start)).toBe(before);
  expect(statsOf(t)).toMatchObject({ shared_abort_budget: 1 });
});

test("COLL-431 COLL-440 a pivot that changed while nothing was held is VMA; a page that somebody locked is LOCK", () => {
  const gone = scene();
  const op = heldAt(gone, "isolate");
  gone.t.munmap(part(gone.range, 0, 1));
  expect(finish(gone.t.m, op)).toBe("vma");
  gone.t.check();
  expect(statsOf(gone.t)).toMatchObject({ shared_abort_vma: 1 });

  const locked = scene();
  const other = heldAt(locked, "isolate");
  const pfn = locked.t.pfns(locked.range)[9];
  locked.t.m.frames.flags[pfn] |= PG.LOCKED;
  expect(finish(locked.t.m, other)).toBe("lock");
  locked.t.m.frames.flags[pfn] &= ~PG.LOCKED;
  locked.t.check();
});

test("COLL-483 two operations on one region, from two of those who share it: one of them succeeds", () => {
  for (const phase of PHASES.slice(1)) {
    const made = scene();
    const { t, others } = made;
    t.read(others[1]);
    const op = heldAt(made, phase);
    const task = createTask(t.m, "second");
    const second = beginSharedCollapse(t.m, task.id, others[1].mm.id, regionOf(others[1].start));
    const results = [sharedResultName(runToEnd(t.m, second.id) ?? -1), finish(t.m, op)];
    t.check();
    expect(results.filter((result) => result === "succeed")).toHaveLength(1);
    expect([phase, results.every((result) => ENDS.test(result))]).toEqual([phase, true]);
  }
});
