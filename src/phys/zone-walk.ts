/**
 * One pass over the zones of a request: the first that keeps its watermark and has a block serves it.
 *
 * Entry: takeFast (the low watermark), takeAboveMin (the reserves that slow-path.ts may use).
 * Owns:  nothing.
 */

import type { Pfn } from "../base/address.ts";
import { takeBlock } from "./buddy.ts";
import { type Mixing, takeFromBuddy } from "./fallback.ts";
import { NO_PFN } from "./frame-table.ts";
import { GFP, migrateTypeOf, zoneClassOf } from "./gfp.ts";
import { reserveHighAtomic } from "./highatomic.ts";
import { isPcpOrder, takePcp } from "./pcp.ts";
import { MIGRATE, type NodeId, type PhysState, ZONE, type Zone, type ZoneKind } from "./state.ts";
import { type HighAtomicAccess, isWatermarkOk } from "./watermarks.ts";

type Mark = "low" | "min" | "none";

/** PHYS-054, fast path: a block from the first zone above its low watermark, or NO_PFN. */
export function takeFast(m: PhysState, order: number, gfp: number, node: NodeId): Pfn {
  const zoneClass = zoneClassOf(gfp);
  return walk(m, order, gfp, node, zoneClass, "low", firstMixing(m, node, zoneClass));
}

/** PHYS-054, slow path: the same above the min watermark, less what the request may use of the reserve (PHYS-046). */
export function takeAboveMin(m: PhysState, order: number, gfp: number, node: NodeId): Pfn {
  const isUnlimited = (gfp & (GFP.MEMALLOC | GFP.NOMEMALLOC)) === GFP.MEMALLOC;
  return walk(m, order, gfp, node, zoneClassOf(gfp), isUnlimited ? "none" : "min", "any");
}

/** PHYS-046: the min watermark as this request sees it. */
export function minMarkFor(min: number, gfp: number): number {
  let mark = min;
  if ((gfp & GFP.HIGH) !== 0) {
    mark -= Math.floor(mark / 2);
    if ((gfp & GFP.DIRECT_RECLAIM) === 0) mark -= Math.floor(mark / 4);
  }
  if ((gfp & GFP.OOM_VICTIM) !== 0) mark -= Math.floor(mark / 2);
  return mark;
}

/** PHYS-031: Normal rather spills to DMA32 of its node than mixes types. */
function firstMixing(m: PhysState, node: NodeId, zoneClass: ZoneKind): Mixing {
  const { zonelist, nrOwnZones } = m.nodes[node];
  let at = 0;
  while (at < nrOwnZones && m.zones[zonelist[at]].kind > zoneClass) at++;
  if (at + 1 >= nrOwnZones || m.zones[zonelist[at]].kind !== ZONE.NORMAL) return "any";
  return m.zones[zonelist[at + 1]].kind === ZONE.DMA32 ? "no-fragment" : "any";
}

function walk(
  m: PhysState,
  order: number,
  gfp: number,
  node: NodeId,
  zoneClass: ZoneKind,
  markKind: Mark,
  mixing: Mixing,
): Pfn {
  const { zonelist, nrOwnZones } = m.nodes[node];
  const nrZones = (gfp & GFP.THISNODE) !== 0 ? nrOwnZones : zonelist.length;
  const access = highAtomicAccess(gfp);
  for (let i = 0; i < nrZones; i++) {
    const zone = m.zones[zonelist[i]];
    if (zone.kind > zoneClass) continue;
    // A block of the own node in a mixed pageblock is better than a remote one.
    if (mixing === "no-fragment" && zone.node !== node) break;

    if (markKind !== "none") {
      const mark = markOf(zone, gfp, markKind);
      if (!isWatermarkOk(zone, order, mark, zoneClass, access)) continue;
    }
    const pfn = takeFromZone(m, zone, order, gfp, access, mixing);
    if (pfn !== NO_PFN) return pfn;
  }
  if (mixing === "any") return NO_PFN;
  return walk(m, order, gfp, node, zoneClass, markKind, "any");
}

function markOf(zone: Zone, gfp: number, kind: "low" | "min"): number {
  if (kind === "low") return zone.watermarks.low + zone.boost;
  return minMarkFor(zone.watermarks.min + zone.boost, gfp);
}

function highAtomicAccess(gfp: number): HighAtomicAccess {
  const isAtomic = (gfp & (GFP.HIGH | GFP.DIRECT_RECLAIM)) === GFP.HIGH;
  const isDesperate = (gfp & (GFP.OOM_VICTIM | GFP.MEMALLOC)) !== 0;
  return isAtomic || isDesperate ? "may use HighAtomic" : "no HighAtomic";
}

function takeFromZone(
  m: PhysState,
  zone: Zone,
  order: number,
  gfp: number,
  access: HighAtomicAccess,
  mixing: Mixing,
): Pfn {
  const type = migrateTypeOf(gfp);
  if (access === "no HighAtomic") {
    return m.pcpMode === "on" && isPcpOrder(order)
      ? takePcp(m, zone, order, type, mixing)
      : takeFromBuddy(m, zone, order, type, mixing);
  }
  return takeAtomic(m, zone, order, gfp, mixing);
}

/** PHYS-047: high orders from the reserve first; a success in the open reserves another pageblock. */
function takeAtomic(m: PhysState, zone: Zone, order: number, gfp: number, mixing: Mixing): Pfn {
  const reserved = order > 0 ? takeBlock(m, zone, order, MIGRATE.HIGHATOMIC) : NO_PFN;
  if (reserved !== NO_PFN) return reserved;
  const pfn = takeFromBuddy(m, zone, order, migrateTypeOf(gfp), mixing);
  if (pfn !== NO_PFN) {
    m.frames.order[pfn] = order;
    if (order > 0) reserveHighAtomic(m, zone, pfn);
    return pfn;
  }
  // An order-0 request that may dip into the reserve has it as its last resort.
  return order === 0 ? takeBlock(m, zone, order, MIGRATE.HIGHATOMIC) : NO_PFN;
}
