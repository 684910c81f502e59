/**
 * The page fault: from an access that the page tables do not allow to an entry that does.
 *
 * Entry: handleFault; populatePages for everything that faults pages in on purpose.
 * Owns:  nothing; it decides and calls anon.ts, cow.ts, file.ts.
 * Locks: mmap lock shared (or the VMA's own), page-table lock inside. One call is atomic here: what it has to wait for
 *        goes on in between, and then it begins again.
 */

import { addrOf, HUGE_SIZE, pteIndexOf, regionOf } from "../base/address.ts";
import { VMSTAT } from "../base/counters.ts";
import { EVENT } from "../base/events.ts";
import type { HugeState } from "../huge/knobs.ts";
import { isMigrating } from "../mm/migration.ts";
import { growStack } from "../mm/mmap.ts";
import { ENTRY, isPoison, NO_TABLE, pmdSlotOf, pteTableOf } from "../mm/page-tables.ts";
import type { Mm } from "../mm/state.ts";
import { ensurePmdSlot, ensurePteTable } from "../mm/table-alloc.ts";
import { findVma, VM, VM_ACCESS, type Vma } from "../mm/vma.ts";
import { headOf, PG } from "../phys/frame-table.ts";
import { lruMarkAccessed } from "../phys/lru.ts";
import { isLockTaken } from "../sched/locks.ts";
import { letOthersRun, waitForLock } from "../sched/runner.ts";
import { FALLBACK, faultAnonHuge, faultAnonPte, mayFaultHuge } from "./anon.ts";
import { faultHugeWrite, faultPteWrite } from "./cow.ts";
import { faultFilePte, isFaultInVain } from "./file.ts";
import {
  FAULT,
  FAULT_HWPOISON,
  FAULT_KIND_MASK,
  FAULT_MARK,
  FAULT_OOM,
  FAULT_SIGBUS,
  FAULT_SIGSEGV,
  FAULT_WAIT,
} from "./kinds.ts";
import { faultSwap, isSwapBusy } from "./swap-in.ts";

const PGFAULT = VMSTAT.pgfault;
const SPURIOUS = FAULT.spurious;

/**
 * Handles a fault of `mm` at (region, pteIndex). Returns the packed result (kinds.ts) or a negative signal.
 * One call is one minor fault, whatever it maps (ANON-074, ANON-305); a major one if contents came from a device.
 */
export function handleFault(
  m: HugeState,
  mm: Mm,
  region: number,
  pteIndex: number,
  access: "read" | "write",
): number {
  const addr = addrOf(region, pteIndex);
  let vma = mm.lastVma;
  if (vma === null || addr < vma.start || addr >= vma.end) {
    vma = findVma(mm.vmas, addr) ?? growStack(m, mm, addr);
    if (vma === null) return FAULT_SIGSEGV;
    mm.lastVma = vma;
  }
  const needed = access === "write" ? VM.WRITE : VM_ACCESS;
  if ((vma.flags & needed) === 0) return FAULT_SIGSEGV;
  m.vmstat[PGFAULT]++;
  mm.minflt++;
  const result = faultIn(m, mm, vma, region, pteIndex, access);
  if (result === FAULT_WAIT) return waitForOthers(m, mm, region, pteIndex, access);
  if (result >= 0 && (result & FAULT_MARK.MAJOR) !== 0) {
    mm.minflt--;
    mm.majflt++;
  }
  if (m.events !== null && result >= 0)
    m.events.emit(EVENT.page_fault, mm.id, region, pteIndex | ((result & FAULT_KIND_MASK) << 9));
  return result;
}

/**
 * The page is being migrated, or somebody works on it in the swap cache. Those who do it go on until the access is possible or
 * the entry is another; the access is then made again, and faults again if it must. FAULT_WAIT if they are held: the caller's
 * task waits.
 */
function waitForOthers(
  m: HugeState,
  mm: Mm,
  region: number,
  pteIndex: number,
  access: "read" | "write",
): number {
  if (!waitForLock(m, "mmap", mm.id, "read")) return FAULT_WAIT;
  while (isEntryBusy(m, mm, region, pteIndex)) if (!letOthersRun(m)) return FAULT_WAIT;
  if (isAccessible(m, mm, region, pteIndex, access)) return SPURIOUS;
  return handleFault(m, mm, region, pteIndex, access);
}

/** True if a fault on the page would have to wait for an operation under way: the page is being migrated, or swapped. */
export function isEntryBusy(m: HugeState, mm: Mm, region: number, pteIndex: number): boolean {
  if (isMigrating(m.tables, mm.root, region, pteIndex)) return true;
  const slot = swapSlotOf(m, mm, region, pteIndex);
  return slot >= 0 && isSwapBusy(m, slot);
}

