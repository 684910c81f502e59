import { expect, test } from "vitest";
import { EINVAL, ENOMEM } from "../base/errno.ts";
import { machine, of, part } from "../machine/test-kit.ts";
import { sysSwapoff } from "./swap.ts";

test("PHYS-118 swapoff brings every page back as a page of its own, old, dirty and write-protected", () => {
  const m = machine();
  m.swapon({ pages: 4096 });
  const range = m.mapHuge();
  m.fill(range);
  const before = m.contents(range);
  m.madvise(range, "PAGEOUT");

  expect(m.deltas(() => expect(m.swapoff()).toBe(0))).toMatchObject({
    nr_anon_pages: 512,
    pswpin: 512,
  });
  expect(m.states(range)).toBe("small*512");
  expect(m.contents(range)).toEqual(before);
  expect(m.smaps(range)).toMatchObject({ Swap: 0, Referenced: 0 });
  expect(m.flags(range)).toContain("DIRTY");
  // Still exclusive: the write finds that out with a fault.
  expect(m.write(range)).toBe("reuse 4k");
  expect(sysSwapoff(m.m, 0)).toBe(-EINVAL);
});

test("PHYS-118 pages in the swap cache are taken from there; sharers get the same page, to be copied at a write", () => {
  const m = machine();
  m.swapon({ pages: 4096 });
  const range = m.map({ pages: 4 });
  m.fill(range);
  m.madvise(range, "PAGEOUT");
  const childs = of(m.fork(), range);
  m.write(childs, 0);
  const seen = m.deltas(() => m.swapoff());
  expect(seen).toMatchObject({ nr_swapcached: -1, pswpin: 3 });
  expect(m.pfns(part(range, 1, 3))).toEqual(m.pfns(part(childs, 1, 3)));
  expect(m.write(range, 0)).toBe("reuse 4k");
  expect(m.write(range, 1)).toBe("copy-on-write 4k");
});

test("PHYS-118 swapoff without enough memory fails with ENOMEM, and the device goes on", () => {
  const m = machine();
  m.swapon({ pages: 4096 });
  const range = m.map({ pages: 64 });
  m.fill(range);
  const before = m.contents(range);
  m.madvise(range, "PAGEOUT");
  m.exhaustAll();
  expect(m.swapoff()).toBe(-ENOMEM);
  m.release();
  const other = m.map({ pages: 1 });
  m.write(other);
  m.madvise(other, "PAGEOUT");
  expect(m.states(other)).toBe("swap*1");
  expect(m.swapoff()).toBe(0);
  expect(m.contents(range)).toEqual(before);
});

test("swapoff empties the device it names only, and pages that become inaccessible stay so", () => {
  const m = machine();
  m.swapon({ pages: 600, priority: 2 });
  m.swapon({ pages: 600, priority: 1 });
  const range = m.map({ pages: 800 });
  m.fill(range);
  m.madvise(range, "PAGEOUT");
  m.mprotect(range, 0);
  expect(m.swapoff(1)).toBe(0);
  expect(m.states(range)).toBe("swap*599 small*201");
  expect(m.entry(part(range, 700, 1))).toContain("PROTNONE");
  expect(m.read(range, 700)).toBe("SIGSEGV");
});

test("swapoff in locked memory locks the pages it brings back", () => {
  const m = machine();
  m.swapon({ pages: 600 });
  const range = m.map({ pages: 2 });
  m.fill(range);
  m.madvise(range, "PAGEOUT");
  m.mlock(range, "onFault");
  expect(m.states(range)).toBe("swap*2");
  expect(m.deltas(() => m.swapoff())).toMatchObject({ nr_mlock: 2, nr_unevictable: 2 });
});
