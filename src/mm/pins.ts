/**
 * References from outside the page tables: pins for device access (FOLL_PIN) and plain ones (FOLL_GET, pipes).
 *
 * A pin on any page acts on the whole folio; which page is pinned is unknown afterwards (ANON-134, ANON-135).
 */

import type { Pfn } from "../base/address.ts";
import { headOf } from "../phys/frame-table.ts";
import { putFolio } from "./folio.ts";
import type { Mm, MmState } from "./state.ts";

/** What one FOLL_PIN adds to the reference count of a small folio. */
const SMALL_PIN_BIAS = 1024;

/** Pins `nr` pages of the folio of `pfn`, mapped by `mm`. */
export function pinPages(m: MmState, mm: Mm, pfn: Pfn, nr: number): void {
  const frames = m.frames;
  const head = headOf(frames, pfn);
  mm.hasPinned = true;
  if (frames.order[head] > 0) {
    frames.refcount[head] += nr;
    frames.pincount[head] += nr;
  } else {
    frames.refcount[head] += nr * SMALL_PIN_BIAS;
  }
}

/** Drops `nr` pins; the folio is freed if nothing else holds it. */
export function unpinPages(m: MmState, pfn: Pfn, nr: number): void {
  const frames = m.frames;
  const head = headOf(frames, pfn);
  if (frames.order[head] > 0) frames.pincount[head] -= nr;
  putFolio(m, head, frames.order[head] > 0 ? nr : nr * SMALL_PIN_BIAS);
}

/** A reference that is not a pin. */
export function getPage(m: MmState, pfn: Pfn): void {
  m.frames.refcount[headOf(m.frames, pfn)]++;
}

/** FOLL_PIN: exact for a large folio, a guess from the reference count for a small one (ANON-135). */
export function isMaybePinned(m: MmState, head: Pfn): boolean {
  const { order, pincount, refcount } = m.frames;
  return order[head] > 0 ? pincount[head] > 0 : refcount[head] >= SMALL_PIN_BIAS;
}

export function putPage(m: MmState, pfn: Pfn): void {
  putFolio(m, headOf(m.frames, pfn), 1);
}
