import { expect, test } from "vitest";
import { ENOENT } from "../base/errno.ts";
import { type Kit, machine, part } from "../machine/test-kit.ts";
import { createMemcg } from "../phys/memcg.ts";
import { readMemcgV1, readMemcgV2 } from "./memcg-files.ts";

type Read = typeof readMemcgV1;

/** Items of memory.stat that are not 0, in bytes. */
function stat(t: Kit, read: Read, id: number): Record<string, number> {
  const lines = String(read(t.m, id, "stat"))
    .split("\n")
    .slice(0, -1);
  const items = lines.map((line) => [line.split(" ")[0], Number(line.split(" ")[1])] as const);
  return Object.fromEntries(
    items.filter(([name, value]) => value !== 0 && !name.includes("limit")),
  );
}

const MIB = 2 ** 20;

test("PROC-124 v1 memory.stat: the names in order, then the limits, then the same with total_", () => {
  const t = machine();
  const id = t.memcg(1000);
  const lines = String(readMemcgV1(t.m, id, "stat"))
    .split("\n")
    .slice(0, -1);
  const names = lines.map((line) => line.split(" ")[0]);
  const items =
    "cache rss rss_huge shmem mapped_file dirty writeback workingset_refault_anon workingset_refault_file swap swapcached pgpgin pgpgout pgfault pgmajfault inactive_anon active_anon inactive_file active_file unevictable";
  expect(names.slice(0, 20).join(" ")).toBe(items);
  expect(lines.slice(20, 22)).toEqual([
    ...["hierarchical_memory_limit 4096000", "hierarchical_memsw_limit 9223372036854771712"],
  ]);
  expect(names.slice(22).join(" ")).toBe(items.replace(/(\w+)/g, "total_$1"));
});

test("PROC-124 v1 single values, and what unlimited reads", () => {
  const t = machine();
  const id = createMemcg(t.m, "free", 0);
  const mm = t.exec(id);
  expect(readMemcgV1(t.m, id, "limit_in_bytes")).toBe("9223372036854771712\n");
  t.write(t.map({ pages: 3, mm }), 1);
  expect(readMemcgV1(t.m, id, "usage_in_bytes")).toBe("4096\n");
  expect(readMemcgV1(t.m, id, "max_usage_in_bytes")).toBe("4096\n");
  expect(readMemcgV1(t.m, id, "failcnt")).toBe("0\n");
  expect(readMemcgV1(t.m, id, "oom_control")).toBe("oom_kill_disable 0\nunder_oom 0\noom_kill 0\n");
  expect(readMemcgV1(t.m, id, "nothing")).toBe(-ENOENT);
  expect(readMemcgV1(t.m, 7, "stat")).toBe(-ENOENT);
});

test("PROC-121 ANON-307 rss_huge and anon_thp are PMD-mapped bytes: a split of the mapping ends them", () => {
  const t = machine();
  const id = t.memcg(4096);
  const range = t.map({ huge: 2, advice: "HUGEPAGE", mm: t.exec(id) });
  t.write(range);
  t.write(range, 512);
  expect(stat(t, readMemcgV2, id)).toEqual({
    ...{ anon: 4 * MIB, anon_thp: 4 * MIB, inactive_anon: 4 * MIB },
  });
  t.madvise(part(range, 5, 1), "DONTNEED");
  const v1 = stat(t, readMemcgV1, id);
  expect([v1.rss, v1.rss_huge, v1.total_rss_huge]).toEqual([4 * MIB - 4096, 2 * MIB, 2 * MIB]);
  expect(stat(t, readMemcgV2, id)).toMatchObject({ anon: 4 * MIB - 4096, anon_thp: 2 * MIB });
  // The page that is mapped no more stays charged with its folio.
  expect(readMemcgV1(t.m, id, "usage_in_bytes")).toBe(`${4 * MIB}\n`);
});

test("PROC-124 total_ items include the groups below, the others do not", () => {
  const t = machine();
  const parent = t.memcg(4096);
  const child = createMemcg(t.m, "child", parent);
  t.write(t.map({ pages: 1, mm: t.exec(parent) }));
  const range = t.map({ pages: 2, mm: t.exec(child) });
  t.write(range, 0);
  t.write(range, 1);
  const { rss, total_rss } = stat(t, readMemcgV1, parent);
  expect([rss, total_rss]).toEqual([4096, 3 * 4096]);
  expect(stat(t, readMemcgV2, parent).anon).toBe(3 * 4096);
  expect(String(readMemcgV1(t.m, child, "stat"))).toContain("hierarchical_memory_limit 16777216\n");
});

test("PROC-120 v2 memory.stat: the names in order", () => {
  const t = machine();
  const text = String(readMemcgV2(t.m, t.memcg(10), "stat"));
  expect(text.replace(/ \d+\n/g, " ").trim()).toBe(
    "anon file kernel kernel_stack pagetables sec_pagetables percpu sock vmalloc shmem zswap zswapped file_mapped file_dirty file_writeback swapcached anon_thp file_thp shmem_thp inactive_anon active_anon inactive_file active_file unevictable slab_reclaimable slab_unreclaimable slab workingset_refault_anon workingset_refault_file workingset_activate_anon workingset_activate_file workingset_restore_anon workingset_restore_file workingset_nodereclaim pgdemote_kswapd pgdemote_direct pgdemote_khugepaged pgpromote_success pgscan pgsteal pgscan_kswapd pgscan_direct pgscan_khugepaged pgsteal_kswapd pgsteal_direct pgsteal_khugepaged pgfault pgmajfault pgrefill pgactivate pgdeactivate pglazyfree pglazyfreed swpin_zero swpout_zero zswpin zswpout zswpwb thp_fault_alloc thp_collapse_alloc thp_swpout thp_swpout_fallback numa_pages_migrated numa_pte_updates numa_hint_faults",
  );
});

test("PROC-122 v2 memory.events counts a refused charge as max", () => {
  const t = machine();
  const id = t.memcg(100);
  const range = t.map({ huge: 1, advice: "HUGEPAGE", mm: t.exec(id) });
  expect(readMemcgV2(t.m, id, "events")).toBe(
    "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n",
  );
  t.write(range); // 512 pages do not fit: falls back to one
  const { failcnt } = t.m.memcgs[id]!;
  expect(failcnt).toBeGreaterThan(0);
  expect(readMemcgV2(t.m, id, "events")).toContain(`max ${failcnt}\n`);
});

test("PROC-123 v2 single values are bytes or max", () => {
  const t = machine();
  const id = t.memcg(100);
  expect(["max", "high", "low", "min"].map((name) => readMemcgV2(t.m, id, name))).toEqual([
    ...["409600\n", "max\n", "0\n", "0\n"],
  ]);
  const range = t.map({ pages: 3, mm: t.exec(id) });
  t.fill(range);
  t.madvise(range, "DONTNEED");
  expect(["current", "peak"].map((name) => readMemcgV2(t.m, id, name))).toEqual(["0\n", "12288\n"]);
});
