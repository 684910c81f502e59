import { expect, test } from "vitest";
import { VMSTAT, VMSTAT_NAMES, type VmstatName } from "../base/counters.ts";
import { listNext } from "../base/int-list.ts";
import { PROFILES } from "../base/profile.ts";
import { allocFolio, GFP_HIGHUSER_MOVABLE, GFP_TRANSHUGE, putFolio } from "./alloc.ts";
import { createPhys } from "./boot.ts";
import { checkPhys } from "./check.ts";
import { PG } from "./frame-table.ts";
import {
  lruActivate,
  lruAdd,
  lruDeactivate,
  lruDel,
  lruLazyFree,
  lruListNumber,
  lruOldest,
  lruRefresh,
  lruRotate,
  lruSetEvictable,
  lruSetSwapBacked,
  lruSetUnevictable,
  lruSize,
  lruSplit,
} from "./lru.ts";
import { chargeFolio, createMemcg } from "./memcg.ts";
import { LRU, type PhysState } from "./state.ts";

function memory(): PhysState {
  return createPhys({
    memoryBytes: 64 * 1024 * 1024,
    nrCpus: 1,
    nrNodes: 1,
    profile: PROFILES[0],
    pcp: "off",
  });
}

function anon(m: PhysState, order: number): number {
  const pfn = allocFolio(m, order, order === 0 ? GFP_HIGHUSER_MOVABLE : GFP_TRANSHUGE, 0);
  m.frames.flags[pfn] = PG.ANON | PG.SWAPBACKED;
  return pfn;
}

/** Every vmstat counter that `action` changes, and by how much. */
function deltas(m: PhysState, action: () => void): Partial<Record<VmstatName, number>> {
  const before = Float64Array.from(m.vmstat);
  action();
  const changed = VMSTAT_NAMES.filter((name) => m.vmstat[VMSTAT[name]] !== before[VMSTAT[name]]);
  return Object.fromEntries(
    changed.map((name) => [name, m.vmstat[VMSTAT[name]] - before[VMSTAT[name]]]),
  );
}

/** Folios of a list from the head. */
function members(m: PhysState, list: number): number[] {
  const rows: number[] = [];
  const sentinel = m.links.firstSentinel + lruListNumber(m, 0, 0, list);
  for (let row = m.links.next[sentinel]; row >= 0 && row !== sentinel; ) {
    rows.push(row);
    row = listNext(m.links, row);
  }
  return rows;
}

test("PHYS-085 a folio that is not swap-backed is on a file list", () => {
  const m = memory();
  const pfn = allocFolio(m, 0, GFP_HIGHUSER_MOVABLE, 0);
  expect(deltas(m, () => lruAdd(m, pfn))).toEqual({ nr_inactive_file: 1 });
  expect(deltas(m, () => lruActivate(m, pfn))).toEqual({
    nr_inactive_file: -1,
    nr_active_file: 1,
    pgactivate: 1,
  });
  expect(checkPhys(m)).toEqual([]);
});

test("PHYS-086 a huge folio is one entry and 512 pages in every size", () => {
  const m = memory();
  const pfn = anon(m, 9);
  expect(deltas(m, () => lruAdd(m, pfn))).toEqual({ nr_inactive_anon: 512 });
  expect(members(m, LRU.INACTIVE_ANON)).toEqual([pfn]);
  expect(lruSize(m, 0, 0, LRU.INACTIVE_ANON)).toBe(512);
  expect(m.zones[1].lruPages[LRU.INACTIVE_ANON]).toBe(512);
  expect(deltas(m, () => lruDel(m, pfn))).toEqual({ nr_inactive_anon: -512 });
});

test("PHYS-087 a new anonymous folio starts inactive and not referenced, in front of older ones", () => {
  const m = memory();
  const [first, second] = [anon(m, 0), anon(m, 0)];
  lruAdd(m, first);
  lruAdd(m, second);
  expect(members(m, LRU.INACTIVE_ANON)).toEqual([second, first]);
  expect(lruOldest(m, 0, 0, LRU.INACTIVE_ANON)).toBe(first);
  expect(m.frames.flags[first] & (PG.ACTIVE | PG.REFERENCED)).toBe(0);
});

