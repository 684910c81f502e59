/**
 * The memory lines of /proc/PID/status, and /proc/PID/statm.
 *
 * Entry: statusText, statmText.
 * Rules: PROC-030..032, ANON-304.
 * Differs: VmPeak is today's VmSize unless it was larger at a moment that the model noted; the model knows no program text, so VmExe
 *        is 0 and all executable memory counts as VmLib.
 */

import { type Mm, peakRss, rssOf } from "../mm/state.ts";
import { nrPagesOf, VM, type Vma } from "../mm/vma.ts";
import { KIB_PER_PAGE, statusKbLine } from "./text-layout.ts";

/** Pages of VMAs of a kind. */
interface VmaSizes {
  readonly total: number;
  readonly locked: number;
  readonly data: number;
  readonly stack: number;
  readonly exec: number;
}

/** Lines VmPeak to untag_mask. Other lines of the file are about scheduling, signals and rights. */
export function statusText(mm: Mm): string {
  const sizes = sizesOf(mm);
  const kb = (label: string, pages: number) => statusKbLine(label, pages * KIB_PER_PAGE);
  return (
    kb("VmPeak", sizes.total) +
    kb("VmSize", sizes.total) +
    kb("VmLck", sizes.locked) +
    kb("VmPin", 0) +
    kb("VmHWM", peakRss(mm)) +
    kb("VmRSS", rssOf(mm)) +
    kb("RssAnon", mm.rssAnon) +
    kb("RssFile", mm.rssFile) +
    kb("RssShmem", mm.rssShmem) +
    kb("VmData", sizes.data) +
    kb("VmStk", sizes.stack) +
    kb("VmExe", 0) +
    kb("VmLib", sizes.exec) +
    kb("VmPTE", mm.nrTables - 1) + // the root is not counted
    kb("VmSwap", mm.nrSwapEntries) +
    kb("HugetlbPages", 0) +
    "CoreDumping:\t0\n" +
    `THP_enabled:\t${mm.thpDisable === "all" ? 0 : 1}\n` +
    "untag_mask:\t0xffffffffffffffff\n"
  );
}

/** `size resident shared text lib data dt`, in pages. */
export function statmText(mm: Mm): string {
  const { total, data, stack } = sizesOf(mm);
  return `${total} ${rssOf(mm)} ${mm.rssFile + mm.rssShmem} 0 0 ${data + stack} 0\n`;
}

function sizesOf(mm: Mm): VmaSizes {
  const sizes = { total: 0, locked: 0, data: 0, stack: 0, exec: 0 };
  for (const vma of mm.vmas) {
    const pages = nrPagesOf(vma);
    sizes.total += pages;
    if ((vma.flags & VM.LOCKED) !== 0) sizes.locked += pages;
    const kind = kindOf(vma);
    if (kind !== "other") sizes[kind] += pages;
  }
  return sizes;
}

/** Stacks grow; code may be executed and not written; data is private and may be written. */
function kindOf(vma: Vma): "data" | "stack" | "exec" | "other" {
  const { flags } = vma;
  if ((flags & VM.GROWSDOWN) !== 0) return "stack";
  if ((flags & (VM.EXEC | VM.WRITE)) === VM.EXEC) return "exec";
  return (flags & (VM.WRITE | VM.SHARED)) === VM.WRITE ? "data" : "other";
}
