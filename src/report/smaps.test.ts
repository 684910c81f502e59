import { expect, test } from "vitest";
import { PAGE_SIZE, regionOf } from "../base/address.ts";
import { type Kit, machine, of, part, type Range } from "../machine/test-kit.ts";
import { freezePte, restorePte } from "../mm/migration.ts";
import { pteTableOf } from "../mm/page-tables.ts";
import { VM } from "../mm/vma.ts";
import { PG } from "../phys/frame-table.ts";
import { MAP, PROT } from "../syscall/mmap.ts";
import { sysSetThpDisable } from "../syscall/prctl.ts";
import { readProc } from "./proc.ts";

/** The smaps block of the VMA that begins where the range does. */
function blockOf(t: Kit, range: Range): string[] {
  const lines = String(readProc(t.m, range.mm.id, "smaps")).split("\n");
  const first = lines.findIndex((line) => line.startsWith(`${range.start.toString(16)}-`));
  const next = lines.findIndex((line, i) => i > first && /^[0-9a-f]+-/.test(line));
  return lines.slice(first, next < 0 ? lines.length - 1 : next);
}

/** Fields that are not 0, Size and the page sizes left out. */
function fieldsOf(t: Kit, range: Range): Record<string, number> {
  const fields: Record<string, number> = {};
  for (const line of blockOf(t, range)) {
    const [, name, value] = /^(\w+): +(\d+)(?: kB)?$/.exec(line) ?? [];
    if (name !== undefined && value !== "0" && !/Size$/.test(name)) fields[name] = Number(value);
  }
  return fields;
}

function flagsLine(t: Kit, range: Range): string | undefined {
  return blockOf(t, range).at(-1);
}

test("PROC-010 PROC-011 PROC-012 the lines of a huge page, character for character", () => {
  const t = machine();
  const range = t.map({ huge: 2, advice: "HUGEPAGE" });
  t.write(range);
  expect(blockOf(t, range).join("\n")).toBe(
    `10000000000-10000400000 rw-p 00000000 00:00 0 
Size:               4096 kB
KernelPageSize:        4 kB
MMUPageSize:           4 kB
Rss:                2048 kB
Pss:                2048 kB
Pss_Dirty:          2048 kB
Shared_Clean:          0 kB
Shared_Dirty:          0 kB
Private_Clean:         0 kB
Private_Dirty:      2048 kB
Referenced:         2048 kB
Anonymous:          2048 kB
KSM:                   0 kB
LazyFree:              0 kB
AnonHugePages:      2048 kB
ShmemPmdMapped:        0 kB
FilePmdMapped:         0 kB
Shared_Hugetlb:        0 kB
Private_Hugetlb:       0 kB
Swap:                  0 kB
SwapPss:               0 kB
Locked:                0 kB
THPeligible:           1
VmFlags: rd wr mr mw me ac hg `,
  );
});

test("PROC-013 ANON-301 the zero pages contribute to no line", () => {
  const t = machine({ enabled: "always" });
  const huge = t.map({ huge: 1 });
  const small = t.map({ pages: 8, advice: "NOHUGEPAGE" });
  t.read(huge);
  t.read(small);
  expect(t.isHuge(huge)).toBe(true);
  expect(fieldsOf(t, huge)).toEqual({ THPeligible: 1 });
  expect(fieldsOf(t, small)).toEqual({});
});

test("PROC-014 Pss divides each page by its mappings and rounds down once, at the end", () => {
  const t = machine();
  const range = t.map({ pages: 10 });
  t.fill(range);
  t.fork();
  t.fork();
  // 10 pages by 3: 10 * floor(2^24 / 3) / 2^22 = 13.33 kB; rounding each page would give 10.
  expect(fieldsOf(t, range)).toMatchObject({ Rss: 40, Pss: 13, Pss_Dirty: 13, Shared_Dirty: 40 });
  t.write(range, 3);
  t.write(range, 4);
  // 8 pages by 3 and 2 alone: 10.67 + 8.
  expect(fieldsOf(t, range)).toMatchObject({
    Rss: 40,
    Pss: 18,
    Shared_Dirty: 32,
    Private_Dirty: 8,
  });
});

test("PROC-014 a page counts as shared by its own mappings, not its folio's", () => {
  const t = machine();
  const range = t.mapHuge();
  const child = of(t.fork(), range);
  t.madvise(part(range, 0, 100), "DONTNEED");
  expect(fieldsOf(t, child)).toMatchObject({
    ...{ Rss: 2048, Pss: 100 * 4 + 412 * 2, Private_Dirty: 400, Shared_Dirty: 412 * 4 },
    AnonHugePages: 2048,
  });
});

