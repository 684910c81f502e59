/**
 * Why a 2 MiB window of an address space is not a huge page: the first reason by name, with the rule it comes from.
 *
 * Entry: explainWindow; REASONS for lists. Nothing of the machine is changed.
 * Holds: reasons are asked in the order in which a fault, and then khugepaged, would be refused: is anything mapped, is it
 *        permitted, does it fit, is a PTE table in the way, what would a scan say. A fault that found no memory leaves no trace in
 *        the machine: afterwards the PTE table is the reason.
 * Rules: ANON-020..031, 060, 073, 080; COLL-080..090, 100..111.
 */

import { addrOf, HUGE_ORDER, HUGE_SIZE, PTES_PER_REGION } from "../base/address.ts";
import { collapseFields } from "../collapse/collapse-op.ts";
import { collapseRefusal } from "../collapse/eligible.ts";
import { scanRegion } from "../collapse/scan.ts";
import { ACTOR, SCAN, scanResultName } from "../collapse/scan-result.ts";
import { allowedOrders, fitsOrder } from "../huge/eligibility.ts";
import { ENTRY, pmdSlotOf } from "../mm/page-tables.ts";
import type { Mm } from "../mm/state.ts";
import { firstVmaIndex, isAnonymous, VM, type Vma } from "../mm/vma.ts";
import { headOf } from "../phys/frame-table.ts";
import type { Operation } from "../sched/state.ts";
import type { Machine } from "./machine.ts";

/** Names by which a reason is asked for; those of a scan are the kernel's words (scan-result.ts). */
export const REASONS = {
  unmapped: { rule: "ANON-027", text: "no memory is mapped there" },
  "not-supported": { rule: "ANON-020", text: "the kernel or the processor has no huge pages" },
  "not-anonymous": { rule: "ANON-020", text: "the mapping is of a file or shared" },
  "no-hugepage": { rule: "ANON-022", text: "MADV_NOHUGEPAGE forbids it" },
  "temporary-stack": { rule: "ANON-025", text: "the stack of a program that is being started" },
  "thp-disabled": { rule: "ANON-030", text: "prctl switched huge pages off for the process" },
  "not-advised": {
    rule: "ANON-021",
    text: "the policy asks for MADV_HUGEPAGE, which was not given",
  },
  policy: { rule: "ANON-021", text: "the policy of 2048kB is never" },
  bounds: { rule: "ANON-027", text: "the mapping does not cover the aligned 2 MiB" },
  untouched: { rule: "ANON-060", text: "nothing was touched yet: the next fault can be huge" },
  migrating: { rule: "ANON-073", text: "the page is being moved or split" },
  "huge-zero": { rule: "ANON-080", text: "only read so far: the huge zero page is mapped" },
  "pte-mapped": { rule: "ANON-041", text: "a huge page that is mapped by 4K entries" },
  "pte-table": {
    rule: "ANON-060",
    text: "4K entries are in the way of a huge fault; khugepaged would collapse",
  },
  special: { rule: "COLL-085", text: "4K entries; khugepaged leaves device-like memory alone" },
  "no-khugepaged": { rule: "COLL-080", text: "4K entries, and khugepaged may not collapse here" },
} as const;

export type ReasonName = keyof typeof REASONS;

/** One reason. `name` is one of REASONS or a scan result such as "exceed_none_pte". */
export interface Reason {
  readonly name: string;
  readonly rule: string;
  readonly text: string;
}

export interface WindowState {
  /** The policy, the VMA's advice and the process allow 2 MiB here. */
  readonly isPermitted: boolean;
  /** And the VMA covers the window. */
  readonly isEligible: boolean;
  readonly isHuge: boolean;
  /** Null if it is huge. */
  readonly reason: Reason | null;
  /** Pages that are mapped, and swapped out, of the 512. */
  readonly nrPresent: number;
  readonly nrSwapped: number;
}

/** What the window of `region` is. */
export function explainWindow(m: Machine, mm: Mm, region: number): WindowState {
  const start = addrOf(region, 0);
  const vma = mm.vmas[firstVmaIndex(mm.vmas, start)];
  const none = { isHuge: false, nrPresent: 0, nrSwapped: 0 };
  if (vma === undefined || vma.start >= start + HUGE_SIZE)
    return { ...none, isPermitted: false, isEligible: false, reason: named("unmapped") };
  const counts = countPages(m, mm, region);
  const slot = pmdSlotOf(m.tables, mm.root, region);
  const entry = slot < 0 ? 0 : m.tables.flags[slot];
  const refused = permissionOf(m, mm, vma);
  const isPermitted = refused === null;
  const isEligible = isPermitted && fitsOrder(vma, start, HUGE_ORDER);
  const isHuge = (entry & (ENTRY.HUGE | ENTRY.PRESENT | ENTRY.SPECIAL)) === HUGE_PAGE;
  const reason = isHuge ? null : firstReason(m, mm, vma, region, slot, refused, isEligible);
  return { isPermitted, isEligible, isHuge, reason, ...counts };
}

