/**
 * Where each option's value comes from: flag, else environment, else hugelab.yaml, else the default.
 *
 * Entry: resolveMachine, resolveCompareSettings, resolveReplaySetting; describeResolved for --dry-run.
 * Holds: every value was checked by the same parser whatever its source, and messages name the source.
 */

import { nearestOf } from "../base/nearest.ts";
import { parseInteger } from "../base/units.ts";
import { UsageError } from "../base/usage-error.ts";
import { checkKnob, type KnobSetting, knobNamed, parseKnob } from "../huge/knob-files.ts";
import {
  DEFAULT_MACHINE,
  parseCpus,
  parseMemory,
  parseProfile,
  parseSeed,
  parseTranslation,
  type Translation,
} from "../lab/machine-options.ts";
import {
  BASELINE,
  checkUniqueNames,
  isThpOff,
  PRESETS,
  parseSetting,
  presetNamed,
  type Setting,
  withKnobs,
} from "../lab/setting.ts";
import type { ConfigFile, ConfigText } from "./config-file.ts";

/** Everything a value can come from. */
export interface Sources {
  /** As the command line gave them, by option name; lists for repeatable ones. */
  readonly flags: Readonly<Record<string, unknown>>;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly config: ConfigFile | undefined;
}

/** A value and its source in words, e.g. "flag --mem". */
export interface Resolved<T> {
  readonly name: string;
  readonly value: T;
  readonly from: string;
}

/** Options that have one value each, wherever they come from. */
export const PLAIN_OPTIONS = [
  "mem",
  "cpus",
  "profile",
  "geometry",
  "translation",
  "seed",
  "costs",
  "jobs",
  "preset",
] as const;
export type PlainOption = (typeof PLAIN_OPTIONS)[number];

/** Environment variables of list options. */
const SET_VARIABLE = "HUGELAB_SET";
const SETTINGS_VARIABLE = "HUGELAB_SETTINGS";

export interface ResolvedMachine {
  readonly memoryBytes: Resolved<number>;
  readonly nrCpus: Resolved<number>;
  readonly profile: Resolved<string>;
  readonly geometry: Resolved<string>;
  readonly translation: Resolved<Translation>;
  readonly seed: Resolved<number>;
  readonly costs: Resolved<string>;
  readonly jobs: Resolved<number>;
}

/** The machine to replay on; `parseGeometry` knows the geometries there are. */
export function resolveMachine(
  sources: Sources,
  parseGeometry: (text: string, where: string) => string,
): ResolvedMachine {
  const text = (t: string) => t;
  return {
    memoryBytes: resolve(sources, "mem", parseMemory, DEFAULT_MACHINE.memoryBytes),
    nrCpus: resolve(sources, "cpus", parseCpus, DEFAULT_MACHINE.nrCpus),
    profile: resolve(sources, "profile", parseProfile, DEFAULT_MACHINE.profile),
    geometry: resolve(sources, "geometry", parseGeometry, "auto"),
    translation: resolve(sources, "translation", parseTranslation, DEFAULT_MACHINE.translation),
    seed: resolve(sources, "seed", parseSeed, DEFAULT_MACHINE.seed),
    costs: resolve(sources, "costs", text, "auto"),
    jobs: resolve(sources, "jobs", (t, where) => parseInteger(t, 1, 256, where), 0),
  };
}

/** The settings to compare, THP off first. Knobs of `set` are common ground under what a setting itself sets. */
export function resolveCompareSettings(sources: Sources): Resolved<readonly Setting[]> {
  const asked = askedSettings(sources);
  const common = commonKnobs(sources);
  refuseOverridden(asked.value, common);
  const settings = asked.value.map((setting) => onCommonGround(setting, common));
  checkUniqueNames(settings, asked.from);

  const off = settings.find(isThpOff);
  const first = off ?? onCommonGround(BASELINE, common);
  const rest = settings.filter((setting) => setting !== off);
  return { ...asked, value: [first, ...rest] };
}

/** The one setting of a replay: a preset or the kernel's defaults, with the knobs of every source on top. */
export function resolveReplaySetting(sources: Sources): {
  readonly setting: Setting;
  readonly knobs: readonly Resolved<string>[];
} {
  const preset = resolve(sources, "preset", (text, where) => presetNamed(text, where), {
    name: "defaults",
    knobs: {},
  });
  const knobs = new Map<string, Resolved<string>>();
  for (const [name, value] of Object.entries(preset.value.knobs)) {
    knobs.set(name, { name, value, from: `preset ${preset.value.name} (${preset.from})` });
  }
  const common = commonKnobs(sources);
  for (const knob of common) knobs.set(knob.name, knob);
  const setting = withKnobs(preset.value, common);
  const added = common.map((knob) => `${knob.name}=${knob.value}`);
  const base = preset.value.name === "defaults" && added.length > 0 ? [] : [preset.value.name];
  return {
    setting: { ...setting, name: [...base, ...added].join(",") },
    knobs: [...knobs.values()],
  };
}

