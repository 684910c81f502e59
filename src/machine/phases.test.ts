import { expect, test } from "vitest";
import { EAGAIN } from "../base/errno.ts";
import { beginShrink } from "../huge/deferred-split-phases.ts";
import { beginDropCaches } from "../huge/drop-caches-phases.ts";
import { beginSplit } from "../huge/split-folio.ts";
import { beginFailure, beginOffline } from "../reclaim/memory-failure.ts";
import { fieldsFor, migratePhases } from "../reclaim/migrate-phases.ts";
import { release, runToEnd, runToPhase, startOperation, stepOperation } from "../sched/runner.ts";
import { createTask } from "../sched/tasks.ts";
import { PROT } from "../syscall/mmap.ts";
import { digestOf } from "./digest.ts";
import { createMachine, type Machine } from "./machine.ts";
import { restore, snapshot } from "./snapshot.ts";
import { type Kit, machine, of, part, type Range } from "./test-kit.ts";

/** A folio about to be split, and everybody who maps it. */
interface Scene {
  readonly t: Kit;
  readonly range: Range;
  /** The same pages in a child, if there is one. */
  readonly child: Range | null;
  readonly op: number;
}

interface Mapped {
  readonly t: Kit;
  readonly range: Range;
  readonly child: Range | null;
}

function filled(t: Kit, nrWritten = 512): Range {
  const range = t.map({ huge: 1 });
  for (let page = 0; page < nrWritten; page++) t.write(range, page * (512 / nrWritten));
  return range;
}

/** Every way in which a folio can be mapped when its split begins. */
const MAPPED: Readonly<Record<string, () => Mapped>> = {
  "one huge mapping": () => {
    const t = machine({ enabled: "always", memory: 16 });
    return { t, range: filled(t, 4), child: null };
  },
  "mapped by pages": () => {
    const t = machine({ enabled: "always", memory: 16 });
    const range = filled(t, 4);
    t.mprotect(part(range, 3, 1), PROT.READ);
    t.mprotect(range, PROT.READ | PROT.WRITE); // one VMA again
    return { t, range, child: null };
  },
  "huge in the parent, by pages in the child, partly written there": () => {
    const t = machine({ enabled: "always", memory: 16 });
    const range = filled(t, 4);
    const child = of(t.fork(), range);
    t.write(child, 128);
    t.munmap(part(child, 500, 12));
    return { t, range, child };
  },
  "a folio of 64 kB": () => {
    const t = machine({ sizes: { "64kB": "always", "2048kB": "never" }, memory: 16 });
    const range = t.map({ pages: 16 });
    t.write(range, 3);
    t.write(range, 9);
    return { t, range, child: null };
  },
};

function begin({ t, range, child }: Mapped, newOrder = 0): Scene {
  const head = t.get(range);
  const task = createTask(t.m, "splitter");
  return { t, range, child, op: beginSplit(t.m, task.id, t.folio(range), newOrder, head).id };
}

/** The machine after `nrSteps` phases of the split. */
function stepped(scene: Scene, nrSteps: number): void {
  for (let i = 0; i < nrSteps; i++) expect(stepOperation(scene.t.m, scene.op)).toBe("ran");
  scene.t.m.sched.operations[0].isHeld = true;
  scene.t.check();
}

function finish(m: Machine, op: number): void {
  release(m, op);
  runToEnd(m, op);
}

function finished(m: Machine, op: number): string {
  finish(m, op);
  return digestOf(m);
}

function nrPhases(make: () => Scene): number {
  const { t, op } = make();
  let nr = 1;
  while (stepOperation(t.m, op) !== "done") nr++;
  return nr;
}

for (const [name, map] of Object.entries(MAPPED)) {
  for (const newOrder of [0, 2]) {
    test(`a split to order ${newOrder} of what is ${name}: saved and restored at every phase, the end is the same`, () => {
      const make = () => begin(map(), newOrder);
      const whole = make();
      const wanted = finished(whole.t.m, whole.op);
      whole.t.check();
      const nr = nrPhases(make);
      expect(nr).toBe(5);
      for (let at = 0; at < nr; at++) {
        const scene = make();
        stepped(scene, at);
        const { op } = scene;
        const record = scene.t.m.sched.operations[0];
        expect(JSON.parse(JSON.stringify(record))).toEqual(record);
        const fresh = createMachine({ memoryBytes: 16 * 2 ** 20 });
        restore(fresh, snapshot(scene.t.m));
        expect(digestOf(fresh)).toBe(digestOf(scene.t.m));
        expect([at, finished(fresh, op)]).toEqual([at, wanted]);
        expect([at, finished(scene.t.m, op)]).toEqual([at, wanted]);
      }
    });
  }
}

