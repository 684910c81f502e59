/**
 * Translation against a naive model of TLBs and mappings, under random accesses, changes of the tables and flushes.
 */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ENTRY } from "../mm/page-tables.ts";
import { COST, createCostEvents } from "./cost-model.ts";
import type { Geometry } from "./geometry.ts";
import { createPlainTables, mapHuge, mapSmall, pmdSlot, pteSlot } from "./plain-tables.ts";
import { geometryByName } from "./presets.ts";
import {
  countTranslationCosts,
  createTranslation,
  flushAsid,
  flushCpu,
  flushPage,
  flushRegion,
  HW_COUNTER,
  hwCounter,
  hwCounters,
  nrCpusIn,
  resetHwCounters,
  TRANSLATED,
  type TranslationMode,
  translate,
  translateRun,
} from "./translate.ts";
import { checkTranslation } from "./translation-check.ts";

const { L1, L2, WALKED, HUGE_BIT, NOT_PRESENT, NOT_WRITABLE } = TRANSLATED;
const NATIVE: TranslationMode = { kind: "native" };
const GENERIC = geometryByName("generic");
const NR_CPUS = 2;
const REGIONS = [0, 1, 2 ** 26 - 1];

/** Small and fully associative, so that a naive list is exact; one with shared levels, one with split ones. */
const SHARED: Geometry = {
  ...GENERIC,
  l1: { kind: "shared", both: { nrEntries: 3, nrWays: 3 } },
  l2: { kind: "shared", both: { nrEntries: 6, nrWays: 6 } },
};
const SPLIT: Geometry = {
  ...GENERIC,
  l1: {
    kind: "split",
    small: { nrEntries: 3, nrWays: 3 },
    huge: { nrEntries: 2, nrWays: 2 },
  },
  l2: {
    kind: "split",
    small: { nrEntries: 32, nrWays: 32 },
    huge: { nrEntries: 2, nrWays: 2 },
  },
};

/** A list of names, latest first, cut to its size. */
class NaiveLevel {
  names: { name: string; canWrite: boolean }[] = [];
  readonly size: number;

  constructor(size: number) {
    this.size = size;
  }

  use(name: string) {
    const found = this.names.find((held) => held.name === name);
    if (found) this.names = [found, ...this.names.filter((held) => held !== found)];
    return found;
  }

  add(name: string, canWrite: boolean) {
    this.names = [{ name, canWrite }, ...this.names].slice(0, this.size);
  }

  drop(isDropped: (name: string) => boolean) {
    this.names = this.names.filter((held) => !isDropped(held.name));
  }
}

interface NaiveLeaf {
  canWrite: boolean;
  young: boolean;
  dirty: boolean;
}

/** Mappings as records, TLBs as lists; names are "asid/region/pte" and "asid/region/". */
class NaiveMachine {
  readonly leaves = new Map<string, NaiveLeaf>();
  readonly cpus;

  constructor(geometry: Geometry) {
    const pair = (level: Geometry["l1"]) => {
      if (level.kind === "split") {
        return [new NaiveLevel(level.small.nrEntries), new NaiveLevel(level.huge.nrEntries)];
      }
      const both = new NaiveLevel(level.both.nrEntries);
      return [both, both];
    };
    this.cpus = Array.from({ length: NR_CPUS }, () => ({
      l1: pair(geometry.l1),
      l2: pair(geometry.l2),
    }));
  }

  access(cpu: number, region: string, pte: number, isWrite: boolean): number {
    const names = [`${region}${pte}`, region];
    const { l1, l2 } = this.cpus[cpu];
    for (const [level, where] of [
      [l1, L1],
      [l2, L2],
    ] as const) {
      for (const size of [0, 1]) {
        const held = level[size].use(names[size]);
        if (!held) continue;
        if (isWrite && !held.canWrite) {
          this.drop((name) => names.includes(name), cpu);
          return this.walk(cpu, names, isWrite);
        }
        if (level === l2) l1[size].add(held.name, held.canWrite);
        return where + (size === 1 ? HUGE_BIT : 0);
      }
    }
    return this.walk(cpu, names, isWrite);
  }

