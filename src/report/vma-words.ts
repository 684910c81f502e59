/**
 * A VMA in the words of /proc/PID/maps: its first line in maps and smaps, its name, and the letters of VmFlags.
 *
 * Entry: mapsLine, rollupLine, vmFlagsText.
 * Rules: PROC-001..003, PROC-022, PROC-025, ANON-303.
 * Differs: the model keeps no device and inode numbers and no rights of open files. A mapped file gets device 00:01 and its id in
 *        the model as inode; every VMA may be made readable, writable and executable (mr mw me).
 */

import { PAGE_SIZE } from "../base/address.ts";
import type { Mm } from "../mm/state.ts";
import { VM, type Vma } from "../mm/vma.ts";

/** Column (from 0) at which a name begins. */
const NAME_COLUMN = 73;
const FILE_DEVICE = "00:01";

/** One line of maps: `START-END PERMS OFFSET MAJ:MIN INODE NAME`. */
export function mapsLine(mm: Mm, vma: Vma): string {
  const { file } = vma;
  const offset = file === null ? 0 : vma.pgoff * PAGE_SIZE;
  const device = file === null ? "00:00" : FILE_DEVICE;
  const range = `${hex8(vma.start)}-${hex8(vma.end)}`;
  const head = `${range} ${permsOf(vma)} ${hex8(offset)} ${device} ${file?.id ?? 0} `;
  return named(head, nameOf(mm, vma));
}

/** First line of smaps_rollup: from the first VMA's start to the last one's end. */
export function rollupLine(mm: Mm): string {
  const { vmas } = mm;
  const start = vmas.length > 0 ? vmas[0].start : 0;
  const end = vmas.length > 0 ? vmas[vmas.length - 1].end : 0;
  return named(`${hex8(start)}-${hex8(end)} ---p 00000000 00:00 0 `, "[rollup]");
}

function named(head: string, name: string): string {
  return name === "" ? `${head}\n` : `${head.padEnd(NAME_COLUMN - 1)} ${name}\n`;
}

function hex8(value: number): string {
  return value.toString(16).padStart(8, "0");
}

function permsOf(vma: Vma): string {
  const { flags } = vma;
  const read = (flags & VM.READ) !== 0 ? "r" : "-";
  const write = (flags & VM.WRITE) !== 0 ? "w" : "-";
  const exec = (flags & VM.EXEC) !== 0 ? "x" : "-";
  return read + write + exec + ((flags & VM.SHARED) !== 0 ? "s" : "p");
}

/** PROC-003, for what the model maps: files, shared anonymous memory, heap and stack; "" if it has no name. */
export function nameOf(mm: Mm, vma: Vma): string {
  const { file } = vma;
  if (file !== null) {
    const isUnlinked = file.kind === "shmem";
    return file.path.replaceAll("\n", "\\012") + (isUnlinked ? " (deleted)" : "");
  }
  if (isHeap(mm, vma)) return "[heap]";
  return isStack(mm, vma) ? "[stack]" : "";
}

/** True if the VMA overlaps the area of the program break. */
export function isHeap(mm: Mm, vma: Vma): boolean {
  return vma.start < mm.brk && vma.end > mm.brkStart;
}

/** True for the main stack: of the VMAs that grow down, the highest. */
export function isStack(mm: Mm, vma: Vma): boolean {
  if ((vma.flags & VM.GROWSDOWN) === 0) return false;
  return !mm.vmas.some((other) => other.start > vma.start && (other.flags & VM.GROWSDOWN) !== 0);
}

type Letters = readonly [letters: string, isSet: (flags: number) => boolean];

const has =
  (bit: number) =>
  (flags: number): boolean =>
    (flags & bit) !== 0;
const always = (): boolean => true;

/** PROC-022: the letters in the order in which they are printed. */
const LETTERS: readonly Letters[] = [
  ["rd", has(VM.READ)],
  ["wr", has(VM.WRITE)],
  ["ex", has(VM.EXEC)],
  ["sh", has(VM.SHARED)],
  ["mr", always],
  ["mw", always],
  ["me", always],
  ["ms", has(VM.SHARED)],
  ["gd", has(VM.GROWSDOWN)],
  ["um", has(VM.UFFD_MISSING)],
  ["pf", has(VM.PFNMAP)],
  ["gu", has(VM.MAYBE_GUARD)],
  ["uw", has(VM.UFFD_WP)],
  ["lo", has(VM.LOCKED)],
  ["io", has(VM.IO)],
  ["sr", has(VM.SEQ_READ)],
  ["rr", has(VM.RAND_READ)],
  ["dc", has(VM.DONTFORK)],
  ["de", has(VM.DONTEXPAND)],
  ["lf", has(VM.LOCKONFAULT)],
  ["ac", has(VM.ACCOUNT)],
  ["nr", has(VM.NORESERVE)],
  ["wf", has(VM.WIPEONFORK)],
  ["dd", has(VM.DONTDUMP)],
  ["mm", has(VM.MIXEDMAP)],
  ["hg", has(VM.HUGEPAGE)],
  ["nh", has(VM.NOHUGEPAGE)],
  ["mg", has(VM.MERGEABLE)],
  ["dp", has(VM.DROPPABLE)],
  ["sl", has(VM.SEALED)],
];

/** The letters of a VMA, each followed by a blank. */
export function vmFlagsText(vma: Vma): string {
  let text = "";
  for (const [letters, isSet] of LETTERS) if (isSet(vma.flags)) text += `${letters} `;
  return text;
}
