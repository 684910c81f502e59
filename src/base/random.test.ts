import { expect, test } from "vitest";
import { createRandom, nextBelow, nextU32 } from "./random.ts";

test("the same seed gives the same sequence, another seed another", () => {
  const sequence = (seed: number) => {
    const random = createRandom(seed);
    return Array.from({ length: 50 }, () => nextU32(random));
  };
  expect(sequence(7)).toEqual(sequence(7));
  expect(sequence(7)).not.toEqual(sequence(8));
  // Seeds that differ only above 32 bits differ too.
  expect(sequence(1)).not.toEqual(sequence(1 + 2 ** 32));
});

test("a saved state continues where it was", () => {
  const random = createRandom(3);
  nextU32(random);
  const saved = { ...random };
  const ahead = [nextU32(random), nextU32(random)];
  expect([nextU32(saved), nextU32(saved)]).toEqual(ahead);
});

test("numbers are integers of 32 bits and every bit is used", () => {
  const random = createRandom(1);
  const ones = new Array<number>(32).fill(0);
  for (let i = 0; i < 4000; i++) {
    const value = nextU32(random);
    expect(Number.isInteger(value) && value >= 0 && value < 2 ** 32).toBe(true);
    for (let bit = 0; bit < 32; bit++) ones[bit] += (value >>> bit) & 1;
  }
  // 4000 tosses of a coin: 2000 heads, standard deviation 32.
  for (const count of ones) expect(Math.abs(count - 2000)).toBeLessThan(5 * 32);
});

test("numbers below a bound reach all values evenly", () => {
  const random = createRandom(2);
  const counts = new Array<number>(10).fill(0);
  for (let i = 0; i < 10_000; i++) counts[nextBelow(random, 10)]++;
  for (const count of counts) expect(Math.abs(count - 1000)).toBeLessThan(5 * 30);
  expect(nextBelow(random, 1)).toBe(0);
});
