import { expect, test } from "vitest";
import {
  buildPmds,
  collapse,
  countMemory,
  modeOf,
  type SceneOptions,
  sharedScene,
  statsOf,
} from "../machine/shared-scene.fixture.ts";
import { part, type Range } from "../machine/test-kit.ts";
import { ENTRY, pteTableOf } from "../mm/page-tables.ts";
import { VM } from "../mm/vma.ts";
import { tryLock } from "../sched/locks.ts";
import { createTask } from "../sched/tasks.ts";
import { buildNextPmd } from "./shared-collapse.ts";
import { SHARED_PMD } from "./shared-pmd-phases.ts";

/** A scene whose region has been collapsed; the mappings wait in the queue. */
function collapsed(options: SceneOptions = {}) {
  const scene = sharedScene(options);
  expect(collapse(scene.t, scene.range)).toBe("succeed");
  return scene;
}

function slotOf(scene: ReturnType<typeof sharedScene>, range: Range, page: number): number {
  return pteTableOf(scene.t.m.tables, range.mm.root, range.start / 2 ** 21) * 512 + page;
}

test("COLL-460 the collapse builds no PMD: it queues every VMA that maps all 512 pages in order at a boundary", () => {
  const { t, range, others } = sharedScene({ children: 4 });
  t.munmap(part(others[0], 0, 1));
  t.write(others[1], 3);
  t.mremap(others[2], 512, { at: others[2].start + 2 ** 33 + 4096 });
  expect(collapse(t, range)).toBe("succeed");
  const { queue, records } = modeOf(t);
  expect(queue.map(({ mmId }) => mmId)).toEqual([range.mm.id, others[3].mm.id]);
  expect([records[0].nrPmdsPossible, records[0].nrSharers]).toEqual([2, 5]);
  expect([t.isHuge(range), t.isHuge(others[3])]).toEqual([false, false]);
});

test("COLL-462 each mapping becomes huge in its place: no allocation, no copy, read-only, AnonHugePages +2048 kB", () => {
  const { t, range, others } = collapsed({ children: 2 });
  const all = [range, ...others];
  const folio = t.folio(range);
  const contents = t.contents(range);
  const before = {
    rss: all.map((r) => r.mm.rssAnon),
    tables: range.mm.nrTables,
    ...countMemory(t),
  };
  const seen = t.deltas(() => expect(buildPmds(t)).toBe(3));
  expect(seen).toEqual({ nr_anon_transparent_hugepages: 1 });
  expect({
    rss: all.map((r) => r.mm.rssAnon),
    tables: range.mm.nrTables,
    ...countMemory(t),
  }).toEqual(before);
  for (const r of all) {
    expect([t.folio(r), t.isHuge(r), t.smaps(r).AnonHugePages]).toEqual([folio, true, 2048]);
    expect(t.contents(r)).toEqual(contents);
    expect(t.entry(r)).not.toContain("WRITE");
  }
  expect(t.entry(range)).toBe("YOUNG DIRTY HUGE");
  expect([t.m.frames.refcount[folio], new Set(t.kpagecount(range))]).toEqual([3, new Set([3])]);
  expect(statsOf(t)).toMatchObject({ shared_pmds: 3 });
  expect([modeOf(t).records[0].nrPmds, modeOf(t).queue]).toEqual([3, []]);
});

test("COLL-462 young and dirty are those of any of the PTEs", () => {
  const { t, others } = collapsed();
  const [child] = others;
  t.read(child, 400);
  expect(t.entry(child)).not.toContain("YOUNG");
  buildPmds(t);
  expect(t.entry(child)).toContain("YOUNG");
});

test("COLL-462 whoever is alone with all 512 pages may write the huge entry without a fault", () => {
  const { t, range, others } = collapsed();
  t.exit(others[0].mm);
  expect(t.write(range, 0)).toBe("reuse 4k");
  for (let page = 1; page < 512; page++) t.write(range, page);
  expect(buildPmds(t)).toBe(1);
  expect(t.entry(range)).toBe("WRITE YOUNG DIRTY HUGE");
  expect([t.write(range, 9), t.isHuge(range)]).toEqual(["none", true]);
});

/** What keeps a mapping from becoming huge; done to the child. */
const OBSTACLES: Readonly<
  Record<string, (scene: ReturnType<typeof sharedScene>, child: Range) => void>
