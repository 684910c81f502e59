import { expect, test } from "vitest";
import { PAGE_SIZE, regionOf } from "../base/address.ts";
import { EAGAIN, ENOMEM } from "../base/errno.ts";
import { type Kit, machine, part, type Range } from "../machine/test-kit.ts";
import { MADV, sysMadvise } from "../syscall/madvise.ts";
import { PROT } from "../syscall/mmap.ts";
import { growStack } from "./mmap.ts";
import { ENTRY, pmdSlotOf } from "./page-tables.ts";
import { createVma, VM } from "./vma.ts";
import { MAX_MAP_COUNT } from "./vma-edit.ts";

test("ANON-046 a flag on part splits the VMA at its edges; equal neighbours merge back", () => {
  const t = machine();
  const range = t.map({ pages: 100 });
  t.madvise(part(range, 10, 20), "HUGEPAGE");
  expect(t.vmas(range)).toEqual(["0+10", "10+20", "30+70"]);
  t.madvise(part(range, 30, 5), "HUGEPAGE");
  expect(t.vmas(range)).toEqual(["0+10", "10+25", "35+65"]);
  t.madvise(part(range, 0, 10), "HUGEPAGE");
  expect(t.vmas(range)).toEqual(["0+35", "35+65"]);
  t.madvise(part(range, 35, 65), "HUGEPAGE");
  expect(t.vmas(range)).toEqual(["0+100"]);
});

test("ANON-046 with equal flags nothing is split or merged", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  expect(t.deltas(() => t.madvise(part(range, 7, 9), "HUGEPAGE"))).toEqual({});
  expect([t.vmas(range), t.isHuge(range)]).toEqual([["0+512"], true]);
});

test("ANON-046 memory inherited from a parent does not merge with new memory beside it", () => {
  const t = machine({ enabled: "never" });
  const range = t.map({ pages: 4 });
  t.write(range);
  const child = t.fork();
  const below = range.start - 2 * PAGE_SIZE;
  t.map({ pages: 2, mm: child, at: below });
  expect(t.vmas({ mm: child, start: below, nrPages: 6 })).toEqual(["0+2", "2+4"]);
  t.map({ pages: 2, at: below });
  expect(t.vmas({ mm: t.mm, start: below, nrPages: 6 })).toEqual(["0+6"]);
});

const EDGE_CUTTERS: readonly [string, (t: Kit, r: Range) => unknown][] = [
  ["HUGEPAGE/NOHUGEPAGE", (t, r) => t.madvise(r, "NOHUGEPAGE")],
  ["DONTFORK", (t, r) => t.madvise(r, "DONTFORK")],
  ["DONTDUMP", (t, r) => t.madvise(r, "DONTDUMP")],
  ["WIPEONFORK", (t, r) => t.madvise(r, "WIPEONFORK")],
  ["SEQUENTIAL", (t, r) => t.madvise(r, "SEQUENTIAL")],
  ["MERGEABLE", (t, r) => t.madvise(r, "MERGEABLE")],
  ["mprotect", (t, r) => t.mprotect(r, PROT.READ)],
];

for (const [what, cut] of EDGE_CUTTERS) {
  test(`ANON-047 ${what}: one PMD split per unaligned edge, none at an aligned one`, () => {
    const t = machine({ enabled: "always" });
    const aligned = t.mapHuge(3);
    expect(t.thpDeltas(() => cut(t, part(aligned, 512, 512)))).toEqual({});
    const oneEdge = t.mapHuge(3);
    expect(t.thpDeltas(() => cut(t, part(oneEdge, 512, 600)))).toEqual({
      thp_split_pmd: 1,
      nr_anon_transparent_hugepages: -1,
    });
    const twoEdges = t.mapHuge(3);
    expect(t.thpDeltas(() => cut(t, part(twoEdges, 100, 1000)))).toEqual({
      thp_split_pmd: 2,
      nr_anon_transparent_hugepages: -2,
    });
    const inside = t.mapHuge();
    const head = t.folio(inside);
    expect(t.thpDeltas(() => cut(t, part(inside, 100, 100)))).toEqual({
      thp_split_pmd: 1,
      nr_anon_transparent_hugepages: -1,
    });
    expect(t.m.frames.order[head]).toBe(9); // the folio stays whole
  });
}

test("ANON-049 ANON-221 after a merge the range may be huge again but is not made so", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  t.madvise(part(range, 0, 100), "NOHUGEPAGE");
  t.madvise(part(range, 0, 100), "HUGEPAGE");
  expect(t.vmas(range)).toEqual(["0+512"]);
  t.fill(range);
  expect(t.smaps(range)).toMatchObject({ AnonHugePages: 0, Rss: 2048 });
});

test("ANON-051 MADV_NOHUGEPAGE over a huge page leaves it huge", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  expect(t.deltas(() => t.madvise(range, "NOHUGEPAGE"))).toEqual({});
  expect(t.smaps(range).AnonHugePages).toBe(2048);
});

test("ANON-040 HUGEPAGE and NOHUGEPAGE exclude each other", () => {
  const t = machine();
  const range = t.map({ huge: 1 });
  const bits = () => t.vma(range).flags & (VM.HUGEPAGE | VM.NOHUGEPAGE);
  expect(bits()).toBe(0); // ANON-052: a fresh mapping has neither
  t.madvise(range, "HUGEPAGE");
  expect(bits()).toBe(VM.HUGEPAGE);
  t.madvise(range, "NOHUGEPAGE");
  expect(bits()).toBe(VM.NOHUGEPAGE);
});