  walk(cpu: number, names: string[], isWrite: boolean): number {
    const size = names.findIndex((name) => this.leaves.has(name));
    if (size < 0) return NOT_PRESENT;
    const leaf = this.leaves.get(names[size])!;
    if (isWrite && !leaf.canWrite) return NOT_WRITABLE;
    leaf.young = true;
    leaf.dirty ||= isWrite;
    const { l1, l2 } = this.cpus[cpu];
    for (const level of [l1, l2]) level[size].add(names[size], leaf.canWrite && leaf.dirty);
    return WALKED + (size === 1 ? HUGE_BIT : 0);
  }

  drop(isDropped: (name: string) => boolean, cpu?: number) {
    const cpus = cpu === undefined ? this.cpus : [this.cpus[cpu]];
    for (const { l1, l2 } of cpus) for (const level of [...l1, ...l2]) level.drop(isDropped);
  }
}

const steps = fc.array(
  fc.record({
    act: fc.constantFrom(
      ..."access access access access access access access access".split(" "),
      ..."map map mapHuge unmap unmapRegion protect allow age flushAsid flushCpu".split(" "),
    ),
    cpu: fc.nat({ max: NR_CPUS - 1 }),
    asid: fc.nat({ max: 1 }),
    region: fc.constantFrom(...REGIONS),
    pte: fc.constantFrom(0, 1, 2, 511),
    isWrite: fc.boolean(),
  }),
  { minLength: 30, maxLength: 200 },
);

