/**
 * What the memory of a live scenario must hold, so that a read can be checked.
 *
 * Entry: KernelContents. Told of everything that changes contents, in order.
 * Holds: it never accuses wrongly. A page is known to hold one value, or that value or zero (MADV_FREE, droppable memory), or it
 *        is not known, when anything may be read and is believed from then on.
 * Units: one value a page, the 8 bytes at its start; 0 is what was never written.
 */

import { PAGE_SIZE } from "../base/address.ts";

/** Shared between processes where the memory is. */
interface Cell {
  value: number;
  mayBeZero: boolean;
}

type Sharing = "private" | "shared" | "droppable";

const ADVICE = {
  DONTNEED: 4,
  FREE: 8,
  REMOVE: 9,
  DONTFORK: 10,
  DOFORK: 11,
  WIPEONFORK: 18,
  DONTNEED_LOCKED: 24,
  GUARD_INSTALL: 102,
} as const;
const DISCARDING: readonly number[] = [
  ADVICE.DONTNEED,
  ADVICE.REMOVE,
  ADVICE.DONTNEED_LOCKED,
  ADVICE.GUARD_INSTALL,
];

export class KernelContents {
  /** Page address to cell, for each process. */
  private readonly cells = new Map<string, Map<number, Cell>>([["main", new Map()]]);
  /** Pages of mappings that are not private. */
  private readonly sharing = new Map<number, Sharing>();
  /** Some range was told not to be copied by fork, so what a child holds is not known. */
  private isForkSpecial = false;
  private nextValue = 1;

  /** The first of `nr` values that were never written before. */
  takeValues(nr: number): number {
    const first = this.nextValue;
    this.nextValue += nr;
    return first;
  }

  map(process: string, start: number, nrPages: number, sharing: Sharing): void {
    const cells = this.of(process);
    for (let i = 0; i < nrPages; i++) {
      const page = start + i * PAGE_SIZE;
      cells.set(page, { value: 0, mayBeZero: false });
      if (sharing === "private") this.sharing.delete(page);
      else this.sharing.set(page, sharing);
    }
  }

  write(process: string, page: number, value: number): void {
    const cell = this.of(process).get(page);
    const mayBeZero = this.sharing.get(page) === "droppable";
    if (cell === undefined) this.of(process).set(page, { value, mayBeZero });
    else Object.assign(cell, { value, mayBeZero });
  }

  isAsWritten(process: string, page: number, value: number): boolean {
    const cell = this.of(process).get(page);
    if (cell === undefined) {
      this.of(process).set(page, { value, mayBeZero: this.sharing.get(page) === "droppable" });
      return true;
    }
    if (cell.value === value) return true;
    if (!cell.mayBeZero || value !== 0) return false;
    cell.value = 0;
    return true;
  }

  /** Anything may be there now. */
  forget(process: string, start: number, end: number): void {
    const cells = this.of(process);
    for (let page = start; page < end; page += PAGE_SIZE) cells.delete(page);
  }

  move(process: string, start: number, end: number, to: number, nrPages: number): void {
    const cells = this.of(process);
    const moved: (Cell | undefined)[] = [];
    for (let page = start; page < end; page += PAGE_SIZE) {
      moved.push(cells.get(page));
      cells.delete(page);
    }
    for (let i = 0; i < nrPages; i++) {
      const page = to + i * PAGE_SIZE;
      const cell = i < moved.length ? moved[i] : { value: 0, mayBeZero: false };
      if (cell === undefined) cells.delete(page);
      else cells.set(page, cell);
      const sharing = this.sharing.get(start + i * PAGE_SIZE);
      if (sharing !== undefined) this.sharing.set(page, sharing);
    }
  }

  advise(process: string, start: number, end: number, advice: number, result: number): void {
    if (advice === ADVICE.DONTFORK || advice === ADVICE.WIPEONFORK) this.isForkSpecial = true;
    const isDiscarding = DISCARDING.includes(advice);
    if (!isDiscarding && advice !== ADVICE.FREE) return;
    const cells = this.of(process);
    for (let page = start; page < end; page += PAGE_SIZE) {
      const cell = cells.get(page);
      if (cell === undefined) continue;
      const isShared = this.sharing.get(page) === "shared";
      // What a call that failed has done before is not known.
      if (advice === ADVICE.FREE && result >= 0) cell.mayBeZero = true;
      else if (isDiscarding && result >= 0 && !isShared)
        cells.set(page, { value: 0, mayBeZero: false });
      else if (result < 0 || advice === ADVICE.REMOVE) cells.delete(page);
    }
  }

  fork(parent: string, child: string): void {
    const copy = new Map<number, Cell>();
    if (!this.isForkSpecial)
      for (const [page, cell] of this.of(parent))
        copy.set(page, this.sharing.get(page) === "shared" ? cell : { ...cell });
    this.cells.set(child, copy);
  }

  private of(process: string): Map<number, Cell> {
    let cells = this.cells.get(process);
    if (cells === undefined) {
      cells = new Map();
      this.cells.set(process, cells);
    }
    return cells;
  }
}
