/**
 * What a program finds in memory when it starts, as mappings: its segments, the loader's, the stack.
 *
 * Entry: tellImage, once per exec.
 * Owns:  nothing.
 * Holds: the program's own segments are placed relative to its first page. The dynamic loader's lie together inside one
 *        range that the kernel places freely; that range is told as a mapping without access, its segments in it.
 */

import type { Backing, Placement, TraceSink } from "../trace/trace-sink.ts";
import type { MappingNumbers, RecordedProcess } from "./record-convert.ts";
import type { ImagePiece } from "./record-stream.ts";

const PROT_NONE = 0;

/** Neighbouring pieces of one file and the zero pages behind them. */
interface Group {
  readonly path: string;
  readonly pieces: ImagePiece[];
}

/** Tells the pieces of one process, which come in ascending order of addresses. */
export function tellImage(
  state: RecordedProcess,
  numbers: MappingNumbers,
  pieces: readonly ImagePiece[],
  sink: TraceSink,
): void {
  const groups = grouped(pieces);
  const program = groups.find((group) => group.path !== "");
  for (const group of groups) {
    const first = group.pieces[0].page;
    if (group === program) {
      for (const piece of group.pieces) {
        const place: Placement = { kind: "image", offsetPages: piece.page - first };
        tellPiece(state, numbers, piece, place, sink);
      }
    } else if (group.path !== "") {
      const range = reserve(state, numbers, group, sink);
      for (const piece of group.pieces) {
        const place: Placement = { kind: "at", mapping: range, page: piece.page - first };
        tellPiece(state, numbers, piece, place, sink);
      }
    } else {
      for (const piece of group.pieces) {
        tellPiece(state, numbers, piece, { kind: "any" }, sink);
      }
    }
  }
}

function grouped(pieces: readonly ImagePiece[]): Group[] {
  const groups: Group[] = [];
  for (const piece of pieces) {
    const last = groups.at(-1);
    const previous = last?.pieces.at(-1);
    const isNext = previous !== undefined && previous.page + previous.nrPages === piece.page;
    const isSameFile = last !== undefined && last.path !== "" && piece.path === last.path;
    const isZeroTail = isNext && piece.kind === "anonymous" && last !== undefined;
    if (isSameFile || isZeroTail) last.pieces.push(piece);
    else groups.push({ path: piece.path, pieces: [piece] });
  }
  return groups;
}

/** The range of a shared object as the kernel places it: one mapping, to be covered by its segments. */
function reserve(
  state: RecordedProcess,
  numbers: MappingNumbers,
  group: Group,
  sink: TraceSink,
): number {
  const first = group.pieces[0].page;
  const last = group.pieces[group.pieces.length - 1];
  const nrPages = last.page + last.nrPages - first;
  const mapping = numbers.next++;
  sink.map(state.process, {
    mapping,
    nrPages,
    prot: PROT_NONE,
    isShared: false,
    backing: { kind: "anonymous" },
    placement: { kind: "any" },
    flags: [],
  });
  state.space.setLength(mapping, nrPages);
  state.space.place(first, first + nrPages, mapping, first);
  return mapping;
}

function tellPiece(
  state: RecordedProcess,
  numbers: MappingNumbers,
  piece: ImagePiece,
  placement: Placement,
  sink: TraceSink,
): void {
  const { page, nrPages, prot } = piece;
  const mapping = numbers.next++;
  const flags = piece.kind === "stack" ? (["stack"] as const) : [];
  sink.map(state.process, {
    mapping,
    nrPages,
    prot,
    isShared: false,
    backing: backingOf(piece),
    placement,
    flags,
  });
  state.space.setLength(mapping, nrPages);
  state.space.place(page, page + nrPages, mapping, page);
}

function backingOf(piece: ImagePiece): Backing {
  if (piece.kind === "file") return { kind: "file", path: piece.path, firstPage: piece.filePage };
  return { kind: piece.kind };
}
