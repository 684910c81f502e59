import { expect, test } from "vitest";
import { PAGE_SIZE } from "../base/address.ts";
import { type Kit, machine, part, type Range } from "../machine/test-kit.ts";
import { PG } from "../phys/frame-table.ts";
import { MAP, PROT, sysMmap } from "../syscall/mmap.ts";

/** A huge fault in a region whose upper tables exist: deltas then count the deposit only. */
const HUGE_FAULT = {
  pgfault: 1,
  thp_fault_alloc: 1,
  nr_anon_pages: 512,
  nr_inactive_anon: 512,
  nr_anon_transparent_hugepages: 1,
  nr_page_table_pages: 1,
  "2048kB/anon_fault_alloc": 1,
  "2048kB/nr_anon": 1,
};

test("ANON-063 ANON-074 ANON-305 a huge write fault changes exactly these counters", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 2 });
  t.write(range);
  const minflt = t.mm.minflt;
  expect(t.deltas(() => t.write(range, 600))).toEqual(HUGE_FAULT);
  expect(t.mm.minflt - minflt).toBe(1);
});

test("ANON-063 a fresh huge page is writable, young, dirty, exclusive and reads as zero", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  const [rss, tables] = [t.mm.rssAnon, t.mm.nrPteTables];
  t.write(range, 3);
  expect(t.entry(range)).toBe("WRITE YOUNG DIRTY HUGE");
  const head = t.folio(range);
  const { flags, refcount, entireMapcount } = t.m.frames;
  const wanted = PG.ANON | PG.SWAPBACKED | PG.LRU | PG.ANON_EXCLUSIVE;
  expect(flags[head] & wanted).toBe(wanted);
  expect([refcount[head], entireMapcount[head]]).toEqual([1, 1]);
  expect([t.mm.rssAnon - rss, t.mm.nrPteTables - tables]).toEqual([512, 1]);
  const contents = t.contents(range);
  expect(contents.filter((tag) => tag !== 0)).toHaveLength(1);
  expect(contents[3]).not.toBe(0);
  expect(t.read(range, 500)).toBe("none");
});

test("ANON-063 in a read-only VMA the huge page is mapped read-only", () => {
  const t = machine({ enabled: "always", useZeroPage: false });
  const range = t.map({ huge: 1, prot: PROT.READ });
  expect(t.read(range)).toBe("anon 2M");
  expect(t.entry(range)).toBe("YOUNG DIRTY HUGE");
});

test("ANON-072 a huge page lies on a 2 MiB boundary of physical memory, page by page in order", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  const pfns = t.pfns(range);
  expect(pfns[0] % 512).toBe(0);
  expect(pfns).toEqual(pfns.map((_, i) => pfns[0] + i));
});

test("ANON-072 the fault does not mark the folio dirty; a PMD split does", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  const head = t.folio(range);
  expect(t.m.frames.flags[head] & PG.DIRTY).toBe(0);
  t.mprotect(part(range, 0, 1), PROT.READ);
  expect(t.m.frames.flags[head] & PG.DIRTY).toBe(PG.DIRTY);
});

test("ANON-060 a page table that exists, even an empty one, means small pages", () => {
  const t = machine();
  const touched = t.map({ huge: 1 });
  t.write(touched);
  t.madvise(touched, "HUGEPAGE");
  expect(t.write(touched, 1)).toBe("anon 4k");

  const emptied = t.map({ huge: 1 });
  t.write(emptied, 0);
  t.madvise(part(emptied, 0, 1), "DONTNEED");
  t.madvise(emptied, "HUGEPAGE");
  expect(t.write(emptied)).toBe("anon 4k");
});

test("ANON-061 one MADV_DONTNEED over the whole 2 MiB frees the table, two halves do not", () => {
  const t = machine();
  const whole = t.map({ huge: 1 });
  t.write(whole);
  t.madvise(whole, "DONTNEED");
  t.madvise(whole, "HUGEPAGE");
  expect(t.write(whole)).toBe("anon 2M");

  const halves = t.map({ huge: 1 });
  t.write(halves);
  t.madvise(part(halves, 0, 256), "DONTNEED");
  t.madvise(part(halves, 256, 256), "DONTNEED");
  t.madvise(halves, "HUGEPAGE");
  expect(t.write(halves)).toBe("anon 4k");
});

test("ANON-061 6.12 keeps the table after MADV_DONTNEED", () => {
  const t = machine({ profile: "linux-6.12" });
  const range = t.map({ huge: 1 });
  t.write(range);
  t.madvise(range, "DONTNEED");
  t.madvise(range, "HUGEPAGE");
  expect(t.write(range)).toBe("anon 4k");
});

