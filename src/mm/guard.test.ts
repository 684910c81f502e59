import { expect, test } from "vitest";
import { EFAULT, EINVAL, ENOMEM } from "../base/errno.ts";
import { machine, of, part } from "../machine/test-kit.ts";
import { PROT } from "../syscall/mmap.ts";
import { VM } from "./vma.ts";

test("ANON-274 a guard page in a huge page: PMD split, page gone, the folio partially mapped", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  const guard = part(range, 1, 1);
  const changed = t.deltas(() => expect(t.madvise(guard, "GUARD_INSTALL")).toBe(0));
  expect(changed).toEqual({
    thp_split_pmd: 1,
    thp_deferred_split_page: 1,
    nr_anon_transparent_hugepages: -1,
    nr_anon_pages: -1,
    "2048kB/split_deferred": 1,
    "2048kB/nr_anon_partially_mapped": 1,
  });
  expect([t.read(guard), t.write(guard), t.read(range, 2)]).toEqual(["SIGSEGV", "SIGSEGV", "none"]);
  expect([t.entry(guard), t.smaps(range).Rss]).toEqual(["MARKER", 511 * 4]);
  expect(t.vma(range).flags & VM.MAYBE_GUARD).not.toBe(0);
  expect(t.deltas(() => t.madvise(guard, "GUARD_INSTALL"))).toEqual({});
});

test("ANON-274 over a whole huge page nothing is split, the page is just gone", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  expect(t.thpDeltas(() => t.madvise(range, "GUARD_INSTALL"))).toEqual({
    nr_anon_transparent_hugepages: -1,
    "2048kB/nr_anon": -1,
  });
  expect(t.read(range, 511)).toBe("SIGSEGV");
});

test("ANON-274 guards survive what drops contents or changes rights", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  const guard = part(range, 1, 1);
  t.madvise(guard, "GUARD_INSTALL");
  for (const advice of ["DONTNEED", "DONTNEED_LOCKED", "FREE"] as const)
    expect(t.madvise(range, advice)).toBe(0);
  t.mprotect(part(range, 0, 2), PROT.NONE);
  t.mprotect(part(range, 0, 2), PROT.READ | PROT.WRITE);
  expect(t.read(guard)).toBe("SIGSEGV");
  expect(t.madvise(range, "POPULATE_WRITE")).toBe(-EFAULT);
  expect(t.mlock(range)).toBe(-ENOMEM);
  const child = of(t.fork(), range);
  expect(t.read(child, 1)).toBe("SIGSEGV");
  const moved = t.mremap(range, 512, { at: 2 ** 44 });
  expect([t.read(moved, 1), t.read(moved, 2)]).toEqual(["SIGSEGV", "zero 4k"]);
});

test("ANON-274 even guards that were never next to a page go to a child, but not with WIPEONFORK", () => {
  const t = machine();
  const range = t.map({ pages: 4 });
  t.madvise(part(range, 0, 1), "GUARD_INSTALL");
  expect(t.read(of(t.fork(), range))).toBe("SIGSEGV");
  const wiped = t.map({ pages: 4 });
  t.madvise(wiped, "WIPEONFORK");
  t.madvise(part(wiped, 0, 1), "GUARD_INSTALL");
  expect(t.read(of(t.fork(), wiped))).toBe("zero 4k");
});

test("ANON-274 removing guards keeps everything else; munmap and a new mapping end them too", () => {
  const t = machine();
  const range = t.map({ pages: 8 });
  t.fill(range);
  t.madvise(part(range, 1, 2), "GUARD_INSTALL");
  expect(t.deltas(() => expect(t.madvise(range, "GUARD_REMOVE")).toBe(0))).toEqual({});
  expect([t.smaps(range).Rss, t.read(range, 1), t.read(range, 3)]).toEqual([24, "zero 4k", "none"]);
  expect(t.vma(range).flags & VM.MAYBE_GUARD).not.toBe(0);
  t.madvise(range, "GUARD_INSTALL");
  t.munmap(range);
  expect(t.write(t.map({ pages: 8, at: range.start }))).toBe("anon 4k");
});

test("ANON-274 a region that had guards keeps its table until one MADV_DONTNEED covers it", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  t.madvise(range, "GUARD_INSTALL");
  t.madvise(range, "DONTNEED");
  t.madvise(range, "GUARD_REMOVE");
  expect(t.write(range)).toBe("anon 4k");
  t.madvise(range, "DONTNEED");
  expect(t.write(range)).toBe("anon 2M");
});

test("ANON-274 in a huge zero page the split leaves zero pages around the guard", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  t.read(range);
  expect(t.thpDeltas(() => t.madvise(part(range, 1, 2), "GUARD_INSTALL"))).toEqual({
    thp_split_pmd: 1,
  });
  expect([0, 1, 2, 3].map((page) => t.read(range, page))).toEqual([
    "none",
    "SIGSEGV",
    "SIGSEGV",
    "none",
  ]);
});

test("ANON-274 a guard beside an empty block rules out the folio size that would cover it", () => {
  const t = machine({ sizes: { "64kB": "always", "16kB": "always" } });
  const range = t.map({ pages: 16 });
  t.madvise(part(range, 15, 1), "GUARD_INSTALL");
  expect(t.write(range)).toBe("anon mTHP 16kB");
});

test("ANON-274 any rights and shared memory will do, locked memory will not; holes are passed over", () => {
  const t = machine();
  for (const options of [{ prot: PROT.READ }, { prot: PROT.NONE }, { shared: true }]) {
    const range = t.map({ pages: 2, ...options });
    expect(t.madvise(range, "GUARD_INSTALL")).toBe(0);
    expect(t.read(range)).toBe("SIGSEGV");
  }
  const locked = t.map({ pages: 2 });
  t.mlock(locked);
  expect([t.madvise(locked, "GUARD_INSTALL"), t.madvise(locked, "GUARD_REMOVE")]).toEqual([
    -EINVAL,
    0,
  ]);
  const holed = t.map({ pages: 3 });
  t.munmap(part(holed, 1, 1));
  expect(t.madvise(holed, "GUARD_INSTALL")).toBe(-ENOMEM);
  expect([t.read(holed), t.read(holed, 2)]).toEqual(["SIGSEGV", "SIGSEGV"]);
});

test("ANON-274 a VMA that may hold guards merges with one that holds none, and both then may", () => {
  const t = machine();
  const low = t.map({ pages: 2 });
  t.madvise(part(low, 0, 1), "GUARD_INSTALL");
  const both = { ...low, nrPages: 4 };
  t.map({ pages: 2, at: low.start + 8192 });
  expect(t.vmas(both)).toEqual(["0+4"]);
  expect(t.vma(part(both, 3, 1)).flags & VM.MAYBE_GUARD).not.toBe(0);
});
