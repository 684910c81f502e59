import { expect, test } from "vitest";
import { PAGE_SIZE } from "../base/address.ts";
import { EEXIST, EFAULT, EINVAL, ENOENT, ENOMEM } from "../base/errno.ts";
import { type Kit, machine, of, part, type Range } from "../machine/test-kit.ts";
import { VM, VM_UFFD } from "../mm/vma.ts";
import { PROT } from "./mmap.ts";
import {
  fillRange,
  protectWrites,
  registerRange,
  UFFD_MODE,
  unregisterRange,
} from "./userfaultfd.ts";

const { MISSING, WP, WP_ASYNC } = UFFD_MODE;
const bytes = (range: Range) => range.nrPages * PAGE_SIZE;

function register(t: Kit, range: Range, mode: number): number {
  const result = registerRange(t.m, range.mm, range.start, bytes(range), mode);
  t.check();
  return result;
}

function unregister(t: Kit, range: Range): number {
  const result = unregisterRange(t.m, range.mm, range.start, bytes(range));
  t.check();
  return result;
}

function fill(t: Kit, range: Range, contents: number | "zeroPage", isWriteProtected = false) {
  const { start, mm } = range;
  const result = fillRange(t.m, mm, { start, length: bytes(range), contents, isWriteProtected });
  t.check();
  return result;
}

function protect(t: Kit, range: Range, how: "protect" | "resolve" = "protect"): number {
  const result = protectWrites(t.m, range.mm, range.start, bytes(range), how);
  t.check();
  return result;
}

test("ANON-064 in missing mode every touch of nothing is SIGBUS, and no huge page is made", () => {
  for (const useZeroPage of [true, false]) {
    const t = machine({ enabled: "always", useZeroPage });
    const range = t.map({ huge: 1 });
    expect(register(t, range, MISSING)).toBe(0);
    const changed = t.thpDeltas(() => {
      expect([t.read(range, 3), t.write(range, 2)]).toEqual(["SIGBUS", "SIGBUS"]);
    });
    expect(changed).toEqual(useZeroPage ? { thp_zero_page_alloc: 1 } : {});
    expect(t.mm.rssAnon).toBe(0);
    expect(t.madvise(range, "POPULATE_WRITE")).toBe(-EFAULT);
    expect(t.madvise(range, "POPULATE_READ")).toBe(-EFAULT);
    expect(t.mlock(range)).toBe(-ENOMEM);
  }
});

test("ANON-064 the folio is allocated before the check: without one the fallback is counted", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  register(t, range, MISSING);
  t.exhaust(9);
  expect(t.thpDeltas(() => expect(t.write(range)).toBe("SIGBUS"))).toEqual({
    thp_fault_fallback: 1,
    "2048kB/anon_fault_fallback": 1,
  });
  t.release();
});

test("ANON-064 filling 2 MiB at once gives 512 small pages, with what was copied or zeroes", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 2 });
  register(t, range, MISSING);
  const copied = part(range, 0, 512);
  expect(t.thpDeltas(() => expect(fill(t, copied, 77)).toBe(2 ** 21))).toEqual({});
  expect(t.contents(copied)).toEqual(new Array(512).fill(77));
  expect([t.smaps(range).AnonHugePages, t.m.frames.order[t.folio(copied)]]).toEqual([0, 0]);
  expect(t.write(copied, 5)).toBe("none");
  const zeroed = part(range, 512, 512);
  expect(fill(t, zeroed, "zeroPage")).toBe(2 ** 21);
  expect([t.smaps(zeroed).Rss, t.read(zeroed), t.write(zeroed)]).toEqual([0, "none", "anon 4k"]);
  expect(fill(t, part(range, 9, 1), 1)).toBe(-EEXIST);
  expect(t.isHuge(range)).toBe(false);
});

test("ANON-064 a fill stops at the first page that is there, and keeps within one registered VMA", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ pages: 8 });
  register(t, range, MISSING);
  fill(t, part(range, 4, 1), 5);
  expect(fill(t, range, 6)).toBe(4 * PAGE_SIZE);
  expect(t.contents(range)).toEqual([6, 6, 6, 6, 5, -1, -1, -1]);
  expect(fill(t, { ...range, nrPages: 9 }, 6)).toBe(-ENOENT);
  expect(fill(t, t.map({ pages: 1 }), 6)).toBe(-ENOENT);
  expect(fill(t, part(range, 6, 0), 6)).toBe(-EINVAL);
  expect(fill(t, { ...part(range, 6, 1), start: range.start + 1 }, 6)).toBe(-EINVAL);
  expect(fill(t, part(range, 6, 1), 6, true)).toBe(-EINVAL); // not registered for it
  const huge = t.mapHuge();
  register(t, huge, MISSING);
  expect(fill(t, part(huge, 3, 1), 6)).toBe(-EEXIST);
});

test("ANON-106 smaller folios are not used in an armed VMA, whatever it is armed for", () => {
  for (const mode of [WP, WP_ASYNC, MISSING]) {
    const t = machine({ sizes: { "64kB": "always" } });
    const range = t.map({ pages: 16 });
    register(t, range, mode);
    expect(t.write(range)).toBe(mode === MISSING ? "SIGBUS" : "anon 4k");
    unregister(t, range);
    t.madvise(range, "DONTNEED");
    expect(t.write(range)).toBe("anon mTHP 64kB");
  }
});