/** Lines "name value from where", for --dry-run. */
export function describeResolved(resolved: readonly Resolved<string>[]): string {
  const nameWidth = Math.max(...resolved.map((r) => r.name.length));
  const valueWidth = Math.min(44, Math.max(...resolved.map((r) => r.value.length)));
  return resolved
    .map((r) => `${r.name.padEnd(nameWidth)}  ${r.value.padEnd(valueWidth)}  ${r.from}\n`)
    .join("");
}

/** Variables that look like options of ours and are none, one sentence each. */
export function strangeVariables(env: Sources["env"]): readonly string[] {
  const known = [...PLAIN_OPTIONS.map(variableOf), SET_VARIABLE, SETTINGS_VARIABLE];
  return Object.keys(env)
    .filter((name) => name.startsWith("HUGELAB_") && !known.includes(name))
    .flatMap((name) => {
      const near = nearestOf(name, known);
      return near === undefined ? [] : [`${name} is ignored; did you mean ${near}?`];
    });
}

/** The first source that has the option. */
function resolve<T>(
  { flags, env, config }: Sources,
  name: PlainOption,
  parse: (text: string, where: string) => T,
  byDefault: T,
): Resolved<T> {
  const flag = flags[name];
  if (typeof flag === "string") {
    return { name, value: parse(flag, `--${name}`), from: `flag --${name}` };
  }
  const variable = variableOf(name);
  const fromEnv = env[variable];
  if (fromEnv !== undefined && fromEnv !== "") {
    return { name, value: parse(fromEnv, variable), from: `environment ${variable}` };
  }
  const fromFile = config?.options.get(name);
  if (fromFile) {
    const { text, where } = fromFile;
    return { name, value: parse(text, `${where} ${name}`), from: `file ${where}` };
  }
  return { name, value: byDefault, from: "default" };
}

function variableOf(name: PlainOption): string {
  return `HUGELAB_${name.toUpperCase()}`;
}

function askedSettings({ flags, env, config }: Sources): Resolved<readonly Setting[]> {
  const name = "settings";
  const given = flags.setting;
  if (Array.isArray(given) && given.length > 0) {
    const value = (given as string[]).map((text) => parseSetting(text, "--setting"));
    return { name, value, from: "flag --setting" };
  }
  const fromEnv = env[SETTINGS_VARIABLE];
  if (fromEnv) {
    const value = fromEnv.split(/[\s;]+/).map((text) => parseSetting(text, SETTINGS_VARIABLE));
    return { name, value, from: `environment ${SETTINGS_VARIABLE}` };
  }
  const fromFile = config?.settings;
  if (fromFile) {
    const value = fromFile.map(({ text, where }) => parseSetting(text, where));
    return { name, value, from: `file ${config.path}` };
  }
  const value = PRESETS.map(({ name: preset, knobs }) => ({ name: preset, knobs }));
  return { name, value, from: "default" };
}

/** Knobs of --set, HUGELAB_SET and the file's `set`; each from the strongest source that names it. */
function commonKnobs({ flags, env, config }: Sources): readonly (Resolved<string> & KnobSetting)[] {
  const knobs = new Map<string, Resolved<string> & KnobSetting>();
  const add = (knob: KnobSetting, from: string) => knobs.set(knob.name, { ...knob, from });
  for (const [name, { text, where }] of config?.set ?? new Map<string, ConfigText>()) {
    add(checkKnob(name, text, where), `file ${where}`);
  }
  for (const text of (env[SET_VARIABLE] ?? "").split(/[\s,;]+/).filter((t) => t !== "")) {
    add(parseKnob(text, SET_VARIABLE), `environment ${SET_VARIABLE}`);
  }
  const given = Array.isArray(flags.set) ? (flags.set as string[]) : [];
  for (const text of given.flatMap((t) => t.split(",")))
    add(parseKnob(text, "--set"), "flag --set");
  return [...knobs.values()];
}

/** A flag that every setting would override, or that would make them all the same, is a mistake. */
function refuseOverridden(
  settings: readonly Setting[],
  common: readonly (Resolved<string> & KnobSetting)[],
): void {
  for (const { name, value, from } of common) {
    const owner = settings.find((setting) => name in setting.knobs);
    if (owner === undefined || !from.startsWith("flag")) continue;
    throw new UsageError(
      "--set",
      `${name}=${value}, which setting "${owner.name}" sets itself`,
      `--setting NAME:${name}=${value}, or replay`,
    );
  }
}

function onCommonGround(setting: Setting, common: readonly KnobSetting[]): Setting {
  const free = common.filter((knob) => !(knobNamed(knob.name, "--set").name in setting.knobs));
  return withKnobs(setting, free);
}
