import { expect, test } from "vitest";
import { VMSTAT_NAMES } from "../base/counters.ts";
import { createMachine } from "../machine/machine.ts";
import { machine, part } from "../machine/test-kit.ts";
import { MIGRATE } from "../phys/state.ts";
import {
  buddyinfoText,
  freeBlocksOf,
  freeInWholePageblocks,
  pagetypeinfoText,
} from "./buddyinfo.ts";
import { isModelled, VMSTAT_BLOCKS, vmstatText } from "./vmstat.ts";
import { zoneinfoText } from "./zoneinfo.ts";

const MIB = 2 ** 20;

function valuesOf(text: string): Map<string, number> {
  const lines = text.split("\n").slice(0, -1);
  return new Map(lines.map((line) => [line.split(" ")[0], Number(line.split(" ")[1])]));
}

test("PROC-070 vmstat: `name value` per line, and no negative value", () => {
  const t = machine();
  t.m.vmstat[0] = -5;
  const text = vmstatText(t.m);
  for (const line of text.split("\n").slice(0, -1)) expect(line).toMatch(/^[a-z0-9_]+ \d+$/);
  expect(text.split("\n")).toHaveLength(193);
  expect(text.endsWith("\nnr_unstable 0\n")).toBe(true);
});

test("PROC-070 THP counters of vmstat are in huge pages, the rest in pages", () => {
  const t = machine();
  t.mapHuge(2);
  const values = valuesOf(vmstatText(t.m));
  const names = ["nr_anon_transparent_hugepages", "nr_anon_pages", "nr_inactive_anon"];
  expect(names.map((name) => values.get(name))).toEqual([2, 1024, 1024]);
});

test("PROC-071 the blocks follow each other: zone, numa, node, thresholds, memmap, events", () => {
  const names = [...valuesOf(vmstatText(machine().m)).keys()];
  expect(names).toEqual(Object.values(VMSTAT_BLOCKS).flat());
  expect(names.slice(0, 2)).toEqual(["nr_free_pages", "nr_free_pages_blocks"]);
  expect(names[11]).toBe("numa_hit");
  expect(names[17]).toBe("nr_inactive_anon");
  expect(names.slice(68, 73)).toEqual([
    ...["nr_dirty_threshold", "nr_dirty_background_threshold"],
    ...["nr_memmap_pages", "nr_memmap_boot_pages", "pgpgin"],
  ]);
});

test("PROC-072 every counter that the model keeps has a line", () => {
  const names: readonly string[] = Object.values(VMSTAT_BLOCKS).flat();
  expect(VMSTAT_NAMES.filter((name) => !names.includes(name))).toEqual([]);
  expect(names.filter((name) => !isModelled(name))).toContain("nr_slab_reclaimable");
});

test("PROC-073 nr_free_pages_blocks counts free pages in whole free pageblocks", () => {
  const t = machine({ memory: 64 });
  const whole = () => valuesOf(vmstatText(t.m)).get("nr_free_pages_blocks");
  const before = whole() ?? 0;
  expect(before % 512).toBe(0);
  t.exhaustAll();
  expect(whole()).toBeLessThan(before);
  const inBlocks = t.m.zones.reduce((sum, zone) => sum + freeInWholePageblocks(zone), 0);
  expect(whole()).toBe(inBlocks);
});

test("PROC-074 one huge page each: fault, PMD split, partial unmap, as vmstat counts them", () => {
  const t = machine();
  const range = t.map({ huge: 1, advice: "HUGEPAGE" });
  const count = (name: string) => valuesOf(vmstatText(t.m)).get(name);
  const names = ["pgfault", "thp_fault_alloc", "thp_split_pmd", "thp_deferred_split_page"];
  const before = names.map(count);
  t.write(range);
  t.madvise(part(range, 3, 1), "DONTNEED");
  t.madvise(part(range, 4, 1), "DONTNEED");
  expect(names.map((name, i) => (count(name) ?? 0) - (before[i] ?? 0))).toEqual([1, 1, 1, 1]);
});

test("PROC-080 buddyinfo: node, zone, eleven counts that add up to what is free", () => {
  const m = createMachine({ memoryBytes: 64 * MIB });
  const lines = buddyinfoText(m).split("\n").slice(0, -1);
  expect(lines).toHaveLength(m.zones.length);
  expect(lines[0].slice(0, 22)).toBe("Node 0, zone      DMA ");
  for (const [i, line] of lines.entries()) {
    expect(line).toMatch(/^Node 0, zone {1,6}\w+ (?:[ \d]{6} ){11}$/);
    const counts = line.slice(22).trim().split(/ +/).map(Number);
    const pages = counts.reduce((sum, count, order) => sum + count * 2 ** order, 0);
    const onCpus = m.zones[i].pcps.reduce((sum, pcp) => sum + pcp.count, 0);
    expect(pages).toBe(m.zones[i].nrFree);
    expect(onCpus).toBeLessThan(m.zones[i].managedPages);
  }
});

