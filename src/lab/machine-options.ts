/**
 * The machine that a replay runs on, as options: memory, CPUs, kernel profile, TLB geometry, translation, seed.
 *
 * Entry: parseMachineOption for one value as text; DEFAULT_MACHINE.
 * Holds: a value that is returned describes a machine that can be built.
 */

import { PROFILES } from "../base/profile.ts";
import { UsageError } from "../base/usage-error.ts";
import { didYouMean } from "./nearest.ts";
import { formatBytes, parseInteger, parseSize, quote } from "./units.ts";

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

export type Translation = "native" | "nested";
export const TRANSLATIONS: readonly Translation[] = ["native", "nested"];

/** Below this Linux does not boot with a useful free list; above, frame numbers leave 31 bits. */
export const MIN_MEMORY_BYTES = 64 * 2 ** 20;
export const MAX_MEMORY_BYTES = 4 * 2 ** 40;
export const MAX_CPUS = 256;

/** 16 GiB, 4 CPUs: roomy, so that a comparison is not about memory pressure unless asked. */
export const DEFAULT_MACHINE: MachineOptions = {
  memoryBytes: 16 * 2 ** 30,
  nrCpus: 4,
  profile: PROFILES[0]!.name,
  geometry: "default",
  translation: "native",
  seed: 1,
};

/** Parsers of each option; `geometries` are the names the hardware model knows. */
export function parseMemory(text: string, where: string): number {
  const bytes = parseSize(text, where);
  if (bytes >= MIN_MEMORY_BYTES && bytes <= MAX_MEMORY_BYTES) return bytes;
  const range = `${formatBytes(MIN_MEMORY_BYTES)} to ${formatBytes(MAX_MEMORY_BYTES)}`;
  throw new UsageError(
    where,
    `${quote(text)}, an impossible machine`,
    `${range} of memory, e.g. 16g`,
  );
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

/** `text` if it is one of `known`; else a UsageError that lists them and names the nearest. */
export function oneOf<T extends string>(text: string, known: readonly T[], where: string): T {
  const found = known.find((word) => word === text);
  if (found !== undefined) return found;
  throw new UsageError(where, quote(text), `${inWords(known)}${didYouMean(text, known)}`);
}

function inWords(words: readonly string[]): string {
  if (words.length < 2) return words.join("");
  return `${words.slice(0, -1).join(", ")} or ${words.at(-1)}`;
}
