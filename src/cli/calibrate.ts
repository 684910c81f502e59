/**
 * `hugelab calibrate`: measures what memory operations cost on this host and keeps the result for `compare`.
 *
 * Entry: registerCalibrate.
 * Owns:  nothing; the measuring is native/calibrate/calibrate.c, the store is calibrate-store.ts.
 */

import { spawnSync } from "node:child_process";
import type { Command } from "commander";
import { AssertionFailure } from "../base/assert.ts";
import { UsageError } from "../base/usage-error.ts";
import {
  COST_MEANINGS,
  COST_NAMES,
  COST_PARTS,
  type CostTable,
  type CostTableJson,
  parseCostTable,
} from "../hw/cost-model.ts";
import { builtInCosts, COST_TABLES } from "../hw/cost-tables.ts";
import { storeCosts, thisHost } from "./calibrate-store.ts";
import { costsFrom, type Measurements, parseMeasurements, short } from "./calibrate-table.ts";
import { nativeProgram } from "./native-build.ts";
import { NotPossibleHere } from "./not-possible.ts";

interface CalibrateOptions {
  readonly json?: boolean;
  readonly seconds: string;
  readonly store: boolean;
  readonly quiet?: boolean;
}

const EXAMPLES = `
Examples:
  hugelab calibrate                 measure, print the table, keep it for \`compare\`
  hugelab calibrate --json >here.json
  hugelab compare --costs here.json -- ./program
`;

/** Adds the command to the program. */
export function registerCalibrate(program: Command): void {
  program
    .command("calibrate")
    .summary("measure this host's fault, zeroing, copy and page-walk costs")
    .description(
      "Measures what faults, unmapping, fork, splits, system calls, zeroing, copying and page walks cost on this host, " +
        "and keeps the table for `compare`. Takes under 20 seconds and about 2 GB for a moment; root is needed only for " +
        "the faults of 16 kB to 1 MB folios.",
    )
    .option("--json", "print one JSON document: the cost table and every measurement")
    .option("--seconds <n>", "time for the repeated part", "4")
    .option("--no-store", "print only, keep nothing")
    .addHelpText("after", EXAMPLES)
    .action((options: CalibrateOptions) => calibrate(options));
}

function calibrate(options: CalibrateOptions): void {
  const seconds = Number(options.seconds);
  if (!(seconds >= 0.1 && seconds <= 600)) {
    throw new UsageError("--seconds", `"${options.seconds}"`, "a number from 0.1 to 600");
  }
  const host = thisHost();
  const base = builtInCosts(host);
  let found: Measurements;
  try {
    found = measure(seconds);
  } catch (error) {
    if (!(error instanceof NotPossibleHere)) throw error;
    printBuiltIn(base, error, options);
    return;
  }

  const costs = costsFrom(found, host, base.name);
  const stored = options.store ? storeCosts(costs) : null;
  if (options.json) {
    printJson({ host, costs, measurements: found.measurements, skipped: found.skipped, stored });
    return;
  }
  const table = parseCostTable(costs, COST_TABLES);
  process.stdout.write(`${tableText(table)}\n${accessText(found)}${walkText(found)}`);
  for (const { name, why } of found.skipped)
    process.stderr.write(`not measured: ${name}: ${why}\n`);
  if (stored) process.stderr.write(`kept for compare in ${stored}\n`);
}

function measure(seconds: number): Measurements {
  const program = nativeProgram("calibrate/calibrate.c");
  const run = spawnSync(program, [String(seconds)], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
    maxBuffer: 16 * 1024 * 1024,
  });
  if (run.error) {
    throw new NotPossibleHere(
      `the calibration program cannot be started (${run.error.message})`,
      "set XDG_CACHE_HOME to a folder that allows execution",
    );
  }
  if (run.signal) {
    throw new NotPossibleHere(
      `the calibration program was ended by ${run.signal}`,
      "free some memory and try again",
    );
  }
  if (run.status !== 0) throw new AssertionFailure(`calibration failed: ${run.stderr.trim()}`);
  return parseMeasurements(run.stdout);
}

