/**
 * The kernel's THP knobs by name: what each accepts, its default, and the file it is on a live kernel.
 *
 * Entry: KNOBS for lists; parseKnob and checkKnob for input; sysfsPath for what to write on a real machine.
 * Holds: a value that passes checkKnob is one the kernel's file would take (PROC-090..106, COLL-010, ANON-007), in the
 *        kernel's canonical spelling.
 */

import { didYouMean } from "../base/nearest.ts";
import { quote } from "../base/units.ts";
import { UsageError } from "../base/usage-error.ts";

/** What a knob's file accepts. */
export type KnobValues =
  | { readonly kind: "word"; readonly words: readonly string[] }
  /** Decimal only: one leading plus sign and leading zeros are allowed, nothing else (COLL-010). */
  | { readonly kind: "number"; readonly low: number; readonly high: number }
  /** The lax boolean of shrink_underused: the first letter decides (ANON-007). */
  | { readonly kind: "laxBoolean" };

/** The part of the system a knob steers; parts that a replay does not simulate are in NOT_SIMULATED. */
export type KnobPart = "anonymous" | "khugepaged" | "shmem" | "underused";

export interface Knob {
  /** As written on the command line, e.g. "thp.hugepages-64kB.enabled". */
  readonly name: string;
  /** Below /sys/kernel/mm/transparent_hugepage/. */
  readonly file: string;
  readonly values: KnobValues;
  readonly byDefault: string;
  readonly part: KnobPart;
  /** One line for lists. */
  readonly meaning: string;
}

/** Knobs of these parts are accepted and change nothing in a replay. */
export const NOT_SIMULATED: Readonly<Partial<Record<KnobPart, string>>> = {
  shmem: "shared memory and tmpfs are not simulated as huge",
  underused: "the shrinker of underused huge pages is not simulated",
};

/** Sizes for which Linux on x86-64 has a hugepages-<size>kB directory with an `enabled` file (ANON-009). */
export const ANON_SIZES_KB: readonly number[] = [16, 32, 64, 128, 256, 512, 1024, 2048];

const DECIMAL32 = { kind: "number", low: 0, high: 4294967295 } as const;
const PTES = { kind: "number", low: 0, high: 511 } as const;
const FLAG = { kind: "number", low: 0, high: 1 } as const;

/** Every writable knob, in the order of lists. */
export const KNOBS: readonly Knob[] = [
  {
    name: "thp.enabled",
    file: "enabled",
    values: { kind: "word", words: ["always", "madvise", "never"] },
    byDefault: "madvise",
    part: "anonymous",
    meaning: "where anonymous memory may be huge",
  },
  {
    name: "thp.defrag",
    file: "defrag",
    values: { kind: "word", words: ["always", "defer", "defer+madvise", "madvise", "never"] },
    byDefault: "madvise",
    part: "anonymous",
    meaning: "how hard a fault tries to get a huge page: reclaim and compact, or fall back",
  },
  {
    name: "thp.use_zero_page",
    file: "use_zero_page",
    values: FLAG,
    byDefault: "1",
    part: "anonymous",
    meaning: "first reads map one shared huge zero page",
  },
  ...ANON_SIZES_KB.map(
    (sizeKb): Knob => ({
      name: `thp.hugepages-${sizeKb}kB.enabled`,
      file: `hugepages-${sizeKb}kB/enabled`,
      values: { kind: "word", words: ["always", "inherit", "madvise", "never"] },
      byDefault: sizeKb === 2048 ? "inherit" : "never",
      part: "anonymous",
      meaning: `the same for folios of ${sizeKb} kB; inherit follows thp.enabled`,
    }),
  ),
  {
    name: "thp.shrink_underused",
    file: "shrink_underused",
    values: { kind: "laxBoolean" },
    byDefault: "1",
    part: "underused",
    meaning: "split huge pages that are mostly zero when memory is short",
  },
  {
    name: "thp.shmem_enabled",
    file: "shmem_enabled",
    values: { kind: "word", words: ["always", "within_size", "advise", "never", "deny", "force"] },
    byDefault: "never",
    part: "shmem",
    meaning: "where shared memory without a mount option may be huge",
  },
  ...[8, ...ANON_SIZES_KB].map(
    (sizeKb): Knob => ({
      name: `thp.hugepages-${sizeKb}kB.shmem_enabled`,
      file: `hugepages-${sizeKb}kB/shmem_enabled`,
      values: { kind: "word", words: ["always", "inherit", "within_size", "advise", "never"] },
      byDefault: sizeKb === 2048 ? "inherit" : "never",
      part: "shmem",
      meaning: `the same for folios of ${sizeKb} kB; inherit follows thp.shmem_enabled`,
    }),
  ),
  khugepaged("defrag", FLAG, "1", "collapse may reclaim and compact to get a huge page"),
  khugepaged("max_ptes_none", PTES, "511", "collapse a range with at most this many empty pages"),
  khugepaged("max_ptes_swap", PTES, "64", "collapse with at most this many pages swapped out"),
  khugepaged("max_ptes_shared", PTES, "256", "collapse with at most this many shared pages"),
  khugepaged("pages_to_scan", { ...DECIMAL32, low: 1 }, "4096", "pages scanned in one pass"),
  khugepaged("scan_sleep_millisecs", DECIMAL32, "10000", "sleep between passes"),
  khugepaged("alloc_sleep_millisecs", DECIMAL32, "60000", "sleep after a failed allocation"),
];

