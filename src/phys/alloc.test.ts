import { expect, test } from "vitest";
import { PROFILES } from "../base/profile.ts";
import { allocFolio, GFP_HIGHUSER_MOVABLE, GFP_TRANSHUGE, putFolio } from "./alloc.ts";
import { createPhys } from "./boot.ts";
import { NO_PFN } from "./frame-table.ts";

const MIB = 1024 * 1024;

function machine(pcp: "on" | "off") {
  return createPhys({ memoryBytes: 64 * MIB, nrCpus: 2, nrNodes: 1, profile: PROFILES[0]!, pcp });
}

test("a huge folio is aligned, whole and comes back", () => {
  for (const pcp of ["on", "off"] as const) {
    const m = machine(pcp);
    const before = m.zones.reduce((sum, zone) => sum + zone.nrFree, 0);
    const pfns: number[] = [];
    for (;;) {
      const pfn = allocFolio(m, 9, GFP_TRANSHUGE, 0);
      if (pfn === NO_PFN) break;
      expect(pfn % 512).toBe(0);
      pfns.push(pfn);
    }
    const small = allocFolio(m, 0, GFP_HIGHUSER_MOVABLE, 0);
    expect(small).not.toBe(NO_PFN);
    putFolio(m, small);
    expect(new Set(pfns).size).toBeGreaterThan(20);
    for (const pfn of pfns) putFolio(m, pfn);
    if (pcp === "off") expect(m.zones.reduce((sum, zone) => sum + zone.nrFree, 0)).toBe(before);
  }
});
