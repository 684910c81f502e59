import { expect, test } from "vitest";
import { COST_TABLES } from "../hw/cost-tables.ts";
import { GEOMETRIES } from "../hw/presets.ts";
import { createExplainer, type Explanation, MomentReached } from "./explain.ts";
import { explanationText } from "./explain-table.ts";
import { DEFAULT_MACHINE } from "./machine-options.ts";

const MIB = 2 ** 20;

/** One process that maps 8 MiB at an aligned place and writes `touched` pages of each 2 MiB, explained one ms later. */
function explained(
  knobs: Readonly<Record<string, string>>,
  touched: readonly number[],
): Explanation {
  const sink = createExplainer(
    {
      setting: { name: "test", knobs },
      machine: { ...DEFAULT_MACHINE, memoryBytes: 64 * MIB },
      geometry: GEOMETRIES[0],
      mode: { kind: "native" },
      costs: COST_TABLES[0],
    },
    "test",
    null,
    { ns: 1e6, address: null },
  );
  sink.begin({
    command: ["test"],
    source: "synthetic",
    has: { exactTouches: true, counts: false, order: "none" },
  });
  sink.process(0, -1, "exec");
  sink.thread(0, 0);
  sink.map(0, {
    mapping: 0,
    nrPages: 2048,
    prot: 3,
    isShared: false,
    backing: { kind: "anonymous" },
    placement: { kind: "any" },
    flags: [],
  });
  for (const [window, nr] of touched.entries()) sink.touch(0, 0, window * 512, nr, true);
  try {
    sink.time(1e6);
  } catch (error) {
    if (error instanceof MomentReached) return error.explanation;
    throw error;
  }
  throw new Error("the moment did not come");
}

/** Of the four windows of the mapping: letters and reason. */
function windowsOf({ windows }: Explanation): string[] {
  const big = windows.filter(({ startAddress }) => startAddress >= 0x7000_0000_0000);
  return big
    .flatMap((run) => new Array<typeof run>(run.nrWindows).fill(run))
    .map(({ isHuge, reason }) => (isHuge ? "huge" : reason!.name))
    .slice(0, 4);
}

test("windows are huge, untouched, or have a reason, and equal ones that follow each other are one", () => {
  const explanation = explained({ "thp.enabled": "always" }, [512, 1]);
  expect(windowsOf(explanation)).toEqual(["huge", "huge", "untouched", "untouched"]);
  const huge = explanation.windows.find(({ isHuge }) => isHuge)!;
  expect([huge.nrWindows, huge.presentBytes, huge.collapse]).toEqual([2, 4 * MIB, null]);
});

test("a policy that forbids is the reason, and then khugepaged does not run", () => {
  const explanation = explained({ "thp.enabled": "never" }, [512, 1]);
  expect(windowsOf(explanation)).toEqual(["policy", "policy", "policy", "policy"]);
  expect(explanation.isKhugepagedRunning).toBe(false);
  expect(explanationText(explanation)).toContain(
    "policy (ANON-021): the policy of 2048kB is never",
  );
});

test("a moment before the first is explained as nothing mapped, one address as one window", () => {
  const sink = createExplainer(
    {
      setting: { name: "test", knobs: {} },
      machine: { ...DEFAULT_MACHINE, memoryBytes: 64 * MIB },
      geometry: GEOMETRIES[0],
      mode: { kind: "native" },
      costs: COST_TABLES[0],
    },
    "test",
    null,
    { ns: 0, address: 0x1234_5678 },
  );
  sink.begin({
    command: ["test"],
    source: "synthetic",
    has: { exactTouches: true, counts: false, order: "none" },
  });
  sink.process(0, -1, "exec");
  let seen: Explanation | null = null;
  try {
    sink.time(0);
  } catch (error) {
    if (error instanceof MomentReached) seen = error.explanation;
  }
  expect(seen!.windows.map(({ startAddress, reason }) => [startAddress, reason!.name])).toEqual([
    [0x1220_0000, "unmapped"],
  ]);
});
