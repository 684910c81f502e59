/**
 * Geometries: the published sizes, and the choice by /proc/cpuinfo.
 */

import { expect, test } from "vitest";
import { UsageError } from "../base/usage-error.ts";
import { parseCostTable } from "./cost-model.ts";
import { COST_TABLES } from "./cost-tables.ts";
import { checkGeometry, type TlbLevel, withMeasured } from "./geometry.ts";
import { GEOMETRIES, geometryByName, geometryForCpu } from "./presets.ts";

const sizes = (level: TlbLevel) =>
  level.kind === "split"
    ? [level.small.nrEntries, level.huge.nrEntries]
    : [level.both.nrEntries, level.both.nrEntries];

const PUBLISHED = [
  ["skylake", [64, 32], [1536, 1536]],
  ["sunny-cove", [64, 32], [2048, 2048]],
  ["golden-cove", [96, 32], [2048, 2048]],
  ["zen2", [64, 64], [2048, 2048]],
  ["zen3", [64, 64], [2048, 2048]],
  ["zen4", [72, 72], [3072, 3072]],
  ["zen5", [96, 96], [4096, 4096]],
  ["neoverse-n1", [48, 48], [1280, 1280]],
  ["neoverse-n2", [44, 44], [1280, 1280]],
  ["neoverse-v2", [48, 48], [2048, 2048]],
] as const;

for (const [name, l1, l2] of PUBLISHED) {
  test(`PHYS-172 ${name} has the entries of its row`, () => {
    const geometry = geometryByName(name);

    expect([sizes(geometry.l1), sizes(geometry.l2)]).toEqual([l1, l2]);
  });
}

test("every geometry holds together and says where its figures come from", () => {
  for (const geometry of GEOMETRIES) {
    checkGeometry(geometry);
    expect(geometry.source).not.toBe("");
    expect(geometryByName(geometry.name)).toBe(geometry);
  }
});

const amd = (family: number, model: number) =>
  `processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: ${family}\nmodel\t\t: ${model}\nmodel name\t: AMD EPYC\n`;
const intel = (model: number) =>
  `vendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: ${model}\nmodel name\t: Intel(R) Xeon(R)\n`;
const named = (name: string) => `model name\t: ${name}\n`;
const arm = (part: string) => `processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: ${part}\n`;

test.each([
  [amd(23, 49), "zen2"],
  [amd(23, 1), "zen2"],
  [amd(25, 1), "zen3"],
  [amd(25, 17), "zen4"],
  [amd(25, 33), "zen3"],
  [amd(25, 97), "zen4"],
  [amd(26, 2), "zen5"],
  [intel(85), "skylake"],
  [intel(106), "sunny-cove"],
  [intel(143), "golden-cove"],
  [named("AMD EPYC 7742 64-Core Processor"), "zen2"],
  [named("AMD EPYC 7R13 Processor"), "zen3"],
  [named("AMD EPYC 9654 96-Core Processor"), "zen4"],
  [named("AMD EPYC 9755 128-Core Processor"), "zen5"],
  [named("AMD Ryzen 9 5950X 16-Core Processor"), "zen3"],
  [named("Intel(R) Xeon(R) Platinum 8175M CPU @ 2.50GHz"), "skylake"],
  [named("Intel(R) Xeon(R) Gold 6230 CPU @ 2.10GHz"), "skylake"],
  [named("Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz"), "sunny-cove"],
  [named("Intel(R) Xeon(R) Platinum 8488C"), "golden-cove"],
  [arm("0xd0c"), "neoverse-n1"],
  [arm("0xd49"), "neoverse-n2"],
  [arm("0xd4f"), "neoverse-v2"],
  [arm("0xd03"), "generic"],
  [named("Some CPU"), "generic"],
  ["", "generic"],
])("the CPU %j is modelled as %s", (cpuinfo, name) => {
  const choice = geometryForCpu(cpuinfo);

  expect(choice.geometry.name).toBe(name);
  expect(choice.because).not.toBe("");
});

test("a virtual CPU is translated in two dimensions, with less of the shared cache", () => {
  const bare = geometryForCpu(amd(25, 17));
  const guest = geometryForCpu(`${amd(25, 17)}flags\t\t: fpu vme hypervisor lahf_lm\n`);

  expect(bare.mode).toEqual({ kind: "native" });
  expect(guest.mode).toEqual({ kind: "nested", hostPage: "4k", runPages: 4 });
  expect(guest.geometry).toEqual({ ...bare.geometry, tableShare: 0.25 });
  expect(guest.because).toMatch(/virtual machine/);
});

test("a geometry that does not exist is refused with those that do", () => {
  expect(() => geometryByName("zen9")).toThrow(UsageError);
  expect(() => geometryByName("zen9")).toThrow(/zen4, zen5/);
});

test("PHYS-245 latencies that were measured replace those of the geometry, in cycles of the measured clock", () => {
  const ns = (value: number) => ({ ns: value, source: "test" });
  const costs = parseCostTable(
    {
      schema: "hugelab.costs",
      version: 1,
      name: "here",
      description: "this host",
      base: "generic-x86-64",
      figures: { cycle: ns(0.5) },
      latencies: { l1Ns: ns(2), l2Ns: ns(7), l3Ns: ns(25), memoryNs: ns(120) },
    },
    COST_TABLES,
  );

  const zen = withMeasured(geometryByName("zen4"), costs);
  const lake = withMeasured(geometryByName("skylake"), costs);

  expect(zen.caches.map((cache) => cache.cycles)).toEqual([14, 50]);
  expect(lake.caches.map((cache) => cache.cycles)).toEqual([4, 14, 50]);
  expect([zen.memoryNs, zen.ghz]).toEqual([120, 2]);
});

test("PHYS-245 the last cache's size and the overlap that were measured replace those of the geometry", () => {
  const figure = (value: number) => ({ value, source: "test" });
  const costs = parseCostTable(
    {
      schema: "hugelab.costs",
      version: 1,
      name: "here",
      description: "this host",
      base: "generic-x86-64",
      figures: {},
      hardware: { lastLevelBytes: figure(11_400_000), walkOverlap: figure(0.42) },
    },
    COST_TABLES,
  );

  const zen = withMeasured(geometryByName("zen3"), costs);

  // The nearest size of 16 ways: 8192 sets.
  expect(zen.caches.map((cache) => cache.sizeBytes)).toEqual([512 * 1024, 8 * 1024 * 1024]);
  expect(zen.walkOverlap).toBe(0.42);
  checkGeometry(zen);
});