/** Other long operations on page 3 of the folio, each begun and not yet run. */
const OPERATIONS: Readonly<Record<string, (t: Kit, range: Range, task: number) => number>> = {
  "memory failure": (t, range, task) => beginFailure(t.m, task, t.pfns(range)[3], range.mm.id).id,
  "soft offline": (t, range, task) => beginOffline(t.m, task, t.pfns(range)[3]).id,
  "a pass of the deferred split shrinker": (t, range, task) => {
    t.munmap(part(range, range.nrPages - 2, 2));
    return beginShrink(t.m, task, 0, 10, 511).id;
  },
  drop_caches: (t, range, task) => {
    t.munmap(part(range, range.nrPages - 2, 2));
    return beginDropCaches(t.m, task, 511).id;
  },
  migration: (t, range, task) => {
    t.get(range);
    return startOperation(t.m, migratePhases, task, fieldsFor(t.m, t.folio(range))).id;
  },
};

for (const [name, map] of Object.entries(MAPPED)) {
  for (const [what, start] of Object.entries(OPERATIONS)) {
    test(`${what} in what is ${name}: saved and restored at every phase, the end is the same`, () => {
      const make = () => {
        const scene = map();
        const task = createTask(scene.t.m, "kernel");
        return { ...scene, op: start(scene.t, scene.range, task.id) };
      };
      const whole = make();
      const wanted = finished(whole.t.m, whole.op);
      whole.t.check();
      const nr = nrPhases(make);
      expect(nr).toBeGreaterThan(1);
      for (let at = 0; at < nr; at++) {
        const scene = make();
        stepped(scene, at);
        const fresh = createMachine({ memoryBytes: 16 * 2 ** 20 });
        restore(fresh, snapshot(scene.t.m));
        expect([at, finished(fresh, scene.op)]).toEqual([at, wanted]);
      }
    });
  }
}

/** What others do between two phases, and what it must look like afterwards, with and without a split under way. */
const OTHERS: Readonly<Record<string, (scene: Mapped) => void>> = {
  "a write fault": ({ t, range }) => void t.write(range, 5),
  "a read fault": ({ t, range }) => void t.read(range, 0),
  "a fault of the child": ({ t, range, child }) => void t.write(child ?? range, 2),
  "munmap of a part": ({ t, range }) => void t.munmap(part(range, 2, 3)),
  "munmap of all": ({ t, range }) => void t.munmap(range),
  "MADV_DONTNEED of a part": ({ t, range }) => void t.madvise(part(range, 0, 4), "DONTNEED"),
  "MADV_DONTNEED of all": ({ t, range }) => void t.madvise(range, "DONTNEED"),
  "MADV_FREE of a part": ({ t, range }) => void t.madvise(part(range, 0, 4), "FREE"),
  "mprotect of a part": ({ t, range }) => void t.mprotect(part(range, 1, 4), PROT.READ),
  "mprotect to nothing": ({ t, range }) => void t.mprotect(range, PROT.NONE),
  fork: ({ t }) => void t.fork(),
  "fork, and the parent exits": ({ t }) => {
    t.fork();
    t.exit(t.mm);
  },
  "fork, and the child exits": ({ t }) => t.exit(t.fork()),
  "exit of the child": ({ t, child }) => child !== null && t.exit(child.mm),
  "exit of all": ({ t, child }) => {
    t.exit(t.mm);
    if (child !== null) t.exit(child.mm);
  },
  "a move elsewhere": ({ t, range }) => {
    t.mremap(range, range.nrPages, { at: range.start + 2 ** 32 });
  },
  "a move of one page": ({ t, range }) => {
    t.mremap(part(range, 3, 1), 1, { at: range.start + 2 ** 32 });
  },
  "the deferred split shrinker": ({ t }) => void t.dropSlab(0),
  "MADV_NOHUGEPAGE of a part": ({ t, range }) => void t.madvise(part(range, 7, 1), "NOHUGEPAGE"),
};

/** Contents of every page that any living process maps, zero pages and pages of zeroes being the same. */
function memoryOf({ t, range, child }: Mapped): string {
  const ends = t.m.mms.filter((mm) => mm !== null);
  const seen = ends.map((mm) => {
    const here = [range, { ...range, start: range.start + 2 ** 32 }];
    return here.map((place) => t.contents(of(mm, place)).join());
  });
  return JSON.stringify([seen, child === null]);
}

/** Phases that have run, and whether the others may let the split go on. */
const INTERRUPTIONS = [
  [2, "held"],
  [2, "free"],
  [3, "held"],
  [4, "held"],
] as const;

