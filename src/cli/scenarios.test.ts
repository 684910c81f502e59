import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, test } from "vitest";
import { NO_PAINT } from "../lab/paint.ts";
import { createModelBackend } from "../scenario/model-backend.ts";
import { runScenario } from "../scenario/run.ts";
import { readScenarios } from "./scenario-files.ts";
import { outcomeText } from "./scenario-report.ts";

// Every file of the library counts as a test of the rules in its header, because it is run here.
const LIBRARY = resolve(import.meta.dirname, "../../scenarios");

describe("the scenarios of the library hold on the model", () => {
  const scenarios = existsSync(LIBRARY) ? readScenarios([LIBRARY]) : [];
  const model = createModelBackend();
  test.each(
    scenarios.map((scenario) => [scenario.file.slice(join(LIBRARY, "/").length), scenario]),
  )("%s", (_, scenario) => {
    if (typeof scenario === "string") throw new Error("no scenario");
    const result = runScenario(scenario, model);
    const text = outcomeText(
      { kind: "ran", scenario, result, on: "model", nrUnstable: 0 },
      NO_PAINT,
    );
    expect(result.findings.length === 0 ? "" : text).toBe("");
  });
});