test("ANON-222 write protection of a whole huge page is native both ways; a write to it is SIGBUS", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  register(t, range, WP);
  expect(t.deltas(() => expect(protect(t, range)).toBe(0))).toEqual({});
  expect(t.entry(range)).toBe("YOUNG DIRTY HUGE UFFD_WP");
  expect([t.write(range, 3), t.read(range, 3)]).toEqual(["SIGBUS", "none"]);
  expect(t.deltas(() => protect(t, range, "resolve"))).toEqual({});
  expect([t.write(range, 3), t.isHuge(range)]).toEqual(["none", true]);
});

test("ANON-222 of a part it splits, and the split carries the bit to the other pages", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  register(t, range, WP);
  protect(t, range);
  const resolved = t.deltas(() => protect(t, part(range, 1, 1), "resolve"));
  expect(resolved).toEqual({ thp_split_pmd: 1, nr_anon_transparent_hugepages: -1 });
  expect([t.write(range, 1), t.write(range, 2)]).toEqual(["none", "SIGBUS"]);
  const other = t.mapHuge();
  register(t, other, WP);
  expect(t.deltas(() => protect(t, part(other, 1, 1)))).toEqual(resolved);
  expect([t.write(other, 1), t.write(other, 2)]).toEqual(["SIGBUS", "none"]);
});

test("ANON-222 a huge zero page is protected as one, and its split keeps the bits", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  t.read(range);
  register(t, range, WP);
  protect(t, range);
  expect(t.write(range)).toBe("SIGBUS");
  expect(t.deltas(() => protect(t, part(range, 1, 1), "resolve"))).toEqual({ thp_split_pmd: 1 });
  expect([t.write(range, 1), t.write(range, 2)]).toEqual(["anon 4k", "SIGBUS"]);
});

test("ANON-222 in async mode the write splits the PMD and lifts the protection of its page", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  register(t, range, WP_ASYNC);
  protect(t, range);
  let kind = "";
  expect(
    t.deltas(() => {
      kind = t.write(range, 1);
    }),
  ).toEqual({ pgfault: 1, thp_split_pmd: 1, nr_anon_transparent_hugepages: -1 });
  expect(kind).toBe("reuse 4k");
  expect(t.entry(part(range, 1, 1))).not.toContain("UFFD_WP");
  expect(t.entry(part(range, 2, 1))).toContain("UFFD_WP");
});

test("ANON-222 what is not mapped gets no protection, and what comes later has none", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  register(t, range, WP);
  protect(t, range);
  expect(t.write(range)).toBe("anon 2M");
  t.madvise(part(range, 0, 512), "DONTNEED");
  register(t, range, MISSING | WP);
  fill(t, part(range, 3, 1), 8, true);
  expect([t.read(range, 3), t.write(range, 3), t.write(range, 4)]).toEqual([
    "none",
    "SIGBUS",
    "SIGBUS",
  ]);
});

test("ANON-222 mprotect does not make a protected page writable; unregistering, fork and mremap do", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  t.write(range, 9);
  register(t, range, WP);
  protect(t, range);
  for (const prot of [PROT.READ, PROT.READ | PROT.WRITE]) t.mprotect(range, prot);
  expect(t.write(range, 9)).toBe("SIGBUS");
  const child = of(t.fork(), range);
  expect(t.vma(child).flags & VM_UFFD).toBe(0);
  expect(t.write(child, 9)).toBe("copy-on-write 4k");
  t.exit(child.mm);
  const moved = t.mremap(range, 512, { at: 2 ** 44 });
  expect([t.vma(moved).flags & VM_UFFD, t.isHuge(moved)]).toEqual([0, true]);
  expect(t.write(moved, 9)).toBe("reuse 2M");
  register(t, moved, WP);
  protect(t, moved);
  expect(unregister(t, moved)).toBe(0);
  expect(t.write(moved, 9)).toBe("none");
});

test("ANON-029 ANON-222 registering: a part makes a VMA of its own, and the range stays eligible for 2 MiB", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ pages: 8 });
  expect(register(t, part(range, 2, 2), MISSING)).toBe(0);
  expect(t.vmas(range)).toEqual(["0+2", "2+2", "4+4"]);
  expect(t.vma(part(range, 2, 1)).flags & VM_UFFD).toBe(VM.UFFD_MISSING);
  unregister(t, range);
  expect(t.vmas(range)).toEqual(["0+8"]);
  for (const mode of [0, 8]) expect(register(t, range, mode)).toBe(-EINVAL);
  expect(register(t, { ...range, start: range.start + 1 }, MISSING)).toBe(-EINVAL);
  expect(register(t, { ...range, nrPages: 0 }, MISSING)).toBe(-EINVAL);
  expect(register(t, { ...range, start: 65536 }, MISSING)).toBe(-EINVAL);
  expect(unregister(t, t.map({ pages: 1 }))).toBe(0);
  expect(protect(t, range)).toBe(-ENOENT);
  t.munmap(part(range, 6, 2));
  expect(register(t, range, MISSING)).toBe(0); // a hole at the end is passed over
});