test("PHYS-088 additions show in the sizes at once, small folios as well", () => {
  const m = memory();
  for (let nr = 1; nr <= 40; nr++) {
    lruAdd(m, anon(m, 0));
    expect(m.vmstat[VMSTAT.nr_inactive_anon]).toBe(nr);
  }
});

test("PHYS-089 a locked huge folio moves to the unevictable list and back", () => {
  const m = memory();
  const pfn = anon(m, 9);
  lruAdd(m, pfn);
  expect(deltas(m, () => lruSetUnevictable(m, pfn))).toEqual({
    nr_inactive_anon: -512,
    nr_unevictable: 512,
  });
  expect(members(m, LRU.UNEVICTABLE)).toEqual([pfn]);
  expect(deltas(m, () => lruActivate(m, pfn))).toEqual({});
  expect(deltas(m, () => lruSetEvictable(m, pfn))).toEqual({
    nr_inactive_anon: 512,
    nr_unevictable: -512,
  });
});

test("PHYS-105 lazily freed folios leave the anonymous list for inactive_file", () => {
  const m = memory();
  const pfn = anon(m, 9);
  m.frames.flags[pfn] |= PG.ACTIVE | PG.DIRTY | PG.REFERENCED;
  lruAdd(m, pfn);
  expect(deltas(m, () => lruLazyFree(m, pfn))).toEqual({
    nr_active_anon: -512,
    nr_inactive_file: 512,
    pglazyfree: 512,
  });
  expect(m.frames.flags[pfn]).toBe(PG.ANON | PG.LRU);
  expect(deltas(m, () => lruSetSwapBacked(m, pfn))).toEqual({
    nr_inactive_file: -512,
    nr_inactive_anon: 512,
  });
});

test("PHYS-105 deactivation counts pages and moves to the inactive list", () => {
  const m = memory();
  const pfn = anon(m, 9);
  m.frames.flags[pfn] |= PG.ACTIVE;
  lruAdd(m, pfn);
  expect(deltas(m, () => lruDeactivate(m, pfn))).toEqual({
    nr_active_anon: -512,
    nr_inactive_anon: 512,
    pgdeactivate: 512,
  });
  expect(deltas(m, () => lruDeactivate(m, pfn))).toEqual({});
});

test("refreshing moves to the head, rotating to the tail", () => {
  const m = memory();
  const [a, b, c] = [anon(m, 0), anon(m, 0), anon(m, 0)];
  for (const pfn of [a, b, c]) lruAdd(m, pfn);
  lruRefresh(m, a);
  expect(members(m, LRU.INACTIVE_ANON)).toEqual([a, c, b]);
  lruRotate(m, c);
  expect(members(m, LRU.INACTIVE_ANON)).toEqual([a, b, c]);
});

test("the pieces of a split folio follow its head on the list and no size changes", () => {
  const m = memory();
  const [older, pfn, newer] = [anon(m, 0), anon(m, 4), anon(m, 0)];
  for (const each of [older, pfn, newer]) lruAdd(m, each);
  const split = () => {
    for (let piece = pfn; piece < pfn + 16; piece++) {
      m.frames.order[piece] = 2;
      if (piece % 4 === 0) m.frames.refcount[piece] = 1;
      if (piece % 4 === 0 && piece !== pfn) m.frames.flags[piece] = PG.ANON | PG.SWAPBACKED;
    }
    lruSplit(m, pfn, 4, 2);
  };
  expect(deltas(m, split)).toEqual({});
  expect(members(m, LRU.INACTIVE_ANON)).toEqual([newer, pfn, pfn + 4, pfn + 8, pfn + 12, older]);
  expect(checkPhys(m)).toEqual([]);
});

test("a folio is on the list of the group it is charged to, and leaves it when freed", () => {
  const m = memory();
  const group = createMemcg(m, "a", 0);
  const pfn = anon(m, 0);
  chargeFolio(m, pfn, group);
  lruAdd(m, pfn);
  expect(lruSize(m, group, 0, LRU.INACTIVE_ANON)).toBe(1);
  expect(lruSize(m, 0, 0, LRU.INACTIVE_ANON)).toBe(0);
  expect(checkPhys(m)).toEqual([]);
  expect(deltas(m, () => putFolio(m, pfn))).toEqual({
    nr_inactive_anon: -1,
    pgfree: 1,
    nr_free_pages: 1,
  });
  expect(lruSize(m, group, 0, LRU.INACTIVE_ANON)).toBe(0);
});
