import { expect, test } from "vitest";
import { type Kit, machine, part, type Range } from "../machine/test-kit.ts";
import { PROT } from "../syscall/mmap.ts";
import { readProc } from "./proc.ts";

function lineOf(t: Kit, range: Range): string | undefined {
  const start = range.start.toString(16);
  const lines = String(readProc(t.m, range.mm.id, "numa_maps")).split("\n");
  return lines.find((line) => line.startsWith(`${start} `))?.slice(start.length + 1);
}

test("PROC-034 ANON-304 a huge page counts as 512, zero pages as nothing", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 2 });
  expect(lineOf(t, range)).toBe("default");
  t.read(range, 512);
  expect(lineOf(t, range)).toBe("default");
  t.write(range);
  expect(lineOf(t, range)).toBe("default anon=512 dirty=512 active=0 N0=512 kernelpagesize_kB=4");
});

test("PROC-034 mapmax from two mappings on, active only where it differs from the total", () => {
  const t = machine();
  const range = t.map({ pages: 5 });
  t.fill(range);
  t.fork();
  expect(lineOf(t, range)).toBe(
    "default anon=5 dirty=5 mapmax=2 active=0 N0=5 kernelpagesize_kB=4",
  );
  t.write(range, 1);
  t.fork();
  expect(lineOf(t, range)).toBe(
    "default anon=5 dirty=5 mapmax=3 active=0 N0=5 kernelpagesize_kB=4",
  );
});

test("PROC-034 mapped is shown where the pages are neither all anonymous nor all dirty", () => {
  const t = machine();
  const range = t.map({ pages: 6, shared: true });
  t.write(range, 0);
  t.read(range, 1);
  expect(lineOf(t, range)).toBe(
    "default file=/dev/zero\\040(deleted) dirty=1 mapped=2 active=0 N0=2 kernelpagesize_kB=4",
  );
});

test("PROC-034 locked pages count as active", () => {
  const t = machine();
  const range = t.map({ pages: 4 });
  t.fill(range);
  t.mlock(range);
  expect(lineOf(t, range)).toBe("default anon=4 dirty=4 N0=4 kernelpagesize_kB=4");
});

test("PROC-034 the stack is named, and each VMA has a line", () => {
  const t = machine();
  const range = t.map({ pages: 4 });
  t.mprotect(part(range, 1, 1), PROT.READ);
  const lines = String(readProc(t.m, t.mm.id, "numa_maps"))
    .split("\n")
    .slice(0, -1);
  expect(lines.map((line) => line.slice(line.indexOf(" ") + 1))).toEqual([
    ...["default", "default", "default", "default stack"],
  ]);
});
