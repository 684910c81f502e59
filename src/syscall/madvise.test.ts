import { expect, test } from "vitest";
import { PAGE_SIZE } from "../base/address.ts";
import { EINVAL, ENOMEM } from "../base/errno.ts";
import { machine, of, part } from "../machine/test-kit.ts";
import { VM } from "../mm/vma.ts";
import { PG } from "../phys/frame-table.ts";
import { createFile } from "../shmem/page-cache.ts";
import { MADV, sysMadvise } from "./madvise.ts";
import { MAP, PROT, sysMmap } from "./mmap.ts";

test("ANON-043 errors come in this order: advice, alignment, wrap, empty, then the walk", () => {
  const t = machine();
  const { start } = t.map({ pages: 4 });
  const call = (at: number, length: number, advice: number) =>
    sysMadvise(t.m, t.mm, at, length, advice);
  const unmapped = start + 100 * PAGE_SIZE;
  expect(call(start + 1, 0, 99)).toBe(-EINVAL);
  expect(call(start + 1, 4096, MADV.HUGEPAGE)).toBe(-EINVAL);
  expect(call(start + 1, 0, MADV.HUGEPAGE)).toBe(-EINVAL);
  expect(call(start, 2 ** 64 - 4096, MADV.HUGEPAGE)).toBe(-EINVAL);
  expect(call(start, 0, MADV.HUGEPAGE)).toBe(0);
  expect(call(unmapped, 0, MADV.HUGEPAGE)).toBe(0);
  expect(call(unmapped, 1, MADV.HUGEPAGE)).toBe(-ENOMEM);
  // Longer than user space without a wrap: a hole like any other.
  expect(call(start, 2 ** 50, MADV.NORMAL)).toBe(-ENOMEM);
});

test("ANON-044 parts around a hole are all advised, then ENOMEM", () => {
  const t = machine();
  const range = t.map({ pages: 12 });
  t.munmap(part(range, 4, 4));
  expect(t.madvise(range, "HUGEPAGE")).toBe(-ENOMEM);
  expect(t.vma(range).flags & VM.HUGEPAGE).not.toBe(0);
  expect(t.vma(part(range, 8, 1)).flags & VM.HUGEPAGE).not.toBe(0);
  expect(t.madvise(part(range, 4, 4), "HUGEPAGE")).toBe(-ENOMEM);
});

test("ANON-044 ANON-238 a VMA's error stops the walk at once", () => {
  const t = machine({ enabled: "never" });
  const range = t.map({ pages: 9 });
  t.fill(range);
  t.mprotect(part(range, 3, 3), PROT.READ); // makes it a VMA of its own
  t.mlock(part(range, 3, 3));
  expect(t.madvise(range, "DONTNEED")).toBe(-EINVAL);
  const isMapped = t.pfns(range).map((pfn) => pfn >= 0);
  expect(isMapped).toEqual([false, false, false, true, true, true, true, true, true]);
  expect(t.madvise(range, "DONTNEED_LOCKED")).toBe(0);
  expect(t.pfns(range)).toEqual(new Array(9).fill(-1));
});

test("ANON-238 MADV_FREE is EINVAL on locked memory", () => {
  const t = machine();
  const range = t.map({ pages: 4 });
  t.mlock(range);
  expect([t.madvise(range, "FREE"), t.madvise(range, "MERGEABLE")]).toEqual([-EINVAL, 0]);
});

for (const profile of ["linux-6.18", "linux-6.12", "seed-2011"]) {
  const wanted = profile === "seed-2011" ? -EINVAL : 0;
  test(`ANON-041 ${profile}: MADV_HUGEPAGE on memory that is not anonymous gives ${wanted}`, () => {
    const t = machine({ profile });
    const shared = t.map({ pages: 4, shared: true });
    const file = createFile(t.m, "file", "/lib/x");
    const flags = MAP.PRIVATE;
    const start = sysMmap(t.m, t.mm, { address: 0, length: 8192, prot: 1, flags, file });
    const mapped = { mm: t.mm, start, nrPages: 2 };
    for (const range of [shared, mapped])
      for (const advice of ["HUGEPAGE", "NOHUGEPAGE"] as const)
        expect(t.madvise(range, advice)).toBe(wanted);
  });
}

