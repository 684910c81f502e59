/**
 * Linux x86-64 memory calls with numeric arguments, told to an address book: what strace, perf, lackey and the recorder
 * have in common once they have read a call.
 *
 * Entry: tellCall, with arguments and result as the recorded program saw them.
 * Units: addresses and lengths in bytes; a result below 0 is a negative errno.
 */

import { PAGE_SIZE, pageOf } from "../base/address.ts";
import type { AddressBook, RecordedMap } from "./address-book.ts";
import type { Backing, MapCall, TraceSink } from "./trace-sink.ts";

export const MAP_SHARED_TYPE_MASK = 0x0f;
export const MAP_PRIVATE = 0x02;
export const MAP_FIXED = 0x10;
export const MAP_ANONYMOUS = 0x20;
export const MAP_LOCKED = 0x2000;
export const MAP_NORESERVE = 0x4000;
export const MAP_POPULATE = 0x8000;
export const MAP_STACK = 0x20000;
export const MAP_FIXED_NOREPLACE = 0x100000;
export const MREMAP_DONTUNMAP = 4;
export const MADV_DONTNEED = 4;
export const MADV_REMOVE = 9;
export const MLOCK_ONFAULT = 1;
export const PR_SET_THP_DISABLE = 41;

/** Calls that tellCall understands. */
export const MEMORY_CALLS = [
  "mmap",
  "munmap",
  "mprotect",
  "mremap",
  "brk",
  "madvise",
  "mlock",
  "mlock2",
  "munlock",
  "prctl",
] as const;
export type MemoryCall = (typeof MEMORY_CALLS)[number];

const IS_MEMORY_CALL = new Set<string>(MEMORY_CALLS);

export function isMemoryCall(name: string): name is MemoryCall {
  return IS_MEMORY_CALL.has(name);
}

/** Where calls go. */
export interface CallTarget {
  readonly book: AddressBook;
  readonly sink: TraceSink;
  /** The file that a process has open as `fd`, or undefined if that was not seen. */
  pathOf(process: number, fd: number): string | undefined;
}

/** Tells what a call did; a call that failed is passed over, but for madvise, whose errno is recorded. */
export function tellCall(
  { book, sink, pathOf }: CallTarget,
  process: number,
  name: MemoryCall,
  args: readonly number[],
  result: number,
): void {
  const [a = 0, b = 0, c = 0, d = 0] = args;
  if (name !== "prctl" && name !== "brk" && !isUserRange(a, b)) return;
  if (name === "madvise") {
    if (b > 0) book.madvise(process, pageStart(a), b, c, Math.min(0, result));
    return;
  }
  if (result < 0) return;
  switch (name) {
    case "mmap":
      if (b > 0)
        book.mmap(
          process,
          recordedMap(args, result, (fd) => pathOf(process, fd)),
        );
      return;
    case "munmap":
      return book.munmap(process, pageStart(a), b);
    case "mprotect":
      return book.mprotect(process, pageStart(a), b, c & 7);
    case "mremap": {
      if (!isUserRange(result, c)) return;
      const how = d & MREMAP_DONTUNMAP ? "dontUnmap" : "move";
      return book.mremap(process, pageStart(a), b, result, c, how);
    }
    case "brk":
      if (isUserRange(result, 0)) book.brk(process, result);
      return;
    case "mlock":
      return book.mlock(process, pageStart(a), b + (a - pageStart(a)), "lock");
    case "mlock2": {
      const how = c & MLOCK_ONFAULT ? "onFault" : "lock";
      return book.mlock(process, pageStart(a), b + (a - pageStart(a)), how);
    }
    case "munlock":
      return book.mlock(process, pageStart(a), b + (a - pageStart(a)), "unlock");
    case "prctl":
      if (a === PR_SET_THP_DISABLE) sink.prctlThpDisable(process, b, c);
      return;
  }
}

/** No successful call names memory outside the user half: such a one was misread or damaged, and is passed over. */
function isUserRange(address: number, length: number): boolean {
  return address >= 0 && length >= 0 && address + length <= 2 ** 47;
}

/** mmap's arguments (address, length, protection, flags, fd, offset) and result. */
export function recordedMap(
  args: readonly number[],
  result: number,
  pathOf: (fd: number) => string | undefined,
): RecordedMap {
  const [hint = 0, length = 0, prot = 0, flags = 0, fdArgument = -1, offset = 0] = args;
  const fd = fdArgument | 0;
  const isFixed = (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) !== 0;
  const isHintFollowed = hint !== 0 && pageStart(hint) === result;
  const request = isFixed ? "fixed" : isHintFollowed ? "hint" : "any";
  const backing: Backing =
    flags & MAP_ANONYMOUS
      ? { kind: "anonymous" }
      : { kind: "file", path: pathOf(fd) ?? `(file descriptor ${fd})`, firstPage: pageOf(offset) };
  return {
    address: result,
    length,
    request,
    prot: prot & 7,
    isShared: (flags & MAP_SHARED_TYPE_MASK) !== MAP_PRIVATE,
    backing,
    flags: flagWords(flags),
  };
}

function flagWords(flags: number): MapCall["flags"] {
  const words: ("populate" | "locked" | "stack" | "noreserve")[] = [];
  if (flags & MAP_POPULATE) words.push("populate");
  if (flags & MAP_LOCKED) words.push("locked");
  if (flags & MAP_STACK) words.push("stack");
  if (flags & MAP_NORESERVE) words.push("noreserve");
  return words;
}

function pageStart(address: number): number {
  return pageOf(address) * PAGE_SIZE;
}
