/**
 * The invariant walk of the whole machine: every count that is kept is computed anew and compared.
 *
 * Entry: checkMachine. Slow and simple on purpose: it believes the page tables and nothing else. This file walks address
 *        spaces; check-counts.ts compares what was found with the frame table, the queues and the counters.
 */

import { PAGE_SIZE, type Pfn, PTES_PER_REGION } from "../base/address.ts";
import { NO_MM } from "../mm/khugepaged-list.ts";
import { ENTRY, isGuard, LEVEL_PTE, NO_TABLE } from "../mm/page-tables.ts";
import { indexOf } from "../mm/rmap.ts";
import type { Mm } from "../mm/state.ts";
import { findVma, VM, VM_ACCESS, type Vma } from "../mm/vma.ts";
import { checkPhys } from "../phys/check.ts";
import { headOf, PG } from "../phys/frame-table.ts";
import { checkCounts, type ExtraReferences, expectEqual, type Found } from "./check-counts.ts";
import { noteSwapEntry } from "./check-swap.ts";
import type { Machine } from "./machine.ts";

/** Problems as sentences; empty if every invariant holds. `extra`: references the caller knows of (pins, pipes). */
export function checkMachine(m: Machine, extra: ExtraReferences = new Map()): string[] {
  const found: Found = {
    problems: [...checkPhys(m)],
    ptes: new Map(),
    pmds: new Map(),
    byMm: new Map(),
    locked: new Map(),
    tableFrames: new Set(),
    swaps: new Map(),
    hugeZeroUsers: new Set(),
    migrations: new Map(),
  };
  for (const mm of m.mms) if (mm !== null) checkMm(m, mm, found);
  checkKhugepaged(m, found);
  checkCounts(m, found, withOperations(m, found, extra));
  return found.problems;
}

/** Whoever is on khugepaged's list is there once and alive, but for the one at its cursor (COLL-048). */
function checkKhugepaged(m: Machine, found: Found): void {
  const { mms, cursorMm } = m.khugepaged;
  for (const [at, id] of mms.entries()) {
    if (mms.indexOf(id) !== at) found.problems.push(`mm ${id} is registered twice`);
    if (m.mms[id] === null && id !== cursorMm)
      found.problems.push(`mm ${id} is registered and has ended`);
  }
  for (const mm of m.mms)
    if (mm !== null && mm.isKhugepagedCandidate !== mms.includes(mm.id))
      found.problems.push(`mm ${mm.id} and khugepaged's list disagree about it`);
  if (cursorMm !== NO_MM && !mms.includes(cursorMm))
    found.problems.push(`khugepaged's cursor is at mm ${cursorMm}, which is not registered`);
}

/**
 * By head: `extra` (by any page; a folio may have been split since) and what operations between two phases hold. Every
 * migration entry must belong to one of them.
 */
function withOperations(m: Machine, found: Found, extra: ExtraReferences): ExtraReferences {
  const references = new Map<Pfn, number>();
  for (const [pfn, nr] of extra) bump(references, headOf(m.frames, pfn), nr);
  for (const [head, nr] of references) if (nr === 0) references.delete(head);
  const isMigrating = new Set<Pfn>();
  for (const op of m.sched.operations) {
    for (const { pfn, nrMigrating, references: nr } of m.phaseTables[op.table].frames(m, op)) {
      if (nr > 0) bump(references, headOf(m.frames, pfn), nr);
      for (let page = pfn; page < pfn + nrMigrating; page++) isMigrating.add(page);
    }
  }
  for (const [pfn, seen] of found.migrations) {
    if (!isMigrating.has(pfn))
      found.problems.push(`a migration entry names frame ${pfn}, which nobody migrates`);
    if (seen.exclusive > 0 && seen.entries > 1)
      found.problems.push(`an exclusive migration entry names frame ${pfn}, which has others`);
  }
  return references;
}

/** Sums of one address space. */
interface Seen {
  anon: number;
  file: number;
  shmem: number;
  swap: number;
  tables: number;
  pteTables: number;
}

