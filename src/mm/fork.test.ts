import { expect, test } from "vitest";
import { forkProcess } from "../machine/process.ts";
import { machine, of, part } from "../machine/test-kit.ts";
import { VM } from "./vma.ts";

test("ANON-150 ANON-131 fork shares a huge page write-protected; no THP counter moves", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  let child = t.mm;
  const changed = t.deltas(() => {
    child = t.fork();
  });
  // PGD, PUD and PMD tables of the range, the deposit. The empty stack needs none.
  expect(changed).toEqual({ nr_page_table_pages: 4 });
  expect(t.entry(range)).toBe("YOUNG DIRTY HUGE");
  expect(t.entry(of(child, range))).toBe("DIRTY HUGE");
  const head = t.folio(range);
  const { refcount, entireMapcount, largeMapcount } = t.m.frames;
  expect([refcount[head], entireMapcount[head], largeMapcount[head]]).toEqual([2, 2, 2]);
  expect([child.rssAnon, child.nrPteTables]).toEqual([512, 1]);
});

test("ANON-151 ANON-132 ANON-300 smaps of a child: shared, half the Pss, not referenced", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  t.fill(range);
  const child = of(t.fork(), range);
  expect(t.smaps(child)).toEqual({
    Rss: 2048,
    Pss: 1024,
    Shared: 2048,
    Private: 0,
    Referenced: 0,
    Anonymous: 2048,
    LazyFree: 0,
    AnonHugePages: 2048,
    Locked: 0,
    Swap: 0,
    SwapPss: 0,
  });
  expect(t.kpagecount(child)).toEqual(new Array(512).fill(2));
});

test("ANON-152 a MADV_DONTFORK VMA is missing in the child", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  t.madvise(range, "DONTFORK");
  const child = t.fork();
  expect(t.read(of(child, range))).toBe("SIGSEGV");
  t.madvise(range, "DOFORK");
  expect(t.read(of(t.fork(), range))).toBe("none");
});

test("ANON-152 a MADV_WIPEONFORK VMA is empty in the child and may fault the huge zero page", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  t.madvise(range, "WIPEONFORK");
  const child = of(t.fork(), range);
  expect(t.pfns(part(child, 0, 1))).toEqual([-1]);
  expect(t.read(child)).toBe("zero 2M");
  expect(t.contents(child)).toEqual(new Array(512).fill(0));
});

test("ANON-152 ANON-237 a child does not inherit locked memory", () => {
  const t = machine();
  const range = t.map({ pages: 4 });
  t.vma(range).flags |= VM.LOCKED | VM.LOCKONFAULT;
  expect(t.vma(of(t.fork(), range)).flags & (VM.LOCKED | VM.LOCKONFAULT)).toBe(0);
});

test("ANON-052 MADV_HUGEPAGE and MADV_NOHUGEPAGE are inherited", () => {
  const t = machine();
  const advised = t.map({ huge: 1, advice: "HUGEPAGE" });
  const refused = t.map({ huge: 1, advice: "NOHUGEPAGE" });
  const child = t.fork();
  expect(t.vma(of(child, advised)).flags & VM.HUGEPAGE).not.toBe(0);
  expect(t.vma(of(child, refused)).flags & VM.NOHUGEPAGE).not.toBe(0);
});

test("ANON-153 fork fails wherever memory ends, leaves nothing behind, and works once there is enough", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  t.exhaustAll();
  let nrFailed = 0;
  let child = forkProcess(t.m, t.mm);
  for (; child === null && nrFailed < 100; nrFailed++) {
    t.check();
    expect(t.m.mms.filter((mm) => mm !== null)).toHaveLength(1);
    t.release(1);
    child = forkProcess(t.m, t.mm);
  }
  // Page tables of four levels are needed, one page more at each try.
  expect(nrFailed).toBeGreaterThanOrEqual(4);
  expect(child).not.toBeNull();
  t.release();
  t.exit(child!);
  expect(t.write(range)).toBe("reuse 2M");
});

