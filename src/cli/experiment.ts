/**
 * From resolved options to what a replay needs: geometry, cost table, translation; and to what a report says of them.
 *
 * Entry: experimentFor. Reads /proc/cpuinfo and the stored calibration where an option says "auto".
 */

import { readFileSync } from "node:fs";
import { didYouMean } from "../base/nearest.ts";
import { quote } from "../base/units.ts";
import { UsageError } from "../base/usage-error.ts";
import type { CostTable } from "../hw/cost-model.ts";
import type { Geometry } from "../hw/geometry.ts";
import { GEOMETRIES, geometryForCpu } from "../hw/presets.ts";
import type { TranslationMode } from "../hw/translate.ts";
import type { COST_ERROR } from "../lab/comparison.ts";
import type { MachineOptions, Translation } from "../lab/machine-options.ts";
import type { MachineSummary } from "../lab/result.ts";
import { chooseCosts } from "./calibrate-store.ts";
import type { Resolved, ResolvedMachine } from "./resolve.ts";

/** What all settings of a comparison share. */
export interface Experiment {
  readonly machine: MachineOptions;
  readonly geometry: Geometry;
  readonly mode: TranslationMode;
  readonly costs: CostTable;
  /** Whether the costs were measured on this host. */
  readonly costQuality: keyof typeof COST_ERROR;
  readonly summary: MachineSummary;
}

/** "auto", or the name of a geometry. Throws UsageError with the nearest. */
export function parseGeometry(text: string, where: string): string {
  const names = ["auto", ...GEOMETRIES.map((geometry) => geometry.name)];
  if (names.includes(text)) return text;
  throw new UsageError(where, quote(text), `${names.join(", ")}${didYouMean(text, names)}`);
}

export function experimentFor(resolved: ResolvedMachine): Experiment {
  const costs = chooseCosts(resolved.costs.value === "auto" ? undefined : resolved.costs.value);
  const chosen = chooseGeometry(resolved.geometry.value);
  const machine: MachineOptions = {
    memoryBytes: resolved.memoryBytes.value,
    nrCpus: resolved.nrCpus.value,
    profile: resolved.profile.value,
    geometry: chosen.geometry.name,
    translation: resolved.translation.value,
    seed: resolved.seed.value,
  };
  return {
    machine,
    geometry: chosen.geometry,
    mode: modeOf(machine.translation),
    costs: costs.table,
    // A file is taken for what the user measured.
    costQuality: costs.origin.startsWith("built in") ? "builtIn" : "measured",
    summary: {
      memoryBytes: machine.memoryBytes,
      profile: machine.profile,
      geometry: `${chosen.geometry.name} (${chosen.because})`,
      translation: machine.translation,
      costs: `${costs.table.name}, ${costs.origin}: ${costs.table.description}`,
      seed: machine.seed,
    },
  };
}

/** Each option as text, for --dry-run. */
export function describeMachine(
  resolved: ResolvedMachine,
  experiment: Experiment,
): readonly Resolved<string>[] {
  const line = (option: Resolved<unknown>, value: string) => ({ ...option, value });
  const jobs = resolved.jobs.value === 0 ? "one per CPU" : String(resolved.jobs.value);
  return [
    line(resolved.memoryBytes, String(experiment.machine.memoryBytes)),
    line(resolved.nrCpus, String(experiment.machine.nrCpus)),
    line(resolved.profile, experiment.machine.profile),
    line(resolved.geometry, experiment.summary.geometry),
    line(resolved.translation, experiment.machine.translation),
    line(resolved.seed, String(experiment.machine.seed)),
    line(resolved.costs, experiment.summary.costs),
    line(resolved.jobs, jobs),
  ];
}

function chooseGeometry(name: string): { geometry: Geometry; because: string } {
  if (name !== "auto") {
    return { geometry: GEOMETRIES.find((g) => g.name === name)!, because: "as asked" };
  }
  try {
    return geometryForCpu(readFileSync("/proc/cpuinfo", "utf8"));
  } catch {
    return geometryForCpu("");
  }
}

/** "nested" without a size is a host that maps its guest with 4K pages, the costliest case. */
function modeOf(translation: Translation): TranslationMode {
  switch (translation) {
    case "native":
      return { kind: "native" };
    case "nested":
    case "nested:4k":
      return { kind: "nested", hostPage: "4k" };
    case "nested:2m":
      return { kind: "nested", hostPage: "2m" };
    case "nested:1g":
      return { kind: "nested", hostPage: "1g" };
  }
}
