import { expect, test } from "vitest";
import { collapse, record, written } from "../machine/collapse-test-kit.ts";
import { machine, of, part } from "../machine/test-kit.ts";
import { zoneOf } from "../phys/buddy.ts";
import { PG } from "../phys/frame-table.ts";
import { lruActivate } from "../phys/lru.ts";
import { createMemcg, removeMemcg } from "../phys/memcg.ts";
import { readMemcgV2 } from "../report/memcg-files.ts";
import { isSwapFull } from "../swap/state.ts";
import { MADV, sysMadvise } from "../syscall/madvise.ts";

test("COLL-132 COLL-134 COLL-150 COLL-151 COLL-290 COLL-294 COLL-299 512 written pages become one huge page with the same contents", () => {
  const t = machine();
  const range = written(t);
  const contents = t.contents(range);
  const frames = t.pfns(range);
  const nrTables = t.mm.nrPteTables;
  const changed = t.deltas(() => expect(collapse(t, range, "madvise")).toBe("succeeded"));
  expect(t.states(range)).toBe("huge*512");
  expect(t.contents(range)).toEqual(contents);
  expect(frames).not.toContain(t.folio(range));
  expect(t.entry(range)).toBe("WRITE YOUNG DIRTY HUGE");
  expect(t.flags(range)).toBe("ANON SWAPBACKED LRU UPTODATE ANON_EXCLUSIVE DEFERRED");
  expect(t.kpagecount(range)).toEqual(Array(512).fill(1));
  expect(t.mm.nrPteTables).toBe(nrTables); // the table is kept for a split
  for (const pfn of frames) expect([0, pfn]).toEqual([t.m.frames.refcount[pfn], pfn]);
  expect(changed).toEqual({
    thp_collapse_alloc: 1,
    nr_anon_transparent_hugepages: 1,
    "2048kB/nr_anon": 1,
  });
});

test("COLL-133 COLL-150 COLL-314 COLL-316 pages that were never written are zeroes now, and resident", () => {
  const t = machine();
  const range = t.map({ huge: 1, advice: "NOHUGEPAGE" });
  t.write(range, 3);
  t.read(range, 5);
  t.madvise(range, "HUGEPAGE");
  const before = t.smaps(range).Rss;
  expect(collapse(t, range)).toBe("succeeded");
  expect([before, t.smaps(range).Rss, t.smaps(range).AnonHugePages]).toEqual([4, 2048, 2048]);
  expect(t.contents(range).filter((tag) => tag !== 0)).toHaveLength(1);
});

test("COLL-153 the new mapping is young though none of the old ones was", () => {
  const t = machine();
  const range = written(t);
  for (let i = 0; i < 512; i++) {
    const page = part(range, i, 1);
    expect(t.entry(page)).toBe("WRITE YOUNG DIRTY");
  }
  t.madvise(range, "COLD");
  expect(t.smaps(range).Referenced).toBe(0);
  expect(collapse(t, range, "madvise")).toBe("succeeded");
  expect(t.smaps(range).Referenced).toBe(2048);
});

test("COLL-120 COLL-124 COLL-291 COLL-300 no huge page to be had: counted, and everything is as it was", () => {
  const t = machine();
  const range = written(t);
  const frames = t.pfns(range);
  t.exhaust(9);
  const changed = t.thpDeltas(() =>
    expect(collapse(t, range, "madvise")).toBe("alloc_huge_page_failed"),
  );
  expect(changed).toEqual({ thp_collapse_alloc_failed: 1 });
  expect(t.pfns(range)).toEqual(frames);
  expect(t.madvise(range, "COLLAPSE")).toBe(-12);
});

test("COLL-124 COLL-125 COLL-346 a group without room: the page was allocated and is freed, nothing is charged", () => {
  const t = machine();
  const memcg = t.memcg(700);
  const mm = t.exec(memcg);
  const range = t.map({ huge: 1, mm });
  t.fill(range);
  const { usage } = t.m.memcgs[memcg]!;
  const changed = t.thpDeltas(() => expect(t.madvise(range, "COLLAPSE")).toBe(-16));
  expect(changed).toEqual({ thp_collapse_alloc: 1 });
  expect(t.m.memcgs[memcg]!.usage).toBe(usage);
  t.m.memcgs[memcg]!.max = 2000;
  expect(t.madvise(range, "COLLAPSE")).toBe(0);
  expect(t.m.memcgs[memcg]!.usage).toBe(512);
});

