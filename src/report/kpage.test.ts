import { expect, test } from "vitest";
import type { Pfn } from "../base/address.ts";
import { EACCES, EINVAL } from "../base/errno.ts";
import { type Kit, machine, of, part, type Range } from "../machine/test-kit.ts";
import { PROT } from "../syscall/mmap.ts";
import { KPF, kpfNames, pageCgroupOf, pageCountOf, pageFlagsOf, readKpage } from "./kpage.ts";

function names(t: Kit, pfn: Pfn): string {
  return kpfNames(pageFlagsOf(t.m, pfn)).join(" ");
}

function framesOf(t: Kit, range: Range, ...pages: number[]): string[] {
  const pfns = t.pfns(range);
  return pages.map((page) => names(t, pfns[page]));
}

const FRESH_HEAD = "UPTODATE LRU MMAP ANON SWAPBACKED COMPOUND_HEAD THP OWNER_2";
const FRESH_TAIL = FRESH_HEAD.replace("HEAD", "TAIL");

test("PROC-050 one word per frame, aligned, root only, none behind the last frame", () => {
  const t = machine();
  const { nrFrames } = t.m.frames;
  expect(readKpage(t.m, "kpageflags", 4, 8)).toBe(-EINVAL);
  expect(readKpage(t.m, "kpagecount", 8, 4)).toBe(-EINVAL);
  expect(readKpage(t.m, "kpageflags", (nrFrames - 2) * 8, 64)).toHaveLength(2);
  expect(readKpage(t.m, "kpageflags", nrFrames * 8, 64)).toHaveLength(0);
  for (const file of ["kpageflags", "kpagecount", "kpagecgroup"] as const)
    expect(readKpage(t.m, file, 0, 8, "other")).toBe(-EACCES);
});

test("PROC-050 a read of a span gives each frame's own word", () => {
  const t = machine();
  const range = t.mapHuge();
  const [head] = t.pfns(range);
  const words = readKpage(t.m, "kpageflags", (head - 1) * 8, 16) as Float64Array;
  expect([...words]).toEqual([pageFlagsOf(t.m, head - 1), pageFlagsOf(t.m, head)]);
  expect([...(readKpage(t.m, "kpagecount", (head + 1) * 8, 16) as Float64Array)]).toEqual([1, 1]);
});

test("PROC-051 bit numbers", () => {
  const pairs = Object.entries(KPF).map(([name, bit]) => `${bit} ${name}`);
  expect(pairs.join(", ")).toBe(
    "0 LOCKED, 2 REFERENCED, 3 UPTODATE, 4 DIRTY, 5 LRU, 6 ACTIVE, 8 WRITEBACK, 10 BUDDY, 11 MMAP, 12 ANON, 13 SWAPCACHE, 14 SWAPBACKED, 15 COMPOUND_HEAD, 16 COMPOUND_TAIL, 18 UNEVICTABLE, 19 HWPOISON, 20 NOPAGE, 21 KSM, 22 THP, 24 ZERO_PAGE, 26 PGTABLE, 32 RESERVED, 33 MLOCKED, 34 OWNER_2, 37 OWNER_PRIVATE",
  );
});

test("PROC-051 holes, reserved frames and page tables", () => {
  const t = machine();
  const range = t.map({ pages: 1 });
  t.write(range);
  expect(names(t, t.m.frames.nrFrames)).toBe("NOPAGE");
  expect(names(t, 0)).toBe("RESERVED");
  expect(names(t, t.m.tables.pfn[t.mm.root])).toBe("PGTABLE");
});

test("PROC-052 ANON-306 a fresh huge page, and the same after a fork", () => {
  const t = machine();
  const range = t.mapHuge();
  expect(framesOf(t, range, 0, 1, 511)).toEqual([FRESH_HEAD, FRESH_TAIL, FRESH_TAIL]);
  t.fork();
  expect(framesOf(t, range, 0, 1)).toEqual([
    FRESH_HEAD.replace(" OWNER_2", ""),
    FRESH_TAIL.replace(" OWNER_2", ""),
  ]);
});

test("PROC-052 a split of the mapping moves dirtiness to the folio; a page without mappings loses MMAP", () => {
  const t = machine();
  const range = t.mapHuge();
  const pfns = t.pfns(range);
  t.mprotect(part(range, 9, 1), PROT.READ);
  const dirty = (text: string) => text.replace("UPTODATE", "UPTODATE DIRTY");
  expect(framesOf(t, range, 0, 1)).toEqual([dirty(FRESH_HEAD), dirty(FRESH_TAIL)]);
  t.madvise(part(range, 9, 1), "DONTNEED");
  expect(names(t, pfns[9])).toBe(dirty(FRESH_TAIL).replace("MMAP ", ""));
});

