/**
 * What there is to name: the lists that `hugelab list` prints, each item with its names as columns.
 *
 * Entry: CATALOGUES. Pure data, gathered from where each thing is defined.
 */

import { THP_STAT_NAMES, VMSTAT_NAMES } from "../base/counters.ts";
import { EVENT_NAMES } from "../base/events.ts";
import { PROFILES } from "../base/profile.ts";
import { describeValues, KNOBS, NOT_SIMULATED } from "../huge/knob-files.ts";
import { COST_TABLES } from "../hw/cost-tables.ts";
import { GEOMETRIES } from "../hw/presets.ts";
import { PHASE_TABLES } from "../machine/phase-tables.ts";
import { listPhases } from "../sched/phase-table.ts";
import { PRESETS } from "./setting.ts";

export interface Catalogue {
  readonly name: string;
  readonly meaning: string;
  /** Keys of the items, in the order of columns; the first identifies. */
  readonly columns: readonly string[];
  readonly items: () => readonly Readonly<Record<string, string>>[];
}

/** Why anonymous memory is not in a huge page, as the fault path decides it, first reason first. */
const REASONS: readonly Readonly<Record<string, string>>[] = [
  reason("not anonymous", "ANON-024", "file or shared memory, which is not huge here"),
  reason("VM_NOHUGEPAGE", "ANON-022", "MADV_NOHUGEPAGE, or MAP_STACK as thread stacks have it"),
  reason("PR_SET_THP_DISABLE", "ANON-030", "the process switched huge pages off for itself"),
  reason(
    "PR_THP_DISABLE_EXCEPT_ADVISED",
    "ANON-031",
    "the same, and the memory is not MADV_HUGEPAGE",
  ),
  reason("enabled", "ANON-021", "the policy of every size is never, or madvise without the advice"),
  reason("VMA bounds", "ANON-027", "the aligned block is not wholly inside the mapping"),
  reason("PTE table present", "ANON-060", "a 4 kB page was there first: khugepaged's case"),
  reason("thp_fault_fallback", "ANON-065", "no free 2 MiB block, and defrag did not get one"),
  reason("thp_fault_fallback_charge", "ANON-066", "the memory cgroup has no room for 2 MiB"),
  reason("block partly populated", "ANON-100", "for sizes below 2 MiB: one of its pages is there"),
  reason("read of the zero page", "ANON-089", "sizes below 2 MiB are never used for first reads"),
];

/** The words of the policy knobs. */
const POLICIES: readonly Readonly<Record<string, string>>[] = [
  policy("always", "thp.enabled", "wherever a huge page fits"),
  policy("madvise", "thp.enabled", "only in memory with MADV_HUGEPAGE"),
  policy("never", "thp.enabled", "nowhere, unless a size says otherwise"),
  policy("inherit", "thp.hugepages-*.enabled", "this size follows thp.enabled"),
  policy("always", "thp.defrag", "a fault reclaims and compacts to get a huge page"),
  policy("defer", "thp.defrag", "a fault wakes kswapd and kcompactd and takes what is free"),
  policy("defer+madvise", "thp.defrag", "always with MADV_HUGEPAGE, defer without"),
  policy("madvise", "thp.defrag", "always with MADV_HUGEPAGE, never without"),
  policy("never", "thp.defrag", "a fault takes what is free or falls back"),
];

export const CATALOGUES: readonly Catalogue[] = [
  {
    name: "knobs",
    meaning: "the kernel's THP knobs, with defaults and accepted values",
    columns: ["name", "default", "accepts", "meaning"],
    items: () =>
      KNOBS.map((knob) => ({
        name: knob.name,
        default: knob.byDefault,
        accepts: describeValues(knob.values),
        meaning: NOT_SIMULATED[knob.part] ? `${knob.meaning} (no effect yet)` : knob.meaning,
      })),
  },
  {
    name: "presets",
    meaning: "settings by name, the default columns of compare",
    columns: ["name", "knobs", "meaning"],
    items: () =>
      PRESETS.map(({ name, knobs, meaning }) => ({
        name,
        knobs: Object.entries(knobs)
          .map(([knob, value]) => `${knob}=${value}`)
          .join(" "),
        meaning,
      })),
  },
  {
    name: "policies",
    meaning: "what the words of the policy knobs mean",
    columns: ["name", "knob", "meaning"],
    items: () => POLICIES,
  },
  {
    name: "counters",
    meaning: "counters kept, by the kernel's names",
    columns: ["name", "where"],
    items: () => [
      ...VMSTAT_NAMES.map((name) => ({ name, where: "/proc/vmstat" })),
      ...THP_STAT_NAMES.map((name) => ({ name, where: "hugepages-<size>kB/stats" })),
    ],
  },
  {
    name: "events",
    meaning: "events the engine emits, by tracepoint name",
    columns: ["name"],
    items: () => EVENT_NAMES.map((name) => ({ name })),
  },
  {
    name: "phases",
    meaning: "phases of long operations, at which one can be held, and the locks they run under",
    columns: ["operation", "phase", "holds"],
    items: () =>
      Object.values(PHASE_TABLES).flatMap((table) => listPhases(table).map((row) => ({ ...row }))),
  },
  {
    name: "reasons",
    meaning: "why memory is not in a huge page when it is first touched",
    columns: ["name", "rule", "meaning"],
    items: () => REASONS,
  },
  {
    name: "profiles",
    meaning: "kernels whose behaviour is simulated",
    columns: ["name", "default"],
    items: () => PROFILES.map(({ name }, i) => ({ name, default: i === 0 ? "yes" : "" })),
  },
  {
    name: "geometries",
    meaning: "TLBs and page-walk caches of real cores",
    columns: ["name", "description", "source"],
    items: () => GEOMETRIES.map(({ name, description, source }) => ({ name, description, source })),
  },
  {
    name: "costs",
    meaning: "built-in cost tables, for --costs builtin:NAME",
    columns: ["name", "description"],
    items: () => COST_TABLES.map(({ name, description }) => ({ name, description })),
  },
];

function reason(name: string, rule: string, meaning: string) {
  return { name, rule, meaning };
}

function policy(name: string, knob: string, meaning: string) {
  return { name, knob, meaning };
}
