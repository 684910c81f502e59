/**
 * Files of a memory cgroup, version 1 and 2.
 *
 * Entry: readMemcgV1, readMemcgV2.
 * Rules: PROC-120..124, ANON-307.
 * Cost:  memory.stat looks at every frame once; the model keeps no sums by group but the LRU lists and the usage.
 * Differs: items that the model does not count by group (events, kernel memory, workingset) read 0.
 */

import { PAGE_SIZE, PTES_PER_REGION } from "../base/address.ts";
import { ENOENT, type Err } from "../base/errno.ts";
import type { MmState } from "../mm/state.ts";
import { PG } from "../phys/frame-table.ts";
import { lruSize } from "../phys/lru.ts";
import { LRU_NAMES, type Memcg, type MemcgId, NO_MEMCG } from "../phys/state.ts";

/** What v1 prints for "no limit": the largest page multiple of a signed 64-bit number, beyond doubles. */
const UNLIMITED = "9223372036854771712";
const V1_ITEMS = words(
  `cache rss rss_huge shmem mapped_file dirty writeback workingset_refault_anon workingset_refault_file swap swapcached
   pgpgin pgpgout pgfault pgmajfault`,
);
const V2_ITEMS = words(
  `anon file kernel kernel_stack pagetables sec_pagetables percpu sock vmalloc shmem zswap zswapped file_mapped
   file_dirty file_writeback swapcached anon_thp file_thp shmem_thp inactive_anon active_anon inactive_file active_file
   unevictable slab_reclaimable slab_unreclaimable slab workingset_refault_anon workingset_refault_file
   workingset_activate_anon workingset_activate_file workingset_restore_anon workingset_restore_file
   workingset_nodereclaim pgdemote_kswapd pgdemote_direct pgdemote_khugepaged pgpromote_success pgscan pgsteal
   pgscan_kswapd pgscan_direct pgscan_khugepaged pgsteal_kswapd pgsteal_direct pgsteal_khugepaged pgfault pgmajfault
   pgrefill pgactivate pgdeactivate pglazyfree pglazyfreed swpin_zero swpout_zero zswpin zswpout zswpwb thp_fault_alloc
   thp_collapse_alloc thp_swpout thp_swpout_fallback numa_pages_migrated numa_pte_updates numa_hint_faults`,
);

/** Pages by item, in the words of v2; an item that is missing is 0. */
type Pages = Map<string, number>;

/** memory.`name` of a v1 hierarchy, e.g. "stat", "usage_in_bytes"; -ENOENT. */
export function readMemcgV1(m: MmState, id: MemcgId, name: string): string | Err {
  const group = m.memcgs[id];
  if (group === null || group === undefined) return -ENOENT;
  switch (name) {
    case "stat":
      return statV1(m, group);
    case "usage_in_bytes":
      return `${group.usage * PAGE_SIZE}\n`;
    case "max_usage_in_bytes":
      return `${group.peak * PAGE_SIZE}\n`;
    case "limit_in_bytes":
      return `${limitText(group.max, UNLIMITED)}\n`;
    case "failcnt":
      return `${group.failcnt}\n`;
    case "oom_control":
      return `oom_kill_disable 0\nunder_oom 0\noom_kill ${group.oomKill}\n`;
    default:
      return -ENOENT;
  }
}

/** memory.`name` of a v2 hierarchy, e.g. "stat", "current"; -ENOENT. */
export function readMemcgV2(m: MmState, id: MemcgId, name: string): string | Err {
  const group = m.memcgs[id];
  if (group === null || group === undefined) return -ENOENT;
  switch (name) {
    case "stat":
      return statV2(m, group);
    case "current":
      return `${group.usage * PAGE_SIZE}\n`;
    case "peak":
      return `${group.peak * PAGE_SIZE}\n`;
    case "events":
      return `low 0\nhigh 0\nmax ${group.failcnt}\noom 0\noom_kill ${group.oomKill}\noom_group_kill 0\n`;
    case "min":
    case "low":
    case "high":
    case "max":
      return `${limitText(group[name], "max")}\n`;
    default:
      return -ENOENT;
  }
}