function checkMm(m: Machine, mm: Mm, found: Found): void {
  checkVmas(mm, found);
  const seen: Seen = { anon: 0, file: 0, shmem: 0, swap: 0, tables: 0, pteTables: 0 };
  noteTable(m, mm.root, found, seen);
  for (const op of m.sched.operations)
    for (const { mmId, table, region } of m.phaseTables[op.table].tables?.(op) ?? []) {
      if (mmId !== mm.id) continue;
      noteTable(m, table, found, seen);
      if (region !== undefined) walkPteTable(m, mm, region, table, found, seen);
    }
  eachUsed(m, mm.root, found, (pgd, pudTable) => {
    noteTable(m, pudTable, found, seen);
    eachUsed(m, pudTable, found, (pud, pmdTable) => {
      noteTable(m, pmdTable, found, seen);
      walkPmdTable(m, mm, (pgd * 512 + pud) * 512, pmdTable, found, seen);
    });
  });
  const where = `mm ${mm.id}`;
  expectEqual(found, `${where} rssAnon`, mm.rssAnon, seen.anon);
  expectEqual(found, `${where} rssFile`, mm.rssFile, seen.file);
  expectEqual(found, `${where} rssShmem`, mm.rssShmem, seen.shmem);
  expectEqual(found, `${where} nrSwapEntries`, mm.nrSwapEntries, seen.swap);
  expectEqual(found, `${where} nrTables`, mm.nrTables, seen.tables);
  expectEqual(found, `${where} nrPteTables`, mm.nrPteTables, seen.pteTables);
}

function checkVmas(mm: Mm, found: Found): void {
  let end = 0;
  for (const vma of mm.vmas) {
    const name = `mm ${mm.id} vma ${vma.start.toString(16)}`;
    if (vma.start < end) found.problems.push(`${name} overlaps the one before`);
    if (vma.start >= vma.end) found.problems.push(`${name} is empty`);
    if (vma.start % PAGE_SIZE !== 0 || vma.end % PAGE_SIZE !== 0)
      found.problems.push(`${name} is not page aligned`);
    if (vma.mmId !== mm.id) found.problems.push(`${name} says it belongs to mm ${vma.mmId}`);
    if (vma.pgoffDelta !== vma.pgoff - vma.start / PAGE_SIZE)
      found.problems.push(`${name} pgoffDelta is wrong`);
    if (vma.anonVma !== null && !vma.anonVmaChain.includes(vma.anonVma))
      found.problems.push(`${name} does not chain its own anon_vma`);
    end = vma.end;
  }
  if (mm.lastVma !== null && !mm.vmas.includes(mm.lastVma))
    found.problems.push(`mm ${mm.id} remembers a VMA that is gone`);
}

/** A table in use: its frame is its own and says so. */
function noteTable(m: Machine, table: number, found: Found, seen: Seen): void {
  const pfn = m.tables.pfn[table];
  seen.tables++;
  if (m.tables.level[table] === LEVEL_PTE) seen.pteTables++;
  if (found.tableFrames.has(pfn)) found.problems.push(`table ${table} is in use twice`);
  found.tableFrames.add(pfn);
  if ((m.frames.flags[pfn] & PG.PGTABLE) === 0 || m.frames.owner[pfn] !== table)
    found.problems.push(`frame ${pfn} of table ${table} does not say so`);
}

/** Calls back with (index, child table) for each entry that is not empty; checks the fill count. */
function eachUsed(
  m: Machine,
  table: number,
  found: Found,
  visit: (index: number, child: number, slot: number) => void,
): void {
  let nrUsed = 0;
  for (let index = 0; index < 512; index++) {
    const slot = table * 512 + index;
    if (m.tables.flags[slot] === 0) continue;
    nrUsed++;
    visit(index, m.tables.payload[slot], slot);
  }
  expectEqual(found, `table ${table} nrUsed`, m.tables.nrUsed[table], nrUsed);
}

function walkPmdTable(
  m: Machine,
  mm: Mm,
  firstRegion: number,
  pmdTable: number,
  found: Found,
  seen: Seen,
): void {
  let nrHuge = 0;
  eachUsed(m, pmdTable, found, (index, payload, slot) => {
    const region = firstRegion + index;
    if ((m.tables.flags[slot] & ENTRY.HUGE) !== 0) {
      nrHuge++;
      noteHuge(m, mm, region, slot, found, seen);
      return;
    }
    noteTable(m, payload, found, seen);
    walkPteTable(m, mm, region, payload, found, seen);
  });
  let nrDeposits = 0;
  for (let t = m.tables.depositHead[pmdTable]; t !== NO_TABLE; t = m.tables.next[t]) {
    nrDeposits++;
    noteTable(m, t, found, seen);
    let nrUsed = 0;
    eachUsed(m, t, found, () => nrUsed++);
    if (m.tables.level[t] !== LEVEL_PTE || nrUsed !== 0)
      found.problems.push(`deposited table ${t} is not an empty PTE table`);
  }
  expectEqual(found, `PMD table ${pmdTable} deposits`, nrDeposits, nrHuge);
}