test("COLL-125 a failure after the charge gives page and charge back", () => {
  const t = machine();
  const memcg = t.memcg(2000);
  const mm = t.exec(memcg);
  const range = t.map({ huge: 1, mm });
  t.fill(range);
  t.madvise(part(range, 0, 1), "GUARD_INSTALL");
  const { usage } = t.m.memcgs[memcg]!;
  expect(t.madvise(range, "COLLAPSE")).toBe(-22);
  expect(t.m.memcgs[memcg]!.usage).toBe(usage);
});

test("COLL-122 COLL-323 the huge page comes from the node that has most of the pages, of equals the lowest", () => {
  for (const [nrFirst, node] of [
    [300, 0],
    [256, 0],
    [200, 1],
  ]) {
    const t = machine({ nrNodes: 2, memory: 256 });
    t.m.nodeOfCpu[0] = 0;
    const range = t.map({ huge: 1, advice: "NOHUGEPAGE" });
    t.fill(part(range, 0, nrFirst));
    t.m.cpu = 1;
    t.fill(part(range, nrFirst, 512 - nrFirst));
    t.m.cpu = 0;
    t.madvise(range, "HUGEPAGE");
    const nodes = t.pfns(range).map((pfn) => zoneOf(t.m, pfn).node);
    expect(nodes.filter((at) => at === 0)).toHaveLength(nrFirst);
    expect(collapse(t, range)).toBe("succeeded");
    expect(zoneOf(t.m, t.folio(range)).node).toBe(node);
  }
});

test("COLL-126 COLL-127 COLL-155 COLL-296 all pages swapped: each is read, the process has no fault, the slots are free", () => {
  const t = machine();
  const range = written(t);
  const contents = t.contents(range);
  t.swapon({ pages: 1024 });
  t.madvise(range, "PAGEOUT");
  expect(t.states(range)).toBe("swap*512");
  const events = record(t, /swapin/);
  const { minflt, majflt } = t.mm;
  const changed = t.deltas(() => expect(collapse(t, range, "madvise")).toBe("succeeded"));
  expect(changed).toMatchObject({ pswpin: 512, pgmajfault: 512, thp_collapse_alloc: 1 });
  expect(changed).not.toHaveProperty("pgfault");
  expect([t.mm.minflt, t.mm.majflt]).toEqual([minflt, majflt]);
  expect(events).toEqual([["mm_collapse_huge_page_swapin", t.mm.id, 512, 0, 1]]);
  expect(t.contents(range)).toEqual(contents);
  expect([t.mm.nrSwapEntries, t.smaps(range).Swap]).toEqual([0, 0]);
});

test("COLL-126 COLL-280 pages that were swapped in stay when the collapse then fails; inaccessible ones stay inaccessible", () => {
  const t = machine();
  const range = written(t);
  const contents = t.contents(range);
  t.swapon({ pages: 1024 });
  t.madvise(part(range, 0, 40), "PAGEOUT");
  t.madvise(part(range, 41, 1), "GUARD_INSTALL");
  t.mprotect(range, 0);
  const events = record(t, /collapse/);
  expect(collapse(t, range, "madvise")).toBe("failed");
  const { id } = t.mm;
  expect(events).toEqual([
    ["mm_collapse_huge_page_swapin", id, 40, 0, 0],
    ["mm_collapse_huge_page", id, 0, 0],
  ]);
  expect(t.states(range)).toBe("small*41 none*1 small*470");
  expect(t.contents(part(range, 0, 41))).toEqual(contents.slice(0, 41));
  expect(t.entry(range)).toContain("PROTNONE");
});

