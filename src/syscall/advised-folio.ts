/**
 * A large folio that a madvise range covers only partly.
 *
 * Entry: splitForAdvice.
 */

import type { Pfn } from "../base/address.ts";
import type { HugeState } from "../huge/knobs.ts";
import { splitFolio } from "../huge/split-folio.ts";
import { putFolio } from "../mm/folio.ts";

/** A folio split on behalf of madvise, with the reference it needs. False if the folio is in use elsewhere. */
export function splitForAdvice(m: HugeState, head: Pfn): boolean {
  m.frames.refcount[head]++;
  const isSplit = splitFolio(m, head) === 0;
  putFolio(m, head, 1);
  return isSplit;
}
