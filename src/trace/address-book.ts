/**
 * From recorded addresses to mappings and pages: what every recorder and importer needs to drive a TraceSink.
 *
 * Entry: createAddressBook. Memory calls are told with the addresses the recorded program saw; the book tells the sink
 *        the same by identity and offset, numbers the mappings, and answers which page of which mapping an address is.
 * Owns:  a PieceMap, the heap and the image base of each process. Processes have the recording's numbers.
 * Holds: whatever is told to the sink keeps the order rules about mappings and ranges (validate.ts), also when the
 *        recorder missed a call: memory that a new mapping must have replaced is unmapped first.
 * Units: addresses and lengths in bytes; lengths are rounded up to pages as the kernel does. `at` = recorded page.
 *
 * Placement of a new mapping, from what the program asked for:
 *   no hint, or a hint not followed    -> any
 *   a hint followed                    -> hint; but any, if it continues a known piece (it then depends on an address
 *                                         that the recorder's kernel or emulator chose, which replay does not repeat)
 *   MAP_FIXED over or next to a piece  -> at that piece's mapping
 *   a segment that exec mapped         -> image, relative to the first segment
 *   MAP_FIXED elsewhere                -> image if less than 4 GiB from the first segment, else hint
 */

import { type Addr, alignUp, PAGE_SIZE, pageOf } from "../base/address.ts";
import { assert } from "../base/assert.ts";
import { PieceMap } from "./piece-map.ts";
import type { Backing, MapCall, Placement, ProcessStart, TraceSink } from "./trace-sink.ts";

/** An mmap that succeeded, or a segment, as the recorded program saw it. */
export interface RecordedMap {
  /** Where it came to lie: mmap's result. */
  readonly address: Addr;
  readonly length: number;
  /** What was asked for: anywhere, at a hint, MAP_FIXED (also MAP_FIXED_NOREPLACE), or exec's own doing. */
  readonly request: "any" | "hint" | "fixed" | "image";
  readonly prot: number;
  readonly isShared: boolean;
  readonly backing: Backing;
  readonly flags: MapCall["flags"];
}

/** How far from the image base (in pages) a fixed mapping still counts as part of the image. */
const IMAGE_REACH = 2 ** 20;

interface Space {
  pieces: PieceMap;
  /** Mapping of brk's heap, -1 before its first growth. */
  heap: number;
  /** Recorded pages where the heap begins and ends; -1 while unknown. */
  heapStart: number;
  heapEnd: number;
  /** Recorded page of the first segment, -1 if none was seen. */
  imageBase: number;
}

export function createAddressBook(sink: TraceSink): AddressBook {
  return new AddressBook(sink);
}

export class AddressBook {
  /** Answers of the last find() that returned true. */
  mapping = -1;
  page = 0;
  /** How many pages from `page` on (itself included) follow at consecutive addresses in the mapping. */
  nrFollowing = 0;

  private readonly sink: TraceSink;
  private readonly spaces: (Space | undefined)[] = [];
  private nrMappings = 0;
  /** Rows: mappings. */
  private readonly backings: Backing[] = [];

  constructor(sink: TraceSink) {
    this.sink = sink;
  }

  /** A process appears; by fork or vfork it knows what its parent knows. Tells the sink. */
  start(process: number, parent: number, how: ProcessStart): void {
    this.spaces[process] = how === "exec" ? emptySpace() : copyOf(this.space(parent));
    this.sink.process(process, parent, how);
  }

  /** A process starts another program: nothing is known of its memory. Tells the sink. */
  exec(process: number): void {
    this.space(process);
    this.spaces[process] = emptySpace();
    this.sink.exec(process);
  }

  /** A process ends. Tells the sink. */
  exit(process: number, status: number): void {
    this.space(process);
    this.spaces[process] = undefined;
    this.sink.exit(process, status);
  }

  /** True if recorded page `at` of a process is known; then mapping, page and nrFollowing say what it is. */
  find(process: number, at: number): boolean {
    const { pieces } = this.space(process);
    const row = pieces.find(at);
    if (row < 0) return false;
    this.mapping = pieces.mapping[row];
    this.page = pieces.first[row] + (at - pieces.start[row]);
    this.nrFollowing = pieces.end[row] - at;
    return true;
  }

  /** The unknown recorded pages around page `at`, which must be unknown itself: [start, end). */
  gapAround(process: number, at: number): { readonly start: number; readonly end: number } {
    const { pieces } = this.space(process);
    const row = pieces.rowNotBefore(at);
    const start = row === 0 ? 0 : pieces.end[row - 1];
    return { start, end: row === pieces.length ? 2 ** 35 : pieces.start[row] };
  }