test("ANON-154 ANON-156 a pinned huge page is split in the parent; the child gets copies at once", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  t.fill(range);
  const pfns = t.pfns(range);
  const contents = t.contents(range);
  t.pin(part(range, 100, 1));
  let child = range;
  expect(
    t.thpDeltas(() => {
      child = of(t.fork(), range);
    }),
  ).toEqual({ thp_split_pmd: 1, nr_anon_transparent_hugepages: -1 });
  expect(t.pfns(range)).toEqual(pfns);
  expect(t.entry(part(range, 511, 1))).toBe("WRITE YOUNG DIRTY");
  expect(t.write(range, 3)).toBe("none");

  expect(new Set([...t.pfns(child), ...pfns]).size).toBe(1024);
  expect(t.kpagecount(child)).toEqual(new Array(512).fill(1));
  expect(t.contents(child)).toEqual(contents);
  t.unpin(pfns[100]);
});

test("ANON-154 the copies of pinned pages are young and dirty, also of a page that MADV_FREE made old and clean", () => {
  const t = machine({ enabled: "never" });
  const range = t.map({ pages: 2 });
  t.fill(range);
  const pfns = t.pfns(range);
  t.pin(part(range, 0, 1));
  t.madvise(range, "FREE");
  expect(t.entry(range)).toBe("WRITE");
  const child = of(t.fork(), range);
  expect(t.entry(child)).toBe("WRITE YOUNG DIRTY");
  t.unpin(pfns[0]);
});

test("ANON-154 a pinned small page is copied at fork, its neighbours are shared", () => {
  const t = machine({ enabled: "never" });
  const range = t.map({ pages: 3 });
  t.fill(range);
  const pfns = t.pfns(range);
  t.pin(part(range, 1, 1));
  const child = of(t.fork(), range);
  expect(t.pfns(child).map((pfn, page) => pfn === pfns[page])).toEqual([true, false, true]);
  expect(t.write(range, 1)).toBe("none");
  t.unpin(pfns[1]);
});

test("ANON-154 an earlier pin that is gone does not matter", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  t.pin(range);
  t.unpin(t.folio(range));
  expect(t.thpDeltas(() => t.fork())).toEqual({});
  expect(t.isHuge(range)).toBe(true);
});

test("ANON-155 a reference that is no pin does not prevent sharing", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  const pfn = t.get(range);
  const child = t.fork();
  expect([t.isHuge(range), t.isHuge(of(child, range))]).toEqual([true, true]);
  t.put(pfn);
});

test("ANON-156 if a copy for a pin cannot be had fork fails", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  t.pin(range);
  const pfn = t.folio(range);
  t.exhaustAll();
  expect(forkProcess(t.m, t.mm)).toBeNull();
  t.check();
  t.release();
  t.unpin(pfn);
});

test("ANON-336 copies made for a pin are charged to the child's group", () => {
  const t = machine({ enabled: "never" });
  const group = t.memcg(100);
  const mm = t.exec(group);
  const range = t.map({ pages: 2, mm });
  t.fill(range);
  const pfn = t.pfns(range)[0];
  t.pin(range);
  t.fork(mm);
  expect(t.m.memcgs[group]!.usage).toBe(3);
  t.unpin(pfn);
});

test("ANON-168 exit of every process returns every page", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge(2);
  t.munmap(part(range, 700, 9));
  const child = t.fork();
  t.write(of(child, range), 4);
  const grandchild = t.fork(child);
  t.write(of(grandchild, range), 600);
  for (const mm of [t.mm, grandchild, child]) t.exit(mm); // each exit checks for leaked frames
  expect(t.m.mms.every((mm) => mm === null)).toBe(true);
  expect(t.m.anonVmas.every((anonVma) => anonVma === null)).toBe(true);
});
