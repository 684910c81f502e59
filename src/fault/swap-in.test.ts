import { expect, test } from "vitest";
import { type Kit, machine, of, part, type Range } from "../machine/test-kit.ts";

const SHARED_NAME = "SWAPCACHE";

/** Written 4K pages that are all on the swap device. */
function swappedPages(m: Kit, pages: number): Range {
  const range = m.map({ pages, advice: "NOHUGEPAGE" });
  m.fill(range);
  m.madvise(range, "PAGEOUT");
  return range;
}

function withSwap(pages = 4096): Kit {
  const m = machine();
  m.swapon({ pages });
  return m;
}

test("PHYS-112 a page only this process needs is read past the swap cache, exclusive, its slot free at once", () => {
  const m = withSwap();
  const range = swappedPages(m, 4);
  const used = m.m.swap.devices[0]!.nrUsed;

  const seen = m.deltas(() => expect(m.read(range)).toBe("major swap-in"));
  expect(seen).toMatchObject({ pswpin: 1, pgmajfault: 1, pgfault: 1, nr_anon_pages: 1 });
  expect(seen).not.toHaveProperty("nr_swapcached");
  expect(m.m.swap.devices[0]!.nrUsed).toBe(used - 1);
  // Clean and writable: the write needs no fault, and swapping out again must write again.
  expect(m.entry(range)).toBe("WRITE YOUNG");
  expect(m.write(range)).toBe("none");
  expect(m.deltas(() => m.madvise(range, "PAGEOUT"))).toMatchObject({ pswpout: 1 });
});

test("PHYS-112 a page that was only read is written again when it is swapped out again", () => {
  const m = withSwap();
  const range = swappedPages(m, 1);
  m.read(range);
  expect(m.deltas(() => m.madvise(range, "PAGEOUT"))).toMatchObject({ pswpout: 1 });
});

test("a swap-in from the device is a major fault, one from the swap cache a minor fault", () => {
  const m = withSwap();
  const range = swappedPages(m, 2);
  m.madvise(part(range, 1, 1), "WILLNEED");
  const { minflt, majflt } = m.mm;
  m.write(range, 0);
  expect([m.mm.minflt - minflt, m.mm.majflt - majflt]).toEqual([0, 1]);
  expect(m.write(range, 1)).toBe("swap-in");
  expect([m.mm.minflt - minflt, m.mm.majflt - majflt]).toEqual([1, 1]);
});

test("PHYS-116 a page swapped out before fork is read once and shared through the swap cache", () => {
  const m = withSwap();
  const range = swappedPages(m, 4);
  const child = m.fork();
  const childs = of(child, range);
  expect(m.smaps(range)).toMatchObject({ Swap: 16, SwapPss: 8 });

  expect(m.deltas(() => expect(m.read(childs)).toBe("major swap-in"))).toMatchObject({
    nr_swapcached: 1,
    pswpin: 1,
  });
  expect(m.smaps(range)).toMatchObject({ Swap: 16, SwapPss: 10 });
  const seen = m.deltas(() => expect(m.read(range)).toBe("swap-in"));
  expect(seen).toEqual({ pgfault: 1 });
  expect(m.pfns(part(range, 0, 1))).toEqual(m.pfns(part(childs, 0, 1)));
  expect(m.flags(range)).toContain(SHARED_NAME);

  // Neither may write it now; the second writer is the last user, so the swap cache lets go.
  expect(m.write(childs)).toBe("copy-on-write 4k");
  expect(m.deltas(() => expect(m.write(range)).toBe("reuse 4k"))).toMatchObject({
    nr_swapcached: -1,
  });
  expect(m.flags(range)).not.toContain(SHARED_NAME);
});

test("PHYS-116 a write to a shared swapped page copies it; the page stays in the swap cache for the others", () => {
  const m = withSwap();
  const range = swappedPages(m, 4);
  const before = m.swapEntries(range);
  const child = m.fork();
  const childs = of(child, range);

  expect(m.write(childs)).toBe("major copy-on-write 4k");
  expect(m.states(childs)).toBe("small*1 swap*3");
  expect(m.swapEntries(range)).toEqual(before);
  expect(m.read(range)).toBe("swap-in");
  expect(m.entry(range)).toBe("YOUNG");
  expect(m.write(range)).toBe("reuse 4k");
});

