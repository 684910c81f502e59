/**
 * Where the ranges of a scenario lie: the same on every back end, so that layouts can be compared address by address.
 *
 * Entry: createLayout, then placeOf before a `map` or `remap` and noteRange after it; addressesOf for every other span.
 * Holds: a range keeps its place for good, whatever becomes of what is mapped there. Every `map` and `remap` that names no
 *        place takes the next window of 1 GiB, also when it fails.
 * Units: pages of 4 KiB; addresses in bytes.
 */

import { type Addr, PAGE_SIZE } from "../base/address.ts";
import { assert } from "../base/assert.ts";
import { CannotDo } from "./backend.ts";
import type { Action, ProcessMadvise, Span } from "./syntax.ts";

/** The n-th window begins at FIRST_WINDOW + n * WINDOW_BYTES, n from 1. */
export const FIRST_WINDOW: Addr = 0x100000000000;
export const WINDOW_BYTES = 2 ** 30;
/** Pages of a range that can be named: those of one window. */
export const WINDOW_PAGES = WINDOW_BYTES / PAGE_SIZE;
/** The range that `brk` moves the end of. */
export const HEAP = "heap";

export interface PlacedRange {
  readonly name: string;
  readonly start: Addr;
  readonly nrPages: number;
}

export interface Layout {
  /** By name, in the order of their first statement; those of failed `anywhere` mappings are missing. */
  readonly ranges: Map<string, PlacedRange>;
  nrWindows: number;
}

export function createLayout(): Layout {
  return { ranges: new Map(), nrWindows: 0 };
}

/** What a `map` or `remap` says about its place. */
type Placing = Extract<Action, { verb: "map" | "remap" }>;

/**
 * The address that the statement asks for, null where it leaves the choice to the kernel. For an `inplace` remap it is where
 * the old pages are. Takes a window if it needs one: call it once for each statement.
 */
export function placeOf(layout: Layout, action: Placing): Addr | null {
  const flags: readonly string[] = action.flags;
  if (action.at !== undefined) return addressesOf(layout, action.at).start;
  if (action.verb === "remap" && flags.includes("inplace"))
    return addressesOf(layout, action.span).start;
  if (flags.includes("anywhere")) return null;
  layout.nrWindows++;
  const skew = action.verb === "map" ? action.skewPages * PAGE_SIZE : 0;
  return FIRST_WINDOW + layout.nrWindows * WINDOW_BYTES + skew;
}

/** Pages of the range that the statement names. */
export function nrPagesNamed(layout: Layout, action: Placing): number {
  if (action.sizeBytes !== undefined) return Math.ceil(action.sizeBytes / PAGE_SIZE);
  assert(action.verb === "remap", "a map has a size");
  const { start, end } = addressesOf(layout, action.span);
  return (end - start) / PAGE_SIZE;
}

/** The range is at `start` from now on. */
export function noteRange(layout: Layout, name: string, start: Addr, nrPages: number): void {
  layout.ranges.set(name, { name, start, nrPages });
}

/** Elements of the vector of a process_madvise call; a length may be negative, as the call gives it. */
export function elementsOf(
  layout: Layout,
  { spans, nrElements = spans.length, offsetBytes = 0, lengthBytes }: ProcessMadvise,
): { start: Addr; length: number }[] {
  return Array.from({ length: nrElements }, (_, i) => {
    const { start, end } = addressesOf(layout, spans[Math.min(i, spans.length - 1)]);
    return { start: start + offsetBytes, length: lengthBytes ?? end - start };
  });
}

/** Byte addresses of a span, half-open. The range must have a place. */
export function addressesOf(layout: Layout, span: Span): { start: Addr; end: Addr } {
  const range = layout.ranges.get(span.range);
  if (range === undefined)
    throw new CannotDo(0, `range ${span.range} has no place: the call that was to map it failed`);
  const end = span.end < 0 ? range.nrPages : span.end;
  return {
    start: range.start + span.first * PAGE_SIZE,
    end: range.start + end * PAGE_SIZE,
  };
}
