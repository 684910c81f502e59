/**
 * Mapping calls as the recorder saw them, told to the address book.
 *
 * Entry: tellSyscall, for each successful call (and madvise that failed).
 * Owns:  nothing.
 * Units: bytes. Numbers and flags are x86-64 Linux's.
 */

import type { AddressBook, RecordedMap } from "../trace/address-book.ts";
import type { Backing, MapCall, TraceSink } from "../trace/trace-sink.ts";
import type { RawSyscall } from "./record-stream.ts";

const PAGE_SIZE = 4096;

const SYS = {
  mmap: 9,
  mprotect: 10,
  munmap: 11,
  brk: 12,
  mremap: 25,
  madvise: 28,
  mlock: 149,
  munlock: 150,
  mlockall: 151,
  munlockall: 152,
  prctl: 157,
  mlock2: 325,
} as const;

const PROT_MASK = 7;
const MAP_TYPE = 0x0f;
const MAP_PRIVATE = 0x02;
const MAP_FIXED = 0x10;
const MAP_ANONYMOUS = 0x20;
const MAP_LOCKED = 0x2000;
const MAP_NORESERVE = 0x4000;
const MAP_POPULATE = 0x8000;
const MAP_STACK = 0x20000;
const MAP_FIXED_NOREPLACE = 0x100000;
const MREMAP_DONTUNMAP = 4;
const MLOCK_ONFAULT = 1;
const MCL_CURRENT = 1;
/** All of user space. */
const EVERYTHING = 2 ** 47;

/** Tells one call. Calls that change no mapping are passed over. */
export function tellSyscall(book: AddressBook, sink: TraceSink, call: RawSyscall): void {
  const { process, result } = call;
  const [addr, size, third, fourth] = call.args;
  switch (call.number) {
    case SYS.mmap:
      book.mmap(process, recordedMap(call));
      return;
    case SYS.munmap:
      return book.munmap(process, addr, size);
    case SYS.mprotect:
      return book.mprotect(process, addr, size, third & PROT_MASK);
    case SYS.madvise:
      return book.madvise(process, addr, size, third, Math.min(0, result));
    case SYS.brk:
      return book.brk(process, result);
    case SYS.mremap: {
      const how = (fourth & MREMAP_DONTUNMAP) !== 0 ? "dontUnmap" : "move";
      return book.mremap(process, addr, size, result, third, how);
    }
    case SYS.prctl:
      return sink.prctlThpDisable(process, size, third);
    case SYS.mlock:
      return book.mlock(process, addr, size, "lock");
    case SYS.mlock2:
      return book.mlock(process, addr, size, (third & MLOCK_ONFAULT) !== 0 ? "onFault" : "lock");
    case SYS.munlock:
      return book.mlock(process, addr, size, "unlock");
    case SYS.mlockall:
      if ((addr & MCL_CURRENT) !== 0) book.mlock(process, 0, EVERYTHING, "lock");
      return;
    case SYS.munlockall:
      return book.mlock(process, 0, EVERYTHING, "unlock");
  }
}

function recordedMap(call: RawSyscall): RecordedMap {
  const [hint, length, prot, flags, , offset] = call.args;
  const isFixed = (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) !== 0;
  const isFollowed = hint !== 0 && hint === call.result;
  return {
    address: call.result,
    length,
    request: isFixed ? "fixed" : isFollowed ? "hint" : "any",
    prot: prot & PROT_MASK,
    isShared: (flags & MAP_TYPE) !== MAP_PRIVATE,
    backing: backingOf(call.path, flags, offset),
    flags: flagsOf(flags),
  };
}

/** A mapping of /dev/zero is anonymous memory by another name. */
function backingOf(path: string, flags: number, offset: number): Backing {
  if ((flags & MAP_ANONYMOUS) !== 0 || path === "/dev/zero") return { kind: "anonymous" };
  return { kind: "file", path, firstPage: Math.floor(offset / PAGE_SIZE) };
}

function flagsOf(flags: number): MapCall["flags"] {
  const words: ("populate" | "locked" | "stack" | "noreserve")[] = [];
  if ((flags & MAP_POPULATE) !== 0) words.push("populate");
  if ((flags & MAP_LOCKED) !== 0) words.push("locked");
  if ((flags & MAP_STACK) !== 0) words.push("stack");
  if ((flags & MAP_NORESERVE) !== 0) words.push("noreserve");
  return words;
}
