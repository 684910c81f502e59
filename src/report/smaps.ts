/**
 * /proc/PID/maps, smaps and smaps_rollup.
 *
 * Entry: mapsText, smapsText, smapsRollupText.
 * Rules: PROC-001, PROC-010..025.
 */

import { isThpEligible } from "../huge/eligibility.ts";
import type { HugeState } from "../huge/knobs.ts";
import type { Mm } from "../mm/state.ts";
import type { Vma } from "../mm/vma.ts";
import { addVma, emptySums, type MemorySums, pssKb } from "./memory-sums.ts";
import { countLine, KIB_PER_PAGE, kbLine } from "./text-layout.ts";
import { mapsLine, rollupLine, vmFlagsText } from "./vma-words.ts";

/** /proc/PID/maps; empty for a process without memory. */
export function mapsText(mm: Mm): string {
  return mm.vmas.map((vma) => mapsLine(mm, vma)).join("");
}

/** /proc/PID/smaps; empty for a process without memory. */
export function smapsText(m: HugeState, mm: Mm): string {
  return mm.vmas.map((vma) => smapsOfVma(m, mm, vma)).join("");
}

function smapsOfVma(m: HugeState, mm: Mm, vma: Vma): string {
  const sums = emptySums();
  addVma(m, mm, vma, sums);
  return (
    mapsLine(mm, vma) +
    kbLine("Size", (vma.end - vma.start) / 1024) +
    kbLine("KernelPageSize", KIB_PER_PAGE) +
    kbLine("MMUPageSize", KIB_PER_PAGE) +
    sumsText(sums, "") +
    countLine("THPeligible", isThpEligible(m, mm, vma) ? 1 : 0) +
    `VmFlags: ${vmFlagsText(vma)}\n`
  );
}

/** /proc/PID/smaps_rollup: the same sums over all VMAs, with Pss by kind. */
export function smapsRollupText(m: HugeState, mm: Mm): string {
  const sums = emptySums();
  for (const vma of mm.vmas) addVma(m, mm, vma, sums);
  const byKind =
    kbLine("Pss_Anon", pssKb(sums.pssAnon)) +
    kbLine("Pss_File", pssKb(sums.pssFile)) +
    kbLine("Pss_Shmem", pssKb(sums.pssShmem));
  return rollupLine(mm) + sumsText(sums, byKind);
}

/** The lines that both have; `byKind` goes behind Pss_Dirty. Huge pages of hugetlbfs are not modelled. */
function sumsText(sums: MemorySums, byKind: string): string {
  const pages = (label: string, nr: number) => kbLine(label, nr * KIB_PER_PAGE);
  return (
    pages("Rss", sums.rss) +
    kbLine("Pss", pssKb(sums.pss)) +
    kbLine("Pss_Dirty", pssKb(sums.pssDirty)) +
    byKind +
    pages("Shared_Clean", sums.sharedClean) +
    pages("Shared_Dirty", sums.sharedDirty) +
    pages("Private_Clean", sums.privateClean) +
    pages("Private_Dirty", sums.privateDirty) +
    pages("Referenced", sums.referenced) +
    pages("Anonymous", sums.anonymous) +
    pages("KSM", sums.ksm) +
    pages("LazyFree", sums.lazyFree) +
    pages("AnonHugePages", sums.anonHuge) +
    pages("ShmemPmdMapped", sums.shmemPmdMapped) +
    pages("FilePmdMapped", sums.filePmdMapped) +
    pages("Shared_Hugetlb", 0) +
    pages("Private_Hugetlb", 0) +
    pages("Swap", sums.swap) +
    kbLine("SwapPss", pssKb(sums.swapPss)) +
    kbLine("Locked", pssKb(sums.pssLocked))
  );
}
