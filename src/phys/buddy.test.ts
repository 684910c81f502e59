import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { VMSTAT } from "../base/counters.ts";
import { EVENT } from "../base/events.ts";
import { listNext } from "../base/int-list.ts";
import { PROFILES } from "../base/profile.ts";
import { createPhys } from "./boot.ts";
import {
  freeBlock,
  freeBlockCount,
  freeListOf,
  freeRun,
  movePageblock,
  pageblockTypeOf,
  takeBlock,
  takeSection,
  zoneOf,
} from "./buddy.ts";
import { checkPhys } from "./check.ts";
import { mayClaim, takeFromBuddy } from "./fallback.ts";
import { NO_PFN, PG } from "./frame-table.ts";
import { lruAdd, lruDel } from "./lru.ts";
import { MIGRATE, NR_MIGRATE_TYPES, NR_ORDERS, type PhysState, type Zone } from "./state.ts";

const MIB = 1024 * 1024;
const { UNMOVABLE, MOVABLE, RECLAIMABLE, HIGHATOMIC, ISOLATE } = MIGRATE;

/** Zone 0 is DMA (16 MiB), zone 1 is DMA32. */
function memory(mib: number): PhysState {
  return createPhys({
    memoryBytes: mib * MIB,
    nrCpus: 1,
    nrNodes: 1,
    profile: PROFILES[0],
    pcp: "off",
  });
}

/** Takes a block and gives its rows the look of a folio; movable ones are on the LRU. */
function take(
  m: PhysState,
  zone: Zone,
  order: number,
  type: number,
  mixing: "any" | "no-fragment" = "any",
): number {
  const pfn = takeFromBuddy(m, zone, order, type, mixing);
  if (pfn === NO_PFN) return NO_PFN;
  m.frames.order.fill(order, pfn, pfn + (1 << order));
  m.frames.refcount[pfn] = 1;
  if (type === MOVABLE) lruAdd(m, pfn);
  return pfn;
}

function give(m: PhysState, pfn: number): void {
  if ((m.frames.flags[pfn] & PG.LRU) !== 0) lruDel(m, pfn);
  m.frames.refcount[pfn] = 0;
  freeBlock(m, zoneOf(m, pfn), pfn, m.frames.order[pfn], "auto");
}

/** Blocks of one free list, head first. */
function listed(m: PhysState, zone: Zone, order: number, type: number): number[] {
  const rows: number[] = [];
  let row = m.links.next[m.links.firstSentinel + freeListOf(zone, order, type)];
  for (; row >= 0 && row < m.links.firstSentinel; row = listNext(m.links, row)) rows.push(row);
  return rows;
}

/** The buddy allocator of one zone as PHYS-020..029 tell it: plain arrays, everything listed from the start. */
class NaiveZone {
  readonly lists: number[][][];
  readonly label: Map<number, number> = new Map();
  /** Allocated blocks: order and whether they are movable. */
  readonly taken: Map<number, { order: number; isMovable: boolean }> = new Map();
  readonly start: number;
  readonly end: number;

  constructor(start: number, end: number) {
    this.start = start;
    this.end = end;
    this.lists = Array.from({ length: NR_ORDERS }, () => [[], [], []]);
    for (let pfn = start; pfn < end; pfn += 512) this.label.set(pfn / 512, MOVABLE);
    for (let pfn = start; pfn < end; pfn += 1024) this.lists[10][MOVABLE].push(pfn);
  }

  take(order: number, type: number): number {
    const pfn = this.smallest(order, type) ?? this.claim(order, type) ?? this.steal(order, type);
    if (pfn === undefined) return NO_PFN;
    this.taken.set(pfn, { order, isMovable: type === MOVABLE });
    return pfn;
  }

  give(pfn: number): void {
    let { order } = this.taken.get(pfn)!;
    this.taken.delete(pfn);
    const type = this.labelOf(pfn);
    for (; order < 10; order++) {
      const buddy = pfn ^ (2 ** order);
      const at = this.lists[order].findIndex((list) => list.includes(buddy));
      if (at < 0) break;
      this.lists[order][at] = this.lists[order][at].filter((block) => block !== buddy);
      if (order >= 9) this.label.set(buddy / 512, type);
      pfn = Math.min(pfn, buddy);
    }
    const pair = Math.min(pfn, pfn ^ (2 ** order));
    const isTail = order < 9 && this.lists[order + 1].flat().includes(pair ^ (2 ** (order + 1)));
    if (isTail) this.lists[order][type].push(pfn);
    else this.lists[order][type].unshift(pfn);
  }

