import { expect, test } from "vitest";
import { machine, part } from "../machine/test-kit.ts";
import { PROT } from "../syscall/mmap.ts";

const KIB_64 = { "2048kB": "never", "64kB": "always" };

test("ANON-102 ANON-131 a 64 kB fault maps 16 pages with 16 references and counts only its size", () => {
  const t = machine({ sizes: KIB_64 });
  const range = t.map({ pages: 32 });
  t.write(range, 31);
  const changed = t.deltas(() => t.write(range, 5));
  expect(changed).toEqual({
    pgfault: 1,
    nr_anon_pages: 16,
    nr_inactive_anon: 16,
    "64kB/anon_fault_alloc": 1,
    "64kB/nr_anon": 1,
  });
  const head = t.folio(range);
  const { refcount, largeMapcount, nrPagesMapped } = t.m.frames;
  expect([refcount[head], largeMapcount[head], nrPagesMapped[head]]).toEqual([16, 16, 16]);
  expect(t.entry(part(range, 15, 1))).toBe("WRITE YOUNG DIRTY");
  expect(t.smaps(part(range, 0, 16))).toMatchObject({ Rss: 64, Anonymous: 64, AnonHugePages: 0 });
});

test("ANON-102 in a read-only VMA nothing is writable", () => {
  const t = machine({ sizes: KIB_64 });
  const range = t.map({ pages: 16, prot: PROT.READ });
  expect(t.read(range)).toBe("zero 4k");
  expect(t.write(range)).toBe("SIGSEGV");
});

test("ANON-100 the highest order whose whole block is empty and fits the VMA is taken", () => {
  const t = machine({ sizes: { "2048kB": "never", "16kB": "always", "64kB": "always" } });
  const range = t.map({ pages: 48 });
  t.madvise(range, "NOHUGEPAGE");
  t.write(range, 12);
  t.write(range, 33);
  t.madvise(range, "HUGEPAGE");
  // Pages 0..15 hold one small page, so only 16 kB blocks without it are free.
  expect(t.write(range, 0)).toBe("anon mTHP 16kB");
  expect(t.write(range, 13)).toBe("anon 4k");
  expect(t.write(range, 16)).toBe("anon mTHP 64kB");
  expect(t.write(range, 40)).toBe("anon mTHP 16kB");
});

test("ANON-100 orders that do not fit are dropped without a fallback counter", () => {
  const t = machine({ sizes: KIB_64 });
  const range = t.map({ pages: 16 });
  t.read(range, 3);
  expect(t.thpDeltas(() => t.write(range, 0))).toEqual({});
});

test("ANON-101 each order that cannot be allocated counts a fallback of its size, no thp_*", () => {
  const t = machine({
    sizes: { "2048kB": "never", "1024kB": "always", "64kB": "always", "16kB": "always" },
  });
  const range = t.map({ huge: 1 });
  t.read(part(range, 300, 1)); // the page table exists before memory is taken
  t.exhaust(3);
  let kind = "";
  const changed = t.thpDeltas(() => {
    kind = t.write(range);
  });
  expect(kind).toBe("anon mTHP 16kB");
  expect(changed).toEqual({
    "1024kB/anon_fault_fallback": 1,
    "64kB/anon_fault_fallback": 1,
    "16kB/anon_fault_alloc": 1,
    "16kB/nr_anon": 1,
  });
  t.release();
});

test("ANON-101 a charge that fails counts the size's fallback and fallback_charge", () => {
  const t = machine({ sizes: KIB_64 });
  const mm = t.exec(t.memcg(10));
  const range = t.map({ pages: 16, mm });
  let kind = "";
  const changed = t.thpDeltas(() => {
    kind = t.write(range);
  });
  expect(kind).toBe("anon 4k");
  expect(changed).toEqual({ "64kB/anon_fault_fallback": 1, "64kB/anon_fault_fallback_charge": 1 });
});

test("ANON-103 writing an existing zero page gives one 4K page, beside it a smaller order", () => {
  const t = machine({ sizes: { "2048kB": "never", "16kB": "always", "64kB": "always" } });
  const range = t.map({ pages: 16 });
  t.read(range, 0);
  expect(t.write(range, 0)).toBe("anon 4k");
  expect(t.write(range, 1)).toBe("anon 4k");
  expect(t.write(range, 4)).toBe("anon mTHP 16kB");
});

test("ANON-089 a read maps one 4K zero page, never a larger folio", () => {
  const t = machine({ sizes: KIB_64 });
  const range = t.map({ pages: 16 });
  expect(t.deltas(() => t.read(range, 4))).toMatchObject({ pgfault: 1 });
  expect(t.pfns(range).filter((pfn) => pfn >= 0)).toEqual([t.m.zeroPfn]);
  expect(t.smaps(range).Rss).toBe(0);
});

test("ANON-105 the tail of a VMA can use a size where 2 MiB do not fit", () => {
  const t = machine({ enabled: "always", sizes: { "1024kB": "always" } });
  const range = t.map({ pages: 768 });
  expect(t.write(range)).toBe("anon 2M");
  expect(t.write(range, 700)).toBe("anon mTHP 1024kB");
});

test("ANON-107 a partly unmapped 64 kB folio is queued, split by the shrinker, thp_* unmoved", () => {
  const t = machine({ sizes: KIB_64 });
  const range = t.map({ pages: 16 });
  t.fill(range);
  const pfns = t.pfns(range);
  expect(t.thpDeltas(() => t.munmap(part(range, 3, 2)))).toEqual({
    "64kB/split_deferred": 1,
    "64kB/nr_anon_partially_mapped": 1,
  });
  expect(t.thpDeltas(() => t.dropSlab())).toEqual({
    "64kB/split": 1,
    "64kB/nr_anon": -1,
    "64kB/nr_anon_partially_mapped": -1,
  });
  expect(t.pfns(part(range, 5, 11))).toEqual(pfns.slice(5));
});

test("ANON-107 ANON-160 after fork and exit of the child a 64 kB folio is reused in place", () => {
  const t = machine({ sizes: KIB_64 });
  const range = t.map({ pages: 16 });
  t.fill(range);
  const pfns = t.pfns(range);
  t.exit(t.fork());
  expect(t.write(range, 2)).toBe("reuse 4k");
  expect(t.pfns(range)).toEqual(pfns);
});
