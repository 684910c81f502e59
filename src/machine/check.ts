/**
 * machine.check(): walks everything and compares it with every count that is kept (DESIGN, decision 6).
 *
 * Entry: checkMachine. Slow and simple on purpose: it recomputes from the page tables and believes nothing else.
 */

import { PAGE_SIZE, type Pfn, PTES_PER_REGION } from "../base/address.ts";
import { VMSTAT } from "../base/counters.ts";
import { ENTRY, LEVEL_PTE, NO_TABLE } from "../mm/page-tables.ts";
import { indexOf } from "../mm/rmap.ts";
import type { Mm } from "../mm/state.ts";
import { findVma, isAnonymous, type Vma } from "../mm/vma.ts";
import { checkPhys } from "../phys/check.ts";
import { headOf, PG } from "../phys/frame-table.ts";
import type { Machine } from "./machine.ts";

/** References besides mappings that the caller knows of (pins, pipes): head frame to count. */
export type ExtraReferences = ReadonlyMap<Pfn, number>;

/** What the page tables really map. */
interface Found {
  readonly problems: string[];
  /** PTE mappings by page. */
  readonly ptes: Map<Pfn, number>;
  /** PMD mappings by head. */
  readonly pmds: Map<Pfn, number>;
  /** Per large folio head and mm id: mappings. */
  readonly byMm: Map<Pfn, Map<number, number>>;
  nrTables: number;
}

/** Problems as sentences; empty if every invariant holds. */
export function checkMachine(m: Machine, extra: ExtraReferences = new Map()): string[] {
  const found: Found = {
    problems: [...checkPhys(m)],
    ptes: new Map(),
    pmds: new Map(),
    byMm: new Map(),
    nrTables: 0,
  };
  for (const mm of m.mms) if (mm !== null) checkMm(m, mm, found);
  checkFolios(m, found, extra);
  checkCounters(m, found);
  checkAnonVmas(m, found);
  return found.problems;
}

function checkMm(m: Machine, mm: Mm, found: Found): void {
  checkVmas(mm, found);
  const seen = { anon: 0, file: 0, shmem: 0, tables: 1, pteTables: 0 };
  walkTables(m, mm, found, seen);
  const where = `mm ${mm.id}`;
  expectEqual(found, `${where} rssAnon`, mm.rssAnon, seen.anon);
  expectEqual(found, `${where} rssFile`, mm.rssFile, seen.file);
  expectEqual(found, `${where} rssShmem`, mm.rssShmem, seen.shmem);
  expectEqual(found, `${where} nrTables`, mm.nrTables, seen.tables);
  expectEqual(found, `${where} nrPteTables`, mm.nrPteTables, seen.pteTables);
  found.nrTables += seen.tables;
}

function checkVmas(mm: Mm, found: Found): void {
  let end = 0;
  for (const vma of mm.vmas) {
    const name = `mm ${mm.id} vma ${vma.start.toString(16)}`;
    if (vma.start < end) found.problems.push(`${name} overlaps the one before`);
    if (vma.start >= vma.end) found.problems.push(`${name} is empty`);
    if (vma.pgoffDelta !== vma.pgoff - vma.start / PAGE_SIZE)
      found.problems.push(`${name} pgoffDelta is wrong`);
    end = vma.end;
  }
}

interface Seen {
  anon: number;
  file: number;
  shmem: number;
  tables: number;
  pteTables: number;
}

function walkTables(m: Machine, mm: Mm, found: Found, seen: Seen): void {
  eachUsed(m, mm.root, found, (pgd, pudTable) => {
    seen.tables++;
    eachUsed(m, pudTable, found, (pud, pmdTable) => {
      seen.tables++;
      walkPmdTable(m, mm, (pgd * 512 + pud) * 512, pmdTable, found, seen);
    });
  });
}