  private labelOf(pfn: number): number {
    return this.label.get(Math.floor(pfn / 512))!;
  }

  private smallest(order: number, type: number): number | undefined {
    const from = this.lists.findIndex((types, at) => at >= order && types[type].length > 0);
    return from < 0 ? undefined : this.cut(from, order, type);
  }

  private cut(from: number, order: number, type: number): number {
    const pfn = this.lists[from][type].shift()!;
    for (let half = from - 1; half >= order; half--) {
      this.lists[half][type].unshift(pfn + 2 ** half);
    }
    return pfn;
  }

  private fallbacks(type: number): number[] {
    if (type === UNMOVABLE) return [RECLAIMABLE, MOVABLE];
    return type === MOVABLE ? [RECLAIMABLE, UNMOVABLE] : [UNMOVABLE, MOVABLE];
  }

  private claim(order: number, type: number): number | undefined {
    for (let from = 10; from >= order; from--) {
      const other = this.fallbacks(type).find((t) => this.lists[from][t].length > 0);
      if (other === undefined) continue;
      if (from < 4 && type === MOVABLE) return undefined;
      const pfn = this.lists[from][other][0];
      const blocks = from === 10 ? [pfn / 512, pfn / 512 + 1] : [Math.floor(pfn / 512)];
      if (from < 9 && this.suitable(blocks[0], type) < 256) continue;
      for (const block of blocks) this.relabel(block, from, type);
      return this.smallest(order, type);
    }
    return undefined;
  }

  private suitable(block: number, type: number): number {
    const inside = (pfn: number) => Math.floor(pfn / 512) === block;
    let free = 0;
    for (let order = 0; order < 9; order++) {
      free += this.lists[order].flat().filter(inside).length * 2 ** order;
    }
    let movable = 0;
    for (const [pfn, { order, isMovable }] of this.taken) {
      if (inside(pfn) && isMovable) movable += 2 ** order;
    }
    if (type === MOVABLE) return free + movable;
    return this.label.get(block) === MOVABLE ? 512 - movable : free;
  }

  /** Free blocks of a pageblock change lists in ascending order of frames, each to the tail. */
  private relabel(block: number, found: number, type: number): void {
    const old = this.label.get(block)!;
    this.label.set(block, type);
    const moved: [number, number][] = [];
    this.lists.forEach((types, order) => {
      for (const pfn of types[old]) if (Math.floor(pfn / 512) === block) moved.push([pfn, order]);
      types[old] = types[old].filter((pfn) => Math.floor(pfn / 512) !== block);
    });
    moved.sort((a, b) => a[0] - b[0]);
    for (const [pfn, order] of moved) {
      if (found >= 9) this.lists[order][type].unshift(pfn);
      else this.lists[order][type].push(pfn);
    }
  }

  private steal(order: number, type: number): number | undefined {
    for (let from = order; from <= 10; from++) {
      const other = this.fallbacks(type).find((t) => this.lists[from][t].length > 0);
      if (other !== undefined) return this.cut(from, order, other);
    }
    return undefined;
  }
}

type Step = { kind: "take"; order: number; type: number } | { kind: "give"; which: number };

const steps = (maxOrder: number, length: number): fc.Arbitrary<Step[]> =>
  fc.array(
    fc.oneof(
      fc.record({
        kind: fc.constant("take" as const),
        order: fc.integer({ min: 0, max: maxOrder }),
        type: fc.constantFrom(UNMOVABLE, MOVABLE, RECLAIMABLE),
      }),
      fc.record({ kind: fc.constant("give" as const), which: fc.nat() }),
    ),
    { minLength: length / 4, maxLength: length },
  );

/** Runs the steps on both; every frame number handed out must agree, and at the end every list. */
function compareWithNaive(mib: number, list: readonly Step[]): void {
  const m = memory(mib);
  const zone = m.zones[1];
  const naive = new NaiveZone(zone.startPfn, zone.startPfn + zone.spannedPages);
  const held: number[] = [];
  for (const step of list) {
    if (step.kind === "take") {
      const pfn = take(m, zone, step.order, step.type);
      expect(pfn).toBe(naive.take(step.order, step.type));
      if (pfn !== NO_PFN) held.push(pfn);
    } else if (held.length > 0) {
      const [pfn] = held.splice(step.which % held.length, 1);
      give(m, pfn);
      naive.give(pfn);
    }
  }
  expect(checkPhys(m)).toEqual([]);
  while (takeSection(m, zone));
  for (let order = 0; order < NR_ORDERS; order++) {
    for (let type = 0; type < 3; type++) {
      expect(listed(m, zone, order, type)).toEqual(naive.lists[order][type]);
    }
  }
  for (const [block, label] of naive.label) expect(m.pageblockType[block]).toBe(label);
}

