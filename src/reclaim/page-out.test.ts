import { expect, test } from "vitest";
import { type Kit, machine, part, type Range } from "../machine/test-kit.ts";
import { PROT } from "../syscall/mmap.ts";

/** A huge folio with every page written. */
function filledHuge(m: Kit): Range {
  const range = m.mapHuge();
  m.fill(range);
  return range;
}

/** The same folio mapped by 512 PTEs. */
function filledPteMapped(m: Kit): Range {
  const range = filledHuge(m);
  m.mprotect(part(range, 0, 1), PROT.READ);
  m.mprotect(part(range, 0, 1), PROT.READ | PROT.WRITE);
  return range;
}

/** What swap and huge pages count, without the LRU's sizes. */
function swapDeltas(m: Kit, action: () => void): Record<string, number> {
  const lists = /^nr_(in)?active_|^nr_anon_pages$|^nr_vmscan_write$/;
  return Object.fromEntries(Object.entries(m.deltas(action)).filter(([name]) => !lists.test(name)));
}

const WHOLE_SPLIT = {
  nr_anon_transparent_hugepages: -1,
  thp_split_page: 1,
  thp_split_pmd: 1,
  "2048kB/nr_anon": -1,
  "2048kB/split": 1,
};

test("ANON-267 PHYS-098 a huge folio is swapped out whole, its PMD split first, and comes back as 4K pages", () => {
  const m = machine();
  m.swapon({ pages: 4096 });
  const range = filledHuge(m);
  const written = m.contents(range);

  expect(m.deltas(() => m.madvise(range, "PAGEOUT"))).toEqual({
    nr_inactive_anon: -512,
    nr_anon_pages: -512,
    nr_anon_transparent_hugepages: -1,
    nr_vmscan_write: 512,
    pswpout: 512,
    thp_split_pmd: 1,
    thp_swpout: 1,
    "2048kB/swpout": 1,
    "2048kB/nr_anon": -1,
  });
  expect(m.states(range)).toBe("swap*512");
  expect(m.smaps(range)).toMatchObject({ Rss: 0, Swap: 2048, SwapPss: 2048 });
  const entries = m.swapEntries(range);
  expect(entries[0] % 512).toBe(0);
  expect(entries).toEqual(entries.map((_, i) => entries[0] + i));

  expect(m.read(range, 7)).toBe("major swap-in");
  expect(m.states(range)).toBe("swap*7 small*1 swap*504");
  for (let page = 0; page < 512; page++) m.read(range, page);
  expect(m.contents(range)).toEqual(written);
});

test("ANON-267 a fully PTE-mapped huge folio is swapped out whole without a PMD split", () => {
  const m = machine();
  m.swapon({ pages: 4096 });
  const range = filledPteMapped(m);
  expect(swapDeltas(m, () => m.madvise(range, "PAGEOUT"))).toEqual({
    pswpout: 512,
    thp_swpout: 1,
    "2048kB/swpout": 1,
    "2048kB/nr_anon": -1,
  });
  expect(m.states(range)).toBe("swap*512");
});

test("PHYS-099 profile seed-2011 always splits a huge page that it swaps out", () => {
  const m = machine({ profile: "seed-2011" });
  m.swapon({ pages: 4096 });
  const range = filledHuge(m);
  expect(m.thpDeltas(() => m.madvise(range, "PAGEOUT"))).toEqual({
    ...WHOLE_SPLIT,
    thp_swpout_fallback: 1,
    "2048kB/swpout_fallback": 1,
  });
  expect(m.states(range)).toBe("swap*512");
});

test("PHYS-100 a huge folio of zeroes is marked in the slots' map, nothing is written or read back", () => {
  const m = machine();
  m.swapon({ pages: 4096 });
  const range = m.map({ huge: 1, advice: "HUGEPAGE" });
  m.madvise(range, "POPULATE_WRITE");
  expect(m.isHuge(range)).toBe(true);
  expect(m.deltas(() => m.madvise(range, "PAGEOUT"))).toEqual({
    nr_inactive_anon: -512,
    nr_anon_pages: -512,
    nr_anon_transparent_hugepages: -1,
    nr_vmscan_write: 512,
    swpout_zero: 512,
    thp_split_pmd: 1,
    "2048kB/nr_anon": -1,
  });
  expect(m.states(range)).toBe("swap*512");
  expect(swapDeltas(m, () => m.read(range, 5))).toMatchObject({ swpin_zero: 1, pgmajfault: 1 });
  expect(m.contents(part(range, 5, 1))).toEqual([0]);
});

