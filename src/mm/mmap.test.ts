import { expect, test } from "vitest";
import { type Addr, HUGE_SIZE, PAGE_SIZE } from "../base/address.ts";
import { EEXIST, EINVAL, ENOMEM } from "../base/errno.ts";
import { type Kit, machine, part } from "../machine/test-kit.ts";
import { MAP, sysBrk, sysMmap, sysMunmap } from "../syscall/mmap.ts";
import { findFreeRange } from "./address-choice.ts";

const MIB = 2 ** 20;

/** mmap of private anonymous memory. */
function mmap(t: Kit, length: number, address: Addr = 0, flags = 0): Addr {
  const all = MAP.PRIVATE | MAP.ANONYMOUS | flags;
  const start = sysMmap(t.m, t.mm, { address, length, prot: 3, flags: all });
  t.check();
  return start;
}

test("ANON-120 lengths that are multiples of 2 MiB are placed on a 2 MiB boundary", () => {
  const t = machine();
  for (const length of [2, 4, 6, 32].map((n) => n * MIB)) {
    mmap(t, 4096); // something odd in between
    expect(mmap(t, length) % HUGE_SIZE).toBe(0);
  }
});

test("ANON-120 other lengths are packed directly below the mapping before", () => {
  const t = machine();
  let below = mmap(t, 3 * PAGE_SIZE);
  for (const length of [2 * MIB + PAGE_SIZE, 4 * MIB + PAGE_SIZE, MIB, PAGE_SIZE]) {
    const start = mmap(t, length);
    expect(start + length).toBe(below);
    below = start;
  }
});

test("ANON-121 consecutive aligned requests are adjacent without gaps", () => {
  const t = machine();
  const starts = [2, 4, 2, 6].map((n) => [mmap(t, n * MIB), n * MIB] as const);
  for (let i = 1; i < starts.length; i++)
    expect(starts[i][0] + starts[i][1]).toBe(starts[i - 1][0]);
});

test("ANON-121 where only an unaligned hole fits the length, it is used unaligned", () => {
  const t = machine();
  const top = t.mm.mmapBase;
  const holeEnd = top - 5 * PAGE_SIZE;
  const flags = MAP.FIXED;
  // Everything is mapped but one hole of exactly 2 MiB.
  mmap(t, top - holeEnd, holeEnd, flags);
  mmap(t, holeEnd - 2 * MIB - 64 * 1024, 64 * 1024, flags);
  expect(findFreeRange(t.mm, 2 * MIB, true)).toBe(holeEnd - 2 * MIB);
});

test("ANON-122 a hint that is free is taken exactly, page-rounded", () => {
  const t = machine();
  const hint = 2 ** 40 + 5 * PAGE_SIZE;
  expect(mmap(t, 2 * MIB, hint)).toBe(hint);
  expect(mmap(t, 2 * MIB, hint + 8 * MIB + 123)).toBe(hint + 8 * MIB);
});

test("ANON-122 a hint that is taken gives plain placement without alignment", () => {
  const t = machine();
  const below = mmap(t, 3 * PAGE_SIZE);
  const taken = t.map({ pages: 1 });
  const start = mmap(t, 2 * MIB, taken.start);
  expect(start).toBe(below - 2 * MIB);
});

test("ANON-122 MAP_STACK and shared anonymous mappings are aligned as well", () => {
  const t = machine();
  mmap(t, PAGE_SIZE);
  expect(mmap(t, 2 * MIB, 0, MAP.STACK) % HUGE_SIZE).toBe(0);
  mmap(t, PAGE_SIZE);
  const flags = MAP.SHARED | MAP.ANONYMOUS;
  const shared = sysMmap(t.m, t.mm, { address: 0, length: 2 * MIB, prot: 3, flags });
  expect(shared % HUGE_SIZE).toBe(0);
});

