/**
 * The steps of a random history: what there is, how often, and which pages a step means.
 *
 * Entry: STEP_WEIGHTS, Step, rangeOf. Steps are plain integers, so that a failing list shrinks well. Used by tests only.
 */

import { PTES_PER_REGION } from "../base/address.ts";

/** What a step does, and how often. */
export const STEP_WEIGHTS = {
  huge: 10,
  write: 12,
  read: 6,
  fill: 4,
  map: 6,
  unmap: 4,
  protect: 4,
  move: 5,
  resize: 3,
  dontneed: 4,
  free: 3,
  guard: 3,
  lock: 3,
  unlock: 2,
  hugeAdvice: 4,
  forkAdvice: 1,
  otherAdvice: 1,
  willNeed: 2,
  cold: 2,
  pageOut: 8,
  populate: 5,
  brk: 2,
  stack: 1,
  fork: 4,
  exit: 2,
  exec: 1,
  pin: 3,
  get: 2,
  letGo: 3,
  knob: 4,
  shrink: 3,
  splitFolio: 6,
  collapse: 8,
  collapseNow: 3,
  hold: 1,
  holdAll: 1,
  release: 4,
  swapOn: 2,
  swapOff: 1,
} as const;

export type StepName = keyof typeof STEP_WEIGHTS;
/** The numbers choose process, place, length and variant; any integers from 0 on will do. */
export interface Step {
  readonly name: StepName;
  readonly who: number;
  readonly at: number;
  readonly length: number;
  readonly variant: number;
}

/** All mappings of the test lie in this many pages from here (page numbers), so that they meet often. */
export const WINDOW = 2 ** 28;
export const WINDOW_PAGES = 7 * PTES_PER_REGION;
export const MOST_PROCESSES = 4;
/** Sizes of swap devices: with and without whole clusters, and one that is soon full. */
export const DEVICE_PAGES = [4096, 1024, 700, 300] as const;
export const LENGTHS = [
  1, 2, 3, 8, 15, 16, 17, 100, 255, 256, 511, 512, 513, 600, 1024, 1536,
] as const;
export const PROTS = [3, 3, 3, 1, 0, 2] as const;
export const KNOB_WRITES = [
  ["thp.enabled", "always"],
  ["thp.enabled", "always"],
  ["thp.enabled", "madvise"],
  ["thp.enabled", "never"],
  ["thp.use_zero_page", "0"],
  ["thp.use_zero_page", "1"],
  ["thp.defrag", "always"],
  ["thp.defrag", "never"],
  ["thp.shrink_underused", "0"],
  ["thp.shrink_underused", "1"],
  ["thp.hugepages-2048kB.enabled", "always"],
  ["thp.hugepages-2048kB.enabled", "inherit"],
  ["thp.hugepages-64kB.enabled", "always"],
  ["thp.hugepages-64kB.enabled", "never"],
  ["thp.hugepages-16kB.enabled", "inherit"],
  ["thp.hugepages-1024kB.enabled", "always"],
  ["thp.hugepages-1024kB.enabled", "never"],
  ["khugepaged.max_ptes_none", "511"],
  ["khugepaged.max_ptes_none", "100"],
  ["khugepaged.max_ptes_shared", "511"],
  ["khugepaged.max_ptes_swap", "511"],
  ["khugepaged.defrag", "0"],
] as const;

/** First page and length of the step's range, anywhere in the window. */
export function rangeOf(step: Step): { first: number; nr: number } {
  const nr = LENGTHS[step.length % LENGTHS.length];
  // Half of all ranges start on a 2 MiB boundary.
  const at = step.at % WINDOW_PAGES;
  const start = step.at % 2 === 0 ? at - (at % PTES_PER_REGION) : at;
  return { first: WINDOW + start, nr };
}
