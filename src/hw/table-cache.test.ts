/**
 * Caches of page-table lines against a naive model.
 */

import fc from "fast-check";
import { expect, test } from "vitest";
import type { Geometry } from "./geometry.ts";
import { geometryByName } from "./presets.ts";
import { createTableCaches, readLine } from "./table-cache.ts";

const SMALL: Geometry = {
  ...geometryByName("generic"),
  caches: [
    { sizeBytes: 64 * 64 * 4, nrWays: 4, cycles: 5 },
    { sizeBytes: 64 * 128 * 8, nrWays: 8, cycles: 20 },
  ],
  tableShare: 0.5,
  memoryNs: 100,
  ghz: 1,
};

/** One level: a list of lines per set, latest first. */
function naiveLevel(nrSets: number, nrWays: number) {
  const sets = new Map<number, string[]>();
  return (line: number): boolean => {
    const set = ((line % nrSets) + nrSets) % nrSets;
    const old = sets.get(set) ?? [];
    const isHit = old.includes(`${line}`);
    sets.set(set, [`${line}`, ...old.filter((l) => l !== `${line}`)].slice(0, nrWays));
    return isHit;
  };
}

test("a reference costs what the nearest level that holds its line costs", () => {
  const reads = fc.array(
    fc.record({
      pfn: fc.constantFrom(1, 2, 3, 4, 5, 6, 7, 8, 9, 2 ** 30, -7, -8),
      index: fc.constantFrom(0, 7, 8, 511),
    }),
    { maxLength: 200 },
  );
  fc.assert(
    fc.property(reads, (list) => {
      const caches = createTableCaches(SMALL, 1)[0];
      const [near, far] = [naiveLevel(64, 2), naiveLevel(128, 4)];
      for (const { pfn, index } of list) {
        const line = pfn * 64 + Math.floor(index / 8);
        const expected = near(line) ? 5 : far(line) ? 20 : 100;
        expect(readLine(caches, pfn, index)).toBe(expected);
      }
    }),
  );
});

test("eight entries share a line, and CPUs share the last level only", () => {
  const [one, two] = createTableCaches(SMALL, 2);

  const costs = [
    readLine(one, 3, 8),
    readLine(one, 3, 15),
    readLine(one, 3, 16),
    readLine(two, 3, 8),
    readLine(two, 3, 8),
  ];

  expect(costs).toEqual([100, 5, 100, 20, 5]);
});