/** Slot of the swap entry at a place, -1 if there is none. */
export function swapSlotOf(m: HugeState, mm: Mm, region: number, pteIndex: number): number {
  const table = pteTableOf(m.tables, mm.root, region);
  const slot = table * 512 + pteIndex;
  return table !== NO_TABLE && (m.tables.flags[slot] & ENTRY.SWAP) !== 0 ? slot : -1;
}

/** A fault on behalf of somebody else, who has looked at the rights of the VMA himself. As handleFault. */
export function faultReach(
  m: HugeState,
  mm: Mm,
  vma: Vma,
  region: number,
  pteIndex: number,
  access: "read" | "write",
): number {
  m.vmstat[PGFAULT]++;
  mm.minflt++;
  const result = faultIn(m, mm, vma, region, pteIndex, access);
  if (result !== FAULT_WAIT) return result;
  return letOthersRun(m) ? SPURIOUS : FAULT_WAIT;
}

function faultIn(
  m: HugeState,
  mm: Mm,
  vma: Vma,
  region: number,
  pteIndex: number,
  access: "read" | "write",
): number {
  if (mm.hintRegion === region) return faultPte(m, mm, vma, region, pteIndex, mm.hintTable, access);
  const slot = ensurePmdSlot(m, mm, region);
  if (slot < 0) return FAULT_OOM;
  const entry = m.tables.flags[slot];
  let marks = 0;
  // COLL-200: the region may be empty only because somebody collapses it.
  if (entry === 0 && m.sched.locks.length > 0 && isLockTaken(m, "mmap", mm.id)) return FAULT_WAIT;
  if (entry === 0 && vma.file === null && mayFaultHuge(m, mm, vma, region)) {
    const result = faultAnonHuge(m, mm, vma, region, slot, access);
    if (result !== FALLBACK) return result;
    marks = FAULT_MARK.FELL_BACK;
  } else if ((entry & ENTRY.HUGE) !== 0) {
    return faultHugeEntry(m, mm, vma, region, pteIndex, slot, access);
  }
  const result = faultPages(m, mm, vma, region, pteIndex, slot, access);
  return result < 0 ? result : result | marks;
}

/** A fault below a PMD entry that is empty or a table: by PTEs. */
export function faultPages(
  m: HugeState,
  mm: Mm,
  vma: Vma,
  region: number,
  pteIndex: number,
  slot: number,
  access: "read" | "write",
): number {
  const { file } = vma;
  if (
    file !== null &&
    m.tables.flags[slot] === 0 &&
    isFaultInVain(vma, file, region, pteIndex, access)
  )
    return FAULT_SIGBUS;
  const table = ensurePteTable(m, mm, slot);
  if (table === NO_TABLE) return FAULT_OOM;
  mm.hintRegion = region;
  mm.hintTable = table;
  return faultPte(m, mm, vma, region, pteIndex, table, access);
}

function faultHugeEntry(
  m: HugeState,
  mm: Mm,
  vma: Vma,
  region: number,
  pteIndex: number,
  slot: number,
  access: "read" | "write",
): number {
  const entry = m.tables.flags[slot];
  if ((entry & ENTRY.MIGRATION) !== 0) return FAULT_WAIT; // ANON-073
  if (access === "write" && (entry & ENTRY.WRITE) === 0)
    return faultHugeWrite(m, mm, vma, region, pteIndex, slot);
  m.tables.flags[slot] = entry | ENTRY.YOUNG | (access === "write" ? ENTRY.DIRTY : 0);
  return SPURIOUS;
}

function faultPte(
  m: HugeState,
  mm: Mm,
  vma: Vma,
  region: number,
  pteIndex: number,
  table: number,
  access: "read" | "write",
): number {
  const slot = table * 512 + pteIndex;
  const entry = m.tables.flags[slot];
  if (entry === 0) {
    return vma.file === null
      ? faultAnonPte(m, mm, vma, region, pteIndex, table, access)
      : faultFilePte(m, mm, vma, vma.file, region, pteIndex, table, access);
  }
  if ((entry & ENTRY.MIGRATION) !== 0) return FAULT_WAIT;
  if ((entry & ENTRY.MARKER) !== 0)
    return isPoison(m.tables, slot) ? FAULT_HWPOISON : FAULT_SIGSEGV; // ANON-282, ANON-274
  if ((entry & ENTRY.SWAP) !== 0) return faultSwap(m, mm, region, pteIndex, slot, access);
  if (access === "write" && (entry & ENTRY.WRITE) === 0)
    return faultPteWrite(m, mm, vma, region, pteIndex, slot);
  m.tables.flags[slot] = entry | ENTRY.YOUNG | (access === "write" ? ENTRY.DIRTY : 0);
  return SPURIOUS;
}

