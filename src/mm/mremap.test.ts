import { expect, test } from "vitest";
import { HUGE_SIZE, PAGE_SIZE } from "../base/address.ts";
import { EFAULT, EINVAL, ENOMEM } from "../base/errno.ts";
import { machine, of, part } from "../machine/test-kit.ts";
import { MREMAP, sysMremap } from "../syscall/mmap.ts";
import { VM } from "./vma.ts";

/** Far from everything the kit maps. */
const FAR = 2 ** 44;

test("ANON-223 a huge page moves as a unit between aligned places, its deposit with it", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  t.fill(range);
  const [pfns, contents, tables] = [t.pfns(range), t.contents(range), t.mm.nrPteTables];
  let moved = range;
  const changed = t.thpDeltas(() => {
    moved = t.mremap(range, 512, { at: FAR });
  });
  expect(changed).toEqual({});
  expect([t.isHuge(moved), t.pfns(moved), t.contents(moved)]).toEqual([true, pfns, contents]);
  expect(t.mm.nrPteTables).toBe(tables);
  expect(t.read(range)).toBe("SIGSEGV");
});

test("ANON-223 with MREMAP_DONTUNMAP the source stays mapped, empty, in one VMA, and faults huge", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 2 });
  t.write(range);
  const moved = t.mremap(part(range, 0, 512), 512, { at: FAR, keepSource: true });
  expect([t.isHuge(moved), t.smaps(range).Rss]).toEqual([true, 0]);
  expect(t.vmas(range)).toEqual(["0+1024"]);
  expect(t.write(range)).toBe("anon 2M");
});

test("ANON-224 an unaligned target splits the PMD and moves 512 PTEs", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  t.fill(range);
  const [pfns, contents] = [t.pfns(range), t.contents(range)];
  let moved = range;
  expect(
    t.thpDeltas(() => {
      moved = t.mremap(range, 512, { at: FAR + 5 * PAGE_SIZE });
    }),
  ).toEqual({ thp_split_pmd: 1, nr_anon_transparent_hugepages: -1 });
  expect([t.pfns(moved), t.contents(moved)]).toEqual([pfns, contents]);
});

test("ANON-224 moving half of each of two huge pages splits both", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge(2);
  const moved = () => t.mremap(part(range, 256, 512), 512, { at: FAR + 256 * PAGE_SIZE });
  expect(t.thpDeltas(moved)).toEqual({ thp_split_pmd: 2, nr_anon_transparent_hugepages: -2 });
});

test("ANON-224 ANON-225 one page moved out still belongs to the folio, which is not partially mapped", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  const head = t.folio(range);
  const changed = t.thpDeltas(() => t.mremap(part(range, 9, 1), 1, { at: FAR }));
  expect(changed).toEqual({ thp_split_pmd: 1, nr_anon_transparent_hugepages: -1 });
  const moved = { mm: t.mm, start: FAR, nrPages: 1 };
  expect([t.folio(moved), t.pfns(moved)]).toEqual([head, [head + 9]]);
  expect(t.smaps(range).Rss).toBe(511 * 4);

  // A VMA may begin and end in the middle of the folio: splitting it finds all parts.
  t.fill(moved);
  t.munmap(part(range, 20, 1));
  expect(t.dropSlab()).toBe(1);
  expect(t.pfns(moved)).toEqual([head + 9]);
});

test("ANON-226 shrinking is a partial munmap; growing again gives small pages", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  t.fill(range);
  const pfns = t.pfns(range);
  expect(t.thpDeltas(() => t.mremap(range, 256))).toEqual({
    thp_split_pmd: 1,
    nr_anon_transparent_hugepages: -1,
    thp_deferred_split_page: 1,
    "2048kB/split_deferred": 1,
    "2048kB/nr_anon_partially_mapped": 1,
  });
  expect(t.mremap(part(range, 0, 256), 512).start).toBe(range.start);
  expect(t.vmas(range)).toEqual(["0+512"]);
  expect(t.write(range, 300)).toBe("anon 4k");
  expect(t.pfns(part(range, 0, 256))).toEqual(pfns.slice(0, 256));
});

test("ANON-226 old length 0 is EINVAL on private memory and a second mapping of shared memory", () => {
  const t = machine();
  const priv = t.map({ pages: 4 });
  expect(sysMremap(t.m, t.mm, priv.start, 0, 4096, MREMAP.MAYMOVE)).toBe(-EINVAL);
  const shared = t.map({ pages: 4, shared: true });
  t.fill(shared);
  const twin = t.mremap(part(shared, 1, 0), 2);
  t.read(twin, 0);
  t.read(twin, 1);
  expect(t.contents(twin)).toEqual(t.contents(part(shared, 1, 2)));
  expect(t.vmas(shared)).toEqual(["0+4"]);
});

test("ANON-227 an aligned PTE table moves whole", () => {
  const t = machine({ enabled: "never" });
  const range = t.map({ huge: 1 });
  t.fill(range);
  const [contents, tables] = [t.contents(range), t.mm.nrPteTables];
  const moved = t.mremap(range, 512, { at: FAR });
  expect([t.contents(moved), t.mm.nrPteTables]).toEqual([contents, tables]);
});

