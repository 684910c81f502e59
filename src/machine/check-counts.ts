/**
 * Second half of the invariant walk: what the page tables map against what the frame table, the queues, the page cache and
 * the counters say.
 *
 * Entry: checkCounts. Holds, when it finds nothing: refcount = mappings + page or swap cache + known extra references; every
 *        mapcount is the number of entries; no frame is allocated that nobody can name.
 */

import { type Pfn, PTES_PER_REGION } from "../base/address.ts";
import { NR_THP_STATS, THP_STAT, VMSTAT } from "../base/counters.ts";
import { listHead, listNext } from "../base/int-list.ts";
import type { FileObject } from "../mm/file-object.ts";
import { deferredQueueOf } from "../mm/folio.ts";
import { indexOf } from "../mm/rmap.ts";
import type { Vma } from "../mm/vma.ts";
import { headOf, NO_PFN, PG } from "../phys/frame-table.ts";
import { NR_ORDERS } from "../phys/state.ts";
import { isLocked } from "../sched/locks.ts";
import type { SwapEntry } from "../swap/state.ts";
import { checkSwap, type FoundSwap, swapCacheOf } from "./check-swap.ts";
import type { Machine } from "./machine.ts";

/** References besides mappings that the caller knows of (pins, pipes): any page of the folio to count. */
export type ExtraReferences = ReadonlyMap<Pfn, number>;

/** What the page tables really map. */
export interface Found {
  readonly problems: string[];
  /** PTE mappings by page. */
  readonly ptes: Map<Pfn, number>;
  /** PMD mappings by head. */
  readonly pmds: Map<Pfn, number>;
  /** Per large folio head and mm id: mappings. */
  readonly byMm: Map<Pfn, Map<number, number>>;
  /** Frames of all tables in use, deposited ones included. */
  readonly tableFrames: Set<Pfn>;
  /** Mappings by locked VMAs: head to mappings of pages of it. */
  readonly locked: Map<Pfn, number>;
  /** Swap entries by the slot they name. */
  readonly swaps: Map<SwapEntry, FoundSwap>;
  /** Ids of address spaces that map the huge zero folio now. */
  readonly hugeZeroUsers: Set<number>;
  /** Migration entries by page. */
  readonly migrations: Map<Pfn, { entries: number; exclusive: number }>;
}

/** Frames that are in no free block, ascending: the rows of the others are clean, which checkPhys looks at. */
function takenFrames(m: Machine): Pfn[] {
  const { flags, order } = m.frames;
  const taken: Pfn[] = [];
  for (const zone of m.zones) {
    const end = zone.startPfn + zone.spannedPages;
    for (let pfn = zone.startPfn; pfn < end; pfn++) {
      if (pfn === zone.untakenStart && pfn < zone.untakenEnd) pfn = zone.untakenEnd - 1;
      else if ((flags[pfn] & PG.BUDDY) !== 0) pfn += (1 << order[pfn]) - 1;
      else taken.push(pfn);
    }
  }
  return taken;
}

/** Adds the problems it finds to `found`. */
export function checkCounts(m: Machine, found: Found, extra: ExtraReferences): void {
  const taken = takenFrames(m);
  const cached = new Set([...checkPageCache(m, found), ...swapCacheOf(m, taken, found)]);
  checkMapcounts(m, taken, found);
  checkFolios(m, taken, found, cached, extra);
  checkLocks(m, taken, found);
  checkSwap(m, found);
  checkHugeZero(m, found);
  checkDeferredQueues(m, taken, found);
  checkCounters(m, taken, found);
  checkAnonVmas(m, found);
}

/** One problem if a kept number differs from the real one. */
export function expectEqual(found: Found, what: string, kept: number, real: number): void {
  if (kept !== real) found.problems.push(`${what}: kept ${kept}, really ${real}`);
}

function checkMapcounts(m: Machine, taken: readonly Pfn[], found: Found): void {
  const { mapcount, entireMapcount } = m.frames;
  for (const pfn of taken) {
    if (mapcount[pfn] !== 0 && !found.ptes.has(pfn))
      expectEqual(found, `frame ${pfn} mapcount`, mapcount[pfn], 0);
    if (entireMapcount[pfn] !== 0 && !found.pmds.has(pfn))
      expectEqual(found, `frame ${pfn} entireMapcount`, entireMapcount[pfn], 0);
  }
  for (const [pfn, nr] of found.ptes)
    if (mapcount[pfn] !== nr) expectEqual(found, `frame ${pfn} mapcount`, mapcount[pfn], nr);
  for (const [pfn, nr] of found.pmds)
    expectEqual(found, `frame ${pfn} entireMapcount`, entireMapcount[pfn], nr);
}

