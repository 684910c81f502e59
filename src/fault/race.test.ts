import { expect, test } from "vitest";
import { HUGE_SIZE, PTES_PER_REGION } from "../base/address.ts";
import { type Kit, machine, of, part, type Range } from "../machine/test-kit.ts";
import { PROT } from "../syscall/mmap.ts";
import { registerRange, UFFD_MODE } from "../syscall/userfaultfd.ts";

/**
 * While the next allocation looks for memory, `other` runs: the one moment of a huge fault at which no lock is held.
 * Memory is fragmented until then.
 */
function whileAllocating(t: Kit, other: () => void): void {
  t.exhaust(9);
  const { check } = t;
  t.check = () => {}; // between the two halves of a fault the counts do not add up
  t.m.reclaim = {
    wakeKswapd: () => {},
    compact: () => {
      t.m.reclaim = null;
      t.release();
      other();
      return "success";
    },
    reclaim: () => 0,
    reclaimMemcg: () => 0,
    outOfMemory: () => false,
  };
  t.check = check;
}

function racing(): Kit {
  return machine({ enabled: "always", defrag: "always" });
}

test("ANON-331 two threads fault the same 2 MiB: the loser frees its folio and only the winner counts", () => {
  const t = racing();
  const range = t.map({ huge: 1 });
  const kinds: string[] = [];
  whileAllocating(t, () => kinds.push(t.write(range, 3)));
  const changed = t.thpDeltas(() => kinds.push(t.write(range, 9)));
  expect(kinds).toEqual(["anon 2M", "spurious"]);
  expect(changed).toEqual({
    thp_fault_alloc: 1,
    nr_anon_transparent_hugepages: 1,
    "2048kB/anon_fault_alloc": 1,
    "2048kB/nr_anon": 1,
  });
  const [three, nine] = [t.contents(range)[3], t.contents(range)[9]];
  expect([three, nine].every((tag) => tag > 0)).toBe(true);
});

test("ANON-331 two threads read the same 2 MiB first: one huge zero page, mapped once", () => {
  const t = racing();
  const range = t.map({ huge: 1 });
  const kinds: string[] = [];
  whileAllocating(t, () => kinds.push(t.read(range, 3)));
  kinds.push(t.read(range, 9));
  expect(kinds).toEqual(["zero 2M", "spurious"]);
  expect(t.entry(range)).toBe("YOUNG HUGE SPECIAL");
});

test("ANON-332 a write to a huge zero page that another thread has replaced meanwhile does nothing", () => {
  const t = racing();
  const range = t.map({ huge: 1 });
  t.read(range);
  const kinds: string[] = [];
  whileAllocating(t, () => kinds.push(t.write(range, 3)));
  const changed = t.thpDeltas(() => kinds.push(t.write(range, 9)));
  expect(kinds).toEqual(["anon 2M", "spurious"]);
  expect(changed).toMatchObject({ thp_fault_alloc: 1, "2048kB/nr_anon": 1 });
  const contents = t.contents(range);
  expect(contents[3] > 0 && contents[9] > 0).toBe(true);
});

test("ANON-337 while the OOM killer takes the memory away, faults install nothing", () => {
  const t = racing();
  const ranges = [t.map({ huge: 1 }), t.map({ pages: 4 })];
  t.mm.isUnstable = true;
  for (const range of ranges) {
    const changed = t.thpDeltas(() => expect(t.write(range)).toBe("SIGBUS"));
    expect(changed).toEqual({});
    expect(t.read(range)).toBe("SIGBUS");
  }
  expect(t.mm.rssAnon).toBe(0);
});

test("ANON-335 MADV_DONTNEED in the middle of an mprotect: what is dropped does not come back", () => {
  for (const isSmall of [false, true]) {
    const t = racing();
    const range = t.map({ huge: 1 });
    t.fill(range);
    if (isSmall) t.madvise(part(range, 0, 1), "DONTNEED");
    t.m.mmuNotifier = {
      invalidateRange: () => {
        t.m.mmuNotifier = null;
        t.madvise(range, "DONTNEED");
      },
      release: () => {},
    };
    const { check } = t;
    t.check = () => {}; // the VMA has its new rights already, its entries not yet
    t.mprotect(range, PROT.READ);
    t.check = check;
    t.check();
    expect(t.pfns(range)).toEqual(new Array(512).fill(-1));
  }
});

