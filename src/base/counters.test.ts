import { expect, test } from "vitest";
import { NR_THP_STATS, THP_STAT, THP_STAT_NAMES, VMSTAT, VMSTAT_NAMES } from "./counters.ts";

test("ANON-013 each size has the statistics of the kernel's stats folder", () => {
  const wanted = [
    ["anon_fault_alloc", "anon_fault_fallback", "anon_fault_fallback_charge"],
    ["split", "split_failed", "split_deferred", "nr_anon", "nr_anon_partially_mapped"],
    ["swpin", "swpin_fallback", "swpin_fallback_charge", "swpout", "swpout_fallback", "zswpout"],
    ["shmem_alloc", "shmem_fallback", "shmem_fallback_charge"],
  ].flat();
  expect([...THP_STAT_NAMES].sort()).toEqual(wanted.sort());
  expect(NR_THP_STATS).toBe(wanted.length);
});

test("every counter has an index of its own", () => {
  expect(VMSTAT_NAMES.map((name) => VMSTAT[name])).toEqual(VMSTAT_NAMES.map((_, i) => i));
  expect(THP_STAT_NAMES.map((name) => THP_STAT[name])).toEqual(THP_STAT_NAMES.map((_, i) => i));
});
