import { expect, test } from "vitest";
import { PAGE_SIZE } from "../base/address.ts";
import { EINVAL, ENOMEM } from "../base/errno.ts";
import { type Kit, machine, part, type Range } from "../machine/test-kit.ts";
import { sysMincore } from "./mincore.ts";
import { PROT } from "./mmap.ts";

/** The bytes, 9 where mincore wrote none. */
function mincore(t: Kit, range: Range): number[] {
  const bytes = new Uint8Array(range.nrPages).fill(9);
  sysMincore(t.m, range.mm, range.start, range.nrPages * PAGE_SIZE, bytes);
  return [...bytes];
}

test("ANON-239 huge pages and huge zero pages are resident throughout, and stay huge", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 3 });
  t.write(range);
  t.read(range, 512);
  let seen: number[] = [];
  expect(
    t.deltas(() => {
      seen = mincore(t, range);
    }),
  ).toEqual({});
  expect(seen).toEqual([...new Array(1024).fill(1), ...new Array(512).fill(0)]);
  t.mprotect(part(range, 0, 512), PROT.NONE);
  expect(mincore(t, part(range, 0, 512))).toEqual(new Array(512).fill(1));
});

test("ANON-239 single pages: touched ones and zero pages are resident, holes and guards are not", () => {
  const t = machine();
  const range = t.map({ pages: 6 });
  t.write(range, 1);
  t.read(range, 2);
  t.write(range, 4);
  t.madvise(part(range, 4, 1), "GUARD_INSTALL");
  expect(mincore(t, range)).toEqual([0, 1, 1, 0, 0, 0]);
});

test("ANON-239 a page of shared memory is resident while it is cached, mapped or not", () => {
  const t = machine();
  const range = t.map({ pages: 2, shared: true });
  t.write(range);
  t.madvise(range, "DONTNEED");
  expect(mincore(t, range)).toEqual([1, 0]);
});

test("ANON-239 memory that is not mapped is ENOMEM, after the bytes of what lies before it", () => {
  const t = machine();
  const range = t.map({ pages: 3 });
  t.fill(range);
  t.munmap(part(range, 1, 1));
  expect(mincore(t, range)).toEqual([1, 9, 9]);
  const bytes = new Uint8Array(4);
  const call = (at: number, length: number) => sysMincore(t.m, t.mm, at, length, bytes);
  expect(call(range.start, 8192)).toBe(-ENOMEM);
  expect(call(range.start + 1, 4096)).toBe(-EINVAL);
  expect(call(range.start, 1)).toBe(0);
  expect(call(2 ** 47, 4096)).toBe(-ENOMEM);
  expect(call(range.start, 2 ** 60)).toBe(-ENOMEM);
});

test("ANON-239 a swapped page is not resident, unless it is in the swap cache", () => {
  const t = machine();
  t.swapon({ pages: 1024 });
  const range = t.map({ pages: 4 });
  t.fill(range);
  t.madvise(range, "PAGEOUT");
  expect(mincore(t, range)).toEqual([0, 0, 0, 0]);
  t.madvise(part(range, 1, 2), "WILLNEED");
  expect(mincore(t, range)).toEqual([0, 1, 1, 0]);
});
