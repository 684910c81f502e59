/**
 * /proc/meminfo.
 *
 * Entry: meminfoText.
 * Rules: PROC-060..063, PHYS-013.
 * Differs: what the model has no counterpart of (kernel memory besides page tables, zswap, hugetlbfs, the direct map) reads 0;
 *        VmallocTotal is the size of x86-64's area. Cma* and Unaccepted depend on the kernel's configuration and
 *        have no line, HardwareCorrupted only if the machine handles failing memory, as the kernel that the rules were read from does
 *        not (ANON-286).
 */

import { HUGE_SIZE, PAGE_SIZE } from "../base/address.ts";
import type { MmState } from "../mm/state.ts";
import { nrPagesOf, VM } from "../mm/vma.ts";
import { availablePages } from "../phys/watermarks.ts";
import { swapFreePages, swapTotalPages } from "./swap-words.ts";
import { countLine, KIB_PER_PAGE, kbLine } from "./text-layout.ts";
import { countOf } from "./vmstat.ts";

const HUGE_KIB = HUGE_SIZE / 1024;
/** 32 TiB less the last byte's kB. */
const VMALLOC_KIB = 34359738367;
/** vm.overcommit_ratio at its default, in percent. */
const OVERCOMMIT_RATIO = 50;

/** Pages, or huge pages where the counter says so. */
interface Facts {
  readonly total: number;
  readonly free: number;
  readonly available: number;
  readonly committed: number;
}

/** The whole file. */
export function meminfoText(m: MmState): string {
  return factsLines(m) + listLines(m) + cacheLines(m) + commitLines(m) + hugeLines(m);
}

function factsLines(m: MmState): string {
  const facts = factsOf(m);
  const cached = countOf(m, "nr_file_pages") - countOf(m, "nr_swapcached");
  return (
    pagesLine("MemTotal", facts.total) +
    pagesLine("MemFree", facts.free) +
    pagesLine("MemAvailable", facts.available) +
    pagesLine("Buffers", 0) +
    pagesLine("Cached", Math.max(cached, 0)) +
    pagesLine("SwapCached", countOf(m, "nr_swapcached"))
  );
}

function factsOf(m: MmState): Facts {
  let total = 0;
  let free = 0;
  for (const zone of m.zones) {
    total += zone.managedPages;
    free += zone.nrFree;
  }
  return { total, free, available: availablePages(m, 0), committed: committedPages(m) };
}

/** Active and Inactive are the sums of their two lists. */
function listLines(m: MmState): string {
  const count = (name: string) => countOf(m, name);
  return (
    pagesLine("Active", count("nr_active_anon") + count("nr_active_file")) +
    pagesLine("Inactive", count("nr_inactive_anon") + count("nr_inactive_file")) +
    pagesLine("Active(anon)", count("nr_active_anon")) +
    pagesLine("Inactive(anon)", count("nr_inactive_anon")) +
    pagesLine("Active(file)", count("nr_active_file")) +
    pagesLine("Inactive(file)", count("nr_inactive_file")) +
    pagesLine("Unevictable", count("nr_unevictable")) +
    pagesLine("Mlocked", count("nr_mlock"))
  );
}

function cacheLines(m: MmState): string {
  const count = (name: string) => countOf(m, name);
  return (
    pagesLine("SwapTotal", swapTotalPages(m)) +
    pagesLine("SwapFree", swapFreePages(m)) +
    pagesLine("Zswap", 0) +
    pagesLine("Zswapped", 0) +
    pagesLine("Dirty", count("nr_dirty")) +
    pagesLine("Writeback", count("nr_writeback")) +
    pagesLine("AnonPages", count("nr_anon_pages")) +
    pagesLine("Mapped", count("nr_mapped")) +
    pagesLine("Shmem", count("nr_shmem")) +
    pagesLine("KReclaimable", 0) +
    pagesLine("Slab", 0) +
    pagesLine("SReclaimable", 0) +
    pagesLine("SUnreclaim", 0) +
    pagesLine("KernelStack", 0) +
    pagesLine("PageTables", count("nr_page_table_pages")) +
    pagesLine("SecPageTables", 0) +
    pagesLine("NFS_Unstable", 0) +
    pagesLine("Bounce", 0) +
    pagesLine("WritebackTmp", 0)
  );
}

function commitLines(m: MmState): string {
  const facts = factsOf(m);
  const limit = Math.floor((facts.total * OVERCOMMIT_RATIO) / 100) + swapTotalPages(m);
  return (
    pagesLine("CommitLimit", limit) +
    pagesLine("Committed_AS", facts.committed) +
    kbLine("VmallocTotal", VMALLOC_KIB) +
    pagesLine("VmallocUsed", 0) +
    pagesLine("VmallocChunk", 0) +
    pagesLine("Percpu", 0)
  );
}

function hugeLines(m: MmState): string {
  const count = (name: string) => countOf(m, name);
  return (
    (m.poison.isSupported ? kbLine("HardwareCorrupted", m.poison.nrPages * KIB_PER_PAGE) : "") +
    kbLine("AnonHugePages", count("nr_anon_transparent_hugepages") * HUGE_KIB) +
    kbLine("ShmemHugePages", count("nr_shmem_hugepages") * HUGE_KIB) +
    kbLine("ShmemPmdMapped", count("nr_shmem_pmdmapped") * HUGE_KIB) +
    kbLine("FileHugePages", count("nr_file_hugepages") * HUGE_KIB) +
    kbLine("FilePmdMapped", count("nr_file_pmdmapped") * HUGE_KIB) +
    pagesLine("Balloon", 0) +
    countLine("HugePages_Total", 0) +
    countLine("HugePages_Free", 0) +
    countLine("HugePages_Rsvd", 0) +
    countLine("HugePages_Surp", 0) +
    kbLine("Hugepagesize", HUGE_KIB) +
    kbLine("Hugetlb", 0) +
    kbLine("DirectMap4k", 0) +
    kbLine("DirectMap2M", 0) +
    kbLine("DirectMap1G", 0)
  );
}

/** Pages that accountable VMAs may come to need, and the sizes of shared memory objects (PROC-063). */
function committedPages(m: MmState): number {
  let pages = 0;
  const shmemPages = new Map<number, number>();
  for (const mm of m.mms) {
    for (const vma of mm?.vmas ?? []) {
      if ((vma.flags & VM.ACCOUNT) !== 0) pages += nrPagesOf(vma);
      if (vma.file?.kind !== "shmem" || (vma.flags & VM.NORESERVE) !== 0) continue;
      const end = vma.pgoff + (vma.end - vma.start) / PAGE_SIZE;
      shmemPages.set(vma.file.id, Math.max(shmemPages.get(vma.file.id) ?? 0, end));
    }
  }
  for (const size of shmemPages.values()) pages += size;
  return pages;
}

function pagesLine(label: string, pages: number): string {
  return kbLine(label, pages * KIB_PER_PAGE);
}
