/**
 * Mapping calls as the recorder saw them, told to a TraceSink by mapping and page.
 *
 * Entry: tellSyscall, for each successful call (and madvise that failed).
 * Owns:  nothing; changes the process's address space.
 * Units: addresses in bytes at the edge, pages inside. Numbers and flags are x86-64 Linux's.
 */

import type { Backing, MapCall, Placement, TraceSink } from "../trace/trace-sink.ts";
import type { MappingNumbers, RecordedProcess } from "./record-convert.ts";
import type { Piece } from "./record-space.ts";
import type { RawSyscall } from "./record-stream.ts";

const PAGE_SIZE = 4096;

const SYS = {
  mmap: 9,
  mprotect: 10,
  munmap: 11,
  brk: 12,
  mremap: 25,
  madvise: 28,
  shmdt: 67,
  mlock: 149,
  munlock: 150,
  mlockall: 151,
  munlockall: 152,
  prctl: 157,
  mlock2: 325,
} as const;

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

/** Tells one call. Calls that change no mapping are passed over. */
export function tellSyscall(
  state: RecordedProcess,
  numbers: MappingNumbers,
  call: RawSyscall,
  sink: TraceSink,
): void {
  const [addr, size, third] = call.args;
  const first = Math.floor(addr / PAGE_SIZE);
  const end = first + Math.ceil(size / PAGE_SIZE);
  const process = state.process;
  switch (call.number) {
    case SYS.mmap:
      return tellMmap(state, numbers, call, sink);
    case SYS.munmap:
      return tellMunmap(state, first, end, sink);
    case SYS.mprotect:
      for (const range of rangesOf(state, first, end)) sink.protect(process, range, third & 7);
      return;
    case SYS.madvise:
      for (const range of rangesOf(state, first, end)) {
        sink.advise(process, range, third, Math.min(0, call.result));
      }
      return;
    case SYS.brk:
      return tellBrk(state, numbers, call.result, sink);
    case SYS.mremap:
      return tellMremap(state, numbers, call, sink);
    case SYS.prctl:
      return sink.prctlThpDisable(process, size, third);
    default:
      return tellLock(state, call, sink);
  }
}

interface Range {
  readonly mapping: number;
  readonly page: number;
  readonly nrPages: number;
}

function rangeOf(piece: Piece): Range {
  return { mapping: piece.mapping, page: piece.page, nrPages: piece.end - piece.start };
}

/** The ranges of mappings that show at absolute pages [start, end). */
function rangesOf(state: RecordedProcess, start: number, end: number): Range[] {
  return state.space.pieces(start, end).map(rangeOf);
}

