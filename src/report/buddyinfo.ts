/**
 * /proc/buddyinfo and /proc/pagetypeinfo: free blocks by zone, order and migratetype.
 *
 * Entry: buddyinfoText, pagetypeinfoText, freeBlocksOf, freeInWholePageblocks.
 * Rules: PROC-080, PROC-081. Pages on per-CPU lists are not free blocks.
 */

import {
  MAX_ORDER,
  MIGRATE,
  MIGRATE_NAMES,
  type MigrateType,
  NR_MIGRATE_TYPES,
  NR_ORDERS,
  PAGEBLOCK_ORDER,
  PAGEBLOCK_PAGES,
  type PhysState,
  ZONE_NAMES,
  type Zone,
} from "../phys/state.ts";

/** Counts above it are printed as ">100000". */
const MOST_COUNTED = 100000;
const ORDERS: readonly number[] = Array.from({ length: NR_ORDERS }, (_, order) => order);

/** Free blocks of one order and type; memory that was never taken is free and Movable in blocks of order 10. */
export function freeBlocksOf(zone: Zone, order: number, type: MigrateType): number {
  const listed = zone.freeBlocks[order * NR_MIGRATE_TYPES + type];
  if (order !== MAX_ORDER || type !== MIGRATE.MOVABLE) return listed;
  return listed + (zone.untakenEnd - zone.untakenStart) / 2 ** MAX_ORDER;
}

/** Free pages that lie in blocks of a pageblock or more (nr_free_pages_blocks). */
export function freeInWholePageblocks(zone: Zone): number {
  let pages = 0;
  for (let order = PAGEBLOCK_ORDER; order <= MAX_ORDER; order++)
    pages += blocksOf(zone, order) * 2 ** order;
  return pages;
}

/** One line per zone. */
export function buddyinfoText(m: PhysState): string {
  return m.zones
    .map((zone) => {
      const counts = ORDERS.map((order) => `${String(blocksOf(zone, order)).padStart(6)} `);
      return `${zoneText(zone)}${counts.join("")}\n`;
    })
    .join("");
}

/** The table of free blocks by type, and the one of pageblocks by label. */
export function pagetypeinfoText(m: PhysState): string {
  const orders = ORDERS.map((order) => `${String(order).padStart(6)} `).join("");
  const types = MIGRATE_NAMES.map((name) => `${name.padStart(12)} `).join("");
  return (
    `Page block order: ${PAGEBLOCK_ORDER}\nPages per block:  ${PAGEBLOCK_PAGES}\n\n` +
    `${"Free pages count per migrate type at order".padEnd(43)} ${orders}\n` +
    m.zones.map(typeLines).join("") +
    `\n${"Number of blocks type".padEnd(23)}${types}\n` +
    m.zones.map((zone) => pageblockLine(m, zone)).join("")
  );
}

function typeLines(zone: Zone): string {
  const node = String(zone.node).padStart(4);
  const name = ZONE_NAMES[zone.kind].padStart(8);
  return MIGRATE_NAMES.map((typeName, type) => {
    const counts = ORDERS.map((order) => `${cappedText(freeBlocksOf(zone, order, type))} `);
    return `Node ${node}, zone ${name}, type ${typeName.padStart(12)} ${counts.join("")}\n`;
  }).join("");
}

function cappedText(count: number): string {
  return count > MOST_COUNTED ? `>${MOST_COUNTED}` : String(count).padStart(6);
}

function pageblockLine(m: PhysState, zone: Zone): string {
  const counts = new Array<number>(NR_MIGRATE_TYPES).fill(0);
  const end = zone.startPfn + zone.spannedPages;
  for (let pfn = zone.startPfn; pfn < end; pfn += PAGEBLOCK_PAGES)
    counts[m.pageblockType[pfn >>> PAGEBLOCK_ORDER]]++;
  const texts = counts.map((count) => `${String(count).padStart(12)} `);
  return `${zoneText(zone)}${texts.join("")}\n`;
}

function blocksOf(zone: Zone, order: number): number {
  let blocks = 0;
  for (let type = 0; type < NR_MIGRATE_TYPES; type++) blocks += freeBlocksOf(zone, order, type);
  return blocks;
}

function zoneText(zone: Zone): string {
  return `Node ${zone.node}, zone ${ZONE_NAMES[zone.kind].padStart(8)} `;
}
