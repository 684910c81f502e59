import { expect, test } from "vitest";
import { regionOf } from "../base/address.ts";
import {
  modeOf,
  type SceneOptions,
  sharedScene,
  statsOf,
} from "../machine/shared-scene.fixture.ts";
import { part } from "../machine/test-kit.ts";

/** The region of a process and its children, which khugepaged visits; its budget is one pass's `pages`. */
function visited(options: SceneOptions = {}, pages = "100000") {
  const scene = sharedScene(options);
  const { t, range } = scene;
  t.madvise(range, "HUGEPAGE"); // registers the first; its children are not
  t.knob("khugepaged.pages_to_scan", pages);
  return scene;
}

test("COLL-410 COLL-471 with the knob on khugepaged keeps what is shared shared, and collapses the rest as ever", () => {
  const { t, range, others } = visited({ huge: 2 });
  const own = part(range, 512, 512);
  t.madvise(part(others[0], 512, 512), "DONTNEED");
  expect(t.khugepaged()).toBe(1);
  expect([t.isHuge(range), t.isHuge(own)]).toEqual([false, true]);
  expect(statsOf(t)).toMatchObject({ shared_collapsed: 1, shared_deferred_vmas: 2 });
  expect([t.m.knobs.khugepaged.pages_collapsed, t.smaps(part(range, 0, 512)).Shared]).toEqual([
    1, 2048,
  ]);
});

test("COLL-400 with 0 in the knob khugepaged refuses what more than max_ptes_shared share", () => {
  const { t, range } = visited();
  t.knob("khugepaged.shared_collapse", "0");
  expect(t.deltas(() => expect(t.khugepaged()).toBe(0))).toMatchObject({
    thp_scan_exceed_share_pte: 1,
  });
  expect([statsOf(t), t.isHuge(range)]).toEqual([{}, false]);
});

test("COLL-464 COLL-460 the next pass builds the huge entries, 512 of its budget each", () => {
  const { t, range, others } = visited({ children: 2 }, "1024");
  t.khugepaged();
  expect(modeOf(t).queue).toHaveLength(3);
  t.khugepaged(); // two of three
  expect([t.isHuge(range), t.isHuge(others[0]), t.isHuge(others[1])]).toEqual([true, true, false]);
  t.khugepaged();
  expect([t.isHuge(others[1]), statsOf(t).shared_pmds]).toEqual([true, 3]);
});

test("COLL-422 an operation costs a pass 512 + 2 P; what is left of the budget decides, but the first is always done", () => {
  for (const [pages, nrDone] of [
    ["512", 1], // 1 visit + 512 + 2 * 1024 is far more
    ["5121", 1],
    ["5122", 2], // two visits, 2 * (512 + 2048)
  ] as const) {
    const { t, range } = visited({ huge: 3 }, pages);
    t.khugepaged();
    expect([pages, modeOf(t).stats.shared_collapsed]).toEqual([pages, nrDone]);
    expect(t.m.khugepaged.cursorRegion).toBe(regionOf(range.start) + nrDone);
    for (let pass = 0; pass < 9; pass++) t.khugepaged();
    expect(modeOf(t).stats.shared_collapsed).toBe(3);
  }
});

test("COLL-420 a region over the budget of PTEs is passed over until the next visit, which counts again", () => {
  const { t, range } = visited();
  t.knob("khugepaged.shared_collapse_max_ptes", "1023");
  t.khugepaged();
  t.khugepaged();
  expect([statsOf(t), t.isHuge(range)]).toEqual([{ shared_abort_budget: 2 }, false]);
  t.knob("khugepaged.shared_collapse_max_ptes", "1024");
  t.khugepaged();
  expect(modeOf(t).stats.shared_collapsed).toBe(1);
});

test("COLL-430 COLL-072 a failed allocation makes the daemon sleep as after one of its own", () => {
  const { t } = visited();
  t.exhaust(9);
  const before = t.m.sched.nowNs;
  t.khugepaged();
  expect(modeOf(t).vmstat.thp_shared_collapse_alloc_failed).toBeGreaterThan(0);
  expect(t.m.sched.nowNs - before).toBe(60_000 * 1e6);
});

test("COLL-415 COLL-471 a region with any shared page is not copied while the mode is on, whatever the operation comes to", () => {
  for (const knob of ["1", "0"]) {
    const { t, range, others } = visited();
    t.munmap(part(others[0], 10, 502));
    t.knob("khugepaged.shared_collapse_max_ptes", "521");
    t.knob("khugepaged.shared_collapse", knob);
    expect(t.khugepaged()).toBe(knob === "1" ? 0 : 1);
    expect(statsOf(t)).toEqual(knob === "1" ? { shared_abort_budget: 1 } : {});
    expect(new Set(t.kpagecount(part(others[0], 0, 10)))).toEqual(new Set([knob === "1" ? 2 : 1]));
    expect(t.isHuge(range)).toBe(knob === "0");
  }
});
