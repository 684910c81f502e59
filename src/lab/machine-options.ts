/**
 * The machine that a replay runs on, as options: memory, CPUs, kernel profile, TLB geometry, translation, seed.
 *
 * Entry: parseMachineOption for one value as text; DEFAULT_MACHINE.
 * Holds: a value that is returned describes a machine that can be built.
 */

import { oneOf } from "../base/nearest.ts";
import { PROFILES } from "../base/profile.ts";
import { formatBytes, parseInteger, parseSize, quote } from "../base/units.ts";
import { UsageError } from "../base/usage-error.ts";
import { DEFAULT_MACHINE as MACHINE, memoryProblem } from "../machine/machine.ts";

export interface MachineOptions {
  readonly memoryBytes: number;
  readonly nrCpus: number;
  /** Name of a kernel profile. */
  readonly profile: string;
  /** Name of a TLB geometry. */
  readonly geometry: string;
  /** One-dimensional page walks, or walks through a hypervisor's tables. */
  readonly translation: Translation;
  readonly seed: number;
}

/** `auto` is as the CPU of this host says; `nested` may name the size of the host's pages. */
export const TRANSLATIONS = [
  "auto",
  "native",
  "nested",
  "nested:4k",
  "nested:2m",
  "nested:1g",
] as const;
export type Translation = (typeof TRANSLATIONS)[number];

export const MAX_CPUS = 256;

/** Roomy, so that a comparison is not about memory pressure unless asked. */
export const DEFAULT_MACHINE: MachineOptions = {
  memoryBytes: MACHINE.memoryBytes,
  nrCpus: 4,
  profile: MACHINE.profile.name,
  geometry: "auto",
  translation: "auto",
  seed: MACHINE.seed,
};

/** Bytes of memory of a machine that can be built. Throws UsageError. */
export function parseMemory(text: string, where: string): number {
  const bytes = parseSize(text, where);
  if (memoryProblem(bytes) === null) return bytes;
  const found = `${quote(text)} (${formatBytes(bytes)}), an impossible machine`;
  throw new UsageError(where, found, "16m to 4t of memory in steps of 4m, e.g. 16g");
}

export function parseCpus(text: string, where: string): number {
  return parseInteger(text, 1, MAX_CPUS, where);
}

export function parseSeed(text: string, where: string): number {
  return parseInteger(text, 0, Number.MAX_SAFE_INTEGER, where);
}

export function parseProfile(text: string, where: string): string {
  return oneOf(
    text,
    PROFILES.map((profile) => profile.name),
    where,
  );
}

export function parseTranslation(text: string, where: string): Translation {
  return oneOf(text, TRANSLATIONS, where);
}
