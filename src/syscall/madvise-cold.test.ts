import { expect, test } from "vitest";
import { EINVAL } from "../base/errno.ts";
import { type Kit, machine, part, type Range } from "../machine/test-kit.ts";
import { lruActivate } from "../phys/lru.ts";
import { PROT } from "./mmap.ts";

function filledHuge(m: Kit): Range {
  const range = m.mapHuge();
  m.fill(range);
  return range;
}

test("ANON-266 MADV_COLD makes a whole huge mapping old and its folio inactive, without a split", () => {
  const m = machine();
  const range = filledHuge(m);
  lruActivate(m.m, m.folio(range));
  expect(m.smaps(range).Referenced).toBe(2048);
  expect(m.deltas(() => expect(m.madvise(range, "COLD")).toBe(0))).toEqual({
    nr_active_anon: -512,
    nr_inactive_anon: 512,
    pgdeactivate: 512,
  });
  expect(m.smaps(range)).toMatchObject({ Referenced: 0, AnonHugePages: 2048, Private: 2048 });
  // On the inactive list already: nothing moves.
  m.read(range);
  expect(m.deltas(() => m.madvise(range, "COLD"))).toEqual({});
});

test("ANON-266 of a part the folio is split first; the other pages stay young", () => {
  const m = machine();
  const range = filledHuge(m);
  expect(m.thpDeltas(() => m.madvise(part(range, 0, 4), "COLD"))).toEqual({
    nr_anon_transparent_hugepages: -1,
    thp_split_page: 1,
    thp_split_pmd: 1,
    "2048kB/nr_anon": -1,
    "2048kB/split": 1,
  });
  expect(m.smaps(range)).toMatchObject({ Referenced: 2032, AnonHugePages: 0 });
});

test("ANON-266 a folio mapped by 512 PTEs in range is treated as one, without a split", () => {
  const m = machine();
  const range = filledHuge(m);
  m.mprotect(part(range, 0, 1), PROT.READ);
  m.mprotect(part(range, 0, 1), PROT.READ | PROT.WRITE);
  expect(m.deltas(() => m.madvise(range, "COLD"))).toEqual({});
  expect(m.smaps(range).Referenced).toBe(0);
  expect(m.states(range)).toBe("large*512");
});

test("ANON-268 pages that MADV_PAGEOUT cannot swap out stay young", () => {
  const m = machine();
  const range = filledHuge(m);
  expect(m.madvise(range, "PAGEOUT")).toBe(0);
  expect(m.states(range)).toBe("small*512");
  expect(m.smaps(range).Referenced).toBe(2048);
  expect(m.madvise(part(range, 0, 8), "PAGEOUT")).toBe(0);
  expect(m.smaps(range).Referenced).toBe(2048);
});

test("ANON-266 swapped pages and swap slots are left alone", () => {
  const m = machine();
  m.swapon({ pages: 1024 });
  const range = filledHuge(m);
  m.madvise(range, "PAGEOUT");
  expect(m.deltas(() => m.madvise(range, "COLD"))).toEqual({});
  expect(m.states(range)).toBe("swap*512");
});

test("ANON-238 MADV_COLD and MADV_PAGEOUT of locked memory are EINVAL", () => {
  const m = machine();
  const range = m.map({ pages: 4 });
  m.fill(range);
  m.mlock(range);
  expect(m.madvise(range, "COLD")).toBe(-EINVAL);
  expect(m.madvise(range, "PAGEOUT")).toBe(-EINVAL);
  expect(m.madvise(range, "WILLNEED")).toBe(0);
});

test("ANON-264 MADV_FREE and MADV_DONTNEED free swap entries, and what the swap cache holds for them", () => {
  const m = machine();
  m.swapon({ pages: 1024 });
  const range = filledHuge(m);
  m.madvise(range, "PAGEOUT");
  m.madvise(part(range, 0, 8), "WILLNEED");
  const { nrUsed } = m.m.swap.devices[0]!;
  expect(nrUsed).toBe(512);
  expect(m.deltas(() => m.madvise(part(range, 0, 16), "FREE"))).toMatchObject({
    nr_swapcached: -8,
  });
  m.madvise(part(range, 16, 16), "DONTNEED");
  expect(m.states(range)).toBe("none*32 swap*480");
  expect(m.m.swap.devices[0]!.nrUsed).toBe(480);
  expect(m.mm.nrSwapEntries).toBe(480);
  m.munmap(range);
  expect([m.m.swap.devices[0]!.nrUsed, m.mm.nrSwapEntries]).toEqual([0, 0]);
});

test("ANON-264 MADV_FREE takes a page out of the swap cache before it makes it lazy", () => {
  const m = machine();
  m.swapon({ pages: 1024 });
  const range = m.map({ pages: 4 });
  m.fill(range);
  m.madvise(range, "PAGEOUT");
  m.madvise(range, "WILLNEED");
  m.read(range, 0);
  m.read(range, 1);
  const seen = m.deltas(() => m.madvise(part(range, 0, 2), "FREE"));
  expect(seen).toMatchObject({ nr_swapcached: -2, pglazyfree: 2 });
  expect(m.deltas(() => m.madvise(part(range, 0, 2), "PAGEOUT"))).toMatchObject({ pglazyfreed: 2 });
  expect(m.states(range)).toBe("none*2 swap*2");
});

test("ANON-264 MADV_FREE leaves a page lazy only if no other process needs its slot", () => {
  const m = machine();
  m.swapon({ pages: 1024 });
  const range = m.map({ pages: 1 });
  m.fill(range);
  m.madvise(range, "PAGEOUT");
  m.fork();
  m.read(range);
  expect(m.deltas(() => m.madvise(range, "FREE"))).toEqual({});
  expect(m.smaps(range).LazyFree).toBe(0);
});

test("ANON-270 MADV_WILLNEED reads swapped pages into the swap cache once and maps nothing", () => {
  const m = machine();
  m.swapon({ pages: 1024 });
  const range = m.map({ pages: 8 });
  m.fill(range);
  const before = m.contents(range);
  m.madvise(range, "PAGEOUT");
  const seen = m.deltas(() => expect(m.madvise(part(range, 2, 4), "WILLNEED")).toBe(0));
  expect(seen).toMatchObject({ nr_swapcached: 4, pswpin: 4, nr_inactive_anon: 4 });
  expect(seen).not.toHaveProperty("pgmajfault");
  expect(m.states(range)).toBe("swap*8");
  expect(m.deltas(() => m.madvise(part(range, 2, 4), "WILLNEED"))).toEqual({});
  for (let page = 0; page < 8; page++) m.read(range, page);
  expect(m.contents(range)).toEqual(before);
});
