import { expect, test } from "vitest";
import { machine, of, part } from "../machine/test-kit.ts";
import { PG } from "../phys/frame-table.ts";
import { PROT } from "../syscall/mmap.ts";
import { forEachPmdMapping, forEachPteMapping } from "./rmap-walk.ts";

test("ANON-131 counts of a folio: fresh, after its PMD is split, after a fork", () => {
  const t = machine({ enabled: "always" });
  const counts = (head: number) => {
    const { refcount, entireMapcount, largeMapcount, mapcount } = t.m.frames;
    return [refcount[head], entireMapcount[head], largeMapcount[head], mapcount[head + 1]];
  };
  const fresh = t.mapHuge();
  expect(counts(t.folio(fresh))).toEqual([1, 1, 1, 0]);

  const split = t.mapHuge();
  t.mprotect(part(split, 0, 1), PROT.READ);
  expect(counts(t.folio(split))).toEqual([512, 0, 512, 1]);

  t.fork();
  expect(counts(t.folio(fresh))).toEqual([2, 2, 2, 0]);
  expect(counts(t.folio(split))).toEqual([1024, 0, 1024, 2]);
});

test("ANON-130 ANON-132 PMD and PTE mappings of one folio add up page by page", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  const child = of(t.fork(), range);
  t.munmap(part(child, 10, 2));
  const head = t.folio(range);
  const { refcount, entireMapcount, largeMapcount, nrPagesMapped } = t.m.frames;
  expect([refcount[head], entireMapcount[head], largeMapcount[head]]).toEqual([511, 1, 511]);
  expect(nrPagesMapped[head]).toBe(510);
  expect(t.kpagecount(part(range, 9, 4))).toEqual([2, 1, 1, 2]);
});

test("ANON-134 ANON-135 ANON-251 a pin of any page counts on the folio; a small page gets 1024 references", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  t.pin(part(range, 300, 1), 3);
  const head = t.folio(range);
  const { refcount, pincount } = t.m.frames;
  expect([refcount[head], pincount[head], refcount[head + 300]]).toEqual([4, 3, 0]);
  expect(t.isHuge(range)).toBe(true); // ANON-251: the PMD is untouched
  t.unpin(head, 3);
  expect([refcount[head], pincount[head]]).toEqual([1, 0]);

  const small = t.map({ pages: 1 });
  t.write(small);
  const [pfn] = t.pfns(small);
  t.pin(small);
  expect(refcount[pfn]).toBe(1 + 1024);
  t.unpin(pfn);
});

test("ANON-136 nr_anon_transparent_hugepages counts folios with a PMD mapping, not mappings", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  const nathp = (action: () => void) => t.deltas(action).nr_anon_transparent_hugepages ?? 0;
  let child = range;
  expect(nathp(() => t.write(range))).toBe(1);
  expect(
    nathp(() => {
      child = of(t.fork(), range);
    }),
  ).toBe(0);
  expect(nathp(() => t.munmap(part(child, 0, 1)))).toBe(0);
  expect(nathp(() => t.munmap(part(range, 1, 1)))).toBe(-1);
  expect(nathp(() => t.munmap(range))).toBe(0);
});

test("ANON-137 a PMD split moves neither nr_anon_pages nor nr_anon", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  expect(t.deltas(() => t.mprotect(part(range, 0, 1), PROT.READ))).toEqual({
    thp_split_pmd: 1,
    nr_anon_transparent_hugepages: -1,
  });
});

test("ANON-138 the exclusive flag of a huge page becomes one per page at a PMD split", () => {
  const t = machine({ enabled: "always" });
  const isExclusive = (pfn: number) => (t.m.frames.flags[pfn] & PG.ANON_EXCLUSIVE) !== 0;
  const mine = t.mapHuge();
  t.mprotect(part(mine, 0, 1), PROT.READ);
  expect(t.pfns(mine).every(isExclusive)).toBe(true);

  const shared = t.mapHuge();
  t.fork();
  t.mprotect(part(shared, 0, 1), PROT.READ);
  expect(t.pfns(shared).some(isExclusive)).toBe(false);
  expect(t.pfns(mine).some(isExclusive)).toBe(false); // fork clears it
});

