/**
 * /proc/zoneinfo: sizes, watermarks and per-CPU lists of every zone.
 *
 * Entry: zoneinfoText.
 * Rules: PROC-082, PHYS-010, PHYS-012, PHYS-043.
 * Differs: an item that the model does not keep by zone (or, with several nodes, by node) has no line.
 */

import type { MmState } from "../mm/state.ts";
import {
  LRU_NAMES,
  type MemNode,
  NR_ZONE_KINDS,
  type PhysState,
  ZONE,
  ZONE_NAMES,
  type Zone,
} from "../phys/state.ts";
import { nodeLruPages } from "./node-files.ts";
import { countOf, isModelled, VMSTAT_BLOCKS, zoneItem } from "./vmstat.ts";

/** Watermarks of a Movable zone without pages: the least such a zone may have. */
const EMPTY_MOVABLE_MARK = 32;
/** Pages per unit of the rule for "vm stats threshold": 128 MiB. */
const THRESHOLD_UNIT = 2 ** 15;
const MOST_THRESHOLD = 125;

/** All zones of all nodes, those without pages included. */
export function zoneinfoText(m: MmState): string {
  return m.nodes.map((node) => nodeText(m, node)).join("");
}

function nodeText(m: MmState, node: MemNode): string {
  const zones = node.zones.map((id) => m.zones[id]);
  let text = "";
  for (const [kind, name] of ZONE_NAMES.entries()) {
    const zone = zones.find((candidate) => candidate.kind === kind);
    text += `Node ${node.id}, zone ${name.padStart(8)}\n`;
    if (zone === undefined) text += emptyZone(kind === ZONE.MOVABLE ? EMPTY_MOVABLE_MARK : 0);
    else text += (zone === zones[0] ? nodeStats(m, node) : "") + zoneText(m, zone);
  }
  return `${text}Node ${node.id}, zone ${"Device".padStart(8)}\n${emptyZone(0)}`;
}

function nodeStats(m: MmState, node: MemNode): string {
  let text = "  per-node stats\n";
  for (const name of VMSTAT_BLOCKS.node) {
    const list = LRU_NAMES.findIndex((lru) => `nr_${lru}` === name);
    if (list >= 0) text += itemLine(name, nodeLruPages(m, node.id, list));
    else if (m.nodes.length === 1 && isModelled(name)) text += itemLine(name, countOf(m, name));
  }
  return text;
}

function zoneText(m: MmState, zone: Zone): string {
  const { watermarks: marks, lowmemReserve } = zone;
  const { spannedPages, presentPages, managedPages } = zone;
  const reserves = [...lowmemReserve, lowmemReserve[NR_ZONE_KINDS - 1]];
  let text =
    sizes(zone.nrFree, {
      ...{ boost: zone.boost, min: marks.min, low: marks.low, high: marks.high },
      ...{ promo: marks.promo, spanned: spannedPages, present: presentPages },
      ...{ managed: managedPages, cma: 0 },
    }) + protection(reserves);
  for (const name of VMSTAT_BLOCKS.zone) {
    const value = zoneItem(zone, name);
    if (value !== undefined) text += itemLine(name, value);
  }
  return `${text}${pagesets(m, zone)}  node_unreclaimable:  0\n  start_pfn:           ${zone.startPfn}\n`;
}

function emptyZone(mark: number): string {
  return (
    sizes(0, {
      ...{ boost: 0, min: mark, low: mark, high: mark, promo: mark },
      ...{ spanned: 0, present: 0, managed: 0, cma: 0 },
    }) + protection(new Array<number>(NR_ZONE_KINDS + 1).fill(0))
  );
}

function sizes(nrFree: number, named: Readonly<Record<string, number>>): string {
  const lines = Object.entries(named).map(
    ([name, value]) => `        ${name.padEnd(8)} ${value}\n`,
  );
  return `  pages free     ${nrFree}\n${lines.join("")}`;
}

function protection(reserves: readonly number[]): string {
  return `        protection: (${reserves.join(", ")})\n`;
}

function pagesets(m: PhysState, zone: Zone): string {
  let text = "  pagesets\n";
  for (const [cpu, pcp] of zone.pcps.entries())
    text +=
      `    cpu: ${cpu}\n` +
      `              count:    ${pcp.count}\n` +
      `              high:     ${pcp.high}\n` +
      `              batch:    ${zone.pcpBatch}\n` +
      `              high_min: ${zone.pcpHighMin}\n` +
      `              high_max: ${zone.pcpHighMax}\n` +
      `  vm stats threshold: ${statThreshold(m, zone)}\n`;
  return text;
}

/** What a CPU may hold back of a zone's counters: twice the bits of the CPU count, times one more than those of 128 MiB units. */
function statThreshold(m: PhysState, zone: Zone): number {
  const units = Math.floor(zone.managedPages / THRESHOLD_UNIT);
  return Math.min(2 * nrBits(m.nrCpus) * (1 + nrBits(units)), MOST_THRESHOLD);
}

function nrBits(value: number): number {
  return 32 - Math.clz32(value);
}

function itemLine(name: string, value: number): string {
  return `      ${name.padEnd(12)} ${Math.max(value, 0)}\n`;
}
