import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { NR_THP_STATS, THP_STAT, VMSTAT } from "../base/counters.ts";
import { EVENT } from "../base/events.ts";
import { PROFILES } from "../base/profile.ts";
import {
  allocFolio,
  freeFolio,
  GFP,
  GFP_ATOMIC,
  GFP_HIGHUSER_MOVABLE,
  GFP_KERNEL,
  GFP_TRANSHUGE,
  GFP_TRANSHUGE_LIGHT,
  getFolio,
  putFolio,
} from "./alloc.ts";
import { createPhys, type PhysConfig } from "./boot.ts";
import { movePageblock, pageblockTypeOf, zoneOf } from "./buddy.ts";
import { checkPhys } from "./check.ts";
import { NO_PFN, PG } from "./frame-table.ts";
import { highAtomicLimit, unreserveHighAtomic } from "./highatomic.ts";
import { lruActivate, lruAdd, lruLazyFree } from "./lru.ts";
import { chargeFolio, createMemcg, memcgOf } from "./memcg.ts";
import { drainAll } from "./pcp.ts";
import {
  type CompactVerdict,
  MIGRATE,
  type PhysState,
  type ReclaimPort,
  ZONE,
  ZONE_NAMES,
} from "./state.ts";
import { refreshWatermarks, setBoost, setMinFreeKbytes } from "./watermarks.ts";
import { minMarkFor } from "./zone-walk.ts";

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;

function memory(options: Partial<PhysConfig> = {}): PhysState {
  return createPhys({
    memoryBytes: 64 * MIB,
    nrCpus: 1,
    nrNodes: 1,
    profile: PROFILES[0],
    pcp: "off",
    ...options,
  });
}

/** Takes single pages until the request fails. */
function exhaust(m: PhysState, gfp: number, order = 0): number[] {
  const pfns: number[] = [];
  for (let pfn = allocFolio(m, order, gfp, 0); pfn !== NO_PFN; ) {
    pfns.push(pfn);
    pfn = allocFolio(m, order, gfp, 0);
  }
  return pfns;
}