/** Every frame with a reference is mapped, cached, a table, a zero page or known to the caller. */
function checkFolios(
  m: Machine,
  taken: readonly Pfn[],
  found: Found,
  cached: ReadonlySet<Pfn>,
  extra: ExtraReferences,
): void {
  const { frames } = m;
  const heads = new Set<Pfn>([...found.pmds.keys(), ...extra.keys()]);
  for (const pfn of cached) heads.add(headOf(frames, pfn));
  for (const pfn of found.ptes.keys()) heads.add(headOf(frames, pfn));
  let nrFailed = 0;
  for (let pfn = 1; pfn < frames.nrFrames; pfn++) {
    if ((frames.flags[pfn] & PG.HWPOISON) === 0) continue;
    nrFailed++;
    heads.add(headOf(frames, pfn));
  }
  expectEqual(found, "failed pages", m.poison.nrPages, nrFailed);
  for (const head of heads) checkFolio(m, head, found, cached, extra);
  for (const pfn of taken) {
    if (frames.refcount[pfn] === 0 || heads.has(pfn) || found.tableFrames.has(pfn)) continue;
    if (pfn === m.zeroPfn || pfn === m.hugeZero.pfn) continue;
    found.problems.push(`frame ${pfn} is allocated but nobody uses it`);
  }
}

function checkFolio(
  m: Machine,
  head: Pfn,
  found: Found,
  cached: ReadonlySet<Pfn>,
  extra: ExtraReferences,
): void {
  const { frames } = m;
  const order = frames.order[head];
  const nrPmds = found.pmds.get(head) ?? 0;
  let nrMappings = nrPmds;
  let nrPagesMapped = 0;
  for (let page = head; page < head + (1 << order); page++) {
    const nr = found.ptes.get(page) ?? 0;
    nrMappings += nr;
    if (nr > 0) nrPagesMapped++;
    const isExclusive = (frames.flags[page] & PG.ANON_EXCLUSIVE) !== 0;
    if (isExclusive && nr + nrPmds > 1)
      found.problems.push(`frame ${page} is exclusive but mapped ${nr + nrPmds} times`);
  }
  // One reference for each page in the page cache or swap cache.
  const nrCached = cached.has(head) ? 1 << order : 0;
  const expected = nrMappings + nrCached + nrPoisoned(m, head) + (extra.get(head) ?? 0);
  expectEqual(found, `frame ${head} refcount`, frames.refcount[head], expected);
  if (order === 0) return;
  for (let page = head + 1; page < head + (1 << order); page++)
    if (frames.refcount[page] !== 0)
      expectEqual(found, `tail frame ${page} refcount`, frames.refcount[page], 0);
  expectEqual(found, `frame ${head} largeMapcount`, frames.largeMapcount[head], nrMappings);
  expectEqual(found, `frame ${head} nrPagesMapped`, frames.nrPagesMapped[head], nrPagesMapped);
  checkSharers(m, head, nrMappings, found);
  checkPartial(m, head, found, nrPagesMapped);
}

/** Each failed page has a reference that stays for ever (ANON-281). */
function nrPoisoned(m: Machine, head: Pfn): number {
  if (m.poison.nrPages === 0) return 0;
  let nr = 0;
  for (let page = head; page < head + (1 << m.frames.order[head]); page++)
    if ((m.frames.flags[page] & PG.HWPOISON) !== 0) nr++;
  return nr;
}

/** Once flagged, a folio stays so; one whose pages are partly unmapped must be flagged and queued (ANON-190). */
function checkPartial(m: Machine, head: Pfn, found: Found, nrPagesMapped: number): void {
  const { frames } = m;
  const isPmdMapped = found.pmds.has(head);
  const hasUnmapped = nrPagesMapped > 0 && nrPagesMapped < 1 << frames.order[head];
  const isFlagged = (frames.flags[head] & PG.PARTIALLY_MAPPED) !== 0;
  // What is in the swap cache is about to go, and is not queued.
  const isCached = (frames.flags[head] & PG.SWAPCACHE) !== 0;
  if (hasUnmapped && !isPmdMapped && !isFlagged && !isCached)
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
    if (name === 0) {
      expectEqual(found, `frame ${head} mappings of no sharer`, nr, 0);
      continue;
    }
    named += nr;
    expectEqual(found, `frame ${head} sharer mm ${name - 1}`, nr, byMm.get(name - 1) ?? 0);
  }
  if ((frames.flags[head] & PG.MAYBE_SHARED) === 0)
    expectEqual(found, `frame ${head} mappings of known sharers`, named, nrMappings);
}

