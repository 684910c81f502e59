import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { AssertionFailure } from "../base/assert.ts";
import { fixtureComparison } from "./comparison.fixture.ts";
import { closingLine, ndjsonLine, renderJson } from "./report-json.ts";
import { comparisonJsonSchema } from "./report-schema.ts";

const PUBLISHED = new URL("../../docs/schema/compare-1.json", import.meta.url);

/** The published schema as a validator. */
function publishedSchema() {
  return z.fromJSONSchema(JSON.parse(readFileSync(PUBLISHED, "utf8")));
}

describe("the JSON report", () => {
  test("is the result itself", () => {
    const result = fixtureComparison();
    expect(JSON.parse(renderJson(result))).toEqual(result);
  });

  test("is what the published schema describes", () => {
    const parsed = JSON.parse(renderJson(fixtureComparison()));
    expect(publishedSchema().safeParse(parsed).error).toBeUndefined();
  });

  test.each([
    ["a missing part", (r: Record<string, unknown>) => delete r.advice],
    ["another version", (r: Record<string, unknown>) => Object.assign(r, { version: 2 })],
    [
      "a share above 1",
      (r: Record<string, unknown>) =>
        Object.assign(firstOf(r).huge as object, { coverageAtEnd: 1.5 }),
    ],
    [
      "text for a number",
      (r: Record<string, unknown>) => Object.assign(firstOf(r).faults as object, { total: "7" }),
    ],
  ])("with %s is refused by the published schema", (_, spoil) => {
    const parsed = JSON.parse(renderJson(fixtureComparison()));
    spoil(parsed);
    expect(publishedSchema().safeParse(parsed).success).toBe(false);
  });

  test("never hides a number that is not finite", () => {
    const result = fixtureComparison();
    const trace = { ...result.trace, nrTicks: Number.NaN };
    expect(() => renderJson({ ...result, trace })).toThrow(AssertionFailure);
  });

  test("the published schema is the one in the code; `npm run build` writes it", () => {
    expect(JSON.parse(readFileSync(PUBLISHED, "utf8"))).toEqual(comparisonJsonSchema());
  });
});

test("the stream holds each setting once, one line each, and the rest at the end", () => {
  const result = fixtureComparison();
  const text =
    result.settings.map((setting) => ndjsonLine({ type: "setting", setting })).join("") +
    ndjsonLine(closingLine(result));
  const lines = text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  expect(lines.map((line) => line.type)).toEqual(["setting", "setting", "setting", "comparison"]);
  expect(lines.slice(0, 3).map((line) => line.setting)).toEqual(result.settings);
  const { settings: _, ...rest } = result;
  expect(lines[3]).toEqual({ type: "comparison", ...rest });
});

function firstOf(result: Record<string, unknown>): Record<string, unknown> {
  return (result.settings as Record<string, unknown>[])[0]!;
}
