/**
 * Seeded random numbers (sfc32): the only chance in the engine. Same seed, same sequence, in Node and in a browser.
 */

/** Four words of generator state; plain so that a snapshot can save it. */
export interface Random {
  a: number;
  b: number;
  c: number;
  counter: number;
}

/** A generator for `seed` (any integer). The first numbers are discarded so that near seeds differ. */
export function createRandom(seed: number): Random {
  const random: Random = {
    a: 0x9e3779b9 | 0,
    b: seed | 0,
    c: Math.floor(seed / 2 ** 32) | 0,
    counter: 1,
  };
  for (let i = 0; i < 12; i++) nextU32(random);
  return random;
}

/** The next number, 0..2^32-1. */
export function nextU32(random: Random): number {
  const sum = (((random.a + random.b) | 0) + random.counter) | 0;
  random.counter = (random.counter + 1) | 0;
  random.a = random.b ^ (random.b >>> 9);
  random.b = (random.c + (random.c << 3)) | 0;
  random.c = ((random.c << 21) | (random.c >>> 11)) + sum;
  random.c |= 0;
  return sum >>> 0;
}

/** An integer in 0..bound-1, for a bound up to 2^32. */
export function nextBelow(random: Random, bound: number): number {
  return Math.floor((nextU32(random) / 2 ** 32) * bound);
}
