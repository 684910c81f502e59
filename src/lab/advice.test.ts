import { describe, expect, test } from "vitest";
import { adviceFor, judge, sysfsCommands } from "./advice.ts";
import { type FixtureSetting, fixtureSetting, fixtureTrace } from "./comparison.fixture.ts";

/** Peak 1000 MiB and 1000 ms with ±2 % unless said otherwise; the first is "never". */
function settingsOf(...others: (Partial<FixtureSetting> & { name: string })[]) {
  const base = { peakMib: 1000, predictedMs: 1000 };
  return [{ name: "never" }, ...others].map((other) => fixtureSetting({ ...base, ...other }));
}

function verdicts(settings: ReturnType<typeof settingsOf>): string[] {
  return judge(settings).candidates.map((candidate) => candidate.verdict);
}

describe("the decision by predicted time and memory", () => {
  test.each([
    // gain, growth in MiB of 1000, uncertainty; what is said of it
    ["a gain beyond the uncertainty without growth", 950, 1000, 0.02, "gains"],
    ["a gain within the uncertainty", 985, 1000, 0.02, "no clear gain"],
    ["a certain gain under one percent", 995, 1000, 0.001, "no clear gain"],
    ["no change", 1000, 1000, 0.02, "no clear gain"],
    ["a loss within the uncertainty", 1015, 1000, 0.02, "no clear gain"],
    ["a loss beyond it", 1050, 1000, 0.02, "slower"],
    ["growth of two percent, which is free", 950, 1020, 0.02, "gains"],
    ["growth that the gain pays for", 850, 1140, 0.02, "gains"],
    ["growth above the gain", 900, 1150, 0.02, "too much memory"],
    ["growth above half, whatever the gain", 300, 1600, 0.02, "too much memory"],
    ["less memory and less time", 950, 900, 0.02, "gains"],
  ])("%s", (_, predictedMs, peakMib, uncertainty, verdict) => {
    const settings = settingsOf({ name: "always", predictedMs, peakMib, uncertainty });
    expect(verdicts(settings)).toEqual(["baseline", verdict]);
    expect(judge(settings).chosen.setting.name).toBe(verdict === "gains" ? "always" : "never");
  });

  test("growth of 16 MiB is free however large its share", () => {
    const settings = [
      fixtureSetting({ name: "never", peakMib: 20, predictedMs: 1000 }),
      fixtureSetting({ name: "always", peakMib: 36, predictedMs: 950 }),
    ];
    expect(verdicts(settings)).toEqual(["baseline", "gains"]);
  });

  test("the larger of two uncertainties counts", () => {
    const settings = [
      fixtureSetting({ name: "never", peakMib: 100, predictedMs: 1000, uncertainty: 0.06 }),
      fixtureSetting({ name: "always", peakMib: 100, predictedMs: 950, uncertainty: 0.01 }),
    ];
    expect(verdicts(settings)).toEqual(["baseline", "no clear gain"]);
  });
});

describe("the choice among settings that gain", () => {
  test("the fastest if they differ beyond the uncertainty", () => {
    const settings = settingsOf(
      { name: "64kB", predictedMs: 950 },
      { name: "always", predictedMs: 850, peakMib: 1100 },
    );
    expect(judge(settings).chosen.setting.name).toBe("always");
  });

  test("the smaller one if they differ within the uncertainty", () => {
    const settings = settingsOf(
      { name: "64kB", predictedMs: 870, peakMib: 1010 },
      { name: "always", predictedMs: 860, peakMib: 1100 },
    );
    expect(judge(settings).chosen.setting.name).toBe("64kB");
  });

  test("the one named first if nothing tells them apart", () => {
    const settings = settingsOf(
      { name: "madvise", predictedMs: 900 },
      { name: "always", predictedMs: 899 },
    );
    expect(judge(settings).chosen.setting.name).toBe("madvise");
  });

  test("the faster one at equal memory when more than a percent apart", () => {
    const settings = settingsOf(
      { name: "madvise", predictedMs: 900 },
      { name: "always", predictedMs: 885 },
    );
    expect(judge(settings).chosen.setting.name).toBe("always");
  });
});

describe("without a recorded run time", () => {
  const parts = (ms: number) => [{ name: "page walks", ms, basis: "given" }];

  test("a fall of the modelled cost decides if memory stays", () => {
    const settings = settingsOf(
      { name: "never", predictedMs: null, parts: parts(100) },
      { name: "always", predictedMs: null, parts: parts(50) },
    ).slice(1);
    const judgement = judge(settings);
    expect([judgement.basis, judgement.chosen.setting.name]).toEqual(["modelled cost", "always"]);
    const { text } = adviceFor(settings, fixtureTrace({ nrRuns: 0 }));
    expect(text).toContain("falls from 100 ms to 50.0 ms of simulated time");
    expect(text).toContain("not sure, since no real run time was recorded");
    expect(text).not.toContain("Predicted run time");
  });

  test("a fall of the modelled cost cannot pay for memory", () => {
    const settings = settingsOf(
      { name: "never", predictedMs: null, parts: parts(100) },
      { name: "always", predictedMs: null, parts: parts(10), peakMib: 1100 },
    ).slice(1);
    expect(verdicts(settings)).toEqual(["baseline", "too much memory"]);
  });

  test("with neither times nor costs nothing is claimed", () => {
    const settings = settingsOf(
      { name: "never", predictedMs: null },
      { name: "always", predictedMs: null },
    ).slice(1);
    expect(verdicts(settings)).toEqual(["baseline", "unknown"]);
    expect(adviceFor(settings, fixtureTrace({ nrRuns: 0 })).text).toContain(
      "Nothing here tells which setting is faster",
    );
  });

  test("one setting without a time is not judged against the others", () => {
    const settings = settingsOf(
      { name: "madvise", predictedMs: null },
      { name: "always", predictedMs: 900 },
    );
    expect(verdicts(settings)).toEqual(["baseline", "unknown", "gains"]);
  });
});