function walkPteTable(
  m: Machine,
  mm: Mm,
  region: number,
  table: number,
  found: Found,
  seen: Seen,
): void {
  eachUsed(m, table, found, (pte, _pfn, slot) => {
    notePte(m, mm, region, pte, slot, found, seen);
  });
}

function noteHuge(
  m: Machine,
  mm: Mm,
  region: number,
  slot: number,
  found: Found,
  seen: Seen,
): void {
  const head = m.tables.payload[slot];
  const flags = m.tables.flags[slot];
  const vma = findVma(mm.vmas, region * PTES_PER_REGION * PAGE_SIZE);
  if (vma === null || vma.end < (region + 1) * PTES_PER_REGION * PAGE_SIZE) {
    found.problems.push(`mm ${mm.id}: the huge entry of region ${region} crosses a VMA edge`);
    return;
  }
  if ((flags & ENTRY.MIGRATION) !== 0) {
    for (let i = 0; i < PTES_PER_REGION; i++) noteMigration(m, vma, head + i, flags, found);
    seen.anon += PTES_PER_REGION;
    return;
  }
  checkAccess(mm, vma, flags, ["region", region], found);
  if ((flags & ENTRY.SPECIAL) !== 0) {
    found.hugeZeroUsers.add(mm.id);
    if (head !== m.hugeZero.pfn) found.problems.push("a zero PMD maps another frame");
    if ((flags & ENTRY.WRITE) !== 0) found.problems.push("a zero PMD is writable");
    return;
  }
  if (m.frames.order[head] !== 9 || head % PTES_PER_REGION !== 0)
    found.problems.push(`a huge entry maps frame ${head}, not the head of an order-9 folio`);
  checkWritable(m, mm, head, flags, found);
  checkIndex(m, vma, head, region * PTES_PER_REGION, found);
  bump(found.pmds, head, 1);
  if ((vma.flags & VM.LOCKED) !== 0) bump(found.locked, head, 1);
  bumpMm(found, head, mm.id);
  seen.anon += PTES_PER_REGION;
}

function notePte(
  m: Machine,
  mm: Mm,
  region: number,
  pteIndex: number,
  slot: number,
  found: Found,
  seen: Seen,
): void {
  const flags = m.tables.flags[slot];
  const page = region * PTES_PER_REGION + pteIndex;
  const vma = findVma(mm.vmas, page * PAGE_SIZE);
  if (vma === null) {
    found.problems.push(`mm ${mm.id}: page ${page} is mapped outside of any VMA`);
    return;
  }
  if (isGuard(m.tables, slot) && (vma.flags & VM.MAYBE_GUARD) === 0)
    found.problems.push(`mm ${mm.id}: page ${page} is a guard in a VMA that knows of none`);
  if ((flags & ENTRY.MIGRATION) !== 0) {
    noteMigration(m, vma, m.tables.payload[slot], flags, found);
    seen.anon++;
  }
  if ((flags & ENTRY.SWAP) !== 0) {
    seen.swap++;
    noteSwapEntry(m, m.tables.payload[slot], flags, found);
  }
  if ((flags & ENTRY.PRESENT) === 0) return;
  checkAccess(mm, vma, flags, ["page", page], found);
  const pfn = m.tables.payload[slot];
  if ((flags & ENTRY.SPECIAL) !== 0) {
    if (pfn !== m.zeroPfn) found.problems.push(`mm ${mm.id}: a special PTE maps frame ${pfn}`);
    if ((flags & ENTRY.WRITE) !== 0) found.problems.push("a zero PTE is writable");
    return;
  }
  const head = headOf(m.frames, pfn);
  bump(found.ptes, pfn, 1);
  if ((vma.flags & VM.LOCKED) !== 0) bump(found.locked, head, 1);
  if ((m.frames.flags[head] & PG.ANON) !== 0) {
    seen.anon++;
    checkWritable(m, mm, pfn, flags, found);
    checkIndex(m, vma, head, page - (pfn - head), found);
    if (m.frames.order[head] > 0) bumpMm(found, head, mm.id);
    return;
  }
  if ((m.frames.flags[pfn] & PG.SWAPBACKED) !== 0) seen.shmem++;
  else seen.file++;
  if (vma.file === null || m.frames.owner[pfn] !== vma.file.id)
    found.problems.push(`mm ${mm.id}: page ${page} maps a page of another file`);
  else if (indexOf(m, pfn) !== page + vma.pgoffDelta)
    found.problems.push(`mm ${mm.id}: page ${page} maps another page of its file`);
}

