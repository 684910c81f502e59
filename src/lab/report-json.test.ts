import { describe, expect, test } from "vitest";
import { AssertionFailure } from "../base/assert.ts";
import { fixtureComparison } from "./comparison.fixture.ts";
import { closingLine, ndjsonLine, renderJson } from "./report-json.ts";

describe("the JSON report", () => {
  test("is the result itself", () => {
    const result = fixtureComparison();
    expect(JSON.parse(renderJson(result))).toEqual(result);
  });

  test("never hides a number that is not finite", () => {
    const result = fixtureComparison();
    const trace = { ...result.trace, nrTicks: Number.NaN };
    expect(() => renderJson({ ...result, trace })).toThrow(AssertionFailure);
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