test("ANON-269 ANON-071 population errors: a hole ENOMEM, no access EINVAL, no memory ENOMEM", () => {
  const t = machine();
  const none = t.map({ pages: 4, prot: PROT.NONE });
  expect(t.madvise(none, "POPULATE_READ")).toBe(-EINVAL);
  const readOnly = t.map({ pages: 4, prot: PROT.READ });
  expect(t.madvise(readOnly, "POPULATE_WRITE")).toBe(-EINVAL);
  expect(t.madvise(readOnly, "POPULATE_READ")).toBe(0);
  const holed = t.map({ pages: 8 });
  t.munmap(part(holed, 4, 2));
  expect(t.madvise(holed, "POPULATE_WRITE")).toBe(-ENOMEM);
  expect(t.smaps(part(holed, 0, 4)).Rss).toBe(16);
  const big = t.map({ pages: 64 });
  t.exhaustAll();
  expect(t.madvise(big, "POPULATE_WRITE")).toBe(-ENOMEM);
  t.release();
});

test("ANON-270 MADV_WILLNEED changes nothing, MADV_REMOVE is EINVAL on anonymous memory", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  expect(t.deltas(() => expect(t.madvise(range, "WILLNEED")).toBe(0))).toEqual({});
  expect(t.madvise(range, "REMOVE")).toBe(-EINVAL);
});

test("ANON-271 MADV_WIPEONFORK is EINVAL on shared memory, MADV_DOFORK on device memory", () => {
  const t = machine();
  expect(t.madvise(t.map({ pages: 4, shared: true }), "WIPEONFORK")).toBe(-EINVAL);
  const device = t.map({ pages: 4 });
  t.vma(device).flags |= VM.IO;
  expect(t.madvise(device, "DOFORK")).toBe(-EINVAL);
});

test("ANON-272 MADV_MERGEABLE marks a huge range without a split; shared memory is left alone", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  expect(t.deltas(() => expect(t.madvise(range, "MERGEABLE")).toBe(0))).toEqual({});
  expect(t.vma(range).flags & VM.MERGEABLE).not.toBe(0);
  const shared = t.map({ pages: 4, shared: true });
  expect(t.madvise(shared, "MERGEABLE")).toBe(0);
  expect(t.vma(shared).flags & VM.MERGEABLE).toBe(0);
});

test("ANON-274 6.12 does not know guard regions", () => {
  const t = machine({ profile: "linux-6.12" });
  const range = t.map({ pages: 4 });
  expect([t.madvise(range, "GUARD_INSTALL"), t.madvise(range, "GUARD_REMOVE")]).toEqual([
    -EINVAL,
    -EINVAL,
  ]);
});

test("ANON-260 MADV_DONTNEED on shared memory unmaps but loses nothing", () => {
  const t = machine();
  const range = t.map({ pages: 4, shared: true });
  t.fill(range);
  const contents = t.contents(range);
  expect(t.madvise(range, "DONTNEED")).toBe(0);
  expect(t.pfns(range)).toEqual([-1, -1, -1, -1]);
  for (let page = 0; page < 4; page++) t.read(range, page);
  expect(t.contents(range)).toEqual(contents);
});

test("ANON-261 MADV_FREE of a whole huge page keeps it huge, clean, lazily free, with its data", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  t.fill(range);
  const contents = t.contents(range);
  const changed = t.deltas(() => expect(t.madvise(range, "FREE")).toBe(0));
  expect(changed).toEqual({ pglazyfree: 512, nr_inactive_anon: -512, nr_inactive_file: 512 });
  expect(t.entry(range)).toBe("WRITE HUGE");
  expect(t.smaps(range)).toMatchObject({ LazyFree: 2048, AnonHugePages: 2048, Referenced: 0 });
  expect(t.contents(range)).toEqual(contents);
  expect(t.m.frames.flags[t.folio(range)] & (PG.SWAPBACKED | PG.DIRTY)).toBe(0);

  // A later write makes it dirty again; swap-backed it stays only after reclaim has seen it.
  t.write(part(range, 4, 1));
  expect(t.smaps(range).LazyFree).toBe(0);
  expect(t.m.frames.flags[t.folio(range)] & PG.SWAPBACKED).toBe(0);
});

