import { expect, test } from "vitest";
import { PAGE_SIZE } from "../base/address.ts";
import { type Kit, type MapOptions, machine, part } from "../machine/test-kit.ts";
import { VM } from "../mm/vma.ts";
import { MAP, PROT } from "../syscall/mmap.ts";
import { sysGetThpDisable, sysSetThpDisable } from "../syscall/prctl.ts";
import { isThpEligible, mayCollapse } from "./eligibility.ts";

/** Maps memory and writes its first aligned 2 MiB: true if that became huge. */
function faultsHuge(t: Kit, options: MapOptions): boolean {
  const range = t.map({ huge: 1, ...options });
  t.write(range);
  return t.isHuge(range);
}

/** Rows: global; columns: size 2048kB always, inherit, madvise, never. Words: who faults huge. */
const TABLE = {
  always: { always: "all", inherit: "all", madvise: "advised", never: "none" },
  madvise: { always: "all", inherit: "advised", madvise: "advised", never: "none" },
  never: { always: "all", inherit: "none", madvise: "advised", never: "none" },
} as const;

for (const [enabled, row] of Object.entries(TABLE))
  for (const [size, who] of Object.entries(row)) {
    test(`ANON-021 ANON-022 enabled=${enabled} and 2048kB=${size}: ${who} VMAs may be huge`, () => {
      const t = machine({ enabled, sizes: { "2048kB": size } });
      const plain = faultsHuge(t, {});
      const advised = faultsHuge(t, { advice: "HUGEPAGE" });
      const refused = faultsHuge(t, { advice: "NOHUGEPAGE" });
      expect({ plain, advised, refused }).toEqual({
        plain: who === "all",
        advised: who !== "none",
        refused: false,
      });
    });
  }

test("ANON-021 the same table holds for a smaller size", () => {
  for (const [enabled, row] of Object.entries(TABLE))
    for (const [size, who] of Object.entries(row)) {
      const t = machine({ enabled, sizes: { "2048kB": "never", "64kB": size } });
      const kinds = (["none", "HUGEPAGE", "NOHUGEPAGE"] as const).map((advice) => {
        const range = t.map(advice === "none" ? { pages: 16 } : { pages: 16, advice });
        return t.write(range) === "anon mTHP 64kB";
      });
      expect([enabled, size, ...kinds]).toEqual([
        enabled,
        size,
        who === "all",
        who !== "none",
        false,
      ]);
    }
});

test("ANON-020 the smallest size that may be huge is 16 kB", () => {
  const t = machine({ enabled: "always", sizes: { "16kB": "always" } });
  expect(t.write(t.map({ pages: 3 }))).toBe("anon 4k");
  expect(t.write(t.map({ pages: 4 }))).toBe("anon mTHP 16kB");
});

test("ANON-027 a PMD needs its whole aligned 2 MiB inside the VMA", () => {
  const t = machine({ enabled: "always" });
  expect(faultsHuge(t, { pages: 512 })).toBe(true);
  expect(faultsHuge(t, { pages: 511 })).toBe(false);
  expect(faultsHuge(t, { pages: 512, offset: 1 })).toBe(false);
  expect(faultsHuge(t, { pages: 1022, offset: 1 })).toBe(false);

  // One page more and the second 2 MiB is whole.
  const range = t.map({ pages: 1023, offset: 1 });
  t.write(range, 0);
  t.write(range, 511);
  expect([t.isHuge(range), t.isHuge(part(range, 511, 512))]).toEqual([false, true]);
});

test("ANON-027 for an order only the naturally aligned block counts", () => {
  const t = machine({ sizes: { "2048kB": "never", "64kB": "always" } });
  const range = t.map({ pages: 40, offset: 8 });
  expect(t.write(range, 0)).toBe("anon 4k"); // its block begins 8 pages before the VMA
  expect(t.write(range, 10)).toBe("anon mTHP 64kB");
  expect(t.write(range, 39)).toBe("anon mTHP 64kB");
  expect(t.kpagecount(range)).toEqual([1, ...new Array(7).fill(-1), ...new Array(32).fill(1)]);
});

test("ANON-028 ANON-302 THPeligible looks at the highest aligned block below the VMA's end", () => {
  const t = machine({ enabled: "always" });
  const eligible = (options: MapOptions) => {
    const range = t.map(options);
    return isThpEligible(t.m, range.mm, t.vma(range));
  };
  expect(eligible({ huge: 1 })).toBe(true);
  expect(eligible({ pages: 511 })).toBe(false);
  expect(eligible({ pages: 513 })).toBe(true);
  expect(eligible({ pages: 1022, offset: 1 })).toBe(false);
  expect(eligible({ pages: 1023, offset: 1 })).toBe(true);
});

test("ANON-302 any enabled size makes a VMA eligible; advice alone does not", () => {
  const t = machine({ enabled: "never", sizes: { "2048kB": "never" } });
  const range = t.map({ pages: 4, advice: "HUGEPAGE" });
  const eligible = () => isThpEligible(t.m, t.mm, t.vma(range));
  expect(eligible()).toBe(false);
  t.knob("thp.hugepages-32kB.enabled", "always");
  expect(eligible()).toBe(false);
  t.knob("thp.hugepages-16kB.enabled", "always");
  expect(eligible()).toBe(true);
});

