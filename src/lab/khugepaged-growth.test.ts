import { expect, test } from "vitest";
import { createModelBackend } from "../scenario/model-backend.ts";
import { type GrowthRequest, MOMENTS, runGrowth } from "./khugepaged-growth.ts";

const MIB = 2 ** 20;

function grown(request: Partial<GrowthRequest>) {
  const whole = { nrRegions: 3, nrKept: 32, nrRounds: 2, maxPtesNone: 511, ...request };
  const { points, regionsCollapsed } = runGrowth(whole, createModelBackend({ checkEvery: 0 }));
  return {
    regionsCollapsed,
    mib: points.map((p) => [p.rssBytes / MIB, p.hugeBytes / MIB, p.notYetSplitBytes / MIB]),
    moments: points.map(({ round, moment }) => `${round} ${moment}`),
  };
}

test("with 511 khugepaged makes all of it huge again, round after round", () => {
  const { mib, moments, regionsCollapsed } = grown({});
  const kept = (3 * 32 * 4) / 1024;
  const round = [
    [6, 6, 0],
    [kept, 0, 6 - kept],
    [6, 6, 0],
  ];
  expect(mib).toEqual([...round, ...round]);
  expect(regionsCollapsed).toBe(6);
  expect(moments).toEqual([1, 2].flatMap((nr) => MOMENTS.map((moment) => `${nr} ${moment}`)));
});

test("with 0 it fills nothing: what was given back stays until the folios are split, beside what is written anew", () => {
  const { mib, regionsCollapsed } = grown({ maxPtesNone: 0 });
  const kept = (3 * 32 * 4) / 1024;
  const without = [kept, 0, 6 - kept];
  expect(mib).toEqual([[6, 6, 0], without, without, [6, 0, 6 - kept], without, without]);
  expect(regionsCollapsed).toBe(0);
});

test("the limit is the number of pages given back", () => {
  const at = (maxPtesNone: number) => grown({ nrKept: 100, nrRounds: 1, maxPtesNone });
  expect([at(411).regionsCollapsed, at(412).regionsCollapsed]).toEqual([0, 3]);
});

test("an arena of more regions than one pass looks at is looked at whole", () => {
  expect(grown({ nrRegions: 20, nrRounds: 1 }).regionsCollapsed).toBe(20);
});