function sameAsNaive(geometry: Geometry) {
  fc.assert(
    fc.property(steps, (list) => {
      const t = createTranslation(geometry, NR_CPUS, NATIVE);
      const naive = new NaiveMachine(geometry);
      const spaces = [createPlainTables(400, 1000), createPlainTables(400, 5000)];
      const results: number[] = [];
      // One store per space here; translate takes the store with each call.
      const seen = { accesses: 0, l1Misses: 0, l2Misses: 0, faultWalks: 0 };
      for (const [i, { act, cpu, asid, region, pte, isWrite }] of list.entries()) {
        const space = spaces[asid];
        const regionName = `${asid}/${region}/`;
        const name = `${regionName}${pte}`;
        const { leaves } = naive;
        const slotOf = (leaf: string) =>
          leaf === regionName ? pmdSlot(space, region) : pteSlot(space, region, pte);
        const leaf = [name, regionName].find((n) => leaves.has(n));
        const holdsAny = [...leaves.keys()].some((n) => n.startsWith(regionName));
        if (act === "access") {
          const expected = naive.access(cpu, regionName, pte, isWrite);
          const result = translate(t, cpu, space.tables, space.root, asid, region, pte, isWrite);
          expect(result).toBe(expected);
          results.push(result);
          seen.accesses += result >= 0 ? 1 : 0;
          seen.faultWalks += result < 0 ? 1 : 0;
        } else if (act === "map" && !leaf) {
          mapSmall(space, region, pte, 100 + i);
          leaves.set(name, { canWrite: true, young: false, dirty: false });
        } else if (act === "mapHuge" && !holdsAny) {
          mapHuge(space, region, 512 * (i + 1));
          leaves.set(regionName, { canWrite: true, young: false, dirty: false });
        } else if (act === "unmap" && leaf) {
          space.tables.flags[slotOf(leaf)] = 0;
          leaves.delete(leaf);
          flushPage(t, asid, region, pte);
          naive.drop((n) => n === name || n === regionName);
        } else if (act === "unmapRegion" && holdsAny) {
          space.tables.flags[pmdSlot(space, region)] = 0;
          for (const n of [...leaves.keys()]) if (n.startsWith(regionName)) leaves.delete(n);
          flushRegion(t, asid, region);
          naive.drop((n) => n.startsWith(regionName));
        } else if (act === "protect" && leaf) {
          space.tables.flags[slotOf(leaf)] &= ~ENTRY.WRITE;
          leaves.get(leaf)!.canWrite = false;
          flushRegion(t, asid, region);
          naive.drop((n) => n.startsWith(regionName));
        } else if (act === "allow" && leaf) {
          // More rights need no flush: the next write looks again.
          space.tables.flags[slotOf(leaf)] |= ENTRY.WRITE;
          leaves.get(leaf)!.canWrite = true;
        } else if (act === "age" && leaf) {
          // Aging clears the bit without a flush: it stays clear until the next walk.
          space.tables.flags[slotOf(leaf)] &= ~ENTRY.YOUNG;
          leaves.get(leaf)!.young = false;
        } else if (act === "flushAsid") {
          flushAsid(t, asid);
          naive.drop((n) => n.startsWith(`${asid}/`));
        } else if (act === "flushCpu") {
          flushCpu(t, cpu);
          naive.drop(() => true, cpu);
        }
        for (const [n, expected] of leaves) {
          if (!n.startsWith(regionName)) continue;
          const slot =
            n === regionName
              ? pmdSlot(space, region)
              : pteSlot(space, region, Number(n.slice(regionName.length)));
          const flags = space.tables.flags[slot];
          const bits = [(flags & ENTRY.YOUNG) !== 0, (flags & ENTRY.DIRTY) !== 0];
          expect(bits).toEqual([expected.young, expected.dirty]);
        }
      }
      expect([hwCounter(t, "accesses"), hwCounter(t, "faultWalks")]).toEqual([
        seen.accesses,
        seen.faultWalks,
      ]);
      const isHit = (result: number, where: number) => (result & ~HUGE_BIT) === where;
      const nrL2 = results.filter((r) => r >= 0 && isHit(r, L2)).length;
      const nrWalked = results.filter((r) => r >= 0 && isHit(r, WALKED)).length;
      const { l1Misses, l2Misses, dirtyWalks } = hwCounters(t);
      expect(l2Misses + dirtyWalks).toBe(nrWalked);
      expect(l1Misses - l2Misses).toBeGreaterThanOrEqual(nrL2);
      expect(l1Misses - l2Misses).toBeLessThanOrEqual(nrL2 + dirtyWalks);
    }),
    { numRuns: 120 },
  );
}

describe("under random accesses, changes and flushes", () => {
  test("shared levels answer, count and set YOUNG and DIRTY as lists and records do", () => {
    sameAsNaive(SHARED);
  });

  test("split levels answer, count and set YOUNG and DIRTY as lists and records do", () => {
    sameAsNaive(SPLIT);
  });
});

function oneRegion(geometry: Geometry, mode: TranslationMode) {
  const plain = createPlainTables(16, 5000);
  mapSmall(plain, 3, 7, 70);
  mapHuge(plain, 4, 1024);
  const t = createTranslation(geometry, NR_CPUS, mode, "kept");
  const at = (region: number, pteIndex: number, isWrite = false) =>
    translate(t, 0, plain.tables, plain.root, 5, region, pteIndex, isWrite);
  return { plain, t, at, check: () => checkTranslation(t, plain.tables, () => plain.root) };
}

test("ANON-173 a 2M translation left over from before a PMD split is found by the check", () => {
  const { plain, at, t, check } = oneRegion(GENERIC, NATIVE);
  at(4, 0);
  expect(check()).toEqual([]);

  for (let i = 0; i < 512; i++) mapSmallOver(plain, 4, i, 1024 + i);
  expect(check()).toEqual([
    "CPU 0: the 2M translation of 0x800000 in address space 5 outlived its entry",
  ]);
  flushRegion(t, 5, 4);
  at(4, 0);
  expect(check()).toEqual([]);
});

