/**
 * Memory that a recording uses without having said how it was mapped: the program and its loader, the stack, and whatever
 * was mapped before the recording began.
 *
 * Entry: ensureKnown, before a page is looked up.
 * Holds: afterwards the page is known to the address book. What is assumed, first match:
 *   1. The stack: 8 MiB that end at `stackTop` of the page, where the importer knows that this is the stack.
 *   2. The program and its loader: private file memory. How they are told depends on the source.
 *   3. Anything else: anonymous memory, readable and writable.
 *   2 and 3 cover the aligned 2 MiB around the page, less what is known: the extent cannot be seen, and with windows of
 *   that size neither the number of mappings grows with every page, nor does a forecast assume huge pages across
 *   what may be a hole. File memory is never backed by anonymous huge pages, so 2 cannot inflate a forecast; 3 can, by less
 *   than 2 MiB for each mapping that was not recorded.
 */

import { PAGE_SIZE } from "../base/address.ts";
import type { AddressBook } from "./address-book.ts";

export type ImpliedKind = "program" | "loader" | "memory";

/** What a source's addresses tell. Pages are recorded addresses / 4096. */
export interface AddressLayout {
  /** Page behind the top of the stack if `at` is in the stack's area, else -1. */
  stackTop(at: number): number;
  /** What `at` belongs to if it is not the stack: the program's file, its loader, or memory like any other. */
  kindOf(at: number): ImpliedKind;
}

const STACK_PAGES = 2048;
const WINDOW_PAGES = 512;
/** Nothing is below mmap_min_addr, 64 KiB. */
const LOWEST_PAGE = 16;

/** Makes recorded page `at` known if it is not. */
export function ensureKnown(
  book: AddressBook,
  process: number,
  at: number,
  layout: AddressLayout,
): void {
  if (book.find(process, at)) return;
  const gap = book.gapAround(process, at);
  const top = layout.stackTop(at);
  if (top > at && gap.start <= top - STACK_PAGES && top <= gap.end && at >= top - STACK_PAGES) {
    imply(book, process, top - STACK_PAGES, top, "stack");
    return;
  }
  const window = Math.floor(at / WINDOW_PAGES) * WINDOW_PAGES;
  const lowest = at < LOWEST_PAGE ? 0 : LOWEST_PAGE;
  const start = Math.max(window, gap.start, lowest);
  const end = Math.min(window + WINDOW_PAGES, gap.end);
  imply(book, process, start, end, layout.kindOf(at));
}

function imply(
  book: AddressBook,
  process: number,
  start: number,
  end: number,
  what: ImpliedKind | "stack",
): void {
  const isFile = what === "program" || what === "loader";
  book.mmap(process, {
    address: start * PAGE_SIZE,
    length: (end - start) * PAGE_SIZE,
    request: what === "program" ? "image" : "any",
    prot: 3,
    isShared: false,
    backing: isFile
      ? { kind: "file", path: `(the ${what})`, firstPage: start }
      : { kind: what === "stack" ? "stack" : "anonymous" },
    flags: [],
  });
}
