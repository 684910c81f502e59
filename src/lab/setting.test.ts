import { describe, expect, test } from "vitest";
import {
  changedKnobs,
  checkUniqueNames,
  knobsWithoutEffect,
  knobValue,
  PRESETS,
  parseSetting,
} from "./setting.ts";

describe("settings on the command line", () => {
  test("a preset is found in any case", () => {
    expect(parseSetting("64KB", "--setting")).toEqual({
      name: "64kB",
      knobs: { "thp.enabled": "never", "thp.hugepages-64kB.enabled": "always" },
    });
  });

  test("a preset can be extended, and the text is the name", () => {
    expect(parseSetting("always,khugepaged.max_ptes_none=0", "--setting")).toEqual({
      name: "always,khugepaged.max_ptes_none=0",
      knobs: { "thp.enabled": "always", "khugepaged.max_ptes_none": "0" },
    });
  });

  test("a later knob wins over the preset", () => {
    expect(parseSetting("x:always,thp.enabled=madvise", "--setting")).toEqual({
      name: "x",
      knobs: { "thp.enabled": "madvise" },
    });
  });

  test("an unknown preset names the nearest one", () => {
    expect(() => parseSetting("alway", "--setting")).toThrow(
      '--setting: found unknown setting "alway", expected never, madvise, always, always+defrag, 64kB or KNOB=VALUE,...; did you mean always?',
    );
  });

  test("two settings of one name cannot be told apart in a report", () => {
    const always = parseSetting("always", "x");
    expect(() => checkUniqueNames([always, always], "--setting")).toThrow("two settings called");
  });
});

describe("what a setting means", () => {
  test("an absent knob has the kernel's default", () => {
    expect(knobValue(PRESETS[0], "thp.enabled")).toBe("never");
    expect(knobValue(PRESETS[0], "thp.defrag")).toBe("madvise");
  });

  test("knobs set to their default are not listed as changed", () => {
    expect(changedKnobs(parseSetting("x:madvise,thp.defrag=always", "y"))).toEqual({
      "thp.defrag": "always",
    });
  });

  test("a knob that a replay does not simulate is said to have no effect", () => {
    const settings = [
      parseSetting("always,khugepaged.max_ptes_none=0", "x"),
      parseSetting("mine:always,thp.shmem_enabled=force", "x"),
    ];
    expect(knobsWithoutEffect(settings)).toEqual([
      "thp.shmem_enabled changes nothing here: shared memory and tmpfs are not simulated as huge.",
    ]);
  });

  test("knobs left at their default are not mentioned", () => {
    expect(knobsWithoutEffect(PRESETS)).toEqual([]);
  });
});
