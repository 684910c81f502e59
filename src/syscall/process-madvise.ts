/**
 * process_madvise(2): one advice for several ranges of another process, or of the caller.
 *
 * Entry: sysProcessMadvise. Its checks come in the order of COLL-260; each range is then a madvise of its own (section 13).
 * Rules: COLL-260..267, COLL-506.
 */

import { type Addr, PAGE_SIZE } from "../base/address.ts";
import { EACCES, EBADF, EFAULT, EINVAL, EPERM, ESRCH } from "../base/errno.ts";
import type { HugeState } from "../huge/knobs.ts";
import type { Mm } from "../mm/state.ts";
import { MADV, sysMadvise } from "./madvise.ts";

/** One element of the vector. Bytes; a length is signed as the kernel sees it. */
export interface IoElement {
  readonly start: Addr;
  readonly length: number;
}

/**
 * Whom the pidfd names. "self": PIDFD_SELF. "notAPidfd": anything else that is no pidfd. "noMemory": a process that has ended or a
 * kernel thread. `rights`: what the caller may do with another process: all, look at it without CAP_SYS_NICE, or nothing.
 */
export type PidfdTarget =
  | { readonly mm: Mm; readonly rights?: "all" | "noNice" | "none" }
  | "self"
  | "notAPidfd"
  | "noMemory";

/** Elements that a vector may have. */
const MOST_ELEMENTS = 1024;
/** What is behind this many bytes is cut off, as of every vector. */
const MOST_BYTES = 0x7ffff000;
const USER_SPACE = 2 ** 47 - PAGE_SIZE;
/** What may be advised to another process (COLL-261). */
const FOR_OTHERS: ReadonlySet<number> = new Set([
  MADV.COLD,
  MADV.PAGEOUT,
  MADV.WILLNEED,
  MADV.COLLAPSE,
]);

/**
 * Bytes of the elements that were done before one failed; the error of the first if it was that one (COLL-265). `vector`: null if it
 * cannot be read. `nrElements`: as the call gives it, if more than the vector has.
 */
export function sysProcessMadvise(
  m: HugeState,
  caller: Mm,
  target: PidfdTarget,
  vector: readonly IoElement[] | null,
  advice: number,
  flags = 0,
): number {
  const problem = flags !== 0 ? -EINVAL : vectorProblem(vector);
  if (problem !== 0 || vector === null) return problem;
  const { processMadviseOwn } = m.profile;
  if (target === "notAPidfd" || (target === "self" && processMadviseOwn === "remoteOnly"))
    return -EBADF;
  const isForOthers = FOR_OTHERS.has(advice);
  if (processMadviseOwn === "remoteOnly" && !isForOthers) return -EINVAL;
  if (target === "noMemory") return -ESRCH;
  const mm = target === "self" ? caller : target.mm;
  const rights = target === "self" || mm === caller ? "all" : (target.rights ?? "all");
  if (rights === "none") return -EACCES;
  if (mm !== caller && !isForOthers) return -EINVAL;
  if (rights === "noNice") return -EPERM;
  return adviseAll(m, mm, vector, advice);
}

function vectorProblem(vector: readonly IoElement[] | null): number {
  if (vector === null) return -EFAULT;
  if (vector.length > MOST_ELEMENTS) return -EINVAL;
  for (const { start, length } of vector) {
    if (length < 0) return -EINVAL;
    if (start + length > USER_SPACE) return -EFAULT;
  }
  return 0;
}

function adviseAll(m: HugeState, mm: Mm, vector: readonly IoElement[], advice: number): number {
  let nrDone = 0;
  for (const { start, length } of vector) {
    const nr = Math.min(length, MOST_BYTES - nrDone);
    const failed = sysMadvise(m, mm, start, nr, advice);
    if (failed !== 0) return nrDone > 0 ? nrDone : failed;
    nrDone += nr;
  }
  return nrDone;
}