describe("folios", () => {
  test("a huge folio's rows: order on every page, one reference on the head, zero contents", () => {
    const m = memory();
    const pfn = allocFolio(m, 9, GFP_TRANSHUGE, 0);
    const { order, refcount, flags, tag } = m.frames;
    expect(pfn % 512).toBe(0);
    expect(new Set(order.subarray(pfn, pfn + 512))).toEqual(new Set([9]));
    expect([...refcount.subarray(pfn, pfn + 512)].reduce((sum, count) => sum + count)).toBe(1);
    flags[pfn + 5] = PG.ANON_EXCLUSIVE;
    tag.fill(9, pfn, pfn + 512);
    putFolio(m, pfn);
    expect(allocFolio(m, 9, GFP_TRANSHUGE, 0)).toBe(pfn);
    expect(new Set(tag.subarray(pfn, pfn + 512))).toEqual(new Set([0]));
    expect(flags[pfn + 5]).toBe(0);
  });

  test("the last reference frees the folio", () => {
    const m = memory();
    const pfn = allocFolio(m, 2, GFP_KERNEL, 0);
    getFolio(m, pfn);
    putFolio(m, pfn);
    expect(m.vmstat[VMSTAT.pgfree]).toBe(0);
    putFolio(m, pfn);
    expect(m.vmstat[VMSTAT.pgfree]).toBe(4);
    expect(() => putFolio(m, pfn)).toThrow("more references given back than taken");
    expect(() => getFolio(m, pfn)).toThrow("reference to a free folio");
  });

  test("a folio that is referenced, mapped, pinned or already free cannot be freed", () => {
    const m = memory();
    const pfn = allocFolio(m, 2, GFP_KERNEL, 0);
    expect(() => freeFolio(m, pfn)).toThrow("referenced");
    m.frames.refcount[pfn] = 0;
    m.frames.largeMapcount[pfn] = 1;
    expect(() => freeFolio(m, pfn)).toThrow("mapped");
    m.frames.largeMapcount[pfn] = 0;
    m.frames.pincount[pfn] = 1;
    expect(() => freeFolio(m, pfn)).toThrow("pinned");
    m.frames.pincount[pfn] = 0;
    freeFolio(m, pfn);
    expect(() => freeFolio(m, pfn)).toThrow("not allocated");
  });

  test("ANON-137 a freed anonymous large folio leaves nr_anon and nr_anon_partially_mapped", () => {
    const m = memory();
    const pfn = allocFolio(m, 4, GFP_TRANSHUGE, 0);
    m.frames.flags[pfn] = PG.ANON | PG.SWAPBACKED | PG.PARTIALLY_MAPPED;
    putFolio(m, pfn);
    expect(m.thpStats[4 * NR_THP_STATS + THP_STAT.nr_anon]).toBe(-1);
    expect(m.thpStats[4 * NR_THP_STATS + THP_STAT.nr_anon_partially_mapped]).toBe(-1);
  });

  test("PHYS-001 the largest block has 1024 pages and a pageblock 512", () => {
    const m = memory();
    const pfn = allocFolio(m, 10, GFP_TRANSHUGE, 0);
    expect(pfn % 1024).toBe(0);
    expect(m.frames.order[pfn + 1023]).toBe(10);
    expect(m.zones[0].freeBlocks.length).toBe(11 * 5);
    expect(m.pageblockType.length).toBe((64 * MIB) / (2 * MIB));
  });

  test("PHYS-005 the event of an allocation carries the migratetype's number", () => {
    const m = memory();
    const types: number[] = [];
    m.events = {
      emit: (event, _pfn, _order, type) => {
        if (event === EVENT.mm_page_alloc) types.push(type);
      },
    };
    for (const gfp of [GFP_KERNEL, GFP_HIGHUSER_MOVABLE, GFP_KERNEL | GFP.RECLAIMABLE]) {
      const pfn = allocFolio(m, 9, gfp, 0);
      expect(pageblockTypeOf(m, pfn)).toBe(types.at(-1));
    }
    expect(types).toEqual([0, 1, 2]);
  });

  test("allocation and freeing are told to the event sink", () => {
    const m = memory();
    const events: number[][] = [];
    m.events = { emit: (...event: number[]) => void events.push(event) };
    const pfn = allocFolio(m, 9, GFP_TRANSHUGE, 0);
    putFolio(m, pfn);
    expect(events).toEqual([
      [EVENT.mm_page_alloc, pfn, 9, MIGRATE.MOVABLE],
      [EVENT.mm_page_free, pfn, 9, 0],
    ]);
  });
});

