import { expect, test } from "vitest";
import { hardwareFrom, l2TlbHitFrom, l3LatencyFrom } from "./calibrate-hardware.ts";

function series(medians: Readonly<Record<string, number>>) {
  return new Map(Object.entries(medians).map(([name, median]) => [name, { median }]));
}

test("2M pages that miss the first level as often as 4K pages do lie on a host of 4K pages", () => {
  const small = { walk_chain_4k_32: 1.5, walk_chain_4k_256: 3.7 };
  const hostPage = (huge256: number, isVirtual = true) =>
    hardwareFrom(series({ ...small, walk_chain_2m_32: 1.5, walk_chain_2m_256: huge256 }), isVirtual)
      .hostPageBytes?.value;

  expect(hostPage(3.8)).toBe(4096);
  expect(hostPage(1.6)).toBe(2 ** 21);
  expect(hostPage(3.8, false)).toBeUndefined();
});

test("the overlap is half of what free reads hide of a chain's difference", () => {
  const medians = {
    walk_chain_scattered_4096: 50,
    walk_chain_2m_4096: 20,
    walk_free_scattered_4096: 10,
    walk_free_2m_4096: 4,
  };

  // 6 of 30 ns are left: 80 % hidden.
  expect(hardwareFrom(series(medians), true).walkOverlap!.value).toBeCloseTo(0.4, 9);
});

test("the last cache ends where the latency is half-way to that of memory", () => {
  const medians = {
    second_level_bytes: 2 ** 19,
    dependent_arithmetic: 1,
    dependent_cache_2m: 21,
    dependent_cache_4m: 21,
    dependent_cache_8m: 41,
    dependent_cache_16m: 121,
    dependent_cache_32m: 141,
    dependent_cache_64m: 141,
  };

  expect(l3LatencyFrom(series(medians))!.ns).toBe(20);
  // Half-way is 80 ns: half of the way from 8 to 16 MB.
  const { lastLevelBytes } = hardwareFrom(series(medians), false);
  expect(lastLevelBytes!.value).toBe(Math.round(8 * 2 ** 20 * Math.SQRT2));
});

test("neighbouring frames are counted in the nearest power of two", () => {
  const run = (inGroup: number) =>
    hardwareFrom(series({ frames_in_group_of_8: inGroup }), true).frameRunPages?.value;

  expect([1, 2.1, 4.7, 8].map(run)).toEqual([1, 2, 4, 8]);
});

test("a hit in the second level costs the middle of a chain and of free reads", () => {
  const medians = {
    walk_chain_4k_32: 1.5,
    walk_chain_4k_256: 3.7,
    walk_free_4k_32: 0.8,
    walk_free_4k_256: 1,
  };

  expect(l2TlbHitFrom(series(medians))!.ns).toBeCloseTo(1.2, 9);
});

test("what was not measured is left out", () => {
  expect(hardwareFrom(series({}), true)).toEqual({});
  expect(l2TlbHitFrom(series({}))).toBeNull();
  expect(l3LatencyFrom(series({ dependent_arithmetic: 1 }))).toBeNull();
});
