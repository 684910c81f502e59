import { expect, test } from "vitest";
import { PROFILES } from "../base/profile.ts";
import { createPhys, type PhysConfig } from "./boot.ts";
import { movePageblock, takeBlock } from "./buddy.ts";
import { NO_PFN } from "./frame-table.ts";
import { MIGRATE, type PhysState, ZONE } from "./state.ts";
import {
  availablePages,
  boostWatermark,
  DEFAULT_LOWMEM_RESERVE_RATIO,
  defaultMinFreeKbytes,
  isWatermarkOk,
  lowmemReserves,
  pcpBatchOf,
  pcpHighMaxOf,
  pcpHighMinOf,
  recommendedMinFreePages,
  recommendMinFreeForThp,
  resetMinFree,
  setBoost,
  setMinFreeKbytes,
  totalReservePages,
  zoneWatermarks,
} from "./watermarks.ts";

const MIB = 1024 * 1024;
/** Managed pages of the zones of the live machine that the rules' figures come from. */
const DMA = 3840;
const DMA32 = 772918;
const NORMAL = 557056;

function memory(options: Partial<PhysConfig> = {}): PhysState {
  return createPhys({
    memoryBytes: 64 * MIB,
    nrCpus: 2,
    nrNodes: 1,
    profile: PROFILES[0],
    pcp: "off",
    ...options,
  });
}

test("PHYS-012 lowmem reserves are the live kernel's, digit for digit", () => {
  const managed = [DMA, DMA32, NORMAL, 0];
  const of = (kind: number) => lowmemReserves(managed, DEFAULT_LOWMEM_RESERVE_RATIO, kind);
  expect(of(ZONE.DMA)).toEqual([0, 3019, 5195, 5195]);
  expect(of(ZONE.DMA32)).toEqual([0, 0, 2176, 2176]);
  expect(of(ZONE.NORMAL)).toEqual([0, 0, 0, 0]);
  expect(of(ZONE.MOVABLE)).toEqual([0, 0, 0, 0]);
});

test("PHYS-012 an empty zone and a ratio of 0 keep nothing back", () => {
  expect(lowmemReserves([0, 5000, 5000, 0], [256, 256, 32, 0], ZONE.DMA)).toEqual([0, 0, 0, 0]);
  expect(lowmemReserves([5000, 5000, 5000, 0], [0, 1, 32, 0], ZONE.DMA)).toEqual([0, 0, 0, 0]);
});

test("PHYS-012 a Normal zone keeps back from requests that could use Movable", () => {
  expect(lowmemReserves([0, 0, 5000, 3200], [256, 256, 32, 0], ZONE.NORMAL)).toEqual([
    0, 0, 0, 100,
  ]);
});

test("PHYS-013 total reserve and available pages follow the watermarks", () => {
  const m = memory();
  const [dma, dma32] = m.zones;
  const reserve = dma.watermarks.high + dma.lowmemReserve[ZONE.DMA32] + dma32.watermarks.high;
  expect(totalReservePages(m)).toBe(reserve);
  const free = dma.managedPages + dma32.managedPages;
  expect(availablePages(m, 0)).toBe(free - reserve);
  // Of 10 reclaimable pages the smaller of their half and the low watermarks is kept back.
  expect(availablePages(m, 10)).toBe(free - reserve + 5);
});

test("PHYS-035 the batch of the live zones", () => {
  expect([DMA, DMA32, NORMAL].map(pcpBatchOf)).toEqual([1, 63, 63]);
  expect(pcpBatchOf(2 ** 28)).toBe(63);
  expect(pcpBatchOf(1)).toBe(1);
});

test("PHYS-036 the bounds of `high` are the live kernel's", () => {
  expect(pcpHighMinOf(8820, 2, 63)).toBe(4410);
  expect(pcpHighMaxOf(557056, 2, 63)).toBe(34816);
  expect(pcpHighMinOf(100, 2, 63)).toBe(4 * 63);
  expect(pcpHighMaxOf(100, 2, 63)).toBe(4 * 63);
});

test("PHYS-040 the default is the root of 16 times lowmem, within bounds", () => {
  // The live machine logged 19832 kB, so its lowmem was 24.58 million kB.
  expect(defaultMinFreeKbytes(19832 ** 2 / 16)).toBe(19832);
  expect(defaultMinFreeKbytes(19832 ** 2 / 16 - 1)).toBe(19831);
  expect(defaultMinFreeKbytes(1024 * 1024)).toBe(4096);
  expect(defaultMinFreeKbytes(100)).toBe(128);
  expect(defaultMinFreeKbytes(2 ** 40)).toBe(262144);
});

test("PHYS-041 the recommendation for THP with three zones is 67584 kB", () => {
  expect(recommendedMinFreePages(3, DMA + DMA32 + NORMAL)).toBe(16896);
  expect(16896 * 4).toBe(67584);
  expect(recommendedMinFreePages(3, 100_000)).toBe(5000);
});

test("PHYS-042 the recommendation raises, also over the user's value, and never lowers", () => {
  const m = memory({ memoryBytes: 8 * 1024 * MIB });
  const byDefault = m.sysctl.minFreeKbytes;
  setMinFreeKbytes(m, byDefault + 4);
  expect(recommendMinFreeForThp(m)).toBe(67584);
  expect(m.sysctl.minFreeKbytes).toBe(67584);

  setMinFreeKbytes(m, 100_000);
  expect(recommendMinFreeForThp(m)).toBe(100_000);
});