test("PROC-014 what is neither dirty in its entry nor as a folio is clean", () => {
  const t = machine();
  const range = t.map({ pages: 4 });
  t.fill(range);
  t.madvise(part(range, 0, 3), "FREE");
  expect(fieldsOf(t, range)).toMatchObject({ Private_Clean: 12, Private_Dirty: 4, Pss_Dirty: 4 });
});

test("PROC-015 Referenced is the young bit or the folio's flag, 2048 kB for a huge entry", () => {
  const t = machine();
  const range = t.mapHuge();
  const [head] = t.pfns(range);
  expect(fieldsOf(t, range).Referenced).toBe(2048);
  const child = of(t.fork(), range); // the child's entry is old
  expect(fieldsOf(t, child).Referenced).toBeUndefined();
  t.m.frames.flags[head] |= PG.REFERENCED;
  expect(fieldsOf(t, child).Referenced).toBe(2048);
});

test("PROC-016 Anonymous counts copied pages of a private mapping; LazyFree what nobody wrote since", () => {
  const t = machine();
  const range = t.map({ pages: 16 });
  t.fill(range);
  t.madvise(part(range, 4, 8), "FREE");
  t.write(range, 5);
  expect(fieldsOf(t, range)).toMatchObject({ Anonymous: 64, LazyFree: 28 });
});

test("PROC-017 AnonHugePages is PMD mappings alone: none after a split, none for smaller sizes", () => {
  const t = machine({ sizes: { "64kB": "always" } });
  const huge = t.mapHuge();
  const mthp = t.map({ pages: 16, advice: "HUGEPAGE" });
  t.write(mthp);
  expect(fieldsOf(t, huge).AnonHugePages).toBe(2048);
  expect([fieldsOf(t, mthp).Rss, fieldsOf(t, mthp).AnonHugePages]).toEqual([64, undefined]);
  const order = t.m.frames.order[t.folio(huge)];
  t.madvise(part(huge, 7, 1), "DONTNEED");
  expect([order, t.m.frames.order[t.folio(huge)]]).toEqual([9, 9]);
  expect(fieldsOf(t, huge)).toMatchObject({ Rss: 2044 });
  expect(fieldsOf(t, huge).AnonHugePages).toBeUndefined();
});

test("PROC-018 Swap counts swapped pages, SwapPss divides each by the entries that name its slot", () => {
  const t = machine();
  t.swapon({ pages: 1024 });
  const range = t.map({ pages: 12 });
  t.fill(range);
  t.madvise(part(range, 0, 8), "PAGEOUT");
  expect(fieldsOf(t, range)).toMatchObject({ Rss: 16, Swap: 32, SwapPss: 32 });
  t.fork();
  const child = of(t.fork(), range);
  // 8 pages by 3: 10.67 kB, rounded once.
  expect(fieldsOf(t, range)).toMatchObject({ Rss: 16, Swap: 32, SwapPss: 10 });
  t.write(child, 0);
  // 7 by 3 and one by 2: 9.33 + 2; the child has 7 by 3.
  expect(fieldsOf(t, range)).toMatchObject({ Swap: 32, SwapPss: 11 });
  expect(fieldsOf(t, child)).toMatchObject({ Swap: 28, SwapPss: 9 });
});

test("PROC-019 Locked is the VMA's Pss if it is locked", () => {
  const t = machine();
  const range = t.map({ pages: 9 });
  t.fill(range);
  t.fork();
  expect(fieldsOf(t, range).Locked).toBeUndefined();
  t.vma(range).flags |= VM.LOCKED;
  expect(fieldsOf(t, range)).toMatchObject({ Pss: 18, Locked: 18 });
});

test("PROC-020 THPeligible: an order that policy allows must fit the VMA's end", () => {
  const t = machine();
  const eligible = (range: Range) => fieldsOf(t, range).THPeligible ?? 0;
  const megabyte = t.map({ pages: 256, advice: "HUGEPAGE" });
  const whole = t.map({ huge: 1, advice: "HUGEPAGE" });
  const plain = t.map({ huge: 1 });
  const shifted = t.map({ pages: 1000, offset: 100, advice: "HUGEPAGE" });
  expect([megabyte, whole, plain, shifted].map(eligible)).toEqual([0, 1, 0, 1]);
  t.knob("thp.hugepages-16kB.enabled", "always");
  expect([megabyte, whole, plain, shifted].map(eligible)).toEqual([1, 1, 1, 1]);
  sysSetThpDisable(t.m, t.mm, 1, 0);
  expect([megabyte, whole, plain, shifted].map(eligible)).toEqual([0, 0, 0, 0]);
});