describe("which zone serves a request", () => {
  test("PHYS-011 a user page comes from the highest zone, then from lower ones, then from the next node", () => {
    const m = memory({ memoryBytes: 10 * GIB, nrNodes: 2, movableBytesPerNode: 64 * MIB });
    m.sysctl.watermarkScaleFactor = 0;
    m.sysctl.lowmemReserveRatio.fill(0);
    setMinFreeKbytes(m, 0);
    const places: string[] = [];
    for (;;) {
      const pfn = allocFolio(m, 10, GFP_HIGHUSER_MOVABLE, 1);
      if (pfn === NO_PFN) break;
      const zone = zoneOf(m, pfn);
      const place = `${zone.node} ${ZONE_NAMES[zone.kind]}`;
      if (places.at(-1) !== place) places.push(place);
    }
    expect(places).toEqual(["1 Movable", "1 Normal", "0 Movable", "0 Normal", "0 DMA32", "0 DMA"]);
    expect(allocFolio(m, 10, GFP_HIGHUSER_MOVABLE, 0)).toBe(NO_PFN);
  });

  test("PHYS-011 kernel memory does not come from the Movable zone, DMA32 requests not from above 4 GiB", () => {
    const m = memory({ memoryBytes: 5 * GIB, movableBytesPerNode: 64 * MIB });
    const zoneOfNew = (gfp: number) => ZONE_NAMES[zoneOf(m, allocFolio(m, 0, gfp, 0)).kind];
    expect(zoneOfNew(GFP_HIGHUSER_MOVABLE)).toBe("Movable");
    expect(zoneOfNew(GFP_KERNEL)).toBe("Normal");
    expect(zoneOfNew(GFP_KERNEL | GFP.DMA32)).toBe("DMA32");
    expect(zoneOfNew(GFP_KERNEL | GFP.DMA)).toBe("DMA");
  });

  test("THISNODE keeps to the node", () => {
    const m = memory({ memoryBytes: 512 * MIB, nrNodes: 2 });
    for (const pfn of exhaust(m, GFP_TRANSHUGE_LIGHT | GFP.THISNODE, 9)) {
      expect(zoneOf(m, pfn).node).toBe(0);
    }
    expect(allocFolio(m, 9, GFP_TRANSHUGE_LIGHT, 0)).not.toBe(NO_PFN);
  });

  test("PHYS-145 numa counters move by one per block, whatever its order", () => {
    const m = memory({ memoryBytes: 512 * MIB, nrNodes: 2, nrCpus: 2 });
    const numa = () =>
      (["numa_hit", "numa_miss", "numa_local", "numa_other"] as const).map(
        (name) => m.vmstat[VMSTAT[name]],
      );
    allocFolio(m, 9, GFP_TRANSHUGE, 0);
    expect(numa()).toEqual([1, 0, 1, 0]);
    allocFolio(m, 0, GFP_HIGHUSER_MOVABLE, 1);
    expect(numa()).toEqual([2, 0, 1, 1]);
    exhaust(m, GFP_TRANSHUGE_LIGHT | GFP.THISNODE, 9);
    const before = numa();
    m.cpu = 1;
    allocFolio(m, 9, GFP_TRANSHUGE_LIGHT, 0);
    expect(numa().map((count, i) => count - before[i])).toEqual([0, 1, 1, 0]);
  });

  test("PHYS-031 a request that prefers Normal spills to DMA32 before it mixes types", () => {
    const m = memory({ memoryBytes: 4 * GIB + 128 * MIB });
    refreshWatermarks(m);
    const normal = m.zones[2];
    // Every pageblock of Normal is Movable and has a page in use, so that none can be claimed whole.
    for (const pfn of exhaust(m, GFP_TRANSHUGE_LIGHT | GFP.THISNODE, 8)) {
      if (zoneOf(m, pfn) === normal && pfn % 512 === 256) putFolio(m, pfn);
    }
    expect(normal.nrFree).toBeGreaterThan(normal.watermarks.high);
    const dma32 = m.zones[1];
    movePageblock(m, dma32, dma32.startPfn, MIGRATE.UNMOVABLE);
    m.frames.refcount[dma32.startPfn] = 0;
    freeFolio(m, dma32.startPfn);
    setMinFreeKbytes(m, 0);
    dma32.watermarks.low = 0;

    dma32.lowmemReserve.fill(0);

    expect(zoneOf(m, allocFolio(m, 0, GFP_KERNEL, 0))).toBe(dma32);
  });
});

