import { expect, test } from "vitest";
import { NaiveTlb } from "../machine/naive-tlb.ts";
import { type Kit, machine, of, part, type Range } from "../machine/test-kit.ts";
import { PROT } from "../syscall/mmap.ts";

const FAR = 2 ** 44;

/** Whatever takes away or lessens a translation of a huge page, or of its pieces. */
const LESSENING: readonly [string, (t: Kit, range: Range) => unknown][] = [
  ["munmap of all", (t, r) => t.munmap(r)],
  ["munmap of part", (t, r) => t.munmap(part(r, 10, 20))],
  ["MADV_DONTNEED", (t, r) => t.madvise(r, "DONTNEED")],
  ["MADV_FREE, which needs the dirty bit set anew", (t, r) => t.madvise(r, "FREE")],
  ["MADV_FREE of part", (t, r) => t.madvise(part(r, 10, 20), "FREE")],
  ["mprotect of all", (t, r) => t.mprotect(r, PROT.READ)],
  ["mprotect of part", (t, r) => t.mprotect(part(r, 10, 20), PROT.NONE)],
  ["an aligned mremap", (t, r) => t.mremap(r, 512, { at: FAR })],
  ["an unaligned mremap", (t, r) => t.mremap(part(r, 5, 9), 9, { at: FAR })],
  ["a VMA edge", (t, r) => t.madvise(part(r, 10, 20), "SEQUENTIAL")],
  ["fork", (t) => t.fork()],
  ["a split with zero-filled pages", (t) => t.dropSlab(0)],
];

for (const [what, act] of LESSENING) {
  test(`ANON-290 ANON-173 ${what} is announced before it happens`, () => {
    for (const isSplit of [false, true]) {
      const t = machine({ enabled: "always" });
      const range = t.map({ huge: 1 });
      t.fill(part(range, 0, 500)); // the last twelve pages are zero
      if (isSplit) t.madvise(part(range, 511, 1), "DONTNEED");
      const [told, untold] = [new NaiveTlb(), new NaiveTlb()];
      const firstPage = range.start / 4096;
      for (let page = 0; page < 511; page++)
        for (const tlb of [told, untold]) tlb.remember(t.m, t.mm, firstPage + page);
      t.m.mmuNotifier = told;
      act(t, range);
      expect(told.stale(t.m)).toBeNull();
      // Whoever is not told keeps something wrong, unless the step had nothing left to do.
      const isIdle = isSplit && what === "a VMA edge";
      expect(untold.stale(t.m) === null).toBe(isIdle);
    }
  });
}

test("ANON-290 copy-on-write announces the page, at a PMD split the whole 2 MiB", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  t.fill(range);
  const child = of(t.fork(), range);
  const announced: [number, number, number][] = [];
  t.m.mmuNotifier = {
    invalidateRange: (mmId, start, end) => announced.push([mmId, start, end]),
    release: () => {},
  };
  const first = range.start / 4096;
  t.write(child, 7);
  expect(announced).toEqual([
    [child.mm.id, first, first + 512],
    [child.mm.id, first + 7, first + 8],
  ]);
});

test("ANON-290 the end of an address space is announced", () => {
  const t = machine();
  const released: number[] = [];
  t.m.mmuNotifier = { invalidateRange: () => {}, release: (mmId) => released.push(mmId) };
  const { id } = t.mm;
  t.exit(t.mm);
  expect(released).toEqual([id]);
});
