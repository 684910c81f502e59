/**
 * A recorded process while it is replayed: its address space, where its mappings lie, and a naive copy of its memory.
 *
 * The shadow is the judge of the engine: a plain array of tags per mapping, copied whole at fork, that every read of the
 * replay is compared with. It knows nothing of pages shared, split or moved.
 */

import { PAGE_SIZE } from "../../base/address.ts";
import type { Machine } from "../../machine/machine.ts";
import type { AddressPlan } from "../../mm/address-choice.ts";
import type { FileObject } from "../../mm/file-object.ts";
import type { Mm } from "../../mm/state.ts";
import { fileTag } from "../../shmem/page-cache.ts";
import type { Backing } from "../trace-sink.ts";

/** One mapping of one process. */
export interface Place {
  readonly mapping: number;
  /** Page number of the mapping's page 0. */
  basePage: number;
  nrPages: number;
  readonly backing: Backing["kind"];
  /** Private: the process's own contents. Shared: one record for all processes that map it. */
  shadow: Shadow;
  readonly isShared: boolean;
}

/** Expected contents of a mapping. */
export interface Shadow {
  /** Tag of the last write per page; 0 = never written since mapped or dropped. */
  tags: Uint32Array;
  /** What an unwritten page holds: nothing, or the file's contents from `firstPage`. */
  readonly file: FileObject | null;
  readonly firstPage: number;
}

export interface ReplayProcess {
  readonly id: number;
  mm: Mm;
  plan: AddressPlan;
  /** By mapping number. */
  places: Map<number, Place>;
  /** Private pages the program wrote and did not drop: those of the resident ones that it needs. */
  nrWritten: number;
  nrThreads: number;
  /** vfork: runs in its parent's address space until exec or exit. */
  borrowsMm: boolean;
  /** End of the program's segments so far (bytes): the heap follows. */
  imageEnd: number;
}

/** A shadow of `nrPages` unwritten pages. */
export function createShadow(nrPages: number, file: FileObject | null, firstPage: number): Shadow {
  return { tags: new Uint32Array(nrPages), file, firstPage };
}

/** What a read of a page must see. */
export function expectedTag(shadow: Shadow, page: number): number {
  const tag = shadow.tags[page];
  if (tag !== 0 || shadow.file === null || shadow.file.kind === "shmem") return tag;
  return fileTag(shadow.file.id, shadow.firstPage + page);
}

/** Notes a write; true if it is the page's first. */
export function noteWrite(process: ReplayProcess, place: Place, page: number, tag: number): void {
  if (place.shadow.tags[page] === 0 && !place.isShared) process.nrWritten++;
  place.shadow.tags[page] = tag;
}

/** Pages [page, page + nrPages) lose their contents. */
export function dropPages(
  process: ReplayProcess,
  place: Place,
  page: number,
  nrPages: number,
): void {
  if (place.isShared) return;
  const { tags } = place.shadow;
  const end = Math.min(page + nrPages, tags.length);
  for (let i = Math.max(0, page); i < end; i++) {
    if (tags[i] === 0) continue;
    tags[i] = 0;
    process.nrWritten--;
  }
}

/** Changes the length of a place; pages beyond the new end are forgotten. */
export function resizePlace(process: ReplayProcess, place: Place, nrPages: number): void {
  if (nrPages < place.nrPages) dropPages(process, place, nrPages, place.nrPages - nrPages);
  if (nrPages > place.shadow.tags.length) {
    const tags = new Uint32Array(Math.max(nrPages, place.shadow.tags.length * 2));
    tags.set(place.shadow.tags);
    place.shadow.tags = tags;
  }
  place.nrPages = nrPages;
}

/** The child's view after fork: the same places, private contents copied. */
export function forkPlaces(parent: ReplayProcess): Map<number, Place> {
  const places = new Map<number, Place>();
  for (const place of parent.places.values()) {
    const shadow = place.isShared
      ? place.shadow
      : { ...place.shadow, tags: place.shadow.tags.slice() };
    places.set(place.mapping, { ...place, shadow });
  }
  return places;
}

/** Byte address of a page of a place. */
export function addressIn(place: Place, page: number): number {
  return (place.basePage + page) * PAGE_SIZE;
}

/** Resident bytes of all live address spaces. */
export function totalRssPages(m: Machine): number {
  let pages = 0;
  for (const mm of m.mms) if (mm !== null) pages += mm.rssAnon + mm.rssFile + mm.rssShmem;
  return pages;
}
