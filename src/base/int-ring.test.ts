import fc from "fast-check";
import { expect, test } from "vitest";
import {
  createIntRing,
  popHead,
  popTail,
  pushHead,
  pushHeads,
  pushSequence,
  pushTail,
  ringAt,
} from "./int-ring.ts";

test("a ring behaves as an array does, also while it grows", () => {
  const step = fc.constantFrom(
    "pushHead",
    "pushHeads",
    "pushSequence",
    "pushTail",
    "pushTail",
    "popHead",
    "popTail",
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const ring = createIntRing();
      const naive: number[] = [];
      for (const [value, how] of steps.entries()) {
        if (how === "pushHead") {
          pushHead(ring, value);
          naive.unshift(value);
        } else if (how === "pushHeads") {
          pushHeads(
            ring,
            Int32Array.from({ length: value + 2 }, (_, i) => i),
            1,
            value + 1,
          );
          for (let i = 1; i <= value; i++) naive.unshift(i);
        } else if (how === "pushSequence") {
          pushSequence(ring, value, 3 * value + 1, 2);
          for (let i = value; i <= 3 * value; i += 2) naive.push(i);
        } else if (how === "pushTail") {
          pushTail(ring, value);
          naive.push(value);
        } else if (naive.length > 0) {
          expect(how === "popHead" ? popHead(ring) : popTail(ring)).toBe(
            how === "popHead" ? naive.shift() : naive.pop(),
          );
        }
      }
      expect(ring.size).toBe(naive.length);
      expect(naive.map((_, i) => ringAt(ring, i))).toEqual(naive);
    }),
  );
});

test("two rings share nothing", () => {
  const [first, second] = [createIntRing(), createIntRing()];
  for (let i = 0; i < 200; i++) pushHead(first, i);
  expect(second.size).toBe(0);
  pushTail(second, 7);
  expect(popHead(first)).toBe(199);
  expect(popHead(second)).toBe(7);
});