function printBuiltIn(table: CostTable, reason: NotPossibleHere, options: CalibrateOptions): void {
  process.stderr.write(
    `${reason.message}\nusing the built-in table "${table.name}" (${table.description})\n`,
  );
  if (options.json) {
    const costs: CostTableJson = table;
    printJson({ host: thisHost(), costs, measurements: [], skipped: [], stored: null });
    return;
  }
  process.stdout.write(tableText(table));
}

function printJson(body: Readonly<Record<string, unknown>>): void {
  const document = { schema: "hugelab.calibration", version: 1, ...body };
  process.stdout.write(`${JSON.stringify(document, null, 2)}\n`);
}

/** Every figure, by the part of a run it belongs to. */
function tableText(table: CostTable): string {
  const lines = [`Costs of ${table.name}: ${table.description}`, ""];
  for (const part of COST_PARTS) {
    lines.push(part);
    for (const name of COST_NAMES) {
      if (COST_MEANINGS[name].part !== part) continue;
      const { ns, source } = table.figures[name];
      lines.push(`  ${name.padEnd(16)}${short(ns).padStart(9)}   ${source}`);
    }
  }
  lines.push("latencies");
  for (const [name, figure] of Object.entries(table.latencies)) {
    lines.push(`  ${name.padEnd(16)}${short(figure.ns).padStart(9)}   ${figure.source}`);
  }
  lines.push("translation");
  for (const [name, { value, source }] of Object.entries(table.hardware)) {
    lines.push(`  ${name.padEnd(16)}${Number(value.toPrecision(3))}`.padEnd(27) + `   ${source}`);
  }
  return `${lines.join("\n")}\n`;
}

/** Pages of the table of page walks. */
const WALK_COUNTS = [32, 256, 1024, 4096, 8192, 16384];

/** Time per read of one line a page, by pages read: translation and little else. */
function walkText(found: Measurements): string {
  const medians = new Map(found.measurements.map((m) => [m.name, m.median]));
  const lines = [
    "ns per read of one line a page (scattered 4K pages, 4K pages, 2M pages) by pages read",
  ];
  const counts = WALK_COUNTS.map((nr) => String(nr).padStart(22)).join("");
  lines.push(`  ${"".padEnd(18)}${counts}`);
  for (const [key, title] of [
    ["walk_chain", "a chain of reads"],
    ["walk_free", "free reads"],
  ]) {
    const cells = WALK_COUNTS.map((nr) => {
      const kinds = ["scattered", "4k", "2m"].map((kind) => medians.get(`${key}_${kind}_${nr}`));
      return ` ${kinds.map((ns) => (ns?.toFixed(1) ?? "-").padStart(7)).join("")}`;
    });
    lines.push(`  ${title.padEnd(18)}${cells.join("")}`);
  }
  return `${lines.join("\n")}\n`;
}

const PATTERNS = [
  ["dependent_read", "dependent reads"],
  ["independent_read", "independent reads"],
  ["random_write", "random writes"],
  ["sequential_read", "sequential reads"],
] as const;

/** Time per access by working set with 4K and 2M pages; the difference is what the walks cost. */
function accessText(found: Measurements): string {
  const medians = new Map(found.measurements.map((m) => [m.name, m.median]));
  const lines = ["ns per access (4K pages, 2M pages, difference) by working set"];
  const sizes = [1, 4, 16, 64, 256, 1024].filter((mb) => medians.has(`dependent_read_4k_${mb}m`));
  lines.push(`  ${"".padEnd(18)}${sizes.map((mb) => `${mb} MB`.padStart(22)).join("")}`);
  for (const [key, title] of PATTERNS) {
    const cells = sizes.map((mb) => {
      const small = medians.get(`${key}_4k_${mb}m`);
      const huge = medians.get(`${key}_2m_${mb}m`);
      if (small === undefined || huge === undefined) return "-".padStart(22);
      const numbers = [small, huge, small - huge].map((ns) => ns.toFixed(1).padStart(7));
      return ` ${numbers.join("")}`;
    });
    lines.push(`  ${title.padEnd(18)}${cells.join("")}`);
  }
  return `${lines.join("\n")}\n`;
}
