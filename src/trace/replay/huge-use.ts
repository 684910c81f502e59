/**
 * Anonymous memory of one address space, three things apart: where huge pages are permitted, where they could lie, and
 * which folios it really is in. And what of it holds nothing, by what brought it there.
 */

import {
  addrOf,
  HUGE_ORDER,
  PAGE_SIZE,
  PTES_PER_REGION,
  pteIndexOf,
  regionOf,
} from "../../base/address.ts";
import { listHead, listNext } from "../../base/int-list.ts";
import { allowedOrders, fitsOrder } from "../../huge/eligibility.ts";
import type { Machine } from "../../machine/machine.ts";
import { ENTRY, pmdSlotOf } from "../../mm/page-tables.ts";
import { pageMapcount } from "../../mm/rmap.ts";
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
  /** Resident anonymous pages that hold nothing, by what brought them: a fault of something larger than a page, a collapse. */
  emptyByFault: number;
  emptyByCollapse: number;
  /** Pages of the whole machine that nobody maps any more and that stay because the rest of their folio is in use. */
  unsplit: number;
}

/** Walks the tables of `mm`. `collapsed`: heads of the folios that collapses made. */
export function hugeUseOf(m: Machine, mm: Mm, collapsed: ReadonlySet<number>): HugeUsePages {
  const use: HugeUsePages = {
    anonymous: 0,
    permitted: 0,
    eligible: 0,
    byOrder: new Array<number>(HUGE_ORDER + 1).fill(0),
    emptyByFault: 0,
    emptyByCollapse: 0,
    unsplit: unsplitPages(m),
  };
  for (const vma of mm.vmas) addVma(m, mm, vma, use, collapsed);
  return use;
}

function unsplitPages(m: Machine): number {
  let nr = 0;
  for (let queue = 0; queue < m.deferredLength.length; queue++)
    for (let head = listHead(m.deferred, queue); head >= 0; head = listNext(m.deferred, head)) {
      if ((m.frames.flags[head] & PG.PARTIALLY_MAPPED) === 0) continue;
      for (let page = head; page < head + (1 << m.frames.order[head]); page++)
        if (pageMapcount(m, page) === 0) nr++;
    }
  return nr;
}

function addVma(
  m: Machine,
  mm: Mm,
  vma: Vma,
  use: HugeUsePages,
  collapsed: ReadonlySet<number>,
): void {
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
      if ((entry & ENTRY.SPECIAL) !== 0) continue;
      addPages(use, vma, orders, region, 0, PTES_PER_REGION, 9);
      addEmpty(m, m.tables.payload[slot], PTES_PER_REGION, use, collapsed);
    } else if ((entry & ENTRY.TABLE) !== 0) {
      addTable(m, vma, orders, region, m.tables.payload[slot], use, collapsed);
    }
  }
}

/** Pages of one folio from `pfn` on: those without contents. */
function addEmpty(
  m: Machine,
  pfn: number,
  nr: number,
  use: HugeUsePages,
  collapsed: ReadonlySet<number>,
): void {
  let nrEmpty = 0;
  for (let page = pfn; page < pfn + nr; page++) if (m.frames.tag[page] === 0) nrEmpty++;
  if (nrEmpty === 0) return;
  if (collapsed.has(headOf(m.frames, pfn))) use.emptyByCollapse += nrEmpty;
  else use.emptyByFault += nrEmpty;
}

function addTable(
  m: Machine,
  vma: Vma,
  orders: number,
  region: number,
  table: number,
  use: HugeUsePages,
  collapsed: ReadonlySet<number>,
): void {
  const first = addrOf(region, 0) < vma.start ? pteIndexOf(vma.start) : 0;
  const end = addrOf(region + 1, 0) > vma.end ? pteIndexOf(vma.end) : PTES_PER_REGION;
  for (let i = first; i < end; i++) {
    const entry = m.tables.flags[table * 512 + i];
    if ((entry & (ENTRY.PRESENT | ENTRY.SPECIAL)) !== ENTRY.PRESENT) continue;
    const head = headOf(m.frames, m.tables.payload[table * 512 + i]);
    if ((m.frames.flags[head] & PG.ANON) === 0) continue;
    addPages(use, vma, orders, region, i, 1, m.frames.order[head]);
    addEmpty(m, m.tables.payload[table * 512 + i], 1, use, collapsed);
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