test("ANON-140 on the LRU a huge page counts 512 but is one entry", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  expect(t.deltas(() => t.write(range)).nr_inactive_anon).toBe(512);
  expect(t.deltas(() => t.munmap(range)).nr_inactive_anon).toBe(-512);
});

test("ANON-141 every PMD mapping deposits a page table, which a split uses and a zap frees", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 3 });
  t.write(range, 1024);
  const tables = t.mm.nrPteTables;
  t.write(range);
  t.read(range, 512);
  expect(t.mm.nrPteTables - tables).toBe(2);
  t.mprotect(part(range, 0, 1), PROT.READ);
  t.mprotect(part(range, 600, 1), PROT.READ);
  expect(t.mm.nrPteTables - tables).toBe(2);
  t.madvise(part(range, 1024, 512), "DONTNEED");
  expect(t.mm.nrPteTables - tables).toBe(1);
});

test("ANON-141 ANON-170 a PMD split needs no memory", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  t.exhaustAll();
  expect(t.mprotect(part(range, 5, 1), PROT.READ)).toBe(0);
  expect(t.isHuge(range)).toBe(false);
  t.release();
});

test("ANON-170 ANON-171 a PMD split keeps frames, contents and bits and dirties the folio", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  t.fill(range);
  const [pfns, contents, tables] = [t.pfns(range), t.contents(range), t.mm.nrTables];
  const head = t.folio(range);
  t.mprotect(part(range, 100, 1), PROT.READ);
  expect([t.pfns(range), t.contents(range), t.mm.nrTables]).toEqual([pfns, contents, tables]);
  expect(t.entry(range)).toBe("WRITE YOUNG DIRTY");
  expect(t.smaps(range)).toMatchObject({ Rss: 2048, AnonHugePages: 0, Referenced: 2048 });
  expect(t.m.frames.flags[head] & PG.DIRTY).toBe(PG.DIRTY);
});

test("ANON-170 other PMD mappings of the folio are untouched", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  const child = of(t.fork(), range);
  expect(t.thpDeltas(() => t.mprotect(part(child, 3, 1), PROT.READ))).toEqual({ thp_split_pmd: 1 });
  expect([t.isHuge(range), t.isHuge(child)]).toEqual([true, false]);
});

test("rmap finds every mapping of a folio in the family, whatever moved or was split", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  const child = of(t.fork(), range);
  const grandchild = of(t.fork(child.mm), range);
  t.munmap(part(child, 0, 100));
  t.mremap(part(grandchild, 200, 100), 100, { at: range.start + 2 ** 30 * 70 });
  const head = t.folio(range);
  const pmds: number[] = [];
  const ptes = new Map<number, number>();
  forEachPmdMapping(t.m, head, (mm) => pmds.push(mm.id));
  forEachPteMapping(t.m, head, (mm) => ptes.set(mm.id, (ptes.get(mm.id) ?? 0) + 1));
  expect(pmds).toEqual([t.mm.id]);
  expect(ptes).toEqual(
    new Map([
      [child.mm.id, 412],
      [grandchild.mm.id, 512],
    ]),
  );
});

test("ANON-307 while only part of the mappings is gone the folio stays charged whole", () => {
  const t = machine({ enabled: "always" });
  const group = t.memcg(2000);
  const mm = t.exec(group);
  const range = t.map({ huge: 1, mm });
  t.write(range);
  expect(t.m.memcgs[group]!.usage).toBe(512);
  t.munmap(part(range, 0, 511));
  expect(t.m.memcgs[group]!.usage).toBe(512);
  t.munmap(range);
  expect(t.m.memcgs[group]!.usage).toBe(0);
});
