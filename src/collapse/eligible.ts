/**
 * Which memory may be collapsed, and whether it still may after the mmap lock was dropped.
 *
 * Entry: collapseRefusal (COLL-080..094), revalidate (COLL-140).
 */

import { addrOf, HUGE_ORDER, HUGE_SIZE } from "../base/address.ts";
import { fitsOrder } from "../huge/eligibility.ts";
import type { HugeState } from "../huge/knobs.ts";
import type { Mm } from "../mm/state.ts";
import { firstVmaIndex, isAnonymous, VM, VM_SPECIAL, type Vma } from "../mm/vma.ts";
import { ACTOR, type Actor, SCAN, type ScanResult } from "./scan-result.ts";

/** Why a VMA may not be collapsed. */
export type CollapseRefusal =
  | "policy"
  | "noHugepage"
  | "thpDisabled"
  | "special"
  | "noRegion"
  | "file"
  | "temporaryStack"
  | "neverWritten";

/** The first reason against collapsing in this VMA, in the kernel's order; null if there is none. */
export function collapseRefusal(
  m: HugeState,
  mm: Mm,
  vma: Vma,
  actor: Actor,
): CollapseRefusal | null {
  const { flags } = vma;
  const isAdvised = (flags & VM.HUGEPAGE) !== 0;
  const isKhugepaged = actor === ACTOR.khugepaged;
  if (m.thpSupport !== "supported") return "policy";
  const orders = isAdvised ? m.policy.ordersAdvised : m.policy.ordersPlain;
  if (isKhugepaged && (orders & (1 << HUGE_ORDER)) === 0) return "policy";
  if ((flags & VM.NOHUGEPAGE) !== 0) return "noHugepage";
  if (mm.thpDisable === "all") return "thpDisabled";
  // COLL-083: who asks for a collapse has advised it.
  if (mm.thpDisable === "exceptAdvised" && isKhugepaged && !isAdvised) return "thpDisabled";
  if ((flags & VM_SPECIAL) !== 0) return "special";
  if (!fitsOrder(vma, vma.end - HUGE_SIZE, HUGE_ORDER)) return "noRegion";
  if (!isAnonymous(vma)) return "file";
  if ((flags & VM.TEMP_STACK) !== 0) return "temporaryStack";
  return vma.anonVma === null ? "neverWritten" : null;
}

/** SUCCEED, or what has changed while the region of private memory was not locked. */
export function revalidate(m: HugeState, mmId: number, region: number, actor: Actor): ScanResult {
  const mm = m.mms[mmId] ?? null;
  if (mm === null || mm.thpDisable === "all") return SCAN.ANY_PROCESS;
  const start = addrOf(region, 0);
  const vma = mm.vmas[firstVmaIndex(mm.vmas, start)];
  if (vma === undefined) return SCAN.VMA_NULL;
  if (vma.start > start || vma.end < start + HUGE_SIZE) return SCAN.ADDRESS_RANGE;
  const refusal = collapseRefusal(m, mm, vma, actor);
  if (refusal === null) return SCAN.SUCCEED;
  return refusal === "file" && vma.file!.kind === "shmem" ? SCAN.PAGE_ANON : SCAN.VMA_CHECK;
}

/** The VMA of a region after revalidate has found no fault. */
export function vmaOf(mm: Mm, region: number): Vma {
  return mm.vmas[firstVmaIndex(mm.vmas, addrOf(region, 0))];
}
