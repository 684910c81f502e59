import { existsSync, readFileSync } from "node:fs";
import { relative } from "node:path";
import { describe, expect, test } from "vitest";
import { NO_PAINT } from "../lab/paint.ts";
import { createModelBackend } from "../scenario/model-backend.ts";
import { compareRecordings, readRecording, recordScenario } from "../scenario/recording.ts";
import { readScenarios } from "./scenario-files.ts";
import { findLibrary, readLedger, recordingPath } from "./scenario-library.ts";
import { outcomeText } from "./scenario-report.ts";

// Every file of the library counts as a test of the rules in its header, because it is run here.
const LIBRARY = findLibrary();
const LEDGER = readLedger(LIBRARY);

describe("the scenarios of the library hold on the model, which shows what the kernel showed", () => {
  const scenarios = readScenarios([LIBRARY]);
  const model = createModelBackend();
  test.each(scenarios.map((scenario) => ({ name: relative(LIBRARY, scenario.file), scenario })))(
    "$name",
    ({ name, scenario }) => {
      const { result, steps } = recordScenario(scenario, model);
      const text = outcomeText(
        { kind: "ran", scenario, result, on: "model", nrUnstable: 0 },
        NO_PAINT,
      );
      expect(result.findings.length === 0 ? "" : text).toBe("");

      const path = recordingPath(LIBRARY, scenario.file)!;
      if (!existsSync(path)) return;
      const kernel = readRecording(path, readFileSync(path, "utf8"));
      const isAccepted = (key: string) =>
        LEDGER.some((entry) => entry.scenario === name && entry.key === key);
      const differences = compareRecordings(steps, kernel).filter(({ key }) => !isAccepted(key));
      expect(differences).toEqual([]);
    },
  );
});