describe("how hard it tries", () => {
  test("PHYS-046 what a request may use of the reserve", () => {
    expect(minMarkFor(1000, GFP_KERNEL)).toBe(1000);
    expect(minMarkFor(1000, GFP_TRANSHUGE)).toBe(1000);
    expect(minMarkFor(1000, GFP_KERNEL | GFP.HIGH)).toBe(500);
    expect(minMarkFor(1000, GFP_ATOMIC)).toBe(375);
    expect(minMarkFor(1000, GFP_KERNEL | GFP.OOM_VICTIM)).toBe(500);
  });

  test("PHYS-046 reserves open one after the other", () => {
    const m = memory({ memoryBytes: 256 * MIB });
    setMinFreeKbytes(m, 8192);
    const freeOf = () => m.zones.map((zone) => zone.nrFree);
    const classes = [
      GFP_HIGHUSER_MOVABLE,
      GFP_KERNEL | GFP.HIGH,
      GFP_ATOMIC,
      GFP_KERNEL | GFP.MEMALLOC,
    ];
    const left = classes.map((gfp) => {
      exhaust(m, gfp);
      return freeOf()[1];
    });
    const { min } = m.zones[1].watermarks;
    const half = min - Math.floor(min / 2);
    expect(left).toEqual([min, half, half - Math.floor(half / 4), 0]);
  });

  test("PHYS-046 a huge page never goes below min, even for a task that frees memory", () => {
    const m = memory({ memoryBytes: 256 * MIB });
    setMinFreeKbytes(m, 8192);
    exhaust(m, GFP_TRANSHUGE | GFP.MEMALLOC, 9);
    const zone = m.zones[1];
    expect(zone.nrFree).toBeGreaterThan(zone.watermarks.min);
  });

  test("PHYS-054 the fast path keeps the low watermark: below it, kswapd is woken first", () => {
    const m = memory();
    const woken: number[] = [];
    m.reclaim = port({ wakeKswapd: (_, node, order) => void woken.push(node, order) });
    setMinFreeKbytes(m, 4096);
    const zone = m.zones[1];
    const zoneOfFast = () => {
      while (woken.length === 0) allocFolio(m, 0, GFP_HIGHUSER_MOVABLE, 0);
    };
    zoneOfFast();
    expect(woken).toEqual([0, 0]);
    expect(zone.nrFree).toBe(zone.watermarks.low - 1);
  });

  test("PHYS-044 boost counts in the watermark that wakes kswapd", () => {
    const m = memory();
    const woken: number[] = [];
    m.reclaim = port({ wakeKswapd: () => void woken.push(1) });
    const zone = m.zones[1];
    setBoost(zone, zone.nrFree - zone.watermarks.low - 10);
    for (let i = 0; i < 10; i++) expect(zoneOf(m, allocFolio(m, 0, GFP_KERNEL, 0))).toBe(zone);
    expect(zoneOf(m, allocFolio(m, 0, GFP_KERNEL, 0))).toBe(m.zones[0]);
  });

  /** What a huge request does that finds nothing, when compaction always gives this verdict. */
  function stepsOf(gfp: number, verdict: CompactVerdict): string[] {
    const m = memory();
    const done: string[] = [];
    exhaust(m, GFP_TRANSHUGE_LIGHT, 9);
    m.reclaim = port({
      wakeKswapd: () => void done.push("kswapd"),
      compact: (_m, _node, _order, _gfp, mode) => {
        done.push(mode);
        return verdict;
      },
      reclaim: (_m, _node, _order, _gfp, nrPages) => {
        done.push(`reclaim ${nrPages}`);
        return 0;
      },
      outOfMemory: () => {
        done.push("oom");
        return false;
      },
    });
    expect(allocFolio(m, 9, gfp, 0)).toBe(NO_PFN);
    expect(checkPhys(m)).toEqual([]);
    return done;
  }

  test("PHYS-050 the light class neither reclaims nor wakes anybody", () => {
    expect(stepsOf(GFP_TRANSHUGE_LIGHT, "complete")).toEqual([]);
  });

  test("PHYS-053 light with kswapd wakes it and does no more", () => {
    expect(stepsOf(GFP_TRANSHUGE_LIGHT | GFP.KSWAPD_RECLAIM, "complete")).toEqual(["kswapd"]);
  });

  test("PHYS-051 the full class compacts and reclaims without waking kswapd", () => {
    const steps = ["async", "reclaim 32", "sync-light"];
    expect(stepsOf(GFP_TRANSHUGE, "complete")).toEqual(steps);
    expect(stepsOf(GFP_TRANSHUGE, "skipped")).toEqual(steps);
  });

  test("PHYS-054 with NORETRY compaction stays asynchronous, and a hopeless verdict ends it", () => {
    const gfp = GFP_TRANSHUGE | GFP.NORETRY;
    expect(stepsOf(gfp, "complete")).toEqual(["async", "reclaim 32", "async"]);
    expect(stepsOf(gfp, "skipped")).toEqual(["async"]);
    expect(stepsOf(gfp, "deferred")).toEqual(["async"]);
  });

  test("PHYS-140 NORETRY on one node compacts and does not reclaim", () => {
    const gfp = GFP_TRANSHUGE | GFP.NORETRY | GFP.THISNODE;
    expect(stepsOf(gfp, "complete")).toEqual(["async"]);
  });

  test("PHYS-002 above order 3 a request never reaches the OOM killer, at order 3 it does", () => {
    const kills = [3, 4].map((order) => {
      const m = memory();
      exhaust(m, GFP_TRANSHUGE_LIGHT, order);
      let nrKills = 0;
      m.reclaim = port({
        outOfMemory: () => {
          nrKills++;
          return false;
        },
      });
      expect(allocFolio(m, order, GFP_KERNEL, 0)).toBe(NO_PFN);
      return nrKills;
    });
    expect(kills).toEqual([1, 0]);
  });

  test("PHYS-003 PHYS-052 an order-0 user page wakes kswapd and reclaims 32 pages at a time", () => {
    const m = memory();
    const held = exhaust(m, GFP_HIGHUSER_MOVABLE);
    const done: string[] = [];
    m.reclaim = port({
      wakeKswapd: () => void done.push("kswapd"),
      compact: () => expect.unreachable(),
      reclaim: (machine, _node, order, _gfp, nrPages) => {
        done.push(`reclaim ${nrPages} for order ${order}`);
        if (done.length === 4) putFolio(machine, held[0]);
        return done.length === 4 ? 1 : 0;
      },
    });
    expect(allocFolio(m, 0, GFP_HIGHUSER_MOVABLE, 0)).toBe(held[0]);
    const round = "reclaim 32 for order 0";
    expect(done).toEqual(["kswapd", round, round, round]);
  });

  test("PHYS-055 a huge page that reclaim makes room for is served", () => {
    const m = memory();
    const held = exhaust(m, GFP_TRANSHUGE_LIGHT, 9);
    m.reclaim = port({
      reclaim: (machine) => {
        putFolio(machine, held[3]);
        return 512;
      },
    });
    expect(allocFolio(m, 9, GFP_TRANSHUGE, 0)).toBe(held[3]);
  });

  test("PHYS-120 a small request asks the OOM killer after 16 rounds without progress", () => {
    const m = memory();
    const held = exhaust(m, GFP_HIGHUSER_MOVABLE);
    let rounds = 0;
    let kills = 0;
    m.reclaim = port({
      reclaim: () => {
        rounds++;
        return 0;
      },
      outOfMemory: (machine) => {
        kills++;
        for (const pfn of held) putFolio(machine, pfn);
        return true;
      },
    });
    expect(allocFolio(m, 0, GFP_HIGHUSER_MOVABLE, 0)).not.toBe(NO_PFN);
    expect([rounds, kills]).toEqual([16, 1]);
  });

  test("PHYS-120 NORETRY never asks the OOM killer", () => {
    const m = memory();
    exhaust(m, GFP_HIGHUSER_MOVABLE);
    let rounds = 0;
    m.reclaim = port({
      reclaim: () => {
        rounds++;
        return 0;
      },
      outOfMemory: () => expect.unreachable(),
    });
    expect(allocFolio(m, 0, GFP_HIGHUSER_MOVABLE | GFP.NORETRY, 0)).toBe(NO_PFN);
    expect(rounds).toBe(1);
  });

  test("pages that wait on per-CPU lists are found before a request that may reclaim fails", () => {
    const m = memory({ pcp: "on" });
    const held = exhaust(m, GFP_HIGHUSER_MOVABLE);
    drainAll(m);
    for (const zone of m.zones) for (const pcp of zone.pcps) pcp.high = 10_000;
    for (const pfn of held.slice(0, 4096)) putFolio(m, pfn);
    expect(allocFolio(m, 9, GFP_TRANSHUGE_LIGHT, 0)).toBe(NO_PFN);
    expect(allocFolio(m, 9, GFP_TRANSHUGE, 0)).not.toBe(NO_PFN);
  });
});

