/**
 * An observation as lines of text under keys: what recordings hold, and what is compared with them.
 *
 * Entry: observationLines. Holds: only what repeats on a live kernel is in it, and equal texts mean that compareObservations finds
 *        nothing; addresses are relative to ranges.
 */

import { PAGE_SIZE } from "../base/address.ts";
import { isComparedStatus } from "./compare.ts";
import { isClosedCounter } from "./expect.ts";
import {
  EXACT_BITS,
  type Observation,
  PAGE_BIT,
  PAGE_STATES,
  type PageColumns,
  type ProcessObservation,
  type RangeObservation,
  SMAPS_FIELDS,
  type VmaObservation,
} from "./observation.ts";

/** Keys such as "main R", "C vma R+0", "C status", "counters"; values are for people too. */
export type ObservationLines = ReadonlyMap<string, string>;

export function observationLines(observation: Observation): ObservationLines {
  const lines = new Map<string, string>();
  for (const process of observation.processes) addProcess(lines, process);
  const counters = Object.entries(observation.counters)
    .filter(([name, nr]) => nr !== 0 && isClosedCounter(name))
    .sort(([a], [b]) => (a < b ? -1 : 1));
  for (const [name, nr] of counters) lines.set(`counter ${name}`, String(nr));
  return lines;
}

function addProcess(lines: Map<string, string>, process: ProcessObservation): void {
  const { name, ranges, vmas, status } = process;
  for (const range of ranges) lines.set(`${name} ${range.name}`, pagesText(range));
  for (const vma of vmas) {
    const [place, text] = vmaText(ranges, vma);
    lines.set(`${name} vma ${place}`, text);
  }
  const fields = Object.entries(status).filter(
    ([field, value]) => isComparedStatus(field) && value,
  );
  lines.set(`${name} status`, fields.map(([field, value]) => `${field}=${value}`).join(" "));
}

/** Runs of pages: "0..512 huge o9 f0+0 m1 x, 512..1024 none". */
function pagesText({ pages, nrPages }: RangeObservation): string {
  const runs: string[] = [];
  for (let first = 0; first < nrPages; ) {
    let end = first + 1;
    const step = folioStep(pages, first);
    while (end < nrPages && continues(pages, end, step)) end++;
    runs.push(`${first}..${end} ${runText(pages, first, end, step)}`);
    first = end;
  }
  return runs.join(", ");
}

/** How the folio goes on: pages of one folio, a folio for each page, or none. */
type FolioStep = "none" | "same" | "next";

function folioStep(pages: PageColumns, page: number): FolioStep {
  if (pages.folio[page] < 0) return "none";
  return pages.order[page] === 0 ? "next" : "same";
}

function continues(pages: PageColumns, page: number, step: FolioStep): boolean {
  const before = page - 1;
  const { state, order, mapcount, bits, folio, index } = pages;
  if (state[page] !== state[before] || order[page] !== order[before]) return false;
  if (mapcount[page] !== mapcount[before]) return false;
  if (((bits[page] ^ bits[before]) & EXACT_BITS) !== 0) return false;
  if (step === "none") return folio[page] < 0;
  if (step === "next") return folio[page] === folio[before] + 1;
  return folio[page] === folio[before] && index[page] === index[before] + 1;
}

function runText(pages: PageColumns, first: number, end: number, step: FolioStep): string {
  const parts: string[] = [PAGE_STATES[pages.state[first]]];
  if (step !== "none") {
    if (pages.order[first] > 0) parts.push(`o${pages.order[first]}`);
    const folio = pages.folio[first];
    if (step === "same") parts.push(`f${folio}+${pages.index[first]}`);
    else parts.push(end === first + 1 ? `f${folio}` : `f${folio}..${folio + end - first}`);
    parts.push(`m${pages.mapcount[first]}`);
  }
  if ((pages.bits[first] & PAGE_BIT.EXCLUSIVE) !== 0) parts.push("x");
  if ((pages.bits[first] & PAGE_BIT.UFFD_WP) !== 0) parts.push("wp");
  return parts.join(" ");
}

/** Place, and what it is: "R+0", "+512 rw-p rd wr hg Rss=2048 ...". */
function vmaText(ranges: readonly RangeObservation[], vma: VmaObservation): [string, string] {
  const range = ranges.find(
    ({ start, nrPages }) => vma.start < start + nrPages * PAGE_SIZE && start < vma.end,
  );
  const place = `${range?.name}+${(vma.start - (range?.start ?? 0)) / PAGE_SIZE}`;
  const sizes = SMAPS_FIELDS.filter((field) => field !== "Size" && vma.smaps[field]);
  const fields = sizes.map((field) => `${field}=${vma.smaps[field]}`);
  const nr = (vma.end - vma.start) / PAGE_SIZE;
  return [place, [`+${nr}`, vma.permissions, ...vma.flags, ...fields].join(" ")];
}