const HUGE_PAGE = ENTRY.HUGE | ENTRY.PRESENT;

function firstReason(
  m: Machine,
  mm: Mm,
  vma: Vma,
  region: number,
  slot: number,
  refused: ReasonName | null,
  isEligible: boolean,
): Reason {
  const entry = slot < 0 ? 0 : m.tables.flags[slot];
  if ((entry & ENTRY.MIGRATION) !== 0) return named("migrating");
  if ((entry & ENTRY.SPECIAL) !== 0) return named("huge-zero");
  if (refused !== null) return named(refused);
  if (!isEligible) return named("bounds");
  if (entry === 0) return named("untouched");
  if (isOneHugeFolio(m, m.tables.payload[slot] * PTES_PER_REGION)) return named("pte-mapped");
  const refusal = collapseRefusal(m, mm, vma, ACTOR.khugepaged);
  if (refusal !== null) return named(refusal === "special" ? "special" : "no-khugepaged");
  const result = scanDry(m, mm, vma, region);
  if (result === SCAN.SUCCEED) return named("pte-table");
  return { name: scanResultName(result), rule: "COLL-101", text: "what khugepaged's scan says" };
}

function named(name: ReasonName): Reason {
  return { name, ...REASONS[name] };
}

/** Why a fault in the VMA may not be huge, wherever in it; null if it may. */
function permissionOf(m: Machine, mm: Mm, vma: Vma): ReasonName | null {
  const isAdvised = (vma.flags & VM.HUGEPAGE) !== 0;
  if (m.thpSupport !== "supported") return "not-supported";
  if (!isAnonymous(vma)) return "not-anonymous";
  if ((vma.flags & VM.NOHUGEPAGE) !== 0) return "no-hugepage";
  if ((vma.flags & VM.TEMP_STACK) !== 0) return "temporary-stack";
  if (mm.thpDisable === "all") return "thp-disabled";
  if (mm.thpDisable === "exceptAdvised" && !isAdvised) return "thp-disabled";
  if ((allowedOrders(m, mm, vma) & (1 << HUGE_ORDER)) !== 0) return null;
  return (m.policy.ordersAdvised & (1 << HUGE_ORDER)) !== 0 ? "not-advised" : "policy";
}

/** All 512 entries map one folio of 2 MiB, in its order. */
function isOneHugeFolio(m: Machine, base: number): boolean {
  const { flags, payload } = m.tables;
  if ((flags[base] & (ENTRY.PRESENT | ENTRY.SPECIAL)) !== ENTRY.PRESENT) return false;
  const head = headOf(m.frames, payload[base]);
  if (m.frames.order[head] !== HUGE_ORDER || payload[base] !== head) return false;
  for (let i = 0; i < PTES_PER_REGION; i++)
    if ((flags[base + i] & ENTRY.PRESENT) === 0 || payload[base + i] !== head + i) return false;
  return true;
}

/** What khugepaged's scan would give now; what it counts is taken back. */
function scanDry(m: Machine, mm: Mm, vma: Vma, region: number): number {
  const counted = m.vmstat.slice();
  const { work } = m.khugepaged;
  const { nrPtesScanned } = work;
  const fields = collapseFields(mm.id, region, ACTOR.khugepaged);
  const op = { ...fields, ...NO_OPERATION_FIELDS };
  const result = scanRegion(m, mm, vma, op);
  m.vmstat.set(counted);
  work.nrPtesScanned = nrPtesScanned;
  return result;
}

/** A record that no runner knows. */
const NO_OPERATION_FIELDS: Operation = {
  id: 0,
  table: "collapse",
  task: 0,
  caller: 0,
  phase: "scan",
  isHeld: false,
  result: 0,
  callResult: 0,
  callLocks: 0,
};

function countPages(m: Machine, mm: Mm, region: number): { nrPresent: number; nrSwapped: number } {
  const { flags, payload } = m.tables;
  const slot = pmdSlotOf(m.tables, mm.root, region);
  const entry = slot < 0 ? 0 : flags[slot];
  if ((entry & ENTRY.HUGE) !== 0) return { nrPresent: PTES_PER_REGION, nrSwapped: 0 };
  let nrPresent = 0;
  let nrSwapped = 0;
  if (entry === 0) return { nrPresent, nrSwapped };
  const base = payload[slot] * PTES_PER_REGION;
  for (let i = base; i < base + PTES_PER_REGION; i++) {
    if ((flags[i] & ENTRY.PRESENT) !== 0) nrPresent++;
    else if ((flags[i] & ENTRY.SWAP) !== 0) nrSwapped++;
  }
  return { nrPresent, nrSwapped };
}
