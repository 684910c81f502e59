/**
 * One access of a program to a page, as the processor and the kernel together perform it: translate, fault if needed, then
 * read or write the contents (tags).
 */

import { alignDown, PAGE_SIZE, pteIndexOf, regionOf } from "../base/address.ts";
import { assert } from "../base/assert.ts";
import { handleFault } from "../fault/fault.ts";
import { ENTRY, pmdSlotOf, pmdTableOf } from "../mm/page-tables.ts";
import type { Mm } from "../mm/state.ts";
import type { Machine } from "./machine.ts";

/** No fault was needed. */
export const NO_FAULT = -1000;

/**
 * Writes `tag` to the page at (region, pteIndex). Returns NO_FAULT, the packed fault result, or a negative signal (then
 * nothing was written). Sets young and dirty as hardware does.
 */
export function writePage(
  m: Machine,
  mm: Mm,
  region: number,
  pteIndex: number,
  tag: number,
): number {
  let slot = leafSlot(m, mm, region, pteIndex);
  let result = NO_FAULT;
  if (slot < 0 || (m.tables.flags[slot] & WRITABLE) !== WRITABLE) {
    result = handleFault(m, mm, region, pteIndex, "write");
    if (result < 0) return result;
    slot = leafSlot(m, mm, region, pteIndex);
    assert(slot >= 0, "a write fault left nothing mapped");
  }
  const entry = m.tables.flags[slot];
  m.tables.flags[slot] = entry | ENTRY.YOUNG | ENTRY.DIRTY;
  m.frames.tag[m.tables.payload[slot] + ((entry & ENTRY.HUGE) !== 0 ? pteIndex : 0)] = tag;
  return result;
}

/** Faults for a read of the page. Returns NO_FAULT, the packed fault result, or a negative signal. */
export function readPage(m: Machine, mm: Mm, region: number, pteIndex: number): number {
  const slot = leafSlot(m, mm, region, pteIndex);
  if (slot >= 0 && (m.tables.flags[slot] & (ENTRY.PRESENT | ENTRY.PROTNONE)) === ENTRY.PRESENT) {
    m.tables.flags[slot] |= ENTRY.YOUNG;
    return NO_FAULT;
  }
  return handleFault(m, mm, region, pteIndex, "read");
}

/**
 * copy_to_user: the kernel writes `nrBytes` from byte address `start` on, with the program's rights. Each page it has to fault
 * in is a fault of its own (ANON-338). Bytes that could not be written: 0 if all is well.
 */
export function copyToUser(
  m: Machine,
  mm: Mm,
  start: number,
  nrBytes: number,
  tag: number,
): number {
  const end = start + nrBytes;
  for (let at = start; at < end; at = alignDown(at, PAGE_SIZE) + PAGE_SIZE) {
    const result = writePage(m, mm, regionOf(at), pteIndexOf(at), tag);
    if (result < 0 && result !== NO_FAULT) return end - at;
  }
  return 0;
}

/** Contents of a mapped page: the tag of its last write, 0 if zero-filled; -1 if nothing is mapped. */
export function pageTag(m: Machine, mm: Mm, region: number, pteIndex: number): number {
  const slot = leafSlot(m, mm, region, pteIndex);
  if (slot < 0) return -1;
  const entry = m.tables.flags[slot];
  return m.frames.tag[m.tables.payload[slot] + ((entry & ENTRY.HUGE) !== 0 ? pteIndex : 0)];
}

/** True if the tables say nothing of the page: it was never touched, or its contents are gone. A swapped page has an entry. */
export function isPageEmpty(m: Machine, mm: Mm, region: number, pteIndex: number): boolean {
  const { flags, payload } = m.tables;
  const slot = pmdSlotOf(m.tables, mm.root, region);
  if (slot < 0 || flags[slot] === 0) return true;
  return (flags[slot] & ENTRY.TABLE) !== 0 && flags[payload[slot] * 512 + pteIndex] === 0;
}

const WRITABLE = ENTRY.PRESENT | ENTRY.WRITE;

/** Slot of the entry that translates the page (huge or PTE), or -1 if there is none that is present. */
function leafSlot(m: Machine, mm: Mm, region: number, pteIndex: number): number {
  const { flags, payload } = m.tables;
  let slot = mm.hintTable * 512 + pteIndex;
  if (mm.hintRegion !== region) {
    const table = pmdTableOf(m.tables, mm.root, region);
    if (table === 0) return -1;
    slot = table * 512 + (region & 511);
    if ((flags[slot] & ENTRY.TABLE) !== 0) slot = payload[slot] * 512 + pteIndex;
  }
  return (flags[slot] & ENTRY.PRESENT) !== 0 ? slot : -1;
}
