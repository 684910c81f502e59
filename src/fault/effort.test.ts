import { expect, test } from "vitest";
import { HUGE_SIZE, PAGE_SIZE, pteIndexOf, regionOf } from "../base/address.ts";
import { VMSTAT } from "../base/counters.ts";
import { writeKnob } from "../huge/knobs.ts";
import { NO_FAULT, writePage } from "../machine/access.ts";
import { createMachine } from "../machine/machine.ts";
import { execProcess } from "../machine/process.ts";
import { type Kit, machine } from "../machine/test-kit.ts";
import { GFP } from "../phys/gfp.ts";
import { MAP, sysMmap } from "../syscall/mmap.ts";
import { handleFault } from "./fault.ts";
import { faultKindOf } from "./kinds.ts";

/** Plugs in a reclaim port that finds nothing and notes what was asked of it. */
function notedReclaim(t: Kit): string[] {
  const asked: string[] = [];
  const noteGfp = (what: string, order: number, gfp: number) =>
    asked.push(`${what} ${order}${(gfp & GFP.NORETRY) !== 0 ? " NORETRY" : ""}`);
  t.m.reclaim = {
    wakeKswapd: (_m, _node, order) => asked.push(`kswapd ${order}`),
    compact: (_m, _node, order, gfp) => {
      noteGfp("compact", order, gfp);
      return "complete";
    },
    reclaim: (_m, _node, order, gfp) => {
      noteGfp("reclaim", order, gfp);
      return 0;
    },
    reclaimMemcg: () => {
      asked.push("reclaim memcg");
      return 0;
    },
    outOfMemory: () => {
      asked.push("out of memory");
      return false;
    },
  };
  return asked;
}

/** What a huge write fault asks for when no 2 MiB is free. */
function effort(defrag: string, isAdvised: boolean): string[] {
  const t = machine({ enabled: "always", defrag });
  const range = t.map({ huge: 1, ...(isAdvised ? { advice: "HUGEPAGE" as const } : {}) });
  t.exhaust(9);
  const asked = notedReclaim(t);
  t.write(range);
  t.m.reclaim = null;
  t.release();
  return asked.filter((what) => what.includes("9"));
}

test("ANON-110 ANON-113 without direct reclaim nothing is compacted or reclaimed", () => {
  for (const [defrag, isAdvised] of [
    ["madvise", false],
    ["never", false],
    ["never", true],
  ] as const)
    expect([defrag, isAdvised, effort(defrag, isAdvised)]).toEqual([defrag, isAdvised, []]);
});

test("ANON-110 defer wakes kswapd and goes on at once", () => {
  expect(new Set(effort("defer", false))).toEqual(new Set(["kswapd 9"]));
  expect(new Set(effort("defer", true))).toEqual(new Set(["kswapd 9"]));
  expect(new Set(effort("defer+madvise", false))).toEqual(new Set(["kswapd 9"]));
});

test("ANON-110 ANON-111 always, without advice: every try gives up early, kswapd sleeps on", () => {
  const asked = effort("always", false);
  expect(asked.length).toBeGreaterThan(0);
  expect(asked.every((what) => what.endsWith("NORETRY"))).toBe(true);
});

test("ANON-111 with advice a light local try comes first, then one with full effort", () => {
  for (const defrag of ["always", "madvise", "defer+madvise"]) {
    const asked = effort(defrag, true);
    expect(asked[0]).toBe("compact 9 NORETRY");
    expect(asked[asked.length - 1]).toBe("compact 9");
    expect(asked).not.toContain("kswapd 9");
  }
});

test("ANON-114 the huge zero page is allocated with direct compaction whatever defrag says", () => {
  const t = machine({ enabled: "always", defrag: "never" });
  const range = t.map({ huge: 1 });
  t.exhaust(9);
  const asked = notedReclaim(t);
  t.read(range);
  expect(asked).toContain("compact 9");
  t.m.reclaim = null;
  t.release();
});

test("ANON-117 the charge follows the same effort: no reclaim in the group without direct reclaim", () => {
  const charge = (defrag: string) => {
    const t = machine({ enabled: "always", defrag });
    const range = t.map({ huge: 1, mm: t.exec(t.memcg(100)) });
    const asked = notedReclaim(t);
    t.write(range);
    return asked.filter((what) => what === "reclaim memcg").length > 0;
  };
  expect(["never", "madvise", "defer", "always"].map(charge)).toEqual([false, false, false, true]);
});

test("ANON-339 a failed huge attempt never asks for a kill; a failed 4K page does", () => {
  const t = machine({ enabled: "always", defrag: "always" });
  const range = t.map({ huge: 1 });
  t.exhaust(9);
  const asked = notedReclaim(t);
  t.write(range);
  expect(asked).not.toContain("out of memory");
  t.m.reclaim = null;
  t.exhaustAll();
  const last = notedReclaim(t);
  const kinds = new Set(Array.from({ length: 20 }, (_, page) => t.write(range, page + 1)));
  expect(kinds.has("OOM")).toBe(true);
  expect(last).toContain("out of memory");
  t.m.reclaim = null;
  t.release();
});

test("ANON-104 smaller sizes are not bound to the local node", () => {
  const t = machine({
    sizes: { "64kB": "always", "2048kB": "never" },
    defrag: "never",
    memory: 256,
    nrNodes: 2,
  });
  const nrPages = (150 * 2 ** 20) / PAGE_SIZE;
  const range = t.map({ pages: nrPages });
  t.check = () => {}; // thousands of faults: one check at the end
  const kinds = new Set<string>();
  for (let page = 0; page < nrPages; page += 16) kinds.add(t.write(range, page));
  expect(kinds).toEqual(new Set(["anon mTHP 64kB"]));
});

test("ANON-073 a fault on a huge entry that already allows it sets young and dirty, no more", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  t.madvise(range, "FREE"); // old and clean
  const at = [regionOf(range.start), pteIndexOf(range.start)] as const;
  let kinds: string[] = [];
  const changed = t.deltas(() => {
    kinds = [faultKindOf(handleFault(t.m, t.mm, ...at, "read")), t.entry(range)];
    kinds.push(faultKindOf(handleFault(t.m, t.mm, ...at, "write")), t.entry(range));
  });
  expect(kinds).toEqual(["spurious", "WRITE YOUNG HUGE", "spurious", "WRITE YOUNG DIRTY HUGE"]);
  expect(changed).toEqual({ pgfault: 2 });
});

test("ANON-310 ANON-312 the memset of 3 GiB takes 1536 huge faults or 786432 small ones", () => {
  const faults = (enabled: string) => {
    const m = createMachine({ memoryBytes: 4 * 2 ** 30, randomizeAddresses: false });
    writeKnob(m, "thp.enabled", enabled);
    const { mm } = execProcess(m, 16)!;
    const length = 3 * 2 ** 30;
    const flags = MAP.PRIVATE | MAP.ANONYMOUS;
    const start = sysMmap(m, mm, { address: 0, length, prot: 3, flags });
    let nr = 0;
    for (let region = regionOf(start); region < regionOf(start) + length / HUGE_SIZE; region++)
      for (let page = 0; page < 512; page++)
        if (writePage(m, mm, region, page, 1) !== NO_FAULT) nr++;
    expect(m.vmstat[VMSTAT.pgfault]).toBe(nr);
    return nr;
  };
  expect([faults("always"), faults("never")]).toEqual([1536, 786432]);
});
