/**
 * /proc/kpageflags, kpagecount and kpagecgroup: what the kernel tells of each page frame.
 *
 * Entry: pageFlagsOf, pageCountOf, pageCgroupOf for one frame; readKpage for a span of one of the files.
 * Rules: PROC-050..055, ANON-306.
 * Units: a flag word has 43 bits, so it is a double made with sums, never with shifts.
 */

import type { Pfn } from "../base/address.ts";
import { EACCES, EINVAL, type Err } from "../base/errno.ts";
import { pageMapcount } from "../mm/rmap.ts";
import type { MmState } from "../mm/state.ts";
import { zoneOf } from "../phys/buddy.ts";
import { headOf, PG } from "../phys/frame-table.ts";
import { MAX_ORDER } from "../phys/state.ts";

/** Bit numbers of a kpageflags word, for the bits that the model can set (PROC-051). */
export const KPF = {
  LOCKED: 0,
  REFERENCED: 2,
  UPTODATE: 3,
  DIRTY: 4,
  LRU: 5,
  ACTIVE: 6,
  WRITEBACK: 8,
  BUDDY: 10,
  MMAP: 11,
  ANON: 12,
  SWAPCACHE: 13,
  SWAPBACKED: 14,
  COMPOUND_HEAD: 15,
  COMPOUND_TAIL: 16,
  UNEVICTABLE: 18,
  HWPOISON: 19,
  NOPAGE: 20,
  KSM: 21,
  THP: 22,
  ZERO_PAGE: 24,
  PGTABLE: 26,
  RESERVED: 32,
  MLOCKED: 33,
  /** Only this mapping may write, on anonymous pages. */
  OWNER_2: 34,
  /** Set with SWAPCACHE. */
  OWNER_PRIVATE: 37,
} as const;

export type KpfName = keyof typeof KPF;

/** Flags that every page of a folio shows as its head has them. */
const OF_FOLIO: readonly (readonly [pg: number, kpf: number])[] = [
  [PG.LOCKED, KPF.LOCKED],
  [PG.REFERENCED, KPF.REFERENCED],
  [PG.UPTODATE, KPF.UPTODATE],
  [PG.DIRTY, KPF.DIRTY],
  [PG.LRU, KPF.LRU],
  [PG.ACTIVE, KPF.ACTIVE],
  [PG.WRITEBACK, KPF.WRITEBACK],
  [PG.ANON, KPF.ANON],
  [PG.SWAPCACHE, KPF.SWAPCACHE],
  [PG.SWAPCACHE, KPF.OWNER_PRIVATE],
  [PG.SWAPBACKED, KPF.SWAPBACKED],
  [PG.UNEVICTABLE, KPF.UNEVICTABLE],
  [PG.MLOCKED, KPF.MLOCKED],
  [PG.KSM, KPF.KSM],
];

/** The kpageflags word of a frame, as an integer below 2^43. */
export function pageFlagsOf(m: MmState, pfn: Pfn): number {
  if (pfn >= m.frames.nrFrames) return 2 ** KPF.NOPAGE;
  const flags = m.frames.flags[pfn];
  if ((flags & PG.RESERVED) !== 0) return 2 ** KPF.RESERVED;
  if ((flags & PG.PGTABLE) !== 0) return 2 ** KPF.PGTABLE;
  if ((flags & PG.ZERO) !== 0) return zeroWord(m, pfn);
  if (isInBuddy(m, pfn)) return 2 ** KPF.BUDDY;
  const head = headOf(m.frames, pfn);
  return m.frames.refcount[head] > 0 ? folioWord(m, pfn, head) : 0;
}

/** The names of the bits of a word, ascending. */
export function kpfNames(word: number): KpfName[] {
  const names = Object.keys(KPF) as KpfName[];
  return names.filter((name) => Math.floor(word / 2 ** KPF[name]) % 2 === 1);
}

/** kpagecount: mappings of this page; 0 for the zero pages. */
export function pageCountOf(m: MmState, pfn: Pfn): number {
  if (pfn >= m.frames.nrFrames) return 0;
  const flags = m.frames.flags[pfn];
  const isUser = (flags & (PG.ZERO | PG.RESERVED | PG.PGTABLE | PG.BUDDY | PG.PCP)) === 0;
  return isUser ? pageMapcount(m, pfn) : 0;
}

/** kpagecgroup: the memory cgroup that pays; its id stands for the inode number. 0 none. */
export function pageCgroupOf(m: MmState, pfn: Pfn): number {
  return pfn < m.frames.nrFrames ? m.frames.memcg[headOf(m.frames, pfn)] : 0;
}

export type KpageFile = "kpageflags" | "kpagecount" | "kpagecgroup";

/**
 * A read of `nrBytes` at byte `offset`: one number per frame, fewer or none at the end of memory.
 * -EINVAL if either is not a multiple of 8; -EACCES for anyone but root (PROC-044).
 */
export function readKpage(
  m: MmState,
  file: KpageFile,
  offset: number,
  nrBytes: number,
  reader: "root" | "other" = "root",
): Float64Array | Err {
  if (reader !== "root") return -EACCES;
  if (offset % 8 !== 0 || nrBytes % 8 !== 0) return -EINVAL;
  const first = offset / 8;
  const nr = Math.max(Math.min(nrBytes / 8, m.frames.nrFrames - first), 0);
  const words = new Float64Array(nr);
  for (let i = 0; i < nr; i++) words[i] = wordOf(m, file, first + i);
  return words;
}

function wordOf(m: MmState, file: KpageFile, pfn: Pfn): number {
  if (file === "kpageflags") return pageFlagsOf(m, pfn);
  return file === "kpagecount" ? pageCountOf(m, pfn) : pageCgroupOf(m, pfn);
}

function folioWord(m: MmState, pfn: Pfn, head: Pfn): number {
  const { frames } = m;
  const flags = frames.flags[head];
  let word = 0;
  for (const [pg, kpf] of OF_FOLIO) if ((flags & pg) !== 0) word += 2 ** kpf;
  if (pageMapcount(m, pfn) > 0) word += 2 ** KPF.MMAP;
  if ((frames.flags[pfn] & PG.HWPOISON) !== 0) word += 2 ** KPF.HWPOISON;
  if ((flags & PG.ANON_EXCLUSIVE) !== 0) word += 2 ** KPF.OWNER_2;
  return word + compoundBits(m, pfn, head);
}

function compoundBits(m: MmState, pfn: Pfn, head: Pfn): number {
  if (m.frames.order[head] === 0) return 0;
  return 2 ** KPF.THP + 2 ** (pfn === head ? KPF.COMPOUND_HEAD : KPF.COMPOUND_TAIL);
}

function zeroWord(m: MmState, pfn: Pfn): number {
  if (pfn === m.zeroPfn) return 2 ** KPF.ZERO_PAGE + 2 ** KPF.RESERVED;
  return 2 ** KPF.ZERO_PAGE + compoundBits(m, pfn, m.hugeZero.pfn);
}

/** A page of a free block: marked by its head alone, or in memory that was never taken. */
function isInBuddy(m: MmState, pfn: Pfn): boolean {
  const zone = zoneOf(m, pfn);
  if (pfn >= zone.untakenStart && pfn < zone.untakenEnd) return true;
  const { flags, order } = m.frames;
  for (let size = 0; size <= MAX_ORDER; size++) {
    const head = pfn & -(1 << size);
    if ((flags[head] & PG.BUDDY) !== 0)
      return order[head] >= size && pfn < head + (1 << order[head]);
  }
  return false;
}
