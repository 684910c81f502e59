/**
 * Which mapping lies at an address: one process's address space as the recorder sees it.
 *
 * A mapping is what one call created; later calls cut pieces out of it. Each piece says which mapping's pages it shows.
 *
 * Owns:  the sorted pieces and the mappings' lengths. After fork the child has a copy.
 * Units: absolute pages (address / 4096) and pages of a mapping; ranges are half-open.
 */

/** A part of an address range that shows one mapping. */
export interface Piece {
  readonly start: number;
  readonly end: number;
  readonly mapping: number;
  /** Page of the mapping at `start`. */
  readonly page: number;
}

const NONE = -1;

export class AddressSpace {
  /** First absolute page of each piece, ascending; the other columns are parallel. */
  private starts: number[] = [];
  private ends: number[] = [];
  private mappings: number[] = [];
  /** Absolute page at which the piece's mapping has its page 0. */
  private origins: number[] = [];
  /** Length in pages of every mapping that is known here, also of those cut to pieces. */
  private lengths = new Map<number, number>();
  /** Index of the piece found last. */
  private latest = 0;

  /** Set by `find`: the mapping and its page, for callers in a hot loop. */
  foundMapping = NONE;
  foundPage = 0;
  /** Set by `find`: absolute pages from the one asked for to the piece's end. */
  foundRun = 0;

  clone(): AddressSpace {
    const copy = new AddressSpace();
    copy.starts = this.starts.slice();
    copy.ends = this.ends.slice();
    copy.mappings = this.mappings.slice();
    copy.origins = this.origins.slice();
    copy.lengths = new Map(this.lengths);
    return copy;
  }

  clear(): void {
    this.starts = [];
    this.ends = [];
    this.mappings = [];
    this.origins = [];
    this.lengths.clear();
  }

  /** Length of a mapping as its creation or last change in length left it, or undefined if it is gone. */
  lengthOf(mapping: number): number | undefined {
    return this.lengths.get(mapping);
  }

  setLength(mapping: number, nrPages: number): void {
    this.lengths.set(mapping, nrPages);
  }

  /** True if a piece holds `page`; then foundMapping, foundPage and foundRun are set. */
  find(page: number): boolean {
    let index = this.latest;
    if (!(page >= this.starts[index] && page < this.ends[index])) {
      index = this.after(page) - 1;
      if (index < 0 || page >= this.ends[index]) return false;
      this.latest = index;
    }
    this.foundMapping = this.mappings[index];
    this.foundPage = page - this.origins[index];
    this.foundRun = this.ends[index] - page;
    return true;
  }

  /** The pieces that overlap [start, end), cut to it, in ascending order. */
  pieces(start: number, end: number): Piece[] {
    const found: Piece[] = [];
    for (let i = Math.max(0, this.after(start) - 1); i < this.starts.length; i++) {
      const from = Math.max(start, this.starts[i]);
      const to = Math.min(end, this.ends[i]);
      if (this.starts[i] >= end) break;
      if (from >= to) continue;
      found.push({
        start: from,
        end: to,
        mapping: this.mappings[i],
        page: from - this.origins[i],
      });
    }
    return found;
  }

  /** `mapping`, whose page 0 is at `origin`, now shows at [start, end); what was there is gone. */
  place(start: number, end: number, mapping: number, origin: number): void {
    this.cut(start, end);
    const index = this.after(start);
    this.starts.splice(index, 0, start);
    this.ends.splice(index, 0, end);
    this.mappings.splice(index, 0, mapping);
    this.origins.splice(index, 0, origin);
    this.latest = index;
  }

  /** Nothing shows at [start, end) any more. */
  cut(start: number, end: number): void {
    if (start >= end) return;
    this.split(start);
    this.split(end);
    const first = this.after(start - 1);
    const last = this.after(end - 1);
    const removed = last - first;
    if (removed <= 0) return;
    this.starts.splice(first, removed);
    this.ends.splice(first, removed);
    this.mappings.splice(first, removed);
    this.origins.splice(first, removed);
    this.latest = 0;
  }

  /** Notes that a whole mapping was unmapped in one piece: its number means nothing any more. */
  forget(mapping: number): void {
    this.lengths.delete(mapping);
  }

  /** Makes a piece begin at `page` if one goes across it. */
  private split(page: number): void {
    const index = this.after(page) - 1;
    if (index < 0 || this.starts[index] === page || page >= this.ends[index]) return;
    this.starts.splice(index + 1, 0, page);
    this.ends.splice(index + 1, 0, this.ends[index]);
    this.mappings.splice(index + 1, 0, this.mappings[index]);
    this.origins.splice(index + 1, 0, this.origins[index]);
    this.ends[index] = page;
  }

  /** Index of the first piece that begins after `page`. */
  private after(page: number): number {
    let low = 0;
    let high = this.starts.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.starts[middle] <= page) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
