/**
 * Cost tables: what the measured rules say must come out of the figures, and damaged JSON is refused by field.
 */

import { expect, test } from "vitest";
import { UsageError } from "../base/usage-error.ts";
import {
  anonFaultNs,
  COST,
  COST_NAMES,
  COST_PARTS,
  type CostName,
  costNs,
  costParts,
  countAnonFault,
  createCostEvents,
  parseCostTable,
  pricesOf,
} from "./cost-model.ts";
import { builtInCosts, COST_TABLES } from "./cost-tables.ts";

const zen4 = COST_TABLES[0];
const price = (counts: Partial<Record<CostName, number>>): number => {
  const events = createCostEvents();
  for (const [name, count] of Object.entries(counts)) events[COST[name as CostName]] = count;
  return costNs(pricesOf(zen4), events);
};

test("PHYS-180 PHYS-184 PHYS-187 anonymous faults take what was measured, by order", () => {
  const prices = pricesOf(zen4);

  expect(anonFaultNs(prices, 0)).toBeCloseTo(1370, 6);
  expect(anonFaultNs(prices, 9)).toBeCloseTo(170_000, 6);
  expect(Math.abs(anonFaultNs(prices, 4) - 9000)).toBeLessThan(50);
});

test("PHYS-197 PHYS-198 a collapse takes what was measured, full and nearly empty", () => {
  expect(Math.abs(price({ collapse: 1, collapsePage: 512 }) / 1000 - 411)).toBeLessThan(4);
  expect(Math.abs(price({ collapse: 1, collapsePage: 1 }) / 1000 - 100)).toBeLessThan(1);
});

test("PHYS-201 PHYS-202 fork with exit takes what was measured, small and huge", () => {
  const small = (nrPages: number) =>
    price({ fork: 1, forkPte: nrPages, unmapShared: nrPages }) / 1000;
  const huge = (nrHuge: number) =>
    price({ fork: 1, forkHuge: nrHuge, unmapSharedHuge: nrHuge }) / 1000;

  expect(Math.abs(small(2048) / 157 - 1)).toBeLessThan(0.03);
  expect(Math.abs(small(16384) / 890 - 1)).toBeLessThan(0.03);
  expect(Math.abs(small(32768) / 1720 - 1)).toBeLessThan(0.03);
  expect(Math.abs(huge(4) / 62 - 1)).toBeLessThan(0.06);
  expect(Math.abs(huge(32) / 84 - 1)).toBeLessThan(0.06);
  expect(Math.abs(huge(64) / 125 - 1)).toBeLessThan(0.06);
});

test("PHYS-191 PHYS-195 unmapping 512 pages and splitting a folio take what was measured", () => {
  expect(price({ madvise: 1, unmapPage: 512 }) / 1000).toBeGreaterThan(103 * 0.9);
  expect(price({ madvise: 1, unmapPage: 512 }) / 1000).toBeLessThan(103 * 1.15);
  const split = price({ madvise: 1, splitPmd: 1, splitFolioPage: 512 }) / 1000;
  expect(Math.abs(split - 151)).toBeLessThan(2);
});

test("counting an anonymous fault and pricing it agree for every order", () => {
  const prices = pricesOf(zen4);
  for (let order = 0; order <= 9; order++) {
    const events = createCostEvents();
    countAnonFault(events, order);
    expect(costNs(prices, events)).toBeCloseTo(anonFaultNs(prices, order), 6);
  }
});

test("PHYS-245 every figure of every built-in table has a source and is positive", () => {
  for (const table of COST_TABLES) {
    for (const name of COST_NAMES) {
      expect(table.figures[name].source, `${table.name} ${name}`).not.toBe("");
      expect(table.figures[name].ns, `${table.name} ${name}`).toBeGreaterThan(0);
    }
  }
});