test("ANON-040 the flag itself splits, unmaps and collapses nothing", () => {
  const t = machine();
  const range = t.map({ huge: 1 });
  t.fill(range);
  expect(t.deltas(() => t.madvise(range, "HUGEPAGE"))).toEqual({});
  expect(t.smaps(range)).toMatchObject({ Rss: 2048, AnonHugePages: 0 });
});

test("ANON-043 a length is rounded up to a page", () => {
  const t = machine();
  const range = t.map({ pages: 3 });
  expect(sysMadvise(t.m, t.mm, range.start, 1, MADV.HUGEPAGE)).toBe(0);
  expect(t.vmas(range)).toEqual(["0+1", "1+2"]);
});

test("ANON-271 flag advice that undoes itself leaves one VMA", () => {
  const t = machine();
  const pairs = [
    ["DONTFORK", "DOFORK"],
    ["DONTDUMP", "DODUMP"],
    ["WIPEONFORK", "KEEPONFORK"],
    ["SEQUENTIAL", "NORMAL"],
    ["RANDOM", "NORMAL"],
    ["MERGEABLE", "UNMERGEABLE"],
  ] as const;
  const range = t.map({ pages: 10 });
  for (const [set, clear] of pairs) {
    expect(t.madvise(part(range, 3, 2), set)).toBe(0);
    expect(t.vmas(range)).toEqual(["0+3", "3+2", "5+5"]);
    expect(t.madvise(part(range, 3, 2), clear)).toBe(0);
    expect(t.vmas(range)).toEqual(["0+10"]);
  }
});

test("a stack grows down to a touch, not beyond its limit nor near another mapping", () => {
  const t = machine();
  const stack = t.mm.vmas[t.mm.vmas.length - 1];
  const top = stack.end;
  expect(growStack(t.m, t.mm, top - 100 * PAGE_SIZE)?.start).toBe(top - 100 * PAGE_SIZE);
  expect(growStack(t.m, t.mm, top - 2049 * PAGE_SIZE)).toBeNull();
  t.map({ pages: 1, at: top - 500 * PAGE_SIZE });
  expect(growStack(t.m, t.mm, top - 300 * PAGE_SIZE)).toBeNull();
  expect(growStack(t.m, t.mm, top - 243 * PAGE_SIZE)?.start).toBe(top - 243 * PAGE_SIZE);
  t.check();
});

test("ANON-045 out of VMAs: madvise says EAGAIN, the other calls ENOMEM, and nothing changes", () => {
  const t = machine();
  const range = t.map({ pages: 9 });
  for (let i = t.mm.vmas.length; i < MAX_MAP_COUNT; i++) {
    const start = 2 ** 41 + i * 2 * PAGE_SIZE;
    const last = t.mm.vmas.length - 1; // the stack stays the last
    const filler = createVma(t.mm.id, start, start + PAGE_SIZE, VM.READ, null, start / PAGE_SIZE);
    t.mm.vmas.push(t.mm.vmas[last]);
    t.mm.vmas[last] = filler;
  }
  expect(t.madvise(part(range, 3, 3), "HUGEPAGE")).toBe(-EAGAIN);
  expect(t.mprotect(part(range, 3, 3), PROT.READ)).toBe(-ENOMEM);
  expect(t.munmap(part(range, 3, 3))).toBe(-ENOMEM);
  expect(t.vmas(range)).toEqual(["0+9"]);
  expect(t.munmap(part(range, 3, 6))).toBe(-ENOMEM);
  expect(t.munmap(range)).toBe(0);
});

test("ANON-276 all bits of a huge entry are carried to its 512 pages", () => {
  const t = machine({ enabled: "always" });
  const moved = t.mremap(t.mapHuge(), 512, { at: 2 ** 44 });
  const slot = pmdSlotOf(t.m.tables, t.mm.root, regionOf(moved.start));
  t.vma(moved).flags |= VM.UFFD_WP;
  t.m.tables.flags[slot] = (t.m.tables.flags[slot] & ~ENTRY.WRITE) | ENTRY.UFFD_WP;
  const bits = t.m.tables.flags[slot] & ~ENTRY.HUGE;
  expect(bits & ENTRY.SOFT_DIRTY).not.toBe(0);
  t.madvise(part(moved, 1, 1), "SEQUENTIAL");
  const table = t.m.tables.payload[slot];
  const ptes = t.m.tables.flags.subarray(table * 512, table * 512 + 512);
  expect(new Set(ptes)).toEqual(new Set([bits]));
});

test("ANON-048 a PMD that a new edge cuts is split even if the operation then fails", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  // One more VMA may be made, two would be needed.
  for (let i = t.mm.vmas.length; i < MAX_MAP_COUNT - 1; i++) {
    const start = 2 ** 41 + i * 2 * PAGE_SIZE;
    const last = t.mm.vmas.length - 1;
    const filler = createVma(t.mm.id, start, start + PAGE_SIZE, VM.READ, null, start / PAGE_SIZE);
    t.mm.vmas.push(t.mm.vmas[last]);
    t.mm.vmas[last] = filler;
  }
  expect(t.thpDeltas(() => expect(t.munmap(part(range, 3, 3))).toBe(-ENOMEM))).toEqual({
    thp_split_pmd: 1,
    nr_anon_transparent_hugepages: -1,
  });
  expect(t.smaps(range).Rss).toBe(2048);
});