test("a huge folio with one written page is swapped out whole, zeroes and all", () => {
  const m = machine();
  m.swapon({ pages: 4096 });
  const range = m.mapHuge();
  expect(swapDeltas(m, () => m.madvise(range, "PAGEOUT"))).toMatchObject({ pswpout: 512 });
  expect(m.states(range)).toBe("swap*512");
});

test("ANON-268 PHYS-101 without swap the folio is split all the same and its pages become active", () => {
  const m = machine();
  const range = filledHuge(m);
  const pfns = m.pfns(range);
  expect(m.deltas(() => m.madvise(range, "PAGEOUT"))).toEqual({
    ...WHOLE_SPLIT,
    nr_inactive_anon: -512,
    nr_active_anon: 512,
    pgactivate: 512,
    thp_swpout_fallback: 1,
    "2048kB/swpout_fallback": 1,
  });
  expect(m.states(range)).toBe("small*512");
  expect(m.pfns(range)).toEqual(pfns);
});

test("ANON-268 without swap the pages never written give way to the zero page, and count as activated", () => {
  const m = machine();
  const range = m.mapHuge();
  const seen = m.deltas(() => m.madvise(range, "PAGEOUT"));
  expect(seen).toMatchObject({ pgactivate: 512, thp_swpout_fallback: 1, nr_active_anon: 1 });
  expect(m.states(range)).toBe("small*1 zero*511");
});

test("ANON-268 a partially mapped folio is split without a fallback, then swapped out page by page", () => {
  const m = machine();
  m.swapon({ pages: 4096 });
  const range = filledHuge(m);
  m.madvise(part(range, 100, 10), "DONTNEED");
  expect(swapDeltas(m, () => m.madvise(range, "PAGEOUT"))).toEqual({
    pswpout: 502,
    thp_split_page: 1,
    "2048kB/split": 1,
    "2048kB/nr_anon": -1,
    "2048kB/nr_anon_partially_mapped": -1,
  });
  expect(m.states(range)).toBe("swap*100 none*10 swap*402");
});

test("ANON-268 PHYS-104 of a part only the pages in range are swapped out, after a folio split", () => {
  const m = machine();
  m.swapon({ pages: 4096 });
  const range = filledHuge(m);
  expect(swapDeltas(m, () => m.madvise(part(range, 0, 4), "PAGEOUT"))).toEqual({
    ...WHOLE_SPLIT,
    pswpout: 4,
  });
  expect(m.states(range)).toBe("swap*4 small*508");

  const mapped = filledPteMapped(m);
  expect(swapDeltas(m, () => m.madvise(part(mapped, 10, 20), "PAGEOUT"))).toEqual({
    pswpout: 20,
    thp_split_page: 1,
    thp_deferred_split_page: 1,
    "2048kB/split": 1,
    "2048kB/split_deferred": 1,
    "2048kB/nr_anon": -1,
  });
  expect(m.states(mapped)).toBe("small*10 swap*20 small*482");
});

test("PHYS-103 swap without a free cluster: the first folio fits whole, the next is split and fills the rest", () => {
  const m = machine();
  m.swapon({ pages: 1024 });
  const range = m.map({ huge: 2, advice: "HUGEPAGE" });
  m.fill(range);
  expect(swapDeltas(m, () => m.madvise(range, "PAGEOUT"))).toEqual({
    nr_anon_transparent_hugepages: -2,
    pgactivate: 1,
    pswpout: 1023,
    thp_split_page: 1,
    thp_split_pmd: 2,
    thp_swpout: 1,
    thp_swpout_fallback: 1,
    "2048kB/split": 1,
    "2048kB/swpout": 1,
    "2048kB/swpout_fallback": 1,
    "2048kB/nr_anon": -2,
  });
  // The head first, then from the last page down: page 1 finds no slot any more.
  expect(m.states(range)).toBe("swap*513 small*1 swap*510");
});

test("PHYS-103 swap with every second slot free takes no folio whole, but all its pages", () => {
  const m = machine();
  m.swapon({ pages: 2048 });
  const filler = m.map({ pages: 2047, advice: "NOHUGEPAGE" });
  m.fill(filler);
  m.madvise(filler, "PAGEOUT");
  for (let page = 0; page < 2047; page += 2) m.read(filler, page);
  const range = filledHuge(m);
  expect(m.thpDeltas(() => m.madvise(range, "PAGEOUT"))).toEqual({
    ...WHOLE_SPLIT,
    thp_swpout_fallback: 1,
    "2048kB/swpout_fallback": 1,
  });
  expect(m.states(range)).toBe("swap*512");
});

