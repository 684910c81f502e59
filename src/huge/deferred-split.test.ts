import { expect, test } from "vitest";
import { VMSTAT } from "../base/counters.ts";
import { type Kit, machine, of, part, type Range } from "../machine/test-kit.ts";
import { PG } from "../phys/frame-table.ts";
import { shrinkDeferred } from "./deferred-split-phases.ts";

const FIRST_PARTIAL = {
  thp_deferred_split_page: 1,
  "2048kB/split_deferred": 1,
  "2048kB/nr_anon_partially_mapped": 1,
};

/** A huge page of which the first `nrWritten` pages are written. */
function written(t: Kit, nrWritten: number): Range {
  const range = t.map({ huge: 1 });
  t.fill(part(range, 0, nrWritten));
  return range;
}

const isQueued = (t: Kit, head: number) => (t.m.frames.flags[head] & PG.DEFERRED) !== 0;

test("ANON-190 the first page lost is counted and queued, later ones are not counted", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  const head = t.folio(range);
  const first = t.thpDeltas(() => t.munmap(part(range, 4, 1)));
  expect(first).toEqual({
    thp_split_pmd: 1,
    nr_anon_transparent_hugepages: -1,
    ...FIRST_PARTIAL,
  });
  expect(t.thpDeltas(() => t.munmap(part(range, 100, 50)))).toEqual({});
  expect(isQueued(t, head)).toBe(true);
  // The rest goes: the folio is freed and leaves the queue (ANON-193).
  expect(t.thpDeltas(() => t.munmap(range))).toEqual({
    "2048kB/nr_anon": -1,
    "2048kB/nr_anon_partially_mapped": -1,
  });
  expect([isQueued(t, head), t.m.deferredLength[0]]).toEqual([false, 0]);
});

test("ANON-191 while another process maps the pages nothing is partially mapped", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  const child = of(t.fork(), range);
  expect(t.thpDeltas(() => t.munmap(part(child, 0, 4)))).toEqual({ thp_split_pmd: 1 });
});

test("ANON-192 the last PMD mapping goes while others map only part by PTEs", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  const child = of(t.fork(), range);
  t.munmap(part(child, 0, 4));
  expect(t.thpDeltas(() => t.munmap(range))).toEqual({
    nr_anon_transparent_hugepages: -1,
    ...FIRST_PARTIAL,
  });
});

test("ANON-192 unmapping a page that mremap had moved away from the rest", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  const moved = t.mremap(part(range, 9, 1), 1, { at: range.start + 2 ** 30 * 80 });
  expect(t.thpDeltas(() => t.munmap(moved))).toEqual(FIRST_PARTIAL);
});

test("ANON-182 unmapped pages stay allocated until the folio is split", () => {
  const t = machine({ enabled: "always" });
  const range = written(t, 512);
  const nrFree = () => {
    const onCpus = t.m.zones.flatMap((zone) => zone.pcps.map((pcp) => pcp.count));
    return t.m.vmstat[VMSTAT.nr_free_pages] + onCpus.reduce((sum, count) => sum + count, 0);
  };
  const before = nrFree();
  t.munmap(part(range, 0, 100));
  expect([t.mm.rssAnon, nrFree() - before]).toEqual([412, 0]);
  t.dropSlab();
  expect(nrFree() - before).toBe(100);
});

test("ANON-194 a new huge page is queued without flag and without counters", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  const head = t.folio(range);
  expect([isQueued(t, head), t.m.deferredLength[0]]).toEqual([true, 1]);
  expect(t.m.frames.flags[head] & PG.PARTIALLY_MAPPED).toBe(0);
  t.munmap(range);
  expect(t.m.deferredLength[0]).toBe(0);
});

test("ANON-195 ANON-196 ANON-198 the shrinker splits a partially mapped folio and frees its holes", () => {
  const t = machine({ enabled: "always" });
  const range = written(t, 512);
  const pfns = t.pfns(range);
  t.munmap(part(range, 0, 4));
  const changed = t.deltas(() => expect(t.dropSlab()).toBe(1));
  expect(changed).toEqual({
    thp_split_page: 1,
    nr_inactive_anon: -4,
    "2048kB/split": 1,
    "2048kB/nr_anon": -1,
    "2048kB/nr_anon_partially_mapped": -1,
  });
  expect(t.pfns(part(range, 4, 508))).toEqual(pfns.slice(4));
});

