/**
 * Order of use of the ways of one set, packed: four bits a place, latest first.
 *
 * Entry: FIRST_ORDER (of an empty set), makeLatest, oldestMadeLatest, makeOldest.
 * Owns:  nothing; the order is one word of a set up to 8 ways, two for 9 to 16, at `at` and `at + 1` of its array.
 * Holds: the places together name each of 0..7 (0..15) once; those behind the last way keep their first names.
 *
 * A hit at any place costs the same few operations and no branch: which way of a set is hit cannot be foretold, by a
 * processor either.
 */

/** Ways 0..7 and 8..15 in order. */
export const FIRST_ORDER = [0x76543210, 0xfedcba98 | 0] as const;
/** Most ways that one word orders. */
export const NARROW_WAYS = 8;
export const WIDE_WAYS = 16;

/** One in each place. */
const ONES = 0x11111111;
/** Highest bit of each place. */
const HIGH_BITS = 0x88888888 | 0;

/** Way `way` becomes the latest of a set of at most 8. */
export function makeLatest(words: Int32Array, at: number, way: number): void {
  const order = words[at];
  words[at] = moved(order, shiftOf(order, way), way);
}

/** As makeLatest, of a set of 9 to 16. */
export function makeLatestWide(words: Int32Array, at: number, way: number): void {
  const near = words[at];
  if (placesOf(near, way) !== 0) {
    words[at] = moved(near, shiftOf(near, way), way);
    return;
  }
  const far = words[at + 1];
  words[at] = (near << 4) | way;
  words[at + 1] = moved(far, shiftOf(far, way), near >>> 28);
}

/** The oldest way of a set of at most 8, now the latest; `lastShift` is four times the last place. */
export function oldestMadeLatest(words: Int32Array, at: number, lastShift: number): number {
  const order = words[at];
  const way = (order >>> lastShift) & 15;
  words[at] = moved(order, lastShift, way);
  return way;
}

/** As oldestMadeLatest, of a set of 9 to 16; `lastShift` is four times the last place of the second word. */
export function oldestMadeLatestWide(words: Int32Array, at: number, lastShift: number): number {
  const near = words[at];
  const far = words[at + 1];
  const way = (far >>> lastShift) & 15;
  words[at] = (near << 4) | way;
  words[at + 1] = moved(far, lastShift, near >>> 28);
  return way;
}

/** Way `way` becomes the oldest of `nrWays`; the others keep their order. */
export function makeOldest(words: Int32Array, at: number, nrWays: number, way: number): void {
  let place = 0;
  while (wayAt(words, at, place) !== way) place++;
  for (; place < nrWays - 1; place++) setWayAt(words, at, place, wayAt(words, at, place + 1));
  setWayAt(words, at, nrWays - 1, way);
}

/** `order` with the place at `shift` taken out and `way` put in front. */
function moved(order: number, shift: number, way: number): number {
  const before = (1 << shift) - 1;
  return (order & ~((before << 4) | 15)) | ((order & before) << 4) | way;
}

/** Four times the place of `way`, which `order` names. */
function shiftOf(order: number, way: number): number {
  const places = placesOf(order, way);
  return 28 - Math.clz32(places & (0 - places));
}

/** Highest bit of the first place that names `way`, perhaps of later ones; 0 if none does. */
function placesOf(order: number, way: number): number {
  const differs = order ^ Math.imul(way, ONES);
  return (differs - ONES) & ~differs & HIGH_BITS;
}

function wayAt(words: Int32Array, at: number, place: number): number {
  return (words[at + (place >>> 3)] >>> ((place & 7) * 4)) & 15;
}

function setWayAt(words: Int32Array, at: number, place: number, way: number): void {
  const word = at + (place >>> 3);
  const shift = (place & 7) * 4;
  words[word] = (words[word] & ~(15 << shift)) | (way << shift);
}
