import { expect, test } from "vitest";
import { type Kit, machine, of, part } from "../machine/test-kit.ts";
import { readProcGlobal } from "./proc.ts";

/** kB by name; lines without a unit as they are. */
function meminfo(t: Kit): Record<string, number> {
  const lines = String(readProcGlobal(t.m, "meminfo")).split("\n").slice(0, -1);
  return Object.fromEntries(
    lines.map((line) => [line.split(":")[0], Number(/\d+/.exec(line.split(":")[1])?.[0])]),
  );
}

/** What `action` changed. */
function changes(t: Kit, action: () => void): Record<string, number> {
  const before = meminfo(t);
  action();
  const after = meminfo(t);
  const names = Object.keys(after).filter((name) => after[name] !== before[name]);
  return Object.fromEntries(names.map((name) => [name, after[name] - before[name]]));
}

test("PROC-060 every line: label to column 16, value in 8, kB", () => {
  const text = String(readProcGlobal(machine().m, "meminfo"));
  const lines = text.split("\n").slice(0, -1);
  expect(lines.map((line) => line.split(":")[0]).join(" ")).toBe(
    "MemTotal MemFree MemAvailable Buffers Cached SwapCached Active Inactive Active(anon) Inactive(anon) Active(file) Inactive(file) Unevictable Mlocked SwapTotal SwapFree Zswap Zswapped Dirty Writeback AnonPages Mapped Shmem KReclaimable Slab SReclaimable SUnreclaim KernelStack PageTables SecPageTables NFS_Unstable Bounce WritebackTmp CommitLimit Committed_AS VmallocTotal VmallocUsed VmallocChunk Percpu AnonHugePages ShmemHugePages ShmemPmdMapped FileHugePages FilePmdMapped Balloon HugePages_Total HugePages_Free HugePages_Rsvd HugePages_Surp Hugepagesize Hugetlb DirectMap4k DirectMap2M DirectMap1G",
  );
  for (const line of lines) {
    const pattern = line.startsWith("VmallocTotal")
      ? /^VmallocTotal: {3}\d{11} kB$/
      : /^[A-Za-z0-9_()]+: *(?: |\d){8}( kB)?$/;
    expect(line).toMatch(pattern);
    if (!line.startsWith("VmallocTotal")) expect(line.replace(" kB", "")).toHaveLength(24);
  }
  const unitless = lines.filter((line) => !line.endsWith(" kB"));
  expect(unitless.map((line) => line.slice(0, 16))).toEqual([
    ...["HugePages_Total:", "HugePages_Free: ", "HugePages_Rsvd: ", "HugePages_Surp: "],
  ]);
});

test("PROC-061 AnonHugePages counts a THP once, from its first to its last PMD mapping", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  expect(changes(t, () => t.write(range)).AnonHugePages).toBe(2048);
  const child = t.fork();
  expect(meminfo(t).AnonHugePages).toBe(2048);
  t.madvise(part(range, 0, 1), "DONTNEED"); // the parent's mapping only
  expect(meminfo(t).AnonHugePages).toBe(2048);
  t.madvise(part(of(child, range), 0, 1), "DONTNEED");
  expect(meminfo(t).AnonHugePages).toBe(0);
});

test("PROC-062 AnonPages is mapped pages, Cached includes shared memory, Mlocked 512 pages per THP", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  expect(changes(t, () => t.write(range))).toMatchObject({
    ...{ AnonPages: 2048, "Inactive(anon)": 2048, Inactive: 2048, AnonHugePages: 2048 },
  });
  expect(changes(t, () => t.mlock(range))).toEqual({
    ...{ Inactive: -2048, "Inactive(anon)": -2048, Unevictable: 2048, Mlocked: 2048 },
  });
  const shared = t.map({ pages: 3, shared: true });
  expect(changes(t, () => t.fill(shared))).toMatchObject({ Cached: 12, Shmem: 12, Mapped: 12 });
});

test("PROC-063 CommitLimit is half of memory; Committed_AS follows VMAs, not what backs them", () => {
  const t = machine({ enabled: "always" });
  const { MemTotal, CommitLimit } = meminfo(t);
  expect(CommitLimit).toBe(Math.floor(MemTotal / 4 / 2) * 4);
  let range = t.map({ pages: 1 });
  expect(changes(t, () => (range = t.map({ huge: 2 }))).Committed_AS).toBe(4096);
  expect(changes(t, () => t.write(range)).Committed_AS).toBeUndefined();
  expect(changes(t, () => t.map({ pages: 5, prot: 1 })).Committed_AS).toBeUndefined();
  expect(changes(t, () => t.map({ pages: 7, shared: true })).Committed_AS).toBe(28);
});

test("MemTotal is what zones manage, MemFree what they have free", () => {
  const t = machine({ memory: 128 });
  const range = t.map({ huge: 1, advice: "HUGEPAGE" });
  // Frame 0 is reserved.
  expect(meminfo(t).MemTotal).toBe(128 * 1024 - 4);
  const { MemFree } = changes(t, () => t.write(range));
  expect(-MemFree).toBeGreaterThanOrEqual(2048);
});
