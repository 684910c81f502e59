import { expect, test } from "vitest";
import { machine, of, part } from "../machine/test-kit.ts";

test("ANON-180 unmapping a whole huge page frees it without a thp_* event", () => {
  for (const how of ["munmap", "DONTNEED", "exit"] as const) {
    const t = machine({ enabled: "always" });
    const mm = t.exec();
    const range = t.map({ huge: 2, mm });
    t.write(range);
    t.write(range, 512);
    const changed = t.thpDeltas(() => {
      if (how === "munmap") t.munmap(range);
      else if (how === "exit") t.exit(mm);
      else t.madvise(range, "DONTNEED");
    });
    expect([how, changed]).toEqual([
      how,
      { nr_anon_transparent_hugepages: -2, "2048kB/nr_anon": -2 },
    ]);
  }
});

test("ANON-180 ANON-260 a dropped huge page reads as zero and faults huge again", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  t.fill(range);
  t.madvise(range, "DONTNEED");
  expect([t.mm.rssAnon, t.mm.nrPteTables]).toEqual([0, 0]);
  expect(t.read(range, 5)).toBe("zero 2M");
  expect(t.contents(part(range, 0, 2))).toEqual([0, 0]);
  expect(t.write(range)).toBe("anon 2M");
});

test("ANON-180 a shared huge page is freed with its last mapping only", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  const child = of(t.fork(), range);
  expect(t.thpDeltas(() => t.munmap(range))).toEqual({});
  expect(t.thpDeltas(() => t.munmap(child))).toEqual({
    nr_anon_transparent_hugepages: -1,
    "2048kB/nr_anon": -1,
  });
});

test("ANON-181 munmap straddling two huge pages splits both and queues both", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge(2);
  expect(t.thpDeltas(() => t.munmap(part(range, 500, 24)))).toEqual({
    thp_split_pmd: 2,
    nr_anon_transparent_hugepages: -2,
    thp_deferred_split_page: 2,
    "2048kB/split_deferred": 2,
    "2048kB/nr_anon_partially_mapped": 2,
  });
  expect(t.mm.rssAnon).toBe(1000);
  expect(t.vmas(range)).toEqual(["0+500", "524+500"]);
});

test("ANON-181 ANON-260 MADV_DONTNEED of part splits the PMD; the part reads as zero, the rest stays", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  t.fill(range);
  const before = t.contents(range);
  t.madvise(part(range, 8, 8), "DONTNEED");
  expect(t.read(range, 8)).toBe("zero 4k");
  const after = t.contents(range);
  expect(after.filter((tag, page) => tag === before[page])).toHaveLength(504);
  expect(after[8]).toBe(0);
});

test("ANON-253 a pinned folio is unmapped at once and freed when the pin goes", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  t.pin(range);
  const head = t.folio(range);
  t.munmap(range);
  expect([t.mm.rssAnon, t.m.frames.refcount[head]]).toEqual([0, 1]);
  expect(t.thpDeltas(() => t.unpin(head))).toEqual({ "2048kB/nr_anon": -1 });
});

test("page tables go with the last VMA in their reach, and not before", () => {
  const t = machine({ enabled: "never" });
  const tables = t.mm.nrTables;
  const range = t.map({ pages: 1536 });
  t.fill(range);
  expect(t.mm.nrTables - tables).toBe(5); // PUD, PMD, three PTE tables
  t.munmap(part(range, 0, 700));
  expect(t.mm.nrTables - tables).toBe(4); // pages 512..699 share a table with what is left
  t.munmap(part(range, 700, 836));
  expect(t.mm.nrTables).toBe(tables);
});

test("the highest RSS is remembered when pages go", () => {
  const t = machine({ enabled: "never" });
  const range = t.map({ pages: 40 });
  t.fill(range);
  t.munmap(range);
  expect([t.mm.rssAnon, t.mm.hiwaterRss]).toEqual([0, 40]);
});