test("ANON-262 MADV_FREE of part splits the folio; only the pages in range become lazily free", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  t.fill(range);
  const [pfns, contents] = [t.pfns(range), t.contents(range)];
  expect(t.thpDeltas(() => t.madvise(part(range, 100, 4), "FREE"))).toEqual({
    thp_split_page: 1,
    thp_split_pmd: 1,
    nr_anon_transparent_hugepages: -1,
    "2048kB/split": 1,
    "2048kB/nr_anon": -1,
  });
  expect([t.pfns(range), t.contents(range)]).toEqual([pfns, contents]);
  expect(t.smaps(range).LazyFree).toBe(16);
});

test("ANON-262 a range of 2 MiB over two huge pages splits both", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 2 });
  t.fill(range);
  expect(t.thpDeltas(() => t.madvise(part(range, 256, 512), "FREE"))).toMatchObject({
    thp_split_page: 2,
    thp_split_pmd: 2,
  });
  expect(t.smaps(range).LazyFree).toBe(2048);
});

test("ANON-262 ANON-203 with only page 0 written MADV_FREE of four pages leaves 4 kB", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  t.madvise(part(range, 100, 4), "FREE");
  expect(t.smaps(range).Rss).toBe(4);
  expect(t.pfns(range).filter((pfn) => pfn === t.m.zeroPfn)).toHaveLength(511);
});

test("ANON-262 ANON-253 if the split fails nothing is done for that huge page and the call succeeds", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  t.pin(range);
  const head = t.folio(range);
  const changed = t.deltas(() => expect(t.madvise(part(range, 8, 8), "FREE")).toBe(0));
  expect(changed).toEqual({ thp_split_page_failed: 1, "2048kB/split_failed": 1 });
  expect(t.isHuge(range)).toBe(true);
  // Whole, a pin does not matter.
  t.madvise(range, "FREE");
  expect(t.smaps(range).LazyFree).toBe(2048);
  t.unpin(head);
});

test("ANON-262 a PTE-mapped folio: whole in range it stays whole, in part it is split", () => {
  const t = machine({ sizes: { "64kB": "always", "2048kB": "never" } });
  const range = t.map({ pages: 32 });
  t.fill(range);
  expect(t.deltas(() => t.madvise(part(range, 0, 16), "FREE"))).toEqual({
    pglazyfree: 16,
    nr_inactive_anon: -16,
    nr_inactive_file: 16,
  });
  expect(t.thpDeltas(() => t.madvise(part(range, 16, 4), "FREE"))).toMatchObject({
    "64kB/split": 1,
  });
  expect(t.smaps(range).LazyFree).toBe(80);
});

test("ANON-263 huge pages mapped by another process too are skipped, whole and in part", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 2 });
  t.fill(range);
  t.munmap(part(range, 1000, 1)); // the second one is mapped by PTEs
  const child = of(t.fork(), range);
  t.munmap(part(child, 512, 480)); // fewer mappings than pages in all, still two processes
  const changed = t.deltas(() => {
    expect(t.madvise(part(range, 0, 512), "FREE")).toBe(0);
    expect(t.madvise(part(range, 5, 20), "FREE")).toBe(0);
    expect(t.madvise(part(range, 520, 20), "FREE")).toBe(0);
  });
  expect(changed).toEqual({});
});

test("ANON-261 MADV_FREE is EINVAL on memory that is not anonymous", () => {
  const t = machine();
  expect(t.madvise(t.map({ pages: 4, shared: true }), "FREE")).toBe(-EINVAL);
});