describe("beside a naive model", () => {
  test("small and large blocks of all types come and go as in the naive model", () => {
    fc.assert(
      fc.property(steps(10, 120), (list) => compareWithNaive(32, list)),
      { numRuns: 60 },
    );
  });

  test("crowded with small blocks, types are mixed as in the naive model", () => {
    const crowd = fc.tuple(fc.integer({ min: 6, max: 8 }), steps(8, 200)).map(([order, list]) => [
      ...Array.from({ length: 2 ** (12 - order) - 3 }, (_, i): Step => {
        return { kind: "take", order, type: i % 5 === 0 ? UNMOVABLE : MOVABLE };
      }),
      ...list,
    ]);
    fc.assert(
      fc.property(crowd, (list) => compareWithNaive(32, list)),
      { numRuns: 60 },
    );
  });

  test("memory that is listed section by section is handed out as if it had been listed at boot", () => {
    const big = Array.from(
      { length: 50 },
      (): Step => ({ kind: "take", order: 10, type: MOVABLE }),
    );
    fc.assert(
      fc.property(steps(10, 60), steps(10, 60), (before, after) =>
        compareWithNaive(16 + 384, [...before, ...big, ...after]),
      ),
      { numRuns: 20 },
    );
  });
});

test("PHYS-020 a freed block merges with its buddy, not with its other neighbour", () => {
  const m = memory(32);
  const zone = m.zones[1];
  const pages = [0, 1, 2, 3].map(() => take(m, zone, 0, MOVABLE));
  expect(pages.map((pfn) => pfn - pages[0])).toEqual([0, 1, 2, 3]);
  expect(pages[0] % 4).toBe(0);

  give(m, pages[1]);
  give(m, pages[2]);
  expect(listed(m, zone, 0, MOVABLE).sort()).toEqual([pages[1], pages[2]]);
  expect(listed(m, zone, 1, MOVABLE)).toEqual([]);

  give(m, pages[3]);
  expect(listed(m, zone, 0, MOVABLE)).toEqual([pages[1]]);
  expect(listed(m, zone, 1, MOVABLE)).toEqual([pages[2]]);
});

test("PHYS-021 a split keeps the lower half and lists the upper halves", () => {
  const m = memory(32);
  const zone = m.zones[1];
  const pfn = take(m, zone, 7, MOVABLE);
  expect(pfn).toBe(4096);
  expect(listed(m, zone, 9, MOVABLE)).toEqual([4096 + 512]);
  expect(listed(m, zone, 8, MOVABLE)).toEqual([4096 + 256]);
  expect(listed(m, zone, 7, MOVABLE)).toEqual([4096 + 128]);
  expect(take(m, zone, 7, MOVABLE)).toBe(4096 + 128);
});

test("PHYS-022 blocks of pageblock size merge across types and take the freed block's label", () => {
  const m = memory(32);
  const zone = m.zones[1];
  const unmovable = take(m, zone, 9, UNMOVABLE);
  const movable = take(m, zone, 9, MOVABLE);
  expect(movable).toBe(5120);
  // The claim of an order-10 block labelled both of its pageblocks, and its upper half is still free.
  expect(listed(m, zone, 9, UNMOVABLE)).toEqual([unmovable + 512]);
  movePageblock(m, zone, unmovable + 512, RECLAIMABLE);

  give(m, unmovable);
  expect(pageblockTypeOf(m, unmovable + 512)).toBe(UNMOVABLE);
  expect(listed(m, zone, 10, UNMOVABLE)).toEqual([unmovable]);
});

test("PHYS-022 blocks of an isolated pageblock merge with no other pageblock", () => {
  const m = memory(32);
  const zone = m.zones[1];
  const before = zone.nrFree;
  movePageblock(m, zone, 4096, ISOLATE);
  expect(listed(m, zone, 9, ISOLATE)).toEqual([4096]);
  expect(zone.nrFree).toBe(before - 512);

  const neighbour = take(m, zone, 9, MOVABLE);
  expect(neighbour).toBe(4096 + 512);
  give(m, neighbour);
  expect(listed(m, zone, 9, MOVABLE)).toEqual([4096 + 512]);
  expect(checkPhys(m)).toEqual([]);
});