function statV1(m: MmState, group: Memcg): string {
  const own = itemsV1(pagesOf(m, [group.id]));
  const all = itemsV1(pagesOf(m, withDescendants(m, group.id)));
  const lines = (items: [string, number][], prefix: string) =>
    items.map(([name, pages]) => `${prefix}${name} ${pages * PAGE_SIZE}\n`).join("");
  const limit = limitText(tightestLimit(m, group), UNLIMITED);
  return (
    lines(own, "") +
    `hierarchical_memory_limit ${limit}\nhierarchical_memsw_limit ${UNLIMITED}\n` +
    lines(all, "total_")
  );
}

/** V1 has names of its own for some items. */
function itemsV1(pages: Pages): [string, number][] {
  const renamed: Readonly<Record<string, string>> = {
    ...{ cache: "file", rss: "anon", rss_huge: "anon_thp", mapped_file: "file_mapped" },
  };
  return [...V1_ITEMS, ...LRU_NAMES].map((name) => [name, pages.get(renamed[name] ?? name) ?? 0]);
}

function statV2(m: MmState, group: Memcg): string {
  const ids = withDescendants(m, group.id);
  const pages = pagesOf(m, ids);
  const nrCollapsed = ids.reduce((sum, id) => sum + m.memcgs[id]!.collapseAllocs, 0);
  // All others are bytes.
  const itemValue = (name: string) =>
    name === "thp_collapse_alloc" ? nrCollapsed : (pages.get(name) ?? 0) * PAGE_SIZE;
  return V2_ITEMS.map((name) => `${name} ${itemValue(name)}\n`).join("");
}

function limitText(pages: number, unlimited: string): string {
  return pages === Number.POSITIVE_INFINITY ? unlimited : String(pages * PAGE_SIZE);
}

function tightestLimit(m: MmState, group: Memcg): number {
  let limit = group.max;
  for (let id = group.parent; id !== NO_MEMCG; ) {
    const parent = m.memcgs[id];
    if (parent === null) break;
    limit = Math.min(limit, parent.max);
    id = parent.parent;
  }
  return limit;
}

function withDescendants(m: MmState, id: MemcgId): MemcgId[] {
  const children = m.memcgs.filter((group) => group !== null && group.parent === id);
  return [id, ...children.flatMap((group) => (group === null ? [] : withDescendants(m, group.id)))];
}

/** Sums over what is charged to these groups. */
function pagesOf(m: MmState, ids: readonly MemcgId[]): Pages {
  const pages: Pages = new Map();
  for (const [list, name] of LRU_NAMES.entries())
    for (const node of m.nodes)
      for (const id of ids) add(pages, name, lruSize(m, id, node.id, list));
  const { frames } = m;
  for (let pfn = 0; pfn < frames.nrFrames; ) {
    const flags = frames.flags[pfn];
    const isFolio = (flags & (PG.RESERVED | PG.PGTABLE)) === 0;
    if (isFolio && frames.memcg[pfn] !== NO_MEMCG && ids.includes(frames.memcg[pfn]))
      addFolio(m, pfn, pages);
    pfn += (flags & PG.RESERVED) !== 0 ? 1 : 1 << frames.order[pfn];
  }
  return pages;
}

/** ANON-307: anonymous memory counts while it is mapped, as huge while a PMD maps it. */
function addFolio(m: MmState, head: number, pages: Pages): void {
  const { flags, order, mapcount, entireMapcount, nrPagesMapped } = m.frames;
  const isSmall = order[head] === 0;
  const isPmdMapped = !isSmall && entireMapcount[head] > 0;
  const mapped = isSmall ? Math.min(mapcount[head], 1) : nrPagesMapped[head];
  if ((flags[head] & PG.ANON) !== 0) {
    add(pages, "anon", isPmdMapped ? 1 << order[head] : mapped);
    if (isPmdMapped) add(pages, "anon_thp", PTES_PER_REGION);
    return;
  }
  add(pages, "file", 1 << order[head]);
  add(pages, "file_mapped", mapped);
  if ((flags[head] & PG.SWAPBACKED) !== 0) add(pages, "shmem", 1 << order[head]);
}

function add(pages: Pages, name: string, nr: number): void {
  pages.set(name, (pages.get(name) ?? 0) + nr);
}

function words(text: string): readonly string[] {
  return text.trim().split(/\s+/);
}
