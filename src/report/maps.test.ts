import { expect, test } from "vitest";
import { PAGE_SIZE } from "../base/address.ts";
import { ESRCH } from "../base/errno.ts";
import { type Kit, machine, part } from "../machine/test-kit.ts";
import { setBrk } from "../mm/mmap.ts";
import { createFile } from "../shmem/page-cache.ts";
import { MAP, PROT, sysMmap } from "../syscall/mmap.ts";
import { readProc } from "./proc.ts";

function mapsOf(t: Kit): string[] {
  return String(readProc(t.m, t.mm.id, "maps"))
    .split("\n")
    .slice(0, -1);
}

const AT = 2 ** 40;
const MAPS_OF = "0".repeat(8);

test("PROC-001 a line: range in at least 8 digits, rights, offset, device, inode, one blank at its end", () => {
  const t = machine();
  t.map({ at: 0x100000, pages: 16, prot: PROT.READ });
  t.map({ at: AT, huge: 2, prot: PROT.READ | PROT.WRITE | PROT.EXEC });
  t.map({ at: 2 * AT, pages: 1, prot: PROT.NONE });
  expect(mapsOf(t).slice(0, 3)).toEqual([
    `00100000-00110000 r--p ${MAPS_OF} 00:00 0 `,
    `10000000000-10000400000 rwxp ${MAPS_OF} 00:00 0 `,
    `20000000000-20000001000 ---p ${MAPS_OF} 00:00 0 `,
  ]);
});

test("PROC-001 a name begins in column 73", () => {
  const t = machine();
  for (const line of mapsOf(t)) {
    if (!line.endsWith("[stack]")) continue;
    expect(line.indexOf("[stack]")).toBe(73);
    expect(line.slice(0, 73)).toMatch(/^[0-9a-f]+-[0-9a-f]+ rw-p 00000000 00:00 0 +$/);
  }
  expect(mapsOf(t).filter((line) => line.endsWith("[stack]"))).toHaveLength(1);
});

test("PROC-002 anonymous memory shows offset, device and inode 0, wherever it was moved", () => {
  const t = machine();
  const range = t.map({ at: AT, pages: 4 });
  t.fill(range);
  t.mremap(range, 4, { at: 3 * AT });
  expect(mapsOf(t)[0]).toBe(`30000000000-30000004000 rw-p ${MAPS_OF} 00:00 0 `);
});

test("PROC-003 names of files, shared anonymous memory, heap and stack", () => {
  const t = machine();
  const file = createFile(t.m, "file", "/usr/lib/two\nlines.so");
  const args = { address: AT, length: 3 * PAGE_SIZE, prot: PROT.READ };
  sysMmap(t.m, t.mm, { ...args, flags: MAP.PRIVATE | MAP.FIXED, file, offset: 2 * PAGE_SIZE });
  t.map({ at: 2 * AT, pages: 2, shared: true });
  setBrk(t.m, t.mm, t.mm.brkStart + 5000);
  const names = mapsOf(t).map((line) => [line.slice(0, 73).trimEnd(), line.slice(73)]);
  const heap = t.mm.brkStart;
  const hex = (value: number) => value.toString(16);
  expect(names).toHaveLength(4);
  expect(new Set(names.map(([, name]) => name))).toEqual(
    new Set(["/usr/lib/two\\012lines.so", "/dev/zero (deleted)", "[heap]", "[stack]"]),
  );
  const lineOf = (name: string) => names.find((pair) => pair[1] === name)?.[0];
  expect(lineOf("/usr/lib/two\\012lines.so")).toBe(
    `10000000000-10000003000 r--p 00002000 00:01 ${file.id}`,
  );
  expect(lineOf("/dev/zero (deleted)")).toMatch(
    /^20000000000-20000002000 rw-s 00000000 00:01 \d+$/,
  );
  expect(lineOf("[heap]")).toBe(`${hex(heap)}-${hex(heap + 8192)} rw-p ${MAPS_OF} 00:00 0`);
});

test("PROC-004 splits and merges by advice and protection are visible", () => {
  const t = machine();
  const range = t.map({ at: AT, pages: 8 });
  const nr = () => mapsOf(t).length - 1; // without the stack
  expect(nr()).toBe(1);
  t.madvise(part(range, 2, 2), "HUGEPAGE");
  expect(nr()).toBe(3);
  t.mprotect(part(range, 6, 1), PROT.READ);
  expect(nr()).toBe(5);
  t.mprotect(part(range, 6, 1), PROT.READ | PROT.WRITE);
  t.madvise(range, "HUGEPAGE");
  expect(nr()).toBe(1);
});

test("a process that ended has no files", () => {
  const t = machine();
  const child = t.fork();
  t.exit(child);
  expect(readProc(t.m, child.id, "maps")).toBe(-ESRCH);
});
