import { expect, test } from "vitest";
import { PTES_PER_REGION, regionOf } from "../base/address.ts";
import { GUP_READ, getUserPage } from "../fault/gup.ts";
import { type Kit, machine, of, part, type Range } from "../machine/test-kit.ts";
import { PROT } from "../syscall/mmap.ts";
import { isEntryYoung, testAndClearYoung } from "./aging.ts";
import { pmdSlotOf } from "./page-tables.ts";
import type { Mm, MmuNotifier } from "./state.ts";

/** A guest's page tables, naively: which pages of which address space it maps, and which it used. */
class SecondaryMmu implements MmuNotifier {
  readonly mapped = new Map<string, { isHuge: boolean; isYoung: boolean }>();

  private readonly t: Kit;
  private readonly accessBits: "has access bits" | "has none";

  constructor(t: Kit, accessBits: "has access bits" | "has none") {
    this.t = t;
    this.accessBits = accessBits;
    t.m.mmuNotifier = this;
  }

  /** The guest touches a page: mapped through GUP, huge if the folio is mapped huge. */
  touch(range: Range): void {
    const page = range.start / 4096;
    const region = regionOf(range.start);
    getUserPage(this.t.m, range.mm, region, page % PTES_PER_REGION, GUP_READ);
    const isHuge = this.t.isHuge(range);
    const first = isHuge ? region * PTES_PER_REGION : page;
    this.mapped.set(`${range.mm.id}:${first}`, { isHuge, isYoung: true });
    this.ageProcessor(range);
  }

  /** The processor itself did not use the page: GUP's own mark goes. */
  private ageProcessor(range: Range): void {
    const saved = this.t.m.mmuNotifier;
    this.t.m.mmuNotifier = null;
    testAndClearYoung(this.t.m, this.t.folio(range));
    this.t.m.mmuNotifier = saved;
  }

  private *within(mmId: number, start: number, end: number) {
    for (const [key, entry] of this.mapped) {
      const [mm, first] = key.split(":").map(Number);
      const nr = entry.isHuge ? PTES_PER_REGION : 1;
      if (mm === mmId && first < end && first + nr > start) yield [key, entry] as const;
    }
  }

  invalidateRange(mmId: number, start: number, end: number): void {
    for (const [key] of [...this.within(mmId, start, end)]) this.mapped.delete(key);
  }

  clearFlushYoung(mmId: number, start: number, end: number): boolean {
    let isYoung = false;
    for (const [key, entry] of [...this.within(mmId, start, end)]) {
      if (this.accessBits === "has none") this.mapped.delete(key);
      isYoung ||= this.accessBits === "has none" || entry.isYoung;
      entry.isYoung = false;
    }
    return isYoung;
  }

  testYoung(mmId: number, start: number, end: number): boolean {
    if (this.accessBits === "has none") return false;
    return [...this.within(mmId, start, end)].some(([, entry]) => entry.isYoung);
  }

  release(mmId: number): void {
    this.invalidateRange(mmId, 0, Number.MAX_SAFE_INTEGER);
  }
}

function isYoung(t: Kit, range: Range, mm: Mm = range.mm): boolean {
  const region = regionOf(range.start);
  const slot = pmdSlotOf(t.m.tables, mm.root, region);
  return isEntryYoung(t.m, mm, slot, region * PTES_PER_REGION, (region + 1) * PTES_PER_REGION);
}

test("ANON-291 aging counts each mapping that was used and makes all of them old", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  const child = of(t.fork(), range); // the child's entry starts old
  const head = t.folio(range);
  expect(testAndClearYoung(t.m, head)).toBe(1);
  expect(testAndClearYoung(t.m, head)).toBe(0);
  t.read(child);
  t.read(range, 5);
  expect(testAndClearYoung(t.m, head)).toBe(2);
  t.mprotect(part(range, 1, 1), PROT.NONE);
  t.read(range, 7);
  t.read(range, 9);
  expect(testAndClearYoung(t.m, head)).toBe(2);
  expect(t.entry(part(range, 7, 1))).not.toContain("YOUNG");
});

test("ANON-291 memory that only a guest uses is young, by its access bits or by what it had mapped", () => {
  for (const accessBits of ["has access bits", "has none"] as const) {
    const t = machine({ enabled: "always" });
    const range = t.mapHuge();
    const guest = new SecondaryMmu(t, accessBits);
    guest.touch(part(range, 9, 1));
    expect(t.entry(range)).not.toContain("YOUNG");
    // khugepaged asks without disturbing: an MMU without access bits has no answer.
    expect(isYoung(t, range)).toBe(accessBits === "has access bits");
    expect(testAndClearYoung(t.m, t.folio(range))).toBe(1);
    expect(guest.mapped.size).toBe(accessBits === "has access bits" ? 1 : 0);
    expect(testAndClearYoung(t.m, t.folio(range))).toBe(0);
    expect(isYoung(t, range)).toBe(false);
    guest.touch(part(range, 10, 1));
    expect(testAndClearYoung(t.m, t.folio(range))).toBe(1);
  }
});

test("ANON-291 the question covers all 2 MiB of a huge entry, one page of a small one", () => {
  const t = machine({ enabled: "always" });
  const asked: [number, number][] = [];
  const range = t.mapHuge();
  const first = range.start / 4096;
  const head = t.folio(range);
  t.m.mmuNotifier = {
    invalidateRange: () => {},
    release: () => {},
    clearFlushYoung: (_mm, start, end) => {
      asked.push([start - first, end - first]);
      return false;
    },
  };
  testAndClearYoung(t.m, head);
  expect(asked.splice(0)).toEqual([[0, 512]]);
  t.munmap(part(range, 2, 510));
  testAndClearYoung(t.m, head);
  expect(asked).toEqual([
    [0, 1],
    [1, 2],
  ]);
});

test("ANON-290 a guest maps a huge page as one and loses it at any split, then maps the small page", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  const guest = new SecondaryMmu(t, "has access bits");
  guest.touch(part(range, 9, 1));
  expect([...guest.mapped.values()]).toMatchObject([{ isHuge: true }]);
  t.munmap(part(range, 500, 1));
  expect(guest.mapped.size).toBe(0);
  guest.touch(part(range, 9, 1));
  expect([...guest.mapped.values()]).toMatchObject([{ isHuge: false }]);
});
