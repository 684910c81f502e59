import { describe, expect, test } from "vitest";
import { fixtureComparison, fixtureSetting, fixtureTrace } from "./comparison.fixture.ts";
import { NO_PAINT, type Paint } from "./paint.ts";
import { renderTable, wrap } from "./report-table.ts";
import type { ComparisonResult } from "./result.ts";

const PLAIN = { width: 120, bytes: "scaled", paint: NO_PAINT } as const;

/** The cells of the first line whose label is `name`, with their marks. */
function cellsOf(text: string, name: string): string[] {
  const line = text.split("\n").find((l) => /^ /.test(l) && l.trimStart().startsWith(`${name} `));
  if (line === undefined) throw new Error(`no row ${name}`);
  return line.trimStart().slice(name.length).trim().split(/ {2,}/);
}

function withSettings(...names: string[]): ComparisonResult {
  const settings = names.map((name) => fixtureSetting({ name, peakMib: 100, predictedMs: 1000 }));
  return { ...fixtureComparison(), settings };
}

describe("the table on the terminal", () => {
  test("has a column per setting and the values of each in its row", () => {
    const text = renderTable(fixtureComparison(), PLAIN);
    expect(text).toMatch(/^ +never +madvise +always$/m);
    expect(cellsOf(text, "predicted")).toEqual(["1.00 s!", "1.00 s!", "890 ms*"]);
    expect(cellsOf(text, "against never")).toEqual(["0.0 %", "0.0 %", "-11.0 %"]);
    expect(cellsOf(text, "peak RSS")).toEqual(["400 MiB*", "400 MiB*", "420 MiB!"]);
    expect(cellsOf(text, "huge coverage at the peak")).toEqual(["0.0 %", "0.0 %", "50.0 %"]);
  });

  test("tells permitted, eligible and in use apart", () => {
    const text = renderTable(fixtureComparison(), PLAIN);
    expect(cellsOf(text, "permitted")).toEqual(["0 B", "400 MiB", "420 MiB"]);
    expect(cellsOf(text, "eligible")).toEqual(["0 B", "300 MiB", "315 MiB"]);
    expect(cellsOf(text, "in use: 2048kB")).toEqual(["0 B", "0 B", "210 MiB"]);
  });

  test("prints exact bytes on request", () => {
    const text = renderTable(fixtureComparison(), { ...PLAIN, bytes: "exact" });
    expect(cellsOf(text, "peak RSS")).toEqual(["419430400*", "419430400*", "440401920!"]);
  });

  test("ends with the advice as a paragraph", () => {
    const result = fixtureComparison();
    const paragraphs = renderTable(result, PLAIN).trimEnd().split("\n\n");
    expect(paragraphs.at(-1)!.replaceAll("\n", " ")).toBe(result.advice.text);
  });

  test("leaves out translation when the recording has no order of accesses", () => {
    const result = fixtureComparison();
    const settings = result.settings.map((setting) => ({ ...setting, tlb: null }));
    const text = renderTable({ ...result, settings }, PLAIN);
    expect(text).not.toContain("TLB misses");
    expect(renderTable(result, PLAIN)).toContain("TLB misses");
  });

  test("leaves out predicted times that nobody knows, and shows a dash where only one is missing", () => {
    const known = fixtureSetting({ name: "never", peakMib: 1, predictedMs: 10 });
    const unknown = fixtureSetting({ name: "always", peakMib: 1, predictedMs: null });
    const both = { ...fixtureComparison(), settings: [known, unknown] };
    expect(cellsOf(renderTable(both, PLAIN), "predicted")).toEqual(["10.0 ms", "-"]);
    const none = { ...fixtureComparison(), settings: [unknown] };
    expect(renderTable(none, PLAIN)).not.toMatch(/^ +predicted /m);
  });

  test.each([40, 60, 80, 100])("no line is wider than %i columns", (width) => {
    const text = renderTable(withSettings("never", "madvise", "always", "a", "b", "c", "d"), {
      ...PLAIN,
      width,
    });
    const tooWide = text.split("\n").filter((line) => line.length > width);
    // A label with the baseline's and one more column is the narrowest table there is.
    const narrowest = "    page walks (simulated)".length + 2 * 14;
    expect(
      tooWide.filter((line) => line.length > narrowest && !line.startsWith("  echo ")),
    ).toEqual([]);
  });

  test("settings that do not fit side by side go on in a second table with the baseline", () => {
    const text = renderTable(withSettings("never", "b", "c", "d", "e", "f"), {
      ...PLAIN,
      width: 70,
    });
    const heads = text.split("\n").filter((line) => /^ +never( +\w)+$/.test(line));
    expect(heads.length).toBeGreaterThan(1);
    expect(heads.flatMap((line) => line.trim().split(/ +/)).filter((n) => n !== "never")).toEqual([
      "b",
      "c",
      "d",
      "e",
      "f",
    ]);
  });

  test("colours only what is also marked", () => {
    const paint: Paint = {
      ...NO_PAINT,
      good: (text) => `<good>${text}</good>`,
      bad: (text) => `<bad>${text}</bad>`,
    };
    const text = renderTable(fixtureComparison(), { ...PLAIN, paint });
    const painted = [...text.matchAll(/<(good|bad)>(.*?)<\//g)].map((m) => [m[1], m[2].trim()]);
    const cells = painted.filter(([, cell]) => cell !== "always");
    expect(cells.length).toBeGreaterThan(0);
    expect(cells.every(([tone, cell]) => cell.endsWith(tone === "good" ? "*" : "!"))).toBe(true);
  });

  test("quotes the program as a shell would need it", () => {
    expect(renderTable(fixtureComparison(), PLAIN)).toContain(
      "sort --parallel=1 'words & <more>.txt'",
    );
  });

  test("names both peaks when there are several processes", () => {
    const trace = { ...fixtureTrace(), nrProcesses: 2 };
    const text = renderTable({ ...fixtureComparison(), trace }, PLAIN);
    expect(text).toContain("peak RSS, largest process");
    expect(text).toContain("peak RSS, all processes");
  });
});

describe("wrapping", () => {
  test("breaks at blanks, indents what follows and loses no word", () => {
    const text = "one two three four five six";
    const lines = wrap(text, 11, 2);
    expect(lines).toEqual(["one two", "  three", "  four five", "  six"]);
  });

  test("keeps a number with what follows it", () => {
    expect(wrap("grows by 102 400 MiB more", 12)).toEqual(["grows by", "102 400 MiB", "more"]);
  });
});
