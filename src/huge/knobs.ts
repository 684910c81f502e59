/**
 * The THP knobs as sysfs has them: what is accepted, what is read back, and what follows for faults.
 *
 * Owns:  ThpKnobs and the masks derived from it.
 * Names: "thp.enabled" is /sys/kernel/mm/transparent_hugepage/enabled, "thp.hugepages-64kB.enabled" the file of that size,
 *        "khugepaged.defrag" the file in khugepaged/ (khugepaged-knobs.ts).
 * Rules: ANON-001, 005, 006, 007, 009, 021, 110; a change never touches existing mappings (ANON-012).
 */

import { HUGE_ORDER } from "../base/address.ts";
import { EACCES, EINVAL, ENOENT, ERANGE, type Err } from "../base/errno.ts";
import type { Profile } from "../base/profile.ts";
import { endSleep } from "../mm/khugepaged-list.ts";
import type { MmState } from "../mm/state.ts";
import { GFP, GFP_TRANSHUGE, GFP_TRANSHUGE_LIGHT } from "../phys/gfp.ts";
import {
  decimalDigits,
  defaultKhugepagedKnobs,
  type KhugepagedKnobs,
  readKhugepagedKnob,
  storeKhugepagedKnob,
} from "./khugepaged-knobs.ts";
import { startOrStopKhugepaged } from "./khugepaged-thread.ts";

import {
  isSharedStat,
  readSharedFile,
  type SharedCollapse,
  sharedFiles,
  storeSharedKnob,
} from "./shared-knobs.ts";

export const ENABLED_VALUES = ["always", "madvise", "never"] as const;
export const DEFRAG_VALUES = ["always", "defer", "defer+madvise", "madvise", "never"] as const;
export const SIZE_VALUES = ["always", "inherit", "madvise", "never"] as const;
export const SHMEM_VALUES = ["always", "within_size", "advise", "never", "deny", "force"] as const;
export const SHMEM_SIZE_VALUES = ["always", "inherit", "within_size", "advise", "never"] as const;

export type EnabledValue = (typeof ENABLED_VALUES)[number];
export type DefragValue = (typeof DEFRAG_VALUES)[number];
export type SizeValue = (typeof SIZE_VALUES)[number];
export type ShmemValue = (typeof SHMEM_VALUES)[number];
export type ShmemSizeValue = (typeof SHMEM_SIZE_VALUES)[number];

/** Orders an anonymous folio can have besides 0. */
export const ANON_ORDERS = [2, 3, 4, 5, 6, 7, 8, 9] as const;
/** Orders a folio of shared memory can have besides 0. */
export const SHMEM_ORDERS = [1, ...ANON_ORDERS] as const;

const KHUGEPAGED = "khugepaged.";
/** Files of mode 0444. */
const READ_ONLY: readonly string[] = [
  "thp.hpage_pmd_size",
  "khugepaged.pages_collapsed",
  "khugepaged.full_scans",
];

export interface ThpKnobs {
  enabled: EnabledValue;
  defrag: DefragValue;
  useZeroPage: boolean;
  /** Policy per order, index = order; 0 and 1 unused. */
  sizes: SizeValue[];
  /** Shared memory without a mount option; nothing reads it yet. */
  shmemEnabled: ShmemValue;
  /** The same per order, index = order; 0 unused. */
  shmemSizes: ShmemSizeValue[];
  readonly khugepaged: KhugepagedKnobs;
}

/** What the fault path reads: recomputed at every accepted write. Order masks have bit `order` set. */
export interface ThpPolicy {
  /** Orders for a VMA without MADV_HUGEPAGE. */
  ordersPlain: number;
  /** Orders for a VMA with MADV_HUGEPAGE. */
  ordersAdvised: number;
  /** Allocation effort for either kind of VMA (ANON-110). */
  gfpPlain: number;
  gfpAdvised: number;
}

/**
 * "unsupported": a processor without huge PMDs: no knobs, and no VMA is ever eligible (ANON-004). "notBuilt": a kernel without
 * the feature: besides, the advice about huge pages does not exist (ANON-042).
 */
export type ThpSupport = "supported" | "unsupported" | "notBuilt";

export interface HugeState extends MmState {
  readonly thpSupport: ThpSupport;
  /** Some PMD-size mode is enabled: khugepaged exists, or ends as soon as its pass is over. */
  isKhugepagedRunning: boolean;
  readonly knobs: ThpKnobs;
  readonly policy: ThpPolicy;
  /** The mode that no kernel has; null on a machine without it. */
  readonly sharedCollapse: SharedCollapse | null;
}

