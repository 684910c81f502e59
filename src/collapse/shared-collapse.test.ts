import { expect, test } from "vitest";
import { regionOf } from "../base/address.ts";
import {
  collapse,
  countMappings,
  countMemory,
  entriesOf,
  modeOf,
  sharedScene,
  statsOf,
} from "../machine/shared-scene.fixture.ts";
import { of, part, type Range } from "../machine/test-kit.ts";
import { ENTRY, pteTableOf } from "../mm/page-tables.ts";
import { VM } from "../mm/vma.ts";
import { PG } from "../phys/frame-table.ts";

/** Slot of the PTE of the range's first page. */
function slotOf({ t }: ReturnType<typeof sharedScene>, range: Range): number {
  const page = (range.start / 4096) % 512;
  return pteTableOf(t.m.tables, range.mm.root, regionOf(range.start)) * 512 + page;
}

test("COLL-480 COLL-436 a region shared by two becomes one folio of both: same bytes, RSS and frames, one LRU entry", () => {
  const { t, range, others } = sharedScene();
  const [child] = others;
  const contents = t.contents(range);
  const rss = [range.mm.rssAnon, child.mm.rssAnon];
  const before = countMemory(t);

  expect(collapse(t, range)).toBe("succeed");

  expect([t.contents(range), t.contents(child)]).toEqual([contents, contents]);
  expect([range.mm.rssAnon, child.mm.rssAnon]).toEqual(rss);
  expect(countMemory(t)).toEqual({ frames: before.frames, lruFolios: before.lruFolios - 511 });
  const folio = t.folio(range);
  expect(t.m.frames.order[folio]).toBe(9);
  expect(t.pfns(range)).toEqual(Array.from({ length: 512 }, (_, i) => folio + i));
  expect(t.pfns(child)).toEqual(t.pfns(range));
  expect(new Set(t.kpagecount(range))).toEqual(new Set([2]));
  expect([t.isHuge(range), t.isHuge(child)]).toEqual([false, false]);
});

test("COLL-480 with holes, frames are those before less the sources, plus 512", () => {
  const prepare = (t: ReturnType<typeof sharedScene>["t"], range: Range) =>
    void t.madvise(part(range, 100, 40), "DONTNEED");
  const { t, range } = sharedScene({ prepare });
  const before = countMemory(t);
  expect(collapse(t, range)).toBe("succeed");
  const lruFolios = before.lruFolios - (472 - 1);
  expect(countMemory(t)).toEqual({ frames: before.frames - 472 + 512, lruFolios });
});

test("COLL-410 the pivot may be any of those who share: found in a child, the result is the same", () => {
  const { t, range, others } = sharedScene({ children: 2 });
  const contents = t.contents(range);
  t.read(others[1]); // its entries are old else
  expect(collapse(t, others[1])).toBe("succeed");
  expect(t.pfns(range)).toEqual(t.pfns(others[1]));
  expect(t.contents(others[0])).toEqual(contents);
  expect(modeOf(t).records[0]).toMatchObject({ mmId: others[1].mm.id, nrSharers: 3 });
});

test("COLL-411 pages of two anon_vmas do not go together: a child's own page in its region is ROOT there", () => {
  const { t, range, others } = sharedScene();
  const [child] = others;
  t.write(child, 7);
  expect(collapse(t, child)).toBe("root");
  expect(statsOf(t)).toEqual({ shared_abort_root: 1 });
  // The parent's pages all have one; the child keeps its own.
  const own = t.pfns(child)[7];
  expect(collapse(t, range)).toBe("succeed");
  expect(t.pfns(child)[7]).toBe(own);
  expect(t.pfns(child)[8]).toBe(t.folio(range) + 8);
});

