import { expect, test } from "vitest";
import { regionOf } from "../base/address.ts";
import { VMSTAT } from "../base/counters.ts";
import { ENTRY, pmdSlotOf, pteTableOf } from "../mm/page-tables.ts";
import { PG } from "../phys/frame-table.ts";
import { checkMachine } from "./check.ts";
import { type Kit, machine, of, part, type Range } from "./test-kit.ts";

/** A machine with a huge page, a PTE-mapped folio shared by two processes, small pages and zero pages. */
function busyMachine(): { t: Kit; huge: Range; split: Range; small: Range } {
  const t = machine({ enabled: "always" });
  const huge = t.mapHuge();
  const split = t.mapHuge();
  t.munmap(part(split, 100, 10));
  const small = t.map({ pages: 8 });
  t.fill(small);
  t.read(t.map({ pages: 4 }));
  t.read(t.map({ huge: 1 }));
  t.write(of(t.fork(), small));
  return { t, huge, split, small };
}

function slotOf(t: Kit, range: Range): number {
  const region = regionOf(range.start);
  const table = pteTableOf(t.m.tables, range.mm.root, region);
  return table === 0 ? pmdSlotOf(t.m.tables, range.mm.root, region) : table * 512;
}

test("a busy machine has no problems", () => {
  const { t } = busyMachine();
  expect(checkMachine(t.m)).toEqual([]);
});

/** One corruption each: what is changed by hand, and a word of the sentence that must report it. */
const CORRUPTIONS: readonly [string, RegExp, (b: ReturnType<typeof busyMachine>) => void][] = [
  ["a reference too many", /refcount/, ({ t, huge }) => t.m.frames.refcount[t.folio(huge)]++],
  ["a lost reference", /refcount/, ({ t, small }) => t.m.frames.refcount[t.folio(small)]--],
  ["a mapcount", /mapcount/, ({ t, small }) => t.m.frames.mapcount[t.pfns(small)[3]]++],
  ["a mapcount of nobody", /mapcount/, ({ t }) => (t.m.frames.mapcount[9] = 1)],
  [
    "an entireMapcount",
    /entireMapcount/,
    ({ t, huge }) => t.m.frames.entireMapcount[t.folio(huge)]++,
  ],
  [
    "a largeMapcount",
    /largeMapcount/,
    ({ t, split }) => t.m.frames.largeMapcount[t.folio(split)]--,
  ],
  [
    "a nrPagesMapped",
    /nrPagesMapped/,
    ({ t, split }) => t.m.frames.nrPagesMapped[t.folio(split)]++,
  ],
  ["a sharer's count", /sharer/, ({ t, split }) => t.m.frames.sharer0Mapcount[t.folio(split)]--],
  [
    "a tail's reference",
    /tail frame/,
    ({ t, huge }) => (t.m.frames.refcount[t.folio(huge) + 5] = 1),
  ],
  ["RSS", /rssAnon/, ({ t }) => t.mm.rssAnon++],
  ["VmPTE", /nrPteTables/, ({ t }) => t.mm.nrPteTables--],
  ["the fill of a table", /nrUsed/, ({ t, small }) => t.m.tables.nrUsed[slotOf(t, small) >>> 9]++],
  ["a deposit", /deposit/, ({ t, huge }) => (t.m.tables.depositHead[slotOf(t, huge) >>> 9] = 0)],
  [
    "a write bit of a shared page",
    /not exclusive/,
    ({ t, small }) => (t.m.tables.flags[slotOf(t, small) + 1] |= ENTRY.WRITE),
  ],
  [
    "a write bit of a zero page",
    /zero PTE is writable/,
    ({ t }) => {
      const zero = t.map({ pages: 1 });
      t.read(zero);
      t.m.tables.flags[slotOf(t, zero)] |= ENTRY.WRITE;
    },
  ],
  [
    "an exclusive flag of a shared page",
    /exclusive but mapped/,
    ({ t, small }) => (t.m.frames.flags[t.pfns(small)[2]] |= PG.ANON_EXCLUSIVE),
  ],
  [
    "access beyond the VMA's",
    /writable in a VMA that is not/,
    ({ t }) => (t.vma(t.mapHuge()).flags &= ~2),
  ],
  [
    "an entry that points elsewhere",
    /index/,
    ({ t, small }) => {
      const slot = slotOf(t, small);
      const { payload } = t.m.tables;
      [payload[slot + 2], payload[slot + 3]] = [payload[slot + 3], payload[slot + 2]];
    },
  ],
  ["an index", /index/, ({ t, huge }) => t.m.frames.indexPte[t.folio(huge)]++],
  ["an owner", /rmap/, ({ t, huge }) => (t.m.frames.owner[t.folio(huge)] = 999)],
  [
    "a forgotten partially-mapped flag",
    /not marked partially mapped/,
    ({ t, split }) => (t.m.frames.flags[t.folio(split)] &= ~PG.PARTIALLY_MAPPED),
  ],
  [
    "a folio missing on its queue",
    /deferred/,
    ({ t, split }) => (t.m.frames.flags[t.folio(split)] &= ~PG.DEFERRED),
  ],
  ["the length of a queue", /deferred queue/, ({ t }) => t.m.deferredLength[0]++],
  ["the huge zero folio's count", /huge zero refcount/, ({ t }) => t.m.hugeZero.refcount++],
  ["a forgotten huge zero user", /huge zero/, ({ t }) => (t.mm.usesHugeZero = false)],
  ["nr_anon_pages", /nr_anon_pages/, ({ t }) => t.m.vmstat[VMSTAT.nr_anon_pages]++],
  [
    "nr_anon_transparent_hugepages",
    /nr_anon_transparent_hugepages/,
    ({ t }) => t.m.vmstat[VMSTAT.nr_anon_transparent_hugepages]--,
  ],
  [
    "nr_page_table_pages",
    /nr_page_table_pages/,
    ({ t }) => t.m.vmstat[VMSTAT.nr_page_table_pages]++,
  ],
  ["nr_free_pages", /nr_free_pages/, ({ t }) => t.m.vmstat[VMSTAT.nr_free_pages]--],
  ["a statistic of a size", /nr_anon of order/, ({ t }) => t.m.thpStats.fill(7)],
  ["VMAs that overlap", /overlaps/, ({ t, small }) => (t.vma(small).end += 2 ** 31)],
  [
    "a VMA that no anon_vma lists",
    /missing in anon_vma/,
    ({ t, huge }) => (t.vma(huge).anonVma!.vmas.length = 0),
  ],
  ["a page of no VMA", /outside of any VMA/, ({ t, small }) => (t.vma(small).end -= 4096)],
  [
    "a huge page over a VMA's edge",
    /crosses a VMA edge/,
    ({ t, huge }) => (t.vma(huge).end -= 4096),
  ],
  ["a stale last VMA", /is gone/, ({ t, huge }) => (t.mm.lastVma = { ...t.vma(huge) })],
];

for (const [what, sentence, corrupt] of CORRUPTIONS) {
  test(`the check reports ${what}`, () => {
    const busy = busyMachine();
    corrupt(busy);
    expect(checkMachine(busy.t.m).join("\n")).toMatch(sentence);
  });
}
