/**
 * Double-ended queues of integers: a ring in one typed array that doubles when full.
 *
 * Cheaper than a linked list where members are only added and taken at the ends. Nothing is allocated before the first add.
 */

export interface IntRing {
  /** Length 0 or a power of two. Replaced when it grows. */
  slots: Int32Array;
  /** Slot of the first member; meaningless while `size` is 0. */
  head: number;
  /** Number of members. */
  size: number;
}

const FIRST_SLOTS = 64;
const NO_SLOTS = new Int32Array(0);

/** An empty ring. */
export function createIntRing(): IntRing {
  return { slots: NO_SLOTS, head: 0, size: 0 };
}

/** Adds in front of the first member. */
export function pushHead(ring: IntRing, value: number): void {
  if (ring.size === ring.slots.length) grow(ring);
  const head = (ring.head - 1) & (ring.slots.length - 1);
  ring.slots[head] = value;
  ring.head = head;
  ring.size++;
}

/** Adds behind the last member. */
export function pushTail(ring: IntRing, value: number): void {
  if (ring.size === ring.slots.length) grow(ring);
  ring.slots[(ring.head + ring.size) & (ring.slots.length - 1)] = value;
  ring.size++;
}

/** Adds values[start..end-1] one after the other in front of the first member: the last of them is first then. */
export function pushHeads(ring: IntRing, values: Int32Array, start: number, end: number): void {
  while (ring.size + end - start > ring.slots.length) grow(ring);
  const slots = ring.slots;
  const mask = slots.length - 1;
  let head = ring.head;
  for (let i = start; i < end; i++) {
    head = (head - 1) & mask;
    slots[head] = values[i]!;
  }
  ring.head = head;
  ring.size += end - start;
}

/** Adds first, first + step, ... below end, one after the other behind the last member. */
export function pushSequence(ring: IntRing, first: number, end: number, step: number): void {
  const nr = Math.ceil((end - first) / step);
  while (ring.size + nr > ring.slots.length) grow(ring);
  const slots = ring.slots;
  const mask = slots.length - 1;
  let tail = ring.head + ring.size;
  for (let value = first; value < end; value += step) slots[tail++ & mask] = value;
  ring.size += nr;
}

/** Takes the first member of a ring that is not empty. */
export function popHead(ring: IntRing): number {
  const value = ring.slots[ring.head];
  ring.head = (ring.head + 1) & (ring.slots.length - 1);
  ring.size--;
  return value;
}

/** Takes the last member of a ring that is not empty. */
export function popTail(ring: IntRing): number {
  ring.size--;
  return ring.slots[(ring.head + ring.size) & (ring.slots.length - 1)];
}

/** Member number `index`, counted from the first. */
export function ringAt(ring: IntRing, index: number): number {
  return ring.slots[(ring.head + index) & (ring.slots.length - 1)];
}

function grow(ring: IntRing): void {
  const slots = new Int32Array(Math.max(FIRST_SLOTS, 2 * ring.slots.length));
  for (let i = 0; i < ring.size; i++) slots[i] = ringAt(ring, i);
  ring.slots = slots;
  ring.head = 0;
}
