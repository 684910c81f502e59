/**
 * Files of /sys/devices/system/node/nodeN: meminfo, numastat, distance.
 *
 * Entry: readNodeFile.
 * Rules: PROC-064.
 * Differs: the model keeps most counts for the whole machine; with several nodes a line whose count is not kept by node is left
 *        out.
 */

import { HUGE_SIZE } from "../base/address.ts";
import { ENOENT, type Err } from "../base/errno.ts";
import type { MmState } from "../mm/state.ts";
import { lruSize } from "../phys/lru.ts";
import { LRU, type LruList, type NodeId } from "../phys/state.ts";
import { KIB_PER_PAGE, kbLine } from "./text-layout.ts";
import { countOf } from "./vmstat.ts";

const HUGE_PAGES = HUGE_SIZE / 4096;
/** Lines behind the LRU's: label, counter, pages per unit. "" has no counterpart in the model. */
const COUNTED: readonly (readonly [label: string, counter: string, pages?: number])[] = [
  ["Mlocked", "nr_mlock"],
  ["Dirty", "nr_dirty"],
  ["Writeback", "nr_writeback"],
  ["FilePages", "nr_file_pages"],
  ["Mapped", "nr_mapped"],
  ["AnonPages", "nr_anon_pages"],
  ["Shmem", "nr_shmem"],
  ["KernelStack", ""],
  ["PageTables", "nr_page_table_pages"],
  ["SecPageTables", ""],
  ["NFS_Unstable", ""],
  ["Bounce", ""],
  ["WritebackTmp", ""],
  ["KReclaimable", ""],
  ["Slab", ""],
  ["SReclaimable", ""],
  ["SUnreclaim", ""],
  ["AnonHugePages", "nr_anon_transparent_hugepages", HUGE_PAGES],
  ["ShmemHugePages", "nr_shmem_hugepages", HUGE_PAGES],
  ["ShmemPmdMapped", "nr_shmem_pmdmapped", HUGE_PAGES],
  ["FileHugePages", "nr_file_hugepages", HUGE_PAGES],
  ["FilePmdMapped", "nr_file_pmdmapped", HUGE_PAGES],
];
const NUMASTAT: readonly (readonly [name: string, counter: string])[] = [
  ["numa_hit", "numa_hit"],
  ["numa_miss", "numa_miss"],
  ["numa_foreign", "numa_foreign"],
  ["interleave_hit", "numa_interleave"],
  ["local_node", "numa_local"],
  ["other_node", "numa_other"],
];

/** The text of nodeN/`name`; -ENOENT for no such node or file. */
export function readNodeFile(m: MmState, node: NodeId, name: string): string | Err {
  if (m.nodes[node] === undefined) return -ENOENT;
  switch (name) {
    case "meminfo":
      return nodeMeminfo(m, node);
    case "numastat":
      return NUMASTAT.map(([label, counter]) => `${label} ${countOf(m, counter)}\n`).join("");
    case "distance":
      return `${m.nodes[node].distances.join(" ")}\n`;
    default:
      return -ENOENT;
  }
}

function nodeMeminfo(m: MmState, node: NodeId): string {
  let total = 0;
  let free = 0;
  for (const id of m.nodes[node].zones) {
    total += m.zones[id].managedPages;
    free += m.zones[id].nrFree;
  }
  const lru = (list: LruList) => nodeLruPages(m, node, list);
  const active = lru(LRU.ACTIVE_ANON) + lru(LRU.ACTIVE_FILE);
  const inactive = lru(LRU.INACTIVE_ANON) + lru(LRU.INACTIVE_FILE);
  const isOnly = m.nodes.length === 1;
  const lines = [
    pagesLine("MemTotal", total),
    pagesLine("MemFree", free),
    pagesLine("MemUsed", total - free),
    isOnly ? pagesLine("SwapCached", countOf(m, "nr_swapcached")) : "",
    pagesLine("Active", active),
    pagesLine("Inactive", inactive),
    pagesLine("Active(anon)", lru(LRU.ACTIVE_ANON)),
    pagesLine("Inactive(anon)", lru(LRU.INACTIVE_ANON)),
    pagesLine("Active(file)", lru(LRU.ACTIVE_FILE)),
    pagesLine("Inactive(file)", lru(LRU.INACTIVE_FILE)),
    pagesLine("Unevictable", lru(LRU.UNEVICTABLE)),
    ...(isOnly
      ? COUNTED.map(([label, name, unit = 1]) => pagesLine(label, countOf(m, name) * unit))
      : []),
    ...["HugePages_Total:", "HugePages_Free: ", "HugePages_Surp: "].map(
      (label) => `${label}     0\n`,
    ),
  ];
  return lines
    .filter((line) => line !== "")
    .map((line) => `Node ${node} ${line}`)
    .join("");
}

/** Base pages on one kind of list of a node, all memory cgroups together. */
export function nodeLruPages(m: MmState, node: NodeId, list: LruList): number {
  let pages = 0;
  for (let memcg = 0; memcg < m.memcgs.length; memcg++) pages += lruSize(m, memcg, node, list);
  return pages;
}

function pagesLine(label: string, pages: number): string {
  return kbLine(label, pages * KIB_PER_PAGE);
}
