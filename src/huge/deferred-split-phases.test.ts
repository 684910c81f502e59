import { expect, test } from "vitest";
import { type Kit, machine, part, type Range } from "../machine/test-kit.ts";
import { release, runToEnd, runToPhase } from "../sched/runner.ts";
import { createTask } from "../sched/tasks.ts";
import { beginShrink } from "./deferred-split-phases.ts";
import { countDeferred, SHRINK_STOP, scanDeferred } from "./shrinkers.ts";
import { beginSplit } from "./split-folio.ts";

/** A folio of which four pages are unmapped. */
function partial(t: Kit): Range {
  const range = t.map({ huge: 1 });
  t.fill(range);
  t.munmap(part(range, 0, 4));
  return part(range, 4, 508);
}

test("ANON-195 a scan says how many it split, and stop when there is nothing left to try", () => {
  const t = machine({ enabled: "always" });
  partial(t);
  const pinned = partial(t);
  t.pin(part(pinned, 9, 1));
  const pfn = t.pfns(part(pinned, 9, 1))[0];
  expect([countDeferred(t.m, 0), scanDeferred(t.m, 0, 2, 511)]).toEqual([2, 1]);
  // One is left that cannot be split now: no reason to stop.
  expect([countDeferred(t.m, 0), scanDeferred(t.m, 0, 2, 511)]).toEqual([1, 0]);
  t.unpin(pfn);
  expect([scanDeferred(t.m, 0, 2, 511), scanDeferred(t.m, 0, 2, 511)]).toEqual([1, SHRINK_STOP]);
});

test("ANON-195 a scan looks at no more folios than it was told", () => {
  const t = machine({ enabled: "always" });
  for (let i = 0; i < 3; i++) partial(t);
  expect([scanDeferred(t.m, 0, 2, 511), countDeferred(t.m, 0)]).toEqual([2, 1]);
});

test("ANON-196 ANON-197 drop_caches tries what cannot be split again while it frees other folios", () => {
  const t = machine({ enabled: "always" });
  const pinned = partial(t);
  t.pin(part(pinned, 9, 1));
  expect(t.thpDeltas(() => t.dropSlab())).toEqual({
    thp_split_page_failed: 1,
    "2048kB/split_failed": 1,
  });
  for (let i = 0; i < 3; i++) partial(t);
  expect(t.thpDeltas(() => expect(t.dropSlab()).toBe(3))).toMatchObject({
    thp_split_page: 3,
    thp_split_page_failed: 2,
  });
});

test("ANON-195 a locked folio is passed over: flagged it goes to the tail, else it leaves the queue", () => {
  for (const kind of ["partial", "underused"] as const) {
    const t = machine({ enabled: "always" });
    const range = kind === "partial" ? partial(t) : t.mapHuge();
    const pfn = t.get(range);
    const op = beginSplit(t.m, createTask(t.m, "splitter").id, t.folio(range), 0, pfn);
    runToPhase(t.m, op.id, "unmap");
    const changed = t.thpDeltas(() => expect(t.dropSlab(0)).toBe(0));
    expect(changed).toEqual({});
    expect([kind, countDeferred(t.m, 0)]).toEqual([kind, kind === "partial" ? 1 : 0]);
    release(t.m, op.id);
    runToEnd(t.m, op.id);
    t.check();
  }
});

test("two passes at once: the second finds the folio locked, then split", () => {
  const t = machine({ enabled: "always" });
  const range = partial(t);
  const first = beginShrink(t.m, createTask(t.m, "kswapd").id, 0, 10, 511);
  const second = beginShrink(t.m, createTask(t.m, "drop_caches").id, 0, 10, 511);
  runToPhase(t.m, first.id, "split");
  runToPhase(t.m, second.id, "split");
  for (const op of [first, second]) release(t.m, op.id);
  // Both hold a reference: whoever tries first fails, the other is alone then.
  expect([runToEnd(t.m, first.id), runToEnd(t.m, second.id)]).toEqual([0, 1]);
  t.check();
  expect([countDeferred(t.m, 0), t.smaps(range).Rss]).toEqual([0, 508 * 4]);
});

test("what a pass has in hand may be unmapped meanwhile", () => {
  const t = machine({ enabled: "always" });
  const range = partial(t);
  const op = beginShrink(t.m, createTask(t.m, "kswapd").id, 0, 10, 511);
  runToPhase(t.m, op.id, "split");
  t.munmap(range);
  release(t.m, op.id);
  expect(runToEnd(t.m, op.id)).toBe(0);
  t.check();
});
