/**
 * What the pages of one address space must read as: the naive record that the model's answers are checked against.
 *
 * Knows nothing of frames, tables, sharing by copy-on-write or huge pages: only what mmap, munmap, mremap, madvise, fork and writes
 * promise. Private pages that were never written read as zero.
 * Units: page numbers; half-open ranges.
 */

/** Shared anonymous memory. */
export interface SharedObject {
  /** Last write by page index in the object. */
  readonly written: Map<number, number>;
}

/** Pages of one mapping that are treated alike. */
interface Segment {
  readonly start: number;
  readonly end: number;
  /** Null: private anonymous memory. */
  readonly object: SharedObject | null;
  /** Page index in the object minus page number. */
  readonly delta: number;
  readonly isDroppedAtFork: boolean;
  readonly isWipedAtFork: boolean;
}

export class Shadow {
  private segments: Segment[] = [];
  /** Last write to private memory by page number. */
  private values = new Map<number, number>();
  /** Private pages that may have lost their contents: MADV_FREE, or a call that failed half-way. */
  private doubtful = new Set<number>();

  /** A new mapping of `nr` pages; with `object` shared. */
  map(first: number, nr: number, object: SharedObject | null): void {
    this.unmap(first, nr);
    this.segments.push({
      start: first,
      end: first + nr,
      object,
      delta: -first,
      isDroppedAtFork: false,
      isWipedAtFork: false,
    });
  }

  unmap(first: number, nr: number): void {
    this.forget(first, nr);
    const inside = this.cut(first, first + nr);
    this.segments = this.segments.filter((segment) => !inside.includes(segment));
  }

  /** Contents of private pages are gone; shared ones stay in their object. */
  drop(first: number, nr: number): void {
    this.forget(first, nr);
  }

  /** Private pages may be gone or not. */
  doubt(first: number, nr: number): void {
    for (const page of this.writtenIn(first, nr)) this.doubtful.add(page);
  }

  /** mremap: the first pages move, a shorter length loses the rest, a longer one adds fresh pages. */
  move(first: number, oldNr: number, to: number, newNr: number, keepsSource: boolean): void {
    const kept = Math.min(oldNr, newNr);
    if (to === first) {
      if (newNr < oldNr) this.unmap(first + newNr, oldNr - newNr);
      else this.grow(first + oldNr, newNr - oldNr);
      return;
    }
    const moved = this.cut(first, first + kept).map((segment) => ({
      ...segment,
      start: segment.start - first + to,
      end: segment.end - first + to,
      delta: segment.delta + first - to,
    }));
    const values = this.writtenIn(first, kept).map((page): [number, number, boolean] => [
      page - first + to,
      this.values.get(page)!,
      this.doubtful.has(page),
    ]);
    if (keepsSource) this.forget(first, oldNr);
    else this.unmap(first, oldNr);
    this.unmap(to, newNr);
    this.segments.push(...moved);
    for (const [page, value, isDoubtful] of values) {
      this.values.set(page, value);
      if (isDoubtful) this.doubtful.add(page);
    }
    if (newNr > kept) this.grow(to + kept, newNr - kept);
  }

  /** Fresh pages behind a mapping that becomes longer. */
  private grow(first: number, nr: number): void {
    const before = this.segments.find((segment) => segment.end === first);
    if (nr === 0 || before === undefined) return;
    this.forget(first, nr);
    this.segments.push({ ...before, start: first, end: first + nr });
  }

  /** MADV_DONTFORK and its like. */
  advise(first: number, nr: number, change: Partial<Segment>): void {
    const inside = this.cut(first, first + nr);
    this.segments = this.segments.map((segment) =>
      inside.includes(segment) ? { ...segment, ...change } : segment,
    );
  }

  /** The child's view at the moment of fork. */
  fork(): Shadow {
    const child = new Shadow();
    child.segments = this.segments.filter((segment) => !segment.isDroppedAtFork);
    child.values = new Map(this.values);
    child.doubtful = new Set(this.doubtful);
    for (const { start, end, isDroppedAtFork, isWipedAtFork } of this.segments)
      if (isDroppedAtFork || isWipedAtFork) child.forget(start, end - start);
    return child;
  }

  copy(objects: Map<SharedObject, SharedObject>): Shadow {
    const copy = new Shadow();
    copy.segments = this.segments.map((segment) => ({
      ...segment,
      object: segment.object === null ? null : copiedObject(segment.object, objects),
    }));
    copy.values = new Map(this.values);
    copy.doubtful = new Set(this.doubtful);
    return copy;
  }

  write(page: number, tag: number): void {
    const segment = this.segmentOf(page);
    if (segment?.object != null) {
      segment.object.written.set(page + segment.delta, tag);
      return;
    }
    this.values.set(page, tag);
    this.doubtful.delete(page);
  }

  /** True if a read of the page may see `tag` (0: zeroes). */
  allows(page: number, tag: number): boolean {
    const segment = this.segmentOf(page);
    if (segment?.object != null)
      return (segment.object.written.get(page + segment.delta) ?? 0) === tag;
    if (tag === 0 && this.doubtful.has(page)) return true;
    return (this.values.get(page) ?? 0) === tag;
  }

  private segmentOf(page: number): Segment | undefined {
    return this.segments.find((segment) => segment.start <= page && page < segment.end);
  }

  private forget(first: number, nr: number): void {
    for (const page of this.writtenIn(first, nr)) {
      this.values.delete(page);
      this.doubtful.delete(page);
    }
  }

  private writtenIn(first: number, nr: number): number[] {
    const found: number[] = [];
    if (nr > this.values.size) {
      for (const page of this.values.keys())
        if (page >= first && page < first + nr) found.push(page);
    } else {
      for (let page = first; page < first + nr; page++) if (this.values.has(page)) found.push(page);
    }
    return found;
  }

  /** Cuts segments at both ends; those inside. */
  private cut(start: number, end: number): Segment[] {
    const pieces: Segment[] = [];
    const inside: Segment[] = [];
    for (const segment of this.segments) {
      const from = Math.max(start, segment.start);
      const to = Math.min(end, segment.end);
      if (from >= to) {
        pieces.push(segment);
        continue;
      }
      if (segment.start < from) pieces.push({ ...segment, end: from });
      if (to < segment.end) pieces.push({ ...segment, start: to });
      const middle = { ...segment, start: from, end: to };
      pieces.push(middle);
      inside.push(middle);
    }
    this.segments = pieces;
    return inside;
  }
}

function copiedObject(
  object: SharedObject,
  objects: Map<SharedObject, SharedObject>,
): SharedObject {
  let copy = objects.get(object);
  if (copy === undefined) {
    copy = { written: new Map(object.written) };
    objects.set(object, copy);
  }
  return copy;
}