/** Files that exist on a live kernel and cannot be written. */
export const READ_ONLY_KNOBS: readonly string[] = [
  "thp.hpage_pmd_size",
  "khugepaged.pages_collapsed",
  "khugepaged.full_scans",
];

/** Short names that say the same, so that both spellings of a size work. */
const ALIASES: Readonly<Record<string, string>> = Object.fromEntries([
  ...KNOBS.map((knob) => [knob.name.replace(/kB\b/, "kb").toLowerCase(), knob.name]),
  ...["shrink_underused", "use_zero_page", "shmem_enabled"].map((n) => [n, `thp.${n}`]),
]);

function khugepaged(file: string, values: KnobValues, byDefault: string, meaning: string): Knob {
  return {
    name: `khugepaged.${file}`,
    file: `khugepaged/${file}`,
    values,
    byDefault,
    part: "khugepaged",
    meaning,
  };
}

/** A knob and a value its file accepts, canonical. */
export interface KnobSetting {
  readonly name: string;
  readonly value: string;
}

/** Reads "thp.enabled=always". `where` names the flag. Throws UsageError with the place. */
export function parseKnob(text: string, where: string): KnobSetting {
  const equals = text.indexOf("=");
  if (equals < 0) {
    const wanted = `KNOB=VALUE such as thp.enabled=always${didYouMean(text, knobNames())}`;
    throw new UsageError(where, quote(text), wanted, { text, column: text.length });
  }
  return checkKnob(text.slice(0, equals), text.slice(equals + 1), where);
}

/** The knob called `name` set to `value`, or a UsageError that names the nearest knob or the accepted values. */
export function checkKnob(name: string, value: string, where: string): KnobSetting {
  const knob = knobNamed(name, where);
  const canonical = canonicalValue(knob.values, value);
  if (canonical === undefined) {
    const wanted = describeValues(knob.values) + nearestWord(knob.values, value);
    const text = `${name}=${value}`;
    throw new UsageError(`${where} ${knob.name}`, quote(value), wanted, {
      text,
      column: name.length + 1,
    });
  }
  return { name: knob.name, value: canonical };
}

/** The knob called `name`; any case. Throws UsageError. */
export function knobNamed(name: string, where: string): Knob {
  const wantedName = ALIASES[name.toLowerCase()] ?? name;
  const knob = KNOBS.find((k) => k.name === wantedName);
  if (knob) return knob;
  if (READ_ONLY_KNOBS.includes(name) || name.includes(".stats.")) {
    throw new UsageError(where, `${name}, which is read-only`, "a knob that can be written");
  }
  throw new UsageError(
    where,
    `unknown knob ${quote(name)}`,
    `one of \`hugelab list knobs\`${didYouMean(name, knobNames())}`,
  );
}

/** Where a live kernel keeps the knob. */
export function sysfsPath(knob: Knob): string {
  return `/sys/kernel/mm/transparent_hugepage/${knob.file}`;
}

/** What the file accepts, in words: "always, madvise or never"; "0..511". */
export function describeValues(values: KnobValues): string {
  switch (values.kind) {
    case "word":
      return `${values.words.slice(0, -1).join(", ")} or ${values.words.at(-1)}`;
    case "number":
      return values.high === 1 ? "0 or 1" : `a decimal number ${values.low}..${values.high}`;
    case "laxBoolean":
      return "0 or 1 (also y, n, on, off)";
  }
}

function nearestWord(values: KnobValues, value: string): string {
  return values.kind === "word" ? didYouMean(value, values.words) : "";
}

function canonicalValue(values: KnobValues, value: string): string | undefined {
  switch (values.kind) {
    case "word":
      return values.words.includes(value) ? value : undefined;
    case "number": {
      if (!/^\+?\d+$/.test(value)) return undefined;
      const number = Number(value);
      return number >= values.low && number <= values.high ? String(number) : undefined;
    }
    case "laxBoolean":
      if (/^([ytYT1eE]|[oO][nN])/.test(value)) return "1";
      return /^([nfNF0dD]|[oO][fF])/.test(value) ? "0" : undefined;
  }
}

function knobNames(): readonly string[] {
  return KNOBS.map((knob) => knob.name);
}
