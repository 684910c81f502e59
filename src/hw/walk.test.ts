/**
 * Walks: the published reference counts, and what each page-walk cache saves.
 */

import { expect, test } from "vitest";
import { ENTRY } from "../mm/page-tables.ts";
import type { Geometry } from "./geometry.ts";
import type { HostPage } from "./host-walk.ts";
import { createPlainTables, mapHuge, mapSmall, pmdSlot, pteSlot } from "./plain-tables.ts";
import { geometryByName } from "./presets.ts";
import { createTableCaches } from "./table-cache.ts";
import {
  coldWalkReferences,
  createWalker,
  dropWalkCaches,
  nestedReferences,
  walk,
} from "./walk.ts";

const GENERIC = geometryByName("generic");
const REGION = 0x3ff1234;

function walkerOf(geometry: Geometry, hostPage: HostPage | null) {
  return createWalker(geometry, createTableCaches(geometry, 1)[0], hostPage, "kept");
}

function mapped() {
  const plain = createPlainTables(32, 5000);
  mapSmall(plain, REGION, 17, 777);
  mapHuge(plain, REGION + 1, 1024);
  return plain;
}

const COLD_WALKS = [
  ["a 4K page of bare metal", null, REGION, 4],
  ["a 2M page of bare metal", null, REGION + 1, 3],
  ["a 4K page on 4K host pages", "4k", REGION, 24],
  ["a 4K page on 2M host pages", "2m", REGION, 19],
  ["a 2M page on 4K host pages", "4k", REGION + 1, 19],
  ["a 2M page on 2M host pages", "2m", REGION + 1, 15],
  ["a 4K page on 1G host pages", "1g", REGION, 14],
] as const;

for (const [what, hostPage, region, nrReferences] of COLD_WALKS) {
  test(`PHYS-170 PHYS-171 ANON-292 ${what} is walked cold with ${nrReferences} references`, () => {
    const plain = mapped();
    const w = walkerOf(GENERIC, hostPage);

    const slot = walk(w, plain.tables, plain.root, 1, region, 17);

    expect(slot).toBeGreaterThan(0);
    expect([w.nrReferences, w.nrColdReferences]).toEqual([nrReferences, nrReferences]);
  });
}

test("PHYS-170 PHYS-171 the arithmetic of walks without caches, also for other depths", () => {
  expect([coldWalkReferences(4, "4k"), coldWalkReferences(4, "2m")]).toEqual([4, 3]);
  expect([coldWalkReferences(4, "1g"), coldWalkReferences(5, "4k")]).toEqual([2, 5]);
  expect([coldWalkReferences(3, "4k"), coldWalkReferences(3, "1g")]).toEqual([3, 1]);
  expect([nestedReferences(4, 4), nestedReferences(4, 3), nestedReferences(3, 4)]).toEqual([
    24, 19, 19,
  ]);
  expect(nestedReferences(3, 3)).toBe(15);
});

test("without any cache every walk, native or nested, costs its cold references again", () => {
  const none = { nrEntries: 0, nrWays: 0 };
  const geometry = {
    ...GENERIC,
    walkCaches: { pgd: none, pud: none, pmd: none },
    nestedTlb: none,
  };
  const plain = mapped();
  for (const [hostPage, expected] of [
    [null, 4],
    ["4k", 24],
    ["2m", 19],
  ] as const) {
    const w = walkerOf(geometry, hostPage);
    for (let round = 0; round < 3; round++) {
      walk(w, plain.tables, plain.root, 1, REGION, 17);
      expect(w.nrReferences).toBe(expected);
    }
  }
});

test("PHYS-173 what the walk caches hold need not be read again: 1, 2, 3 or 4 references by distance", () => {
  const plain = createPlainTables(64, 5000);
  for (const region of [0, 1, 512, 2 ** 18]) mapSmall(plain, region, 3, 9);
  mapSmall(plain, 0, 4, 10);
  const w = walkerOf(GENERIC, null);
  const references = (region: number, pteIndex: number) => {
    walk(w, plain.tables, plain.root, 1, region, pteIndex);
    return w.nrReferences;
  };

  expect(references(0, 3)).toBe(4);
  expect(references(0, 4)).toBe(1);
  expect(references(1, 3)).toBe(2);
  expect(references(512, 3)).toBe(3);
  expect(references(2 ** 18, 3)).toBe(4);
  expect(references(0, 3)).toBe(1);
});

test("PHYS-173 a walk cache holds as many entries as its geometry says, neighbours in different sets", () => {
  const { nrEntries } = GENERIC.walkCaches.pmd;
  const plain = createPlainTables(64, 5000);
  for (let i = 0; i < nrEntries; i++) mapSmall(plain, REGION + i, 3, 9);
  const w = walkerOf(GENERIC, null);
  const references = () =>
    Array.from({ length: nrEntries }, (_, i) => {
      walk(w, plain.tables, plain.root, 1, REGION + i, 3);
      return w.nrReferences;
    });
  references();

  expect(references()).toEqual(new Array(nrEntries).fill(1));
});

test("walk caches keep address spaces apart and forget one when it is dropped", () => {
  const plain = mapped();
  const w = walkerOf(GENERIC, null);
  const references = (asid: number) => {
    walk(w, plain.tables, plain.root, asid, REGION, 17);
    return w.nrReferences;
  };

  expect([references(1), references(1), references(2)]).toEqual([4, 1, 4]);
  dropWalkCaches(w, 1);
  expect([references(2), references(1)]).toEqual([1, 4]);
});

test("a walk ends at the first entry that is not present or not accessible", () => {
  const plain = mapped();
  const w = walkerOf(GENERIC, null);
  const result = (region: number, pteIndex: number) => {
    const slot = walk(w, plain.tables, plain.root, 9, region, pteIndex);
    return [slot, w.lastLevel];
  };

  expect(result(0, 0)).toEqual([-1, 4]);
  expect(result(REGION - 2 ** 17, 0)).toEqual([-1, 3]);
  expect(result(REGION + 2, 0)).toEqual([-1, 2]);
  expect(result(REGION, 16)).toEqual([-1, 1]);
  plain.tables.flags[pteSlot(plain, REGION, 17)] |= ENTRY.PROTNONE;
  expect(result(REGION, 17)).toEqual([-1, 1]);
  // A huge entry on its way to a table is marked huge but not present (ANON-173).
  plain.tables.flags[pmdSlot(plain, REGION + 1)] = ENTRY.HUGE;
  expect(result(REGION + 1, 0)).toEqual([-1, 2]);
});

test("a cold walk takes a memory access per reference, a repeated one the nearest cache's latency", () => {
  const plain = mapped();
  const w = walkerOf(GENERIC, null);

  walk(w, plain.tables, plain.root, 1, REGION, 17);
  expect(w.cycles).toBe(GENERIC.walkStartCycles + 4 * 270);
  walk(w, plain.tables, plain.root, 1, REGION, 17);
  expect(w.cycles).toBe(GENERIC.walkStartCycles + 14);
});

test("a nested walk that repeats costs one guest reference, as the nested TLB knows both frames", () => {
  const plain = mapped();
  const w = walkerOf(GENERIC, "4k");
  walk(w, plain.tables, plain.root, 1, REGION, 17);

  walk(w, plain.tables, plain.root, 1, REGION, 17);

  expect(w.nrReferences).toBe(1);
});