describe("the HighAtomic reserve", () => {
  test("PHYS-047 one percent, rounded up to a pageblock, and none if that is less than one", () => {
    expect(highAtomicLimit(51_199)).toBe(0);
    expect(highAtomicLimit(51_200)).toBe(512);
    expect(highAtomicLimit(51_300)).toBe(1024);
    expect(highAtomicLimit(557_056)).toBe(5632);
  });

  test("PHYS-047 a high-order atomic request reserves its pageblock; ordinary ones keep out of it", () => {
    const m = memory({ memoryBytes: 512 * MIB });
    const zone = m.zones[1];
    const pfn = allocFolio(m, 2, GFP_ATOMIC, 0);
    expect(pageblockTypeOf(m, pfn)).toBe(MIGRATE.HIGHATOMIC);
    expect(zone.nrReservedHighAtomic).toBe(512);
    expect(zone.nrFreeHighAtomic).toBe(508);
    expect(checkPhys(m)).toEqual([]);

    expect(pageblockTypeOf(m, allocFolio(m, 2, GFP_KERNEL, 0))).toBe(MIGRATE.UNMOVABLE);
    expect(allocFolio(m, 2, GFP_ATOMIC, 0) >> 9).toBe(pfn >> 9);
    putFolio(m, pfn);
    expect(zone.nrFreeHighAtomic).toBe(508);
  });

  test("PHYS-047 under pressure the reserve goes back, all but one block unless forced", () => {
    const m = memory({ memoryBytes: 512 * MIB });
    const zone = m.zones[1];
    while (zone.nrReservedHighAtomic < 1024) allocFolio(m, 9, GFP_ATOMIC, 0);
    const held = allocFolio(m, 3, GFP_ATOMIC, 0);
    putFolio(m, held);
    const reserved = zone.nrReservedHighAtomic;
    while (unreserveHighAtomic(m, "keep one"));
    expect(zone.nrReservedHighAtomic).toBeLessThanOrEqual(reserved);
    expect(zone.nrReservedHighAtomic).toBeGreaterThanOrEqual(512);
    while (unreserveHighAtomic(m, "force"));
    expect(zone.nrFreeHighAtomic).toBe(0);
    expect(checkPhys(m)).toEqual([]);
  });
});