/** Linux's defaults with CONFIG_TRANSPARENT_HUGEPAGE_MADVISE; all off on a machine below the profile's threshold. */
export function defaultKnobs(isSmallMemory: boolean): ThpKnobs {
  const sizes = Array.from({ length: HUGE_ORDER + 1 }, (): SizeValue => "never");
  sizes[HUGE_ORDER] = "inherit";
  const shmemSizes = Array.from({ length: HUGE_ORDER + 1 }, (): ShmemSizeValue => "never");
  shmemSizes[HUGE_ORDER] = "inherit";
  return {
    enabled: isSmallMemory ? "never" : "madvise",
    defrag: isSmallMemory ? "never" : "madvise",
    useZeroPage: !isSmallMemory,
    sizes,
    shmemEnabled: "never",
    shmemSizes,
    khugepaged: defaultKhugepagedKnobs(isSmallMemory),
  };
}

/** The masks for `knobs`; without support no order is ever allowed. */
export function policyOf(knobs: ThpKnobs, support: ThpSupport = "supported"): ThpPolicy {
  const policy = { ordersPlain: 0, ordersAdvised: 0, gfpPlain: 0, gfpAdvised: 0 };
  for (const order of support === "supported" ? ANON_ORDERS : []) {
    const value = knobs.sizes[order];
    const resolved = value === "inherit" ? knobs.enabled : value;
    if (resolved === "always") policy.ordersPlain |= 1 << order;
    if (resolved !== "never") policy.ordersAdvised |= 1 << order;
  }
  policy.gfpPlain = effortOf(knobs.defrag, "plain");
  policy.gfpAdvised = effortOf(knobs.defrag, "advised");
  return policy;
}

/** True if memory of any kind may be PMD-sized somewhere: khugepaged exists exactly then (ANON-011, COLL-020..022). */
export function isPmdEnabled(knobs: ThpKnobs, profile: Profile): boolean {
  const resolve = (value: string, above: string) => (value === "inherit" ? above : value);
  const anon = resolve(knobs.sizes[HUGE_ORDER], knobs.enabled);
  if (anon !== "never") return true;
  const shmem = resolve(knobs.shmemSizes[HUGE_ORDER], knobs.shmemEnabled);
  return profile.shmemStartsKhugepaged && shmem !== "never" && shmem !== "deny";
}

/** The table of ANON-110. */
function effortOf(defrag: DefragValue, vma: "plain" | "advised"): number {
  const isAdvised = vma === "advised";
  switch (defrag) {
    case "always":
      return isAdvised ? GFP_TRANSHUGE : GFP_TRANSHUGE | GFP.NORETRY;
    case "defer":
      return GFP_TRANSHUGE_LIGHT | GFP.KSWAPD_RECLAIM;
    case "defer+madvise":
      return isAdvised ? GFP_TRANSHUGE : GFP_TRANSHUGE_LIGHT | GFP.KSWAPD_RECLAIM;
    case "madvise":
      return isAdvised ? GFP_TRANSHUGE : GFP_TRANSHUGE_LIGHT;
    case "never":
      return GFP_TRANSHUGE_LIGHT;
  }
}

/** Every knob of this machine by name: those of the mode `shared_collapse` only where it is (COLL-400). */
export function knobNamesOf(m: HugeState): string[] {
  return m.sharedCollapse === null
    ? knobNames()
    : [...knobNames(), ...sharedFiles().map((name) => KHUGEPAGED + name)];
}

/** True for a knob of the mode `shared_collapse` that cannot be written. */
export function isReadOnlyShared(name: string): boolean {
  return name.startsWith(KHUGEPAGED) && isSharedStat(name.slice(KHUGEPAGED.length));
}

/** Every knob by name, in the order they are listed. */
export function knobNames(): string[] {
  return [
    "thp.enabled",
    "thp.defrag",
    "thp.use_zero_page",
    "thp.shrink_underused",
    "thp.hpage_pmd_size",
    "thp.shmem_enabled",
    ...ANON_ORDERS.map((order) => `thp.hugepages-${4 << order}kB.enabled`),
    ...SHMEM_ORDERS.map((order) => `thp.hugepages-${4 << order}kB.shmem_enabled`),
    ...Object.keys(defaultKhugepagedKnobs(false)).map((name) => KHUGEPAGED + name),
  ];
}

/** What reading the file gives, newline included; -ENOENT for a name that does not exist. */
export function readKnob(m: HugeState, name: string): string | Err {
  if (m.thpSupport !== "supported") return -ENOENT; // ANON-004: there is no directory
  const { knobs } = m;
  switch (name) {
    case "thp.enabled":
      return bracketed(ENABLED_VALUES, knobs.enabled);
    case "thp.defrag":
      return bracketed(DEFRAG_VALUES, knobs.defrag);
    case "thp.use_zero_page":
      return knobs.useZeroPage ? "1\n" : "0\n";
    case "thp.shrink_underused":
      return m.queuesUnderused ? "1\n" : "0\n";
    case "thp.hpage_pmd_size":
      return "2097152\n";
    case "thp.shmem_enabled":
      return bracketed(SHMEM_VALUES, knobs.shmemEnabled);
    default:
      return readNamedKnob(m, name);
  }
}

