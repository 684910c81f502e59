/**
 * `npm run bench`: the engine's speed and size, against the live kernel where it can be had. Exits 1 if a floor does not hold.
 *
 * Options: --json (one document), --large (map the simulated memory instead of scaling), --only TEXT (rows' groups by name).
 */

import { cpus, release } from "node:os";
import { inlineHotPaths } from "../src/cli/inlining.ts";
import { allocationPart, allocationRows } from "./allocation.ts";
import { engineRows } from "./engine.ts";
import { exploreRows } from "./explore.ts";
import { hwBench } from "./hw.ts";
import { kernelProbe } from "./kernel.ts";
import { bootPart, memoryRows, pagesPart } from "./memory.ts";
import { replayPart, replayRows } from "./replay.ts";
import { type BenchRow, row, tableOf } from "./row.ts";

function main(args: readonly string[]): number {
  if (args[0] === "--part") {
    process.stdout.write(JSON.stringify(runPart(args[1], Number(args[2]))));
    return 0;
  }
  const only = args.includes("--only") ? args[args.indexOf("--only") + 1] : undefined;
  const { probe, missing } = kernelProbe();
  const groups: readonly (readonly [string, () => BenchRow[]])[] = [
    ["engine", () => engineRows(probe)],
    ["memory", () => memoryRows(args.includes("--large") ? "large" : "scaled")],
    ["hw", hwRows],
    ["explore", exploreRows],
    ["replay", replayRows],
    ["allocation", allocationRows],
  ];
  const rows: BenchRow[] = [];
  for (const [name, measure] of groups) {
    if (only !== undefined && only !== name) continue;
    process.stderr.write(`measuring: ${name}\n`);
    rows.push(...measure());
  }
  print(rows, missing, args.includes("--json"));
  return rows.some((r) => r.floorHeld === false) ? 1 : 0;
}

/** Streams of references through the translation hardware; every floor is a least value. */
function hwRows(): BenchRow[] {
  return hwBench().map(({ name, value, unit, floor, goal }) =>
    row(name, value, unit, { target: { of: "value", better: "higher", floor, goal } }),
  );
}

function runPart(part: string, argument: number): unknown {
  switch (part) {
    case "boot":
      return bootPart(argument);
    case "pages":
      return pagesPart(argument);
    case "allocation":
      return allocationPart(argument);
    case "replay":
      return replayPart(argument);
    default:
      throw new Error(`no bench part ${part}`);
  }
}

function print(rows: readonly BenchRow[], missing: string | null, isJson: boolean): void {
  const host = {
    cpu: cpus()[0]?.model ?? "unknown",
    nrCpus: cpus().length,
    kernel: release(),
    node: process.version,
  };
  if (isJson) {
    const document = { schema: "hugelab.bench", version: 1, host, noKernel: missing, rows };
    process.stdout.write(`${JSON.stringify(document, null, 2)}\n`);
    return;
  }
  process.stdout.write(`${tableOf(rows)}\n`);
  if (missing) process.stderr.write(`no live kernel figures: ${missing}\n`);
}

// As the command itself does.
inlineHotPaths();
process.exitCode = main(process.argv.slice(2));
