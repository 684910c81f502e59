/**
 * A setting is a name and the knobs it sets: what one replay runs under and one column of a report shows.
 *
 * Entry: parseSetting for the command line; PRESETS for lists.
 * Holds: `knobs` names only known knobs with values their files accept; what is not named keeps the kernel's default.
 */

import { didYouMean } from "../base/nearest.ts";
import { quote } from "../base/units.ts";
import { UsageError } from "../base/usage-error.ts";
import {
  ANON_SIZES_KB,
  KNOBS,
  type KnobSetting,
  knobNamed,
  NOT_SIMULATED,
  parseKnob,
} from "../huge/knob-files.ts";

export interface Setting {
  readonly name: string;
  /** Knob name to canonical value. */
  readonly knobs: Readonly<Record<string, string>>;
}

/** A setting that ships with hugelab. */
export interface Preset extends Setting {
  readonly meaning: string;
}

/** The settings `compare` runs by default, in its order; the first stands for the recorded run. */
export const PRESETS: readonly Preset[] = [
  {
    name: "never",
    knobs: { "thp.enabled": "never" },
    meaning: "no huge pages; what the recorded run had",
  },
  {
    name: "madvise",
    knobs: { "thp.enabled": "madvise" },
    meaning: "huge pages where the program asks with MADV_HUGEPAGE",
  },
  {
    name: "always",
    knobs: { "thp.enabled": "always" },
    meaning: "huge pages wherever they fit; a fault does not wait for one",
  },
  {
    name: "always+defrag",
    knobs: { "thp.enabled": "always", "thp.defrag": "always" },
    meaning: "the same, and a fault reclaims and compacts to get one",
  },
  {
    name: "64kB",
    knobs: { "thp.enabled": "never", "thp.hugepages-64kB.enabled": "always" },
    meaning: "folios of 64 kB mapped by PTEs (mTHP), no 2 MiB pages",
  },
];

/** The setting that a recording stands for: THP off. */
export const BASELINE: Setting = PRESETS[0];

/** A preset by name. Throws UsageError with the nearest one. */
export function presetNamed(name: string, where: string): Setting {
  const preset = PRESETS.find((p) => p.name.toLowerCase() === name.toLowerCase());
  if (preset) return { name: preset.name, knobs: preset.knobs };
  const names = PRESETS.map((p) => p.name);
  throw new UsageError(
    where,
    `unknown setting ${quote(name)}`,
    `${names.slice(0, -1).join(", ")}, ${names.at(-1)} or KNOB=VALUE,...${didYouMean(name, names)}`,
  );
}

/**
 * Reads `[NAME:]ITEM[,ITEM...]` where the first item may be a preset and every other is KNOB=VALUE: "always",
 * "always,khugepaged.max_ptes_none=0", "mine:thp.enabled=always". Without NAME the text is the name. Throws UsageError.
 */
export function parseSetting(text: string, where: string): Setting {
  const named = /^([^=:,]+):(.*)$/.exec(text);
  const items = (named ? named[2] : text).split(",").map((item) => item.trim());
  const first = items[0];
  const preset = first.includes("=") ? undefined : presetNamed(first, where);
  const rest = (preset ? items.slice(1) : items).map((item) => parseKnob(item, where));
  const isPlainPreset = preset !== undefined && rest.length === 0 && !named;
  if (isPlainPreset) return preset;
  return withKnobs({ name: named ? named[1] : text, knobs: preset?.knobs ?? {} }, rest);
}

/** `setting` with further knobs set; the name stays. */
export function withKnobs(setting: Setting, knobs: readonly KnobSetting[]): Setting {
  const added = Object.fromEntries(knobs.map((knob) => [knob.name, knob.value]));
  return { name: setting.name, knobs: { ...setting.knobs, ...added } };
}

/** Value of a knob under a setting: its own or the kernel's default. */
export function knobValue(setting: Setting, name: string): string {
  return setting.knobs[name] ?? knobNamed(name, "setting").byDefault;
}

/** True if no anonymous memory may be huge: what a recorded run with THP off by prctl had. */
export function isThpOff(setting: Setting): boolean {
  if (knobValue(setting, "thp.enabled") !== "never") return false;
  return ANON_SIZES_KB.every((sizeKb) => {
    const policy = knobValue(setting, `thp.hugepages-${sizeKb}kB.enabled`);
    return policy === "never" || policy === "inherit";
  });
}

/** The knobs that differ from the kernel's defaults, in the order of KNOBS. */
export function changedKnobs(setting: Setting): Readonly<Record<string, string>> {
  const changed = KNOBS.filter(
    (knob) => (setting.knobs[knob.name] ?? knob.byDefault) !== knob.byDefault,
  );
  return Object.fromEntries(changed.map((knob) => [knob.name, setting.knobs[knob.name]]));
}

/** One sentence for each knob of the settings that a replay accepts without simulating its effect. */
export function knobsWithoutEffect(settings: readonly Setting[]): readonly string[] {
  const changed = new Set(settings.flatMap((setting) => Object.keys(changedKnobs(setting))));
  return KNOBS.flatMap((knob) => {
    const why = changed.has(knob.name) ? NOT_SIMULATED[knob.part] : undefined;
    return why === undefined ? [] : [`${knob.name} changes nothing here: ${why}.`];
  });
}

/** Throws UsageError if two settings share a name. */
export function checkUniqueNames(settings: readonly Setting[], where: string): void {
  const names = settings.map((setting) => setting.name);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) {
    throw new UsageError(
      where,
      `two settings called ${quote(twice)}`,
      "a name for each, NAME:KNOB=VALUE",
    );
  }
}
