import { expect, test } from "vitest";
import { collapse, record, written } from "../machine/collapse-test-kit.ts";
import { type Kit, machine, of, part, type Range } from "../machine/test-kit.ts";
import { prepareAnonVma } from "../mm/anon-vma.ts";
import { PG } from "../phys/frame-table.ts";
import { lruAdd, lruDel } from "../phys/lru.ts";
import { writeClearRefs } from "../report/clear-refs.ts";
import { dropLocks, tryLock } from "../sched/locks.ts";
import { protectWrites, registerRange, UFFD_MODE } from "../syscall/userfaultfd.ts";

/** Pages [0, nr) go to a swap device. */
function swapOut(t: Kit, range: Range, nr: number): void {
  t.swapon({ pages: 1024 });
  t.madvise(part(range, 0, nr), "PAGEOUT");
  expect(t.swapEntries(range).filter((entry) => entry >= 0)).toHaveLength(nr);
}

function exceeded(t: Kit, act: () => void): Record<string, number> {
  return Object.fromEntries(
    Object.entries(t.deltas(act)).filter(([name]) => name.startsWith("thp_scan_exceed")),
  );
}

test("COLL-100 no PMD table, no PTE table, huge already", () => {
  const t = machine();
  const far = t.map({ huge: 512 + 1, advice: "HUGEPAGE" });
  t.write(part(far, 512 * 512, 1)); // the last region alone: in another GiB
  expect(collapse(t, part(far, 0, 512), "madvise")).toBe("pmd_null");
  t.write(part(far, 512, 1));
  expect(collapse(t, part(far, 0, 512), "madvise")).toBe("pmd_none");
  expect(collapse(t, part(far, 512, 512), "madvise")).toBe("page_pmd_mapped");
});

test("COLL-014 COLL-104 exactly max_ptes_none holes pass, one more is refused for khugepaged and counted each time", () => {
  for (const [nrWritten, result] of [
    [502, "succeeded"],
    [501, "exceed_none_pte"],
  ] as const) {
    const t = machine();
    t.knob("khugepaged.max_ptes_none", "10");
    const range = written(t, nrWritten);
    const refused = result === "succeeded" ? 0 : 2;
    const counted = exceeded(t, () => {
      expect(collapse(t, range)).toBe(result);
      if (refused > 0) expect(collapse(t, range)).toBe(result);
    });
    expect(counted).toEqual(refused > 0 ? { thp_scan_exceed_none_pte: 2 } : {});
    if (refused > 0) expect(collapse(t, range, "madvise")).toBe("succeeded");
  }
});

test("COLL-104 COLL-317 by default one written page is enough for khugepaged, none is not; MADV_COLLAPSE takes either", () => {
  const t = machine();
  const one = written(t, 1);
  expect(collapse(t, one)).toBe("succeeded");
  expect(t.contents(one).slice(1)).toEqual(Array(511).fill(0));

  const zeroes = t.map({ huge: 1, advice: "NOHUGEPAGE" });
  t.write(zeroes);
  t.madvise(part(zeroes, 0, 256), "DONTNEED");
  for (let page = 0; page < 512; page++)
    if (page % 100 === 0) expect(t.read(zeroes, page)).toBe("zero 4k");
  t.madvise(zeroes, "HUGEPAGE");
  expect(collapse(t, zeroes)).toBe("exceed_none_pte");
  expect(collapse(t, zeroes, "madvise")).toBe("succeeded");
  expect(t.contents(zeroes)).toEqual(Array(512).fill(0));
});

test("COLL-105 COLL-504 an emptied PTE table collapses, one that was freed does not; on 6.12 it is kept", () => {
  for (const [profile, inOne] of [
    ["linux-6.18", "pmd_none"],
    ["linux-6.12", "no_writable_page"],
  ] as const) {
    const t = machine({ profile });
    const [whole, halves] = [written(t), written(t)];
    t.madvise(whole, "DONTNEED");
    t.madvise(part(halves, 0, 256), "DONTNEED");
    t.madvise(part(halves, 256, 256), "DONTNEED");
    expect(collapse(t, whole, "madvise")).toBe(inOne);
    const isNew = profile === "linux-6.18";
    expect(collapse(t, halves, "madvise")).toBe(isNew ? "succeeded" : "no_writable_page");
  }
});

