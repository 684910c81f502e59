import { expect, test } from "vitest";
import { machine, of, part } from "../machine/test-kit.ts";
import { PG } from "../phys/frame-table.ts";
import { PROT } from "../syscall/mmap.ts";
import { lockedPages } from "./mlock.ts";

const ALL = new Array(512).fill(true);
const NONE = new Array(512).fill(false);

test("ANON-230 mlock of a huge page locks all of it, without a split", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  const changed = t.deltas(() => expect(t.mlock(range)).toBe(0));
  expect(changed).toEqual({ nr_mlock: 512, nr_unevictable: 512, nr_inactive_anon: -512 });
  expect([t.mlocked(range), t.isHuge(range)]).toEqual([ALL, true]);
  expect(t.smaps(range).Locked).toBe(2048);
  expect(lockedPages(t.mm)).toBe(512);
});

test("ANON-230 mlock populates, with a huge page where one is allowed", () => {
  const t = machine();
  const range = t.map({ huge: 1, advice: "HUGEPAGE" });
  expect(t.thpDeltas(() => t.mlock(range))).toEqual({
    thp_fault_alloc: 1,
    nr_anon_transparent_hugepages: 1,
    "2048kB/anon_fault_alloc": 1,
    "2048kB/nr_anon": 1,
  });
  expect(t.mlocked(range)).toEqual(ALL);
});

test("ANON-231 mlock of part splits the PMD and locks nothing, though smaps says Locked", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  const changed = t.deltas(() => t.mlock(part(range, 0, 4)));
  expect(changed).toEqual({
    thp_split_pmd: 1,
    nr_anon_transparent_hugepages: -1,
    // Four looks at pages of the folio make it active (ANON-071).
    nr_active_anon: 512,
    nr_inactive_anon: -512,
    pgactivate: 512,
  });
  expect([t.mlocked(range), t.smaps(range).Locked]).toEqual([NONE, 16]);
});

test("ANON-232 a folio mapped by PTEs is locked by one call that covers it, not by two halves", () => {
  const t = machine({ enabled: "always" });
  const whole = t.mapHuge();
  t.mprotect(part(whole, 3, 1), PROT.READ);
  t.mprotect(part(whole, 3, 1), PROT.READ | PROT.WRITE);
  expect(t.deltas(() => t.mlock(whole)).nr_mlock).toBe(512);

  const halves = t.mapHuge();
  t.mlock(part(halves, 0, 256));
  t.mlock(part(halves, 256, 256));
  expect(t.vmas(halves)).toEqual(["0+512"]);
  expect([t.mlocked(halves), t.smaps(halves).Locked]).toEqual([NONE, 2048]);
});

test("ANON-232 a folio whose pages are not mapped one after the other is not locked", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  t.madvise(part(range, 9, 1), "DONTNEED");
  t.mlock(range);
  const alone = NONE.map((_, page) => page === 9);
  expect(t.mlocked(range)).toEqual(alone);
});

test("ANON-233 munlock of one page unlocks the folio; the rest keeps its flag and its Locked", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  t.mlock(range);
  expect(t.deltas(() => t.munlock(part(range, 1, 1)))).toMatchObject({
    nr_mlock: -512,
    nr_unevictable: -512,
    nr_inactive_anon: 512,
  });
  expect(t.mlocked(range)).toEqual(NONE);
  expect(t.smaps(range).Locked).toBe(511 * 4);
  expect(lockedPages(t.mm)).toBe(511);
});

test("ANON-234 ANON-235 mprotect of part keeps the lock, munmap of one page ends it", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  t.mlock(range);
  expect(t.deltas(() => t.mprotect(part(range, 1, 1), PROT.READ))).toEqual({
    thp_split_pmd: 1,
    nr_anon_transparent_hugepages: -1,
  });
  expect(t.mlocked(range)).toEqual(ALL);
  expect(t.deltas(() => t.munmap(part(range, 2, 1))).nr_mlock).toBe(-512);
});

test("ANON-235 on 6.12 a PMD split drops the lock", () => {
  const t = machine({ enabled: "always", profile: "linux-6.12" });
  const range = t.mapHuge();
  t.mlock(range);
  expect(t.deltas(() => t.mprotect(part(range, 1, 1), PROT.READ)).nr_mlock).toBe(-512);
  expect(t.mlocked(range)).toEqual(NONE);
});

