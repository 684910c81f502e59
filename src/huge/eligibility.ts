/**
 * Which folio orders a VMA may use, and where.
 *
 * Entry: allowedOrders (the policy), fitsOrder (the bounds), isThpEligible (what smaps reports).
 */

import { type Addr, alignDown, HUGE_ORDER, PAGE_SIZE } from "../base/address.ts";
import type { Mm } from "../mm/state.ts";
import { isAnonymous, VM, VM_SPECIAL, type Vma } from "../mm/vma.ts";
import type { HugeState } from "./knobs.ts";

/** Bit `order` set for each order the policy allows faults in this VMA to use (ANON-020..031). */
export function allowedOrders(m: HugeState, mm: Mm, vma: Vma): number {
  if (!isAnonymous(vma) || (vma.flags & (VM.NOHUGEPAGE | VM.TEMP_STACK)) !== 0) return 0;
  const isAdvised = (vma.flags & VM.HUGEPAGE) !== 0;
  if (mm.thpDisable === "all" || (mm.thpDisable === "exceptAdvised" && !isAdvised)) return 0;
  return isAdvised ? m.policy.ordersAdvised : m.policy.ordersPlain;
}

/** Allocation effort for a huge folio in this VMA. */
export function hugeGfp(m: HugeState, vma: Vma): number {
  return (vma.flags & VM.HUGEPAGE) !== 0 ? m.policy.gfpAdvised : m.policy.gfpPlain;
}

/** True if the aligned block of `order` around `addr` lies inside the VMA (ANON-027). */
export function fitsOrder(vma: Vma, addr: Addr, order: number): boolean {
  const size = PAGE_SIZE << order;
  const start = alignDown(addr, size);
  return start >= vma.start && start + size <= vma.end;
}

/** THPeligible of smaps: some allowed order's highest aligned block fits at the VMA's end (ANON-028, ANON-302). */
export function isThpEligible(m: HugeState, mm: Mm, vma: Vma): boolean {
  const orders = allowedOrders(m, mm, vma);
  for (let order = HUGE_ORDER; order >= 2; order--)
    if ((orders & (1 << order)) !== 0 && fitsOrder(vma, vma.end - (PAGE_SIZE << order), order))
      return true;
  return false;
}

/**
 * True if khugepaged has anything to do in the VMA: 2 MiB are allowed and fit, it is ordinary memory and had a private page.
 * Faults do not ask for the last two (ANON-023, COLL-090).
 */
export function mayCollapse(m: HugeState, mm: Mm, vma: Vma): boolean {
  if ((vma.flags & VM_SPECIAL) !== 0 || vma.anonVma === null) return false;
  const isAllowed = (allowedOrders(m, mm, vma) & (1 << HUGE_ORDER)) !== 0;
  return isAllowed && fitsOrder(vma, vma.end - (PAGE_SIZE << HUGE_ORDER), HUGE_ORDER);
}
