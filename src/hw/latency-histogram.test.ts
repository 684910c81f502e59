/**
 * The histogram against sorted arrays.
 */

import fc from "fast-check";
import { expect, test } from "vitest";
import {
  createLatencyHistogram,
  latencyQuantile,
  mergeLatencies,
  recordLatency,
} from "./latency-histogram.ts";

const latencies = fc.array(
  fc.oneof(fc.integer({ min: 0, max: 100 }), fc.integer({ min: 0, max: 2 ** 45 })),
  { minLength: 1, maxLength: 200 },
);

test("a quantile is never below the sorted array's value and at most 1/32 above it", () => {
  fc.assert(
    fc.property(latencies, fc.constantFrom(0, 0.5, 0.9, 0.99, 1), (values, q) => {
      const histogram = createLatencyHistogram();
      for (const value of values) recordLatency(histogram, value);
      const sorted = [...values].sort((a, b) => a - b);
      const exact = sorted[Math.max(1, Math.ceil(q * values.length)) - 1];

      const found = latencyQuantile(histogram, q);

      expect(found).toBeGreaterThanOrEqual(exact);
      expect(found).toBeLessThanOrEqual(exact * (1 + 1 / 32));
    }),
  );
});

test("maximum, number and sum are exact, also after merging and for values beyond the last bucket", () => {
  const all = createLatencyHistogram();
  const other = createLatencyHistogram();
  recordLatency(all, 1370, 3);
  recordLatency(other, 2 ** 50);
  mergeLatencies(all, other);

  expect(all).toMatchObject({ nrValues: 4, sumNs: 3 * 1370 + 2 ** 50, maxNs: 2 ** 50 });
});

test("an empty histogram answers 0", () => {
  expect(latencyQuantile(createLatencyHistogram(), 0.99)).toBe(0);
});
