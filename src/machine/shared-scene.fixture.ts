/**
 * Scenes for the tests of shared collapse: a region of 4K pages and processes that share them.
 */

import { regionOf } from "../base/address.ts";
import { buildSharedPmds, sharedCollapseRegion } from "../collapse/shared-collapse.ts";
import { sharedResultName } from "../collapse/shared-result.ts";
import { ENTRY, pteTableOf } from "../mm/page-tables.ts";
import type { Mm } from "../mm/state.ts";
import { PG } from "../phys/frame-table.ts";
import { type Kit, type KitOptions, machine, of, type Range } from "./test-kit.ts";

export interface SharedScene {
  readonly t: Kit;
  /** The region in the process that was there first. */
  readonly range: Range;
  /** The same in the others. */
  readonly others: readonly Range[];
}

export interface SceneOptions extends KitOptions {
  /** Processes forked from the first, one after the other; default 1. */
  readonly children?: number;
  /** Run before the first fork, with huge pages off. */
  readonly prepare?: (t: Kit, range: Range) => void;
  /** Length of the mapping in units of 2 MiB; default 1. */
  readonly huge?: number;
}

/** A region filled with 4K pages, then forks; huge pages are allowed from then on. */
export function sharedScene(options: SceneOptions = {}): SharedScene {
  const t = machine({ memory: 32, sharedCollapse: "on", ...options, enabled: "never" });
  const range = t.map({ huge: options.huge ?? 1 });
  t.fill(range);
  options.prepare?.(t, range);
  const others = Array.from({ length: options.children ?? 1 }, () => of(t.fork(), range));
  t.knob("thp.enabled", "always");
  return { t, range, others };
}

/** Collapses the region at which `pivot` begins; what came of it, in words. */
export function collapse(t: Kit, pivot: Range): string {
  const result = sharedCollapseRegion(t.m, pivot.mm.id, regionOf(pivot.start));
  t.check();
  return sharedResultName(result);
}

/** Tries every mapping in the queue; how many became huge. */
export function buildPmds(t: Kit): number {
  const nr = buildSharedPmds(t.m);
  t.check();
  return nr;
}

/** What the mode keeps; the machine must have it. */
export function modeOf(t: Kit) {
  return t.m.sharedCollapse!;
}

/** Every nonzero count of the mode, so that one too many is seen. */
export function statsOf(t: Kit): Record<string, number> {
  const { stats, vmstat, queue } = modeOf(t);
  const all = Object.entries({ ...stats, ...vmstat, shared_deferred_vmas: queue.length });
  const isTime = (name: string) => name.startsWith("shared_stall_ns");
  return Object.fromEntries(all.filter(([name, value]) => value !== 0 && !isTime(name)));
}

/** Bits and payloads of every entry of a region, in one process. */
export function entriesOf(t: Kit, mm: Mm, start: number): string {
  const { flags, payload } = t.m.tables;
  const base = pteTableOf(t.m.tables, mm.root, regionOf(start)) * 512;
  const words: string[] = [];
  for (let slot = base; slot < base + 512; slot++)
    words.push(flags[slot] === 0 ? "-" : `${flags[slot]}:${payload[slot]}`);
  return words.join(" ");
}

/** P and S counted from all page tables, without rmap (COLL-484): PTEs of the given frames, and who has any. */
export function countMappings(t: Kit, pfns: readonly number[]): { ptes: number; mms: number } {
  const wanted = new Set(pfns);
  const { flags, payload, level, nrRows } = t.m.tables;
  const tablesOf = new Map<number, number>();
  for (const mm of t.m.mms)
    if (mm !== null) for (const table of tablesBelow(t, mm.root)) tablesOf.set(table, mm.id);
  const mms = new Set<number>();
  let ptes = 0;
  for (let table = 1; table < nrRows; table++) {
    const owner = tablesOf.get(table);
    if (owner === undefined || level[table] !== 1) continue;
    for (let slot = table * 512; slot < (table + 1) * 512; slot++) {
      if ((flags[slot] & ENTRY.PRESENT) === 0 || !wanted.has(payload[slot])) continue;
      ptes++;
      mms.add(owner);
    }
  }
  return { ptes, mms: mms.size };
}

function tablesBelow(t: Kit, table: number): number[] {
  const { flags, payload } = t.m.tables;
  const found = [table];
  for (let slot = table * 512; slot < (table + 1) * 512; slot++)
    if ((flags[slot] & ENTRY.TABLE) !== 0) found.push(...tablesBelow(t, payload[slot]));
  return found;
}

/** Folios on LRU lists, and frames of folios that somebody holds. */
export function countMemory(t: Kit): { lruFolios: number; frames: number } {
  const { flags, refcount, order } = t.m.frames;
  const counts = { lruFolios: 0, frames: 0 };
  for (let pfn = 0; pfn < t.m.frames.nrFrames; pfn++) {
    if ((flags[pfn] & PG.LRU) !== 0) counts.lruFolios++;
    if (refcount[pfn] > 0) counts.frames += 1 << order[pfn];
  }
  return counts;
}
