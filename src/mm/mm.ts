/**
 * Address spaces: making a new one, and its end.
 *
 * Entry: createMm (exec), destroyMm (exit of the last user). fork is in fork.ts.
 */

import { type Addr, alignUp, PAGE_SIZE } from "../base/address.ts";
import { assert } from "../base/assert.ts";
import type { AddressPlan } from "./address-choice.ts";
import { unlinkAnonVmas } from "./anon-vma.ts";
import { dropFileVma } from "./file-object.ts";
import { unregisterFromKhugepaged } from "./khugepaged-list.ts";
import { LEVEL_PGD, NO_TABLE } from "./page-tables.ts";
import { type Mm, type MmState, noteHiwater } from "./state.ts";
import { allocTableRow, freeTableRow } from "./table-alloc.ts";
import { freeTablesBetween, zapRange } from "./zap.ts";

/** An empty address space, or null if no frame is free for its PGD. */
export function createMm(m: MmState, plan: AddressPlan, brkStart: Addr, memcg: number): Mm | null {
  const root = allocTableRow(m, LEVEL_PGD);
  if (root === NO_TABLE) return null;
  const brk = alignUp(brkStart, PAGE_SIZE);
  const mm: Mm = {
    id: nextMmId(m),
    root,
    vmas: [],
    lastVma: null,
    hintRegion: -1,
    hintTable: NO_TABLE,
    mmapBase: plan.mmapBase,
    brkStart: brk,
    brk,
    rssAnon: 0,
    rssFile: 0,
    rssShmem: 0,
    nrSwapEntries: 0,
    hiwaterRss: 0,
    nrTables: 1,
    nrPteTables: 0,
    minflt: 0,
    majflt: 0,
    thpDisable: "no",
    usesHugeZero: false,
    isKhugepagedCandidate: false,
    isUnstable: false,
    hasPinned: false,
    memcg,
    defaultFlags: 0,
    lockLimitBytes: Number.POSITIVE_INFINITY,
  };
  m.mms[mm.id] = mm;
  return mm;
}

/** Unmaps everything and frees the tables; the record is dead afterwards. */
export function destroyMm(m: MmState, mm: Mm): void {
  assert(m.mms[mm.id] === mm, "an address space is destroyed twice");
  noteHiwater(mm);
  for (const vma of mm.vmas) zapRange(m, mm, vma.start, vma.end);
  const { vmas } = mm;
  if (vmas.length > 0) {
    const start = vmas[0].start;
    const end = vmas[vmas.length - 1].end;
    freeTablesBetween(m, mm, start, end, 0, Number.MAX_SAFE_INTEGER);
  }
  for (const vma of vmas) {
    unlinkAnonVmas(m, vma);
    dropFileVma(m.unmappedFiles, vma.file);
  }
  vmas.length = 0;
  mm.lastVma = null;
  freeTableRow(m, mm.root);
  mm.nrTables--;
  assert(mm.nrTables === 0, "an address space ends with page tables left");
  if (mm.usesHugeZero) m.hugeZero.refcount--;
  unregisterFromKhugepaged(m, mm);
  m.mmuNotifier?.release(mm.id);
  m.mms[mm.id] = null;
}

/**
 * The lowest id that is free: ids stay small, so that tables by id stay dense. One that ended under khugepaged's cursor
 * (COLL-048), or that an operation under way still names, is not: both must find the address space gone, not another.
 */
export function nextMmId(m: MmState): number {
  const isNamed = (id: number) => m.sched.operations.some((op) => "mmId" in op && op.mmId === id);
  const isFree = (mm: Mm | null, id: number) =>
    mm === null && id !== m.khugepaged.cursorMm && !isNamed(id);
  const free = m.mms.findIndex(isFree);
  return free >= 0 ? free : m.mms.length;
}
