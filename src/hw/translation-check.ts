/**
 * What must hold between the TLBs and the page tables: the invariants a machine checks after each operation.
 *
 * Entry: checkTranslation. Slow (reads every way of every CPU); allocates; for tests, fuzzing and machine.check().
 * Owns:  nothing.
 */

import { addrOf } from "../base/address.ts";
import { ENTRY, type PageTables, pmdSlotOf } from "../mm/page-tables.ts";
import { heldTranslations, type Tlb } from "./tlb.ts";
import type { Translation } from "./translate.ts";

/**
 * One sentence per violation, none if all is well:
 * - no CPU holds a 2M and a 4K translation of one region of an address space (ANON-173);
 * - every translation held is still what the tables say: same size, same frame, and not writable where they are not.
 *
 * `rootOf` gives the PGD of an address space, or NO_TABLE if it is gone.
 */
export function checkTranslation(
  t: Translation,
  tables: PageTables,
  rootOf: (asid: number) => number,
): string[] {
  return t.cpus.flatMap((c, cpu) => {
    const arrays = new Set([c.l1Small, c.l1Huge, c.l2Small, c.l2Huge]);
    const held = [...arrays].flatMap(entriesOf);
    const problems = [
      ...coexisting(held),
      ...held.flatMap((entry) => staleness(entry, tables, rootOf(entry.asid), t.keepsFrames)),
    ];
    // Both levels usually hold the same translation.
    return [...new Set(problems)].map((problem) => `CPU ${cpu}: ${problem}`);
  });
}

interface HeldEntry {
  readonly asid: number;
  readonly region: number;
  /** -1 for a 2M translation. */
  readonly pteIndex: number;
  readonly pfn: number;
  readonly isWritable: boolean;
}

function entriesOf(tlb: Tlb): HeldEntry[] {
  return heldTranslations(tlb).map(({ asid, region, pteIndex, value }) => ({
    asid,
    region,
    pteIndex,
    pfn: Math.floor(value / 2),
    isWritable: value % 2 === 1,
  }));
}

function coexisting(held: readonly HeldEntry[]): string[] {
  const hugeRegions = new Set(held.filter((e) => e.pteIndex < 0).map(regionName));
  const both = held.filter((e) => e.pteIndex >= 0 && hugeRegions.has(regionName(e)));
  return [...new Set(both.map(regionName))].map(
    (name) => `${name} has both a 2M and a 4K translation`,
  );
}

function regionName(entry: HeldEntry): string {
  return `address space ${entry.asid} region 0x${entry.region.toString(16)}`;
}

function staleness(
  entry: HeldEntry,
  tables: PageTables,
  root: number,
  keepsFrames: boolean,
): string[] {
  const isHuge = entry.pteIndex < 0;
  const size = isHuge ? "2M" : "4K";
  const addr = addrOf(entry.region, isHuge ? 0 : entry.pteIndex).toString(16);
  const name = `the ${size} translation of 0x${addr} in address space ${entry.asid}`;
  const pmd = root === 0 ? -1 : pmdSlotOf(tables, root, entry.region);
  const pmdFlags = pmd < 0 ? 0 : tables.flags[pmd];
  const isHugeEntry = isLeaf(pmdFlags, ENTRY.PRESENT | ENTRY.HUGE);
  if (isHuge && !isHugeEntry) return [`${name} outlived its entry`];

  // A 4K translation of a huge entry is right where the host maps the guest by 4K pages; its frame must still fit.
  const isTable = (pmdFlags & ENTRY.TABLE) !== 0;
  const slot = isTable ? tables.payload[pmd] * 512 + Math.max(entry.pteIndex, 0) : pmd;
  const flags = isTable ? tables.flags[slot] : pmdFlags;
  if (!isHugeEntry && !(isTable && isLeaf(flags, ENTRY.PRESENT))) {
    return [`${name} outlived its entry`];
  }
  const pfn = tables.payload[slot] + (isHugeEntry && !isHuge ? entry.pteIndex : 0);
  const knowsFrame = keepsFrames || isHugeEntry;
  if (knowsFrame && pfn !== entry.pfn)
    return [`${name} gives frame ${entry.pfn}, the tables ${pfn}`];
  if (entry.isWritable && (flags & ENTRY.WRITE) === 0) {
    return [`${name} allows writing, the tables do not`];
  }
  return [];
}

function isLeaf(flags: number, wanted: number): boolean {
  return (flags & (wanted | ENTRY.PROTNONE)) === wanted;
}