test("PHYS-116 when both write, the second takes the cached page over", () => {
  const m = withSwap();
  const range = swappedPages(m, 1);
  const childs = of(m.fork(), range);
  m.write(childs);
  expect(m.deltas(() => expect(m.write(range)).toBe("swap-in"))).toMatchObject({
    nr_swapcached: -1,
  });
  expect(m.entry(range)).toBe("WRITE YOUNG DIRTY");
});

test("PHYS-116 the last user of a slot frees it, also when its page is in the swap cache unmapped", () => {
  const m = withSwap();
  const range = swappedPages(m, 3);
  const childs = of(m.fork(), range);
  m.write(childs, 0);
  expect(m.deltas(() => m.madvise(part(range, 0, 1), "DONTNEED"))).toMatchObject({
    nr_swapcached: -1,
  });
  m.madvise(part(range, 1, 1), "DONTNEED");
  expect(m.read(childs, 1)).toBe("major swap-in");
  expect(m.entry(part(childs, 1, 1))).toBe("WRITE YOUNG");
  m.exit(childs.mm);
  m.munmap(range);
  expect(m.m.swap.devices[0]!.nrUsed).toBe(0);
});

test("PHYS-115 an unwritten cached page keeps its slot: swapping it out again writes nothing", () => {
  const m = withSwap();
  const range = swappedPages(m, 2);
  m.madvise(range, "WILLNEED");
  m.read(range, 0);
  m.write(range, 1);
  expect(m.deltas(() => m.madvise(part(range, 0, 1), "PAGEOUT"))).toEqual({
    nr_swapcached: -1,
    nr_inactive_anon: -1,
    nr_anon_pages: -1,
  });
  expect(m.deltas(() => m.madvise(part(range, 1, 1), "PAGEOUT"))).toMatchObject({ pswpout: 1 });
});

test("PHYS-115 with swap more than half full a page leaves the swap cache as soon as nobody needs its slot", () => {
  const m = withSwap(2048);
  const range = swappedPages(m, 1500);
  m.madvise(range, "WILLNEED");
  const seen = m.deltas(() => m.read(range));
  expect(seen).toMatchObject({ nr_swapcached: -1 });
  expect(m.flags(range)).toContain("DIRTY");

  const roomy = withSwap(4096);
  const other = swappedPages(roomy, 1500);
  roomy.madvise(other, "WILLNEED");
  expect(roomy.deltas(() => roomy.read(other))).not.toHaveProperty("nr_swapcached");
});

test("ANON-157 the swap cache's reference does not count as another user of a page", () => {
  const m = withSwap();
  const range = swappedPages(m, 1);
  const child = m.fork();
  m.read(range);
  m.exit(child);
  expect(m.flags(range)).toContain(SHARED_NAME);
  expect(m.write(range)).toBe("reuse 4k");
});

test("a huge folio shared through fork is reused after it was swapped out and in by the survivor", () => {
  const m = withSwap();
  const range = m.mapHuge();
  m.fill(range);
  m.madvise(range, "PAGEOUT");
  const child = m.fork();
  expect(m.smaps(range)).toMatchObject({ Swap: 2048, SwapPss: 1024 });
  m.exit(child);
  expect(m.smaps(range)).toMatchObject({ Swap: 2048, SwapPss: 2048 });
  expect(m.read(range)).toBe("major swap-in");
  expect(m.write(range)).toBe("none");
});