test("ANON-061 munmap that leaves no VMA near frees the table", () => {
  const t = machine();
  const range = t.map({ huge: 1 });
  t.write(range);
  t.munmap(range);
  const again = t.map({ huge: 1, at: range.start, advice: "HUGEPAGE" });
  expect(t.write(again)).toBe("anon 2M");
});

test("ANON-061 moving the whole table away makes the next fault huge", () => {
  const t = machine();
  const range = t.map({ huge: 1 });
  t.write(range);
  t.mremap(range, 512, { at: range.start + 2 ** 29, keepSource: true });
  t.madvise(range, "HUGEPAGE");
  expect(t.write(range)).toBe("anon 2M");
});

test("ANON-065 ANON-067 ANON-115 without a free 2 MiB block the fault falls back to 4K", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  t.exhaust(9);
  let kind = "";
  const changed = t.thpDeltas(() => {
    kind = t.write(range);
  });
  expect(kind).toBe("anon 4k");
  expect(changed).toEqual({ thp_fault_fallback: 1, "2048kB/anon_fault_fallback": 1 });
  t.release();
});

test("ANON-065 a VMA too small for 2 MiB falls back without a counter", () => {
  const t = machine({ enabled: "always" });
  expect(t.thpDeltas(() => t.write(t.map({ pages: 100 })))).toEqual({});
});

test("ANON-066 ANON-339 a charge that fails counts both fallbacks and the process lives on", () => {
  const t = machine({ enabled: "always" });
  const group = t.memcg(400);
  const mm = t.exec(group);
  const range = t.map({ huge: 1, mm });
  let kind = "";
  const changed = t.thpDeltas(() => {
    kind = t.write(range);
  });
  expect(kind).toBe("anon 4k");
  expect(changed).toEqual({
    thp_fault_fallback: 1,
    thp_fault_fallback_charge: 1,
    "2048kB/anon_fault_fallback": 1,
    "2048kB/anon_fault_fallback_charge": 1,
  });
  expect(t.m.memcgs[group]!.usage).toBe(1);
});

test("ANON-336 a charge is given back on every way out", () => {
  const t = machine({ enabled: "always" });
  const group = t.memcg(600);
  const usage = () => t.m.memcgs[group]!.usage;
  const mm = t.exec(group);
  const range = t.map({ huge: 2, mm });
  t.write(range);
  t.write(range, 512); // refused: only 88 pages are left
  expect(usage()).toBe(513);
  const child = t.fork(mm);
  expect(usage()).toBe(513);
  t.exit(mm);
  expect(usage()).toBe(513);
  t.exit(child);
  expect(usage()).toBe(0);
});

test("ANON-336 a split leaves every page charged to the same group", () => {
  const t = machine({ enabled: "always" });
  const group = t.memcg(600);
  const mm = t.exec(group);
  const range = t.map({ huge: 1, mm });
  t.fill(range);
  t.munmap(part(range, 0, 12));
  expect(t.m.memcgs[group]!.usage).toBe(512);
  expect(t.dropSlab()).toBe(1);
  expect(t.m.memcgs[group]!.usage).toBe(500);
  t.exit(mm);
  expect(t.m.memcgs[group]!.usage).toBe(0);
});

test("ANON-067 after a failed 2 MiB the enabled smaller sizes are tried in the same fault", () => {
  const t = machine({ enabled: "always", sizes: { "64kB": "always" } });
  const range = t.map({ huge: 1 });
  t.exhaust(9);
  let kind = "";
  const changed = t.thpDeltas(() => {
    kind = t.write(range);
  });
  expect(kind).toBe("anon mTHP 64kB");
  expect(changed).toEqual({
    thp_fault_fallback: 1,
    "2048kB/anon_fault_fallback": 1,
    "64kB/anon_fault_alloc": 1,
    "64kB/nr_anon": 1,
  });
  t.release();
});

test("ANON-116 every fault tries 2 MiB anew: a VMA is not remembered as unlucky", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 2 });
  t.exhaust(9);
  expect(t.write(range)).toBe("anon 4k");
  t.release();
  expect(t.write(range, 512)).toBe("anon 2M");
});

test("ANON-068 without a frame for the page table the fault ends out of memory, nothing kept", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  t.exhaustAll();
  expect(t.write(range)).toBe("OOM");
  expect(t.mm.rssAnon).toBe(0);
  t.release();
  expect(t.write(range)).toBe("anon 2M");
});