test("COLL-411 a page that is write-protected for a userfaultfd is UFFD, a failed one COPY_MC, a KSM page ROOT", () => {
  const scene = sharedScene();
  const { t, range } = scene;
  const slot = slotOf(scene, part(range, 3, 1));
  const pfn = t.pfns(range)[3];
  t.vma(range).flags |= VM.UFFD_WP;
  t.m.tables.flags[slot] |= ENTRY.UFFD_WP;
  expect(collapse(t, range)).toBe("uffd");
  t.m.tables.flags[slot] &= ~ENTRY.UFFD_WP;
  t.vma(range).flags &= ~VM.UFFD_WP;
  for (const [flag, result] of [
    [PG.HWPOISON, 11],
    [PG.KSM, 1],
  ] as const) {
    t.m.frames.flags[pfn] |= flag;
    const seen = () => modeOf(t).records.at(-1)?.result;
    try {
      collapse(t, range);
    } catch {
      // the walk misses the reference that a failed page has
    }
    expect(seen()).toBe(result);
    t.m.frames.flags[pfn] &= ~flag;
  }
  expect(collapse(t, range)).toBe("succeed");
});

test("COLL-412 COLL-435 holes stay empty in the pivot and are zero in the folio, up to max_ptes_none", () => {
  for (const [most, result] of [
    ["40", "succeed"],
    ["39", "not_candidate"],
  ] as const) {
    const { t, range, others } = sharedScene({
      prepare: (kit, r) => {
        kit.madvise(part(r, 100, 39), "DONTNEED");
        kit.madvise(part(r, 500, 1), "DONTNEED");
        kit.read(r, 500); // the zero page is a hole too
      },
    });
    t.knob("khugepaged.max_ptes_none", most);
    expect(collapse(t, range)).toBe(result);
    expect(t.states(part(range, 99, 42))).toMatch(/none\*39/);
    if (result !== "succeed") continue;
    const folio = t.folio(range);
    expect(t.m.frames.tag.slice(folio + 100, folio + 139)).toEqual(new Uint32Array(39));
    expect([t.m.frames.mapcount[folio + 100], t.m.frames.mapcount[folio + 500]]).toEqual([0, 0]);
    expect(t.states(part(range, 500, 1))).toBe("zero*1");
    expect(t.pfns(others[0])[139]).toBe(folio + 139);
  }
});

test("COLL-412 where a userfaultfd watches no hole is tolerated", () => {
  const { t, range } = sharedScene({
    prepare: (kit, r) => void kit.madvise(part(r, 9, 1), "DONTNEED"),
  });
  t.vma(range).flags |= VM.UFFD_MISSING;
  expect(collapse(t, range)).toBe("uffd");
  t.vma(range).flags &= ~VM.UFFD_MISSING;
  t.write(range, 9);
  t.vma(range).flags |= VM.UFFD_MISSING;
  expect(collapse(t, range)).toBe("succeed");
});

test("COLL-413 COLL-437 what only the pivot has in swap space is swapped in, a slot that others need too is SWAP_SHARED", () => {
  const alone = sharedScene({ prepare: (t) => void t.swapon({ pages: 600 }) });
  const { t, range } = alone;
  for (const page of [4, 5]) t.write(range, page); // its own now
  const contents = t.contents(range);
  t.madvise(part(range, 4, 2), "PAGEOUT");
  expect(t.states(part(range, 4, 2))).toBe("swap*2");
  t.knob("khugepaged.max_ptes_swap", "1");
  expect(collapse(t, range)).toBe("not_candidate");
  t.knob("khugepaged.max_ptes_swap", "2");
  expect(collapse(t, range)).toBe("succeed");
  expect(t.contents(range)).toEqual(contents);
  expect(t.m.swap.devices[0]!.nrUsed).toBe(0);

  const both = sharedScene({
    prepare: (kit, r) => {
      kit.swapon({ pages: 600 });
      kit.madvise(part(r, 4, 2), "PAGEOUT");
    },
  });
  expect(both.t.states(part(both.others[0], 4, 2))).toBe("swap*2");
  expect(collapse(both.t, both.range)).toBe("swap_shared");
  // Brought back here alone, they are still needed there.
  both.t.read(both.range, 4);
  both.t.read(both.range, 5);
  expect(collapse(both.t, both.range)).toBe("swap_shared");
  both.t.read(both.others[0], 4);
  both.t.read(both.others[0], 5);
  // Nobody needs the slots now, but the pages are in the swap cache still.
  expect(both.t.m.swap.devices[0]!.nrUsed).toBe(2);
  expect(collapse(both.t, both.range)).toBe("succeed");
  expect(both.t.m.swap.devices[0]!.nrUsed).toBe(0);
});

