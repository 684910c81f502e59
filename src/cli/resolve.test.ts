import { describe, expect, test } from "vitest";
import { type ConfigFile, parseConfig } from "./config-file.ts";
import {
  PLAIN_OPTIONS,
  resolveCompareSettings,
  resolveMachine,
  resolveReplaySetting,
  type Sources,
  strangeVariables,
} from "./resolve.ts";

const GIB = 2 ** 30;
const config = (text: string): ConfigFile => parseConfig(text, "hugelab.yaml", PLAIN_OPTIONS);
const sources = (given: Partial<Sources>): Sources => ({
  flags: {},
  env: {},
  config: undefined,
  ...given,
});
const anyGeometry = (text: string) => text;

describe("one value from several sources", () => {
  const all = {
    flags: { mem: "1g" },
    env: { HUGELAB_MEM: "2g" },
    config: config("cpus: 2\nmem: 3g\n"),
  };

  test.each([
    ["flag, environment and file", all, GIB, "flag --mem"],
    ["environment and file", { ...all, flags: {} }, 2 * GIB, "environment HUGELAB_MEM"],
    ["file", { ...all, flags: {}, env: {} }, 3 * GIB, "file hugelab.yaml:2"],
    ["nothing", {}, 16 * GIB, "default"],
  ])("%s", (_, given, value, from) => {
    const { memoryBytes } = resolveMachine(sources(given), anyGeometry);
    expect(memoryBytes).toEqual({ name: "mem", value, from });
  });

  test.each([
    [{ flags: { cpus: "x" } }, "--cpus: found"],
    [{ env: { HUGELAB_CPUS: "x" } }, "HUGELAB_CPUS: found"],
    [{ config: config("seed: 1\ncpus: x\n") }, "hugelab.yaml:2 cpus: found"],
  ])("a wrong value is blamed on its source", (given, message) => {
    expect(() => resolveMachine(sources(given), anyGeometry)).toThrow(message);
  });

  test("an empty variable counts as absent", () => {
    const { nrCpus } = resolveMachine(sources({ env: { HUGELAB_CPUS: "" } }), anyGeometry);
    expect(nrCpus.from).toBe("default");
  });
});

describe("the settings of a comparison", () => {
  const namesOf = (given: Partial<Sources>) =>
    resolveCompareSettings(sources(given)).value.map((setting) => setting.name);

  test("are the presets unless asked otherwise", () => {
    expect(namesOf({})).toEqual(["never", "madvise", "always", "always+defrag", "64kB"]);
  });

  test("come from the flag before the environment before the file", () => {
    const file = config("settings: [never, madvise]\n");
    const env = { HUGELAB_SETTINGS: "never always" };
    expect(namesOf({ config: file })).toEqual(["never", "madvise"]);
    expect(namesOf({ config: file, env })).toEqual(["never", "always"]);
    expect(namesOf({ config: file, env, flags: { setting: ["never", "64kB"] } })).toEqual([
      "never",
      "64kB",
    ]);
  });

  test("begin with THP off, which the recorded run had, added if it is missing", () => {
    expect(namesOf({ flags: { setting: ["always"] } })).toEqual(["never", "always"]);
    expect(namesOf({ flags: { setting: ["always", "never"] } })).toEqual(["never", "always"]);
    const off = "off:thp.enabled=never,thp.defrag=never";
    expect(namesOf({ flags: { setting: ["always", off] } })).toEqual(["off", "always"]);
    // never for 2 MiB is not off for everything
    expect(namesOf({ flags: { setting: ["64kB"] } })).toEqual(["never", "64kB"]);
  });

  test("share the knobs of --set", () => {
    const given = { flags: { set: ["thp.use_zero_page=0"], setting: ["never", "always"] } };
    const { value } = resolveCompareSettings(sources(given));
    expect(value.map((setting) => setting.knobs["thp.use_zero_page"])).toEqual(["0", "0"]);
  });

  test("refuse a --set of what they set themselves", () => {
    const given = { flags: { set: ["thp.enabled=always"] } };
    expect(() => resolveCompareSettings(sources(given))).toThrow(
      'which setting "never" sets itself',
    );
  });

  test("keep their own knobs against those of the file", () => {
    const given = { config: config("set: { thp.enabled: always }\n") };
    const { value } = resolveCompareSettings(sources(given));
    expect(value[0].knobs["thp.enabled"]).toBe("never");
  });
});

describe("the setting of a replay", () => {
  test("each knob comes from the strongest source that names it", () => {
    const { setting, knobs } = resolveReplaySetting(
      sources({
        flags: { preset: "always", set: ["thp.defrag=never"] },
        env: { HUGELAB_SET: "thp.defrag=always,thp.use_zero_page=0" },
        config: config("set: { thp.use_zero_page: 1, khugepaged.defrag: 0 }\n"),
      }),
    );
    expect(setting.knobs).toEqual({
      "thp.enabled": "always",
      "thp.defrag": "never",
      "thp.use_zero_page": "0",
      "khugepaged.defrag": "0",
    });
    expect(Object.fromEntries(knobs.map((knob) => [knob.name, knob.from]))).toEqual({
      "thp.enabled": "preset always (flag --preset)",
      "thp.defrag": "flag --set",
      "thp.use_zero_page": "environment HUGELAB_SET",
      "khugepaged.defrag": "file hugelab.yaml:1",
    });
  });

  test("without a preset it is the kernel's defaults", () => {
    const { setting } = resolveReplaySetting(sources({}));
    expect(setting).toEqual({ name: "defaults", knobs: {} });
  });

  test("takes several knobs in one flag", () => {
    const flags = { set: ["thp.enabled=always,thp.defrag=defer"] };
    expect(resolveReplaySetting(sources({ flags })).setting.name).toBe(
      "thp.enabled=always,thp.defrag=defer",
    );
  });
});

test("a misspelt variable is noticed, a foreign one is not", () => {
  expect(
    strangeVariables({ HUGELAB_MEMM: "1g", HUGELAB_PLUGIN_PATH: "/x", HUGELAB_MEM: "1g" }),
  ).toEqual(["HUGELAB_MEMM is ignored; did you mean HUGELAB_MEM?"]);
});