test("ANON-070 a read with use_zero_page=0 behaves like a write, and the entry is dirty", () => {
  const t = machine({ enabled: "always", useZeroPage: false });
  const range = t.map({ huge: 2 });
  t.write(range);
  expect(t.deltas(() => t.read(range, 512))).toEqual(HUGE_FAULT);
  expect(t.entry(part(range, 512, 1))).toBe("WRITE YOUNG DIRTY HUGE");
});

test("ANON-070 made by a read in a read-only VMA, the first write after mprotect upgrades it", () => {
  const t = machine({ enabled: "always", useZeroPage: false });
  const range = t.map({ huge: 1, prot: PROT.READ });
  t.read(range);
  const [pfn] = t.pfns(range);
  t.mprotect(range, PROT.READ | PROT.WRITE);
  expect(t.thpDeltas(() => t.write(range))).toEqual({});
  expect([t.isHuge(range), t.pfns(range)[0]]).toEqual([true, pfn]);
});

test("ANON-071 populating a page of 2 MiB populates all of it", () => {
  const t = machine();
  const range = t.map({ huge: 1, advice: "HUGEPAGE" });
  expect(t.madvise(part(range, 9, 1), "POPULATE_WRITE")).toBe(0);
  expect(t.smaps(range).AnonHugePages).toBe(2048);
});

test("ANON-071 populating 2 MiB and a page for reading maps two huge zero PMDs", () => {
  const t = machine();
  const range = t.map({ huge: 2, advice: "HUGEPAGE" });
  const faults = t.deltas(() => t.madvise(part(range, 0, 513), "POPULATE_READ"));
  expect(faults.pgfault).toBe(2);
  expect([t.entry(range), t.entry(part(range, 512, 1))]).toEqual([
    "YOUNG HUGE SPECIAL",
    "YOUNG HUGE SPECIAL",
  ]);
});

test("ANON-071 each look at a page mapped by a PTE counts: referenced, active, active and referenced", () => {
  const t = machine({ enabled: "never" });
  const range = t.map({ pages: 4 });
  const seen: string[] = [];
  for (let i = 0; i < 4; i++) {
    t.madvise(range, "POPULATE_WRITE");
    seen.push(flagsOf(t, range));
  }
  expect(seen).toEqual(["R", "A", "RA", "RA"]);
  const zeroes = t.map({ pages: 4 });
  t.madvise(zeroes, "POPULATE_READ");
  expect(t.states(zeroes)).toBe("zero*4");

  const t2 = machine({ enabled: "always" });
  const huge = t2.mapHuge();
  t2.madvise(huge, "POPULATE_WRITE");
  t2.madvise(huge, "POPULATE_WRITE");
  expect(flagsOf(t2, huge)).toBe("");
});

function flagsOf(t: Kit, range: Range): string {
  const flags = t.m.frames.flags[t.folio(range)];
  return `${(flags & PG.REFERENCED) !== 0 ? "R" : ""}${(flags & PG.ACTIVE) !== 0 ? "A" : ""}`;
}

test("ANON-071 MAP_POPULATE uses the same path", () => {
  const t = machine({ enabled: "always" });
  const changed = t.thpDeltas(() => t.map({ huge: 2, flags: MAP.POPULATE }));
  expect(changed).toMatchObject({ thp_fault_alloc: 2, nr_anon_transparent_hugepages: 2 });
});

test("ANON-024 private memory without a hint is anonymous and gets huge pages wherever it lands", () => {
  const t = machine({ enabled: "always" });
  const start = sysMmap(t.m, t.mm, {
    address: 0,
    length: 512 * PAGE_SIZE,
    prot: 3,
    flags: MAP.PRIVATE | MAP.ANONYMOUS,
  });
  expect(t.write({ mm: t.mm, start, nrPages: 512 }, 100)).toBe("anon 2M");
});

test("ANON-111 the local node is tried first; without direct reclaim it is the only one", () => {
  const t = machine({ enabled: "always", memory: 256, nrNodes: 2 });
  t.knob("thp.defrag", "never");
  const nodeOf = (pfn: number) => (pfn < (128 * 2 ** 20) / PAGE_SIZE ? 0 : 1);
  const kinds: string[] = [];
  // Every 2 MiB of node 0, one after the other.
  for (let i = 0; i < 64; i++) {
    const range = t.map({ huge: 1 });
    const kind = t.write(range);
    kinds.push(kind === "anon 2M" ? `2M on ${nodeOf(t.folio(range))}` : kind);
    if (kind !== "anon 2M") break;
  }
  expect(new Set(kinds)).toEqual(new Set(["2M on 0", "anon 4k"]));

  t.knob("thp.defrag", "always");
  const range = t.map({ huge: 1 });
  expect([t.write(range), nodeOf(t.folio(range))]).toEqual(["anon 2M", 1]);
});