/** The knobs that exist per size, and khugepaged's. */
function readNamedKnob({ knobs, sharedCollapse }: HugeState, name: string): string | Err {
  if (name.startsWith(KHUGEPAGED)) {
    const file = name.slice(KHUGEPAGED.length);
    const result = readKhugepagedKnob(knobs.khugepaged, file);
    return result === -ENOENT && sharedCollapse !== null
      ? readSharedFile(sharedCollapse, file)
      : result;
  }
  const order = orderOfKnob(name);
  if (order < 0) return order;
  return name.endsWith(".enabled")
    ? bracketed(SIZE_VALUES, knobs.sizes[order])
    : bracketed(SHMEM_SIZE_VALUES, knobs.shmemSizes[order]);
}

/** A write(2) of `text` to the file: 0, or -EINVAL, -ERANGE, -EACCES as the kernel gives, -ENOENT for no such file. */
export function writeKnob(m: HugeState, name: string, text: string): Err {
  if (m.thpSupport !== "supported" || !knobNamesOf(m).includes(name)) return -ENOENT;
  // These cannot even be opened for writing (ANON-008, COLL-008).
  if (READ_ONLY.includes(name) || isReadOnlyShared(name)) return -EACCES;
  if (text === "") return 0;
  const result = storeKnob(m, name, text);
  if (result !== 0) return result;
  Object.assign(m.policy, policyOf(m.knobs));
  if (name.endsWith("enabled")) startOrStopKhugepaged(m);
  if (name.endsWith("_sleep_millisecs")) endSleep(m); // COLL-006, COLL-007
  return 0;
}

function storeKnob(m: HugeState, name: string, text: string): Err {
  const { knobs } = m;
  const word = text.endsWith("\n") ? text.slice(0, -1) : text;
  switch (name) {
    case "thp.enabled":
      return storeWord(ENABLED_VALUES, word, (value) => {
        knobs.enabled = value;
      });
    case "thp.defrag":
      return storeWord(DEFRAG_VALUES, word, (value) => {
        knobs.defrag = value;
      });
    case "thp.use_zero_page":
      return storeNumericBoolean(word, (value) => {
        knobs.useZeroPage = value;
      });
    case "thp.shrink_underused":
      return storeLaxBoolean(word, (value) => {
        m.queuesUnderused = value;
      });
    case "thp.shmem_enabled":
      return storeWord(SHMEM_VALUES, word, (value) => {
        knobs.shmemEnabled = value;
      });
    default:
      return storeNamedKnob(m, name, word);
  }
}

function storeNamedKnob({ knobs, sharedCollapse }: HugeState, name: string, word: string): Err {
  if (name.startsWith(KHUGEPAGED)) {
    const file = name.slice(KHUGEPAGED.length);
    const result = storeKhugepagedKnob(knobs.khugepaged, file, word);
    return result === -ENOENT && sharedCollapse !== null
      ? storeSharedKnob(sharedCollapse, file, word)
      : result;
  }
  const order = orderOfKnob(name);
  if (order < 0) return order;
  if (name.endsWith(".enabled"))
    return storeWord(SIZE_VALUES, word, (value) => {
      knobs.sizes[order] = value;
    });
  return storeWord(SHMEM_SIZE_VALUES, word, (value) => {
    knobs.shmemSizes[order] = value;
  });
}

function storeWord<T extends string>(
  values: readonly T[],
  word: string,
  store: (value: T) => void,
): Err {
  const value = values.find((candidate) => candidate === word);
  if (value === undefined) return -EINVAL;
  store(value);
  return 0;
}

/** ANON-006: an unsigned decimal with an optional plus sign; only 0 and 1 are meant. */
function storeNumericBoolean(word: string, store: (value: boolean) => void): Err {
  const digits = decimalDigits(word);
  if (digits === "overflow") return -ERANGE;
  if (digits !== "0" && digits !== "1") return -EINVAL;
  store(digits === "1");
  return 0;
}

/** ANON-007: the first character decides, "on" and "of" need the second. */
function storeLaxBoolean(word: string, store: (value: boolean) => void): Err {
  const isTrue = /^([yYtT1eE]|[oO][nN])/.test(word);
  const isFalse = /^([nNfF0dD]|[oO][fF])/.test(word);
  if (!isTrue && !isFalse) return -EINVAL;
  store(isTrue);
  return 0;
}

/** ANON-009: 8 kB has only the file for shared memory. */
function orderOfKnob(name: string): number {
  const match = /^thp\.hugepages-(\d+)kB\.(enabled|shmem_enabled)$/.exec(name);
  if (match === null) return -ENOENT;
  const orders: readonly number[] = match[2] === "enabled" ? ANON_ORDERS : SHMEM_ORDERS;
  return orders.find((order) => String(4 << order) === match[1]) ?? -ENOENT;
}

function bracketed(values: readonly string[], active: string): string {
  return `${values.map((value) => (value === active ? `[${value}]` : value)).join(" ")}\n`;
}
