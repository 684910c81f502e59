/**
 * The locks the kernel takes for a plain call, for tasks that run beside operations which hold some between their phases.
 *
 * Entry: locksOf, and sched's blockingLock: a task makes the call only if nobody else has one of them (ANON-330, ANON-334).
 * Holds: nothing is taken: a plain call is over before anyone could meet it.
 */

import type { Addr } from "../base/address.ts";
import type { Mm } from "../mm/state.ts";
import type { Vma } from "../mm/vma.ts";
import type { CallLock } from "../sched/locks.ts";
import { MADV } from "./madvise.ts";

/** Calls by what they do to an address space. */
export type CallKind = "fault" | "mmap" | "munmap" | "mremap" | "mprotect" | "fork" | "exit";

/** Advice that only looks for VMAs and changes what is mapped in them. */
const SHARED_ADVICE: ReadonlySet<number> = new Set([
  MADV.DONTNEED,
  MADV.DONTNEED_LOCKED,
  MADV.FREE,
  MADV.COLD,
  MADV.PAGEOUT,
  MADV.WILLNEED,
  MADV.POPULATE_READ,
  MADV.POPULATE_WRITE,
]);

/** Locks of a call on [start, end) of `mm`. Changes of VMAs also list or unlist them in their anon_vmas. */
export function locksOf(mm: Mm, kind: CallKind, start: Addr, end: Addr): readonly CallLock[] {
  if (kind === "fault") return [{ name: "mmap", id: mm.id, mode: "read" }];
  const isWhole = kind === "fork" || kind === "exit";
  const vmas = isWhole ? mm.vmas : mm.vmas.filter((vma) => vma.start < end && vma.end > start);
  return [{ name: "mmap", id: mm.id, mode: "write" }, ...vmas.flatMap(anonVmaLocks)];
}

/** Locks of an advice on [start, end); MADV_COLLAPSE takes and drops its own. */
export function locksOfAdvice(mm: Mm, advice: number, start: Addr, end: Addr): readonly CallLock[] {
  if (advice === MADV.COLLAPSE) return [];
  return SHARED_ADVICE.has(advice)
    ? locksOf(mm, "fault", start, end)
    : locksOf(mm, "mprotect", start, end);
}

function anonVmaLocks(vma: Vma): readonly CallLock[] {
  return vma.anonVmaChain.map(({ id }) => ({ name: "anonVma", id, mode: "write" }));
}
