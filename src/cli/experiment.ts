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
import { GEOMETRIES, type GeometryChoice, geometryForCpu, nestedMode } from "../hw/presets.ts";
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
    translation: translationFor(resolved.translation.value, chosen.mode, costs.table),
    seed: resolved.seed.value,
  };
  return {
    machine,
    geometry: chosen.geometry,
    mode: modeOf(machine.translation, costs.table),
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

/** A geometry that was asked for is that of bare metal. */
function chooseGeometry(name: string): GeometryChoice {
  if (name !== "auto") {
    const geometry = GEOMETRIES.find((g) => g.name === name)!;
    return { geometry, mode: { kind: "native" }, because: "as asked" };
  }
  try {
    return geometryForCpu(readFileSync("/proc/cpuinfo", "utf8"));
  } catch {
    return geometryForCpu("");
  }
}

/** What "auto" stands for: the CPU says whether there is a second dimension, `calibrate` by which pages. */
function translationFor(asked: Translation, ofCpu: TranslationMode, costs: CostTable): Translation {
  if (asked !== "auto") return asked;
  if (ofCpu.kind === "native") return "native";
  const measured = costs.hardware.hostPageBytes?.value;
  return HOST_PAGES.find(([, bytes]) => bytes === measured)?.[0] ?? `nested:${ofCpu.hostPage}`;
}

const HOST_PAGES = [
  ["nested:4k", 2 ** 12],
  ["nested:2m", 2 ** 21],
  ["nested:1g", 2 ** 30],
] as const;

/** "nested" without a size is a host that maps its guest with 4K pages, the costliest case. */
function modeOf(translation: Translation, costs: CostTable): TranslationMode {
  const runPages = costs.hardware.frameRunPages?.value;
  switch (translation) {
    case "auto":
    case "native":
      return { kind: "native" };
    case "nested":
    case "nested:4k":
      return nestedMode("4k", runPages);
    case "nested:2m":
      return nestedMode("2m", runPages);
    case "nested:1g":
      return nestedMode("1g", runPages);
  }
}