/** Replaces a huge entry by a table, as a PMD split does, but without any flush. */
function mapSmallOver(
  plain: ReturnType<typeof createPlainTables>,
  region: number,
  pteIndex: number,
  pfn: number,
): void {
  const slot = pmdSlot(plain, region);
  if ((plain.tables.flags[slot] & ENTRY.HUGE) !== 0) plain.tables.flags[slot] = 0;
  mapSmall(plain, region, pteIndex, pfn);
}

test("ANON-173 translations of both sizes for one region are found by the check", () => {
  const { plain, at, t, check } = oneRegion(GENERIC, NATIVE);
  at(3, 7);

  plain.tables.flags[pmdSlot(plain, 3)] = 0;
  mapHuge(plain, 3, 2048);
  at(3, 8);

  expect(check()).toContain("CPU 0: address space 5 region 0x3 has both a 2M and a 4K translation");
  flushRegion(t, 5, 3);
  expect(check()).toEqual([]);
});

test("a frame replaced or a right withdrawn without a flush is found by the check", () => {
  const { plain, at, t, check } = oneRegion(GENERIC, NATIVE);
  at(3, 7, true);

  plain.tables.flags[pteSlot(plain, 3, 7)] &= ~ENTRY.WRITE;
  expect(check()[0]).toMatch(/the 4K translation of 0x607000 .* allows writing, the tables do not/);
  plain.tables.payload[pteSlot(plain, 3, 7)] = 71;
  expect(check()[0]).toMatch(/gives frame 70, the tables 71/);
  flushPage(t, 5, 3, 7);
  expect(check()).toEqual([]);
});

test("a host that maps by 4K pages leaves a guest's huge page only 4K translations", () => {
  const nested = oneRegion(GENERIC, { kind: "nested", hostPage: "4k" });
  const whole = oneRegion(GENERIC, { kind: "nested", hostPage: "2m" });

  expect([nested.at(4, 0), nested.at(4, 1), nested.at(4, 1)]).toEqual([WALKED, WALKED, L1]);
  expect([whole.at(4, 0), whole.at(4, 1)]).toEqual([WALKED + HUGE_BIT, L1 + HUGE_BIT]);
  expect([...nested.check(), ...whole.check()]).toEqual([]);
});

test("PHYS-170 PHYS-171 ANON-292 first accesses through the whole path cost 4, 3, 24, 19 and 15 references", () => {
  const references = (mode: TranslationMode, region: number) => {
    const { t, at } = oneRegion(GENERIC, mode);
    at(region, 7);
    return [hwCounter(t, "walkReferences"), hwCounter(t, "coldReferences")];
  };

  expect(references(NATIVE, 3)).toEqual([4, 4]);
  expect(references(NATIVE, 4)).toEqual([3, 3]);
  expect(references({ kind: "nested", hostPage: "4k" }, 3)).toEqual([24, 24]);
  expect(references({ kind: "nested", hostPage: "2m" }, 3)).toEqual([19, 19]);
  expect(references({ kind: "nested", hostPage: "2m" }, 4)).toEqual([15, 15]);
});

test("PHYS-173 beyond the TLB's reach every access walks, within it none does", () => {
  const misses = (nrPages: number) => {
    const plain = createPlainTables(64, 5000);
    for (let i = 0; i < nrPages; i++) mapSmall(plain, i >>> 9, i & 511, i + 1);
    const t = createTranslation(geometryByName("zen4"), 1, NATIVE);
    const pass = () => {
      for (let i = 0; i < nrPages; i++) {
        translate(t, 0, plain.tables, plain.root, 1, i >>> 9, i & 511, false);
      }
    };
    pass();
    resetHwCounters(t);
    pass();
    return hwCounter(t, "l2Misses");
  };

  // 3072 entries of 4 KiB: 12 MiB.
  expect(misses(3072)).toBe(0);
  expect(misses(3072 * 2)).toBe(3072 * 2);
});