test("ANON-302 shared and file mappings are not eligible", () => {
  const t = machine({ enabled: "always" });
  const shared = t.map({ huge: 1, shared: true, advice: "HUGEPAGE" });
  expect(isThpEligible(t.m, t.mm, t.vma(shared))).toBe(false);
});

test("ANON-029 protection is not part of eligibility", () => {
  const t = machine();
  for (const prot of [PROT.NONE, PROT.READ]) {
    const range = t.map({ huge: 1, prot, advice: "HUGEPAGE" });
    expect(isThpEligible(t.m, t.mm, t.vma(range))).toBe(true);
  }
});

test("ANON-025 a stack that exec still builds is never huge", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  t.vma(range).flags |= VM.TEMP_STACK;
  expect(t.write(range)).toBe("anon 4k");
  expect(isThpEligible(t.m, t.mm, t.vma(range))).toBe(false);
});

test("ANON-026 MAP_STACK refuses huge pages until MADV_HUGEPAGE", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1, flags: MAP.STACK });
  expect(t.vma(range).flags & (VM.HUGEPAGE | VM.NOHUGEPAGE)).toBe(VM.NOHUGEPAGE);
  t.madvise(range, "HUGEPAGE");
  expect(t.vma(range).flags & (VM.HUGEPAGE | VM.NOHUGEPAGE)).toBe(VM.HUGEPAGE);
  expect(t.write(range)).toBe("anon 2M");
});

test("ANON-026 the ordinary stack faults huge where 2 MiB of it are aligned", () => {
  const t = machine({ enabled: "always" });
  const stack = t.mm.vmas[t.mm.vmas.length - 1];
  const bottom = stack.start - (stack.start % (512 * PAGE_SIZE)) - 512 * PAGE_SIZE;
  const range = { mm: t.mm, start: bottom, nrPages: 512 };
  t.write(range, 0); // grows the stack down to here
  expect(t.isHuge(range)).toBe(true);
});

test("ANON-030 ANON-033 prctl disables huge pages of the process but leaves existing ones", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 2, advice: "HUGEPAGE" });
  t.write(range);
  expect(sysSetThpDisable(t.m, t.mm, 1, 0)).toBe(0);
  expect(sysGetThpDisable(t.mm)).toBe(1);
  expect(isThpEligible(t.m, t.mm, t.vma(range))).toBe(false);
  expect(t.write(range, 512)).toBe("anon 4k");
  expect(t.write(range, 9)).toBe("none");
  expect(t.smaps(range).AnonHugePages).toBe(2048);

  expect(sysSetThpDisable(t.m, t.mm, 0, 0)).toBe(0);
  expect(sysGetThpDisable(t.mm)).toBe(0);
  expect(faultsHuge(t, {})).toBe(true);
});

test("ANON-033 fork inherits the prctl", () => {
  const t = machine({ enabled: "always" });
  sysSetThpDisable(t.m, t.mm, 1, 0);
  const child = t.fork();
  expect(sysGetThpDisable(child)).toBe(1);
  expect(t.write(t.map({ huge: 1, mm: child }))).toBe("anon 4k");
});

test("ANON-031 with the exception only advised VMAs may be huge", () => {
  const t = machine({ enabled: "always" });
  expect(sysSetThpDisable(t.m, t.mm, 1, 2)).toBe(0);
  expect(sysGetThpDisable(t.mm)).toBe(3);
  expect(faultsHuge(t, {})).toBe(false);
  expect(faultsHuge(t, { advice: "HUGEPAGE" })).toBe(true);
});

test("ANON-031 6.12 does not know the exception", () => {
  const t = machine({ profile: "linux-6.12" });
  expect(sysSetThpDisable(t.m, t.mm, 1, 2)).toBe(-22);
  expect(sysGetThpDisable(t.mm)).toBe(0);
});

test("ANON-032 argument errors of the prctl", () => {
  const t = machine();
  const set = (...args: [number, number, number?, number?]) => sysSetThpDisable(t.m, t.mm, ...args);
  const wrong = [set(1, 1), set(1, 3), set(1, 4), set(0, 2), set(1, 0, 1), set(1, 0, 0, 1)];
  expect(wrong).toEqual(new Array(6).fill(-22));
  expect([sysGetThpDisable(t.mm, 1), sysGetThpDisable(t.mm, 0, 0, 0, 1)]).toEqual([-22, -22]);
  expect([set(77, 0), sysGetThpDisable(t.mm)]).toEqual([0, 1]);
});

test("ANON-034 MADV_HUGEPAGE under the prctl succeeds, its effect is suspended", () => {
  const t = machine({ enabled: "always" });
  sysSetThpDisable(t.m, t.mm, 1, 0);
  const range = t.map({ huge: 1 });
  expect(t.madvise(range, "HUGEPAGE")).toBe(0);
  expect(t.vma(range).flags & VM.HUGEPAGE).not.toBe(0);
  expect(t.write(range)).toBe("anon 4k");
});

test("ANON-023 flags that keep khugepaged away do not keep faults from being huge", () => {
  for (const flag of [VM.IO, VM.DONTEXPAND, VM.PFNMAP, VM.MIXEDMAP]) {
    const t = machine({ enabled: "always" });
    const range = t.map({ huge: 1 });
    t.vma(range).flags |= flag;
    t.write(range);
    expect([t.isHuge(range), mayCollapse(t.m, t.mm, t.vma(range))]).toEqual([true, false]);
    expect(t.m.khugepaged.mms).toEqual([]);
  }
});
