import { expect, test } from "vitest";
import { fixtureComparison } from "./comparison.fixture.ts";
import { renderMarkdown } from "./report-markdown.ts";

test("the table has one column per setting in every line, and the best value in bold", () => {
  const lines = renderMarkdown(fixtureComparison()).split("\n");
  const table = lines.filter((line) => line.startsWith("|"));
  expect(new Set(table.map((line) => line.split(/(?<!\\)\|/).length))).toEqual(new Set([6]));
  expect(table).toContain("| predicted | 1.00 s | 1.00 s | **890 ms** |");
  expect(table).toContain("| thp_split_pmd | 0 | 0 | 3 |");
});

test("the last paragraph is the advice", () => {
  const result = fixtureComparison();
  expect(renderMarkdown(result).trimEnd().endsWith(result.advice.text)).toBe(true);
});

test("names from outside cannot add markup or cells", () => {
  const result = fixtureComparison();
  const evil = { ...result.settings[2], name: "a|b<img>*c*\nd" };
  const text = renderMarkdown({ ...result, settings: [result.settings[0], evil] });
  expect(text).toContain("| never | a\\|b\\<img\\>\\*c\\* d |");
});

test("a command with backticks cannot end the block of facts", () => {
  const result = fixtureComparison();
  const header = { ...result.trace.header, command: ["sh", "-c", "```\n# gone"] };
  const text = renderMarkdown({ ...result, trace: { ...result.trace, header } });
  expect(text).toMatch(/^````text$/m);
  expect(text).toMatch(/^````$/m);
});