/** Calls back with (index, child table) for each entry that points to a table; checks the fill count. */
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
      seen.tables++;
      seen.pteTables++;
      noteHuge(m, mm, region, slot, found, seen);
      return;
    }
    seen.tables++;
    seen.pteTables++;
    eachUsed(m, payload, found, (pte, _pfn, pteSlot) => {
      notePte(m, mm, region, pte, pteSlot, found, seen);
    });
  });
  let nrDeposits = 0;
  for (let t = m.tables.depositHead[pmdTable]; t !== NO_TABLE; t = m.tables.next[t]) {
    nrDeposits++;
    if (m.tables.level[t] !== LEVEL_PTE || m.tables.nrUsed[t] !== 0)
      found.problems.push(`deposited table ${t} is not an empty PTE table`);
  }
  expectEqual(found, `PMD table ${pmdTable} deposits`, nrDeposits, nrHuge);
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
  const vma = findVma(mm.vmas, region * 512 * PAGE_SIZE);
  if (vma === null || vma.end < (region + 1) * 512 * PAGE_SIZE)
    found.problems.push(`mm ${mm.id}: the huge entry of region ${region} crosses a VMA edge`);
  if ((flags & ENTRY.SPECIAL) !== 0) {
    if (head !== m.hugeZero.pfn) found.problems.push("a zero PMD maps another frame");
    if ((flags & ENTRY.WRITE) !== 0) found.problems.push("a zero PMD is writable");
    return;
  }
  if (m.frames.order[head] !== 9 || head % 512 !== 0)
    found.problems.push(`a huge entry maps frame ${head}, not the head of an order-9 folio`);
  checkWritable(m, mm, head, flags, found);
  checkIndex(m, vma, head, region * 512, found);
  bump(found.pmds, head, 1);
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
  const page = region * 512 + pteIndex;
  const vma = findVma(mm.vmas, page * PAGE_SIZE);
  if (vma === null) {
    found.problems.push(`mm ${mm.id}: page ${page} is mapped outside of any VMA`);
    return;
  }
  if ((flags & ENTRY.PRESENT) === 0) return;
  const pfn = m.tables.payload[slot];
  if ((flags & ENTRY.SPECIAL) !== 0) {
    const isZero = pfn === m.zeroPfn;
    if (!isZero) found.problems.push(`mm ${mm.id}: a special PTE maps frame ${pfn}`);
    return;
  }
  const head = headOf(m.frames, pfn);
  bump(found.ptes, pfn, 1);
  if ((m.frames.flags[head] & PG.ANON) !== 0) {
    seen.anon++;
    checkWritable(m, mm, pfn, flags, found);
    checkIndex(m, vma, head, page - (pfn - head), found);
    if (m.frames.order[head] > 0) bumpMm(found, head, mm.id);
  } else if ((m.frames.flags[pfn] & PG.SWAPBACKED) !== 0) seen.shmem++;
  else seen.file++;
}

/** A writable mapping of anonymous memory is exclusive. */
function checkWritable(m: Machine, mm: Mm, pfn: Pfn, entry: number, found: Found): void {
  if ((entry & ENTRY.WRITE) === 0 || (m.frames.flags[pfn] & PG.ANON_EXCLUSIVE) !== 0) return;
  found.problems.push(`mm ${mm.id} may write frame ${pfn}, which is not exclusive`);
}

/** rmap finds the page here: its index and anon_vma fit the VMA. `headPage` is where the folio's head would be mapped. */
function checkIndex(
  m: Machine,
  vma: Vma | null,
  head: Pfn,
  headPage: number,
  found: Found,
): void {
  if (vma === null) return;
  const expected = headPage + vma.pgoffDelta;
  const isIndexed = indexOf(m, head) === expected;
  if (!isIndexed) found.problems.push(`frame ${head} has index ${indexOf(m, head)}, not ${expected}`);
  const owner = m.anonVmas[m.frames.owner[head]];
  if (owner === null || owner === undefined || !vma.anonVmaChain.includes(owner))
    found.problems.push(`rmap of frame ${head} does not lead to the VMA that maps it`);
}

function checkFolios(m: Machine, found: Found, extra: ExtraReferences): void {
  const { frames } = m;
  const heads = new Set<Pfn>(found.pmds.keys());
  for (const pfn of found.ptes.keys()) heads.add(headOf(frames, pfn));
  for (let pfn = 1; pfn < frames.nrFrames; pfn++) {
    if (frames.mapcount[pfn] !== (found.ptes.get(pfn) ?? 0))
      found.problems.push(
        `frame ${pfn}: mapcount ${frames.mapcount[pfn]}, mapped ${found.ptes.get(pfn) ?? 0} times`,
      );
    if (frames.entireMapcount[pfn] !== (found.pmds.get(pfn) ?? 0))
      found.problems.push(`frame ${pfn}: entireMapcount ${frames.entireMapcount[pfn]} is wrong`);
  }
  for (const head of heads) checkFolio(m, head, found, extra);
}

