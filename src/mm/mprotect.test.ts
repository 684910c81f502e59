import { expect, test } from "vitest";
import { ENOMEM } from "../base/errno.ts";
import { machine, of, part } from "../machine/test-kit.ts";
import { PROT, sysMprotect } from "../syscall/mmap.ts";
import { VM } from "./vma.ts";

const READ_WRITE = PROT.READ | PROT.WRITE;

test("ANON-220 mprotect of a whole huge PMD changes it in place, to PROT_NONE and back too", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  t.fill(range);
  const [pfns, contents] = [t.pfns(range), t.contents(range)];
  const changed = t.deltas(() => {
    t.mprotect(range, PROT.READ);
    expect(t.entry(range)).toBe("YOUNG DIRTY HUGE");
    t.mprotect(range, PROT.NONE);
    expect(t.entry(range)).toBe("YOUNG DIRTY HUGE PROTNONE");
    t.mprotect(range, READ_WRITE);
    expect(t.entry(range)).toBe("WRITE YOUNG DIRTY HUGE"); // exclusive: writable at once
    expect(t.write(range)).toBe("none");
  });
  expect(changed).toEqual({});
  expect(t.pfns(range)).toEqual(pfns);
  expect(t.contents(part(range, 1, 511))).toEqual(contents.slice(1));
});

test("ANON-220 a page that is not exclusive stays read-only until the next write decides", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  const child = t.fork();
  t.mprotect(range, PROT.READ);
  t.mprotect(range, READ_WRITE);
  expect(t.entry(range)).toBe("YOUNG DIRTY HUGE");
  t.exit(child);
  expect(t.write(range)).toBe("reuse 2M");
});

test("ANON-221 ANON-047 mprotect of part splits the VMA and its PMD; undone, only the VMA merges", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  expect(t.thpDeltas(() => t.mprotect(part(range, 100, 10), PROT.READ))).toEqual({
    thp_split_pmd: 1,
    nr_anon_transparent_hugepages: -1,
  });
  expect(t.vmas(range)).toEqual(["0+100", "100+10", "110+402"]);
  t.mprotect(part(range, 100, 10), READ_WRITE);
  expect(t.vmas(range)).toEqual(["0+512"]);
  expect(t.isHuge(range)).toBe(false);
});

test("ANON-221 setting the protection in force does nothing at all", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  expect(t.deltas(() => t.mprotect(part(range, 100, 10), READ_WRITE))).toEqual({});
  expect([t.vmas(range), t.isHuge(range)]).toEqual([["0+512"], true]);
});

test("ANON-221 ANON-047 a range straddling two huge pages splits both, an aligned one none", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge(3);
  expect(t.thpDeltas(() => t.mprotect(part(range, 512, 512), PROT.READ))).toEqual({});
  const straddling = part(range, 500, 1000);
  expect(t.thpDeltas(() => t.mprotect(straddling, PROT.NONE))).toEqual({
    thp_split_pmd: 2,
    nr_anon_transparent_hugepages: -2,
  });
  expect(t.isHuge(part(range, 512, 512))).toBe(true);
});

test("access is checked at every touch after mprotect", () => {
  const t = machine({ enabled: "never" });
  const range = t.map({ pages: 4 });
  t.fill(range);
  const contents = t.contents(range);
  t.mprotect(part(range, 1, 1), PROT.READ);
  t.mprotect(part(range, 2, 1), PROT.NONE);
  expect([0, 1, 2, 3].map((page) => t.read(range, page))).toEqual([
    "none",
    "none",
    "SIGSEGV",
    "none",
  ]);
  expect([1, 2].map((page) => t.write(range, page))).toEqual(["SIGSEGV", "SIGSEGV"]);
  t.mprotect(range, READ_WRITE);
  expect(t.contents(range)).toEqual(contents);
});

test("what lies before a hole is changed, then ENOMEM", () => {
  const t = machine();
  const range = t.map({ pages: 8 });
  t.munmap(part(range, 4, 1));
  expect(t.mprotect(range, PROT.READ)).toBe(-ENOMEM);
  expect(t.vma(range).flags & VM.WRITE).toBe(0);
  expect(t.vma(part(range, 5, 1)).flags & VM.WRITE).not.toBe(0);
  expect(sysMprotect(t.m, t.mm, range.start + 1, 4096, PROT.READ)).toBe(-22);
  expect(sysMprotect(t.m, t.mm, range.start, 0, PROT.READ)).toBe(0);
});

// As VmFlags "ac" showed on a live 6.18 for the same calls.
test("PROC-022 private memory is accounted once writable, not while it never had a page and is not", () => {
  const t = machine();
  const isAccounted = (range: Parameters<typeof t.vma>[0]) =>
    (t.vma(range).flags & VM.ACCOUNT) !== 0;
  const reserved = t.map({ pages: 4, prot: PROT.NONE });
  expect(isAccounted(reserved)).toBe(false);
  t.mprotect(reserved, READ_WRITE);
  expect(isAccounted(reserved)).toBe(true);
  t.mprotect(reserved, PROT.READ);
  expect(isAccounted(reserved)).toBe(false);
  t.mprotect(reserved, READ_WRITE);
  t.write(reserved);
  t.mprotect(reserved, PROT.NONE);
  expect(isAccounted(reserved)).toBe(true);
});

test("SHM-057 shared memory is mapped writable by a read, and stays so through mprotect", () => {
  const t = machine();
  const range = t.map({ pages: 2, shared: true });
  expect([t.read(range), t.write(range)]).toEqual(["shmem", "none"]);
  t.mprotect(range, PROT.READ);
  expect(t.write(range)).toBe("SIGSEGV");
  t.mprotect(range, READ_WRITE);
  expect(t.write(range)).toBe("none");
  const child = of(t.fork(), range);
  expect([t.read(child), t.contents(child)[0]]).toEqual(["shmem", t.contents(range)[0]]);
});
