import { expect, test } from "vitest";
import { machine, of, part } from "../machine/test-kit.ts";
import { createFile, fileTag } from "../shmem/page-cache.ts";
import { MAP, sysMmap } from "../syscall/mmap.ts";

test("ANON-157 after the child has exited the parent takes its huge page over without a copy", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  const pfns = t.pfns(range);
  t.exit(t.fork());
  let kind = "";
  const changed = t.deltas(() => {
    kind = t.write(range, 9);
  });
  expect([kind, changed]).toEqual(["reuse 2M", { pgfault: 1 }]);
  expect(t.pfns(range)).toEqual(pfns);
  expect(t.smaps(range).AnonHugePages).toBe(2048);
  expect(t.entry(range)).toBe("WRITE YOUNG DIRTY HUGE");
});

test("ANON-157 a child that outlives its parent takes the huge page over", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  const pfns = t.pfns(range);
  const child = t.fork();
  t.exit(t.mm);
  expect(t.write(of(child, range))).toBe("reuse 2M");
  expect(t.pfns(of(child, range))).toEqual(pfns);
});

test("ANON-139 ANON-157 of a PMD mapping even the third process takes over when it is alone", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  const child = t.fork();
  const grandchild = t.fork(child);
  t.exit(t.mm);
  t.exit(child);
  expect(t.write(of(grandchild, range))).toBe("reuse 2M");
});

test("ANON-158 ANON-163 a write to a shared huge page splits the writer's PMD and copies one page", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  const child = t.fork();
  const mine = of(child, range);
  const changed = t.deltas(() => t.write(mine, 5));
  expect(changed).toEqual({ pgfault: 1, thp_split_pmd: 1, nr_anon_pages: 1, nr_inactive_anon: 1 });
  expect([t.isHuge(mine), t.isHuge(range)]).toEqual([false, true]);
  const counts = t.kpagecount(range);
  expect(counts).toEqual(counts.map((_, page) => (page === 5 ? 1 : 2)));

  // The other process splits its own PMD, the last one; only the same page written twice is unmapped by both.
  expect(t.thpDeltas(() => t.write(range, 5))).toEqual({
    thp_split_pmd: 1,
    nr_anon_transparent_hugepages: -1,
    thp_deferred_split_page: 1,
    "2048kB/split_deferred": 1,
    "2048kB/nr_anon_partially_mapped": 1,
  });
});

test("ANON-158 neither sees what the other writes", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  t.fill(range);
  const before = t.contents(range);
  const child = t.fork();
  t.write(of(child, range), 5);
  expect(t.contents(range)).toEqual(before);
  t.write(range, 6);
  const seen = t.contents(of(child, range));
  expect(seen.filter((tag, page) => tag !== before[page])).toHaveLength(1);
  expect(seen[5]).not.toBe(before[5]);
});

test("ANON-165 ANON-132 step by step: child writes, parent writes, child exits, parent writes on", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  t.fill(range);
  const pfns = t.pfns(range);
  const child = t.fork();
  const theirs = of(child, range);

  expect(t.thpDeltas(() => t.write(theirs, 0))).toEqual({ thp_split_pmd: 1 });
  expect(t.kpagecount(part(theirs, 0, 2))).toEqual([1, 2]);
  expect(t.smaps(theirs)).toMatchObject({ Rss: 2048, AnonHugePages: 0, Private: 4 });
  expect(t.isHuge(range)).toBe(true);
  expect(t.kpagecount(part(range, 0, 2))).toEqual([1, 2]);

  expect(t.thpDeltas(() => t.write(range, 1))).toEqual({
    thp_split_pmd: 1,
    nr_anon_transparent_hugepages: -1,
  });
  expect(t.pfns(part(range, 0, 1))).toEqual([pfns[0]]);
  expect(t.pfns(part(range, 1, 1))).not.toEqual([pfns[1]]);

  // With the child goes page 1's last mapping.
  expect(t.thpDeltas(() => t.exit(child))).toEqual({
    thp_deferred_split_page: 1,
    "2048kB/split_deferred": 1,
    "2048kB/nr_anon_partially_mapped": 1,
  });
  expect(t.smaps(range)).toMatchObject({ Rss: 2048, Pss: 2048, AnonHugePages: 0 });

  const kinds = new Set<string>();
  for (let page = 2; page < 512; page++) kinds.add(t.write(range, page));
  expect(kinds).toEqual(new Set(["reuse 4k"]));
  expect(t.pfns(part(range, 2, 510))).toEqual(pfns.slice(2));
  expect(t.write(range, 1)).toBe("none");
});

test("ANON-160 a PTE-mapped folio used by one process alone is reused, even partly unmapped", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  t.fill(range);
  t.munmap(part(range, 500, 12));
  const pfns = t.pfns(part(range, 0, 500));
  t.exit(t.fork());
  expect(t.write(range, 0)).toBe("reuse 4k");
  expect(t.write(range, 499)).toBe("reuse 4k");
  expect(t.pfns(part(range, 0, 500))).toEqual(pfns);
});

test("ANON-160 a PTE-mapped folio that two processes map is copied", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  t.fill(range);
  t.munmap(part(range, 500, 12));
  t.fork();
  expect(t.write(range, 0)).toBe("copy-on-write 4k");
});

test("ANON-161 6.12 never reuses a page of a large folio that is no longer exclusive", () => {
  const t = machine({ enabled: "always", profile: "linux-6.12" });
  const range = t.map({ huge: 1 });
  t.fill(range);
  t.munmap(part(range, 500, 12));
  t.exit(t.fork());
  expect([t.write(range, 0), t.write(range, 1)]).toEqual(["copy-on-write 4k", "copy-on-write 4k"]);
});