test("PROC-021 a migration entry counts as present and shared memory, a marker as nothing", () => {
  const t = machine();
  const range = t.map({ pages: 3 });
  t.fill(range);
  const vma = t.vma(range);
  const slot = pteTableOf(t.m.tables, t.mm.root, regionOf(range.start)) * 512;
  const pfn = t.get(range);
  freezePte(t.m, t.mm, vma, slot, range.start / PAGE_SIZE);
  expect(fieldsOf(t, range)).toEqual({
    ...{ Rss: 12, Pss: 12, Pss_Dirty: 12, Shared_Dirty: 4, Private_Dirty: 8 },
    ...{ Referenced: 8, Anonymous: 12 },
  });
  restorePte(t.m, t.mm, vma, slot, pfn);
  t.put(pfn);
  t.madvise(part(range, 1, 1), "GUARD_INSTALL");
  expect(fieldsOf(t, range)).toMatchObject({ Rss: 8, Private_Dirty: 8 });
});

test("PROC-076 a guard page in a huge page splits the mapping; taken away, the next write is small", () => {
  const t = machine();
  const range = t.mapHuge();
  t.madvise(part(range, 5, 1), "GUARD_INSTALL");
  expect(fieldsOf(t, range)).toMatchObject({ Rss: 2044 });
  expect(fieldsOf(t, range).AnonHugePages).toBeUndefined();
  const other = t.map({ huge: 1, advice: "HUGEPAGE" });
  t.madvise(other, "GUARD_INSTALL");
  t.madvise(other, "GUARD_REMOVE");
  expect(t.write(other, 7)).toBe("anon 4k");
  expect(fieldsOf(t, other).Rss).toBe(4);
});

test("PROC-022 ANON-303 VmFlags has the letters in the order of the kernel's bits", () => {
  const t = machine();
  const line = (range: Range) => flagsLine(t, range);
  const range = t.map({ pages: 4, flags: MAP.NORESERVE });
  expect(line(range)).toBe("VmFlags: rd wr mr mw me nr ");
  for (const advice of ["HUGEPAGE", "DONTFORK", "MERGEABLE", "DONTDUMP", "RANDOM"] as const)
    t.madvise(range, advice);
  expect(line(range)).toBe("VmFlags: rd wr mr mw me rr dc nr dd hg mg ");
  const shared = t.map({ pages: 4, shared: true });
  expect(line(shared)).toBe("VmFlags: rd wr sh mr mw me ms ");
  const none = t.map({ pages: 1, prot: PROT.NONE, advice: "NOHUGEPAGE" });
  expect(line(none)).toBe("VmFlags: mr mw me nh ");
  const rest = t.map({ pages: 4 });
  t.vma(rest).flags |=
    VM.LOCKED | VM.LOCKONFAULT | VM.UFFD_MISSING | VM.UFFD_WP | VM.MAYBE_GUARD | VM.SEALED;
  expect(line(rest)).toBe("VmFlags: rd wr mr mw me um gu uw lo lf ac sl ");
});

test("PROC-025 ANON-304 smaps_rollup sums all VMAs and has Pss by kind", () => {
  const t = machine();
  const huge = t.mapHuge();
  const shared = t.map({ pages: 6, shared: true });
  t.write(shared, 1);
  const end = t.mm.vmas.at(-1)?.end ?? 0;
  expect(readProc(t.m, t.mm.id, "smaps_rollup")).toBe(
    `${`${huge.start.toString(16)}-${end.toString(16)} ---p 00000000 00:00 0`.padEnd(73)}[rollup]
Rss:                2052 kB
Pss:                2052 kB
Pss_Dirty:          2052 kB
Pss_Anon:           2048 kB
Pss_File:              0 kB
Pss_Shmem:             4 kB
Shared_Clean:          0 kB
Shared_Dirty:          0 kB
Private_Clean:         0 kB
Private_Dirty:      2052 kB
Referenced:         2052 kB
Anonymous:          2048 kB
KSM:                   0 kB
LazyFree:              0 kB
AnonHugePages:      2048 kB
ShmemPmdMapped:        0 kB
FilePmdMapped:         0 kB
Shared_Hugetlb:        0 kB
Private_Hugetlb:       0 kB
Swap:                  0 kB
SwapPss:               0 kB
Locked:                0 kB
`,
  );
});

test("PROC-172 whoever parses `Name: N kB` and the hexadecimal header gets every VMA once", () => {
  const t = machine();
  t.mapHuge();
  const text = String(readProc(t.m, t.mm.id, "smaps"));
  const headers = text.split("\n").filter((line) => /^[0-9a-f]+-[0-9a-f]+ /.test(line));
  const fields = text.split("\n").filter((line) => /^[A-Za-z_]+: +\d+ kB$/.test(line));
  expect([headers.length, fields.length]).toEqual([t.mm.vmas.length, t.mm.vmas.length * 22]);
});