test("ANON-124 growth that must move goes to a 2 MiB boundary and keeps huge pages", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge(2);
  t.map({ pages: 1, at: range.start + 2 * HUGE_SIZE }); // in the way
  const pfns = t.pfns(range);
  let moved = range;
  expect(
    t.thpDeltas(() => {
      moved = t.mremap(range, 2048);
    }),
  ).toEqual({});
  expect(moved.start).not.toBe(range.start);
  expect(moved.start % HUGE_SIZE).toBe(0);
  expect(t.pfns(part(moved, 0, 1024))).toEqual(pfns);
});

test("ANON-052 advice moves with the mapping", () => {
  const t = machine();
  const range = t.map({ huge: 1, advice: "HUGEPAGE" });
  expect(t.vma(t.mremap(range, 512, { at: FAR })).flags & VM.HUGEPAGE).not.toBe(0);
});

test("a length that stays the same changes nothing, also in the middle of a VMA", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  expect(t.deltas(() => t.mremap(part(range, 2, 1), 1))).toEqual({});
  expect([t.vmas(range), t.isHuge(range)]).toEqual([["0+512"], true]);
});

// The live kernel (6.18) cuts off several VMAs and holes too.
test("shrinking in place may span VMAs and holes", () => {
  const t = machine();
  const range = t.map({ pages: 4 });
  t.map({ pages: 4, at: range.start + 6 * PAGE_SIZE, prot: 1 });
  const bytes = (pages: number) => pages * PAGE_SIZE;
  expect(sysMremap(t.m, t.mm, range.start, bytes(10), bytes(2), 0)).toBe(range.start);
  expect(t.vmas({ ...range, nrPages: 10 })).toEqual(["0+2"]);
});

test("argument errors of mremap", () => {
  const t = machine();
  const range = t.map({ pages: 4 });
  const { start } = range;
  const call = (...args: [number, number, number, number, number?]) =>
    sysMremap(t.m, t.mm, ...args);
  expect(call(start + 1, 4096, 4096, 0)).toBe(-EINVAL);
  expect(call(start, 4096, 0, 0)).toBe(-EINVAL);
  expect(call(start, 4096, 4096, 8)).toBe(-EINVAL);
  expect(call(start, 4096, 4096, MREMAP.FIXED, FAR)).toBe(-EINVAL);
  expect(call(start, 4096, 8192, MREMAP.MAYMOVE | MREMAP.DONTUNMAP)).toBe(-EINVAL);
  const fixed = MREMAP.MAYMOVE | MREMAP.FIXED;
  expect(call(start, 4 * 4096, 4 * 4096, fixed, FAR + 1)).toBe(-EINVAL);
  expect(call(start, 4 * 4096, 8 * 4096, fixed, start + 4096)).toBe(-EINVAL);
  expect(call(FAR, 4096, 8192, MREMAP.MAYMOVE)).toBe(-EFAULT);
  expect(call(start, 5 * 4096, 9 * 4096, MREMAP.MAYMOVE)).toBe(-EFAULT);
  t.map({ pages: 1, at: start + 4 * PAGE_SIZE, prot: 1 });
  expect(call(start, 4 * 4096, 8 * 4096, 0)).toBe(-ENOMEM);
});

test("a move that runs out of memory leaves every page where it was", () => {
  const t = machine({ enabled: "never" });
  const range = t.map({ pages: 1200, offset: 100 });
  t.fill(range);
  const contents = t.contents(range);
  t.exhaustAll();
  const move = () =>
    sysMremap(t.m, t.mm, range.start, 1200 * 4096, 1200 * 4096, 3, FAR + 7 * PAGE_SIZE);
  let nrFailed = 0;
  while (move() === -ENOMEM) {
    t.check();
    expect(t.contents(range)).toEqual(contents);
    nrFailed++;
    t.release(1);
  }
  expect(nrFailed).toBeGreaterThanOrEqual(4);
  expect(t.contents({ ...range, start: FAR + 7 * PAGE_SIZE })).toEqual(contents);
  t.release();
});

test("pages moved by a child leave the parent's alone", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  t.fill(range);
  const contents = t.contents(range);
  const child = of(t.fork(), range);
  const moved = t.mremap(child, 512, { at: FAR + PAGE_SIZE });
  t.write(moved, 3);
  expect(t.contents(range)).toEqual(contents);
  expect(t.isHuge(range)).toBe(true);
});

test("shared anonymous memory has the length it was made with: behind it a grown mapping is SIGBUS", () => {
  const t = machine();
  const range = t.map({ pages: 4, shared: true });
  const longer = t.mremap(range, 6);
  t.write(longer, 3);
  expect([t.write(longer, 3), t.write(longer, 4), t.read(longer, 5)]).toEqual([
    "none",
    "SIGBUS",
    "SIGBUS",
  ]);
});