test("COLL-127 swapped pages shared with a child: its entries stay swapped", () => {
  const t = machine();
  const range = written(t);
  const contents = t.contents(range);
  t.swapon({ pages: 1024 });
  t.madvise(part(range, 0, 20), "PAGEOUT");
  const child = of(t.fork(), range);
  expect(collapse(t, range, "madvise")).toBe("succeeded");
  expect(t.states(range)).toBe("huge*512");
  expect(t.states(child)).toBe("swap*20 small*492");
  t.read(child, 3);
  expect(t.contents(part(child, 3, 1))).toEqual([contents[3]]);
});

test("COLL-156 pages in the swap cache are sources like others; cache and slots are given back", () => {
  const t = machine();
  const range = written(t);
  const type = t.swapon({ pages: 1024 });
  t.madvise(part(range, 0, 20), "PAGEOUT");
  const child = of(t.fork(), range);
  for (let page = 0; page < 20; page++) t.read(range, page);
  t.madvise(part(child, 0, 20), "DONTNEED");
  expect(t.flags(range)).toContain("SWAPCACHE");
  expect(isSwapFull(t.m)).toBe(false);
  t.exit(child.mm);
  const changed = t.deltas(() => expect(collapse(t, range, "madvise")).toBe("succeeded"));
  expect(changed).toMatchObject({ nr_swapcached: -20 });
  expect(changed).not.toHaveProperty("pswpin");
  expect(t.m.swap.devices[type]!.nrUsed).toBe(0);
});

test("COLL-107 COLL-133 COLL-157 COLL-181 COLL-326 32 folios of 64 kB are copied and freed", () => {
  const t = machine({ sizes: { "64kB": "always", "2048kB": "never" } });
  const range = t.map({ huge: 1 });
  t.fill(range);
  expect(t.states(range)).toBe("large*512");
  const contents = t.contents(range);
  const changed = t.thpDeltas(() => expect(t.madvise(range, "COLLAPSE")).toBe(0));
  expect(changed).toEqual({
    thp_collapse_alloc: 1,
    nr_anon_transparent_hugepages: 1,
    "64kB/nr_anon": -32,
    "2048kB/nr_anon": 1,
  });
  expect(t.contents(range)).toEqual(contents);
});

test("ANON-273 COLL-135 COLL-295 COLL-351 the PTEs of a whole huge page become a mapping of another one; the first is freed", () => {
  const t = machine();
  const range = t.mapHuge();
  t.fill(range);
  const contents = t.contents(range);
  t.mprotect(part(range, 9, 1), 1);
  t.mprotect(range, 3);
  const old = t.folio(range);
  const changed = t.thpDeltas(() => expect(t.madvise(range, "COLLAPSE")).toBe(0));
  expect(changed).toEqual({ thp_collapse_alloc: 1, nr_anon_transparent_hugepages: 1 });
  expect(t.folio(range)).not.toBe(old);
  expect(t.m.frames.refcount[old]).toBe(0);
  expect(t.contents(range)).toEqual(contents);
});

test("COLL-133 COLL-350 a huge page of which others map a part lives on there with its frames", () => {
  const t = machine();
  const range = t.mapHuge();
  t.fill(range);
  const contents = t.contents(range);
  const moved = t.mremap(part(range, 256, 256), 256, { at: 2 ** 41 });
  const frames = t.pfns(moved);
  expect(collapse(t, range, "madvise")).toBe("not_suitable_address_range");
  const rest = t.map({ at: range.start + 2 ** 20, pages: 256, advice: "HUGEPAGE" });
  t.fill(rest);
  expect(t.vmas({ ...range, nrPages: 512 })).toEqual(["0+512"]);
  const filled = t.contents(range);
  expect(collapse(t, range, "madvise")).toBe("succeeded");
  expect(t.contents(range)).toEqual(filled);
  expect([t.pfns(moved), t.contents(moved)]).toEqual([frames, contents.slice(256)]);
  expect(t.flags(moved)).toContain("LRU");
  expect(t.flags(moved)).not.toContain("LOCKED");
});

test("COLL-136 COLL-208 sharing ends: the child keeps the old pages, alone", () => {
  const t = machine();
  const range = written(t);
  const contents = t.contents(range);
  const child = of(t.fork(), range);
  const frames = t.pfns(child);
  expect(t.kpagecount(range)).toEqual(Array(512).fill(2));
  expect(collapse(t, range, "madvise")).toBe("succeeded");
  expect([t.pfns(child), t.kpagecount(child)]).toEqual([frames, Array(512).fill(1)]);
  expect([t.contents(range), t.contents(child)]).toEqual([contents, contents]);
  expect(t.flags(range)).toContain("ANON_EXCLUSIVE");
  expect([t.write(range, 5), t.write(child, 5)]).toEqual(["none", "reuse 4k"]);
});

