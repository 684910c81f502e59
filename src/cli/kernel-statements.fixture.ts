/**
 * Statements for tests of the live back end, short enough to read as a scenario.
 */

import type { Observation, PageState, RangeObservation } from "../scenario/observation.ts";
import { PAGE_STATES } from "../scenario/observation.ts";
import type { Action, Header, MapFlag, Span, Statement } from "../scenario/syntax.ts";

export const MIB = 2 ** 20;
/** MADV_* by number. */
export const ADVICE = {
  DONTNEED: 4,
  HUGEPAGE: 14,
  PAGEOUT: 21,
  GUARD_INSTALL: 102,
} as const;

export function header(knobs: Readonly<Record<string, string>> = {}, swapBytes = 0): Header {
  return {
    title: "test",
    rules: [],
    on: "both",
    machine: {
      memoryBytes: 256 * MIB,
      nrCpus: 2,
      nrNodes: 1,
      profile: "linux-6.18",
      seed: 1,
      hasMemoryFailure: false,
    },
    knobs: Object.entries(knobs).map(([name, value]) => ({ name, value })),
    swapBytes,
  };
}

/** `action` by `actor`. */
export function by(actor: string, action: Action): Statement {
  return { line: 1, actor, action };
}

/** Pages [first, end) of a range; all of it without numbers. */
export function pages(range: string, first = 0, end = -1, step = 1): Span {
  return { range, first, end, step };
}

export function map(range: string, sizeBytes: number, ...flags: MapFlag[]): Action {
  return { verb: "map", range, sizeBytes, skewPages: 0, prot: "rw", flags };
}

export function madvise(span: Span, advice: keyof typeof ADVICE): Action {
  return { verb: "madvise", span, advice: ADVICE[advice] };
}

export function rangeOf(seen: Observation, process: string, range: string): RangeObservation {
  const found = seen.processes
    .find(({ name }) => name === process)
    ?.ranges.find(({ name }) => name === range);
  if (found === undefined) throw new Error(`no range ${range} in ${process}`);
  return found;
}

/** Runs of equal states, as in "small*1 none*511". */
export function statesOf(seen: Observation, process: string, range: string): string {
  const runs: { state: PageState; nr: number }[] = [];
  for (const index of rangeOf(seen, process, range).pages.state) {
    const state = PAGE_STATES[index];
    const last = runs.at(-1);
    if (last?.state === state) last.nr++;
    else runs.push({ state, nr: 1 });
  }
  return runs.map(({ state, nr }) => `${state}*${nr}`).join(" ");
}

/** The counters that scenarios compare: of huge pages, and per size. */
export function thpCounters(seen: Observation): Record<string, number> {
  return Object.fromEntries(
    Object.entries(seen.counters).filter(
      ([name]) => name.startsWith("thp_") || /^\d+kB\//.test(name),
    ),
  );
}
