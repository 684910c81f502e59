/**
 * What a madvise call means for the contents of memory, whoever carried it out.
 */

import { type Addr, PAGE_SIZE } from "../base/address.ts";
import { ENOMEM } from "../base/errno.ts";
import { MADV } from "../syscall/madvise.ts";
import type { Shadow } from "./shadow.ts";

/** Pages that [start, start + length) touches; none for a length that is negative. */
export function pagesTouched(start: Addr, length: number): [first: number, nr: number] {
  const first = Math.floor(start / PAGE_SIZE);
  return [first, Math.max(0, Math.ceil((start + Math.max(length, 0)) / PAGE_SIZE) - first)];
}

/** As noteAdvice for every element of a process_madvise call that returned `result`: a sum of lengths, or -errno. */
export function noteProcessAdvice(
  shadow: Shadow,
  advice: number,
  elements: readonly { readonly start: Addr; readonly length: number }[],
  result: number,
): void {
  let left = result;
  for (const { start, length } of elements) {
    const isDone = left >= length && length >= 0 && result >= 0;
    if (isDone) left -= length;
    noteAdvice(shadow, advice, ...pagesTouched(start, length), isDone ? 0 : -1);
  }
}

/** `first`, `nr`: pages of the call; `result`: what it returned. */
export function noteAdvice(
  shadow: Shadow,
  advice: number,
  first: number,
  nr: number,
  result: number,
): void {
  // A hole is reported at the end, everything else at once.
  const isDone = result === 0 || result === -ENOMEM;
  switch (advice) {
    case MADV.DONTNEED:
    case MADV.DONTNEED_LOCKED:
      if (isDone) shadow.drop(first, nr);
      else shadow.doubt(first, nr);
      break;
    case MADV.FREE:
    case MADV.GUARD_INSTALL:
      shadow.doubt(first, nr);
      break;
    case MADV.DONTFORK:
    case MADV.DOFORK:
      if (isDone) shadow.advise(first, nr, { isDroppedAtFork: advice === MADV.DONTFORK });
      break;
    case MADV.WIPEONFORK:
    case MADV.KEEPONFORK:
      if (isDone) shadow.advise(first, nr, { isWipedAtFork: advice === MADV.WIPEONFORK });
  }
}