test("ANON-195 a split that fails counts and puts a flagged folio at the end of the queue", () => {
  const t = machine({ enabled: "always" });
  const range = written(t, 512);
  t.munmap(part(range, 0, 4));
  const pfn = t.get(part(range, 10, 1));
  const failed = { thp_split_page_failed: 1, "2048kB/split_failed": 1 };
  expect(t.thpDeltas(() => expect(t.dropSlab()).toBe(0))).toEqual(failed);
  expect(t.thpDeltas(() => t.dropSlab())).toEqual(failed);
  t.put(pfn);
  expect(t.dropSlab()).toBe(1);
});

test("ANON-195 an unflagged folio whose split fails leaves the queue for good", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  const pfn = t.get(range);
  expect(t.dropSlab(0)).toBe(0);
  expect(t.m.deferredLength[0]).toBe(0);
  t.put(pfn);
  expect(t.dropSlab(0)).toBe(0);
  expect(t.isHuge(range)).toBe(true);
});

test("ANON-195 a scan looks at no more folios than asked, from the head of the queue", () => {
  const t = machine({ enabled: "always" });
  const ranges = [0, 1, 2].map(() => written(t, 512));
  for (const range of ranges) t.munmap(part(range, 0, 1));
  expect(shrinkDeferred(t.m, 0, 2, 511)).toBe(2);
  t.check();
  const isSplit = (range: Range) => t.m.frames.order[t.pfns(part(range, 1, 1))[0]] === 0;
  expect(ranges.map(isSplit)).toEqual([true, true, false]);
});

for (const [maxPtesNone, nrZero, isSplit] of [
  [409, 410, true],
  [409, 409, false],
  [0, 1, true],
  [0, 0, false],
  [510, 511, true],
  [510, 510, false],
  [511, 511, false],
] as const) {
  test(`ANON-200 max_ptes_none=${maxPtesNone} with ${nrZero} zero pages: ${isSplit ? "split" : "kept"}`, () => {
    const t = machine({ enabled: "always" });
    const range = written(t, 512 - nrZero);
    expect(t.dropSlab(maxPtesNone)).toBe(isSplit ? 1 : 0);
    expect(t.isHuge(range)).toBe(!isSplit);
    expect(t.smaps(range).Rss).toBe(isSplit ? (512 - nrZero) * 4 : 2048);
  });
}

test("ANON-201 an underused split counts besides the split itself", () => {
  const t = machine({ enabled: "always" });
  written(t, 1);
  expect(t.thpDeltas(() => t.dropSlab(0))).toEqual({
    thp_underused_split_page: 1,
    thp_split_page: 1,
    thp_split_pmd: 1,
    nr_anon_transparent_hugepages: -1,
    "2048kB/split": 1,
    "2048kB/nr_anon": -1,
  });
});

test("ANON-201 what was not underused once is not considered again", () => {
  const t = machine({ enabled: "always" });
  const range = written(t, 500);
  expect(t.dropSlab(409)).toBe(0);
  expect(t.dropSlab(0)).toBe(0);
  expect(t.isHuge(range)).toBe(true);
});

test("ANON-202 a folio faulted while shrink_underused was 0 is never considered", () => {
  const t = machine({ enabled: "always" });
  t.knob("thp.shrink_underused", "0");
  const range = written(t, 1);
  t.knob("thp.shrink_underused", "1");
  expect(t.dropSlab(0)).toBe(0);
  expect(t.isHuge(range)).toBe(true);
});

test("ANON-202 mlocked folios are skipped", () => {
  const t = machine({ enabled: "always" });
  const range = written(t, 1);
  t.mlock(range);
  expect(t.dropSlab(0)).toBe(0);
});

test("ANON-203 pages 0 and 511 written and four unmapped: 8 kB are left after the split", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  t.write(range, 0);
  t.write(range, 511);
  t.munmap(part(range, 100, 4));
  t.dropSlab();
  expect(t.smaps(range).Rss).toBe(8);
});

test("ANON-204 a fork-shared underused page: both PMDs are split, written pages stay shared", () => {
  const t = machine({ enabled: "always" });
  const range = written(t, 2);
  const child = of(t.fork(), range);
  expect(t.thpDeltas(() => t.dropSlab(0))).toMatchObject({
    thp_split_pmd: 2,
    thp_underused_split_page: 1,
  });
  expect(t.kpagecount(part(child, 0, 3))).toEqual([2, 2, 0]);
});

test("ANON-193 folios of a memory cgroup wait on its own queue", () => {
  const t = machine({ enabled: "always" });
  const group = t.memcg(2000);
  const mm = t.exec(group);
  t.write(t.map({ huge: 1, mm }));
  t.mapHuge();
  expect([t.m.deferredLength[0], t.m.deferredLength[group]]).toEqual([1, 1]);
});
