/**
 * The Mapping port: what memory management needs of a file or a shared memory object.
 *
 * Declared here, implemented by shmem/ (the page cache), so that rmap, fork and unmap know only pages and indices.
 */

import type { Pfn } from "../base/address.ts";

export interface FileObject {
  /** From 1; stands in the frame table's `owner` for its pages. */
  readonly id: number;
  /** A regular file is read-only here; "shmem" is shared anonymous memory. */
  readonly kind: "file" | "shmem";
  readonly path: string;
  /** Length in pages; a touch of a mapping behind it is SIGBUS. */
  readonly nrPages: number;
  /** Frame of each page by index; NO_PFN (0) where not cached. Grown by the page cache. */
  pages: Int32Array;
  /** Pages cached. */
  nrCached: number;
  /** Mappings (VMAs) of it, all address spaces. */
  nrVmas: number;
}

/** One VMA of a file is gone. An object without VMAs is noted, so that its owner can drop it. */
export function dropFileVma(unmapped: FileObject[], file: FileObject | null): void {
  if (file !== null && --file.nrVmas === 0) unmapped.push(file);
}

/** Frame that caches a page, or NO_PFN. */
export function cachedPage(file: FileObject, index: number): Pfn {
  return index < file.pages.length ? file.pages[index] : 0;
}