test("PHYS-023 a freed block goes to the head, but to the tail if its pair is about to merge", () => {
  const m = memory(32);
  const zone = m.zones[1];
  const pages = Array.from({ length: 16 }, () => take(m, zone, 0, MOVABLE));
  give(m, pages[0]);
  give(m, pages[8]);
  expect(listed(m, zone, 0, MOVABLE)).toEqual([pages[8], pages[0]]);

  // Pages 6 and 7 are free as a pair, so page 4 will soon be part of 4..7.
  give(m, pages[6]);
  give(m, pages[7]);
  give(m, pages[4]);
  expect(listed(m, zone, 0, MOVABLE)).toEqual([pages[8], pages[0], pages[4]]);
});

test("PHYS-023 a caller may ask for the tail", () => {
  const m = memory(32);
  const zone = m.zones[1];
  const pages = Array.from({ length: 8 }, () => takeBlock(m, zone, 0, MOVABLE));
  freeBlock(m, zone, pages[0], 0, "auto");
  freeBlock(m, zone, pages[4], 0, "tail");
  expect(listed(m, zone, 0, MOVABLE)).toEqual([pages[0], pages[4]]);
});

test("PHYS-024 a freed block goes where its pageblock's label says, not where it came from", () => {
  const m = memory(32);
  const zone = m.zones[1];
  const pfn = take(m, zone, 0, MOVABLE);
  movePageblock(m, zone, pfn, RECLAIMABLE);
  give(m, pfn);
  // Free again as a whole, its two pageblocks merge under the label of the one freed last.
  expect(listed(m, zone, 10, RECLAIMABLE)).toEqual([pfn]);
});

test("PHYS-025 all free memory starts as Movable", () => {
  const m = memory(64);
  expect([...m.pageblockType].every((type) => type === MOVABLE)).toBe(true);
  for (const zone of m.zones) {
    let pages = 0;
    for (let order = 0; order < NR_ORDERS; order++) {
      for (let type = 0; type < NR_MIGRATE_TYPES; type++) {
        const nr = freeBlockCount(zone, order, type);
        pages += nr << order;
        if (type !== MOVABLE) expect(nr).toBe(0);
      }
    }
    expect(pages).toBe(zone.managedPages);
  }
});

for (const [type, first] of [
  [UNMOVABLE, RECLAIMABLE],
  [MOVABLE, RECLAIMABLE],
  [RECLAIMABLE, UNMOVABLE],
]) {
  test(`PHYS-026 type ${type} takes from type ${first} before the other`, () => {
    const m = memory(32);
    const zone = m.zones[1];
    // Two free pageblocks of each type; nothing else is free in the zone.
    for (let i = 0; i < 8; i++) take(m, zone, 9, MOVABLE);
    for (const [at, label] of [UNMOVABLE, MOVABLE, RECLAIMABLE].entries()) {
      const pfn = 4096 + at * 1024;
      give(m, pfn);
      movePageblock(m, zone, pfn, label);
      give(m, pfn + 512);
      movePageblock(m, zone, pfn, label);
      movePageblock(m, zone, pfn + 512, label);
    }
    while (takeBlock(m, zone, 9, type) !== NO_PFN);
    expect(takeFromBuddy(m, zone, 9, type, "any")).toBe(4096 + first * 1024);
  });
}

test("PHYS-026 nobody takes from HighAtomic or isolated pageblocks", () => {
  const m = memory(32);
  const zone = m.zones[1];
  for (let pfn = 4096; pfn < 8192; pfn += 1024) {
    movePageblock(m, zone, pfn, HIGHATOMIC);
    movePageblock(m, zone, pfn + 512, ISOLATE);
  }
  expect(takeFromBuddy(m, zone, 0, UNMOVABLE, "any")).toBe(NO_PFN);
  expect(checkPhys(m)).toEqual([]);
});

test("PHYS-027 no-fragment claims whole pageblocks only", () => {
  const m = memory(32);
  const zone = m.zones[1];
  while (take(m, zone, 8, MOVABLE) !== NO_PFN);
  give(m, 4096 + 256);
  expect(takeFromBuddy(m, zone, 0, UNMOVABLE, "no-fragment")).toBe(NO_PFN);
  expect(takeFromBuddy(m, zone, 0, UNMOVABLE, "any")).toBe(4096 + 256);
});

test("PHYS-027 a block that may not be claimed is stolen, remainder and label stay", () => {
  const m = memory(32);
  const zone = m.zones[1];
  const events: number[][] = [];
  const held: number[] = [];
  for (let pfn = take(m, zone, 3, UNMOVABLE); pfn !== NO_PFN; pfn = take(m, zone, 3, UNMOVABLE)) {
    held.push(pfn);
  }
  give(m, held[5]);
  m.events = { emit: (...event: number[]) => void events.push(event) };

  const stolen = take(m, zone, 1, MOVABLE);

  expect(stolen).toBe(held[5]);
  expect(pageblockTypeOf(m, stolen)).toBe(UNMOVABLE);
  expect(listed(m, zone, 2, UNMOVABLE)).toEqual([stolen + 4]);
  expect(listed(m, zone, 1, UNMOVABLE)).toEqual([stolen + 2]);
  expect(events).toEqual([[EVENT.mm_page_alloc_extfrag, 1, 3, 0]]);
  expect(zone.boost).toBe(0);
});

