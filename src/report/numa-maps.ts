/**
 * /proc/PID/numa_maps: pages of each VMA by node.
 *
 * Entry: numaMapsText.
 * Rules: PROC-034, ANON-304. Memory policies are not modelled: every VMA has `default`.
 */

import { ENTRY } from "../mm/page-tables.ts";
import { pageMapcount } from "../mm/rmap.ts";
import type { Mm, MmState } from "../mm/state.ts";
import type { Vma } from "../mm/vma.ts";
import { zoneOf } from "../phys/buddy.ts";
import { headOf, PG } from "../phys/frame-table.ts";
import { forEachEntry } from "./vma-entries.ts";
import { isHeap, isStack, nameOf } from "./vma-words.ts";

/** Pages of 4 KiB. */
interface NodeSums {
  pages: number;
  anon: number;
  dirty: number;
  swapCache: number;
  active: number;
  writeback: number;
  /** Largest number of mappings of any page. */
  mapMax: number;
  readonly byNode: number[];
}

/** One line per VMA. */
export function numaMapsText(m: MmState, mm: Mm): string {
  return mm.vmas.map((vma) => lineOf(m, mm, vma)).join("");
}

function lineOf(m: MmState, mm: Mm, vma: Vma): string {
  const start = vma.start.toString(16).padStart(8, "0");
  return `${start} default${placeOf(mm, vma)}${sumsText(sumsOf(m, mm, vma))}\n`;
}

function placeOf(mm: Mm, vma: Vma): string {
  if (vma.file !== null) return ` file=${nameOf(mm, vma).replace(/[ \t]/g, octal)}`;
  if (isHeap(mm, vma)) return " heap";
  return isStack(mm, vma) ? " stack" : "";
}

function octal(blank: string): string {
  return `\\${blank.charCodeAt(0).toString(8).padStart(3, "0")}`;
}

function sumsOf(m: MmState, mm: Mm, vma: Vma): NodeSums {
  const byNode = new Array<number>(m.nodes.length).fill(0);
  const sums = { pages: 0, anon: 0, dirty: 0, swapCache: 0, active: 0, writeback: 0, mapMax: 0 };
  const all: NodeSums = { ...sums, byNode };
  forEachEntry(m, mm, vma, (flags, payload, nr) => {
    if ((flags & ENTRY.PRESENT) !== 0 && (flags & ENTRY.SPECIAL) === 0)
      addPages(m, payload, nr, flags, all);
  });
  return all;
}

function addPages(m: MmState, pfn: number, nr: number, entry: number, sums: NodeSums): void {
  const flags = m.frames.flags[headOf(m.frames, pfn)];
  sums.pages += nr;
  if ((flags & PG.ANON) !== 0) sums.anon += nr;
  if ((entry & ENTRY.DIRTY) !== 0 || (flags & PG.DIRTY) !== 0) sums.dirty += nr;
  if ((flags & PG.SWAPCACHE) !== 0) sums.swapCache += nr;
  if ((flags & (PG.ACTIVE | PG.UNEVICTABLE)) !== 0) sums.active += nr;
  if ((flags & PG.WRITEBACK) !== 0) sums.writeback += nr;
  sums.mapMax = Math.max(sums.mapMax, pageMapcount(m, pfn));
  sums.byNode[zoneOf(m, pfn).node] += nr;
}

function sumsText(sums: NodeSums): string {
  const { pages, anon, dirty, mapMax, swapCache, active, writeback } = sums;
  if (pages === 0) return "";
  let text = "";
  if (anon > 0) text += ` anon=${anon}`;
  if (dirty > 0) text += ` dirty=${dirty}`;
  if (pages !== anon && pages !== dirty) text += ` mapped=${pages}`;
  if (mapMax > 1) text += ` mapmax=${mapMax}`;
  if (swapCache > 0) text += ` swapcache=${swapCache}`;
  if (active < pages) text += ` active=${active}`;
  if (writeback > 0) text += ` writeback=${writeback}`;
  for (const [node, nr] of sums.byNode.entries()) if (nr > 0) text += ` N${node}=${nr}`;
  return `${text} kernelpagesize_kB=4`;
}