test("COLL-104 COLL-101 exactly max_ptes_shared shared pages pass for khugepaged, one more is refused and counted", () => {
  for (const [nrShared, result] of [
    [256, "succeeded"],
    [257, "exceed_shared_pte"],
  ] as const) {
    const t = machine();
    const range = written(t);
    const child = of(t.fork(), range);
    for (let page = nrShared; page < 512; page++) t.madvise(part(child, page, 1), "DONTNEED");
    t.read(range);
    const counted = exceeded(t, () => expect(collapse(t, range)).toBe(result));
    expect(counted).toEqual(result === "succeeded" ? {} : { thp_scan_exceed_share_pte: 1 });
    if (result !== "succeeded") expect(collapse(t, range, "madvise")).toBe("succeeded");
  }
});

test("COLL-107 pages of a large folio that a child maps as a whole count one each", () => {
  const t = machine();
  const range = t.mapHuge();
  const child = of(t.fork(), range);
  t.madvise(part(range, 511, 1), "DONTNEED"); // splits the mapping here
  expect([t.isHuge(range), t.isHuge(child)]).toEqual([false, true]);
  t.read(range);
  expect(collapse(t, range)).toBe("exceed_shared_pte");
  expect(collapse(t, range, "madvise")).toBe("succeeded");
});

test("COLL-104 exactly max_ptes_swap swapped pages pass for khugepaged, one more is refused; MADV_COLLAPSE takes all", () => {
  for (const [nr, result] of [
    [64, "succeeded"],
    [65, "exceed_swap_pte"],
  ] as const) {
    const t = machine();
    const range = written(t);
    swapOut(t, range, nr);
    const counted = exceeded(t, () => expect(collapse(t, range)).toBe(result));
    expect(counted).toEqual(result === "succeeded" ? {} : { thp_scan_exceed_swap_pte: 1 });
    if (result !== "succeeded") expect(collapse(t, range, "madvise")).toBe("succeeded");
  }
});

test("COLL-101 COLL-252 memory watched by a userfaultfd may have no hole, for either; one write-protected page refuses", () => {
  for (const actor of ["khugepaged", "madvise"] as const) {
    const t = machine();
    const range = written(t, 511);
    registerRange(t.m, t.mm, range.start, 2 ** 21, UFFD_MODE.MISSING);
    const counted = exceeded(t, () => expect(collapse(t, range, actor)).toBe("exceed_none_pte"));
    expect(counted).toEqual({ thp_scan_exceed_none_pte: 1 });

    const full = written(t);
    registerRange(t.m, t.mm, full.start, 2 ** 21, UFFD_MODE.WP);
    protectWrites(t.m, t.mm, full.start + 40 * 4096, 4096, "protect");
    expect(collapse(t, full, actor)).toBe("pte_uffd_wp");
    protectWrites(t.m, t.mm, full.start + 40 * 4096, 4096, "resolve");
    expect(collapse(t, full, actor)).toBe("succeeded");
  }
});

test("COLL-101 a swapped page that is write-protected for a userfaultfd refuses", () => {
  const t = machine();
  const range = written(t);
  registerRange(t.m, t.mm, range.start, 2 ** 21, UFFD_MODE.WP);
  protectWrites(t.m, t.mm, range.start, 4096, "protect");
  swapOut(t, range, 4);
  expect(collapse(t, range, "madvise")).toBe("pte_uffd_wp");
});

test("COLL-106 COLL-340 COLL-352 a page that anybody holds refuses, whether as a pin or otherwise; being shared is no pin", () => {
  for (const actor of ["khugepaged", "madvise"] as const) {
    const t = machine();
    const range = written(t);
    t.pin(part(range, 300, 1));
    expect(collapse(t, range, actor)).toBe("not_suitable_page_count");
    t.unpin(t.pfns(range)[300]);
    const held = t.get(part(range, 511, 1));
    expect(collapse(t, range, actor)).toBe("not_suitable_page_count");
    t.put(held);
    expect(collapse(t, range, actor)).toBe("succeeded");
  }
  const t = machine();
  const range = written(t);
  t.fork();
  expect(collapse(t, range, "madvise")).toBe("succeeded");
});

test("COLL-352 a pin on any page of a large folio refuses every region that has a part of it", () => {
  const t = machine({ sizes: { "64kB": "always", "2048kB": "never" } });
  const range = t.map({ huge: 1, advice: "HUGEPAGE" });
  t.fill(range);
  t.pin(part(range, 35, 1));
  expect(collapse(t, range, "madvise")).toBe("not_suitable_page_count");
  t.unpin(t.pfns(range)[35]);
  expect(collapse(t, range, "madvise")).toBe("succeeded");
});