function checkFolio(m: Machine, head: Pfn, found: Found, extra: ExtraReferences): void {
  const { frames } = m;
  const order = frames.order[head];
  let nrMappings = found.pmds.get(head) ?? 0;
  let nrPagesMapped = 0;
  for (let page = head; page < head + (1 << order); page++) {
    const nr = found.ptes.get(page) ?? 0;
    nrMappings += nr;
    if (nr > 0) nrPagesMapped++;
  }
  const isCached = (frames.flags[head] & PG.ANON) === 0;
  const expected = nrMappings + (isCached ? 1 : 0) + (extra.get(head) ?? 0);
  expectEqual(found, `frame ${head} refcount`, frames.refcount[head], expected);
  if (order === 0) return;
  expectEqual(found, `frame ${head} largeMapcount`, frames.largeMapcount[head], nrMappings);
  expectEqual(found, `frame ${head} nrPagesMapped`, frames.nrPagesMapped[head], nrPagesMapped);
  checkSharers(m, head, nrMappings, found);
  const hasUnmapped = nrPagesMapped < 1 << order && (found.pmds.get(head) ?? 0) === 0;
  const isFlagged = (frames.flags[head] & PG.PARTIALLY_MAPPED) !== 0;
  if (hasUnmapped && !isFlagged)
    found.problems.push(`frame ${head} has unmapped pages but is not marked partially mapped`);
  if (isFlagged && (frames.flags[head] & PG.DEFERRED) === 0)
    found.problems.push(`frame ${head} is partially mapped but on no deferred queue`);
}

/** Without MAYBE_SHARED the two slots name every mapper exactly (ANON-139). */
function checkSharers(m: Machine, head: Pfn, nrMappings: number, found: Found): void {
  const { frames } = m;
  const byMm = found.byMm.get(head) ?? new Map<number, number>();
  const slots = [
    [frames.sharer0[head], frames.sharer0Mapcount[head]],
    [frames.sharer1[head], frames.sharer1Mapcount[head]],
  ] as const;
  let named = 0;
  for (const [name, nr] of slots) {
    if (name === 0) continue;
    named += nr;
    expectEqual(found, `frame ${head} sharer mm ${name - 1}`, nr, byMm.get(name - 1) ?? 0);
  }
  if ((frames.flags[head] & PG.MAYBE_SHARED) === 0)
    expectEqual(found, `frame ${head} mappings of known sharers`, named, nrMappings);
}

function checkCounters(m: Machine, found: Found): void {
  let nrAnon = 0;
  let nrMapped = 0;
  const nrThp = found.pmds.size;
  for (const pfn of found.ptes.keys()) {
    const head = headOf(m.frames, pfn);
    if ((m.frames.flags[head] & PG.ANON) === 0) nrMapped++;
    else if (!found.pmds.has(head)) nrAnon++;
  }
  nrAnon += nrThp * PTES_PER_REGION;
  expectEqual(found, "nr_anon_pages", m.vmstat[VMSTAT.nr_anon_pages], nrAnon);
  expectEqual(found, "nr_mapped", m.vmstat[VMSTAT.nr_mapped], nrMapped);
  expectEqual(
    found,
    "nr_anon_transparent_hugepages",
    m.vmstat[VMSTAT.nr_anon_transparent_hugepages],
    nrThp,
  );
  expectEqual(
    found,
    "nr_page_table_pages",
    m.vmstat[VMSTAT.nr_page_table_pages],
    found.nrTables,
  );
}

/** Chains and lists name each other. */
function checkAnonVmas(m: Machine, found: Found): void {
  const live = new Set<Vma>();
  for (const mm of m.mms) if (mm !== null) for (const vma of mm.vmas) live.add(vma);
  for (const anonVma of m.anonVmas) {
    for (const vma of anonVma?.vmas ?? [])
      if (!live.has(vma) || !vma.anonVmaChain.includes(anonVma!))
        found.problems.push(`anon_vma ${anonVma!.id} lists a VMA that does not list it`);
  }
  for (const vma of live) {
    for (const anonVma of vma.anonVmaChain)
      if (!anonVma.vmas.includes(vma))
        found.problems.push(`VMA ${vma.start.toString(16)} is missing in anon_vma ${anonVma.id}`);
    if (!isAnonymous(vma) && vma.file!.nrVmas <= 0)
      found.problems.push(`file ${vma.file!.path} counts no VMA`);
  }
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

function expectEqual(found: Found, what: string, kept: number, real: number): void {
  if (kept !== real) found.problems.push(`${what}: kept ${kept}, really ${real}`);
}