  /** Known parts of a range of addresses, in rising order, with `at` of each part's first page. */
  forEachPart(
    process: number,
    address: Addr,
    length: number,
    visit: (mapping: number, page: number, nrPages: number, at: number) => void,
  ): void {
    const { start, end } = pagesOf(address, length);
    this.space(process).pieces.forEachPart(start, end, visit);
  }

  /** mmap, or a segment. Gives the new mapping's number. */
  mmap(process: number, call: RecordedMap): number {
    const space = this.space(process);
    const { start, end } = pagesOf(call.address, call.length);
    assert(end > start, "a recorded mapping is empty");
    if (call.request === "image" && space.imageBase < 0) space.imageBase = start;
    const placement = placementOf(space, call, start, end);
    this.unmapOthers(process, space, start, end, placement);
    return this.add(process, space, start, {
      nrPages: end - start,
      prot: call.prot,
      isShared: call.isShared,
      backing: call.backing,
      placement,
      flags: call.flags,
    });
  }

  /** munmap. Parts that are not known are passed over, as the kernel does. */
  munmap(process: number, address: Addr, length: number): void {
    const { start, end } = pagesOf(address, length);
    this.unmapPages(process, this.space(process), start, end);
  }

  mprotect(process: number, address: Addr, length: number, prot: number): void {
    this.forEachPart(process, address, length, (mapping, page, nrPages) => {
      this.sink.protect(process, { mapping, page, nrPages }, prot);
    });
  }

  madvise(process: number, address: Addr, length: number, advice: number, result: number): void {
    this.forEachPart(process, address, length, (mapping, page, nrPages) => {
      this.sink.advise(process, { mapping, page, nrPages }, advice, result);
    });
  }

  mlock(process: number, address: Addr, length: number, how: "lock" | "onFault" | "unlock"): void {
    this.forEachPart(process, address, length, (mapping, page, nrPages) => {
      this.sink.lock(process, { mapping, page, nrPages }, how);
    });
  }

  /**
   * mremap that succeeded and returned `newAddress`. A range of several pieces moves piece by piece, each to a mapping of
   * its own; what is gained or lost in length is at the last one.
   */
  mremap(
    process: number,
    address: Addr,
    length: number,
    newAddress: Addr,
    newLength: number,
    how: "move" | "dontUnmap",
  ): void {
    const space = this.space(process);
    const old = pagesOf(address, length);
    const target = pagesOf(newAddress, newLength);
    const nrOld = old.end - old.start;
    const nrNew = target.end - target.start;
    if (nrOld === 0 || nrNew === 0) return;
    if (nrNew < nrOld) this.unmapPages(process, space, old.start + nrNew, old.end);
    const nrGained = Math.max(0, nrNew - nrOld);
    const kept = { start: old.start, end: old.start + Math.min(nrOld, nrNew) };
    if (target.start === old.start) this.growInPlace(process, space, kept.end, nrGained);
    else this.move(process, space, kept, target.start, nrGained, how);
  }

  /** brk's result: the heap's new end. The first one told, or heapAt's, is where the heap begins. */
  brk(process: number, end: Addr): void {
    const space = this.space(process);
    const endPage = pageOf(alignUp(end, PAGE_SIZE));
    if (space.heapStart < 0) {
      space.heapStart = endPage;
      space.heapEnd = endPage;
    }
    if (endPage === space.heapEnd || endPage < space.heapStart) return;
    if (space.heap < 0) this.addHeap(process, space);
    if (endPage > space.heapEnd) {
      this.unmapPages(process, space, space.heapEnd, endPage);
      const first = space.heapEnd - space.heapStart;
      space.pieces.add(space.heapEnd, endPage, space.heap, first);
    } else {
      space.pieces.remove(endPage, space.heapEnd);
    }
    space.heapEnd = endPage;
    this.sink.brk(process, space.heap, endPage - space.heapStart);
  }

  /** Where the heap begins, if known before the first brk. */
  heapAt(process: number, address: Addr): void {
    const space = this.space(process);
    space.heapStart = pageOf(alignUp(address, PAGE_SIZE));
    space.heapEnd = space.heapStart;
  }

  /** What is behind a mapping announced before. */
  backingOf(mapping: number): Backing {
    const backing = this.backings[mapping];
    assert(backing !== undefined, "a mapping that the book has not numbered");
    return backing;
  }

  /** Recorded page where the heap begins, -1 while unknown. */
  heapStartOf(process: number): number {
    return this.space(process).heapStart;
  }

  private space(process: number): Space {
    const space = this.spaces[process];
    assert(space !== undefined, "a recorded call of a process that is not known");
    return space;
  }

  private add(
    process: number,
    space: Space,
    start: number,
    call: Omit<MapCall, "mapping">,
  ): number {
    const mapping = this.nrMappings++;
    this.backings[mapping] = call.backing;
    this.sink.map(process, { mapping, ...call });
    space.pieces.add(start, start + call.nrPages, mapping, 0);
    return mapping;
  }

