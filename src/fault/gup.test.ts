import { expect, test } from "vitest";
import { HUGE_SIZE, PAGE_SIZE, type Pfn, pteIndexOf, regionOf } from "../base/address.ts";
import { EAGAIN, EFAULT } from "../base/errno.ts";
import { copyToUser } from "../machine/access.ts";
import { type Kit, machine, of, part, type Range } from "../machine/test-kit.ts";
import { headOf, PG } from "../phys/frame-table.ts";
import { MAP, PROT } from "../syscall/mmap.ts";
import {
  dropPin,
  GUP_READ,
  GUP_WRITE,
  type GupHow,
  getUserPage,
  getUserPageFast,
  pinUserPages,
} from "./gup.ts";

const FORCED_WRITE: GupHow = { access: "write", rights: "forced" };

function gup(t: Kit, range: Range, how: GupHow): number {
  const result = getUserPage(t.m, range.mm, regionOf(range.start), pteIndexOf(range.start), how);
  t.check();
  return result;
}

/** Pins the range and lets go of it again; the frames. */
function pinned(t: Kit, range: Range, access: "read" | "write"): Pfn[] {
  const pfns = pinUserPages(t.m, range.mm, range.start, range.nrPages, access);
  if (typeof pfns === "number") throw new Error(`pin gave ${pfns}`);
  for (const pfn of pfns) dropPin(t.m, pfn);
  t.check();
  return pfns;
}

test("ANON-069 ANON-071 reaching in for reading is a read fault, for writing a write fault", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 2 });
  gup(t, range, GUP_READ);
  expect(t.entry(range)).toBe("YOUNG HUGE SPECIAL");
  gup(t, part(range, 512, 1), GUP_WRITE);
  expect(t.entry(part(range, 512, 1))).toBe("WRITE YOUNG DIRTY HUGE");
});

test("ANON-088 a write pin or a forced write on a huge zero page makes a real one", () => {
  for (const reach of [
    (t: Kit, range: Range) => pinned(t, range, "write")[0],
    (t: Kit, range: Range) => gup(t, range, GUP_WRITE),
    (t: Kit, range: Range) => gup(t, range, FORCED_WRITE),
  ]) {
    const t = machine({ enabled: "always" });
    const range = t.map({ huge: 1 });
    t.read(range);
    const changed = t.thpDeltas(() => reach(t, part(range, 7, 1)));
    expect(changed).toMatchObject({ thp_fault_alloc: 1, nr_anon_transparent_hugepages: 1 });
    expect(changed.thp_split_pmd).toBeUndefined();
  }
});

test("ANON-255 reading and writing through the kernel splits nothing", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  const changed = t.deltas(() => {
    gup(t, part(range, 5, 1), GUP_READ);
    gup(t, part(range, 6, 1), GUP_WRITE);
    expect(copyToUser(t.m, t.mm, range.start + 100, HUGE_SIZE - 100, 9)).toBe(0);
  });
  expect([changed, t.isHuge(range)]).toEqual([{}, true]);
});

test("ANON-255 ANON-166 a forced write to a read-only huge page of our own changes it in place", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  t.mprotect(range, PROT.READ);
  const [head] = t.pfns(range);
  expect(gup(t, range, GUP_WRITE)).toBe(-EFAULT);
  expect(t.deltas(() => expect(gup(t, range, FORCED_WRITE)).toBe(head))).toEqual({});
  expect(t.entry(range)).toBe("YOUNG DIRTY HUGE");
  expect(t.write(range)).toBe("SIGSEGV");
});

test("ANON-166 a forced write to what others share copies the page, read-only", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  t.mprotect(range, PROT.READ);
  const child = of(t.fork(), range);
  const [shared] = t.pfns(range);
  expect(gup(t, child, FORCED_WRITE)).not.toBe(shared);
  expect([t.entry(child), t.pfns(child)[1]]).toEqual(["YOUNG DIRTY", shared + 1]);
  expect([t.pfns(range)[0], t.isHuge(range)]).toEqual([shared, true]);
});

test("ANON-166 where nothing is mapped yet a forced write makes a read-only page, also over zeroes", () => {
  const t = machine();
  const range = t.map({ pages: 2, prot: PROT.READ });
  t.read(range, 1);
  for (const page of [0, 1]) {
    expect(gup(t, part(range, page, 1), FORCED_WRITE)).toBeGreaterThan(0);
    expect(t.entry(part(range, page, 1))).toBe("YOUNG DIRTY");
  }
  const shared = t.map({ pages: 1, shared: true, prot: PROT.READ });
  expect(gup(t, shared, FORCED_WRITE)).toBe(-EFAULT);
});

