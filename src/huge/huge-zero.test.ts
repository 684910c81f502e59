import { expect, test } from "vitest";
import { machine, of, part } from "../machine/test-kit.ts";
import { PROT } from "../syscall/mmap.ts";
import { countHugeZero, shrinkHugeZero } from "./huge-zero.ts";

test("ANON-080 ANON-069 the first read allocates the folio once, later ones only map it", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 3 });
  t.write(range);
  const first = t.deltas(() => t.read(range, 512));
  expect(first).toEqual({ pgfault: 1, thp_zero_page_alloc: 1, nr_page_table_pages: 1 });
  expect(t.deltas(() => t.read(range, 1024))).toEqual({ pgfault: 1, nr_page_table_pages: 1 });
  expect(t.pfns(part(range, 512, 1))).toEqual(t.pfns(part(range, 1024, 1)));
});

test("ANON-080 if it cannot be had the read falls back to the 4K zero page", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  t.exhaust(9);
  const changed = t.thpDeltas(() => t.read(range));
  expect(changed).toEqual({ thp_zero_page_alloc_failed: 1, thp_fault_fallback: 1 });
  expect(t.pfns(part(range, 0, 2))).toEqual([t.m.zeroPfn, -1]);
  t.release();
});

test("ANON-081 each process holds one reference, from its first use to its end", () => {
  const t = machine({ enabled: "always" });
  const users = () => t.m.hugeZero.refcount;
  const range = t.map({ huge: 3 });
  t.read(range);
  expect(users()).toBe(2);
  t.read(range, 512);
  expect(users()).toBe(2);
  const other = t.exec();
  t.read(t.map({ huge: 1, mm: other }));
  expect(users()).toBe(3);
  t.munmap(range);
  expect(users()).toBe(3);
  t.exit(other);
  expect(users()).toBe(2);
});

test("ANON-082 the shrinker frees the folio when no process used it any more", () => {
  const t = machine({ enabled: "always" });
  const mm = t.exec();
  const range = t.map({ huge: 1, mm });
  t.read(range);
  t.munmap(range);
  expect([countHugeZero(t.m), shrinkHugeZero(t.m)]).toEqual([0, 0]);
  t.exit(mm);
  expect([countHugeZero(t.m), shrinkHugeZero(t.m), countHugeZero(t.m)]).toEqual([512, 512, 0]);
  t.check();
  const again = t.map({ huge: 1 });
  expect(t.thpDeltas(() => t.read(again))).toEqual({ thp_zero_page_alloc: 1 });
});

test("ANON-083 ANON-301 a zero PMD is read-only, costs no RSS and one page table", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  const tables = t.mm.nrPteTables;
  t.read(range);
  expect(t.entry(range)).toBe("YOUNG HUGE SPECIAL");
  expect(t.smaps(range)).toMatchObject({ Rss: 0, Pss: 0, AnonHugePages: 0 });
  expect(t.mm.nrPteTables - tables).toBe(1);
  expect(t.kpagecount(range)).toEqual(new Array(512).fill(0));
  expect(t.contents(range)).toEqual(new Array(512).fill(0));
});

test("ANON-084 ANON-074 a write to a zero PMD maps a real huge page in its place", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  t.read(range);
  const zero = t.folio(range);
  expect(t.deltas(() => t.write(range, 77))).toEqual({
    pgfault: 1,
    thp_fault_alloc: 1,
    nr_anon_pages: 512,
    nr_inactive_anon: 512,
    nr_anon_transparent_hugepages: 1,
    "2048kB/anon_fault_alloc": 1,
    "2048kB/nr_anon": 1,
  });
  expect(t.folio(range)).not.toBe(zero);
  expect(t.contents(range).filter((tag) => tag !== 0)).toHaveLength(1);
});