test("COLL-414 large folios in their places are sources; one that lies otherwise is COMPOUND, a whole one is there already", () => {
  const t = sharedScene().t;
  t.knob("thp.enabled", "never");
  t.knob("thp.hugepages-64kB.enabled", "always");
  const range = t.map({ huge: 1 });
  t.fill(range);
  const child = of(t.fork(), range);
  t.knob("thp.enabled", "always");
  expect(new Set(t.pfns(range).map((pfn) => t.m.frames.order[pfn]))).toEqual(new Set([4]));
  const contents = t.contents(range);
  const before = countMemory(t);
  expect(collapse(t, range)).toBe("succeed");
  expect([t.contents(range), t.contents(child)]).toEqual([contents, contents]);
  expect(countMemory(t)).toEqual({ frames: before.frames, lruFolios: before.lruFolios - 31 });
  expect(collapse(t, range)).toBe("already");

  t.knob("thp.enabled", "never");
  const cut = t.map({ huge: 1 });
  t.fill(cut);
  t.fork();
  t.madvise(part(cut, 3, 1), "DONTNEED");
  t.knob("thp.enabled", "always");
  expect(collapse(t, cut)).toBe("compound");
});

test("COLL-415 memory that nobody shares is left to the ordinary collapse", () => {
  const { t, range, others } = sharedScene();
  t.exit(others[0].mm);
  const entries = entriesOf(t, range.mm, range.start);
  expect(collapse(t, range)).toBe("not_shared");
  expect([statsOf(t), modeOf(t).records, entriesOf(t, range.mm, range.start)]).toEqual([
    {},
    [],
    entries,
  ]);
});

test("COLL-416 pages charged to two cgroups do not go together; of one, the folio is charged in their place", () => {
  for (const isMixed of [true, false]) {
    const t = sharedScene().t;
    t.knob("thp.enabled", "never");
    const memcg = t.memcg(2000);
    const mm = t.exec(memcg);
    const range = t.map({ huge: 1, mm });
    t.fill(range);
    if (isMixed) {
      t.madvise(part(range, 5, 1), "DONTNEED");
      mm.memcg = 0;
      t.write(range, 5);
    }
    const child = t.fork(mm);
    t.knob("thp.enabled", "always");
    const before = t.m.memcgs[memcg]!.usage;
    const rss = [mm.rssAnon, child.rssAnon];
    expect(collapse(t, range)).toBe(isMixed ? "memcg" : "succeed");
    expect([t.m.memcgs[memcg]!.usage, [mm.rssAnon, child.rssAnon]]).toEqual([before, rss]);
    expect(t.m.frames.memcg[t.folio(range)]).toBe(memcg);
  }
});

test("COLL-417 one entry of the pivot must have been used; a page off the LRU lists or locked is left alone", () => {
  const { t, range, others } = sharedScene();
  // A child's entries are old.
  expect(collapse(t, others[0])).toBe("not_candidate");
  t.read(others[0], 17);
  const slot = slotOf({ t, range, others }, part(others[0], 17, 1));
  expect(t.m.tables.flags[slot] & ENTRY.YOUNG).not.toBe(0);
  const pfn = t.pfns(range)[3];
  t.m.frames.flags[pfn] |= PG.LOCKED;
  expect(collapse(t, others[0])).toBe("lock");
  t.m.frames.flags[pfn] &= ~(PG.LOCKED | PG.LRU);
  expect(() => collapse(t, others[0])).toThrow();
  expect(modeOf(t).records.at(-1)?.result).toBe(9);
  t.m.frames.flags[pfn] |= PG.LRU;
  expect(collapse(t, others[0])).toBe("succeed");
  expect(statsOf(t)).toMatchObject({ shared_abort_lock: 1, shared_abort_lru: 1 });
});

test("COLL-418 max_ptes_shared is the limit of the copying collapse only", () => {
  const { t, range } = sharedScene();
  t.knob("khugepaged.max_ptes_shared", "0");
  expect(collapse(t, range)).toBe("succeed");
});