test("ANON-139 a third process has no slot: alone with a PTE-mapped folio it copies", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  t.fill(range);
  t.munmap(part(range, 511, 1));
  const child = t.fork();
  const grandchild = t.fork(child);
  t.exit(t.mm);
  t.exit(child);
  expect(t.write(of(grandchild, range), 3)).toBe("copy-on-write 4k");
});

for (const nrChildren of [1, 2, 3, 4]) {
  test(`ANON-139 the first owner reuses its PTE-mapped folio after ${nrChildren} children exited`, () => {
    const t = machine({ enabled: "always" });
    const range = t.map({ huge: 1 });
    t.fill(range);
    t.munmap(part(range, 511, 1));
    const children = Array.from({ length: nrChildren }, () => t.fork());
    expect(t.write(range, 1)).toBe("copy-on-write 4k");
    for (const child of children) t.exit(child);
    expect(t.write(range, 2)).toBe("reuse 4k");
  });
}

test("ANON-162 ANON-253 a reference that is no pin makes the write split and copy", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  t.fill(range);
  const pfns = t.pfns(range);
  const pfn = t.get(part(range, 7, 1));
  t.exit(t.fork());
  let kind = "";
  const changed = t.thpDeltas(() => {
    kind = t.write(range, 7);
  });
  expect(kind).toBe("copy-on-write 4k");
  expect(changed).toEqual({
    thp_split_pmd: 1,
    nr_anon_transparent_hugepages: -1,
    thp_deferred_split_page: 1,
    "2048kB/split_deferred": 1,
    "2048kB/nr_anon_partially_mapped": 1,
  });
  expect(t.pfns(part(range, 7, 1))).not.toEqual([pfns[7]]);
  t.put(pfn);
});

test("ANON-164 a copy is one small exclusive page, also where larger sizes are enabled", () => {
  const t = machine({ enabled: "always", sizes: { "64kB": "always" } });
  const range = t.mapHuge();
  const child = t.fork();
  expect(t.thpDeltas(() => t.write(of(child, range)))).toEqual({ thp_split_pmd: 1 });
  const [pfn] = t.pfns(of(child, range));
  expect(t.m.frames.order[pfn]).toBe(0);
  expect(t.write(of(child, range))).toBe("none");
});

test("ANON-159 the profile of 2011 copies the whole huge page", () => {
  const t = machine({ enabled: "always", profile: "seed-2011" });
  const range = t.map({ huge: 1 });
  t.fill(range);
  const before = t.contents(range);
  const child = t.fork();
  const theirs = of(child, range);
  let kind = "";
  const changed = t.thpDeltas(() => {
    kind = t.write(theirs, 5);
  });
  expect(kind).toBe("copy-on-write 2M");
  expect(changed).toEqual({
    thp_fault_alloc: 1,
    nr_anon_transparent_hugepages: 1,
    "2048kB/anon_fault_alloc": 1,
    "2048kB/nr_anon": 1,
  });
  expect([t.isHuge(theirs), t.isHuge(range)]).toEqual([true, true]);
  const copied = t.contents(theirs);
  expect(copied.filter((tag, page) => tag !== before[page])).toHaveLength(1);
  expect(t.contents(range)).toEqual(before);
  expect(t.write(range, 0)).toBe("reuse 2M");
});

test("ANON-159 if the huge copy cannot be had it falls back to one small page", () => {
  const t = machine({ enabled: "always", profile: "seed-2011" });
  const range = t.mapHuge();
  const child = t.fork();
  t.exhaust(9);
  expect(t.write(of(child, range), 5)).toBe("copy-on-write 4k");
  expect(t.isHuge(of(child, range))).toBe(false);
  t.release();
});

test("a shared small page is copied for the first writer and reused by the last", () => {
  const t = machine({ enabled: "never" });
  const range = t.map({ pages: 1 });
  t.write(range);
  const [pfn] = t.pfns(range);
  const child = t.fork();
  expect(t.write(range)).toBe("copy-on-write 4k");
  expect(t.write(of(child, range))).toBe("reuse 4k");
  expect(t.pfns(of(child, range))).toEqual([pfn]);
});

test("a copy has the contents of its original: small pages, huge pages, files", () => {
  for (const profile of ["linux-6.18", "seed-2011"]) {
    const t = machine({ enabled: "always", profile });
    const huge = t.map({ huge: 1 });
    const small = t.map({ pages: 8 });
    t.fill(huge);
    t.fill(small);
    const file = createFile(t.m, "file", "/lib/x");
    const flags = MAP.PRIVATE | MAP.FIXED;
    const at = 2 ** 43;
    sysMmap(t.m, t.mm, { address: at, length: 8 * 4096, prot: 3, flags, file, offset: 3 * 4096 });
    const mapped = { mm: t.mm, start: at, nrPages: 8 };
    const child = t.fork();
    for (const range of [huge, small, mapped]) {
      const before = range === mapped ? fileContents(file.id) : t.contents(range);
      expect(t.madvise(of(child, range), "POPULATE_WRITE")).toBe(0); // copies without writing
      expect(t.contents(of(child, range))).toEqual(before);
      const shared = new Set(t.pfns(range));
      expect(t.pfns(of(child, range)).some((pfn) => shared.has(pfn))).toBe(false);
    }
  }
});

function fileContents(fileId: number): number[] {
  return Array.from({ length: 8 }, (_, i) => fileTag(fileId, 3 + i));
}
