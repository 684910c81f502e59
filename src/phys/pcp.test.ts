import { expect, test } from "vitest";
import { VMSTAT } from "../base/counters.ts";
import { PROFILES } from "../base/profile.ts";
import {
  allocFolio,
  freeFolio,
  GFP_HIGHUSER_MOVABLE,
  GFP_KERNEL,
  GFP_TRANSHUGE,
  putFolio,
} from "./alloc.ts";
import { createPhys } from "./boot.ts";
import { freeBlockCount } from "./buddy.ts";
import { checkPhys } from "./check.ts";
import { PG } from "./frame-table.ts";
import { freeFolios } from "./free-batch.ts";
import { lruAdd } from "./lru.ts";
import { chargeFolio, createMemcg } from "./memcg.ts";
import { decayPcps, drainAll, isPcpOrder, pcpListIndex, pcpListOrder } from "./pcp.ts";
import { MIGRATE, NR_ORDERS, type PhysState } from "./state.ts";

const { UNMOVABLE, MOVABLE, RECLAIMABLE } = MIGRATE;

/** The only zone that is used is DMA32 of 2 GiB less 16 MiB: batch 63. */
function memory(nrCpus = 1): PhysState {
  return createPhys({
    memoryBytes: 2 ** 31,
    nrCpus,
    nrNodes: 1,
    profile: PROFILES[0],
    pcp: "on",
  });
}

function freeBlocksOfOrder(m: PhysState, order: number): number {
  return m.zones.reduce((sum, zone) => sum + freeBlockCount(zone, order, MOVABLE), 0);
}

test("PHYS-033 orders 0 to 3 and 9 have lists, 14 in all", () => {
  const orders = Array.from({ length: NR_ORDERS }, (_, order) => order);
  expect(orders.filter(isPcpOrder)).toEqual([0, 1, 2, 3, 9]);
  const indices = [0, 1, 2, 3, 9].flatMap((order) =>
    [UNMOVABLE, MOVABLE, RECLAIMABLE].map((type) => pcpListIndex(order, type)),
  );
  expect(indices).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 12]);
  expect(Array.from({ length: 14 }, (_, index) => pcpListOrder(index))).toEqual([
    0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 9, 9,
  ]);
});

test("PHYS-033 orders 4 to 8 and 10 go straight to the buddy", () => {
  const m = memory();
  for (const order of [4, 8, 10]) {
    const before = m.vmstat[VMSTAT.nr_free_pages];
    const pfn = allocFolio(m, order, GFP_TRANSHUGE, 0);
    expect(m.vmstat[VMSTAT.nr_free_pages]).toBe(before - 2 ** order);
    putFolio(m, pfn);
    expect(m.vmstat[VMSTAT.nr_free_pages]).toBe(before);
  }
});

test("PHYS-034 a freed huge page counts 512 on its CPU's list and is not seen by the buddy", () => {
  const m = memory();
  const pcp = m.zones[1].pcps[0];
  const pfn = allocFolio(m, 9, GFP_TRANSHUGE, 0);
  const count = pcp.count;
  const free = m.vmstat[VMSTAT.nr_free_pages];
  const blocks = freeBlocksOfOrder(m, 9) + 2 * freeBlocksOfOrder(m, 10);

  putFolio(m, pfn);

  expect(pcp.count).toBe(count + 512);
  expect(m.vmstat[VMSTAT.nr_free_pages]).toBe(free);
  expect(freeBlocksOfOrder(m, 9) + 2 * freeBlocksOfOrder(m, 10)).toBe(blocks);
  expect(allocFolio(m, 9, GFP_TRANSHUGE, 0)).toBe(pfn);
  expect(pcp.count).toBe(count);
});

test("PHYS-034 a freed huge page merges when the lists are drained", () => {
  const m = memory();
  const free = m.vmstat[VMSTAT.nr_free_pages];
  putFolio(m, allocFolio(m, 9, GFP_TRANSHUGE, 0));
  drainAll(m);
  expect(m.vmstat[VMSTAT.nr_free_pages]).toBe(free);
  expect(freeBlocksOfOrder(m, 9)).toBe(1); // the one that frame 0 keeps from merging
});

test("PHYS-037 refills double from one batch to 32, and a free halves the next one", () => {
  const m = memory();
  const zone = m.zones[1];
  const pcp = zone.pcps[0];
  expect(zone.pcpBatch).toBe(63);
  pcp.high = zone.pcpHighMax;
  const refills: number[] = [];
  const held: number[] = [];
  while (refills.length < 7) {
    const before = pcp.count;
    held.push(allocFolio(m, 0, GFP_HIGHUSER_MOVABLE, 0));
    if (before === 0) refills.push(pcp.count + 1);
  }
  expect(refills).toEqual([1, 2, 4, 8, 16, 32, 32].map((factor) => factor * 63));
  expect(pcp.allocFactor).toBe(5);
  putFolio(m, held[0]);
  expect(pcp.allocFactor).toBe(2);
});

test("PHYS-037 blocks of higher orders come two at least, a batch's worth at most", () => {
  const m = memory();
  const pcp = m.zones[1].pcps[0];
  for (const [order, nrBlocks] of [
    [1, 31],
    [2, 15],
    [3, 7],
    [9, 2],
  ]) {
    allocFolio(m, order, GFP_TRANSHUGE, 0);
    expect(pcp.lists[pcpListIndex(order, MOVABLE)].size).toBe(nrBlocks - 1);
  }
});

