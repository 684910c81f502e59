/**
 * Knobs by their names in scenarios as files of the running kernel, and what every scenario begins with.
 */

import { ANON_SIZES_KB } from "../huge/knob-files.ts";

const THP = "/sys/kernel/mm/transparent_hugepage/";

/** "thp.hugepages-64kB.enabled", "khugepaged.max_ptes_none" and "vm.overcommit_memory" as paths. */
export function knobPath(name: string): string {
  const dot = name.indexOf(".");
  const group = name.slice(0, dot);
  const file = name.slice(dot + 1).replaceAll(".", "/");
  if (group === "vm") return `/proc/sys/vm/${file}`;
  return group === "thp" ? `${THP}${file}` : `${THP}${group}/${file}`;
}

/** docs/scenarios.md, "Every scenario begins with". Parking khugepaged is the supervisor's. */
export const KNOBS_AT_START: readonly (readonly [string, string])[] = [
  ["thp.enabled", "madvise"],
  ["thp.defrag", "madvise"],
  ["thp.use_zero_page", "1"],
  ["thp.shrink_underused", "1"],
  ["thp.shmem_enabled", "never"],
  ["khugepaged.defrag", "1"],
  ["khugepaged.max_ptes_none", "511"],
  ["khugepaged.pages_to_scan", "4096"],
  ["khugepaged.max_ptes_swap", "64"],
  ["khugepaged.max_ptes_shared", "256"],
  ...ANON_SIZES_KB.map(
    (kb) => [`thp.hugepages-${kb}kB.enabled`, kb === 2048 ? "inherit" : "never"] as const,
  ),
  ...[8, ...ANON_SIZES_KB].map(
    (kb) => [`thp.hugepages-${kb}kB.shmem_enabled`, kb === 2048 ? "inherit" : "never"] as const,
  ),
];
