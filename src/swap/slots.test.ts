import fc from "fast-check";
import { expect, test } from "vitest";
import { EBUSY, EINVAL } from "../base/errno.ts";
import { createMachine, type Machine } from "../machine/machine.ts";
import { addDevice, removeDevice } from "./devices.ts";
import { allocSlots, releaseSlot } from "./slots.ts";
import { isSwapFull, NO_SWAP_ENTRY, slotOf, swapTotals, typeOf } from "./state.ts";

/** A machine with devices of these sizes (pages), or size and priority. */
function withDevices(...devices: (number | { nrSlots: number; priority: number })[]): Machine {
  const m = createMachine({ memoryBytes: 16 * 2 ** 20 });
  for (const device of devices)
    addDevice(m, typeof device === "number" ? { nrSlots: device } : device);
  return m;
}

/** Slots of `nr` allocations of an order; -1 where there was none. */
function take(m: Machine, order: number, nr = 1): number[] {
  return Array.from({ length: nr }, () => {
    const entry = allocSlots(m, order);
    return entry === NO_SWAP_ENTRY ? -1 : slotOf(entry);
  });
}

function give(m: Machine, first: number, nr: number): void {
  for (let slot = first; slot < first + nr; slot++) releaseSlot(m, slot);
}

test("PHYS-004 a cluster has 512 slots, and slot 0 is the header: the first whole cluster is the second", () => {
  const m = withDevices(4096);
  expect(take(m, 9, 8)).toEqual([512, 1024, 1536, 2048, 2560, 3072, 3584, -1]);
  // What the header leaves of its cluster serves single pages.
  expect(take(m, 0, 3)).toEqual([1, 2, 3]);
});

test("PHYS-110 single pages go on in their cluster, then fill clusters of their order, then begin a free one", () => {
  const m = withDevices(4096);
  expect(take(m, 0, 1000)).toEqual(Array.from({ length: 1000 }, (_, i) => 1 + i));
  expect(take(m, 9)).toEqual([1024]);
  give(m, 101, 300);
  const next = take(m, 0, 323 + 2);
  expect(next.slice(0, 23)).toEqual(Array.from({ length: 23 }, (_, i) => 1001 + i));
  expect(next.slice(23, 323)).toEqual(Array.from({ length: 300 }, (_, i) => 101 + i));
  expect(next.slice(323)).toEqual([1536, 1537]);
});

test("PHYS-110 free clusters are used in turn: one that was just freed comes last", () => {
  const m = withDevices(512 * 4);
  expect(take(m, 9, 2)).toEqual([512, 1024]);
  give(m, 512, 512);
  expect(take(m, 9, 3)).toEqual([1536, 512, -1]);
});

test("PHYS-110 larger orders get aligned runs in clusters of their own; single pages take what is left anywhere", () => {
  const m = withDevices(512 * 3);
  expect(take(m, 4, 2)).toEqual([512, 528]);
  expect(take(m, 2, 2)).toEqual([1024, 1028]);
  expect(take(m, 4)).toEqual([544]);
  // No free cluster: order 3 has none of its own, order 9 none at all.
  expect([...take(m, 3), ...take(m, 9)]).toEqual([-1, -1]);
  expect(take(m, 0, 511)).toEqual(Array.from({ length: 511 }, (_, i) => 1 + i));
  expect(take(m, 0)).toEqual([1032]);
});

test("a device of higher priority is used first, equal ones take turns, and a cluster begun is gone on with", () => {
  const m = withDevices({ nrSlots: 2048, priority: 1 }, { nrSlots: 2048, priority: 1 });
  const types = (order: number, nr: number) =>
    Array.from({ length: nr }, () => typeOf(allocSlots(m, order)));
  expect(types(9, 4)).toEqual([0, 1, 0, 1]);
  expect(types(0, 3)).toEqual([0, 0, 0]);
  addDevice(m, { nrSlots: 2048, priority: 7 });
  expect(types(9, 4)).toEqual([2, 2, 2, 1]);
  expect(types(0, 2)).toEqual([0, 0]);
});

test("devices without a priority come after all others, later ones after earlier ones", () => {
  const m = withDevices(1024, 1024, { nrSlots: 1024, priority: 0 });
  expect(m.swap.turns.map((type) => m.swap.devices[type]!.priority)).toEqual([0, -2, -3]);
});

test("what cannot be a device is refused", () => {
  const m = withDevices();
  for (const nrSlots of [9, 2 ** 27 + 1, 20.5]) expect(addDevice(m, { nrSlots })).toBe(-EINVAL);
  expect(addDevice(m, { nrSlots: 100, priority: 32768 })).toBe(-EINVAL);
  for (let i = 0; i < 32; i++) expect(addDevice(m, { nrSlots: 10 })).toBe(i);
  expect(addDevice(m, { nrSlots: 10 })).toBe(-EBUSY);
  removeDevice(m, 7);
  expect(addDevice(m, { nrSlots: 10 })).toBe(7);
});

test("swap is full when more than half of it is in use", () => {
  const m = withDevices(101);
  expect(swapTotals(m)).toEqual({ total: 100, used: 0 });
  take(m, 0, 50);
  expect(isSwapFull(m)).toBe(false);
  take(m, 0);
  expect(isSwapFull(m)).toBe(true);
});

/** A step of the comparison with the naive model: take a run of an order, or give the run at an index back. */
interface Run {
  readonly entry: number;
  readonly order: number;
}

test("runs are aligned, never overlap, and are refused only if no device has one left where it may look", () => {
  const step = fc.record({
    order: fc.constantFrom(0, 0, 0, 2, 4, 9),
    index: fc.nat(),
    gives: fc.boolean(),
  });
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 300 }),
      fc.constantFrom(600, 1536, 2050),
      (steps, size) => {
        const m = withDevices(size, { nrSlots: 1024, priority: 3 });
        const used = new Set<number>();
        const runs: Run[] = [];
        for (const { order, index, gives } of steps) {
          if (gives && runs.length > 0) {
            const [run] = runs.splice(index % runs.length, 1);
            for (let i = 0; i < 1 << run.order; i++) {
              releaseSlot(m, run.entry + i);
              used.delete(run.entry + i);
            }
            continue;
          }
          const entry = allocSlots(m, order);
          if (entry === NO_SWAP_ENTRY) {
            // A single page is refused by full devices only; 2 MiB if no cluster is empty.
            const { total } = swapTotals(m);
            if (order === 0) expect(used.size).toBe(total);
            continue;
          }
          expect(slotOf(entry) % (1 << order)).toBe(0);
          for (let i = 0; i < 1 << order; i++) {
            expect(used.has(entry + i)).toBe(false);
            expect(slotOf(entry + i)).toBeGreaterThan(0);
            expect(slotOf(entry + i)).toBeLessThan(m.swap.devices[typeOf(entry)]!.nrSlots);
            used.add(entry + i);
          }
          runs.push({ entry, order });
        }
        expect(swapTotals(m).used).toBe(used.size);
      },
    ),
    { seed: 20260101, numRuns: 60 },
  );
});