for (const [name, map] of Object.entries(MAPPED).slice(0, 3)) {
  for (const [what, act] of Object.entries(OTHERS)) {
    test(`${what} between any two phases of a split of ${name} loses nothing`, () => {
      const alone = map();
      act(alone);
      if (what.includes("fault")) act(alone); // one that has to wait is made again
      const wanted = memoryOf(alone);
      for (const [at, control] of INTERRUPTIONS) {
        const scene = begin(map());
        stepped(scene, at);
        if (control === "free") release(scene.t.m, scene.op);
        act(scene); // checks the whole machine
        if (scene.t.m.sched.operations.length > 0) finish(scene.t.m, scene.op);
        scene.t.check();
        if (what.includes("fault")) act(scene);
        expect([control, at, memoryOf(scene)]).toEqual([control, at, wanted]);
      }
    });
  }
}

test("ANON-073 a fault on a page whose split is held waits, and the access succeeds afterwards", () => {
  const { t, range, op } = begin(MAPPED["one huge mapping"]());
  runToPhase(t.m, op, "remap");
  const before = t.deltas(() =>
    expect([t.write(range, 128), t.read(range, 1)]).toEqual(["wait", "wait"]),
  );
  expect(before).toEqual({ pgfault: 2 });
  release(t.m, op);
  runToEnd(t.m, op);
  expect([t.write(range, 128), t.read(range, 1)]).toEqual(["none", "none"]);
});

test("ANON-073 a fault lets a split go on that nobody holds, and is one fault", () => {
  const { t, range, op } = begin(MAPPED["one huge mapping"]());
  runToPhase(t.m, op, "remap");
  release(t.m, op);
  expect(t.deltas(() => expect(t.write(range, 128)).toBe("spurious")).pgfault).toBe(1);
  expect(t.contents(range)[128]).toBeGreaterThan(0);
});

test("ANON-153 ANON-333 a fork in the middle copies migration entries as read-only ones, and rmap finds both", () => {
  const { t, range, op } = begin(MAPPED["one huge mapping"]());
  expect(t.entry(range)).toContain("WRITE");
  runToPhase(t.m, op, "breakUp");
  expect(t.entry(part(range, 128, 1))).toBe("WRITE YOUNG DIRTY MIGRATION EXCLUSIVE");
  const child = of(t.fork(), range);
  expect(t.entry(part(range, 128, 1))).toBe("YOUNG DIRTY MIGRATION");
  expect(t.entry(part(child, 128, 1))).toBe("DIRTY MIGRATION");
  finish(t.m, op);
  t.check();
  expect(t.pfns(child)).toEqual(t.pfns(range));
  expect(t.kpagecount(part(range, 128, 1))).toEqual([2]);
  expect(t.write(range, 128)).toBe("copy-on-write 4k");
});

test("ANON-172 ANON-211 a pin taken after the check: mappings come back by pages, EAGAIN, the folio is whole", () => {
  for (const when of ["unmap", "breakUp"] as const) {
    const { t, range, op } = begin(MAPPED["one huge mapping"]());
    runToPhase(t.m, op, "unmap");
    const head = t.folio(range);
    const contents = t.contents(range);
    if (when === "unmap") t.pin(part(range, 9, 1));
    runToPhase(t.m, op, when);
    if (when === "breakUp") t.m.frames.refcount[head]++;
    const changed = t.thpDeltas(() => {
      release(t.m, op);
      expect(runToEnd(t.m, op)).toBe(-EAGAIN);
    });
    if (when === "breakUp") t.m.frames.refcount[head]--;
    expect(changed).toMatchObject({ thp_split_page_failed: 1, "2048kB/split_failed": 1 });
    expect(changed).not.toHaveProperty("2048kB/split_deferred");
    t.check();
    expect([t.isHuge(range), t.folio(part(range, 511, 1)), t.contents(range)]).toEqual([
      false,
      head,
      contents,
    ]);
    expect(t.entry(range)).toBe("WRITE YOUNG DIRTY");
    // ANON-172: an exclusive page that is pinned was never taken away from its owner.
    expect(t.write(range, 9)).toBe("none");
  }
});

test("entries that were unmapped while a split failed leave a partially mapped folio", () => {
  const { t, range, op } = begin(MAPPED["one huge mapping"]());
  runToPhase(t.m, op, "breakUp");
  t.munmap(part(range, 0, 100));
  const head = (t.m.sched.operations[0] as unknown as { head: number }).head;
  t.m.frames.refcount[head]++;
  finish(t.m, op);
  t.m.frames.refcount[head]--;
  t.check();
});