test("ANON-167 a read pin of a shared huge page splits the PMD and copies; the entry stays read-only", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  const child = of(t.fork(), range);
  const [shared] = t.pfns(range);
  const at = part(child, 3, 1);
  let pfns: Pfn[] = [];
  const changed = t.thpDeltas(() => {
    pfns = pinned(t, at, "read");
  });
  expect(changed).toEqual({ thp_split_pmd: 1 });
  expect([pfns[0] === shared + 3, t.entry(at)]).toEqual([false, "YOUNG"]);
  // The page is the child's alone: its next write goes to what the device sees.
  expect([t.write(at), t.pfns(at)[0]]).toEqual(["reuse 4k", pfns[0]]);
});

test("ANON-167 the last user of a huge page takes it over for a read pin, without a copy or a right more", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  t.exit(t.fork());
  const entry = t.entry(range);
  expect(entry).not.toContain("WRITE");
  expect(t.deltas(() => pinned(t, part(range, 3, 1), "read"))).toEqual({});
  expect([t.entry(range), t.isHuge(range)]).toEqual([entry, true]);
  const child = of(t.fork(), range);
  expect(t.write(child)).toBe("copy-on-write 4k");
});

test("a read pin of zeroes shares the zero page and holds nothing", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  const [pfn] = pinned(t, range, "read");
  expect(t.m.frames.flags[headOf(t.m.frames, pfn)] & PG.ZERO).not.toBe(0);
});

test("ANON-251 a pin that meets a hole holds nothing", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ pages: 4 });
  t.munmap(part(range, 2, 1));
  expect(pinUserPages(t.m, t.mm, range.start, 4, "write")).toBe(-EFAULT);
  t.check();
  expect(t.smaps(part(range, 0, 2)).Rss).toBe(8);
});

test("ANON-257 the fast way marks the folio as referenced; in 2011 it made the entry young", () => {
  for (const [profile, entry] of [
    ["linux-6.18", "WRITE HUGE"],
    ["linux-6.12", "WRITE HUGE"],
    ["seed-2011", "WRITE YOUNG HUGE"],
  ] as const) {
    const t = machine({ enabled: "always", profile });
    const range = t.mapHuge();
    t.madvise(range, "FREE"); // old and clean
    const [region, pte] = [regionOf(range.start), pteIndexOf(range.start)];
    const pfn = getUserPageFast(t.m, t.mm, region, pte + 3, "write");
    expect(pfn).toBe(t.pfns(range)[3]);
    expect(t.entry(range)).toBe(entry);
    const isReferenced = (t.m.frames.flags[t.folio(range)] & PG.REFERENCED) !== 0;
    expect(isReferenced).toBe(profile !== "seed-2011");
  }
});

test("ANON-257 the fast way gives up where a fault would be needed", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  t.fork();
  const fast = (at: Range, access: "read" | "write") =>
    getUserPageFast(t.m, t.mm, regionOf(at.start), pteIndexOf(at.start), access);
  expect(fast(range, "read")).toBe(t.pfns(range)[0]);
  expect(fast(range, "write")).toBe(-EAGAIN);
  expect(fast(t.map({ pages: 1 }), "read")).toBe(-EAGAIN);
});

test("ANON-338 the kernel copying into 2 MiB and five bytes makes two huge pages", () => {
  const t = machine();
  const range = t.map({ huge: 2, advice: "HUGEPAGE" });
  const changed = t.deltas(() => {
    expect(copyToUser(t.m, t.mm, range.start, HUGE_SIZE + 5, 7)).toBe(0);
  });
  expect(changed).toMatchObject({ thp_fault_alloc: 2, pgfault: 2 });
  expect(t.contents(part(range, 510, 4))).toEqual([7, 7, 7, 0]);
  // Unaligned in pages too: the last byte of one page and the first of the next.
  const small = t.map({ pages: 4, flags: MAP.STACK });
  copyToUser(t.m, t.mm, small.start + 2 * PAGE_SIZE - 1, 2, 8);
  expect(t.contents(small)).toEqual([-1, 8, 8, -1]);
});

test("ANON-338 a copy stops where the program may not write", () => {
  const t = machine();
  const range = t.map({ pages: 4 });
  t.mprotect(part(range, 2, 1), PROT.READ);
  expect(copyToUser(t.m, t.mm, range.start + 10, 4 * PAGE_SIZE - 10, 7)).toBe(2 * PAGE_SIZE);
});