test("ANON-084 if no huge page can be had the zero PMD is split and one page copied", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  t.read(range);
  t.exhaust(9);
  expect(t.thpDeltas(() => t.write(range, 3))).toEqual({
    thp_fault_fallback: 1,
    "2048kB/anon_fault_fallback": 1,
    thp_split_pmd: 1,
  });
  t.release();
  expect(t.smaps(range).Rss).toBe(4);
  expect(t.pfns(range).filter((pfn) => pfn === t.m.zeroPfn)).toHaveLength(511);
});

test("ANON-084 the same if the charge fails", () => {
  const t = machine({ enabled: "always" });
  const mm = t.exec(t.memcg(100));
  const range = t.map({ huge: 1, mm });
  t.read(range);
  expect(t.thpDeltas(() => t.write(range))).toEqual({
    thp_fault_fallback: 1,
    thp_fault_fallback_charge: 1,
    "2048kB/anon_fault_fallback": 1,
    "2048kB/anon_fault_fallback_charge": 1,
    thp_split_pmd: 1,
  });
});

test("ANON-085 6.12 always splits a zero PMD at a write", () => {
  const t = machine({ enabled: "always", profile: "linux-6.12" });
  const range = t.map({ huge: 1 });
  t.read(range);
  expect(t.thpDeltas(() => t.write(range, 3))).toEqual({ thp_split_pmd: 1 });
  expect(t.smaps(range).Rss).toBe(4);
});

test("ANON-086 partial munmap, MADV_DONTNEED and mprotect split a zero PMD into zero PTEs", () => {
  const actions = [
    (t: ReturnType<typeof machine>, r: Parameters<typeof part>[0]) => t.munmap(r),
    (t: ReturnType<typeof machine>, r: Parameters<typeof part>[0]) => t.madvise(r, "DONTNEED"),
    (t: ReturnType<typeof machine>, r: Parameters<typeof part>[0]) => t.mprotect(r, PROT.READ),
  ];
  for (const [i, act] of actions.entries()) {
    const t = machine({ enabled: "always" });
    const range = t.map({ huge: 1 });
    t.read(range);
    expect(t.thpDeltas(() => act(t, part(range, 10, 4)))).toEqual({ thp_split_pmd: 1 });
    const nrZero = t.pfns(range).filter((pfn) => pfn === t.m.zeroPfn).length;
    expect(nrZero).toBe(i === 2 ? 512 : 508);
    expect(t.entry(range)).toBe("YOUNG SPECIAL");
  }
});

test("ANON-086 mprotect of the whole PMD and an aligned mremap keep it huge", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  t.read(range);
  const changed = t.thpDeltas(() => {
    t.mprotect(range, PROT.READ);
    t.mprotect(range, PROT.READ | PROT.WRITE);
  });
  expect([changed, t.isHuge(range)]).toEqual([{}, true]);
  const moved = t.mremap(range, 512, { at: range.start + 2 ** 30 * 64 });
  expect([t.isHuge(moved), t.isHuge(range)]).toEqual([true, false]);
});

test("ANON-087 MADV_FREE ignores zero PMDs, whole and in part", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  t.read(range);
  const changed = t.deltas(() => {
    t.madvise(range, "FREE");
    t.madvise(part(range, 5, 9), "FREE");
  });
  expect([changed, t.isHuge(range)]).toEqual([{}, true]);
});

test("ANON-087 fork copies a zero PMD and the child takes its reference", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  t.read(range);
  const child = t.fork();
  expect(t.isHuge(of(child, range))).toBe(true);
  expect(t.m.hugeZero.refcount).toBe(3);
  t.exit(child);
  expect(t.m.hugeZero.refcount).toBe(2);
});

test("ANON-166 copy-on-write of a shared zero PMD gives each writer a huge page of its own", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  t.read(range);
  const child = t.fork();
  expect(t.write(of(child, range))).toBe("anon 2M");
  expect(t.contents(part(range, 0, 1))).toEqual([0]);
  expect(t.write(range)).toBe("anon 2M");
});
