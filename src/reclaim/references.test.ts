import { expect, test } from "vitest";
import { type Kit, machine, part, type Range } from "../machine/test-kit.ts";
import { PROT } from "../syscall/mmap.ts";
import { isolateFolio, reclaimFolios } from "./page-out.ts";

/** One round of reclaim over the folio of a page, as the scan of the inactive list does it. */
function reclaim(m: Kit, range: Range): number {
  const head = m.folio(range);
  expect(isolateFolio(m.m, head)).toBe(true);
  const nr = reclaimFolios(m.m, [head], "check");
  m.check();
  return nr;
}

function withSwap(): Kit {
  const m = machine();
  m.swapon({ pages: 4096 });
  return m;
}

test("PHYS-091 one touch of a huge mapping buys one round, however many pages were touched", () => {
  const m = withSwap();
  const range = m.mapHuge();
  m.fill(range);
  expect(reclaim(m, range)).toBe(0);
  expect(m.isHuge(range)).toBe(true);
  expect(m.flags(range)).toContain("REFERENCED");
  expect(m.flags(range)).not.toContain("ACTIVE");
  expect(m.smaps(range).Referenced).toBe(0);
  expect(reclaim(m, range)).toBe(512);
  expect(m.states(range)).toBe("swap*512");
});

test("PHYS-091 a huge mapping touched again in the next round becomes active", () => {
  const m = withSwap();
  const range = m.mapHuge();
  reclaim(m, range);
  m.read(range);
  expect(m.deltas(() => reclaim(m, range))).toEqual({
    nr_inactive_anon: -512,
    nr_active_anon: 512,
    pgactivate: 512,
  });
});

test("PHYS-091 a folio mapped by PTEs is activated at once if two of its pages were touched", () => {
  const m = withSwap();
  const range = m.mapHuge();
  m.fill(range);
  m.mprotect(part(range, 0, 1), PROT.READ);
  m.mprotect(part(range, 0, 1), PROT.READ | PROT.WRITE);
  m.madvise(range, "COLD");
  m.read(range, 3);
  expect(m.deltas(() => reclaim(m, range))).toEqual({});
  m.madvise(range, "COLD");
  m.read(range, 3);
  m.read(range, 4);
  expect(m.deltas(() => reclaim(m, range))).toMatchObject({ pgactivate: 512 });
});

test("PHYS-091 an untouched page is reclaimed in the first round; two processes' touches are two", () => {
  const m = withSwap();
  const range = m.map({ pages: 2 });
  m.fill(range);
  m.madvise(part(range, 0, 1), "COLD");
  expect(reclaim(m, range)).toBe(1);
  const child = m.fork();
  const page = part(range, 1, 1);
  m.read({ ...page, mm: child });
  expect(m.deltas(() => reclaim(m, page))).toMatchObject({ pgactivate: 1 });
});

test("a page that two processes map is swapped out from both, with one slot for both", () => {
  const m = withSwap();
  const range = m.map({ pages: 1 });
  m.fill(range);
  const child = m.fork();
  m.madvise(range, "COLD"); // skipped: shared
  reclaim(m, range); // notices that both used it, or one did
  expect(reclaim(m, range)).toBe(1);
  expect([m.states(range), m.states({ ...range, mm: child })]).toEqual(["swap*1", "swap*1"]);
  expect(m.smaps(range)).toMatchObject({ Swap: 4, SwapPss: 2 });
  expect(m.m.swap.devices[0]!.nrUsed).toBe(1);
});

test("a folio in locked memory is activated, not unmapped", () => {
  const m = withSwap();
  const range = m.mapHuge();
  m.mlock(part(range, 0, 4)); // the folio itself is not mlocked (ANON-231)
  const head = m.folio(range);
  expect(isolateFolio(m.m, head)).toBe(true);
  expect(m.deltas(() => reclaimFolios(m.m, [head], "ignore"))).toMatchObject({ pgactivate: 512 });
  m.check();
  expect(m.states(range)).toBe("large*512");
  expect(m.m.swap.devices[0]!.nrUsed).toBe(0);
});