test("the parts of a run add up to its whole and name their largest term first", () => {
  const events = createCostEvents();
  events.forEach((_, i) => {
    events[i] = i + 1;
  });

  const parts = costParts(zen4, events);

  expect(parts.map((share) => share.part)).toEqual([...COST_PARTS]);
  const sum = parts.reduce((total, share) => total + share.ns, 0);
  expect(sum).toBeCloseTo(costNs(pricesOf(zen4), events), 3);
  const one = createCostEvents();
  one[COST.faultAnon] = 12034;
  one[COST.faultZero] = 1;
  expect(costParts(zen4, one).map((share) => share.basis)).toEqual([
    "12034 4K faults x 1.37 us + 1 zero page faults x 600 ns",
  ]);
});

test("a built-in table written as JSON and read back is the same table", () => {
  for (const table of COST_TABLES) {
    expect(parseCostTable(JSON.parse(JSON.stringify(table)), [])).toEqual(table);
  }
});

test("a calibrated table takes what it lacks from its base and says so", () => {
  const table = parseCostTable(
    {
      schema: "hugelab.costs",
      version: 1,
      name: "here",
      description: "this host",
      base: "zen4-vm",
      figures: { faultAnon: { ns: 900, source: "calibrate" } },
      latencies: { l3Ns: { ns: 12, source: "calibrate" } },
    },
    COST_TABLES,
  );

  expect(table.figures.faultAnon).toEqual({ ns: 900, source: "calibrate" });
  expect(table.figures.faultZero).toEqual({ ns: 600, source: "zen4-vm: PHYS-181" });
  expect(table.latencies.l3Ns?.ns).toBe(12);
  expect(table.latencies.memoryNs?.ns).toBe(150);
});

const valid = {
  schema: "hugelab.costs",
  version: 1,
  name: "x",
  description: "y",
  base: "zen4-vm",
  figures: {},
};

test.each([
  ["cost table", null],
  ["cost table", [1]],
  ["schema", { ...valid, schema: "other" }],
  ["version", { ...valid, version: 2 }],
  ["name", { ...valid, name: " " }],
  ["description", { ...valid, description: 3 }],
  ["base", { ...valid, base: "zen9" }],
  ["figures", { ...valid, figures: [] }],
  ["figures", { ...valid, figures: { faultAnom: { ns: 1, source: "s" } } }],
  ["figures.faultAnon", { ...valid, figures: { faultAnon: 12 } }],
  ["figures.faultAnon.ns", { ...valid, figures: { faultAnon: { ns: -1, source: "s" } } }],
  ["figures.faultAnon.ns", { ...valid, figures: { faultAnon: { ns: Number.NaN, source: "s" } } }],
  ["figures.faultAnon.ns", { ...valid, figures: { faultAnon: { ns: "1", source: "s" } } }],
  ["figures.faultAnon.source", { ...valid, figures: { faultAnon: { ns: 1 } } }],
  ["figures.faultAnon", { ...valid, base: undefined }],
  ["latencies", { ...valid, latencies: { l9Ns: { ns: 1, source: "s" } } }],
  ["hardware", { ...valid, hardware: { pageBytes: { value: 1, source: "s" } } }],
  [
    "hardware.walkOverlap.value",
    { ...valid, hardware: { walkOverlap: { value: 2, source: "s" } } },
  ],
  [
    "hardware.frameRunPages.value",
    { ...valid, hardware: { frameRunPages: { value: 3, source: "s" } } },
  ],
  ["hardware.hostPageBytes.source", { ...valid, hardware: { hostPageBytes: { value: 4096 } } }],
  ["latencies.l3Ns.ns", { ...valid, latencies: { l3Ns: { ns: 1e12, source: "s" } } }],
  ["cost table", { ...valid, extra: 1 }],
])("a mistake in %s is refused there", (where, json) => {
  let caught: unknown;
  try {
    parseCostTable(json, COST_TABLES);
  } catch (error) {
    caught = error;
  }

  expect(caught).toBeInstanceOf(UsageError);
  expect((caught as UsageError).where).toBe(where);
});

test("a virtual machine is given figures measured in one", () => {
  expect(builtInCosts({ isVirtual: true }).name).toBe("zen4-vm");
  expect(builtInCosts({ isVirtual: false }).name).toBe("generic-x86-64");
});
