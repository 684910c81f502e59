/**
 * A row of the frame table in words: for failing checks, for people, never for programs.
 */

import type { Pfn } from "../base/address.ts";
import { pageblockTypeOf, zoneOf } from "./buddy.ts";
import { headOf, PG } from "./frame-table.ts";
import { MIGRATE_NAMES, type PhysState, ZONE_NAMES } from "./state.ts";

/** E.g. "pfn 512: folio of order 9, 3 references, anon swapbacked lru; Normal on node 0, Movable pageblock". */
export function describeFrame(m: PhysState, pfn: Pfn): string {
  if (pfn < 0 || pfn >= m.frames.nrFrames) return `pfn ${pfn}: no such frame`;
  const zone = zoneOf(m, pfn);
  const place = `${ZONE_NAMES[zone.kind]} on node ${zone.node}, ${MIGRATE_NAMES[pageblockTypeOf(m, pfn)]} pageblock`;
  return `pfn ${pfn}: ${what(m, pfn)}; ${place}`;
}

function what(m: PhysState, pfn: Pfn): string {
  const { flags, order } = m.frames;
  const bits = flags[pfn];
  const zone = zoneOf(m, pfn);
  if (pfn >= zone.untakenStart && pfn < zone.untakenEnd) return "free, never taken";
  if ((bits & PG.RESERVED) !== 0) return "reserved";
  if ((bits & PG.BUDDY) !== 0) return `free block of order ${order[pfn]}${residue(m, pfn)}`;
  if ((bits & PG.PCP) !== 0) return `on a per-CPU list, order ${order[pfn]}${residue(m, pfn)}`;
  return folio(m, pfn);
}

/** What a row of a free block should not have. */
function residue(m: PhysState, pfn: Pfn): string {
  const rest = facts(m, pfn);
  return rest.length === 0 ? "" : `, still with ${rest.join(", ")}`;
}

function folio(m: PhysState, pfn: Pfn): string {
  const head = headOf(m.frames, pfn);
  const order = m.frames.order[pfn];
  const which =
    pfn === head ? `folio of order ${order}` : `page ${pfn - head} of the folio at ${head}`;
  return [which, `${m.frames.refcount[head]} references`, ...facts(m, pfn)].join(", ");
}

function facts(m: PhysState, pfn: Pfn): string[] {
  const f = m.frames;
  const found: string[] = [];
  const names = Object.entries(PG).filter(
    ([name, bit]) => name !== "BUDDY" && name !== "PCP" && (f.flags[pfn] & bit) !== 0,
  );
  if (names.length > 0) found.push(names.map(([name]) => name.toLowerCase()).join(" "));
  const columns: readonly [string, number][] = [
    ["mapcount", f.mapcount[pfn]],
    ["entire mapcount", f.entireMapcount[pfn]],
    ["large mapcount", f.largeMapcount[pfn]],
    ["pages mapped", f.nrPagesMapped[pfn]],
    ["pins", f.pincount[pfn]],
    ["tag", f.tag[pfn]],
    ["memcg", f.memcg[pfn]],
  ];
  for (const [name, value] of columns) if (value !== 0) found.push(`${name} ${value}`);
  if (f.owner[pfn] !== 0) {
    found.push(`owner ${f.owner[pfn]} at page ${f.indexRegion[pfn] * 512 + f.indexPte[pfn]}`);
  }
  return found;
}