test("COLL-137 a huge page that a child shares is huge already: nothing is copied", () => {
  const t = machine();
  const range = t.mapHuge();
  const child = of(t.fork(), range);
  expect(t.thpDeltas(() => expect(t.madvise(range, "COLLAPSE")).toBe(0))).toEqual({});
  expect(t.folio(child)).toBe(t.folio(range));
});

test("COLL-152 in locked memory the huge page is mlocked and unevictable; the old ones are so no longer", () => {
  const t = machine();
  const range = written(t);
  t.mlock(range);
  const changed = t.deltas(() => expect(collapse(t, range)).toBe("succeeded"));
  expect(changed).not.toHaveProperty("nr_mlock");
  expect(changed).not.toHaveProperty("nr_unevictable");
  expect(t.flags(range)).toContain("UNEVICTABLE MLOCKED");
  expect(t.smaps(range).Locked).toBe(2048);
  t.munlock(range);
  expect(t.flags(range)).not.toContain("MLOCKED");
});

test("COLL-152 locked memory with holes and shared pages: the child's pages lose nothing", () => {
  const t = machine();
  const range = written(t, 500);
  const child = of(t.fork(), range);
  t.mlock(range, "onFault");
  expect(collapse(t, range, "madvise")).toBe("succeeded");
  expect(t.flags(range)).toContain("MLOCKED");
  expect(t.mlocked(part(child, 0, 500))).toEqual(Array(500).fill(false));
});

test("COLL-152 the new page counts as 512 on the inactive list, active sources or not", () => {
  const t = machine();
  const range = written(t);
  lruActivate(t.m, t.pfns(range)[0]);
  const changed = t.deltas(() => expect(collapse(t, range)).toBe("succeeded"));
  expect(changed).toMatchObject({ nr_inactive_anon: 1, nr_active_anon: -1 });
  expect(t.flags(range)).not.toContain("ACTIVE");
});

test("COLL-154 lazily freed pages come back as ordinary ones with their contents", () => {
  const t = machine();
  const range = written(t);
  const contents = t.contents(range);
  t.madvise(range, "FREE");
  expect(t.smaps(range).LazyFree).toBe(2048);
  expect(collapse(t, range, "madvise")).toBe("succeeded");
  expect([t.smaps(range).LazyFree, t.contents(range)]).toEqual([0, contents]);
  expect([t.flags(range), t.entry(range)]).toEqual([
    "ANON SWAPBACKED LRU UPTODATE ANON_EXCLUSIVE DEFERRED",
    "WRITE YOUNG DIRTY HUGE",
  ]);
});

test("COLL-091 the huge page of read-only memory is read-only, that of inaccessible memory inaccessible", () => {
  const t = machine();
  const [readOnly, none] = [written(t), written(t)];
  t.mprotect(readOnly, 1);
  t.mprotect(none, 0);
  for (const range of [readOnly, none]) expect(collapse(t, range)).toBe("succeeded");
  expect([t.entry(readOnly), t.entry(none)]).toEqual([
    "YOUNG DIRTY HUGE",
    "YOUNG DIRTY HUGE PROTNONE",
  ]);
  t.mprotect(none, 3);
  expect(t.write(none, 4)).toBe("none");
});

test("COLL-158 one page that the region maps twice meets the collapse's own lock", () => {
  const t = machine();
  const range = written(t);
  const { tables, frames } = t.m;
  const [first, second] = t.pfns(range);
  const slot = tables.payload.indexOf(second);
  const before = tables.flags[slot];
  // As if both pages had been the same and were merged.
  tables.payload[slot] = first;
  frames.mapcount[first] = 2;
  frames.refcount[first] = 2;
  const events = record(t, /isolate/);
  const changed = t.thpDeltas(() => {
    expect(sysMadvise(t.m, t.mm, range.start, 2 ** 21, MADV.COLLAPSE)).toBe(-11);
  });
  expect(changed).toEqual({ thp_collapse_alloc: 1 });
  expect(events).toEqual([["mm_collapse_huge_page_isolate", first, 0, 0, 16, 1]]);
  tables.payload[slot] = second;
  tables.flags[slot] = before;
  frames.mapcount[first] = 1;
  frames.refcount[first] = 1;
  t.check(); // everything was put back
});