test("PHYS-037 at `high` between a batch and `high` less a batch goes back", () => {
  const m = memory();
  const zone = m.zones[1];
  const pcp = zone.pcps[0];
  const held = Array.from({ length: 3000 }, () => allocFolio(m, 0, GFP_HIGHUSER_MOVABLE, 0));
  drainAll(m);
  pcp.high = 1000;
  pcp.freeCount = 0;
  for (const pfn of held.slice(0, 999)) putFolio(m, pfn);
  expect(pcp.count).toBe(999);
  putFolio(m, held[999]);
  expect(pcp.count).toBe(63);
});

test("PHYS-036 `high` grows with refills up to its bound and decays down to the other", () => {
  const m = memory();
  const zone = m.zones[1];
  const pcp = zone.pcps[0];
  expect(pcp.high).toBe(zone.pcpHighMin);
  allocFolio(m, 0, GFP_HIGHUSER_MOVABLE, 0);
  expect(pcp.high).toBe(zone.pcpHighMin + 63);
  for (let i = 0; i < 60_000; i++) allocFolio(m, 0, GFP_HIGHUSER_MOVABLE, 0);
  expect(pcp.high).toBeLessThanOrEqual(zone.pcpHighMax);
  for (let i = 0; i < 100; i++) decayPcps(m);
  expect(pcp.high).toBe(zone.pcpHighMin);
  expect(pcp.count).toBeLessThanOrEqual(pcp.high);
  expect(checkPhys(m)).toEqual([]);
});

test("PHYS-038 pgalloc and pgfree count base pages at the interface, not at the refill", () => {
  const m = memory();
  const small = allocFolio(m, 0, GFP_HIGHUSER_MOVABLE, 0);
  const huge = allocFolio(m, 9, GFP_TRANSHUGE, 0);
  expect(m.vmstat[VMSTAT.pgalloc_dma32]).toBe(513);
  expect(m.vmstat[VMSTAT.pgfree]).toBe(0);
  putFolio(m, small);
  putFolio(m, huge);
  drainAll(m);
  expect(m.vmstat[VMSTAT.pgfree]).toBe(513);
});

test("each CPU has lists of its own", () => {
  const m = memory(2);
  const zone = m.zones[1];
  const pfn = allocFolio(m, 0, GFP_HIGHUSER_MOVABLE, 0);
  m.cpu = 1;
  putFolio(m, pfn);
  expect(zone.pcps.map((pcp) => pcp.count)).toEqual([62, 1]);
  expect(allocFolio(m, 0, GFP_HIGHUSER_MOVABLE, 0)).toBe(pfn);
  m.cpu = 0;
  expect(allocFolio(m, 0, GFP_KERNEL, 0)).not.toBe(pfn);
  expect(checkPhys(m)).toEqual([]);
});

test("a page handed out again is the one freed last, and its row is clean", () => {
  const m = memory();
  const [first, second] = [0, 1].map(() => allocFolio(m, 0, GFP_HIGHUSER_MOVABLE, 0));
  for (const pfn of [first, second]) {
    m.frames.flags[pfn] = PG.ANON | PG.DIRTY;
    m.frames.owner[pfn] = 3;
    m.frames.tag[pfn] = 7;
    putFolio(m, pfn);
  }
  const again = allocFolio(m, 0, GFP_HIGHUSER_MOVABLE, 0);
  expect(again).toBe(second);
  const { flags, owner, tag, refcount } = m.frames;
  expect([flags[again], owner[again], tag[again], refcount[again]]).toEqual([0, 0, 0, 1]);
});

test("folios freed together leave the same state as folios freed one by one", () => {
  for (const pcp of ["on", "off"] as const) {
    const [one, all] = [0, 1].map(() =>
      createPhys({ memoryBytes: 2 ** 26, nrCpus: 1, nrNodes: 1, profile: PROFILES[0], pcp }),
    );
    const [held] = [one, all].map((m) => {
      const group = createMemcg(m, "a", 0);
      return Int32Array.from({ length: 5000 }, (_, i) => {
        const pfn = allocFolio(m, i % 100 === 50 ? 2 : 0, GFP_HIGHUSER_MOVABLE, 0);
        if (i % 3000 > 2000) chargeFolio(m, pfn, group);
        m.frames.flags[pfn] = PG.ANON | PG.SWAPBACKED | (i % 1000 > 900 ? PG.ACTIVE : 0);
        m.frames.owner[pfn] = 5;
        m.frames.tag[pfn] = i;
        if (i % 700 > 10) lruAdd(m, pfn);
        m.frames.refcount[pfn] = 0;
        return pfn;
      });
    });
    for (const pfn of held) freeFolio(one, pfn);
    for (let i = 0; i < 5000; i += 500) freeFolios(all, held.subarray(i, i + 500), 500);
    expect(checkPhys(all)).toEqual([]);
    expect(all.vmstat).toEqual(one.vmstat);
    expect(all.memcgs).toEqual(one.memcgs);
    expect(all.frames.tag).toEqual(one.frames.tag);
    for (const m of [one, all]) drainAll(m);
    expect(all.zones.map((zone) => zone.freeBlocks)).toEqual(
      one.zones.map((zone) => zone.freeBlocks),
    );
  }
});

test("a batch stops at a folio that is referenced or mapped", () => {
  const m = memory();
  const [first, second] = [0, 1].map(() => allocFolio(m, 0, GFP_HIGHUSER_MOVABLE, 0));
  m.frames.refcount[first] = 0;
  expect(() => freeFolios(m, Int32Array.of(first, second), 2)).toThrow("referenced");
  m.frames.refcount[second] = 0;
  m.frames.mapcount[second] = 1;
  expect(() => freeFolios(m, Int32Array.of(second), 1)).toThrow("mapped");
});