/** A port whose steps find nothing, but for the given ones. */
function port(steps: Partial<ReclaimPort>): ReclaimPort {
  return {
    wakeKswapd: () => {},
    compact: () => "skipped",
    reclaim: () => 0,
    reclaimMemcg: () => 0,
    outOfMemory: () => false,
    ...steps,
  };
}

type Action =
  | { kind: "alloc"; order: number; gfp: number; node: number; memcg: number }
  | { kind: "put" | "get" | "activate" | "lazyfree"; which: number }
  | { kind: "drain" }
  | { kind: "cpu"; cpu: number };

const actions = fc.array(
  fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({
        kind: fc.constant("alloc" as const),
        order: fc.oneof(fc.integer({ min: 0, max: 10 }), fc.constantFrom(0, 9)),
        gfp: fc.constantFrom(
          GFP_HIGHUSER_MOVABLE,
          GFP_TRANSHUGE,
          GFP_TRANSHUGE_LIGHT,
          GFP_KERNEL,
          GFP_KERNEL | GFP.RECLAIMABLE,
          GFP_ATOMIC,
          GFP_TRANSHUGE | GFP.NORETRY | GFP.THISNODE,
        ),
        node: fc.integer({ min: 0, max: 1 }),
        memcg: fc.integer({ min: 0, max: 2 }),
      }),
    },
    {
      weight: 5,
      arbitrary: fc.record({
        kind: fc.constantFrom(
          "put" as const,
          "get" as const,
          "activate" as const,
          "lazyfree" as const,
        ),
        which: fc.nat(),
      }),
    },
    { weight: 1, arbitrary: fc.constant({ kind: "drain" as const }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("cpu" as const), cpu: fc.nat(1) }) },
  ),
  { minLength: 10, maxLength: 60 },
);

/** References held, by head: the naive model of who owns which frames. */
type Owners = Map<number, { order: number; references: number }>;

