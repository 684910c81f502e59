/**
 * What a random history holds of the machine's memory besides its mappings: pins, plain references, blocks of frames.
 *
 * Entry: FuzzHolds. Used by tests only.
 * Holds: `references` says how many references each folio has for it, as checkMachine wants to know.
 */

import type { Pfn } from "../base/address.ts";
import { getPage, pinPages, putPage, unpinPages } from "../mm/pins.ts";
import type { Mm } from "../mm/state.ts";
import { allocFolio, freeFolio, GFP_HIGHUSER_MOVABLE } from "../phys/alloc.ts";
import { NO_PFN } from "../phys/frame-table.ts";
import type { Machine } from "./machine.ts";
import type { NaivePage } from "./naive-memory.ts";

/** A page reference; `page` is the naive record it was taken on, `owner` whose page it is. */
export interface Held<Owner> {
  readonly kind: "pin" | "get";
  readonly pfn: Pfn;
  readonly owner: Owner;
  readonly at: number;
  readonly page: NaivePage;
}

export class FuzzHolds<Owner extends { readonly mm: Mm }> {
  /** Page of the folio to references. */
  readonly references = new Map<Pfn, number>();
  readonly pages: Held<Owner>[] = [];
  private readonly blocks: Pfn[] = [];
  private readonly m: Machine;

  constructor(m: Machine) {
    this.m = m;
  }

  /** A write pin, as a device buffer would take it. */
  pin(owner: Owner, pfn: Pfn, at: number, page: NaivePage): void {
    const isLarge = this.m.frames.order[pfn] > 0;
    pinPages(this.m, owner.mm, pfn, 1);
    this.note(pfn, isLarge ? 1 : 1024);
    this.pages.push({ kind: "pin", pfn, owner, at, page });
  }

  /** A plain reference, as a pipe would take it. */
  get(owner: Owner, pfn: Pfn, at: number, page: NaivePage): void {
    getPage(this.m, pfn);
    this.note(pfn, 1);
    this.pages.push({ kind: "get", pfn, owner, at, page });
  }

  /** Gives the page reference at an index back. */
  letGo(index: number): void {
    const [{ kind, pfn }] = this.pages.splice(index, 1);
    const isLarge = this.m.frames.order[pfn] > 0;
    this.note(pfn, kind === "pin" && !isLarge ? -1024 : -1);
    if (kind === "pin") unpinPages(this.m, pfn, 1);
    else putPage(this.m, pfn);
  }

  /** Takes a block of frames from the allocator, so that memory becomes short or fragmented. False if there is none. */
  takeBlock(order: number): boolean {
    const pfn = allocFolio(this.m, order, GFP_HIGHUSER_MOVABLE, 0);
    if (pfn === NO_PFN) return false;
    this.blocks.push(pfn);
    this.note(pfn, 1);
    return true;
  }

  /** Gives the last block back. False if there is none. */
  giveBlock(): boolean {
    const pfn = this.blocks.pop();
    if (pfn === undefined) return false;
    this.note(pfn, -1);
    this.m.frames.refcount[pfn] = 0;
    freeFolio(this.m, pfn);
    return true;
  }

  /** `nr` more references, or fewer, that somebody holds by this page. */
  note(pfn: Pfn, nr: number): void {
    const total = (this.references.get(pfn) ?? 0) + nr;
    if (total === 0) this.references.delete(pfn);
    else this.references.set(pfn, total);
  }
}
