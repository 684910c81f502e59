import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { builtInCosts } from "../hw/cost-tables.ts";
import { GEOMETRIES } from "../hw/presets.ts";
import { FIGURES_2011, meanOf2011, PASSES, predictLargepages3 } from "./largepages3.ts";

const RULES = new URL("../../docs/rules/anon.md", import.meta.url);
const GEOMETRY = GEOMETRIES[0];
const COSTS = builtInCosts({ isVirtual: false });
const SIZE = 64 * 2 ** 20;

/** Rows of the rule's table: a name and five numbers. */
function figuresOfTheRule(): Record<string, number[]> {
  const text = readFileSync(RULES, "utf8");
  const rows = text.matchAll(/^\| ((?:hugetlbfs|THP on|THP off) [ab]) \|([\d| ]+)\|$/gm);
  return Object.fromEntries(
    [...rows].map(([, name, cells]) => [name, cells.split("|").map(Number)]),
  );
}

function predict(thp: "always" | "never") {
  return predictLargepages3({ sizeBytes: SIZE, thp, geometry: GEOMETRY, costs: COSTS });
}

test("ANON-311 the published figures are those of the rule, two runs of three kinds", () => {
  expect(Object.keys(FIGURES_2011)).toHaveLength(6);
  expect(FIGURES_2011).toEqual(figuresOfTheRule());
});

test("ANON-312 what the log's figures say: 1.39 times at first touch, little later, like hugetlbfs", () => {
  const [on, off, tlbfs] = (["THP on", "THP off", "hugetlbfs"] as const).map(meanOf2011);
  const gains = off.map((us, pass) => us / on[pass]);
  expect(gains[0]).toBeCloseTo(1.39, 2);
  expect(gains[1]).toBeCloseTo(1.015, 2);
  for (const gain of gains.slice(3)) {
    expect(gain).toBeGreaterThan(1.055);
    expect(gain).toBeLessThan(1.07);
  }
  for (const [pass, us] of on.entries())
    expect(Math.abs(us / tlbfs[pass] - 1)).toBeLessThan(0.0006);
});

test("ANON-312 a large malloc does not begin on 2 MiB: all inner blocks are huge, the edges small", () => {
  const [first, ...later] = predict("always");
  const nrPages = SIZE / 4096 + 1;
  expect(first.nrHugeFaults).toBe(SIZE / 2 ** 21 - 1);
  expect(first.nrHugeFaults * 512 + first.nrSmallFaults).toBe(nrPages);
  const [small] = predict("never");
  expect([small.nrHugeFaults, small.nrSmallFaults]).toEqual([0, nrPages]);
  expect(later.map(({ nrHugeFaults, nrSmallFaults }) => nrHugeFaults + nrSmallFaults)).toEqual([
    0, 0, 0, 0,
  ]);
});

test("ANON-312 the model predicts that huge pages save most at first touch and some at every later pass", () => {
  const [on, off] = [predict("always"), predict("never")];
  const saved = PASSES.map((_, pass) => off[pass].ns - on[pass].ns);
  for (const ns of saved) expect(ns).toBeGreaterThan(0);
  expect(saved[0]).toBe(Math.max(...saved));
  // The passes differ in their stores only: translation misses once a page in each.
  expect(saved[3]).toBeCloseTo(saved[1], -5);
});
