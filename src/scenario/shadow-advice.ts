/**
 * What a madvise call means for the contents of memory, whoever carried it out.
 */

import { ENOMEM } from "../base/errno.ts";
import { MADV } from "../syscall/madvise.ts";
import type { Shadow } from "./shadow.ts";

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
