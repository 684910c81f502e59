import { expect, test } from "vitest";
import { digestOf } from "../machine/digest.ts";
import { restore, snapshot } from "../machine/snapshot.ts";
import { type Kit, machine, of, part, type Range } from "../machine/test-kit.ts";
import { PROT } from "../syscall/mmap.ts";

function swappedHuge(m: Kit): Range {
  m.swapon({ pages: 4096 });
  const range = m.mapHuge();
  m.fill(range);
  m.madvise(range, "PAGEOUT");
  return range;
}

test("ANON-223 mremap moves swap entries: the table as a unit, or entry by entry", () => {
  const m = machine();
  const range = swappedHuge(m);
  const entries = m.swapEntries(range);
  const aligned = m.mremap(range, 512, { at: range.start + 2 ** 29 });
  expect(m.swapEntries(aligned)).toEqual(entries);
  const odd = m.mremap(aligned, 512, { at: aligned.start + 2 ** 28 + 4096 });
  expect(m.swapEntries(odd)).toEqual(entries);
  expect(m.mm.nrSwapEntries).toBe(512);
  m.read(odd, 511);
  expect(m.states(odd)).toBe("swap*511 small*1");
});

test("mprotect leaves swap entries and their exclusive mark; the page comes back with the VMA's rights", () => {
  const m = machine();
  const range = swappedHuge(m);
  m.mprotect(range, PROT.READ);
  expect(m.read(range)).toBe("major swap-in");
  expect(m.entry(range)).toBe("YOUNG");
  m.mprotect(range, PROT.READ | PROT.WRITE);
  expect(m.write(range)).toBe("none");
  expect(m.write(range, 1)).toBe("major swap-in");
});

test("PHYS-116 fork shares slots and takes the exclusive mark from both sides", () => {
  const m = machine();
  const range = swappedHuge(m);
  expect(m.entry(range)).toBe("SWAP EXCLUSIVE");
  const child = m.fork();
  expect(child.nrSwapEntries).toBe(512);
  expect([m.entry(range), m.entry(of(child, range))]).toEqual(["SWAP", "SWAP"]);
  expect(m.m.swap.devices[0]!.nrUsed).toBe(512);
  m.exit(m.mm);
  expect(m.m.swap.devices[0]!.nrUsed).toBe(512);
  m.exit(child);
  expect(m.m.swap.devices[0]!.nrUsed).toBe(0);
});

test("ANON-193 unmapping a folio to swap does not queue it as partially mapped", () => {
  const m = machine();
  m.swapon({ pages: 4096 });
  const range = m.mapHuge();
  m.fill(range);
  const seen = m.deltas(() => m.madvise(range, "PAGEOUT"));
  expect(seen).not.toHaveProperty("thp_deferred_split_page");
  expect(m.m.deferredLength.reduce((sum, nr) => sum + nr, 0)).toBe(0);
});

test("RSS falls and its peak stays when memory is swapped out", () => {
  const m = machine();
  m.swapon({ pages: 4096 });
  const range = m.mapHuge();
  m.madvise(range, "PAGEOUT");
  expect([m.mm.rssAnon, m.mm.hiwaterRss]).toEqual([0, 512]);
});

test("a snapshot holds swap space: restored, the machine is the same, and pages come back from it", () => {
  const m = machine();
  const range = swappedHuge(m);
  m.madvise(part(range, 0, 4), "WILLNEED");
  const before = digestOf(m.m);
  const saved = snapshot(m.m);
  m.swapoff();
  expect(digestOf(m.m)).not.toBe(before);
  restore(m.m, saved);
  expect(digestOf(m.m)).toBe(before);
});

test("the invariant walk finds a slot whose count is wrong, and a page the swap cache lost", () => {
  const m = machine();
  const range = swappedHuge(m);
  const device = m.m.swap.devices[0]!;
  const slot = m.swapEntries(range)[3];
  device.count[slot]++;
  expect(() => m.check()).toThrow("count: kept 2, really 1");
  device.count[slot]--;
  m.madvise(part(range, 0, 1), "WILLNEED");
  const cached = device.cached[m.swapEntries(range)[0]];
  device.cached[m.swapEntries(range)[0]] = 0;
  expect(() => m.check()).toThrow(`frame ${cached} is in the swap cache without a slot`);
});