test("ANON-235 two processes lock a folio twice: it stays until both have let go", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  t.mprotect(range, PROT.READ);
  t.mlock(range);
  const child = of(t.fork(), range);
  expect(t.deltas(() => t.mlock(child))).toEqual({});
  expect(t.deltas(() => t.munlock(range))).toEqual({});
  expect(t.deltas(() => t.munlock(child)).nr_mlock).toBe(-512);
});

test("ANON-235 a child that locks part of a shared folio takes the parent's lock away", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  t.mlock(range);
  const child = of(t.fork(), range);
  t.mlock(part(child, 0, 1)); // copies the page, so a mapping in a locked VMA goes
  expect(t.mlocked(part(child, 0, 2))).toEqual([true, false]);
  expect([t.mlocked(range), t.isHuge(range)]).toEqual([NONE, true]);
});

test("ANON-236 MLOCK_ONFAULT populates nothing; a later huge fault is locked", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  expect(t.deltas(() => t.mlock(range, "onFault"))).toEqual({});
  expect(t.deltas(() => t.write(range))).toMatchObject({ nr_mlock: 512, nr_unevictable: 512 });
});

test("ANON-237 a child does not inherit the lock, the folio stays locked for the parent", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  t.mlock(range);
  const child = of(t.fork(), range);
  expect([t.smaps(child).Locked, t.smaps(range).Locked]).toEqual([0, 1024]);
  expect([lockedPages(child.mm), t.mlocked(range)]).toEqual([0, ALL]);
  t.munmap(child);
  expect(t.mlocked(range)).toEqual(ALL);
});

test("ANON-235 every 4K page of a locked VMA is locked, whatever brings it and takes it", () => {
  const t = machine();
  const range = t.map({ pages: 8 });
  t.write(range, 0);
  t.read(range, 1); // the zero page is never locked
  t.mlock(part(range, 0, 2), "onFault");
  expect(t.mlocked(part(range, 0, 2))).toEqual([true, false]);
  t.mlock(range);
  expect(t.mlocked(range)).toEqual(new Array(8).fill(true));
  const changed = t.deltas(() => {
    t.madvise(part(range, 0, 3), "DONTNEED_LOCKED");
    t.munmap(part(range, 3, 2));
  });
  expect(changed).toMatchObject({ nr_mlock: -5, nr_unevictable: -5, nr_anon_pages: -5 });
  expect(t.deltas(() => t.exit(t.mm))).toMatchObject({ nr_mlock: -3, nr_unevictable: -3 });
});

test("ANON-205 the pages of a split folio are locked one by one where a locked VMA maps them", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  t.munmap(part(range, 500, 12));
  t.mlock(part(range, 0, 500));
  expect(t.mlocked(range)).toEqual(NONE);
  t.munlock(part(range, 0, 100));
  expect(t.deltas(() => t.dropSlab()).nr_mlock).toBe(400);
  const isLocked = t.mlocked(part(range, 0, 500));
  expect(isLocked.slice(100)).toEqual(new Array(400).fill(true));
  // Zero-filled pages are kept where they are locked only.
  expect(t.smaps(part(range, 0, 500)).Rss).toBe(401 * 4);
});

test("ANON-107 a smaller folio is locked when it is made in a locked VMA", () => {
  const t = machine({ sizes: { "64kB": "always" } });
  const range = t.map({ pages: 16 });
  t.mlock(range, "onFault");
  expect(t.deltas(() => t.write(range))).toMatchObject({ nr_mlock: 16, nr_unevictable: 16 });
  expect(t.m.frames.flags[t.folio(range)] & PG.MLOCKED).not.toBe(0);
  expect(t.deltas(() => t.munmap(part(range, 3, 1))).nr_mlock).toBe(-16);
});

test("PHYS-089 shared memory in a locked VMA is locked by each process that locks it", () => {
  const t = machine();
  const range = t.map({ pages: 4, shared: true });
  t.fill(range);
  const child = of(t.fork(), range);
  t.mlock(range);
  t.read(child);
  t.mlock(child);
  expect(t.deltas(() => t.munlock(range))).toEqual({});
  expect(t.deltas(() => t.munmap(child))).toMatchObject({ nr_mlock: -4, nr_unevictable: -4 });
});