test("PHYS-042 without PMD-size modes the default returns, unless the user asked for more", () => {
  const m = memory({ memoryBytes: 8 * 1024 * MIB });
  recommendMinFreeForThp(m);
  const low = resetMinFree(m);
  expect(low).toBeLessThan(67584 / 4);

  setMinFreeKbytes(m, 50_000);
  recommendMinFreeForThp(m);
  expect(resetMinFree(m)).toBe(67584);
});

test("PHYS-043 watermarks are the live kernel's, digit for digit", () => {
  const lowmem = DMA + DMA32 + NORMAL;
  const of = (kind: number, managed: number) => zoneWatermarks(kind, managed, lowmem, 16896, 10);
  expect(of(ZONE.DMA, DMA)).toEqual({ min: 48, low: 60, high: 72, promo: 84 });
  expect(of(ZONE.DMA32, DMA32)).toEqual({ min: 9790, low: 12237, high: 14684, promo: 17131 });
  expect(of(ZONE.NORMAL, NORMAL)).toEqual({ min: 7056, low: 8820, high: 10584, promo: 12348 });
  expect(of(ZONE.MOVABLE, 0)).toEqual({ min: 32, low: 32, high: 32, promo: 32 });
});

test("PHYS-043 watermarks are the live kernel's also after more memory joined", () => {
  const normal = 1081344;
  const lowmem = DMA + DMA32 + normal;
  const of = (kind: number, managed: number) => zoneWatermarks(kind, managed, lowmem, 16896, 10);
  expect(of(ZONE.DMA, DMA)).toEqual({ min: 34, low: 42, high: 50, promo: 58 });
  expect(of(ZONE.DMA32, DMA32)).toEqual({ min: 7028, low: 8785, high: 10542, promo: 12299 });
  expect(of(ZONE.NORMAL, normal)).toEqual({ min: 9832, low: 12290, high: 14748, promo: 17206 });
  expect(pcpHighMinOf(8785, 2, 63)).toBe(4392);
  expect(pcpHighMaxOf(DMA32, 2, 63)).toBe(48307);
  expect([pcpHighMinOf(42, 2, 1), pcpHighMaxOf(DMA, 2, 1)]).toEqual([21, 240]);
});

test("PHYS-043 a scale factor of 10 % widens the distance of the watermarks", () => {
  const marks = zoneWatermarks(ZONE.NORMAL, 100_000, 100_000, 1000, 1000);
  expect(marks).toEqual({ min: 1000, low: 11_000, high: 21_000, promo: 31_000 });
});

test("PHYS-044 the boost grows by a pageblock up to 150 % of high, and counts in the fast path's mark", () => {
  const m = memory({ memoryBytes: 512 * MIB });
  const zone = m.zones[1];
  const most = Math.floor(zone.watermarks.high * 1.5);
  const before = zone.easyMarks[ZONE.MOVABLE];
  expect(boostWatermark(m, zone)).toBe(true);
  expect(zone.boost).toBe(512);
  expect(zone.easyMarks[ZONE.MOVABLE]).toBe(before + 512);
  for (let i = 0; i < 20; i++) boostWatermark(m, zone);
  expect(zone.boost).toBe(most);
  setBoost(zone, 0);
  expect(zone.easyMarks[ZONE.MOVABLE]).toBe(before);
});

test("PHYS-044 a zone of less than four pageblocks is not boosted", () => {
  const m = memory();
  const small = { ...m.zones[0], managedPages: 4 * 512 - 1 };
  expect(boostWatermark(m, small)).toBe(false);
  expect(small.boost).toBe(0);
});

test("PHYS-045 what stays after the request must exceed mark and reserve", () => {
  const zone = memory().zones[1];
  const exactly = zone.nrFree;
  expect(isWatermarkOk(zone, 0, exactly, ZONE.DMA32, "no HighAtomic")).toBe(false);
  expect(isWatermarkOk(zone, 0, exactly - 1, ZONE.DMA32, "no HighAtomic")).toBe(true);
  expect(isWatermarkOk(zone, 9, exactly - 511, ZONE.DMA32, "no HighAtomic")).toBe(false);
  expect(isWatermarkOk(zone, 9, exactly - 512, ZONE.DMA32, "no HighAtomic")).toBe(true);
  zone.lowmemReserve[ZONE.NORMAL] = 10;
  expect(isWatermarkOk(zone, 0, exactly - 10, ZONE.NORMAL, "no HighAtomic")).toBe(false);
  expect(isWatermarkOk(zone, 0, exactly - 11, ZONE.NORMAL, "no HighAtomic")).toBe(true);
});

test("PHYS-045 a high order needs a block that is large enough", () => {
  const m = memory({ memoryBytes: 32 * MIB });
  const zone = m.zones[1];
  const is = (order: number) => isWatermarkOk(zone, order, 0, ZONE.DMA32, "no HighAtomic");
  expect(is(10)).toBe(true);
  while (takeBlock(m, zone, 10, MIGRATE.MOVABLE) !== NO_PFN);
  expect(is(0)).toBe(false);
});

test("PHYS-045 HighAtomic blocks count only for requests that may use them", () => {
  const m = memory({ memoryBytes: 32 * MIB });
  const zone = m.zones[1];
  for (let pfn = 4096; pfn < 8192; pfn += 512) movePageblock(m, zone, pfn, MIGRATE.HIGHATOMIC);
  expect(isWatermarkOk(zone, 0, 0, ZONE.DMA32, "no HighAtomic")).toBe(false);
  expect(isWatermarkOk(zone, 9, 0, ZONE.DMA32, "may use HighAtomic")).toBe(true);
  expect(isWatermarkOk(zone, 9, 0, ZONE.DMA32, "no HighAtomic")).toBe(false);
});