test("PHYS-097 pages that a split left unmapped are freed without being written", () => {
  const m = machine();
  m.swapon({ pages: 256 });
  const range = m.mapHuge();
  for (let page = 0; page < 60; page++) m.write(range, page);
  const seen = m.deltas(() => m.madvise(range, "PAGEOUT"));
  expect(seen).toMatchObject({ pswpout: 60, nr_vmscan_write: 512, thp_swpout_fallback: 1 });
  expect(seen).not.toHaveProperty("pgactivate");
  expect(m.states(range)).toBe("swap*60 zero*452");
});

test("an mTHP is swapped out whole into an aligned run, and counted at its own size", () => {
  const m = machine({ sizes: { "64kB": "always" } });
  m.swapon({ pages: 4096 });
  const range = m.map({ pages: 512 });
  m.fill(part(range, 0, 32));
  expect(swapDeltas(m, () => m.madvise(range, "PAGEOUT"))).toEqual({
    pswpout: 32,
    "64kB/swpout": 2,
    "64kB/nr_anon": -2,
  });
  const entries = m.swapEntries(part(range, 0, 32));
  expect([entries[0] % 16, entries[16] % 16]).toEqual([0, 0]);
});

test("an mTHP that finds no aligned run is split, and counted as a fallback of its size only", () => {
  const m = machine({ sizes: { "64kB": "always" } });
  m.swapon({ pages: 16 });
  const range = m.map({ pages: 512 });
  m.fill(part(range, 0, 16));
  expect(swapDeltas(m, () => m.madvise(range, "PAGEOUT"))).toEqual({
    pgactivate: 1,
    pswpout: 15,
    "64kB/split": 1,
    "64kB/split_deferred": 1,
    "64kB/swpout_fallback": 1,
    "64kB/nr_anon": -1,
  });
});

test("ANON-265 a lazily freed huge folio is dropped without swap, its PMD split first", () => {
  const m = machine();
  const range = filledHuge(m);
  m.madvise(range, "FREE");
  expect(m.deltas(() => m.madvise(range, "PAGEOUT"))).toEqual({
    nr_inactive_file: -512,
    nr_anon_pages: -512,
    nr_anon_transparent_hugepages: -1,
    pglazyfreed: 512,
    thp_split_pmd: 1,
    "2048kB/nr_anon": -1,
  });
  expect(m.states(range)).toBe("none*512");
});

test("ANON-265 profile linux-6.12 drops the huge mapping as it is", () => {
  const m = machine({ profile: "linux-6.12" });
  const range = filledHuge(m);
  m.madvise(range, "FREE");
  expect(m.thpDeltas(() => m.madvise(range, "PAGEOUT"))).toEqual({
    nr_anon_transparent_hugepages: -1,
    "2048kB/nr_anon": -1,
  });
  expect(m.states(range)).toBe("none*512");
});

test("ANON-265 PHYS-105 one byte written since keeps the whole folio, as an active anonymous one", () => {
  for (const profile of ["linux-6.18", "linux-6.12"]) {
    const m = machine({ profile });
    m.swapon({ pages: 4096 });
    const range = filledHuge(m);
    m.madvise(range, "FREE");
    m.write(range, 5);
    expect(m.smaps(range).LazyFree).toBe(0);
    expect(m.deltas(() => m.madvise(range, "PAGEOUT"))).toEqual({
      nr_inactive_file: -512,
      nr_active_anon: 512,
      nr_anon_transparent_hugepages: -1,
      pgactivate: 512,
      thp_split_pmd: 1,
    });
    expect(m.states(range)).toBe("large*512");
    expect(m.flags(range)).toContain("SWAPBACKED");
    expect(swapDeltas(m, () => m.madvise(range, "PAGEOUT"))).toMatchObject({ thp_swpout: 1 });
  }
});

test("ANON-265 lazily freed 4K pages are dropped, those written since are kept and swapped out by the next call", () => {
  const m = machine();
  m.swapon({ pages: 4096 });
  const range = m.map({ pages: 8 });
  m.fill(range);
  m.madvise(range, "FREE");
  m.write(range, 2);
  expect(swapDeltas(m, () => m.madvise(range, "PAGEOUT"))).toEqual({
    pgactivate: 1,
    pglazyfreed: 7,
  });
  expect(m.states(range)).toBe("none*2 small*1 none*5");
  expect(swapDeltas(m, () => m.madvise(range, "PAGEOUT"))).toEqual({ pswpout: 1 });
});