> = {
  "a hole": ({ t }, child) => void t.madvise(part(child, 5, 1), "DONTNEED"),
  "a page of its own": ({ t }, child) => void t.write(child, 5),
  "a page under userfaultfd": (scene, child) => {
    scene.t.vma(child).flags |= VM.UFFD_WP;
    scene.t.m.tables.flags[slotOf(scene, child, 5)] |= ENTRY.UFFD_WP;
  },
  "advice against it": ({ t }, child) => void t.madvise(child, "NOHUGEPAGE"),
  "a part that is unmapped": ({ t }, child) => void t.munmap(part(child, 500, 12)),
  "other rights of a part": ({ t }, child) => void t.mprotect(part(child, 0, 9), 1),
  "a folio that was split": ({ t }, child) => {
    t.madvise(part(child, 5, 1), "DONTNEED");
    t.madvise(part({ ...child, mm: t.mm }, 5, 1), "DONTNEED");
    t.dropSlab();
  },
};

for (const [what, act] of Object.entries(OBSTACLES))
  test(`COLL-461 COLL-465 ${what} keeps a mapping small; the collapse is a success all the same`, () => {
    const scene = collapsed();
    const { t, range, others } = scene;
    act(scene, others[0]);
    const isSplit = what.includes("split");
    expect([buildPmds(t), t.isHuge(others[0]), t.isHuge(range)]).toEqual([
      isSplit ? 0 : 1,
      false,
      !isSplit,
    ]);
    expect(statsOf(t)).toMatchObject({ shared_collapsed: 1, shared_lru_saved: 511 });
  });

test("COLL-461 a mapping whose mmap lock is taken goes to the end of the queue, three times, and is dropped then", () => {
  const { t, range, others } = collapsed();
  const task = createTask(t.m, "reader");
  const lock = {
    name: "mmap",
    id: range.mm.id,
    mode: "read",
    task: task.id,
    operation: 0,
  } as const;
  tryLock(t.m, lock);
  const results: number[] = [];
  while (modeOf(t).queue.length > 0) results.push(buildNextPmd(t.m));
  const { REQUEUED, BUILT, BUSY } = SHARED_PMD;
  expect(results).toEqual([REQUEUED, BUILT, REQUEUED, REQUEUED, BUSY]);
  expect([t.isHuge(range), t.isHuge(others[0])]).toEqual([false, true]);
});

test("COLL-463 COLL-462 a pin keeps no mapping small, unless the entry would take the page away from its only owner", () => {
  const { t, range } = collapsed();
  t.pin(part(range, 7, 1));
  expect([buildPmds(t), t.isHuge(range)]).toEqual([2, true]);

  const alone = collapsed();
  alone.t.exit(alone.others[0].mm);
  alone.t.write(alone.range, 7); // exclusive now, the others are not
  alone.t.pin(part(alone.range, 7, 1));
  expect([buildPmds(alone.t), alone.t.isHuge(alone.range)]).toEqual([0, false]);
  expect(alone.t.write(alone.range, 7)).toBe("none");
});

test("COLL-464 mappings of those who have ended are dropped", () => {
  const { t, range, others } = collapsed({ children: 2 });
  t.exit(others[0].mm);
  expect([buildPmds(t), modeOf(t).queue]).toEqual([2, []]);
  expect([t.isHuge(range), t.isHuge(others[1])]).toEqual([true, true]);
});

test("COLL-464 an operation queues no more mappings than it may have sharers", () => {
  const { t } = collapsed({ children: 3 });
  const { queue, knobs } = modeOf(t);
  expect(queue).toHaveLength(4);
  expect(queue.length).toBeLessThanOrEqual(knobs.shared_collapse_max_sharers);
});

test("COLL-481 a write where the mapping is huge splits that mapping, copies one page and leaves the others huge", () => {
  const { t, range, others } = collapsed();
  const contents = t.contents(range);
  buildPmds(t);
  const folio = t.folio(range);
  const seen = t.deltas(() => expect(t.write(others[0], 77)).toBe("copy-on-write 4k"));
  expect(seen).toMatchObject({ thp_split_pmd: 1, nr_anon_pages: 1 });
  expect([t.isHuge(range), t.isHuge(others[0]), t.contents(range)]).toEqual([
    true,
    false,
    contents,
  ]);
  expect(t.pfns(others[0]).filter((pfn, i) => pfn !== folio + i)).toHaveLength(1);
  expect(t.m.frames.order[folio]).toBe(9);
});