function noteMigration(m: Machine, vma: Vma, pfn: Pfn, flags: number, found: Found): void {
  const seen = found.migrations.get(pfn) ?? { entries: 0, exclusive: 0 };
  seen.entries++;
  if ((flags & ENTRY.EXCLUSIVE) !== 0) seen.exclusive++;
  found.migrations.set(pfn, seen);
  if (m.frames.refcount[headOf(m.frames, pfn)] === 0)
    found.problems.push(`a migration entry names frame ${pfn}, which is free`);
  if ((flags & ENTRY.WRITE) !== 0 && (vma.flags & VM.WRITE) === 0)
    found.problems.push(`a migration entry of frame ${pfn} may write where its VMA may not`);
}

/** Which page or region; words only once something is wrong there. */
type Place = readonly [unit: "page" | "region", nr: number];

/** The entry allows no more than its VMA. */
function checkAccess(mm: Mm, vma: Vma, flags: number, at: Place, found: Found): void {
  checkUffdWp(mm, vma, flags, at, found);
  if ((flags & ENTRY.WRITE) !== 0 && (vma.flags & VM.WRITE) === 0)
    found.problems.push(`mm ${mm.id} ${at.join(" ")} is writable in a VMA that is not`);
  if (((flags & ENTRY.PROTNONE) === 0) === ((vma.flags & VM_ACCESS) !== 0)) return;
  const isNone = (vma.flags & VM_ACCESS) === 0;
  const problem = isNone ? "accessible in a PROT_NONE VMA" : "inaccessible in an accessible VMA";
  found.problems.push(`mm ${mm.id} ${at.join(" ")} is ${problem}`);
}

/** The write-protect bit of userfaultfd: only where the VMA is registered for it, never on a writable entry (ANON-222). */
function checkUffdWp(mm: Mm, vma: Vma, flags: number, at: Place, found: Found): void {
  if ((flags & ENTRY.UFFD_WP) === 0) return;
  if ((flags & ENTRY.WRITE) !== 0 || (vma.flags & VM.UFFD_WP) === 0)
    found.problems.push(`mm ${mm.id} ${at.join(" ")} is write-protected for nobody, or writable`);
}

/** A writable mapping of anonymous memory is exclusive. */
function checkWritable(m: Machine, mm: Mm, pfn: Pfn, entry: number, found: Found): void {
  if ((entry & ENTRY.WRITE) === 0 || (m.frames.flags[pfn] & PG.ANON_EXCLUSIVE) !== 0) return;
  found.problems.push(`mm ${mm.id} may write frame ${pfn}, which is not exclusive`);
}

/** rmap finds the page here: its index and anon_vma fit the VMA. `headPage` is where the folio's head would be. */
function checkIndex(m: Machine, vma: Vma, head: Pfn, headPage: number, found: Found): void {
  const expected = headPage + vma.pgoffDelta;
  if (indexOf(m, head) !== expected)
    found.problems.push(`frame ${head} has index ${indexOf(m, head)}, not ${expected}`);
  const owner = m.anonVmas[m.frames.owner[head]];
  if (owner === null || owner === undefined || !vma.anonVmaChain.includes(owner))
    found.problems.push(`rmap of frame ${head} does not lead to the VMA that maps it`);
}

function bump(map: Map<number, number>, key: number, nr: number): void {
  map.set(key, (map.get(key) ?? 0) + nr);
}

function bumpMm(found: Found, head: Pfn, mmId: number): void {
  let byMm = found.byMm.get(head);
  if (byMm === undefined) {
    byMm = new Map();
    found.byMm.set(head, byMm);
  }
  bump(byMm, mmId, 1);
}
