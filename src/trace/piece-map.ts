/**
 * One address space as an importer knows it: disjoint pieces of mappings, sorted by address.
 *
 * A piece is a run of pages at consecutive recorded addresses that are consecutive pages of one mapping. Lookups are a
 * binary search after a look at the piece found last; changes move the rows behind them, which is cheap for the at most
 * 65 530 pieces that Linux lets a process have.
 *
 * Units: `start`, `end`: page numbers of recorded addresses (byte address / 4096, 35 bits, so doubles); `first`: page of
 *        the mapping that lies at `start`.
 */

/** Calls per piece of a range: the mapping, the page of it where the part begins, its length, its recorded page. */
export type PieceVisitor = (mapping: number, page: number, nrPages: number, at: number) => void;

export class PieceMap {
  /** Pieces in use; rows behind it are stale. */
  length = 0;
  /** First recorded page. Rows: pieces, rising. */
  start = new Float64Array(16);
  /** Recorded page behind the last. Rows: pieces, rising. */
  end = new Float64Array(16);
  /** Page of the mapping at `start`. Rows: pieces. */
  first = new Float64Array(16);
  /** Rows: pieces. */
  mapping = new Int32Array(16);
  private lastRow = 0;

  /** A copy with pieces of its own, as fork makes it. */
  copy(): PieceMap {
    const copy = new PieceMap();
    copy.length = this.length;
    copy.start = this.start.slice();
    copy.end = this.end.slice();
    copy.first = this.first.slice();
    copy.mapping = this.mapping.slice();
    return copy;
  }

  /** The row of the piece that holds recorded page `at`, or -1. */
  find(at: number): number {
    const last = this.lastRow;
    if (last < this.length && at >= this.start[last] && at < this.end[last]) return last;
    const row = this.rowNotBefore(at);
    if (row === this.length || this.start[row] > at) return -1;
    this.lastRow = row;
    return row;
  }

  /** The first row whose piece ends behind `at`; `length` if there is none. */
  rowNotBefore(at: number): number {
    let low = 0;
    let high = this.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.end[middle] > at) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /** Adds a piece where nothing is. Joins it to the piece before if it goes on with its pages. */
  add(start: number, end: number, mapping: number, first: number): void {
    const row = this.rowNotBefore(start);
    const before = row - 1;
    const goesOn =
      before >= 0 &&
      this.end[before] === start &&
      this.mapping[before] === mapping &&
      this.first[before] + (start - this.start[before]) === first;
    if (goesOn) {
      this.end[before] = end;
      return;
    }
    this.insertRow(row);
    this.start[row] = start;
    this.end[row] = end;
    this.mapping[row] = mapping;
    this.first[row] = first;
  }

  /** Takes recorded pages start..end out; pieces across an edge are cut there. */
  remove(start: number, end: number): void {
    let row = this.rowNotBefore(start);
    if (row < this.length && this.start[row] < start && this.start[row] < end) {
      if (this.end[row] > end) {
        this.cutOut(row, start, end);
        return;
      }
      this.end[row++] = start;
    }
    let past = row;
    while (past < this.length && this.end[past] <= end) past++;
    this.removeRows(row, past);
    if (row < this.length && this.start[row] < end) {
      this.first[row] += end - this.start[row];
      this.start[row] = end;
    }
  }

  /** Calls `visit` for every part of start..end that is known, in rising order. `visit` must not change this map. */
  forEachPart(start: number, end: number, visit: PieceVisitor): void {
    for (let row = this.rowNotBefore(start); row < this.length; row++) {
      if (this.start[row] >= end) return;
      const from = Math.max(start, this.start[row]);
      const to = Math.min(end, this.end[row]);
      visit(this.mapping[row], this.first[row] + (from - this.start[row]), to - from, from);
    }
  }

  /** The piece goes on on both sides of the hole. */
  private cutOut(row: number, start: number, end: number): void {
    this.insertRow(row + 1);
    this.start[row + 1] = end;
    this.end[row + 1] = this.end[row];
    this.mapping[row + 1] = this.mapping[row];
    this.first[row + 1] = this.first[row] + (end - this.start[row]);
    this.end[row] = start;
  }

  private insertRow(row: number): void {
    if (this.length === this.start.length) this.grow();
    for (const column of [this.start, this.end, this.first, this.mapping]) {
      column.copyWithin(row + 1, row, this.length);
    }
    this.length++;
  }

  private removeRows(row: number, past: number): void {
    if (row === past) return;
    for (const column of [this.start, this.end, this.first, this.mapping]) {
      column.copyWithin(row, past, this.length);
    }
    this.length -= past - row;
  }

  private grow(): void {
    const size = 2 * this.start.length;
    const doubled = (column: Float64Array): Float64Array<ArrayBuffer> => {
      const grown = new Float64Array(size);
      grown.set(column);
      return grown;
    };
    this.start = doubled(this.start);
    this.end = doubled(this.end);
    this.first = doubled(this.first);
    const mapping = new Int32Array(size);
    mapping.set(this.mapping);
    this.mapping = mapping;
  }
}