/** Receives what populatePages did, for the cost of it; `result` as handleFault's. */
export type FaultObserver = (result: number) => void;

/**
 * Faults in every page of [start, end) that the access would fault on: MAP_POPULATE, mlock, MADV_POPULATE_* (ANON-071).
 * 0 or the first negative signal.
 */
export function populatePages(
  m: HugeState,
  mm: Mm,
  start: number,
  end: number,
  access: "read" | "write",
  observe: FaultObserver | null,
): number {
  for (let addr = start; addr < end; ) {
    const region = regionOf(addr);
    const pteIndex = pteIndexOf(addr);
    if (!isAccessible(m, mm, region, pteIndex, access)) {
      const result = handleFault(m, mm, region, pteIndex, access);
      if (result < 0) return result;
      observe?.(result);
    } else if (access === "write") {
      dirtyMapped(m, mm, region, pteIndex);
    }
    if (isHugeMapped(m, mm, region)) {
      addr = (region + 1) * HUGE_SIZE;
    } else {
      markAccessed(m, mm, region, pteIndex);
      addr += 4096;
    }
  }
  return 0;
}

/** What a PTE maps was looked up; a huge entry is only young, and the zero page has no state. */
function markAccessed(m: HugeState, mm: Mm, region: number, pteIndex: number): void {
  const { flags, payload } = m.tables;
  const slot = payload[pmdSlotOf(m.tables, mm.root, region)] * 512 + pteIndex;
  if ((flags[slot] & (ENTRY.PRESENT | ENTRY.SPECIAL)) === ENTRY.PRESENT)
    lruMarkAccessed(m, headOf(m.frames, payload[slot]));
}

/**
 * Faults in part of one VMA as mlock and MAP_POPULATE do: private writable memory is written, other memory read, nothing
 * where MLOCK_ONFAULT was asked for (ANON-236). 0 or the first negative signal.
 */
export function populateVma(
  m: HugeState,
  mm: Mm,
  vma: Vma,
  start: number,
  end: number,
  observe: FaultObserver | null,
): number {
  if ((vma.flags & (VM.LOCKONFAULT | VM.IO | VM.PFNMAP)) !== 0) return 0;
  if ((vma.flags & VM_ACCESS) === 0) return FAULT_SIGSEGV;
  const isWritten = (vma.flags & (VM.WRITE | VM.SHARED)) === VM.WRITE;
  return populatePages(m, mm, start, end, isWritten ? "write" : "read", observe);
}

/** Whoever takes a mapped page for writing without a fault makes the folio dirty, unless the entry is (ANON-269). */
export function dirtyMapped(m: HugeState, mm: Mm, region: number, pteIndex: number): void {
  const { flags, payload } = m.tables;
  let slot = pmdSlotOf(m.tables, mm.root, region);
  if ((flags[slot] & ENTRY.TABLE) !== 0) slot = payload[slot] * 512 + pteIndex;
  if ((flags[slot] & ENTRY.DIRTY) === 0)
    m.frames.flags[headOf(m.frames, payload[slot])] |= PG.DIRTY;
}

/** True if the whole region is one huge entry. */
export function isHugeMapped(m: HugeState, mm: Mm, region: number): boolean {
  const slot = pmdSlotOf(m.tables, mm.root, region);
  return slot >= 0 && (m.tables.flags[slot] & ENTRY.HUGE) !== 0;
}

/** True if an access now would not fault. */
export function isAccessible(
  m: HugeState,
  mm: Mm,
  region: number,
  pteIndex: number,
  access: "read" | "write",
): boolean {
  const { flags, payload } = m.tables;
  let slot = pmdSlotOf(m.tables, mm.root, region);
  if (slot < 0) return false;
  if ((flags[slot] & ENTRY.TABLE) !== 0) slot = payload[slot] * 512 + pteIndex;
  const entry = flags[slot];
  const wanted = access === "write" ? ENTRY.PRESENT | ENTRY.WRITE : ENTRY.PRESENT;
  return (entry & wanted) === wanted && (entry & ENTRY.PROTNONE) === 0;
}

/** The frame that (region, pteIndex) translates to, or -1 if nothing is mapped there. */
export function translateToPfn(m: HugeState, mm: Mm, region: number, pteIndex: number): number {
  const { flags, payload } = m.tables;
  let slot = pmdSlotOf(m.tables, mm.root, region);
  if (slot < 0) return -1;
  if ((flags[slot] & ENTRY.HUGE) !== 0)
    return (flags[slot] & ENTRY.PRESENT) !== 0 ? payload[slot] + pteIndex : -1;
  if ((flags[slot] & ENTRY.TABLE) === 0) return -1;
  slot = payload[slot] * 512 + pteIndex;
  return (flags[slot] & ENTRY.PRESENT) !== 0 ? payload[slot] : -1;
}
