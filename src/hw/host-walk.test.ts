import { expect, test } from "vitest";
import { commitHost, createHostWalker, readHost, smallFrame } from "./host-walk.ts";
import { geometryByName } from "./presets.ts";
import { createTableCaches } from "./table-cache.ts";

const GENERIC = geometryByName("generic");

test("scattered frames are each another frame, and none is the frame of a page that stays whole", () => {
  const host = createHostWalker(GENERIC, "4k", 4);
  const nrFrames = 2 ** 20;

  const seen = new Set<number>();
  for (let pfn = 0; pfn < nrFrames; pfn++) seen.add(smallFrame(host, pfn));

  expect(seen.size).toBe(nrFrames);
  let least = Number.POSITIVE_INFINITY;
  for (const frame of seen) least = Math.min(least, frame);
  expect(least).toBeGreaterThanOrEqual(nrFrames);
});

test("frames of a run lie together, and the next run elsewhere", () => {
  const host = createHostWalker(GENERIC, "4k", 4);
  const frames = [8, 9, 10, 11, 12].map((pfn) => smallFrame(host, pfn));

  expect(frames.slice(0, 4)).toEqual([0, 1, 2, 3].map((i) => frames[0] + i));
  expect(frames[0] % 4).toBe(0);
  expect(Math.abs(frames[4] - frames[3])).toBeGreaterThan(512);
});

test("a machine whose frames are not scattered has them where they are", () => {
  const host = createHostWalker(GENERIC, "4k");

  expect([0, 7, 2 ** 25].map((pfn) => smallFrame(host, pfn))).toEqual([0, 7, 2 ** 25]);
});

test("lines of neighbouring host tables do not drive each other out of a cache that holds them all", () => {
  const geometry = {
    ...GENERIC,
    nestedTlb: { nrEntries: 1, nrWays: 1 },
    caches: [{ sizeBytes: 64 * 1024, nrWays: 4, cycles: 10 }],
    tableShare: 1,
  };
  const host = createHostWalker(geometry, "4k");
  const caches = createTableCaches(geometry, 1)[0];
  // Every line of eight tables: 512 lines of the 1024 that the cache has.
  const readAll = () => {
    let cycles = 0;
    for (let gpfn = 0; gpfn < 8 * 512; gpfn += 8) {
      cycles += readHost(host, caches, gpfn);
      commitHost(host);
    }
    return cycles;
  };
  readAll();
  readAll();

  host.nrReferences = 0;
  const cycles = readAll();
  expect(cycles).toBe(host.nrReferences * 10);
  expect(host.nrReferences).toBe(512);
});
