/**
 * The tree /sys/kernel/mm/transparent_hugepage: which files there are, their modes, reading and writing.
 *
 * Entry: listSysfs, modeOfSysfs, readSysfs, writeSysfs. Paths are absolute. Those that take a machine or null show the tree of
 *        that machine, or of every kernel.
 * Rules: PROC-090..109. What one knob accepts and prints is in huge/knobs.ts.
 */

import { NR_THP_STATS, THP_STAT, type ThpStatName } from "../base/counters.ts";
import { EACCES, EISDIR, ENOENT, type Err } from "../base/errno.ts";
import {
  type HugeState,
  isReadOnlyShared,
  knobNames,
  knobNamesOf,
  readKnob,
  SHMEM_ORDERS,
  writeKnob,
} from "../huge/knobs.ts";

export const THP_SYSFS = "/sys/kernel/mm/transparent_hugepage";

/** Statistics of a size that only shared memory can have (PROC-107). */
const SHMEM_STATS: readonly ThpStatName[] = [
  "shmem_alloc",
  "shmem_fallback",
  "shmem_fallback_charge",
  "split",
  "split_failed",
  "swpin",
  "swpin_fallback",
  "swpin_fallback_charge",
  "swpout",
  "swpout_fallback",
  "zswpout",
];
/** Besides those, of the sizes that anonymous memory can have (PROC-108). */
const ANON_STATS: readonly ThpStatName[] = [
  "anon_fault_alloc",
  "anon_fault_fallback",
  "anon_fault_fallback_charge",
  "nr_anon",
  "nr_anon_partially_mapped",
  "split_deferred",
];
const READ_ONLY_KNOB = /hpage_pmd_size|pages_collapsed|full_scans/;

/** Names in a directory, sorted, directories with a slash at their end; -ENOENT if it is none. */
export function listSysfs(path: string, m: HugeState | null = null): string[] | Err {
  const folder = `${path.replace(/\/+$/, "")}/`;
  const names = new Set<string>();
  for (const file of sysfsFiles(m)) {
    if (!file.startsWith(folder)) continue;
    const [name, ...below] = file.slice(folder.length).split("/");
    names.add(below.length > 0 ? `${name}/` : name);
  }
  return names.size > 0 ? [...names].sort() : -ENOENT;
}

/** Paths of all files, sorted. */
export function sysfsFiles(m: HugeState | null = null): string[] {
  const knobs = namesOf(m).map((name) => `${THP_SYSFS}/${fileOfKnob(name)}`);
  const stats = SHMEM_ORDERS.flatMap((order) =>
    statsOf(order).map((stat) => `${THP_SYSFS}/hugepages-${4 << order}kB/stats/${stat}`),
  );
  return [...knobs, ...stats].sort();
}

/** Permission bits of a file: 0o644 or 0o444; 0o755 of a directory; -ENOENT. */
export function modeOfSysfs(path: string, m: HugeState | null = null): number | Err {
  if (statOf(path) !== undefined) return 0o444;
  const knob = knobOf(path, m);
  if (knob !== undefined)
    return READ_ONLY_KNOB.test(path) || isReadOnlyShared(knob) ? 0o444 : 0o644;
  return typeof listSysfs(path, m) === "number" ? -ENOENT : 0o755;
}

/** What reading the file gives, newline included; -ENOENT, or -EISDIR for a directory. */
export function readSysfs(m: HugeState, path: string): string | Err {
  const stat = statOf(path);
  if (stat !== undefined) return `${m.thpStats[stat.order * NR_THP_STATS + THP_STAT[stat.name]]}\n`;
  const knob = knobOf(path, m);
  if (knob !== undefined) return readKnob(m, knob);
  return typeof listSysfs(path, m) === "number" ? -ENOENT : -EISDIR;
}

/** Bytes taken, that is all of `text`; or -EACCES, -EINVAL, -ERANGE, -EISDIR, -ENOENT. */
export function writeSysfs(m: HugeState, path: string, text: string): number | Err {
  if (statOf(path) !== undefined) return -EACCES;
  const knob = knobOf(path, m);
  if (knob === undefined) return typeof listSysfs(path, m) === "number" ? -ENOENT : -EISDIR;
  const result = writeKnob(m, knob, text);
  return result === 0 ? text.length : result;
}

function fileOfKnob(name: string): string {
  return name.replace(/^thp\./, "").replaceAll(".", "/");
}

function namesOf(m: HugeState | null): string[] {
  return m === null ? knobNames() : knobNamesOf(m);
}

function knobOf(path: string, m: HugeState | null): string | undefined {
  return namesOf(m).find((name) => path === `${THP_SYSFS}/${fileOfKnob(name)}`);
}

function statsOf(order: number): readonly ThpStatName[] {
  return order === 1 ? SHMEM_STATS : [...SHMEM_STATS, ...ANON_STATS];
}

function statOf(path: string): { order: number; name: ThpStatName } | undefined {
  const match = /^(.*)\/hugepages-(\d+)kB\/stats\/(\w+)$/.exec(path);
  if (match === null || match[1] !== THP_SYSFS) return undefined;
  const order = SHMEM_ORDERS.find((candidate) => String(4 << candidate) === match[2]);
  if (order === undefined) return undefined;
  const name = statsOf(order).find((candidate) => candidate === match[3]);
  return name === undefined ? undefined : { order, name };
}
