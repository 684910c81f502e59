import { expect, test } from "vitest";
import { COST_TABLES } from "../hw/cost-tables.ts";
import { GEOMETRIES } from "../hw/presets.ts";
import { SyntheticProgram, tellForkServer, tellSequentialFill } from "../trace/synthetic.ts";
import { DEFAULT_MACHINE } from "./machine-options.ts";
import { ForkFinder, SHARING_WAYS, SharingReplay } from "./shared-experiment.ts";

const PLAN = {
  machine: { ...DEFAULT_MACHINE, memoryBytes: 128 * 2 ** 20 },
  geometry: GEOMETRIES[0],
  mode: { kind: "native" },
  costs: COST_TABLES[0],
} as const;

/** A server of 8 MiB writes 40 pages, ten in each 2 MiB, while its child reads all of them. */
function outcomes() {
  return SHARING_WAYS.map((way) => {
    const replay = new SharingReplay({ ...PLAN, way, fork: 0 });
    tellForkServer(replay, 2048, 40);
    return replay.outcome();
  });
}

test("COLL-480 COLL-421 COLL-423 the memory of a forking server stays shared, in fewer folios and by huge mappings, for 2 P entries", () => {
  const [alone, copied, shared] = outcomes();
  const nr = shared.cost.collapsed;
  expect(nr).toBeGreaterThanOrEqual(3); // regions that lie wholly in its 8 MiB
  const { lruFolios, pmds, coldReadCycles, ...amounts } = alone.memory;
  expect(shared.memory).toMatchObject({
    ...amounts,
    lruFolios: lruFolios - 511 * nr,
    pmds: 2 * nr,
  });
  expect([pmds, amounts.sharedPages]).toEqual([0, 2048]);
  expect(shared.memory.coldReadCycles).toBeLessThan(coldReadCycles / 2);
  expect(shared.cost).toMatchObject({ ptesUpdated: nr * 2048, ptesMax: 2048, refused: {} });
  expect(alone.cost).toMatchObject({ collapsed: 0, ptesUpdated: 0, cpuNs: 0 });
  // Every page of every region is shared, which the copying collapse does not touch even at max_ptes_shared=511.
  expect([copied.cost.collapsed, copied.memory.lruFolios]).toEqual([0, lruFolios]);
});

test("COLL-481 what the server writes afterwards is copied page by page, whatever was done; its huge mappings are split", () => {
  const [alone, copied, shared] = outcomes();
  expect([alone, copied, shared].map(({ rest }) => rest.copyFaults)).toEqual([40, 40, 40]);
  expect(shared.rest.pmdSplits).toBe(shared.cost.collapsed);
  expect(shared.rest.peakAnonPages).toBe(alone.rest.peakAnonPages);
  expect(shared.rest.walkCycles!).toBeLessThan(alone.rest.walkCycles!);
});

test("the fork is the one at which most is shared; children that run another program do not count", () => {
  const finder = new ForkFinder(PLAN);
  const program = new SyntheticProgram(finder, "forks");
  const mapping = program.map(0, 100);
  for (let page = 0; page < 100; page++) {
    program.write(0, mapping, page);
    if (page === 49 || page === 79 || page === 89) {
      const child = program.fork(0);
      if (page === 89) finder.exec(child);
      program.exit(child);
    }
  }
  program.end();
  expect(finder.best()).toEqual({ fork: 1, pages: 80 });

  const none = new ForkFinder(PLAN);
  tellSequentialFill(none, 10);
  expect(none.best()).toBe(null);
});
