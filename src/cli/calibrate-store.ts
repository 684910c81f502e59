/**
 * Which cost table a command prices with: a file, a built-in one, or this host's own from the last `calibrate`.
 *
 * Entry: chooseCosts.
 * Owns:  costs.json in the configuration folder ($XDG_CONFIG_HOME/hugelab, else ~/.config/hugelab); it appears by rename.
 * Errors: UsageError for a table that does not exist or does not parse; a stored table of another host is passed over.
 */

import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { cpus, homedir, release } from "node:os";
import { dirname, join } from "node:path";
import { UsageError } from "../base/usage-error.ts";
import { type CostTable, type CostTableJson, parseCostTable } from "../hw/cost-model.ts";
import { builtInCosts, COST_TABLES } from "../hw/cost-tables.ts";
import { describeHost, type HostName } from "./calibrate-table.ts";

/** A cost table and how it was come by, for people. */
export interface ChosenCosts {
  readonly table: CostTable;
  readonly origin: "file" | "built in, as asked" | "calibrated on this host" | "built in";
}

/**
 * The table named by `--costs` (a file, or "builtin:NAME"); without one the table that `calibrate` stored on this host,
 * else the built-in one for this CPU.
 */
export function chooseCosts(option?: string): ChosenCosts {
  if (option?.startsWith("builtin:")) {
    return { table: builtInByName(option.slice("builtin:".length)), origin: "built in, as asked" };
  }
  if (option !== undefined) {
    return { table: readTable(option), origin: "file" };
  }
  const stored = storedTable();
  if (stored) return { table: stored, origin: "calibrated on this host" };
  return { table: builtInCosts(thisHost()), origin: "built in" };
}

/** Where `calibrate` keeps this host's table. */
export function storedCostsPath(): string {
  const base = process.env.XDG_CONFIG_HOME || join(homedir(), ".config");
  return join(base, "hugelab", "costs.json");
}

/** Writes this host's table; readers see the old or the new one, never half of it. */
export function storeCosts(table: CostTableJson): string {
  const path = storedCostsPath();
  mkdirSync(dirname(path), { recursive: true });
  const unfinished = `${path}.${process.pid}.tmp`;
  writeFileSync(unfinished, `${JSON.stringify(table, null, 2)}\n`);
  renameSync(unfinished, path);
  return path;
}

export function thisHost(): HostName {
  let cpuinfo = "";
  try {
    cpuinfo = readFileSync("/proc/cpuinfo", "utf8");
  } catch {
    // Not Linux: the CPU's name is known all the same.
  }
  return {
    cpu: cpus()[0]?.model.trim() || "unknown CPU",
    kernel: release(),
    isVirtual: /^flags\s*:.*\bhypervisor\b/m.test(cpuinfo),
  };
}

function builtInByName(name: string): CostTable {
  const found = COST_TABLES.find((table) => table.name === name);
  if (found) return found;
  const names = COST_TABLES.map((table) => `builtin:${table.name}`);
  throw new UsageError("--costs", `"builtin:${name}"`, `one of ${names.join(", ")}, or a file`);
}

function readTable(path: string): CostTable {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code ?? "unreadable";
    throw new UsageError("--costs", `"${path}" (${reason})`, "a file of `calibrate --json`");
  }
  return parseText(path, text);
}

function parseText(path: string, text: string): CostTable {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new UsageError(`--costs ${path}`, "something that is not JSON", "a cost table");
  }
  return parseCostTable(costsOf(json), COST_TABLES);
}

/** `calibrate --json` prints a document that holds the table; the table alone will do as well. */
function costsOf(json: unknown): unknown {
  const document = json as { schema?: unknown; costs?: unknown } | null;
  return document?.schema === "hugelab.calibration" ? document.costs : json;
}

function storedTable(): CostTable | null {
  let text: string;
  try {
    text = readFileSync(storedCostsPath(), "utf8");
  } catch {
    return null;
  }
  const table = parseText(storedCostsPath(), text);
  return table.description === describeHost(thisHost()) ? table : null;
}
