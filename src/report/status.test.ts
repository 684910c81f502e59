import { expect, test } from "vitest";
import { type Kit, machine, part } from "../machine/test-kit.ts";
import { PROT } from "../syscall/mmap.ts";
import { sysSetThpDisable } from "../syscall/prctl.ts";
import { readProc } from "./proc.ts";

function linesOf(t: Kit): Map<string, string> {
  const text = String(readProc(t.m, t.mm.id, "status"));
  return new Map(
    text
      .split("\n")
      .slice(0, -1)
      .map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1)]),
  );
}

function kb(t: Kit, name: string): number {
  return Number(/\d+/.exec(linesOf(t).get(name) ?? "")?.[0]);
}

test("PROC-030 the memory lines in their order, label, tab, eight columns", () => {
  const t = machine();
  const lines = linesOf(t);
  expect([...lines.keys()].join(" ")).toBe(
    "VmPeak VmSize VmLck VmPin VmHWM VmRSS RssAnon RssFile RssShmem VmData VmStk VmExe VmLib VmPTE VmSwap HugetlbPages CoreDumping THP_enabled untag_mask",
  );
  expect(lines.get("VmStk")).toBe("\t     132 kB"); // 33 pages of stack at exec
  expect(lines.get("CoreDumping")).toBe("\t0");
  expect(lines.get("THP_enabled")).toBe("\t1");
  expect(lines.get("untag_mask")).toBe("\t0xffffffffffffffff");
});

test("PROC-030 ANON-304 THP_enabled is 0 only where huge pages are disabled for all memory", () => {
  const t = machine();
  sysSetThpDisable(t.m, t.mm, 1, 2);
  expect(linesOf(t).get("THP_enabled")).toBe("\t1");
  sysSetThpDisable(t.m, t.mm, 1, 0);
  expect(linesOf(t).get("THP_enabled")).toBe("\t0");
});

test("PROC-031 RSS rises by 2048 kB with a huge page, by nothing with zero pages; VmHWM stays", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 2 });
  const shared = t.map({ pages: 4, shared: true });
  t.write(range);
  t.read(range, 512);
  t.write(shared, 2);
  expect([kb(t, "RssAnon"), kb(t, "RssFile"), kb(t, "RssShmem"), kb(t, "VmRSS")]).toEqual([
    2048, 0, 4, 2052,
  ]);
  t.madvise(range, "DONTNEED");
  expect([kb(t, "VmRSS"), kb(t, "VmHWM")]).toEqual([4, 2052]);
});

test("PROC-031 VmPTE counts PTE, PMD and PUD tables, deposited ones included, and not the root", () => {
  const t = machine({ enabled: "always" });
  expect(kb(t, "VmPTE")).toBe(0);
  const range = t.map({ huge: 2 });
  t.write(range);
  expect(kb(t, "VmPTE")).toBe(12); // PUD, PMD, deposit
  t.write(range, 512);
  expect(kb(t, "VmPTE")).toBe(16);
  t.madvise(part(range, 3, 1), "DONTNEED"); // the deposit becomes the table
  expect(kb(t, "VmPTE")).toBe(16);
});

test("PROC-032 statm: size resident shared text lib data dt in pages", () => {
  const t = machine();
  const range = t.map({ pages: 100 });
  t.map({ pages: 50, prot: PROT.READ });
  const shared = t.map({ pages: 10, shared: true });
  for (const page of [1, 2, 3]) t.write(range, page);
  t.write(shared, 0);
  // 100 + 50 + 10 and 33 of stack; data: writable private memory and the stack.
  expect(readProc(t.m, t.mm.id, "statm")).toBe("193 4 1 0 0 133 0\n");
  expect([kb(t, "VmSize"), kb(t, "VmData"), kb(t, "VmStk")]).toEqual([193 * 4, 400, 132]);
});

test("PROC-033 a huge fault is one minor fault", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 2 });
  const before = [t.mm.minflt, t.mm.majflt];
  t.write(range);
  t.write(range, 7);
  expect([t.mm.minflt - before[0], t.mm.majflt - before[1]]).toEqual([1, 0]);
});
