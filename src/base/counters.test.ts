import { expect, test } from "vitest";
import { NR_THP_STATS, THP_STAT, THP_STAT_NAMES, VMSTAT, VMSTAT_NAMES } from "./counters.ts";
import { EVENT, EVENT_NAMES } from "./events.ts";

test("every counter, statistic and event has a number of its own", () => {
  for (const [names, numbers] of [
    [VMSTAT_NAMES, VMSTAT],
    [THP_STAT_NAMES, THP_STAT],
    [EVENT_NAMES, EVENT],
  ] as const) {
    expect(new Set(names).size).toBe(names.length);
    expect(Object.values(numbers).sort((a, b) => a - b)).toEqual([...names.keys()]);
    expect(Object.keys(numbers)).toEqual([...names]);
  }
  expect(NR_THP_STATS).toBe(THP_STAT_NAMES.length);
});

test("the five LRU counters follow each other in the order of the lists", () => {
  const first = VMSTAT.nr_inactive_anon;
  expect([
    VMSTAT.nr_active_anon,
    VMSTAT.nr_inactive_file,
    VMSTAT.nr_active_file,
    VMSTAT.nr_unevictable,
  ]).toEqual([first + 1, first + 2, first + 3, first + 4]);
});
