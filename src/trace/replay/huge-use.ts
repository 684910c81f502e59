/**
 * Anonymous memory of one address space, three things apart: where huge pages are permitted, where they could lie, and
 * which folios it really is in.
 */

import {
  addrOf,
  HUGE_ORDER,
  PAGE_SIZE,
  PTES_PER_REGION,
  pteIndexOf,
  regionOf,
} from "../../base/address.ts";
import { allowedOrders, fitsOrder } from "../../huge/eligibility.ts";
import type { Machine } from "../../machine/machine.ts";
import { ENTRY, pmdSlotOf } from "../../mm/page-tables.ts";
import type { Mm } from "../../mm/state.ts";
import type { Vma } from "../../mm/vma.ts";
import { headOf, PG } from "../../phys/frame-table.ts";

/** In pages; each of the first three is part of the one before. */
export interface HugeUsePages {
  anonymous: number;
  /** In VMAs where some order above 0 is allowed. */
  permitted: number;
  /** In a naturally aligned block of an allowed order that lies inside its VMA. */
  eligible: number;
  /** Resident anonymous pages by order of their folio. */
  byOrder: number[];
}

/** Walks the tables of `mm`. */
export function hugeUseOf(m: Machine, mm: Mm): HugeUsePages {
  const use: HugeUsePages = {
    anonymous: 0,
    permitted: 0,
    eligible: 0,
    byOrder: new Array<number>(HUGE_ORDER + 1).fill(0),
  };
  for (const vma of mm.vmas) addVma(m, mm, vma, use);
  return use;
}

function addVma(m: Machine, mm: Mm, vma: Vma, use: HugeUsePages): void {
  const orders = allowedOrders(m, mm, vma);
  const last = regionOf(vma.end - 1);
  for (let region = regionOf(vma.start); region <= last; region++) {
    const slot = pmdSlotOf(m.tables, mm.root, region);
    if (slot < 0) {
      region |= 511;
      continue;
    }
    const entry = m.tables.flags[slot];
    if ((entry & ENTRY.HUGE) !== 0) {
      if ((entry & ENTRY.SPECIAL) === 0) addPages(use, vma, orders, region, 0, PTES_PER_REGION, 9);
    } else if ((entry & ENTRY.TABLE) !== 0) {
      addTable(m, vma, orders, region, m.tables.payload[slot], use);
    }
  }
}

function addTable(
  m: Machine,
  vma: Vma,
  orders: number,
  region: number,
  table: number,
  use: HugeUsePages,
): void {
  const first = addrOf(region, 0) < vma.start ? pteIndexOf(vma.start) : 0;
  const end = addrOf(region + 1, 0) > vma.end ? pteIndexOf(vma.end) : PTES_PER_REGION;
  for (let i = first; i < end; i++) {
    const entry = m.tables.flags[table * 512 + i];
    if ((entry & (ENTRY.PRESENT | ENTRY.SPECIAL)) !== ENTRY.PRESENT) continue;
    const head = headOf(m.frames, m.tables.payload[table * 512 + i]);
    if ((m.frames.flags[head] & PG.ANON) === 0) continue;
    addPages(use, vma, orders, region, i, 1, m.frames.order[head]);
  }
}

function addPages(
  use: HugeUsePages,
  vma: Vma,
  orders: number,
  region: number,
  pteIndex: number,
  nr: number,
  order: number,
): void {
  use.anonymous += nr;
  use.byOrder[order] += nr;
  if (orders === 0) return;
  use.permitted += nr;
  const addr = region * PTES_PER_REGION * PAGE_SIZE + pteIndex * PAGE_SIZE;
  for (let k = HUGE_ORDER; k >= 2; k--) {
    if ((orders & (1 << k)) === 0 || !fitsOrder(vma, addr, k)) continue;
    use.eligible += nr;
    return;
  }
}