test("PHYS-113 slots of one piece come back as one mTHP where its size is enabled", () => {
  const m = machine({ sizes: { "64kB": "always" } });
  m.swapon({ pages: 4096 });
  const range = m.map({ pages: 512 });
  m.fill(part(range, 0, 48));
  const before = m.contents(range);
  m.madvise(range, "PAGEOUT");

  expect(m.deltas(() => expect(m.read(range, 5)).toBe("major swap-in 64kB"))).toMatchObject({
    pgmajfault: 1,
    pswpin: 16,
    "64kB/nr_anon": 1,
    "64kB/swpin": 1,
  });
  expect(m.states(part(range, 0, 48))).toBe("large*16 swap*32");
  expect(m.contents(part(range, 0, 16))).toEqual(before.slice(0, 16));
  expect(m.write(range, 0)).toBe("none");

  m.madvise(part(range, 16, 1), "WILLNEED");
  expect(m.read(range, 17)).toBe("major swap-in");
  m.knob("thp.hugepages-64kB.enabled", "never");
  expect(m.read(range, 32)).toBe("major swap-in");
  expect(m.states(part(range, 0, 48))).toBe("large*16 swap*1 small*1 swap*14 small*1 swap*15");
});

test("PHYS-113 unaligned slots, zero-filled next to others, and profile linux-6.12 swap in single pages", () => {
  const unaligned = machine();
  unaligned.swapon({ pages: 4096 });
  const range = swappedPages(unaligned, 32); // from slot 1 on
  unaligned.madvise(range, "HUGEPAGE");
  unaligned.knob("thp.hugepages-64kB.enabled", "always");
  expect(unaligned.read(range)).toBe("major swap-in");

  const old = machine({ profile: "linux-6.12", sizes: { "64kB": "always" } });
  old.swapon({ pages: 4096 });
  const block = old.map({ pages: 512 });
  old.fill(part(block, 0, 16));
  old.madvise(block, "PAGEOUT");
  expect(old.states(part(block, 0, 16))).toBe("swap*16");
  expect(old.read(block)).toBe("major swap-in");
});

test("PHYS-113 a folio that cannot be had or charged is counted, and one page comes instead", () => {
  const m = machine({ sizes: { "64kB": "always" } });
  m.swapon({ pages: 4096 });
  const group = m.memcg(80);
  const mm = m.exec(group);
  const range = m.map({ pages: 512, mm });
  m.fill(part(range, 0, 32));
  m.madvise(range, "PAGEOUT");
  const room = m.m.memcgs[group]!;
  room.max = room.usage + 8;
  expect(m.deltas(() => m.read(range))).toMatchObject({
    pswpin: 1,
    "64kB/swpin_fallback": 1,
    "64kB/swpin_fallback_charge": 1,
  });
  room.max = 1000;
  m.exhaust(4);
  const seen = m.deltas(() => expect(m.read(range, 16)).toBe("major swap-in"));
  expect(seen).toMatchObject({ pswpin: 1, "64kB/swpin_fallback": 1 });
  expect(seen).not.toHaveProperty("64kB/swpin_fallback_charge");
});

test("PHYS-087 a page that comes back within its lists' reach becomes active; one that was gone longer does not", () => {
  const m = withSwap();
  const range = swappedPages(m, 8);
  // 8 pages evicted since and no other list has any: too far. Without swap, PAGEOUT would fill the active list.
  expect(m.deltas(() => m.read(range, 0))).not.toHaveProperty("workingset_activate_anon");
  const file = m.map({ pages: 64 });
  m.fill(file);
  m.madvise(file, "FREE"); // 64 pages on the inactive file list: the room the pages could have had
  const seen = m.deltas(() => m.read(range, 1));
  expect(seen).toMatchObject({ workingset_refault_anon: 1, workingset_activate_anon: 1 });
  expect(seen).toMatchObject({ nr_active_anon: 1 });
  expect(seen).not.toHaveProperty("pgactivate");
});

test("a swap-in that finds no memory leaves the entry as it is", () => {
  const m = withSwap();
  const range = swappedPages(m, 2);
  const child = m.fork();
  m.exhaustAll();
  expect(m.read(range)).toBe("OOM");
  expect(m.read(of(child, range))).toBe("OOM");
  m.release();
  m.exit(child);
  expect(m.read(range)).toBe("major swap-in");
});