describe("a machine that is too small", () => {
  const outOfMemory = (setting: ReturnType<typeof fixtureSetting>) => ({
    ...setting,
    faults: { ...setting.faults, outOfMemory: 12_345 },
  });

  test("for a setting excludes it, however fast it seems", () => {
    const [never, always] = settingsOf({ name: "always", predictedMs: 500 });
    const settings = [never, outOfMemory(always)];
    expect(verdicts(settings)).toEqual(["baseline", "out of memory"]);
    const { setting, text } = adviceFor(settings, fixtureTrace());
    expect(setting).toBe("never");
    expect(text).toContain('"always" does not fit into the machine\'s memory.');
  });

  test("for the baseline leaves no advice", () => {
    const [never, always] = settingsOf({ name: "always", predictedMs: 500 });
    const { setting, text } = adviceFor([outOfMemory(never), always], fixtureTrace());
    expect(setting).toBe("");
    expect(text).toContain("No advice");
    expect(text).toContain("12 345 faults or forks found no memory");
    expect(text).not.toContain("Use ");
  });
});

describe("the words", () => {
  const gaining = settingsOf({
    name: "always",
    predictedMs: 900,
    peakMib: 1050,
    neverWrittenMib: 40,
    maxLatencyNs: 180_000,
  });

  test("say what to set, what it gains, what it costs and how sure", () => {
    expect(adviceFor(gaining, fixtureTrace())).toEqual({
      setting: "always",
      text:
        'Use "always": set thp.enabled=always. Predicted run time falls from 1.00 s to 900 ms ' +
        "(-10.0 %). It costs memory: peak RSS grows by 50.0 MiB (+5.0 %); at the peak 40.0 MiB more " +
        "were never written. The slowest fault takes 180 us instead of 2.00 us (simulated). How sure: " +
        "sure; the gain is 10.0 % with an uncertainty of ±2.0 %.",
    });
  });

  test("name the parts that save most", () => {
    const part = (name: string, ms: number) => ({ name, ms, basis: "given" });
    const settings = settingsOf(
      { name: "never", parts: [part("page walks", 80), part("fork", 5), part("page faults", 60)] },
      {
        name: "always",
        predictedMs: 900,
        parts: [part("page walks", 10), part("page faults", 30)],
      },
    ).slice(1);
    expect(adviceFor(settings, fixtureTrace()).text).toContain(
      "most of it from page walks (-70.0 ms) and page faults (-30.0 ms).",
    );
  });

  test.each([
    [0.03, "sure"],
    [0.06, "fairly sure"],
    [0.08, "not very sure"],
  ])("an uncertainty of %f under a gain of 10 %% makes it %s", (uncertainty, word) => {
    const settings = settingsOf({ name: "always", predictedMs: 900, uncertainty });
    expect(adviceFor(settings, fixtureTrace()).text).toContain(`How sure: ${word};`);
  });

  test("say what a faster setting would have cost", () => {
    const settings = settingsOf({ name: "always", predictedMs: 900, peakMib: 1300 });
    const { setting, text } = adviceFor(settings, fixtureTrace());
    expect(setting).toBe("never");
    expect(text).toContain('Stay with "never"');
    expect(text).toContain(
      '"always" would need 300 MiB (+30.0 %) more memory for -10.0 % run time',
    );
  });

  test("say what makes the recording weak", () => {
    const trace = fixtureTrace({ order: "none", exactTouches: false, nrRuns: 1 });
    const { text } = adviceFor(gaining, trace);
    expect(text).toContain("no order of accesses");
    expect(text).toContain("First touches are not exact");
    expect(text).toContain("one plain run");
  });

  test("say that a recording of calls alone tells nothing about memory", () => {
    const settings = settingsOf(
      {
        name: "never",
        predictedMs: null,
        parts: [{ name: "system calls", ms: 1, basis: "given" }],
      },
      {
        name: "always",
        predictedMs: null,
        parts: [{ name: "system calls", ms: 1, basis: "given" }],
      },
    ).slice(1);
    const trace = { ...fixtureTrace({ nrRuns: 0, order: "none" }), nrPagesTouched: 0 };
    const { text } = adviceFor(settings, trace);
    expect(text).toContain("None lowers the modelled cost.");
    expect(text).toContain("The recording has no accesses");
  });

  test("do not compare a single setting with itself", () => {
    expect(adviceFor(settingsOf(), fixtureTrace()).text).toBe(
      "Only one setting was run, so there is nothing to choose between.",
    );
  });
});

test("the commands for a live kernel are one per knob", () => {
  const [, always] = settingsOf({
    name: "x",
    knobs: { "thp.enabled": "always", "khugepaged.max_ptes_none": "0" },
  });
  expect(sysfsCommands(always)).toEqual([
    "echo always > /sys/kernel/mm/transparent_hugepage/enabled",
    "echo 0 > /sys/kernel/mm/transparent_hugepage/khugepaged/max_ptes_none",
  ]);
});