test("COLL-485 COLL-420 at P = 512 S: one more than the budget of PTEs or of address spaces is BUDGET, and nothing changes", () => {
  for (const [knob, value, result] of [
    ["max_ptes", "1536", "succeed"],
    ["max_ptes", "1535", "budget"],
    ["max_sharers", "3", "succeed"],
    ["max_sharers", "2", "budget"],
  ] as const) {
    const { t, range, others } = sharedScene({ children: 2 });
    t.knob(`khugepaged.shared_collapse_${knob}`, value);
    const all = [range, ...others];
    const entries = () => all.map((r) => entriesOf(t, r.mm, r.start));
    const before = entries();
    const memory = countMemory(t);
    const moved = t.deltas(() =>
      expect([knob, value, collapse(t, range)]).toEqual([knob, value, result]),
    );
    if (result === "succeed") continue;
    expect([moved, entries(), countMemory(t)]).toEqual([{}, before, memory]);
    expect(statsOf(t)).toEqual({ shared_abort_budget: 1 });
  }
});

test("COLL-484 P and S are what a count over all page tables finds, also where sharers have left in part", () => {
  const { t, range, others } = sharedScene({ children: 3 });
  t.write(others[0], 11);
  t.munmap(part(others[1], 40, 100));
  t.madvise(part(others[2], 0, 512), "DONTNEED");
  t.write(range, 300);
  const pfns = t.pfns(range);
  const counted = countMappings(t, pfns);
  expect(counted).toEqual({ ptes: 512 + 510 + 411, mms: 3 });
  expect(collapse(t, range)).toBe("succeed");
  expect(modeOf(t).records[0]).toMatchObject({
    nrFrozen: counted.ptes,
    nrRestored: counted.ptes,
    nrSharers: counted.mms,
    // Both walks looked into the one that maps nothing any more, and into both halves of the one that was cut.
    nrVmasVisited: 2 * 5,
  });
});

test("COLL-402 COLL-421 COLL-423 COLL-401 every operation leaves a record, and the statistics are their sums", () => {
  const { t, range } = sharedScene({ children: 3 });
  expect(collapse(t, range)).toBe("succeed");
  expect(modeOf(t).records).toEqual([
    {
      mmId: range.mm.id,
      region: regionOf(range.start),
      result: 0,
      nrSources: 512,
      nrFolios: 512,
      nrSharers: 4,
      nrPtes: 2048,
      nrVmasVisited: 8,
      nrFrozen: 2048,
      nrRestored: 2048,
      nrPagesFreed: 512,
      nrLruSaved: 511,
      stallNs: 4096 * 60 + 8 * 120 + 4 * 2000 + 512 * 250,
      nrPmdsPossible: 4,
      nrPmds: 0,
    },
  ]);
  expect(statsOf(t)).toEqual({
    shared_collapsed: 1,
    shared_ptes_updated: 4096,
    shared_ptes_max: 4096,
    shared_lru_saved: 511,
    thp_shared_collapse_alloc: 1,
    shared_deferred_vmas: 4,
  });
  const { shared_stall_ns_total, shared_stall_ns_max } = modeOf(t).stats;
  expect([shared_stall_ns_total, shared_stall_ns_max]).toEqual([382720, 382720]);
});

test("COLL-421 a hundred thousand PTEs are about 195 address spaces of 512: the default budget is 16", () => {
  const { knobs } = modeOf(sharedScene().t);
  expect([knobs.shared_collapse_max_ptes / 512, Math.floor(100_000 / 512)]).toEqual([16, 195]);
});

test("COLL-430 COLL-439 without memory or room in the cgroup nothing changes", () => {
  for (const [result, counts] of [
    ["alloc", { thp_shared_collapse_alloc_failed: 1, shared_abort_alloc: 1 }],
    ["charge", { thp_shared_collapse_alloc: 1, shared_abort_charge: 1 }],
  ] as const) {
    const t = sharedScene().t;
    t.knob("thp.enabled", "never");
    const memcg = t.memcg(700);
    const mm = t.exec(memcg);
    const range = t.map({ huge: 1, mm });
    t.fill(range);
    t.fork(mm);
    t.knob("thp.enabled", "always");
    if (result === "alloc") t.exhaust(9);
    const before = [entriesOf(t, mm, range.start), countMemory(t), t.m.memcgs[memcg]!.usage];
    expect(collapse(t, range)).toBe(result);
    expect([entriesOf(t, mm, range.start), countMemory(t), t.m.memcgs[memcg]!.usage]).toEqual(
      before,
    );
    expect(statsOf(t)).toEqual(counts);
  }
});

