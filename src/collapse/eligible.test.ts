import { expect, test } from "vitest";
import { PAGE_SIZE } from "../base/address.ts";
import { EINVAL } from "../base/errno.ts";
import { collapse, written } from "../machine/collapse-test-kit.ts";
import { type Kit, machine, type Range } from "../machine/test-kit.ts";
import { VM } from "../mm/vma.ts";
import { PROT } from "../syscall/mmap.ts";
import { sysMseal } from "../syscall/mseal.ts";
import { sysSetThpDisable } from "../syscall/prctl.ts";
import { collapseRefusal } from "./eligible.ts";
import { ACTOR } from "./scan-result.ts";

/** Why khugepaged and MADV_COLLAPSE do not collapse there; null where they do. */
function refusals(t: Kit, range: Range): (string | null)[] {
  const vma = t.vma(range);
  return [ACTOR.khugepaged, ACTOR.madvise].map((actor) =>
    collapseRefusal(t.m, range.mm, vma, actor),
  );
}

test("COLL-080 COLL-250 COLL-318 khugepaged follows the knobs of the size, MADV_COLLAPSE follows none", () => {
  const refused = [];
  for (const enabled of ["always", "madvise", "never"]) {
    for (const size of ["inherit", "always", "madvise", "never"]) {
      for (const advice of ["HUGEPAGE", undefined] as const) {
        const t = machine({ enabled, sizes: { "2048kB": size } });
        const range = t.map({ huge: 1, ...(advice && { advice }) });
        t.write(range);
        const resolved = size === "inherit" ? enabled : size;
        const isAllowed =
          resolved === "always" || (resolved === "madvise" && advice === "HUGEPAGE");
        expect(refusals(t, range)).toEqual([isAllowed ? null : "policy", null]);
        refused.push(isAllowed);
      }
    }
  }
  expect(refused.filter((isAllowed) => isAllowed)).toHaveLength(12);
});

test("COLL-082 MADV_NOHUGEPAGE refuses both", () => {
  const t = machine();
  const range = written(t, 1);
  t.madvise(range, "NOHUGEPAGE");
  expect(refusals(t, range)).toEqual(["policy", "noHugepage"]);
  expect(t.madvise(range, "COLLAPSE")).toBe(-EINVAL);
});

test("COLL-083 COLL-320 COLL-505 THP disabled refuses both; except advised, only khugepaged where nothing was advised", () => {
  const t = machine({ enabled: "always" });
  const advised = written(t, 1);
  const plain = t.map({ huge: 1 });
  t.write(plain);
  sysSetThpDisable(t.m, t.mm, 1, 0);
  expect([refusals(t, advised), refusals(t, plain)]).toEqual([
    ["thpDisabled", "thpDisabled"],
    ["thpDisabled", "thpDisabled"],
  ]);
  expect(t.madvise(advised, "COLLAPSE")).toBe(-EINVAL);
  sysSetThpDisable(t.m, t.mm, 1, 2);
  expect([refusals(t, advised), refusals(t, plain)]).toEqual([
    [null, null],
    ["thpDisabled", null],
  ]);
});

test("COLL-085 COLL-319 device memory, mappings that must not grow and the like are refused", () => {
  for (const special of [VM.IO, VM.DONTEXPAND, VM.PFNMAP, VM.MIXEDMAP]) {
    const t = machine();
    const range = written(t, 1);
    t.vma(range).flags |= special;
    expect(refusals(t, range)).toEqual(["special", "special"]);
  }
});

test("COLL-086 a VMA without an aligned region is refused, one with the last 2 MiB aligned is not", () => {
  const t = machine();
  const small = t.map({ pages: 511, advice: "HUGEPAGE" });
  const shifted = t.map({ pages: 1023, offset: 1, advice: "HUGEPAGE" });
  const crooked = t.map({ pages: 1022, offset: 1, advice: "HUGEPAGE" });
  for (const range of [small, shifted, crooked]) t.write(range);
  expect(refusals(t, small)).toEqual(["noRegion", "noRegion"]);
  expect(refusals(t, shifted)).toEqual([null, null]);
  expect(refusals(t, crooked)).toEqual(["noRegion", "noRegion"]);
  expect(t.madvise(small, "COLLAPSE")).toBe(-EINVAL);
});

test("COLL-089 COLL-343 the stack that exec is still building is refused", () => {
  const t = machine();
  const range = written(t, 1);
  t.vma(range).flags |= VM.TEMP_STACK;
  expect(refusals(t, range)).toEqual(["temporaryStack", "temporaryStack"]);
});

test("COLL-090 COLL-317 memory that never had a page of its own is refused, also if zero pages were read", () => {
  const t = machine({ enabled: "never" });
  const untouched = t.map({ huge: 1, advice: "HUGEPAGE" });
  const read = t.map({ huge: 1, advice: "HUGEPAGE" });
  t.read(read);
  for (const range of [untouched, read]) {
    expect(refusals(t, range)[1]).toBe("neverWritten");
    expect(t.thpDeltas(() => expect(t.madvise(range, "COLLAPSE")).toBe(-EINVAL))).toEqual({});
  }
});

/** What does not keep anybody from collapsing. */
const HARMLESS: Readonly<Record<string, (t: Kit, range: Range) => void>> = {
  "no access": (t, range) => void t.mprotect(range, PROT.NONE),
  "read only": (t, range) => void t.mprotect(range, PROT.READ),
  locked: (t, range) => void t.mlock(range),
  "locked on fault": (t, range) => void t.mlock(range, "onFault"),
  "not for children": (t, range) => void t.madvise(range, "DONTFORK"),
  "not in dumps": (t, range) => void t.madvise(range, "DONTDUMP"),
  mergeable: (t, range) => void t.madvise(range, "MERGEABLE"),
  sealed: (t, range) => void sysMseal(t.m, t.mm, range.start, range.nrPages * PAGE_SIZE),
  "a stack": (t, range) => {
    t.vma(range).flags |= VM.GROWSDOWN;
  },
};
for (const [name, change] of Object.entries(HARMLESS)) {
  test(`COLL-091 COLL-092 COLL-103 COLL-253 memory that is ${name} collapses, by either`, () => {
    for (const actor of ["khugepaged", "madvise"] as const) {
      const t = machine();
      const range = written(t);
      const contents = t.contents(range);
      change(t, range);
      expect(collapse(t, range, actor)).toBe("succeeded");
      expect([t.states(range), t.contents(range)]).toEqual(["huge*512", contents]);
    }
  });
}

test("COLL-091 COLL-154 memory that may be dropped collapses, into a folio that is not swap-backed", () => {
  const t = machine();
  const range = t.map({ huge: 1 });
  t.vma(range).flags |= VM.DROPPABLE;
  t.fill(range);
  expect(t.madvise(range, "COLLAPSE")).toBe(0);
  expect(t.flags(range)).not.toContain("SWAPBACKED");
  expect(t.states(range)).toBe("huge*512");
});

test("COLL-044 COLL-342 MADV_NOHUGEPAGE after registration: the VMA is passed over, with MADV_HUGEPAGE again it is not", () => {
  const t = machine();
  const range = written(t);
  t.madvise(range, "NOHUGEPAGE");
  expect(collapse(t, range)).toBe("vma_check_failed");
  t.madvise(range, "HUGEPAGE");
  expect(collapse(t, range)).toBe("succeeded");
});
