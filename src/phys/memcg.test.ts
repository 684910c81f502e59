import { expect, test } from "vitest";
import { EBUSY, ENOMEM, ENOSPC } from "../base/errno.ts";
import { PROFILES } from "../base/profile.ts";
import {
  allocFolio,
  GFP,
  GFP_HIGHUSER_MOVABLE,
  GFP_TRANSHUGE,
  GFP_TRANSHUGE_LIGHT,
  putFolio,
} from "./alloc.ts";
import { createPhys } from "./boot.ts";
import { checkPhys } from "./check.ts";
import {
  chargeFolio,
  chargePages,
  createMemcg,
  memcgOf,
  removeMemcg,
  splitCharge,
  unchargeFolio,
  unchargePages,
} from "./memcg.ts";
import type { PhysState, ReclaimPort } from "./state.ts";

function memory(): PhysState {
  return createPhys({
    memoryBytes: 64 * 1024 * 1024,
    nrCpus: 1,
    nrNodes: 1,
    profile: PROFILES[0],
    pcp: "off",
    maxMemcgs: 4,
  });
}

/** A port that only reclaims in groups. */
function memcgReclaim(reclaimMemcg: ReclaimPort["reclaimMemcg"]): ReclaimPort {
  return {
    wakeKswapd: () => {},
    compact: () => "skipped",
    reclaim: () => 0,
    reclaimMemcg,
    outOfMemory: () => false,
  };
}

test("PHYS-125 a folio is charged whole to its group and all ancestors, once", () => {
  const m = memory();
  const top = createMemcg(m, "top", 0);
  const leaf = createMemcg(m, "leaf", top);
  const other = createMemcg(m, "other", top);
  const pfn = allocFolio(m, 9, GFP_TRANSHUGE, 0);

  expect(chargeFolio(m, pfn, leaf)).toBe(0);

  expect([top, leaf, other].map((id) => memcgOf(m, id).usage)).toEqual([512, 512, 0]);
  expect(() => chargeFolio(m, pfn, other)).toThrow("charged already");
  expect(checkPhys(m)).toEqual([]);
  putFolio(m, pfn);
  expect([top, leaf].map((id) => memcgOf(m, id).usage)).toEqual([0, 0]);
  expect([top, leaf].map((id) => memcgOf(m, id).peak)).toEqual([512, 512]);
});

test("PHYS-125 the pieces of a split folio stay charged and are uncharged one by one", () => {
  const m = memory();
  const group = createMemcg(m, "a", 0);
  const pfn = allocFolio(m, 4, GFP_TRANSHUGE, 0);
  chargeFolio(m, pfn, group);
  m.frames.order.fill(2, pfn, pfn + 16);
  for (let piece = pfn; piece < pfn + 16; piece += 4) m.frames.refcount[piece] = 1;
  splitCharge(m, pfn, 4, 2);
  expect(checkPhys(m)).toEqual([]);
  for (let piece = pfn; piece < pfn + 16; piece += 4) {
    putFolio(m, piece);
    expect(memcgOf(m, group).usage).toBe(pfn + 12 - piece);
  }
});

test("PHYS-126 a refused huge charge that may reclaim is 18 failed tries, and charges nothing", () => {
  const m = memory();
  const group = createMemcg(m, "a", 0);
  memcgOf(m, group).max = 511;
  const asked: number[] = [];
  m.reclaim = memcgReclaim((_, id, nrPages) => {
    asked.push(id, nrPages);
    return 0;
  });
  const pfn = allocFolio(m, 9, GFP_TRANSHUGE, 0);
  expect(chargeFolio(m, pfn, group, GFP_TRANSHUGE)).toBe(-ENOMEM);
  expect(memcgOf(m, group).failcnt).toBe(18);
  expect(memcgOf(m, group).usage).toBe(0);
  expect(asked).toEqual(Array.from({ length: 17 }, () => [group, 512]).flat());
});

test("PHYS-126 with NORETRY a charge gives up after one reclaim, without direct reclaim at once", () => {
  const m = memory();
  const group = createMemcg(m, "a", 0);
  memcgOf(m, group).max = 511;
  expect(chargePages(m, group, 512, GFP_TRANSHUGE | GFP.NORETRY)).toBe(-ENOMEM);
  expect(memcgOf(m, group).failcnt).toBe(2);
  expect(chargePages(m, group, 512, GFP_TRANSHUGE_LIGHT)).toBe(-ENOMEM);
  expect(memcgOf(m, group).failcnt).toBe(3);
});

test("PHYS-126 reclaim in the group that is full makes room", () => {
  const m = memory();
  const top = createMemcg(m, "top", 0);
  const leaf = createMemcg(m, "leaf", top);
  memcgOf(m, top).max = 1000;
  chargePages(m, leaf, 600, GFP_HIGHUSER_MOVABLE);
  m.reclaim = memcgReclaim((machine, id, nrPages) => {
    expect(id).toBe(top);
    unchargePages(machine, leaf, 300);
    return Math.min(nrPages, 300);
  });
  expect(chargePages(m, leaf, 512, GFP_TRANSHUGE)).toBe(0);
  expect(memcgOf(m, top).usage).toBe(812);
  expect(memcgOf(m, top).failcnt).toBe(1);
  expect(memcgOf(m, leaf).failcnt).toBe(0);
});

test("a group with members or children cannot be removed; ids are reused", () => {
  const m = memory();
  const top = createMemcg(m, "top", 0);
  const leaf = createMemcg(m, "leaf", top);
  expect(removeMemcg(m, top)).toBe(-EBUSY);
  chargePages(m, leaf, 1, GFP_HIGHUSER_MOVABLE);
  expect(removeMemcg(m, leaf)).toBe(-EBUSY);
  unchargePages(m, leaf, 1);
  expect(removeMemcg(m, leaf)).toBe(0);
  expect(removeMemcg(m, top)).toBe(0);
  const ids = Array.from({ length: 5 }, (_, i) => createMemcg(m, `g${i}`, 0));
  expect(ids).toEqual([1, 2, 3, 4, -ENOSPC]);
});

test("no group, no charge", () => {
  const m = memory();
  const pfn = allocFolio(m, 0, GFP_HIGHUSER_MOVABLE, 0);
  expect(chargeFolio(m, pfn, 0)).toBe(0);
  expect(() => unchargeFolio(m, pfn)).toThrow("not charged");
});
