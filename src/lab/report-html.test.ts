import { describe, expect, test } from "vitest";
import { escapeHtml, lineChart, stepsOf } from "./chart.ts";
import { fixtureComparison } from "./comparison.fixture.ts";
import { renderHtml } from "./report-html.ts";

/** Content of an embedded data element. */
function dataOf(html: string, id: string): unknown {
  const found = new RegExp(`<script type="application/json" id="${id}">(.*?)</script>`, "s").exec(
    html,
  );
  return JSON.parse(found![1]);
}

/** Points of a path as [x, y]. */
function pointsOf(svg: string, line: number): [number, number][] {
  const path = new RegExp(`<path class="line line-${line}"[^>]* d="M([^"]*)"`).exec(svg)![1];
  return path.split("L").map((point) => point.split(" ").map(Number) as [number, number]);
}

describe("the HTML report", () => {
  const html = renderHtml(fixtureComparison());

  test("needs nothing from the network", () => {
    const links = html.match(/(src|href)="[^"]*"|url\([^)]*\)|@import|https?:\/\//g) ?? [];
    expect(links).toEqual([]);
  });

  test("carries the whole result", () => {
    expect(dataOf(html, "report")).toEqual(fixtureComparison());
  });

  test("has a plot each for RSS, huge coverage, faults and walk cycles, with a line per setting", () => {
    const plots = html.match(/<svg class="chart".*?<\/svg>/g)!;
    expect(plots.map((svg) => /aria-label="([^:]*)/.exec(svg)![1])).toEqual([
      "RSS",
      "Huge coverage",
      "Faults",
      "Walk cycles",
    ]);
    expect(plots.map((svg) => svg.match(/class="line /g)!.length)).toEqual([3, 3, 3, 3]);
  });

  test("leaves the plot of walk cycles out if there is no order of accesses", () => {
    const result = fixtureComparison();
    const settings = result.settings.map((setting) => ({ ...setting, tlb: null }));
    expect(renderHtml({ ...result, settings })).not.toContain("Walk cycles");
  });

  test("shows the advice and the commands that follow it", () => {
    expect(html).toContain("Advice: always");
    expect(html).toContain("echo always &gt; /sys/kernel/mm/transparent_hugepage/enabled");
  });

  test("has a light and a dark theme with the same variables", () => {
    const [light, dark] = html.split("prefers-color-scheme: dark");
    const namesOf = (css: string) => new Set(css.split("}")[0].match(/--[a-z0-9]+(?=:)/g) ?? []);
    expect(namesOf(dark)).toEqual(namesOf(light.slice(light.indexOf(":root"))));
  });

  test("text from outside stays text", () => {
    const result = fixtureComparison();
    const evil = "</script><script>alert(1)</script>";
    const header = { ...result.trace.header, command: [evil] };
    const settings = result.settings.map((setting) => ({
      ...setting,
      name: `${evil}${setting.name}`,
    }));
    const advice = { setting: settings[0].name, text: evil };
    const notModelled = [evil];
    const trace = { ...result.trace, header };
    const page = renderHtml({ ...result, trace, settings, advice, notModelled });
    expect(page).not.toContain("<script>alert");
    expect(page.match(/<script/g)).toHaveLength(4);
    expect((dataOf(page, "report") as { advice: unknown }).advice).toEqual(advice);
  });
});

describe("a line chart", () => {
  const chart = {
    title: "t",
    unit: "u",
    at: [0, 0.5, 1],
    print: (value: number) => String(value),
    ticks: "decimal",
  } as const;

  test("draws values to scale: zero on the axis, twice the value twice as high", () => {
    const svg = lineChart({ ...chart, lines: [{ name: "a", index: 0, values: [0, 4, 8] }] });
    const [zero, half, full] = pointsOf(svg, 0);
    expect(zero[1] - full[1]).toBeCloseTo(2 * (zero[1] - half[1]), 1);
    expect(half[0] - zero[0]).toBeCloseTo(full[0] - half[0], 1);
  });

  test("has round ticks from zero to at least the largest value", () => {
    const svg = lineChart({ ...chart, lines: [{ name: "a", index: 0, values: [0, 30, 73] }] });
    const ticks = [...svg.matchAll(/text-anchor="end">(\d+)</g)].map((tick) => Number(tick[1]));
    expect(ticks).toEqual([0, 20, 40, 60, 80]);
  });

  test("has ticks that are round in binary units for bytes", () => {
    const values = [0, 700 * 2 ** 20, 861 * 2 ** 20];
    const print = (value: number) => String(value / 2 ** 20);
    const lines = [{ name: "a", index: 0, values }];
    const svg = lineChart({ ...chart, print, ticks: "binary", lines });
    const ticks = [...svg.matchAll(/text-anchor="end">([\d.]+)</g)].map((tick) => Number(tick[1]));
    expect(ticks).toEqual([0, 250, 500, 750, 1000]);
  });

  test("dashes a line that lies on an earlier one", () => {
    const same = [1, 2, 3];
    const svg = lineChart({
      ...chart,
      lines: [
        { name: "a", index: 0, values: same },
        { name: "b", index: 1, values: same },
        { name: "c", index: 2, values: [1, 2, 2] },
      ],
    });
    const dashed = [...svg.matchAll(/line-(\d)"[^>]*dasharray/g)].map((match) => match[1]);
    expect(dashed).toEqual(["1"]);
  });

  test("survives a series of zeros", () => {
    const svg = lineChart({ ...chart, lines: [{ name: "a", index: 0, values: [0, 0, 0] }] });
    expect(svg).not.toMatch(/NaN|Infinity/);
  });

  test("escapes names", () => {
    expect(escapeHtml(`<a href="x">'&`)).toBe("&lt;a href=&quot;x&quot;&gt;&#39;&amp;");
  });
});

describe("steps of a rate", () => {
  test("hold everything that was counted, however uneven the samples", () => {
    const { values } = stepsOf([0, 0.01, 0.02, 0.5, 1], [7, 100, 1, 40, 3], 10);
    const total = values.filter((_, i) => i % 2 === 0).reduce((sum, value) => sum + value, 0);
    expect(total).toBeCloseTo(151, 9);
  });

  test("spread a count evenly over its interval", () => {
    const { at, values } = stepsOf([0.5, 1], [10, 30], 4);
    expect(values).toEqual([5, 5, 5, 5, 15, 15, 15, 15]);
    expect(at).toEqual([0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75, 1]);
  });
});
