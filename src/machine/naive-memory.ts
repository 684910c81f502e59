/**
 * The naive model the fuzz test compares the machine with: per process a map from page number to what a read must give.
 *
 * Knows nothing of frames, tables, sharing or huge pages: only what POSIX promises of mmap, munmap, mprotect, mremap,
 * madvise, fork and writes. Used by tests only.
 */

import { fileTag } from "../shmem/page-cache.ts";

/** Memory that several mappings see: shared anonymous memory, or a read-only file. */
export interface NaiveObject {
  /** Id of a regular file, whose contents are given; null for shared anonymous memory, which starts as zeroes. */
  readonly fileId: number | null;
  /** Last write by page index. */
  readonly written: Map<number, number>;
}

/** One mapped page. A new record whenever the page is unmapped or dropped, so that identity means "same memory". */
export interface NaivePage {
  readonly object: NaiveObject | null;
  /** Page index in the object. */
  readonly index: number;
  readonly isShared: boolean;
  /** PROT bits. */
  prot: number;
  /** Last write to private memory; null: the object's contents, or zero. */
  tag: number | null;
  /** MADV_FREE was given since the last write: reads may see the tag or zero. */
  mayBeLost: boolean;
  isDroppedAtFork: boolean;
  isWipedAtFork: boolean;
  /** mlock: MADV_DONTNEED is refused. */
  isLocked: boolean;
  /** A guard region: every touch fails. */
  isGuard: boolean;
}

/** One address space by page number. */
export type NaiveSpace = Map<number, NaivePage>;

/** What a read must see. */
export function contentsOf(page: NaivePage): number {
  if (page.tag !== null) return page.tag;
  if (page.object === null) return 0;
  const written = page.object.written.get(page.index);
  if (written !== undefined) return written;
  return page.object.fileId === null ? 0 : fileTag(page.object.fileId, page.index);
}

/** A write that the machine has carried out. */
export function writeTo(page: NaivePage, tag: number): void {
  page.mayBeLost = false;
  if (page.isShared) page.object!.written.set(page.index, tag);
  else page.tag = tag;
}

/** Maps `nr` pages from `first`, replacing what is there. */
export function mapPages(
  space: NaiveSpace,
  first: number,
  nr: number,
  prot: number,
  backing: { object: NaiveObject; index: number; isShared: boolean } | null,
): void {
  for (let i = 0; i < nr; i++)
    space.set(first + i, {
      object: backing?.object ?? null,
      index: (backing?.index ?? 0) + i,
      isShared: backing?.isShared ?? false,
      prot,
      tag: null,
      mayBeLost: false,
      isDroppedAtFork: false,
      isWipedAtFork: false,
      isLocked: false,
      isGuard: false,
    });
}

export function unmapPages(space: NaiveSpace, first: number, nr: number): void {
  for (let page = first; page < first + nr; page++) space.delete(page);
}

/** MADV_DONTNEED: private pages lose what was written to them, up to the first locked one unless locks do not matter. */
export function dropPages(
  space: NaiveSpace,
  first: number,
  nr: number,
  locks: "respected" | "ignored",
): void {
  for (let at = first; at < first + nr; at++) {
    const page = space.get(at);
    if (page?.isLocked === true && locks === "respected") return;
    if (page !== undefined) space.set(at, { ...page, tag: null });
  }
}

/** MADV_FREE: private anonymous pages may lose what was written to them, now or later, until they are written again. */
export function loosenPages(space: NaiveSpace, first: number, nr: number): void {
  for (let at = first; at < first + nr; at++) {
    const page = space.get(at);
    if (page !== undefined && page.object === null) page.mayBeLost = true;
  }
}

/** mprotect: up to the first hole. */
export function protectPages(space: NaiveSpace, first: number, nr: number, prot: number): void {
  for (let at = first; at < first + nr; at++) {
    const page = space.get(at);
    if (page === undefined) return;
    page.prot = prot;
  }
}

/** mlock and munlock: up to the first hole. */
export function lockPages(space: NaiveSpace, first: number, nr: number, isLocked: boolean): void {
  for (let at = first; at < first + nr; at++) {
    const page = space.get(at);
    if (page === undefined) return;
    page.isLocked = isLocked;
  }
}

/** MADV_GUARD_INSTALL: contents go, as MADV_DONTNEED drops them; up to the first locked page. */
export function guardPages(space: NaiveSpace, first: number, nr: number): void {
  for (let at = first; at < first + nr; at++) {
    const page = space.get(at);
    if (page === undefined) continue;
    if (page.isLocked) return;
    space.set(at, { ...page, tag: null, isGuard: true });
  }
}

/** mremap's move of `nr` pages, holes left alone at both ends; with `keepsSource` private memory stays mapped behind and empty. */
export function movePages(
  space: NaiveSpace,
  from: number,
  to: number,
  nr: number,
  keepsSource: boolean,
): void {
  const moved = Array.from({ length: nr }, (_, i) => space.get(from + i));
  for (const [i, page] of moved.entries()) {
    if (page === undefined) continue;
    if (keepsSource) space.set(from + i, { ...page, tag: null, isLocked: false, isGuard: false });
    else space.delete(from + i);
  }
  for (const [i, page] of moved.entries()) if (page !== undefined) space.set(to + i, page);
}

/** The child's view at the moment of fork. */
export function forkSpace(parent: NaiveSpace): NaiveSpace {
  const child: NaiveSpace = new Map();
  for (const [at, page] of parent) {
    if (page.isDroppedAtFork) continue;
    const tag = page.isWipedAtFork ? null : page.tag;
    const isGuard = page.isGuard && !page.isWipedAtFork;
    child.set(at, { ...page, tag, isLocked: false, isGuard });
  }
  return child;
}
