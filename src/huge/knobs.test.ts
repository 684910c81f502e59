import { expect, test } from "vitest";
import { EACCES, EINVAL, ENOENT, ERANGE } from "../base/errno.ts";
import { PROFILES } from "../base/profile.ts";
import { createMachine } from "../machine/machine.ts";
import { machine } from "../machine/test-kit.ts";
import { GFP, GFP_TRANSHUGE, GFP_TRANSHUGE_LIGHT } from "../phys/gfp.ts";
import { DEFRAG_VALUES, knobNames, readKnob, writeKnob } from "./knobs.ts";

const MADE_OF_WORDS = [
  ["thp.enabled", ["always", "madvise", "never"]],
  ["thp.defrag", ["always", "defer", "defer+madvise", "madvise", "never"]],
  ["thp.hugepages-64kB.enabled", ["always", "inherit", "madvise", "never"]],
] as const;

test("ANON-001 the active word of enabled stands in brackets, one line with a newline", () => {
  const { m } = machine();
  expect(readKnob(m, "thp.enabled")).toBe("always [madvise] never\n");
  expect(writeKnob(m, "thp.enabled", "always\n")).toBe(0);
  expect(readKnob(m, "thp.enabled")).toBe("[always] madvise never\n");
  expect(writeKnob(m, "thp.enabled", "never")).toBe(0);
  expect(readKnob(m, "thp.enabled")).toBe("always madvise [never]\n");
});

for (const [name, words] of MADE_OF_WORDS) {
  test(`ANON-001 ANON-005 ANON-009 ${name} takes its exact words with at most one newline`, () => {
    const { m } = machine();
    for (const word of words) {
      expect(writeKnob(m, name, word)).toBe(0);
      const shown = words.map((w) => (w === word ? `[${w}]` : w)).join(" ");
      expect(readKnob(m, name)).toBe(`${shown}\n`);
    }
    const before = readKnob(m, name);
    const wrong = [
      words[0].toUpperCase(),
      ` ${words[0]}`,
      `${words[0]} `,
      `${words[0]}\n\n`,
      `[${words[0]}]`,
      words[0].slice(0, -1),
      "1",
      "\n",
    ];
    expect(wrong.map((text) => writeKnob(m, name, text))).toEqual(wrong.map(() => -EINVAL));
    expect(writeKnob(m, name, "")).toBe(0);
    expect(readKnob(m, name)).toBe(before);
  });
}

test("ANON-006 use_zero_page is an unsigned decimal 0 or 1", () => {
  const { m } = machine();
  const write = (text: string) => writeKnob(m, "thp.use_zero_page", text);
  expect(readKnob(m, "thp.use_zero_page")).toBe("1\n");
  expect(["0", "+0\n", "00"].map(write)).toEqual([0, 0, 0]);
  expect(readKnob(m, "thp.use_zero_page")).toBe("0\n");
  expect(["1", "+1", "1\n"].map(write)).toEqual([0, 0, 0]);
  const wrong = ["2", "-1", "yes", "0x1", " 1", "1 ", "1\n\n", "18446744073709551615"];
  expect(wrong.map(write)).toEqual(wrong.map(() => -EINVAL));
  expect(write("18446744073709551616")).toBe(-ERANGE);
  expect(readKnob(m, "thp.use_zero_page")).toBe("1\n");
});

test("ANON-007 the first character decides shrink_underused, the rest is ignored", () => {
  const { m } = machine();
  const write = (text: string) => writeKnob(m, "thp.shrink_underused", text);
  for (const text of ["0", "n", "No", "f", "F", "off", "oF", "0000", "d", "Deny"]) {
    expect([write("1"), write(text), readKnob(m, "thp.shrink_underused")]).toEqual([0, 0, "0\n"]);
    expect(write("1")).toBe(0);
  }
  for (const text of ["1", "y", "Yes", "t", "T", "on", "oN", "1x", "e", "Enable"]) {
    expect([write("0"), write(text), readKnob(m, "thp.shrink_underused")]).toEqual([0, 0, "1\n"]);
  }
  expect(["2", "o", "ox", "x", "-"].map(write)).toEqual(new Array(5).fill(-EINVAL));
});

test("ANON-008 hpage_pmd_size reads 2097152 and cannot be opened for writing", () => {
  const { m } = machine();
  expect(readKnob(m, "thp.hpage_pmd_size")).toBe("2097152\n");
  expect(["2097152", "", "1"].map((t) => writeKnob(m, "thp.hpage_pmd_size", t))).toEqual(
    new Array(3).fill(-EACCES),
  );
});

