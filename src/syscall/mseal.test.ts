import { expect, test } from "vitest";
import { PAGE_SIZE } from "../base/address.ts";
import { EINVAL, ENOMEM, EPERM } from "../base/errno.ts";
import { type Kit, machine, of, part, type Range } from "../machine/test-kit.ts";
import { MADV, sysMadvise } from "./madvise.ts";
import { MAP, PROT, sysMmap, sysMprotect, sysMremap } from "./mmap.ts";
import { sysMseal } from "./mseal.ts";

function seal(t: Kit, range: Range): number {
  return sysMseal(t.m, range.mm, range.start, range.nrPages * PAGE_SIZE);
}

test("ANON-275 a sealed mapping cannot be unmapped, moved, covered or given other rights; nothing is split", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  expect(seal(t, range)).toBe(0);
  const { mm, start } = range;
  const flags = MAP.PRIVATE | MAP.ANONYMOUS | MAP.FIXED;
  const changed = t.deltas(() => {
    expect(t.munmap(part(range, 0, 1))).toBe(-EPERM);
    expect(t.mprotect(part(range, 0, 1), PROT.READ)).toBe(-EPERM);
    expect(sysMmap(t.m, mm, { address: start, length: PAGE_SIZE, prot: 3, flags })).toBe(-EPERM);
    expect(sysMremap(t.m, mm, start, 2 ** 21, 2 ** 22, 1)).toBe(-EPERM);
    expect(sysMremap(t.m, mm, start, 2 ** 21, PAGE_SIZE, 0)).toBe(-EPERM);
  });
  expect(changed).toEqual({});
  expect(t.isHuge(range)).toBe(true);
  expect([t.mlock(range), t.munlock(range)]).toEqual([0, 0]);
  const child = of(t.fork(), range);
  expect(t.munmap(child)).toBe(-EPERM);
  t.exit(child.mm);
  t.exit(t.mm);
});

test("ANON-275 munmap of a range that holds a sealed part does nothing; mprotect goes as far as it", () => {
  const t = machine();
  const range = t.map({ pages: 8 });
  t.fill(range);
  seal(t, part(range, 4, 4));
  expect(t.munmap(range)).toBe(-EPERM);
  expect(t.smaps(range).Rss).toBe(32);
  expect(t.mprotect(range, PROT.READ)).toBe(-EPERM);
  expect([t.write(range), t.write(range, 4)]).toEqual(["SIGSEGV", "none"]);
});

const DISCARDS = [
  "DONTNEED",
  "FREE",
  "DONTFORK",
  "WIPEONFORK",
  "DONTNEED_LOCKED",
  "GUARD_INSTALL",
] as const;
const HARMLESS = ["HUGEPAGE", "NOHUGEPAGE", "MERGEABLE", "KEEPONFORK", "DOFORK"] as const;

test("ANON-275 advice that discards is refused only where the memory could not be written", () => {
  const t = machine();
  const writable = t.map({ pages: 4 });
  seal(t, writable);
  for (const advice of [...DISCARDS, ...HARMLESS])
    expect([advice, t.madvise(writable, advice)]).toEqual([advice, 0]);
  expect(t.madvise(writable, "REMOVE")).toBe(-EINVAL);

  const readOnly = t.map({ pages: 4, prot: PROT.READ });
  seal(t, readOnly);
  for (const advice of [...DISCARDS, "REMOVE"] as const)
    expect([advice, t.madvise(readOnly, advice)]).toEqual([advice, -EPERM]);
  for (const advice of [...HARMLESS, "GUARD_REMOVE"] as const)
    expect([advice, t.madvise(readOnly, advice)]).toEqual([advice, 0]);
});

test("ANON-275 mseal: whole pages, no flags, no hole", () => {
  const t = machine();
  const { start } = t.map({ pages: 4 });
  const call = (at: number, length: number, flags = 0) => sysMseal(t.m, t.mm, at, length, flags);
  expect(call(start + 1, PAGE_SIZE)).toBe(-EINVAL);
  expect(call(start, PAGE_SIZE, 1)).toBe(-EINVAL);
  expect(call(start, 0)).toBe(0);
  expect(call(start, 5 * PAGE_SIZE)).toBe(-ENOMEM);
  expect(sysMprotect(t.m, t.mm, start, PAGE_SIZE, PROT.READ)).toBe(0);
  expect(sysMadvise(t.m, t.mm, start, PAGE_SIZE, MADV.DONTNEED)).toBe(0);
});
