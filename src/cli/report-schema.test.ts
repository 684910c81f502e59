import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { fixtureComparison } from "../lab/comparison.fixture.ts";
import { renderJson } from "../lab/report-json.ts";
import { comparisonJsonSchema } from "./report-schema.ts";

const PUBLISHED = new URL("../../docs/schema/compare-1.json", import.meta.url);

/** The published schema as a validator. */
function publishedSchema() {
  return z.fromJSONSchema(JSON.parse(readFileSync(PUBLISHED, "utf8")));
}

describe("the published schema", () => {
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

  test("the published schema is the one in the code; `npm run build` writes it", () => {
    expect(JSON.parse(readFileSync(PUBLISHED, "utf8"))).toEqual(comparisonJsonSchema());
  });
});

function firstOf(result: Record<string, unknown>): Record<string, unknown> {
  return (result.settings as Record<string, unknown>[])[0];
}