test("ANON-123 MAP_FIXED is never adjusted, and replaces what is there", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge(2);
  const at = range.start + 100 * PAGE_SIZE;
  expect(mmap(t, 2 * MIB, at, MAP.FIXED)).toBe(at);
  expect(t.contents(part(range, 100, 1))).toEqual([-1]);
  expect(t.pfns(part(range, 612, 1))[0]).toBeGreaterThan(0);
  expect(t.vma(part(range, 100, 1)).start).toBe(at);
});

test("MAP_FIXED_NOREPLACE refuses a range that is partly taken", () => {
  const t = machine();
  const range = t.map({ pages: 4 });
  const flags = MAP.FIXED_NOREPLACE;
  expect(mmap(t, 2 * PAGE_SIZE, range.start + 3 * PAGE_SIZE, flags)).toBe(-EEXIST);
  expect(mmap(t, PAGE_SIZE, range.start + 4 * PAGE_SIZE, flags)).toBe(range.start + 4 * PAGE_SIZE);
});

test("argument errors of mmap and munmap", () => {
  const t = machine();
  const call = (length: number, flags: number, address = 0) =>
    sysMmap(t.m, t.mm, { address, length, prot: 3, flags });
  expect(call(0, MAP.PRIVATE | MAP.ANONYMOUS)).toBe(-EINVAL);
  expect(call(4096, MAP.ANONYMOUS)).toBe(-EINVAL);
  expect(call(4096, MAP.PRIVATE | MAP.ANONYMOUS | MAP.FIXED, 5)).toBe(-EINVAL);
  expect(call(2 ** 48, MAP.PRIVATE | MAP.ANONYMOUS)).toBe(-ENOMEM);
  expect(sysMunmap(t.m, t.mm, 5, 4096)).toBe(-EINVAL);
  expect(sysMunmap(t.m, t.mm, 4096, 0)).toBe(-EINVAL);
  expect(sysMunmap(t.m, t.mm, 2 ** 40, 4096)).toBe(0);
});

test("equal neighbours become one VMA, whichever is mapped first", () => {
  const t = machine();
  const range = t.map({ pages: 12 });
  t.munmap(part(range, 4, 4));
  t.map({ pages: 4, at: range.start + 4 * PAGE_SIZE });
  expect(t.vmas(range)).toEqual(["0+12"]);
});

test("munmap over several VMAs and holes removes exactly its range", () => {
  const t = machine({ enabled: "never" });
  const range = t.map({ pages: 30 });
  t.munmap(part(range, 10, 3));
  t.madvise(part(range, 15, 5), "NOHUGEPAGE");
  t.fill(part(range, 0, 10));
  const contents = t.contents(range);
  t.munmap(part(range, 5, 20));
  expect(t.vmas(range)).toEqual(["0+5", "25+5"]);
  expect(t.contents(part(range, 0, 5))).toEqual(contents.slice(0, 5));
});

test("brk grows and shrinks the heap by bytes and keeps what stays", () => {
  const t = machine({ enabled: "never" });
  const start = t.mm.brk;
  expect(sysBrk(t.m, t.mm, start + 10 * PAGE_SIZE + 1)).toBe(start + 10 * PAGE_SIZE + 1);
  const heap = { mm: t.mm, start, nrPages: 11 };
  t.fill(heap);
  const contents = t.contents(heap);
  sysBrk(t.m, t.mm, start + 4 * PAGE_SIZE);
  t.check();
  expect(t.contents(heap)).toEqual([...contents.slice(0, 4), ...new Array(7).fill(-1)]);
  expect(sysBrk(t.m, t.mm, start - 1)).toBe(start + 4 * PAGE_SIZE);
  t.map({ pages: 1, at: start + 6 * PAGE_SIZE });
  expect(sysBrk(t.m, t.mm, start + 8 * PAGE_SIZE)).toBe(start + 4 * PAGE_SIZE);
});

test("ANON-024 a heap is anonymous memory like any other", () => {
  const t = machine({ enabled: "always" });
  sysBrk(t.m, t.mm, t.mm.brk + 8 * MIB);
  const at = Math.ceil(t.mm.brkStart / HUGE_SIZE) * HUGE_SIZE;
  expect(t.write({ mm: t.mm, start: at, nrPages: 512 })).toBe("anon 2M");
});
