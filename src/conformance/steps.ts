/**
 * Memory operations that a process on the running kernel and one on the model perform alike.
 *
 * Entry: Step, Actor; WINDOW_START.
 * Units: `page` counts from WINDOW_START, a place far from everything that a program brings along.
 */

import { type Addr, PAGE_SIZE } from "../base/address.ts";

/** Start of the part of the address space that steps work in: a 2 MiB boundary. */
export const WINDOW_START: Addr = 2 ** 44;
/** End (exclusive) of that part. */
export const WINDOW_END: Addr = WINDOW_START + 2 ** 40;

export type Step =
  | readonly [op: "map", page: number, pages: number, prot: number, flags: number]
  | readonly [op: "unmap" | "read" | "write" | "mlock" | "munlock", page: number, pages: number]
  | readonly [op: "madvise" | "mprotect" | "mlock2", page: number, pages: number, argument: number]
  /** PR_SET_THP_DISABLE. */
  | readonly [op: "thpDisable", value: number, flags: number]
  | readonly [op: "fork"]
  /** Of a forked process, by its number. */
  | readonly [op: "exit", process: number];

/** Address of a page of the window. */
export function addressOf(page: number): Addr {
  return WINDOW_START + page * PAGE_SIZE;
}

/** Text of one process: what its files below /proc/PID say. */
export interface View {
  /** A text file such as "smaps". */
  read(name: string): string;
  /** The pagemap words of pages of the window, each as [low, high]. */
  pagemap(page: number, nr: number): (readonly [low: number, high: number])[];
  /** kpageflags and kpagecount of the frame of each page; null where none is mapped. */
  frames(page: number, nr: number): (readonly [flags: number, count: number] | null)[];
}

export interface Actor {
  /** 0 or a negative errno; of fork the number of the new process, from 1. */
  perform(step: Step): Promise<number>;
  /** Brings every page onto the LRU list it is on its way to. */
  settle(): Promise<void>;
  /** Process 0 is the first one. */
  view(process: number): View;
}