test("ANON-009 anonymous sizes are 16 kB to 2 MB; 2048kB inherits, the others are never", () => {
  const m = createMachine();
  const sizes = [16, 32, 64, 128, 256, 512, 1024];
  for (const size of sizes) {
    const name = `thp.hugepages-${size}kB.enabled`;
    expect(knobNames()).toContain(name);
    expect(readKnob(m, name)).toBe("always inherit madvise [never]\n");
  }
  expect(readKnob(m, "thp.hugepages-2048kB.enabled")).toBe("always [inherit] madvise never\n");
  for (const size of ["8", "4", "4096", "24", "064"])
    expect(writeKnob(m, `thp.hugepages-${size}kB.enabled`, "always")).toBe(-ENOENT);
});

test("ANON-002 ANON-005 ANON-006 ANON-007 defaults of a large machine", () => {
  const m = createMachine({ memoryBytes: 2 ** 30 });
  expect(readKnob(m, "thp.enabled")).toBe("always [madvise] never\n");
  expect(readKnob(m, "thp.defrag")).toBe("always defer defer+madvise [madvise] never\n");
  expect(readKnob(m, "thp.use_zero_page")).toBe("1\n");
  expect(readKnob(m, "thp.shrink_underused")).toBe("1\n");
});

test("ANON-003 below the threshold of RAM all is off but every file can be written", () => {
  for (const profile of PROFILES) {
    const enough = createMachine({ memoryBytes: profile.smallMemoryBytes, profile });
    const memoryBytes = profile.smallMemoryBytes - 4 * 2 ** 20;
    const small = createMachine({ memoryBytes, profile });
    expect(readKnob(enough, "thp.enabled")).toBe("always [madvise] never\n");
    expect(readKnob(small, "thp.enabled")).toBe("always madvise [never]\n");
    expect(readKnob(small, "thp.defrag")).toContain("[never]");
    expect(readKnob(small, "thp.use_zero_page")).toBe("0\n");
    expect(readKnob(small, "thp.shrink_underused")).toBe("1\n");
    expect(writeKnob(small, "thp.enabled", "always")).toBe(0);
    expect(readKnob(small, "thp.enabled")).toBe("[always] madvise never\n");
  }
});

test("ANON-003 the threshold is 512 MB, in the profile of 2011 1 GB", () => {
  const thresholds = PROFILES.map((p) => [p.name, p.smallMemoryBytes / 2 ** 20]);
  expect(thresholds).toEqual([
    ["linux-6.18", 512],
    ["linux-6.12", 512],
    ["seed-2011", 1024],
  ]);
});

test("ANON-012 changing a knob leaves existing huge pages alone", () => {
  const t = machine({ enabled: "always" });
  const range = t.mapHuge();
  const changes = t.deltas(() => {
    t.knob("thp.enabled", "never");
    t.knob("thp.hugepages-2048kB.enabled", "never");
    t.knob("thp.defrag", "never");
    t.knob("thp.use_zero_page", "0");
  });
  expect(changes).toEqual({});
  expect(t.smaps(range).AnonHugePages).toBe(2048);
  expect(t.write(range, 7)).toBe("none");
});

test("ANON-110 the effort of a huge allocation by defrag and advice", () => {
  const wakes = GFP_TRANSHUGE_LIGHT | GFP.KSWAPD_RECLAIM;
  const expected: Record<string, [number, number]> = {
    always: [GFP_TRANSHUGE | GFP.NORETRY, GFP_TRANSHUGE],
    defer: [wakes, wakes],
    "defer+madvise": [wakes, GFP_TRANSHUGE],
    madvise: [GFP_TRANSHUGE_LIGHT, GFP_TRANSHUGE],
    never: [GFP_TRANSHUGE_LIGHT, GFP_TRANSHUGE_LIGHT],
  };
  const { m } = machine();
  for (const value of DEFRAG_VALUES) {
    writeKnob(m, "thp.defrag", value);
    expect([value, m.policy.gfpPlain, m.policy.gfpAdvised]).toEqual([value, ...expected[value]]);
  }
});

test("ANON-110 LIGHT never reclaims; TRANSHUGE reclaims directly and does not wake kswapd", () => {
  const reclaim = GFP.DIRECT_RECLAIM | GFP.KSWAPD_RECLAIM;
  expect(GFP_TRANSHUGE_LIGHT & reclaim).toBe(0);
  expect(GFP_TRANSHUGE & reclaim).toBe(GFP.DIRECT_RECLAIM);
  const light = GFP.MOVABLE | GFP.HIGHMEM | GFP.NOWARN | GFP.NOMEMALLOC;
  expect(GFP_TRANSHUGE_LIGHT & light).toBe(light);
});