/** Frames in the page cache, after checking that files and frames name each other. */
function checkPageCache(m: Machine, found: Found): Set<Pfn> {
  const cached = new Set<Pfn>();
  let nrShmem = 0;
  for (const file of m.files) {
    if (file === null) continue;
    let nr = 0;
    for (let index = 0; index < file.pages.length; index++) {
      const pfn = file.pages[index];
      if (pfn === NO_PFN) continue;
      nr++;
      cached.add(pfn);
      if (m.frames.owner[pfn] !== file.id || indexOf(m, pfn) !== index)
        found.problems.push(`frame ${pfn} does not name page ${index} of ${file.path}`);
      if ((m.frames.flags[pfn] & PG.ANON) !== 0)
        found.problems.push(`frame ${pfn} is cached and anonymous`);
    }
    expectEqual(found, `${file.path} nrCached`, file.nrCached, nr);
    if (file.kind === "shmem") nrShmem += nr;
  }
  expectEqual(found, "nr_file_pages", m.vmstat[VMSTAT.nr_file_pages], cached.size);
  expectEqual(found, "nr_shmem", m.vmstat[VMSTAT.nr_shmem], nrShmem);
  return cached;
}

/** One reference for each address space that ever used it and one for the shrinker (ANON-081). */
function checkHugeZero(m: Machine, found: Found): void {
  let nrUsers = 0;
  for (const mm of m.mms) if (mm?.usesHugeZero) nrUsers++;
  const isAllocated = m.hugeZero.pfn !== NO_PFN;
  expectEqual(found, "huge zero refcount", m.hugeZero.refcount, isAllocated ? nrUsers + 1 : 0);
  if (!isAllocated && nrUsers > 0)
    found.problems.push("an address space uses a huge zero folio that does not exist");
  for (const id of found.hugeZeroUsers)
    if (m.mms[id]?.usesHugeZero !== true)
      found.problems.push(`mm ${id} maps the huge zero folio without a reference`);
}

/** A 4K page is mlocked once for each locked VMA that maps it; a larger folio at most so often, and only by such (ANON-235). */
function checkLocks(m: Machine, taken: readonly Pfn[], found: Found): void {
  const { flags, order, mlockCount } = m.frames;
  let nrLocked = 0;
  for (const pfn of taken) {
    const isMlocked = (flags[pfn] & PG.MLOCKED) !== 0;
    if (!isMlocked && mlockCount[pfn] === 0) continue;
    if (isMlocked) nrLocked += 1 << order[pfn];
    if (isMlocked !== mlockCount[pfn] > 0)
      found.problems.push(`frame ${pfn} has ${mlockCount[pfn]} locks, its flag says otherwise`);
    if (isMlocked && (flags[pfn] & PG.UNEVICTABLE) === 0)
      found.problems.push(`frame ${pfn} is mlocked and evictable`);
    const nrMappings = found.locked.get(pfn) ?? 0;
    if (mlockCount[pfn] > nrMappings)
      found.problems.push(`frame ${pfn} has more locks than mappings in locked VMAs`);
  }
  for (const [head, nr] of found.locked)
    if (order[head] === 0) expectEqual(found, `frame ${head} mlockCount`, mlockCount[head], nr);
  expectEqual(found, "nr_mlock", m.vmstat[VMSTAT.nr_mlock], nrLocked);
}

/** Members of each queue are large, flagged, in the right queue, counted; every flagged folio is a member. */
function checkDeferredQueues(m: Machine, taken: readonly Pfn[], found: Found): void {
  let nrMembers = 0;
  for (let queue = 0; queue < m.deferredLength.length; queue++) {
    let nr = 0;
    for (let head = listHead(m.deferred, queue); head >= 0; head = listNext(m.deferred, head)) {
      nr++;
      const isFlagged = (m.frames.flags[head] & PG.DEFERRED) !== 0;
      if (!isFlagged || m.frames.order[head] < 2)
        found.problems.push(`frame ${head} is on a deferred queue but should not be`);
      else expectEqual(found, `frame ${head} queue`, queue, deferredQueueOf(m, head));
      if (nr > m.frames.nrFrames) break;
    }
    expectEqual(found, `deferred queue ${queue} length`, m.deferredLength[queue], nr);
    nrMembers += nr;
  }
  let nrFlagged = 0;
  const { flags } = m.frames;
  for (const pfn of taken) if ((flags[pfn] & PG.DEFERRED) !== 0) nrFlagged++;
  expectEqual(found, "folios flagged as deferred", nrFlagged, nrMembers);
}