/** Does one action on the machine and in the model. */
function act(m: PhysState, owners: Owners, action: Action): void {
  if (action.kind === "drain") {
    drainAll(m);
    return;
  }
  if (action.kind === "cpu") {
    m.cpu = action.cpu;
    return;
  }
  if (action.kind === "alloc") {
    const pfn = allocFolio(m, action.order, action.gfp, action.node);
    if (pfn === NO_PFN) return;
    expect(pfn % 2 ** action.order).toBe(0);
    for (const [head, owner] of owners) {
      const isApart = pfn >= head + 2 ** owner.order || head >= pfn + 2 ** action.order;
      expect(isApart).toBe(true);
    }
    owners.set(pfn, { order: action.order, references: 1 });
    chargeFolio(m, pfn, action.memcg);
    if ((action.gfp & GFP.MOVABLE) !== 0) {
      m.frames.flags[pfn] |= PG.SWAPBACKED;
      lruAdd(m, pfn);
    }
    return;
  }
  if (owners.size === 0) return;
  const head = [...owners.keys()][action.which % owners.size];
  const owner = owners.get(head)!;
  if (action.kind === "get") {
    getFolio(m, head);
    owner.references++;
  } else if (action.kind === "put") {
    putFolio(m, head);
    if (--owner.references === 0) owners.delete(head);
  } else if ((m.frames.flags[head] & PG.LRU) !== 0) {
    if (action.kind === "activate") lruActivate(m, head);
    else lruLazyFree(m, head);
  }
}

describe("random histories", () => {
  test.each(["on", "off"] as const)(
    "no frame has two owners and every account agrees after every step, per-CPU lists %s",
    (pcp) => {
      fc.assert(
        fc.property(actions, (list) => {
          const m = memory({
            memoryBytes: 288 * MIB,
            nrNodes: 2,
            nrCpus: 2,
            pcp,
            movableBytesPerNode: 16 * MIB,
          });
          const owners: Owners = new Map();
          const group = createMemcg(m, "a", 0);
          createMemcg(m, "b", group);
          memcgOf(m, group).max = 4000;
          for (const action of list) {
            act(m, owners, action);
            expect(checkPhys(m)).toEqual([]);
          }
          for (const [head, owner] of owners) {
            for (let i = 0; i < owner.references; i++) putFolio(m, head);
          }
          drainAll(m);
          expect(checkPhys(m)).toEqual([]);
          const managed = m.zones.reduce((sum, zone) => sum + zone.managedPages, 0);
          expect(m.vmstat[VMSTAT.nr_free_pages]).toBe(managed);
          expect(memcgOf(m, group).usage).toBe(0);
          expect(m.lruPages.every((pages) => pages === 0)).toBe(true);
        }),
        { numRuns: 20 },
      );
    },
  );

  test.each(["on", "off"] as const)(
    "the same calls give the same state, per-CPU lists %s",
    (pcp) => {
      fc.assert(
        fc.property(actions, (list) => {
          const [first, second] = [0, 1].map(() => {
            const m = memory({ memoryBytes: 288 * MIB, nrNodes: 2, nrCpus: 2, pcp });
            const owners: Owners = new Map();
            createMemcg(m, "a", 0);
            createMemcg(m, "b", 0);
            for (const action of list) act(m, owners, action);
            return { heads: [...owners.keys()], vmstat: m.vmstat, zones: m.zones };
          });
          expect(first).toEqual(second);
        }),
        { numRuns: 10 },
      );
    },
  );
});

test("PHYS-045 a user request leaves what lowmem_reserve keeps in lower zones", () => {
  const m = memory({ memoryBytes: 5 * GIB });
  exhaust(m, GFP_TRANSHUGE_LIGHT, 10);
  const dma32 = m.zones[1];
  const kept = dma32.watermarks.low + dma32.lowmemReserve[ZONE.MOVABLE];
  expect(dma32.lowmemReserve[ZONE.MOVABLE]).toBeGreaterThan(0);
  expect(dma32.nrFree).toBeGreaterThan(
    m.zones[1].watermarks.min + dma32.lowmemReserve[ZONE.MOVABLE],
  );
  expect(dma32.nrFree).toBeLessThan(kept + 2048);
});