function tellMmap(
  state: RecordedProcess,
  numbers: MappingNumbers,
  call: RawSyscall,
  sink: TraceSink,
): void {
  const [hint, size, prot, flags, , offset] = call.args;
  const start = Math.floor(call.result / PAGE_SIZE);
  const nrPages = Math.ceil(size / PAGE_SIZE);
  const placement = placementOf(state, hint, call.result, flags);
  const mapping = numbers.next++;
  sink.map(state.process, {
    mapping,
    nrPages,
    prot: prot & 7,
    isShared: (flags & MAP_TYPE) !== MAP_PRIVATE,
    backing: backingOf(call.path, flags, offset),
    placement,
    flags: flagsOf(flags),
  });
  state.space.place(start, start + nrPages, mapping, start);
  state.space.setLength(mapping, nrPages);
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

function placementOf(
  state: RecordedProcess,
  hint: number,
  result: number,
  flags: number,
): Placement {
  const isFixed = (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) !== 0;
  if (!isFixed) {
    return hint !== 0 && hint === result ? { kind: "hint", address: hint } : { kind: "any" };
  }
  const page = Math.floor(result / PAGE_SIZE);
  const neighbour = neighbourOf(state, page);
  if (neighbour === undefined) return { kind: "hint", address: result };
  return { kind: "at", mapping: neighbour.mapping, page: neighbour.page };
}

/** The mapping at an absolute page, or the one that ends there, with the page counted in it. */
function neighbourOf(
  state: RecordedProcess,
  page: number,
): { readonly mapping: number; readonly page: number } | undefined {
  const space = state.space;
  const isAt = space.find(page);
  if (!isAt && !space.find(page - 1)) return undefined;
  const mapping = space.foundMapping;
  if (space.lengthOf(mapping) === undefined) return undefined;
  return { mapping, page: space.foundPage + (isAt ? 0 : 1) };
}

function tellMunmap(state: RecordedProcess, start: number, end: number, sink: TraceSink): void {
  for (const range of rangesOf(state, start, end)) {
    sink.unmap(state.process, range);
    if (range.nrPages === state.space.lengthOf(range.mapping)) state.space.forget(range.mapping);
  }
  state.space.cut(start, end);
}

function tellBrk(
  state: RecordedProcess,
  numbers: MappingNumbers,
  result: number,
  sink: TraceSink,
): void {
  const end = Math.ceil(result / PAGE_SIZE);
  if (state.heap === undefined) {
    const mapping = numbers.next++;
    state.heap = { mapping, firstPage: end };
    state.space.setLength(mapping, 0);
    sink.map(state.process, {
      mapping,
      nrPages: 0,
      prot: 3,
      isShared: false,
      backing: { kind: "heap" },
      placement: { kind: "any" },
      flags: [],
    });
    return;
  }
  const { mapping, firstPage } = state.heap;
  const before = state.space.lengthOf(mapping) ?? 0;
  const nrPages = Math.max(0, end - firstPage);
  if (nrPages === before) return;
  sink.brk(state.process, mapping, nrPages);
  state.space.setLength(mapping, nrPages);
  if (nrPages < before) state.space.cut(firstPage + nrPages, firstPage + before);
  else state.space.place(firstPage + before, firstPage + nrPages, mapping, firstPage);
}

function tellMremap(
  state: RecordedProcess,
  numbers: MappingNumbers,
  call: RawSyscall,
  sink: TraceSink,
): void {
  const { space, process } = state;
  const [addr, oldSize, newSize, flags] = call.args;
  const from = Math.floor(addr / PAGE_SIZE);
  const to = Math.floor(call.result / PAGE_SIZE);
  const oldPages = Math.ceil(oldSize / PAGE_SIZE);
  const newPages = Math.ceil(newSize / PAGE_SIZE);
  if (from === to) return resizeInPlace(state, numbers, from, oldPages, newPages, sink);

  const pieces = space.pieces(from, from + oldPages);
  if (pieces.length === 0) return;
  const mapping = numbers.next++;
  const keepsOld = (flags & MREMAP_DONTUNMAP) !== 0;
  sink.remap(process, rangeOf(pieces[0]), mapping, newPages, keepsOld);
  if (!keepsOld) {
    const moved = rangeOf(pieces[0]);
    if (moved.nrPages === space.lengthOf(moved.mapping)) space.forget(moved.mapping);
    for (const piece of pieces.slice(1)) tellMunmap(state, piece.start, piece.end, sink);
    space.cut(from, from + oldPages);
  }
  space.place(to, to + newPages, mapping, to);
  space.setLength(mapping, newPages);
}

function resizeInPlace(
  state: RecordedProcess,
  numbers: MappingNumbers,
  from: number,
  oldPages: number,
  newPages: number,
  sink: TraceSink,
): void {
  const { space, process } = state;
  if (newPages <= oldPages) return tellMunmap(state, from + newPages, from + oldPages, sink);
  const last = space.pieces(from, from + oldPages).at(-1);
  if (last === undefined) return;
  const range = rangeOf(last);
  const grown = newPages - oldPages;
  const isTail = range.page + range.nrPages === space.lengthOf(range.mapping);
  if (isTail) {
    sink.remap(process, range, range.mapping, range.nrPages + grown, false);
    space.setLength(range.mapping, range.page + range.nrPages + grown);
    space.place(from + oldPages, from + newPages, range.mapping, last.start - last.page);
    return;
  }
  // The mapping lost its tail before, so it cannot grow there by its own pages: new ones follow it.
  const mapping = numbers.next++;
  sink.map(process, {
    mapping,
    nrPages: grown,
    prot: 3,
    isShared: false,
    backing: { kind: "anonymous" },
    placement: { kind: "at", mapping: range.mapping, page: range.page + range.nrPages },
    flags: [],
  });
  space.place(from + oldPages, from + newPages, mapping, from + oldPages);
  space.setLength(mapping, grown);
}

function tellLock(state: RecordedProcess, call: RawSyscall, sink: TraceSink): void {
  const [addr, size, flags] = call.args;
  const isAll = call.number === SYS.mlockall || call.number === SYS.munlockall;
  if (call.number === SYS.mlockall && (addr & MCL_CURRENT) === 0) return;
  const first = isAll ? 0 : Math.floor(addr / PAGE_SIZE);
  const end = isAll ? Number.MAX_SAFE_INTEGER : Math.ceil((addr + size) / PAGE_SIZE);
  const how = howToLock(call.number, flags);
  if (how === undefined) return;
  for (const range of rangesOf(state, first, end)) sink.lock(state.process, range, how);
}

function howToLock(number: number, flags: number): "lock" | "onFault" | "unlock" | undefined {
  if (number === SYS.mlock || number === SYS.mlockall) return "lock";
  if (number === SYS.mlock2) return (flags & MLOCK_ONFAULT) !== 0 ? "onFault" : "lock";
  if (number === SYS.munlock || number === SYS.munlockall) return "unlock";
  return undefined;
}