function checkCounters(m: Machine, taken: readonly Pfn[], found: Found): void {
  let nrAnon = 0;
  let nrMapped = 0;
  const nrThp = found.pmds.size;
  for (const pfn of found.ptes.keys()) {
    const head = headOf(m.frames, pfn);
    if ((m.frames.flags[head] & PG.ANON) === 0) nrMapped++;
    else if (!found.pmds.has(head)) nrAnon++;
  }
  nrAnon += nrThp * PTES_PER_REGION;
  const { vmstat } = m;
  expectEqual(found, "nr_anon_pages", vmstat[VMSTAT.nr_anon_pages], nrAnon);
  expectEqual(found, "nr_mapped", vmstat[VMSTAT.nr_mapped], nrMapped);
  const nathp = vmstat[VMSTAT.nr_anon_transparent_hugepages];
  expectEqual(found, "nr_anon_transparent_hugepages", nathp, nrThp);
  const nrTables = vmstat[VMSTAT.nr_page_table_pages];
  expectEqual(found, "nr_page_table_pages", nrTables, found.tableFrames.size);
  checkSizeStats(m, taken, found);
}

/** ANON-137: large anonymous folios by order, from the frames themselves. */
function checkSizeStats(m: Machine, taken: readonly Pfn[], found: Found): void {
  const nrAnon = new Array<number>(NR_ORDERS).fill(0);
  const nrPartial = new Array<number>(NR_ORDERS).fill(0);
  const { flags, order } = m.frames;
  for (const pfn of taken) {
    if ((flags[pfn] & PG.ANON) === 0 || order[pfn] === 0) continue;
    nrAnon[order[pfn]]++;
    if ((flags[pfn] & PG.PARTIALLY_MAPPED) !== 0) nrPartial[order[pfn]]++;
  }
  for (let o = 2; o < NR_ORDERS; o++) {
    const row = o * NR_THP_STATS;
    const kept = m.thpStats[row + THP_STAT.nr_anon];
    expectEqual(found, `nr_anon of order ${o}`, kept, nrAnon[o]);
    const keptPartial = m.thpStats[row + THP_STAT.nr_anon_partially_mapped];
    expectEqual(found, `nr_anon_partially_mapped of order ${o}`, keptPartial, nrPartial[o]);
  }
}

/** Chains and lists name each other; files count their VMAs. */
function checkAnonVmas(m: Machine, found: Found): void {
  const live = new Set<Vma>();
  const nrVmas = new Map<FileObject, number>();
  for (const mm of m.mms) for (const vma of mm?.vmas ?? []) live.add(vma);
  for (const anonVma of m.anonVmas) {
    if (anonVma === null) continue;
    // One whose lock an operation holds stays until that is through.
    if (anonVma.vmas.length === 0 && !isLocked(m, "anonVma", anonVma.id))
      found.problems.push(`anon_vma ${anonVma.id} lists no VMA`);
    for (const vma of anonVma.vmas)
      if (!live.has(vma) || !vma.anonVmaChain.includes(anonVma))
        found.problems.push(`anon_vma ${anonVma.id} lists a VMA that does not list it`);
    if (anonVma.vmas.some((vma, i) => i > 0 && vma.pgoff < anonVma.vmas[i - 1].pgoff))
      found.problems.push(`anon_vma ${anonVma.id} does not list its VMAs by index`);
  }
  for (const vma of live) {
    for (const anonVma of vma.anonVmaChain)
      if (m.anonVmas[anonVma.id] !== anonVma || !anonVma.vmas.includes(vma))
        found.problems.push(`VMA ${vma.start.toString(16)} is missing in anon_vma ${anonVma.id}`);
    if (vma.file !== null) nrVmas.set(vma.file, (nrVmas.get(vma.file) ?? 0) + 1);
  }
  for (const file of m.files)
    if (file !== null)
      expectEqual(found, `${file.path} nrVmas`, file.nrVmas, nrVmas.get(file) ?? 0);
}