test("ANON-253 ANON-211 a referenced folio is neither swapped out nor split; a part is tried once and given up", () => {
  const m = machine();
  m.swapon({ pages: 4096 });
  for (const range of [filledHuge(m), filledPteMapped(m)]) {
    const before = m.states(range);
    const held = m.get(part(range, 3, 1));
    expect(swapDeltas(m, () => expect(m.madvise(range, "PAGEOUT")).toBe(0))).toEqual({
      pgactivate: 512,
    });
    const failed = { thp_split_page_failed: 1, "2048kB/split_failed": 1 };
    expect(m.deltas(() => expect(m.madvise(part(range, 0, 4), "PAGEOUT")).toBe(0))).toEqual(failed);
    expect(m.deltas(() => m.madvise(part(range, 0, 4), "COLD"))).toEqual(failed);
    expect(m.deltas(() => m.madvise(part(range, 0, 4), "FREE"))).toEqual(failed);
    expect(m.states(range)).toBe(before);
    m.put(held);
    expect(m.thpDeltas(() => m.madvise(range, "PAGEOUT"))).toMatchObject({ thp_swpout: 1 });
  }
});

test("ANON-253 a pinned 4K page stays mapped; one referenced otherwise waits in the swap cache and comes back as itself", () => {
  const m = machine();
  m.swapon({ pages: 4096 });
  const range = m.map({ pages: 8 });
  m.fill(range);
  const before = m.contents(range);
  const pinned = m.pfns(range)[1];
  m.pin(part(range, 1, 1));
  const held = m.get(part(range, 3, 1));
  expect(swapDeltas(m, () => m.madvise(range, "PAGEOUT"))).toEqual({
    nr_swapcached: 1,
    pswpout: 6,
  });
  expect(m.states(range)).toBe("swap*1 small*1 swap*6");
  expect(m.read(range, 3)).toBe("swap-in");
  expect(m.pfns(part(range, 3, 1))).toEqual([held]);
  expect(m.contents(part(range, 3, 1))).toEqual([before[3]]);
  m.put(held);
  m.unpin(pinned);
});

test("a lazily freed folio that is referenced stays lazily freed, but its PMD is split", () => {
  const m = machine();
  const range = filledHuge(m);
  m.madvise(range, "FREE");
  const held = m.get(range);
  expect(swapDeltas(m, () => m.madvise(range, "PAGEOUT"))).toEqual({
    nr_anon_transparent_hugepages: -1,
    pgactivate: 512,
    thp_split_pmd: 1,
  });
  expect(m.smaps(range)).toMatchObject({ Rss: 2048, LazyFree: 2048, AnonHugePages: 0 });
  m.put(held);
  expect(m.deltas(() => m.madvise(range, "PAGEOUT"))).toMatchObject({ pglazyfreed: 512 });
});

test("ANON-263 PHYS-104 folios that another process maps too are left alone, whole or in part", () => {
  const m = machine();
  m.swapon({ pages: 4096 });
  const huge = filledHuge(m);
  const small = m.map({ pages: 4 });
  m.fill(small);
  const child = m.fork();
  const nothing = m.deltas(() => {
    for (const range of [huge, part(huge, 0, 4), small]) {
      expect(m.madvise(range, "PAGEOUT")).toBe(0);
      expect(m.madvise(range, "COLD")).toBe(0);
    }
  });
  expect(nothing).toEqual({});
  expect([m.states(huge), m.states(small)]).toEqual(["huge*512", "small*4"]);
  m.exit(child);
  m.madvise(huge, "PAGEOUT");
  expect(m.states(huge)).toBe("swap*512");
});

test("ANON-087 zero pages of either size are ignored", () => {
  const m = machine();
  m.swapon({ pages: 4096 });
  const huge = m.map({ huge: 1, advice: "HUGEPAGE" });
  const small = m.map({ pages: 2 });
  m.read(huge);
  m.read(small);
  m.write(small, 1);
  expect(m.deltas(() => m.madvise(part(huge, 0, 4), "PAGEOUT"))).toEqual({});
  expect(swapDeltas(m, () => m.madvise(small, "PAGEOUT"))).toEqual({ pswpout: 1 });
  expect([m.states(huge), m.states(small)]).toEqual(["zero*512", "zero*1 swap*1"]);
});

test("pages of an inaccessible mapping are swapped out like others", () => {
  const m = machine();
  m.swapon({ pages: 4096 });
  const range = m.map({ pages: 4 });
  m.fill(range);
  const before = m.contents(range);
  m.mprotect(range, PROT.NONE);
  m.madvise(range, "PAGEOUT");
  expect(m.states(range)).toBe("swap*4");
  expect(m.read(range)).toBe("SIGSEGV");
  m.mprotect(range, PROT.READ);
  for (let page = 0; page < 4; page++) m.read(range, page);
  expect(m.contents(range)).toEqual(before);
});