test("COLL-437 COLL-412 the folio is on the deferred split queue only if somebody maps no part of it", () => {
  for (const nrHoles of [0, 3]) {
    const { t, range } = sharedScene({
      prepare: (kit, r) => {
        if (nrHoles > 0) kit.madvise(part(r, 100, nrHoles), "DONTNEED");
      },
    });
    expect(collapse(t, range)).toBe("succeed");
    const flags = t.flags(range).split(" ");
    expect(flags.includes("DEFERRED")).toBe(nrHoles > 0);
    expect([flags.includes("LRU"), flags.includes("ACTIVE")]).toEqual([true, false]);
  }
});

test("COLL-437 COLL-433 locked memory takes part; the folio is unevictable if any VMA that maps it is locked", () => {
  const { t, range, others } = sharedScene();
  t.mlock(others[0], "onFault"); // which makes no copies
  expect(collapse(t, range)).toBe("succeed");
  expect(t.flags(range).split(" ")).toEqual(expect.arrayContaining(["UNEVICTABLE", "MLOCKED"]));
  t.munlock(others[0]);
  expect(t.flags(range).split(" ")).not.toContain("UNEVICTABLE");
});

test("COLL-436 COLL-438 each entry gets back its bits: a page written since the fork stays writable, the shared stay read-only", () => {
  const scene = sharedScene();
  const { t, range, others } = scene;
  t.write(range, 20);
  t.read(others[0], 21);
  const bits = () =>
    [range, others[0]].map((r) => {
      const base = slotOf(scene, r);
      return [...t.m.tables.flags.slice(base, base + 512)];
    });
  const before = bits();
  expect(collapse(t, range)).toBe("succeed");
  expect(bits()).toEqual(before);
  expect(t.entry(part(range, 20, 1))).toBe("WRITE YOUNG DIRTY");
  expect([t.write(range, 20), t.write(range, 21)]).toEqual(["none", "copy-on-write 4k"]);
});

test("COLL-481 COLL-438 a write by one of them copies one page of 4 kB; the others keep the folio", () => {
  const { t, range, others } = sharedScene({ children: 2 });
  expect(collapse(t, range)).toBe("succeed");
  const contents = t.contents(range);
  const folio = t.folio(range);
  const seen = t.deltas(() => expect(t.write(others[0], 77)).toBe("copy-on-write 4k"));
  expect(seen).toMatchObject({ pgfault: 1, nr_anon_pages: 1 });
  expect([t.contents(range), t.contents(others[1])]).toEqual([contents, contents]);
  expect(t.pfns(range)[77]).toBe(folio + 77);
  expect(t.pfns(others[0]).filter((pfn, i) => pfn !== folio + i)).toHaveLength(1);
});

test("COLL-482 a pin on one page, taken by any of them, is PINNED: all entries are bit for bit as before", () => {
  for (const who of [0, 1]) {
    const { t, range, others } = sharedScene();
    const all = [range, others[0]];
    // Writing first makes the page the pinner's own, as a pin for writing does; reading pins the shared one.
    if (who === 0) t.write(range, 300);
    t.pin(part(all[who], 300, 1));
    const entries = () => all.map((r) => entriesOf(t, r.mm, r.start));
    const before = entries();
    expect(collapse(t, range)).toBe("pinned");
    expect(entries()).toEqual(before);
    expect(statsOf(t)).toEqual({ shared_abort_pinned: 1 });
  }
});

test("COLL-471 COLL-136 the ordinary collapse copies and leaves the others alone, this one copies for all of them", () => {
  const ordinary = sharedScene();
  expect(ordinary.t.madvise(ordinary.range, "COLLAPSE")).toBe(0);
  expect(new Set(ordinary.t.kpagecount(ordinary.others[0]))).toEqual(new Set([1]));
  const { t, range, others } = sharedScene();
  expect(collapse(t, range)).toBe("succeed");
  expect(new Set(t.kpagecount(others[0]))).toEqual(new Set([2]));
  expect([t.smaps(range).Shared, t.smaps(others[0]).Private]).toEqual([2048, 0]);
});
