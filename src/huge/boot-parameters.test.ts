import { expect, test } from "vitest";
import { EINVAL, ENOENT } from "../base/errno.ts";
import { PROFILES } from "../base/profile.ts";
import { writePage } from "../machine/access.ts";
import { createMachine, type MachineConfig } from "../machine/machine.ts";
import { execProcess } from "../machine/process.ts";
import { MADV, sysMadvise } from "../syscall/madvise.ts";
import { MAP, sysMmap } from "../syscall/mmap.ts";
import { isThpEligible } from "./eligibility.ts";
import { readKnob, writeKnob } from "./knobs.ts";

const GIB = 2 ** 30;

function boot(bootParameters: string, profileName = "linux-6.18") {
  const profile = PROFILES.find(({ name }) => name === profileName)!;
  const m = createMachine({ memoryBytes: GIB, bootParameters, profile });
  const active = (name: string) => /\[(.*)\]/.exec(String(readKnob(m, name)))![1];
  return {
    enabled: active("thp.enabled"),
    size: (kb: number) => active(`thp.hugepages-${kb}kB.enabled`),
  };
}

test("ANON-002 transparent_hugepage= sets enabled; what it does not know it ignores", () => {
  expect(boot("quiet transparent_hugepage=always").enabled).toBe("always");
  expect(boot("transparent_hugepage=never rw").enabled).toBe("never");
  expect(boot("transparent_hugepage=sometimes").enabled).toBe("madvise");
  expect(boot("transparent_hugepage=").enabled).toBe("madvise");
});

test("ANON-002 the numbers 0 and 2 are understood in the profile of 2011 only", () => {
  expect(boot("transparent_hugepage=0", "seed-2011").enabled).toBe("never");
  expect(boot("transparent_hugepage=0 transparent_hugepage=2", "seed-2011").enabled).toBe(
    "madvise",
  );
  expect(boot("transparent_hugepage=0").enabled).toBe("madvise");
});

test("ANON-010 thp_anon sets sizes, lists and ranges; 2048kB is then never unless it is named", () => {
  const one = boot("thp_anon=16K-64K:always;128K,512K:inherit;256K:madvise");
  expect([16, 32, 64, 128, 256, 512, 1024, 2048].map(one.size)).toEqual([
    "always",
    "always",
    "always",
    "inherit",
    "madvise",
    "inherit",
    "never",
    "never",
  ]);
  expect(boot("thp_anon=1M-2M:madvise").size(2048)).toBe("madvise");
  expect(boot("thp_anon=65536:always").size(64)).toBe("always");
  expect(boot("thp_anon=64K:always;32K-128K:never").size(64)).toBe("never");
});

test("ANON-010 an error anywhere in thp_anon makes all of it void", () => {
  for (const value of [
    "64K:always;48K:always",
    "64K:always;32K",
    "64K:often",
    "64K-16K:always",
    "8K:always",
    "4M:always",
    "64K:always;",
    "",
  ]) {
    const { size } = boot(`thp_anon=${value}`);
    expect([value, size(64), size(2048)]).toEqual([value, "never", "inherit"]);
  }
});

/** A process with 2 MiB of advised memory on a machine with or without the feature. */
function advised(options: Partial<MachineConfig>) {
  const m = createMachine({
    memoryBytes: GIB,
    bootParameters: "transparent_hugepage=always",
    ...options,
  });
  const { mm } = execProcess(m)!;
  const flags = MAP.PRIVATE | MAP.ANONYMOUS;
  const start = sysMmap(m, mm, { address: 0, length: 2 ** 21, prot: 3, flags });
  const result = sysMadvise(m, mm, start, 2 ** 21, MADV.HUGEPAGE);
  writePage(m, mm, start / 2 ** 21, 0, 1);
  const vma = mm.vmas.find((candidate) => candidate.start === start)!;
  return { m, mm, start, result, rss: mm.rssAnon, isEligible: isThpEligible(m, mm, vma) };
}

test("ANON-004 without huge PMDs in the processor there are no knobs and nothing is eligible", () => {
  const { m, result, rss, isEligible } = advised({ thpSupport: "unsupported" });
  expect([result, rss, isEligible]).toEqual([0, 1, false]);
  expect(readKnob(m, "thp.enabled")).toBe(-ENOENT);
  expect(writeKnob(m, "thp.enabled", "always")).toBe(-ENOENT);
  expect(m.isKhugepagedRunning).toBe(false);
  expect(advised({}).rss).toBe(512);
});

test("ANON-042 in a kernel without the feature the advice about huge pages does not exist", () => {
  const { m, mm, start, result, rss } = advised({ thpSupport: "notBuilt" });
  expect([result, rss]).toEqual([-EINVAL, 1]);
  for (const advice of [MADV.NOHUGEPAGE, MADV.COLLAPSE])
    expect(sysMadvise(m, mm, start, 2 ** 21, advice)).toBe(-EINVAL);
  expect(sysMadvise(m, mm, start, 2 ** 21, MADV.SEQUENTIAL)).toBe(0);
});

test("ANON-011 COLL-020 COLL-022 COLL-023 khugepaged runs while any memory may be PMD-sized", () => {
  const m = createMachine({ memoryBytes: 16 * GIB });
  const state = () => {
    const kbytes = m.sysctl.minFreeKbytes; // without the daemon about 16 MB, which moves a little with itself
    return m.isKhugepagedRunning ? `running, ${kbytes}` : `stopped, ${kbytes < 20_000}`;
  };
  const after = (name: string, value: string) => {
    expect(writeKnob(m, name, value)).toBe(0);
    return state();
  };
  const [on, off] = ["running, 67584", "stopped, true"];
  expect(state()).toBe(on);
  expect(after("thp.enabled", "never")).toBe(off);
  expect(after("thp.hugepages-64kB.enabled", "always")).toBe(off);
  expect(after("thp.hugepages-2048kB.enabled", "madvise")).toBe(on);
  expect(after("thp.hugepages-2048kB.enabled", "never")).toBe(off);
  expect(after("thp.enabled", "always")).toBe(off);
  expect(after("thp.hugepages-2048kB.enabled", "inherit")).toBe(on);
});

test("ANON-011 COLL-021 shared memory alone keeps khugepaged running, but not on 6.12", () => {
  for (const profile of PROFILES) {
    const m = createMachine({ memoryBytes: GIB, profile });
    writeKnob(m, "thp.enabled", "never");
    writeKnob(m, "thp.shmem_enabled", "deny");
    expect(m.isKhugepagedRunning).toBe(false);
    writeKnob(m, "thp.shmem_enabled", "within_size");
    expect(m.isKhugepagedRunning).toBe(profile.name === "linux-6.18");
  }
});