test("PROC-081 pagetypeinfo: head, free blocks by type, pageblocks by label", () => {
  const m = createMachine({ memoryBytes: 64 * MIB });
  const lines = pagetypeinfoText(m).split("\n");
  const nrZones = m.zones.length;
  expect(lines.slice(0, 3)).toEqual(["Page block order: 9", "Pages per block:  512", ""]);
  expect(lines[3]).toBe(
    `Free pages count per migrate type at order  ${[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10].map((o) => String(o).padStart(6)).join(" ")} `,
  );
  expect(lines[5].slice(0, 48)).toBe("Node    0, zone      DMA, type      Movable     ");
  const tail = lines.slice(4 + nrZones * 5);
  expect(tail.slice(0, 2)).toEqual([
    "",
    "Number of blocks type     Unmovable      Movable  Reclaimable   HighAtomic      Isolate ",
  ]);
  const blocks = tail
    .slice(2, 2 + nrZones)
    .map((line) => line.slice(22).trim().split(/ +/).map(Number));
  expect(blocks.flat().reduce((sum, nr) => sum + nr, 0)).toBe(64 / 2);
});

test("PROC-081 a count above 100000 is capped", () => {
  const m = createMachine({ memoryBytes: 64 * MIB });
  m.zones[0].freeBlocks[0] = 100001;
  m.zones[0].freeBlocks[5] = 100000;
  const line = pagetypeinfoText(m).split("\n")[4];
  expect(line).toContain("type    Unmovable >100000 100000 ");
});

test("PROC-080 memory that nobody took yet is free Movable memory in blocks of order 10", () => {
  const m = createMachine({ memoryBytes: 1024 * MIB });
  const zone = m.zones.at(-1)!;
  const blocks = freeBlocksOf(zone, 10, MIGRATE.MOVABLE);
  expect(blocks * 4).toBeGreaterThan(900);
});

test("PROC-082 zoneinfo: watermarks, sizes, protection and per-CPU lists of a zone", () => {
  const t = machine({ memory: 128 });
  const text = zoneinfoText(t.m);
  const [dma] = t.m.zones;
  const { min, low, high, promo } = dma.watermarks;
  expect(text).toContain(
    [
      `  pages free     ${dma.nrFree}`,
      "        boost    0",
      `        min      ${min}`,
      `        low      ${low}`,
      `        high     ${high}`,
      `        promo    ${promo}`,
      "        spanned  4096",
      "        present  4096",
      "        managed  4095",
      "        cma      0",
      `        protection: (${[...dma.lowmemReserve, dma.lowmemReserve[3]].join(", ")})`,
      `      nr_free_pages ${dma.nrFree}`,
    ].join("\n"),
  );
  expect(text.split("\n").slice(0, 3)).toEqual([
    ...["Node 0, zone      DMA", "  per-node stats", "      nr_inactive_anon 0"],
  ]);
  expect(text.match(/per-node stats/g)).toHaveLength(1);
  expect(text).toContain("    cpu: 1\n              count:    ");
  expect(text).toContain("      nr_anon_pages 0\n");
});

test("PROC-082 zones without pages have a head and stop at protection", () => {
  const text = zoneinfoText(machine({ memory: 64 }).m);
  expect(text.slice(text.indexOf("Node 0, zone  Movable"))).toBe(
    ["Movable", "Device"]
      .map((name) => {
        const mark = name === "Movable" ? 32 : 0;
        return `Node 0, zone ${name.padStart(8)}
  pages free     0
        boost    0
        min      ${mark}
        low      ${mark}
        high     ${mark}
        promo    ${mark}
        spanned  0
        present  0
        managed  0
        cma      0
        protection: (0, 0, 0, 0, 0)
`;
      })
      .join(""),
  );
});

test("PROC-082 the counters' threshold follows CPUs and size as on a kernel with two CPUs", () => {
  // Read there: 3840 pages 4, 772918 pages 24, 1507328 pages 28.
  const thresholds = (memoryBytes: number) =>
    [...zoneinfoText(createMachine({ memoryBytes })).matchAll(/threshold: (\d+)/g)].map((m) =>
      Number(m[1]),
    );
  expect(thresholds(64 * MIB)).toEqual([4, 4, 4, 4]);
  expect(thresholds(4096 * MIB).slice(2)).toEqual([24, 24]);
  expect(thresholds(10240 * MIB).slice(4)).toEqual([28, 28]);
});
