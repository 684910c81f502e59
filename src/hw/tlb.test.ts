/**
 * TLB arrays against a naive model: a list per set, latest first.
 */

import fc from "fast-check";
import { expect, test } from "vitest";
import {
  clearTlb,
  createTlb,
  dropTlb,
  dropTlbAsid,
  dropTlbRegion,
  hugeName,
  insertTlb,
  lookupTlb,
  MAX_ASID,
  smallName,
  smallTag,
  type Tlb,
  valueAt,
} from "./tlb.ts";

/** `part` of a 2M translation. */
const HUGE_PART = 1;

interface Named {
  readonly asid: number;
  readonly region: number;
  /** HUGE_PART, or the page's index in its region times two. */
  readonly part: number;
}

/** Sets of at most nrWays named translations, latest first; no shared code with the arrays. */
class NaiveTlb {
  readonly sets: { name: Named; value: number }[][];
  readonly nrWays: number;

  constructor(nrEntries: number, nrWays: number) {
    this.nrWays = nrWays;
    this.sets = Array.from({ length: nrEntries === 0 ? 1 : nrEntries / nrWays }, () => []);
  }

  setOf({ region, part }: Named) {
    const number = part === HUGE_PART ? BigInt(region) : BigInt(region) * 512n + BigInt(part / 2);
    return this.sets[Number(number % BigInt(this.sets.length))];
  }

  lookup(name: Named): number {
    const set = this.setOf(name);
    const at = set.findIndex((entry) => isSame(entry.name, name));
    if (at < 0) return -1;
    const [entry] = set.splice(at, 1);
    set.unshift(entry);
    return entry.value;
  }

  insert(name: Named, value: number): void {
    const set = this.setOf(name);
    set.unshift({ name, value });
    set.length = Math.min(set.length, this.nrWays);
  }

  drop(isDropped: (name: Named) => boolean): number {
    let nrDropped = 0;
    for (const set of this.sets) {
      const kept = set.filter((entry) => !isDropped(entry.name));
      nrDropped += set.length - kept.length;
      set.splice(0, set.length, ...kept);
    }
    return nrDropped;
  }

  count(isHuge: boolean): number {
    return this.sets.flat().filter((e) => (e.name.part === HUGE_PART) === isHuge).length;
  }
}

function isSame(a: Named, b: Named): boolean {
  return a.asid === b.asid && a.region === b.region && a.part === b.part;
}

function tagOf({ region, part }: Named): number {
  return part === HUGE_PART ? region : smallTag(region, part >> 1);
}

function nameOf({ asid, region, part }: Named): number {
  return part === HUGE_PART ? hugeName(asid) : smallName(asid, region);
}

/** The value kept, or -1. */
function lookup(tlb: Tlb, name: Named): number {
  const place = lookupTlb(tlb, tagOf(name), nameOf(name));
  return place < 0 ? -1 : valueAt(tlb, place);
}

const SHAPES = [
  { nrEntries: 8, nrWays: 2 },
  { nrEntries: 16, nrWays: 16 },
  { nrEntries: 24, nrWays: 12 },
  { nrEntries: 9, nrWays: 9 },
  { nrEntries: 16, nrWays: 8 },
  { nrEntries: 20, nrWays: 5 },
  { nrEntries: 40, nrWays: 40 },
  { nrEntries: 26, nrWays: 26 },
  { nrEntries: 1, nrWays: 1 },
  { nrEntries: 0, nrWays: 0 },
];

/** Few names that differ in every field, in one bit at both ends: aliases would show. */
const names = fc.record({
  asid: fc.constantFrom(0, MAX_ASID),
  region: fc.constantFrom(0, 1, 512, 2 ** 26 - 1),
  part: fc.constantFrom(HUGE_PART, 0, 2, 4, 6, 8, 512, 1022),
});

const steps = fc.array(
  fc.record({
    name: names,
    value: fc.constantFrom(0, 1, 2 ** 31, 2 ** 32 - 1),
    act: fc.oneof(
      { weight: 40, arbitrary: fc.constant("use") },
      { weight: 4, arbitrary: fc.constant("drop") },
      { weight: 2, arbitrary: fc.constantFrom("region", "asid", "clear") },
    ),
  }),
  { minLength: 100, maxLength: 400, size: "max" },
);

test("an array answers as a list per set would, whatever is looked up, added and dropped", () => {
  fc.assert(
    fc.property(fc.constantFrom(...SHAPES), steps, (shape, list) => {
      const tlb = createTlb(shape);
      const naive = new NaiveTlb(shape.nrEntries, shape.nrWays);
      for (const { name, value, act } of list) {
        const { asid, region } = name;
        if (act === "use") {
          const found = lookup(tlb, name);
          expect(found).toBe(naive.lookup(name));
          if (found < 0) {
            insertTlb(tlb, tagOf(name), nameOf(name), value);
            naive.insert(name, value);
          }
        } else if (act === "drop") {
          const nrDropped = naive.drop((held) => isSame(held, name));
          expect(dropTlb(tlb, tagOf(name), nameOf(name))).toBe(nrDropped);
        } else if (act === "region") {
          const nrDropped = naive.drop((held) => held.asid === asid && held.region === region);
          expect(dropTlbRegion(tlb, asid, region)).toBe(nrDropped);
        } else if (act === "asid") {
          expect(dropTlbAsid(tlb, asid)).toBe(naive.drop((held) => held.asid === asid));
        } else {
          clearTlb(tlb);
          naive.drop(() => true);
        }
        expect([tlb.nrSmall, tlb.nrHuge]).toEqual([naive.count(false), naive.count(true)]);
      }
    }),
    { numRuns: 150 },
  );
});

test("pages that differ in one bit of region, page or address space are never mistaken for another", () => {
  const tlb = createTlb({ nrEntries: 128, nrWays: 128 });
  const name = { asid: 0x15555, region: 0x2aaaaaa, part: 0x2aa };
  insertTlb(tlb, tagOf(name), nameOf(name), 5);

  for (let bit = 0; bit < 17; bit++) {
    expect(lookup(tlb, { ...name, asid: name.asid ^ (1 << bit) })).toBe(-1);
  }
  for (let bit = 0; bit < 26; bit++) {
    expect(lookup(tlb, { ...name, region: name.region ^ (1 << bit) })).toBe(-1);
  }
  for (let bit = 1; bit < 10; bit++) {
    expect(lookup(tlb, { ...name, part: name.part ^ (1 << bit) })).toBe(-1);
  }
  expect(lookupTlb(tlb, tagOf(name), hugeName(name.asid))).toBe(-1);
  expect(lookup(tlb, name)).toBe(5);
});
