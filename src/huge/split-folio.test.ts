import { expect, test } from "vitest";
import { EAGAIN, EBUSY } from "../base/errno.ts";
import { type Kit, machine, of, part, type Range } from "../machine/test-kit.ts";
import { PG } from "../phys/frame-table.ts";
import { PROT } from "../syscall/mmap.ts";
import { splitFolio } from "./split-folio.ts";

/** Splits the folio of the range's first page, with the reference a caller must hold. */
function split(t: Kit, range: Range): number {
  const pfn = t.get(range);
  const result = splitFolio(t.m, t.folio(range));
  t.put(pfn);
  return result;
}

test("ANON-212 ANON-214 a split gives 512 small pages in the same frames, with counters to match", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  t.fill(range);
  const [pfns, contents] = [t.pfns(range), t.contents(range)];
  let result = -1;
  expect(
    t.deltas(() => {
      result = split(t, range);
    }),
  ).toEqual({
    thp_split_page: 1,
    thp_split_pmd: 1,
    nr_anon_transparent_hugepages: -1,
    "2048kB/split": 1,
    "2048kB/nr_anon": -1,
  });
  expect(result).toBe(0);
  expect([t.pfns(range), t.contents(range)]).toEqual([pfns, contents]);
  expect(t.entry(part(range, 511, 1))).toBe("WRITE YOUNG DIRTY");
  const { order, refcount, flags } = t.m.frames;
  expect(new Set(pfns.map((pfn) => order[pfn]))).toEqual(new Set([0]));
  expect(new Set(pfns.map((pfn) => refcount[pfn]))).toEqual(new Set([1]));
  const kept = PG.ANON | PG.SWAPBACKED | PG.UPTODATE | PG.DIRTY | PG.LRU | PG.ANON_EXCLUSIVE;
  expect(new Set(pfns.map((pfn) => flags[pfn]))).toEqual(new Set([kept]));
});

test("ANON-212 each PMD mapping that is broken counts a PMD split", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  t.fill(range);
  const child = of(t.fork(), range);
  t.fork();
  expect(t.thpDeltas(() => split(t, range))).toEqual({
    thp_split_page: 1,
    thp_split_pmd: 3,
    nr_anon_transparent_hugepages: -1,
    "2048kB/split": 1,
    "2048kB/nr_anon": -1,
  });
  expect(t.kpagecount(child)).toEqual(new Array(512).fill(3));
});

test("ANON-199 a folio fully mapped by PTEs passes through the partially mapped state", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  t.fill(range);
  t.mprotect(part(range, 0, 1), PROT.READ);
  expect(t.thpDeltas(() => split(t, range))).toEqual({
    thp_split_page: 1,
    thp_deferred_split_page: 1,
    "2048kB/split": 1,
    "2048kB/split_deferred": 1,
    "2048kB/nr_anon": -1,
  });
});

test("ANON-199 the same for a smaller size, without thp_*", () => {
  const t = machine({ sizes: { "64kB": "always", "2048kB": "never" } });
  const range = t.map({ pages: 16 });
  t.fill(range);
  expect(t.thpDeltas(() => split(t, range))).toEqual({
    "64kB/split": 1,
    "64kB/split_deferred": 1,
    "64kB/nr_anon": -1,
  });
});

test("ANON-210 ANON-211 ANON-213 ANON-254 any further reference refuses the split before anything changes", () => {
  for (const how of ["pin", "get"] as const) {
    const t = machine({ enabled: "always" });
    const range = t.map({ huge: 1 });
    t.fill(range);
    const pfn = t.pfns(range)[9];
    if (how === "pin") t.pin(part(range, 9, 1));
    else t.get(part(range, 9, 1));
    let result = 0;
    const changed = t.deltas(() => {
      result = split(t, range);
    });
    expect([how, result, changed]).toEqual([
      how,
      -EAGAIN,
      { thp_split_page_failed: 1, "2048kB/split_failed": 1 },
    ]);
    expect(t.smaps(range).AnonHugePages).toBe(2048);

    // ANON-254: without the reference it works.
    if (how === "pin") t.unpin(pfn);
    else t.put(pfn);
    expect(split(t, range)).toBe(0);
  }
});

test("ANON-210 the huge zero folio cannot be split", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  t.read(range);
  expect(t.deltas(() => expect(splitFolio(t.m, t.folio(range))).toBe(-EBUSY))).toEqual({});
});

test("ANON-203 pages of zeroes become the shared zero page in every process", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge(); // only page 0 is written
  const child = of(t.fork(), range);
  const [rss] = [t.mm.rssAnon];
  expect(t.thpDeltas(() => split(t, range))).toMatchObject({ thp_split_page: 1, thp_split_pmd: 2 });
  for (const view of [range, child]) {
    expect(t.smaps(view)).toMatchObject({ Rss: 4, Pss: 2, Anonymous: 4 });
    expect(t.pfns(view).filter((pfn) => pfn === t.m.zeroPfn)).toHaveLength(511);
    expect(t.entry(part(view, 7, 1))).not.toContain("WRITE");
  }
  expect(rss - t.mm.rssAnon).toBe(511);
  expect(t.write(range, 7)).toBe("anon 4k");
});

test("ANON-203 ANON-205 in locked memory zero-filled pages stay", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  t.mlock(range);
  split(t, range);
  expect(t.smaps(range).Rss).toBe(2048);
});

test("ANON-205 PROT_NONE parts do not hinder a split and stay inaccessible", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  t.fill(range);
  t.mprotect(part(range, 0, 256), PROT.NONE);
  expect(split(t, range)).toBe(0);
  expect(t.read(range)).toBe("SIGSEGV");
  expect(t.read(range, 300)).toBe("none");
});

test("ANON-212 the pieces stand beside each other on the LRU, where the folio stood", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  t.fill(range);
  const pfns = t.pfns(range);
  split(t, range);
  const { next } = t.m.links;
  expect(pfns.slice(0, 511).map((pfn) => next[pfn])).toEqual(pfns.slice(1));
});