test("ANON-062 the steps of a huge fault come in this order: each failure leaves what came before it", () => {
  const state = (t: Kit, range: Range) => {
    const vma = t.vma(range);
    return {
      anonVma: vma.anonVma !== null,
      khugepaged: t.m.khugepaged.mms.includes(range.mm.id),
      usage: range.mm.memcg === 0 ? 0 : t.m.memcgs[range.mm.memcg]!.usage,
      mapped: range.mm.rssAnon,
    };
  };
  // Bounds come first: a VMA that is too small does not even register the mm.
  const small = racing();
  const tooSmall = small.map({ pages: 500 });
  small.read(tooSmall);
  expect(state(small, tooSmall)).toMatchObject({ anonVma: false, khugepaged: false });

  // The anon_vma and the registration come before the allocation, also of the zero folio.
  const scarce = racing();
  const range = scarce.map({ huge: 1 });
  scarce.exhaust(9);
  expect(scarce.read(range)).toBe("zero 4k");
  expect(state(scarce, range)).toMatchObject({ anonVma: true, khugepaged: true, mapped: 0 });
  scarce.release();

  // The charge comes after the allocation and before the page table: refused, the folio goes back.
  const limited = racing();
  const mm = limited.exec(limited.memcg(100));
  const over = limited.map({ huge: 1, mm });
  expect(limited.thpDeltas(() => limited.write(over))).toMatchObject({
    thp_fault_fallback_charge: 1,
  });
  expect(state(limited, over)).toMatchObject({ usage: 1, mapped: 1 });

  // The userfaultfd comes last: by then everything had been had, and is given back.
  const armed = racing();
  const grouped = armed.exec(armed.memcg(600));
  const missing = armed.map({ huge: 1, mm: grouped });
  registerRange(armed.m, grouped, missing.start, HUGE_SIZE, UFFD_MODE.MISSING);
  expect(armed.write(missing)).toBe("SIGBUS");
  expect(state(armed, missing)).toEqual({ anonVma: true, khugepaged: true, usage: 0, mapped: 0 });
  expect(grouped.nrPteTables).toBe(0);
});

test("ANON-050 newly advised memory registers its mm with khugepaged, once, if 2 MiB fit and are allowed", () => {
  const t = machine();
  const registered = () => [...t.m.khugepaged.mms];
  const small = t.map({ pages: 511 });
  t.write(small);
  t.madvise(small, "HUGEPAGE");
  expect(registered()).toEqual([]);
  const range = t.map({ huge: 2 });
  t.write(range);
  t.madvise(range, "NOHUGEPAGE");
  expect(registered()).toEqual([]);
  t.madvise(range, "HUGEPAGE");
  t.madvise(range, "HUGEPAGE");
  t.madvise(range, "NOHUGEPAGE");
  expect(registered()).toEqual([t.mm.id]); // it stays, though this VMA is skipped now
  const child = t.fork();
  expect(registered()).toEqual([t.mm.id, child.id]);
  t.exit(t.mm);
  expect(registered()).toEqual([child.id]);

  const off = machine({ enabled: "never" });
  const there = off.map({ huge: 2 });
  off.write(there);
  off.madvise(there, "HUGEPAGE");
  expect(off.m.khugepaged.mms).toEqual([]);
});

test("ANON-133 page 0 mapped by PMD and by PTE counts both; the others count theirs", () => {
  const t = racing();
  const range = t.mapHuge();
  const child = of(t.fork(), range);
  t.munmap(part(child, 1, PTES_PER_REGION - 1));
  expect(t.kpagecount(range)).toEqual([2, ...new Array(511).fill(1)]);
  expect([t.isHuge(range), t.isHuge(child)]).toEqual([true, false]);
  const { entireMapcount, mapcount } = t.m.frames;
  const head = t.folio(range);
  // Whether it is PMD-mapped is read off one count, not inferred from page 0's.
  expect([entireMapcount[head], mapcount[head]]).toEqual([1, 1]);
});
