import { expect, test } from "vitest";
import { UsageError } from "../base/usage-error.ts";
import { machine } from "../machine/test-kit.ts";
import { DUMP_NAMES, dump, dumpNeedsProcess } from "./dump.ts";
import { readProc, readProcGlobal } from "./proc.ts";
import { THP_SYSFS } from "./sysfs.ts";

test("every name gives a text, and that of a /proc file is the file", () => {
  const t = machine();
  t.mapHuge();
  for (const name of DUMP_NAMES) {
    const text = dump(t.m, dumpNeedsProcess(name) ? t.mm.id : null, name);
    expect([name, text.length > 0, text.endsWith("\n")]).toEqual([name, true, true]);
  }
  expect(dump(t.m, t.mm.id, "smaps")).toBe(readProc(t.m, t.mm.id, "smaps"));
  expect(dump(t.m, null, "vmstat")).toBe(readProcGlobal(t.m, "vmstat"));
});

test("pagemap and kpageflags are lines of what is mapped", () => {
  const t = machine();
  const range = t.mapHuge();
  t.write(t.map({ pages: 2 }), 1);
  const [pfn] = t.pfns(range);
  const lines = dump(t.m, t.mm.id, "pagemap").split("\n");
  expect(lines).toHaveLength(512 + 1 + 1);
  expect(lines[0]).toBe(`010000000000 81${pfn.toString(16).padStart(14, "0")}`);
  expect(dump(t.m, t.mm.id, "kpageflags").split("\n")).toEqual([
    "1 x 1 UPTODATE|LRU|MMAP|ANON|SWAPBACKED|COMPOUND_HEAD|THP|OWNER_2",
    "511 x 1 UPTODATE|LRU|MMAP|ANON|SWAPBACKED|COMPOUND_TAIL|THP|OWNER_2",
    "1 x 1 UPTODATE|LRU|MMAP|ANON|SWAPBACKED|OWNER_2",
    "",
  ]);
});

test("thp is the whole sysfs tree, and a path in it is one file", () => {
  const t = machine();
  const lines = dump(t.m, null, "thp").split("\n");
  expect(lines).toContain("enabled: always [madvise] never");
  expect(lines).toContain("hugepages-2048kB/stats/nr_anon: 0");
  expect(dump(t.m, null, `${THP_SYSFS}/khugepaged/pages_to_scan`)).toBe("4096\n");
});

test("what cannot be dumped is the user's mistake", () => {
  const t = machine();
  const tried: [number | null, string][] = [
    [null, "smap"],
    [null, "smaps"],
    [99, "smaps"],
    [null, `${THP_SYSFS}/nothing`],
  ];
  for (const [pid, name] of tried) expect(() => dump(t.m, pid, name)).toThrow(UsageError);
});
