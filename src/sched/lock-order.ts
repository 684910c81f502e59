/**
 * The kinds of locks and their order: a lock is taken only while all that its task holds stand above it (ANON-334).
 *
 * Owns:  the names that stand in the `holds` column of phase tables, and their meaning.
 */

import { fail } from "../base/assert.ts";

/** From the top of the tree in docs/architecture.md down; the last two are siblings. */
export const LOCK_NAMES = [
  /** Of an address space: read by faults, DONTNEED, FREE; written by changes of VMAs. Instance: mm id. */
  "mmap",
  /** Of one VMA; a fault may take this alone instead. Instance: address of its first page / 4096. */
  "vma",
  /** Split, migration, reclaim of one folio. Instance: its head pfn. */
  "folio",
  /** Walks from a page to its mappings. Instance: anon_vma id. */
  "anonVma",
  /** The same for a file's mappings. Instance: file id. */
  "fileMapping",
  /** Every change of an entry. Instance: table id. */
  "pageTable",
  /** Instance: queue number. */
  "deferredQueue",
  /** Instance: node. */
  "lru",
] as const;

export type LockName = (typeof LOCK_NAMES)[number];
export type LockMode = "read" | "write";

/** Locks of equal rank are never held together. */
const RANKS: Readonly<Record<LockName, number>> = {
  mmap: 0,
  vma: 1,
  folio: 2,
  anonVma: 3,
  fileMapping: 3,
  pageTable: 4,
  deferredQueue: 5,
  lru: 5,
};

/** One word of a `holds` column. */
export interface LockNeed {
  readonly name: LockName;
  readonly mode: LockMode;
}

/** True if `inner` may be taken while `outer` is held. */
export function mayTakeInside(outer: LockName, inner: LockName): boolean {
  return RANKS[inner] > RANKS[outer];
}

/**
 * The locks named by a `holds` text such as "mmap:read folio", top down. A word without a mode is exclusive. Unknown names
 * and a text against the order are defects of the table.
 */
export function parseHolds(text: string): readonly LockNeed[] {
  const needs = text
    .split(" ")
    .filter((word) => word !== "")
    .map(parseNeed);
  for (let i = 1; i < needs.length; i++)
    if (!mayTakeInside(needs[i - 1].name, needs[i].name)) fail("a phase names locks out of order");
  return needs;
}

function parseNeed(word: string): LockNeed {
  const [name, mode = "write"] = word.split(":");
  const known = LOCK_NAMES.find((candidate) => candidate === name);
  if (known === undefined || (mode !== "read" && mode !== "write"))
    return fail("a phase names a lock that does not exist");
  return { name: known, mode };
}