test("a run of accesses counts as so many, and as none if it faults", () => {
  const { plain, t } = oneRegion(GENERIC, NATIVE);
  const run = (pteIndex: number) =>
    translateRun(t, 0, plain.tables, plain.root, 5, 3, pteIndex, true, 1000);

  expect([run(8), run(7), run(7)]).toEqual([NOT_PRESENT, WALKED, L1]);
  expect(t.cpus[0].counters[HW_COUNTER.accesses]).toBe(2000);
  expect(hwCounters(t)).toMatchObject({ accesses: 2000, l1Misses: 1, faultWalks: 1 });
});

test("the first write to a page that was read walks again to set the dirty bit, later ones do not", () => {
  const { t, at } = oneRegion(GENERIC, NATIVE);

  expect([at(3, 7), at(3, 7, true), at(3, 7, true)]).toEqual([WALKED, WALKED, L1]);
  expect(hwCounters(t)).toMatchObject({ accesses: 3, l2Misses: 1, dirtyWalks: 1 });
});

test("the CPUs to interrupt are those last seen in the address space", () => {
  const { plain, t, at } = oneRegion(GENERIC, NATIVE);
  expect(nrCpusIn(t, 5)).toBe(0);
  at(3, 7);
  expect([nrCpusIn(t, 5), nrCpusIn(t, 6)]).toEqual([1, 0]);
  translate(t, 1, plain.tables, plain.root, 5, 3, 7, false);
  expect(nrCpusIn(t, 5)).toBe(2);
});

test("whether 4K translations keep their frames changes no counter, and lets the check compare them", () => {
  const run = (frames: "kept" | "dropped") => {
    const plain = createPlainTables(64, 5000);
    for (let i = 0; i < 8192; i++) mapSmall(plain, i >>> 9, i & 511, 10_000 + i);
    const t = createTranslation(SHARED, 1, NATIVE, frames);
    for (let i = 0; i < 20_000; i++) {
      const page = (i * 40503) & 8191;
      translate(t, 0, plain.tables, plain.root, 1, page >>> 9, page & 511, i % 3 === 0);
    }
    const fitting = checkTranslation(t, plain.tables, () => plain.root).length;
    const { payload } = plain.tables;
    payload.forEach((pfn, slot) => {
      if (pfn >= 10_000) payload[slot] = pfn + 1;
    });
    const moved = checkTranslation(t, plain.tables, () => plain.root).length;
    return { counters: hwCounters(t), fitting, findsMoved: moved > 0 };
  };

  const kept = run("kept");

  expect(kept).toMatchObject({ fitting: 0, findsMoved: true });
  expect(run("dropped")).toEqual({ ...kept, findsMoved: false });
});

test("costs count exposed walk cycles and L2 hits, times the weight of the window", () => {
  const geometry = { ...SHARED, walkOverlap: 0.75 };
  const plain = createPlainTables(16, 5000);
  for (let i = 0; i < 4; i++) mapSmall(plain, 0, i, 10 + i);
  const t = createTranslation(geometry, 1, NATIVE);
  for (const pte of [0, 1, 2, 3, 0]) {
    translate(t, 0, plain.tables, plain.root, 1, 0, pte, false);
  }
  const events = createCostEvents();

  countTranslationCosts(t, events, 10);

  // One cold walk from memory (90 ns at 3 GHz), then three from the nearest cache, 14 cycles; 4 cycles each to start.
  expect(hwCounter(t, "walkCycles")).toBe(4 * 270 + 3 * 14 + 4 * 4);
  expect(events[COST.cycle]).toBeCloseTo((4 * 270 + 3 * 14 + 4 * 4) * 0.25 * 10, 6);
  expect(events[COST.l2TlbHit]).toBe(10);
});