test("COLL-131 COLL-132 COLL-347 a source that cannot be read: all is put back as it was", () => {
  const t = machine({ memoryFailure: "on" });
  const range = written(t);
  t.fork();
  const before = [t.pfns(range), t.contents(range), t.states(range), t.entry(range)];
  const pfn = t.pfns(range)[200];
  t.m.frames.flags[pfn] |= PG.HWPOISON;
  t.m.poison.nrPages++;
  const result = sysMadvise(t.m, t.mm, range.start, 2 ** 21, MADV.COLLAPSE);
  t.m.frames.flags[pfn] &= ~PG.HWPOISON;
  t.m.poison.nrPages--;
  t.check();
  expect(result).toBe(-22);
  expect([t.pfns(range), t.contents(range), t.states(range), t.entry(range)]).toEqual(before);
  expect(collapse(t, range, "madvise")).toBe("succeeded");
});

test("COLL-129 secondary MMUs are told of the whole region before its entry goes", () => {
  const t = machine();
  const range = written(t);
  const told: number[][] = [];
  t.m.mmuNotifier = {
    invalidateRange: (...args) => told.push([...args, t.pfns(part(range, 0, 1))[0]]),
    release() {},
  };
  const first = range.start / 4096;
  const pfn = t.pfns(range)[0];
  expect(t.madvise(range, "COLLAPSE")).toBe(0);
  expect(told).toEqual([[t.mm.id, first, first + 512, pfn]]);
});

test("COLL-280 one success is reported by isolate, collapse and scan, in this order", () => {
  const t = machine();
  const range = written(t, 500);
  const last = t.pfns(range)[499];
  const events = record(t, /khugepaged|collapse/);
  expect(collapse(t, range)).toBe("succeeded");
  expect(events).toEqual([
    ["mm_collapse_huge_page_isolate", last, 12, 500, 1, 1],
    ["mm_collapse_huge_page", t.mm.id, 1, 1],
    ["mm_khugepaged_scan_pmd", t.mm.id, last, 500, 12, 1, 0, 1],
  ]);
});

test("COLL-280 COLL-500 6.12 numbers the results behind no_writable_page one higher", () => {
  const t = machine({ profile: "linux-6.12" });
  const range = written(t);
  t.pin(range);
  const events = record(t, /khugepaged/);
  collapse(t, range);
  t.fork();
  t.unpin(t.pfns(range)[0]);
  expect(events[0].slice(5)).toEqual([15, 0, 1]);
});

test("COLL-298 PHYS-128 memory.stat counts the allocation after its charge, and what then fails stays counted", () => {
  const t = machine();
  const memcg = t.memcg(700);
  const child = createMemcg(t.m, "child", memcg);
  const mm = t.exec(child);
  const range = t.map({ huge: 1, mm });
  t.fill(range);
  const counted = (id: number) =>
    /^thp_collapse_alloc (\d+)$/m.exec(String(readMemcgV2(t.m, id, "stat")))?.[1];
  expect(t.madvise(range, "COLLAPSE")).toBe(-16);
  expect([counted(child), counted(memcg)]).toEqual(["0", "0"]);
  t.m.memcgs[memcg]!.max = 2000;
  t.madvise(part(range, 9, 1), "GUARD_INSTALL");
  expect(t.madvise(range, "COLLAPSE")).toBe(-22);
  t.madvise(part(range, 9, 1), "GUARD_REMOVE");
  expect(t.madvise(range, "COLLAPSE")).toBe(0);
  expect([counted(child), counted(memcg)]).toEqual(["2", "2"]);
  t.exit(mm);
  expect(removeMemcg(t.m, child)).toBe(0);
  expect(counted(memcg)).toBe("2");
});
