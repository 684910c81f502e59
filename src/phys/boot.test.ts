import { expect, test } from "vitest";
import { VMSTAT } from "../base/counters.ts";
import { PROFILES } from "../base/profile.ts";
import { allocFolio, GFP_HIGHUSER_MOVABLE } from "./alloc.ts";
import { createPhys, type PhysConfig } from "./boot.ts";
import { SECTION_PAGES, zoneOf } from "./buddy.ts";
import { checkPhys } from "./check.ts";
import { describeFrame } from "./describe.ts";
import { PG } from "./frame-table.ts";
import { type PhysState, ZONE_NAMES } from "./state.ts";

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;

function memory(options: Partial<PhysConfig>): PhysState {
  return createPhys({
    memoryBytes: 8 * GIB,
    nrCpus: 4,
    nrNodes: 1,
    profile: PROFILES[0],
    pcp: "on",
    ...options,
  });
}

function layout(m: PhysState): string[] {
  return m.zones.map(
    (zone) => `${zone.node} ${ZONE_NAMES[zone.kind]} ${zone.startPfn}+${zone.spannedPages}`,
  );
}

test("PHYS-010 zones of a node by frame", () => {
  expect(layout(memory({}))).toEqual([
    "0 DMA 0+4096",
    "0 DMA32 4096+1044480",
    "0 Normal 1048576+1048576",
  ]);
  expect(layout(memory({ memoryBytes: 64 * MIB }))).toEqual(["0 DMA 0+4096", "0 DMA32 4096+12288"]);
  expect(layout(memory({ memoryBytes: 16 * MIB }))).toEqual(["0 DMA 0+4096"]);
});

test("PHYS-010 nodes share memory in equal parts; the top of each can be Movable", () => {
  expect(layout(memory({ nrNodes: 2, movableBytesPerNode: GIB }))).toEqual([
    "0 DMA 0+4096",
    "0 DMA32 4096+782336",
    "0 Movable 786432+262144",
    "1 Normal 1048576+786432",
    "1 Movable 1835008+262144",
  ]);
  expect([...memory({ nrNodes: 2 }).nodeOfCpu]).toEqual([0, 0, 1, 1]);
});

test("everything but frame 0 is free at boot, also a terabyte of it, and little of that is listed", () => {
  const m = memory({ memoryBytes: 1024 * GIB, nrCpus: 64, nrNodes: 4 });
  expect(m.vmstat[VMSTAT.nr_free_pages]).toBe(2 ** 28 - 1);
  expect(m.zones.reduce((sum, zone) => sum + zone.managedPages, 0)).toBe(2 ** 28 - 1);
  const untaken = m.zones.reduce((sum, zone) => sum + zone.untakenEnd - zone.untakenStart, 0);
  expect(2 ** 28 - untaken).toBe(1024);
  expect(checkPhys(m)).toEqual([]);
});

test("memory is taken a section at a time, from the zone's start", () => {
  const m = memory({});
  const normal = m.zones[2];
  const first = allocFolio(m, 0, GFP_HIGHUSER_MOVABLE, 0);
  expect(first).toBe(normal.startPfn);
  expect(normal.untakenStart).toBe(normal.startPfn + SECTION_PAGES);
  expect(m.frames.flags[normal.untakenStart]).toBe(0);
  for (let i = 0; i < SECTION_PAGES / 512; i++) allocFolio(m, 9, GFP_HIGHUSER_MOVABLE, 0);
  expect(normal.untakenStart).toBe(normal.startPfn + 2 * SECTION_PAGES);
  expect(checkPhys(m)).toEqual([]);
});

test.each([
  ["not a multiple of 4 MiB", { memoryBytes: 17 * MIB }],
  ["less than 16 MiB", { memoryBytes: 8 * MIB }],
  ["a node without memory", { memoryBytes: 64 * MIB, nrNodes: 2 }],
  ["no CPU", { nrCpus: 0 }],
])("a machine with %s is refused", (_, options) => {
  expect(() => memory(options)).toThrow();
});

test("a row in words", () => {
  const m = memory({ pcp: "off" });
  const pfn = allocFolio(m, 2, GFP_HIGHUSER_MOVABLE, 0);
  m.frames.flags[pfn] = PG.ANON | PG.DIRTY;
  m.frames.owner[pfn] = 4;
  m.frames.indexRegion[pfn] = 2;
  m.frames.indexPte[pfn] = 3;
  const place = "Normal on node 0, Movable pageblock";
  expect(describeFrame(m, pfn)).toBe(
    `pfn ${pfn}: folio of order 2, 1 references, anon dirty, owner 4 at page 1027; ${place}`,
  );
  expect(describeFrame(m, pfn + 1)).toBe(
    `pfn ${pfn + 1}: page 1 of the folio at ${pfn}, 1 references; ${place}`,
  );
  expect(describeFrame(m, pfn + 4)).toBe(`pfn ${pfn + 4}: free block of order 2; ${place}`);
  const { untakenStart } = zoneOf(m, pfn);
  expect(describeFrame(m, untakenStart)).toBe(`pfn ${untakenStart}: free, never taken; ${place}`);
  expect(describeFrame(m, 0)).toContain("reserved");
});

test("the check finds what is wrong", () => {
  const breakages: ((m: PhysState, pfn: number) => void)[] = [
    (m, pfn) => m.frames.refcount.fill(0, pfn, pfn + 1),
    (m, pfn) => m.frames.order.fill(0, pfn + 1, pfn + 2),
    (m, pfn) => m.frames.refcount.fill(1, pfn + 1, pfn + 2),
    (m, pfn) => m.frames.flags.fill(PG.LRU, pfn, pfn + 1),
    (m, pfn) => m.frames.memcg.fill(3, pfn, pfn + 1),
    (m, pfn) => m.frames.tag.fill(1, pfn + 4, pfn + 5),
    (m, pfn) => m.frames.flags.fill(0, pfn + 4, pfn + 5),
    (m, pfn) => m.links.next.fill(pfn, pfn + 8, pfn + 9),
    (m) => m.zones[1].nrFree--,
    (m) => m.vmstat[VMSTAT.nr_free_pages]++,
    (m) => m.vmstat[VMSTAT.nr_active_file]++,
    (m) => m.zones[1].freeBlocks[1]++,
    (m) => m.zones[1].pcps[0].count++,
    (m) => m.zones[1].lruPages[0]++,
    (m) => m.pageblockType.fill(0, 8, 9),
    (m) => m.zones[1].easyMarks[0]++,
  ];
  for (const [i, breakIt] of breakages.entries()) {
    const m = memory({ memoryBytes: 64 * MIB, pcp: "off" });
    const pfn = allocFolio(m, 2, GFP_HIGHUSER_MOVABLE, 0);
    expect(checkPhys(m)).toEqual([]);
    breakIt(m, pfn);
    expect(checkPhys(m), `breakage ${i}`).not.toEqual([]);
  }
});