test("COLL-101 a page that somebody has taken off the LRU, or has locked, refuses for now", () => {
  const t = machine();
  const range = written(t);
  const pfn = t.pfns(range)[7];
  const lock = { name: "folio", id: pfn, mode: "write", task: 9, operation: 9 } as const;
  tryLock(t.m, lock);
  expect(collapse(t, range, "madvise")).toBe("page_locked");
  dropLocks(t.m, 9);
  lruDel(t.m, pfn);
  tryLock(t.m, lock); // looked at after the LRU
  expect(collapse(t, range, "madvise")).toBe("page_not_in_lru");
  dropLocks(t.m, 9);
  lruAdd(t.m, pfn);
  expect(collapse(t, range, "madvise")).toBe("succeeded");
});

test("COLL-109 memory not used since the last look is refused for khugepaged until one page is touched", () => {
  const t = machine();
  const range = written(t);
  writeClearRefs(t.m, t.mm, "1");
  expect(collapse(t, range)).toBe("lack_referenced_page");
  t.read(range, 77);
  expect(collapse(t, range)).toBe("succeeded");
  const idle = written(t);
  writeClearRefs(t.m, t.mm, "1");
  expect(collapse(t, idle, "madvise")).toBe("succeeded");
});

test("COLL-109 the child of a fork has touched nothing yet", () => {
  const t = machine();
  t.knob("khugepaged.max_ptes_shared", "511");
  const range = written(t);
  t.madvise(part(range, 511, 1), "DONTNEED");
  const child = of(t.fork(), range);
  for (const pfn of t.pfns(range)) t.m.frames.flags[pfn] &= ~PG.REFERENCED;
  expect(collapse(t, child)).toBe("lack_referenced_page");
});

test("COLL-109 use through a secondary MMU is use", () => {
  const t = machine();
  const range = written(t);
  writeClearRefs(t.m, t.mm, "1");
  t.m.mmuNotifier = { invalidateRange() {}, release() {}, testYoung: () => true };
  expect(collapse(t, range)).toBe("succeeded");
});

test("COLL-102 with swapped pages around, 256 of the others must have been used", () => {
  for (const [nrUsed, result] of [
    [255, "lack_referenced_page"],
    [256, "succeeded"],
  ] as const) {
    const t = machine();
    const range = written(t);
    swapOut(t, range, 10);
    writeClearRefs(t.m, t.mm, "1");
    for (let page = 100; page < 100 + nrUsed; page++) t.read(range, page);
    expect(collapse(t, range)).toBe(result);
  }
});

test("COLL-103 COLL-500 6.12 wants one writable page, 6.18 does not", () => {
  for (const profile of ["linux-6.18", "linux-6.12"]) {
    const t = machine({ profile });
    const range = written(t);
    t.fork();
    expect(t.entry(range)).not.toContain("WRITE");
    const wanted = profile === "linux-6.18" ? "succeeded" : "no_writable_page";
    expect(collapse(t, range, "madvise")).toBe(wanted);
    if (profile === "linux-6.18") continue;
    t.write(range, 400);
    expect(collapse(t, range, "madvise")).toBe("succeeded");
  }
});

test("COLL-110 COLL-507 a guard page is found when pages are swapped in, with the huge page already there", () => {
  const t = machine();
  const range = written(t);
  t.madvise(part(range, 9, 1), "GUARD_INSTALL");
  const changed = t.thpDeltas(() => expect(t.madvise(range, "COLLAPSE")).toBe(-22));
  expect(changed).toEqual({ thp_collapse_alloc: 1 });
  expect(collapse(t, range, "madvise")).toBe("failed");
  expect([t.read(range, 9), t.states(range)]).toEqual(["SIGSEGV", "small*9 none*1 small*502"]);
});

test("COLL-111 COLL-280 a refused scan says what it saw up to there, and nothing else is reported", () => {
  const t = machine();
  t.knob("khugepaged.max_ptes_none", "2");
  const range = written(t, 100);
  const events = record(t, /khugepaged|collapse/);
  collapse(t, range);
  const last = t.pfns(range)[99];
  expect(events).toEqual([["mm_khugepaged_scan_pmd", t.mm.id, last, 100, 3, 5, 0, 1]]);
});

test("COLL-100 a region whose VMA has an anon_vma but no table is empty", () => {
  const t = machine();
  const range = t.map({ huge: 2, advice: "HUGEPAGE" });
  prepareAnonVma(t.m, t.mm, t.vma(range));
  expect(collapse(t, range, "madvise")).toBe("pmd_null");
});