test("PHYS-028 which blocks a type may claim", () => {
  for (let order = 0; order <= 10; order++) {
    expect(mayClaim(order, UNMOVABLE)).toBe(true);
    expect(mayClaim(order, RECLAIMABLE)).toBe(true);
    expect(mayClaim(order, MOVABLE)).toBe(order >= 4);
  }
});

for (const [nrFree, isClaimed] of [
  [255, false],
  [256, true],
] as const) {
  const what = isClaimed ? "claimed" : "not claimed";
  test(`PHYS-029 a pageblock with ${nrFree} free and else movable pages is ${what}`, () => {
    const label = MOVABLE;
    const m = memory(32);
    const zone = m.zones[1];
    const pages: number[] = [];
    for (let pfn = take(m, zone, 0, label); pfn !== NO_PFN; pfn = take(m, zone, 0, label)) {
      pages.push(pfn);
    }
    for (const pfn of pages.slice(512, 512 + nrFree)) give(m, pfn);

    const got = take(m, zone, 0, UNMOVABLE);

    expect(got).toBeGreaterThanOrEqual(pages[512]);
    expect(pageblockTypeOf(m, got)).toBe(isClaimed ? UNMOVABLE : MOVABLE);
    expect(checkPhys(m)).toEqual([]);
  });
}

test("PHYS-029 pages that are neither free nor movable speak for an unmovable claim", () => {
  const m = memory(32);
  const zone = m.zones[1];
  const pages: number[] = [];
  for (let pfn = take(m, zone, 0, MOVABLE); pfn !== NO_PFN; pfn = take(m, zone, 0, MOVABLE)) {
    pages.push(pfn);
  }
  for (const pfn of pages.slice(0, 240)) lruDel(m, pfn);
  for (const pfn of pages.slice(240, 256)) give(m, pfn);
  expect(pageblockTypeOf(m, take(m, zone, 0, RECLAIMABLE))).toBe(RECLAIMABLE);
});

test("PHYS-029 a claimed pageblock changes label before its remainder is listed: no page is handed out twice", () => {
  const m = memory(32);
  const zone = m.zones[1];
  const seen = new Set<number>();
  for (const type of [UNMOVABLE, MOVABLE, RECLAIMABLE]) {
    for (let i = 0; i < 700; i++) {
      const pfn = take(m, zone, 0, type);
      expect(seen.has(pfn)).toBe(false);
      seen.add(pfn);
    }
  }
  expect(checkPhys(m)).toEqual([]);
});

test("PHYS-030 claiming less than a pageblock is reported as fragmenting and boosts the watermark", () => {
  const m = memory(32);
  const zone = m.zones[1];
  const events: number[][] = [];
  while (take(m, zone, 8, MOVABLE) !== NO_PFN);
  give(m, 4096 + 256);
  m.events = { emit: (...event: number[]) => void events.push(event) };

  take(m, zone, 0, UNMOVABLE);

  expect(events).toEqual([[EVENT.mm_page_alloc_extfrag, 0, 8, 1]]);
  expect(zone.boost).toBe(512);
});

test("blocks freed as a run end up as if freed one by one", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 2000 }),
      fc.integer({ min: 1, max: 2000 }),
      (from, nr) => {
        const whole = memory(32);
        const single = memory(32);
        for (const m of [whole, single]) {
          while (takeBlock(m, m.zones[1], 10, MOVABLE) !== NO_PFN);
        }
        const start = 4096 + from;
        freeRun(whole, whole.zones[1], start, start + nr);
        for (let pfn = start; pfn < start + nr; pfn++) {
          freeBlock(single, single.zones[1], pfn, 0, "auto");
        }
        for (let order = 0; order < NR_ORDERS; order++) {
          const sorted = (m: PhysState) => listed(m, m.zones[1], order, MOVABLE).sort();
          expect(sorted(whole)).toEqual(sorted(single));
        }
        expect(whole.vmstat[VMSTAT.nr_free_pages]).toBe(single.vmstat[VMSTAT.nr_free_pages]);
      },
    ),
    { numRuns: 50 },
  );
});
