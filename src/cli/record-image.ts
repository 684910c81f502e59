/**
 * What a program finds in memory when it starts, as mappings: its segments, the loader's, the stack.
 *
 * Entry: tellImage, once per exec.
 * Owns:  nothing.
 * Holds: the program's own segments are placed relative to its first page. The dynamic loader's lie together inside one
 *        range that the kernel places freely; that range is told as a mapping without access, its segments over it.
 */

import type { AddressBook, RecordedMap } from "../trace/address-book.ts";
import type { Backing } from "../trace/trace-sink.ts";
import type { ImagePiece } from "./record-stream.ts";

const PAGE_SIZE = 4096;
const PROT_NONE = 0;

/** Neighbouring pieces of one file and the zero pages behind them; without a file a piece on its own. */
interface Group {
  readonly path: string;
  readonly pieces: ImagePiece[];
}

/** Tells the pieces of one process, which come in ascending order of addresses. */
export function tellImage(book: AddressBook, pieces: readonly ImagePiece[]): void {
  const groups = grouped(pieces);
  // The program lies below its loader, whose segments are of another file.
  const program = groups.find((group) => group.path !== "");
  for (const group of groups) {
    const isLoader = group.path !== "" && group !== program;
    if (isLoader) reserve(book, group);
    const request = group === program ? "image" : isLoader ? "fixed" : "any";
    for (const piece of group.pieces) tellPiece(book, piece, request);
  }
}

function grouped(pieces: readonly ImagePiece[]): Group[] {
  const groups: Group[] = [];
  for (const piece of pieces) {
    const last = groups.at(-1);
    const previous = last?.pieces.at(-1);
    const isNext = previous !== undefined && previous.page + previous.nrPages === piece.page;
    const isSameFile = last !== undefined && last.path !== "" && piece.path === last.path;
    const isZeroTail = isNext && piece.kind === "anonymous" && last?.path !== "";
    if (last !== undefined && (isSameFile || isZeroTail)) last.pieces.push(piece);
    else groups.push({ path: piece.path, pieces: [piece] });
  }
  return groups;
}

/** The range of a shared object as the kernel places it. */
function reserve(book: AddressBook, group: Group): void {
  const first = group.pieces[0];
  const last = group.pieces[group.pieces.length - 1];
  book.mmap(first.process, {
    address: first.page * PAGE_SIZE,
    length: (last.page + last.nrPages - first.page) * PAGE_SIZE,
    request: "any",
    prot: PROT_NONE,
    isShared: false,
    backing: { kind: "anonymous" },
    flags: [],
  });
}

function tellPiece(book: AddressBook, piece: ImagePiece, request: RecordedMap["request"]): void {
  book.mmap(piece.process, {
    address: piece.page * PAGE_SIZE,
    length: piece.nrPages * PAGE_SIZE,
    request,
    prot: piece.prot,
    isShared: false,
    backing: backingOf(piece),
    flags: piece.kind === "stack" ? ["stack"] : [],
  });
}

function backingOf(piece: ImagePiece): Backing {
  if (piece.kind === "file") return { kind: "file", path: piece.path, firstPage: piece.filePage };
  return { kind: piece.kind };
}