  private addHeap(process: number, space: Space): void {
    space.heap = this.nrMappings++;
    this.backings[space.heap] = { kind: "heap" };
    this.sink.map(process, {
      mapping: space.heap,
      nrPages: 0,
      prot: 3,
      isShared: false,
      backing: { kind: "heap" },
      placement: { kind: "any" },
      flags: [],
    });
  }

  private unmapPages(process: number, space: Space, start: number, end: number): void {
    space.pieces.forEachPart(start, end, (mapping, page, nrPages) => {
      this.sink.unmap(process, { mapping, page, nrPages });
    });
    space.pieces.remove(start, end);
  }

  /**
   * Makes room for a new mapping. Pages of the mapping it is placed at are replaced by the placement itself; pages of
   * others lie elsewhere in a replay and must be unmapped by name.
   */
  private unmapOthers(
    process: number,
    space: Space,
    start: number,
    end: number,
    placement: Placement,
  ): void {
    const anchor = placement.kind === "at" ? placement.mapping : -1;
    space.pieces.forEachPart(start, end, (mapping, page, nrPages) => {
      if (mapping !== anchor) this.sink.unmap(process, { mapping, page, nrPages });
    });
    space.pieces.remove(start, end);
  }

  private growInPlace(process: number, space: Space, end: number, nrGained: number): void {
    if (nrGained === 0) return;
    const row = space.pieces.find(end - 1);
    if (row < 0) return;
    this.unmapPages(process, space, end, end + nrGained);
    const { start, first, mapping } = space.pieces;
    const range = { mapping: mapping[row], page: first[row], nrPages: end - start[row] };
    this.sink.remap(process, range, range.mapping, range.nrPages + nrGained, false);
    space.pieces.add(end, end + nrGained, range.mapping, range.page + range.nrPages);
  }

  private move(
    process: number,
    space: Space,
    old: { readonly start: number; readonly end: number },
    target: number,
    nrGained: number,
    how: "move" | "dontUnmap",
  ): void {
    this.unmapPages(process, space, target, target + (old.end - old.start) + nrGained);
    const arrived: { at: number; nrPages: number; mapping: number }[] = [];
    space.pieces.forEachPart(old.start, old.end, (mapping, page, nrPages, at) => {
      const isLast = at + nrPages === old.end;
      const nrThere = nrPages + (isLast ? nrGained : 0);
      const to = this.nrMappings++;
      this.backings[to] = this.backings[mapping];
      this.sink.remap(process, { mapping, page, nrPages }, to, nrThere, how === "dontUnmap");
      arrived.push({ at: target + (at - old.start), nrPages: nrThere, mapping: to });
    });
    if (how === "move") space.pieces.remove(old.start, old.end);
    for (const { at, nrPages, mapping } of arrived) {
      space.pieces.add(at, at + nrPages, mapping, 0);
    }
  }
}

function emptySpace(): Space {
  return { pieces: new PieceMap(), heap: -1, heapStart: -1, heapEnd: -1, imageBase: -1 };
}

function copyOf(space: Space): Space {
  return { ...space, pieces: space.pieces.copy() };
}

function pagesOf(address: Addr, length: number): { readonly start: number; readonly end: number } {
  return { start: pageOf(address), end: pageOf(alignUp(address + length, PAGE_SIZE)) };
}

/** See the header. */
function placementOf(space: Space, call: RecordedMap, start: number, end: number): Placement {
  const { request } = call;
  if (request === "any") return { kind: "any" };
  if (request === "image") return { kind: "image", offsetPages: start - space.imageBase };
  const touching = touchingRow(space.pieces, start, end);
  if (request === "hint") {
    return touching < 0 ? { kind: "hint", address: call.address } : { kind: "any" };
  }
  if (touching >= 0) {
    const { mapping, first, start: starts } = space.pieces;
    const page = first[touching] + (start - starts[touching]);
    return { kind: "at", mapping: mapping[touching], page };
  }
  const offsetPages = start - space.imageBase;
  const isImage = space.imageBase >= 0 && Math.abs(offsetPages) < IMAGE_REACH;
  return isImage ? { kind: "image", offsetPages } : { kind: "hint", address: call.address };
}

/** The first piece that overlaps start..end, else one that ends at start or begins at end, else -1. */
function touchingRow(pieces: PieceMap, start: number, end: number): number {
  const row = pieces.rowNotBefore(start);
  const overlaps = row < pieces.length && pieces.start[row] < end;
  if (overlaps) return row;
  if (row > 0 && pieces.end[row - 1] === start) return row - 1;
  if (row < pieces.length && pieces.start[row] === end) return row;
  return -1;
}