test("PROC-052 ANON-306 locking adds UNEVICTABLE and MLOCKED to every page", () => {
  const t = machine();
  const range = t.mapHuge();
  t.mlock(range);
  const locked = (text: string) =>
    text.replace(" THP", " UNEVICTABLE THP").replace("OWNER_2", "MLOCKED OWNER_2");
  expect(framesOf(t, range, 0, 300)).toEqual([locked(FRESH_HEAD), locked(FRESH_TAIL)]);
});

test("PROC-052 MADV_FREE clears SWAPBACKED and DIRTY", () => {
  const t = machine();
  const range = t.map({ pages: 2 });
  t.fill(range);
  t.madvise(part(range, 1, 1), "FREE");
  expect(framesOf(t, range, 0, 1)).toEqual([
    "UPTODATE LRU MMAP ANON SWAPBACKED OWNER_2",
    "UPTODATE LRU MMAP ANON OWNER_2",
  ]);
});

test("PROC-052 the zero pages: ZERO_PAGE, compound if huge, reserved if small, never mapped", () => {
  const t = machine({ enabled: "always" });
  const huge = t.map({ huge: 1 });
  t.read(huge);
  expect(framesOf(t, huge, 0, 1)).toEqual([
    "COMPOUND_HEAD THP ZERO_PAGE",
    "COMPOUND_TAIL THP ZERO_PAGE",
  ]);
  expect(names(t, t.m.zeroPfn)).toBe("ZERO_PAGE RESERVED");
});

test("PROC-053 THP is set for every large folio; BUDDY for every page of a free block", () => {
  const t = machine({ sizes: { "16kB": "always" } });
  const range = t.map({ pages: 4 });
  t.write(range);
  expect(framesOf(t, range, 0, 3)).toEqual([FRESH_HEAD, FRESH_TAIL]);
  const free = t.m.zones.reduce((sum, zone) => sum + zone.nrFree, 0);
  let nrBuddy = 0;
  for (let pfn = 0; pfn < t.m.frames.nrFrames; pfn++) if (names(t, pfn) === "BUDDY") nrBuddy++;
  expect(nrBuddy).toBe(free);
});

test("PROC-054 kpagecount is the page's own mappings, PMD mappings counted for each page", () => {
  const t = machine();
  const range = t.mapHuge();
  const pfns = t.pfns(range);
  const counts = () => [0, 5, 511].map((page) => pageCountOf(t.m, pfns[page]));
  expect(counts()).toEqual([1, 1, 1]);
  const child = t.fork();
  expect(counts()).toEqual([2, 2, 2]);
  t.madvise(part(of(child, range), 5, 1), "DONTNEED");
  expect(counts()).toEqual([2, 1, 2]);
  t.exit(child);
  expect(counts()).toEqual([1, 1, 1]);
  expect([pageCountOf(t.m, t.m.zeroPfn), pageCountOf(t.m, t.m.tables.pfn[t.mm.root])]).toEqual([
    0, 0,
  ]);
});

test("PROC-055 kpagecgroup names the memory cgroup that pays, on every page of the folio", () => {
  const t = machine();
  const memcg = t.memcg(2048);
  const range = t.map({ huge: 1, advice: "HUGEPAGE", mm: t.exec(memcg) });
  t.write(range);
  const pfns = t.pfns(range);
  expect([0, 7].map((page) => pageCgroupOf(t.m, pfns[page]))).toEqual([memcg, memcg]);
  expect(pageCgroupOf(t.m, t.m.zeroPfn)).toBe(0);
});

test("PROC-052 losing a dirty mapping does not make an anonymous folio dirty", () => {
  const t = machine();
  const huge = t.mapHuge();
  const small = t.map({ pages: 2 });
  t.fill(small);
  const child = t.fork();
  t.madvise(huge, "DONTNEED");
  t.madvise(part(small, 0, 1), "DONTNEED");
  expect(framesOf(t, of(child, huge), 0)).toEqual([FRESH_HEAD.replace(" OWNER_2", "")]);
  expect(framesOf(t, of(child, small), 0, 1)).toEqual([
    "UPTODATE LRU MMAP ANON SWAPBACKED",
    "UPTODATE LRU MMAP ANON SWAPBACKED",
  ]);
});

test("PROC-052 a page in the swap cache has SWAPCACHE and the bit it shares", () => {
  const t = machine();
  t.swapon({ pages: 1024 });
  const range = t.map({ pages: 1 });
  t.write(range);
  t.madvise(range, "PAGEOUT");
  t.fork();
  t.read(range);
  expect(framesOf(t, range, 0)).toEqual([
    expect.stringMatching(
      /^UPTODATE (DIRTY )?LRU MMAP ANON SWAPCACHE SWAPBACKED( OWNER_2)? OWNER_PRIVATE$/,
    ),
  ]);
});
