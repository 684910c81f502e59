/**
 * A few bits for each page of a sparse range of pages: what was read or written of it.
 *
 * Units: a page is any integer from 0 below 2^53. Pages are kept in chunks of 512, made when one of them is first set, so
 *        that memory follows use; a look at the chunk used last comes first.
 */

const CHUNK_PAGES = 512;

export class PageFlags {
  private readonly chunks = new Map<number, Uint8Array>();
  private lastIndex = -1;
  private lastChunk: Uint8Array = new Uint8Array(CHUNK_PAGES);

  /** Chunks in use. */
  get nrChunks(): number {
    return this.chunks.size;
  }

  /** The bits of a page; 0 if none were set. */
  get(page: number): number {
    const index = Math.floor(page / CHUNK_PAGES);
    if (index !== this.lastIndex && !this.select(index)) return 0;
    return this.lastChunk[page - index * CHUNK_PAGES];
  }

  /** Sets bits of a page beside those it has. */
  add(page: number, bits: number): void {
    const index = Math.floor(page / CHUNK_PAGES);
    if (index !== this.lastIndex && !this.select(index)) {
      this.lastIndex = index;
      this.lastChunk = new Uint8Array(CHUNK_PAGES);
      this.chunks.set(index, this.lastChunk);
    }
    this.lastChunk[page - index * CHUNK_PAGES] |= bits;
  }

  /** Clears all bits of pages start..end. */
  clear(start: number, end: number): void {
    const first = Math.floor(start / CHUNK_PAGES);
    const last = Math.floor((end - 1) / CHUNK_PAGES);
    if (last - first > this.chunks.size) {
      for (const index of [...this.chunks.keys()]) {
        if (index >= first && index <= last) this.clearChunk(index, start, end);
      }
      return;
    }
    for (let index = first; index <= last; index++) this.clearChunk(index, start, end);
  }

  private clearChunk(index: number, start: number, end: number): void {
    const base = index * CHUNK_PAGES;
    if (start <= base && end >= base + CHUNK_PAGES) {
      this.chunks.delete(index);
      if (index === this.lastIndex) this.lastIndex = -1;
      return;
    }
    this.chunks.get(index)?.fill(0, Math.max(0, start - base), Math.min(CHUNK_PAGES, end - base));
  }

  private select(index: number): boolean {
    const chunk = this.chunks.get(index);
    if (chunk === undefined) return false;
    this.lastIndex = index;
    this.lastChunk = chunk;
    return true;
  }
}
