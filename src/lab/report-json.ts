/**
 * The comparison as JSON: one versioned document, or one line per part as parts become known.
 *
 * Entry: renderJson, ndjsonLine. The shape is ComparisonResult's; its schema is docs/schema/compare-1.json.
 * Holds: no number is infinite or NaN, which JSON would silently turn into null.
 */

import { assert } from "../base/assert.ts";
import type {
  Advice,
  ComparisonResult,
  MachineSummary,
  SettingResult,
  TraceSummary,
} from "./result.ts";

/** One document, indented for people, ending with a newline. */
export function renderJson(document: ComparisonResult | ReplayDocument): string {
  return `${JSON.stringify(document, finiteOnly, 2)}\n`;
}

/** What `hugelab replay --json` prints: one setting, without a comparison. */
export interface ReplayDocument {
  readonly schema: "hugelab.replay";
  readonly version: 1;
  readonly trace: TraceSummary;
  readonly machine: MachineSummary;
  readonly setting: SettingResult;
  readonly notModelled: readonly string[];
}

/** The lines of `hugelab compare --ndjson`: settings in the order asked for, then the rest. */
export type ComparisonLine =
  | { readonly type: "setting"; readonly setting: SettingResult }
  | {
      readonly type: "comparison";
      readonly schema: "hugelab.compare";
      readonly version: number;
      readonly trace: TraceSummary;
      readonly machine: MachineSummary;
      readonly advice: Advice;
      readonly notModelled: readonly string[];
    };

/** One line of newline-delimited JSON. */
export function ndjsonLine(line: ComparisonLine): string {
  return `${JSON.stringify(line, finiteOnly)}\n`;
}

/** The last line of a stream: all of a comparison but its settings, which went before. */
export function closingLine(result: ComparisonResult): ComparisonLine {
  const { settings: _, ...rest } = result;
  return { type: "comparison", ...rest };
}

function finiteOnly(_key: string, value: unknown): unknown {
  assert(
    typeof value !== "number" || Number.isFinite(value),
    "a report holds a number that is not finite",
  );
  return value;
}
