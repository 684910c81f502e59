import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { UsageError } from "../base/usage-error.ts";
import { parseCostTable } from "../hw/cost-model.ts";
import { COST_TABLES } from "../hw/cost-tables.ts";
import { chooseCosts, storeCosts, storedCostsPath, thisHost } from "./calibrate-store.ts";
import { costsFrom, type Measurement } from "./calibrate-table.ts";

const HOST = { cpu: "A CPU", kernel: "6.18.0", isVirtual: true };
const BASE = COST_TABLES[0].name;

function measured(name: string, median: number): Measurement {
  return { name, unit: "ns", n: 9, p10: median * 0.9, median, p90: median * 1.1 };
}

function costs(...measurements: Measurement[]) {
  return costsFrom({ measurements, skipped: [] }, HOST, BASE);
}

let scratch = "";
const savedConfig = process.env.XDG_CONFIG_HOME;

beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), "hugelab-costs-"));
  process.env.XDG_CONFIG_HOME = join(scratch, "config");
});

afterEach(() => {
  if (savedConfig === undefined) delete process.env.XDG_CONFIG_HOME;
  else process.env.XDG_CONFIG_HOME = savedConfig;
  rmSync(scratch, { recursive: true, force: true });
});

test("a 2M fault is entry and clearing apart, and both add up to what was measured", () => {
  const { figures } = costs(
    measured("fault_2m_write", 170_000),
    measured("fault_huge_zero_read", 1300),
  );

  expect(figures.faultHuge!.ns).toBe(1300);
  expect(figures.clearHuge!.ns + figures.faultHuge!.ns).toBe(170_000);
});

test("mTHP faults on a straight line give its start and slope back", () => {
  const faults = [16, 64, 256, 1024].map((kb) =>
    measured(`fault_${kb}k_write`, 2000 + (kb / 4) * 150),
  );

  const { figures } = costs(...faults);

  expect(figures.faultLarge!.ns).toBeCloseTo(2000, 6);
  expect(figures.clearLargePage!.ns).toBeCloseTo(150, 6);
});

test("a difference that drowned in noise, and what was not measured, come from the base table", () => {
  const json = costs(measured("split_folio", 10_000), measured("split_pmd", 12_000));

  expect(json.figures.splitFolioPage).toBeUndefined();
  expect(json.figures.faultAnon).toBeUndefined();
  const table = parseCostTable(json, COST_TABLES);
  expect(table.figures.faultAnon.ns).toBe(COST_TABLES[0].figures.faultAnon.ns);
  expect(table.figures.faultAnon.source).toContain(BASE);
  expect(table.figures.splitPmd).toMatchObject({ ns: 12_000 });
});

test("latencies leave out the arithmetic between two reads", () => {
  const { latencies } = costs(
    measured("dependent_read_2m_16k", 3),
    measured("dependent_arithmetic", 1.25),
  );

  expect(latencies!.l1Ns!.ns).toBe(1.75);
});

test("what calibrate stored on this host is chosen without being named", () => {
  const json = costsFrom(
    { measurements: [measured("fault_4k_write", 777)], skipped: [] },
    thisHost(),
    BASE,
  );
  expect(chooseCosts().origin).toBe("built in");

  expect(storeCosts(json)).toBe(storedCostsPath());

  expect(chooseCosts().origin).toBe("calibrated on this host");
  expect(chooseCosts().table.figures.faultAnon.ns).toBe(777);
});

test("a stored table of another host is passed over", () => {
  storeCosts(costs(measured("fault_4k_write", 777)));

  expect(chooseCosts().origin).toBe("built in");
});

test("a table is read from its file, alone or inside the document of calibrate --json", () => {
  const json = costs(measured("fault_4k_write", 777));
  const alone = join(scratch, "alone.json");
  const inside = join(scratch, "inside.json");
  writeFileSync(alone, JSON.stringify(json));
  writeFileSync(inside, JSON.stringify({ schema: "hugelab.calibration", version: 1, costs: json }));

  expect(chooseCosts(alone).table).toEqual(chooseCosts(inside).table);
  expect(chooseCosts(alone).table.figures.faultAnon.ns).toBe(777);
});

test.each(["builtin:none", "missing.json"])(
  "--costs %s is a usage error that says what was wanted",
  (option) => {
    expect(() => chooseCosts(option)).toThrow(UsageError);
  },
);

test("a damaged stored table is a usage error, not a silent fallback", () => {
  mkdirSync(dirname(storedCostsPath()), { recursive: true });
  writeFileSync(storedCostsPath(), "{");

  expect(() => chooseCosts()).toThrow(/not JSON/);
});

test("storing twice leaves the second table whole", () => {
  storeCosts(costs(measured("fault_4k_write", 1)));
  storeCosts(costs(measured("fault_4k_write", 2)));

  const stored = JSON.parse(readFileSync(storedCostsPath(), "utf8"));
  expect(stored.figures.faultAnon.ns).toBe(2);
});
