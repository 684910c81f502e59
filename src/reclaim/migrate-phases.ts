/**
 * Migration of one anonymous folio to other frames, as a phase table.
 *
 * Entry: migratePhases; migrateFolio runs it at once, migrateWithin calls it from a phase of another table.
 * Locks: folio throughout; the anon_vma only for the two walks over the mappings, so that it is free while a target is allocated and while
 *        the contents move: a collapse or a fork may come upon the migration entries (COLL-207).
 * Holds: until "move" has frozen the count, "undo" can put every mapping back. Huge entries stay huge: they become huge
 *        migration entries. The old folio is left with the caller's one reference.
 */

import type { Pfn } from "../base/address.ts";
import { NR_THP_STATS, THP_STAT } from "../base/counters.ts";
import { EAGAIN, EBUSY, ENOMEM, type Err } from "../base/errno.ts";
import type { HugeState } from "../huge/knobs.ts";
import { forgetAnonVmaIfUnused } from "../mm/anon-vma.ts";
import {
  forgetSharers,
  leaveDeferredQueue,
  markPartiallyMapped,
  putFolio,
  queueMaybeUnderused,
} from "../mm/folio.ts";
import { freezePte, restorePte } from "../mm/migration.ts";
import { freezeHugePmd, restoreHugePmd } from "../mm/pmd.ts";
import { folioMapcount, indexOf } from "../mm/rmap.ts";
import {
  forEachMigrationPmd,
  forEachMigrationPte,
  forEachPmdMapping,
  forEachPteMapping,
} from "../mm/rmap-walk.ts";
import { allocFolio } from "../phys/alloc.ts";
import { zoneOf } from "../phys/buddy.ts";
import { NO_PFN, PG } from "../phys/frame-table.ts";
import { GFP_HIGHUSER_MOVABLE } from "../phys/gfp.ts";
import { lruAdd } from "../phys/lru.ts";
import { chargeFolio } from "../phys/memcg.ts";
import { isFolioBusy } from "../sched/locks.ts";
import { definePhases, type FrameHold, type Phase } from "../sched/phase-table.ts";
import { callOperation, runAtOnce } from "../sched/runner.ts";
import type { Operation } from "../sched/state.ts";

export interface MigrateOp extends Operation {
  readonly from: Pfn;
  readonly order: number;
  readonly anonVma: number;
  readonly index: number;
  /** The new head, NO_PFN until it is allocated and after it was given back. */
  to: Pfn;
}

type MigratePhase = "check" | "allocate" | "unmap" | "move" | "remap" | "undo" | "done";
type MigrateRows = Readonly<
  Record<Exclude<MigratePhase, "done">, Phase<HugeState, MigrateOp, MigratePhase>>
>;

const rows: MigrateRows = {
  check: { holds: "folio anonVma", run: checkFolio },
  allocate: { holds: "folio", run: allocateTarget },
  unmap: { holds: "folio anonVma", run: unmapFolio },
  move: { holds: "folio", run: moveFolio },
  remap: { holds: "folio anonVma", run: remapFolio },
  undo: { holds: "folio anonVma", run: putBack },
};

export const migratePhases = definePhases<HugeState, MigrateOp>({
  name: "migrateFolio",
  about: "an anonymous folio moves to other frames; fails if anybody else refers to it",
  first: "check",
  phases: rows,
  lockId: (op, name) => (name === "folio" ? op.from : op.anonVma),
  frames: heldFrames,
});

/**
 * Moves a folio; the caller holds one reference on the old one, which is all that is left of it then. 0; -EAGAIN if anybody
 * else refers to it; -EBUSY if nobody maps it or somebody works on it; -ENOMEM.
 */
export function migrateFolio(m: HugeState, from: Pfn): Err {
  if (isFolioBusy(m, from)) return -EBUSY;
  return runAtOnce(m, migratePhases, fieldsFor(m, from)) ?? -EBUSY;
}

/** The same called by a phase of `caller`, which finds the result in `callResult`. */
export function migrateWithin(m: HugeState, caller: Operation, from: Pfn): MigrateOp {
  return callOperation(m, migratePhases, caller, fieldsFor(m, from));
}

/** What an operation on the folio of `from` starts with. */
export function fieldsFor(m: HugeState, from: Pfn) {
  const { order, owner } = m.frames;
  return {
    from,
    order: order[from],
    anonVma: owner[from],
    index: indexOf(m, from),
    to: NO_PFN,
  };
}

function checkFolio(m: HugeState, op: MigrateOp): MigratePhase {
  const { frames } = m;
  const { from } = op;
  const isAnon = (frames.flags[from] & PG.ANON) !== 0 && frames.order[from] === op.order;
  if (!isAnon || (m.anonVmas[op.anonVma] ?? null) === null) return refuse(op, -EBUSY);
  if (folioMapcount(m, from) === 0) return refuse(op, -EBUSY);
  // A partially mapped folio is better split: moving it would copy what nobody can see.
  const isPartial = (frames.flags[from] & PG.PARTIALLY_MAPPED) !== 0;
  const hasOthers = frames.refcount[from] !== folioMapcount(m, from) + 1;
  return isPartial || hasOthers ? refuse(op, -EAGAIN) : "allocate";
}

function refuse(op: MigrateOp, result: Err): MigratePhase {
  op.result = result;
  return "done";
}

/** Near the old one. What the mappings are may change here: nobody has the anon_vma. */
function allocateTarget(m: HugeState, op: MigrateOp): MigratePhase {
  const { node } = zoneOf(m, op.from);
  const to = allocFolio(m, op.order, GFP_HIGHUSER_MOVABLE, node);
  if (to === NO_PFN) return refuse(op, -ENOMEM);
  const memcg = m.frames.memcg[op.from];
  if (memcg !== 0 && chargeFolio(m, to, memcg) !== 0) {
    putFolio(m, to, 1);
    return refuse(op, -ENOMEM);
  }
  op.to = to;
  return "unmap";
}

function unmapFolio(m: HugeState, op: MigrateOp): MigratePhase {
  // Everybody who mapped it may be gone by now; then there is nothing to walk.
  if ((m.anonVmas[op.anonVma] ?? null) === null) return "move";
  forEachPmdMapping(m, op.from, (mm, vma, region, slot) => freezeHugePmd(m, mm, vma, region, slot));
  forEachPteMapping(m, op.from, (mm, vma, slot, page) => freezePte(m, mm, vma, slot, page));
  return "move";
}

/** Freezes the count and gives the new folio what the old one was. */
function moveFolio(m: HugeState, op: MigrateOp): MigratePhase {
  if (m.frames.refcount[op.from] !== 1) {
    op.result = -EAGAIN;
    return "undo";
  }
  copyRows(m, op);
  return "remap";
}

/** Every mapping that is left is one of the new folio. */
function remapFolio(m: HugeState, op: MigrateOp): MigratePhase {
  mapAgain(m, op, op.to);
  const { to } = op;
  op.to = NO_PFN;
  noteHoles(m, to);
  putFolio(m, to, 1); // the allocation's: if all its mappings went meanwhile, it is free now
  forgetAnonVmaIfUnused(m, op.anonVma);
  return "done";
}

const MOVED =
  PG.ANON | PG.SWAPBACKED | PG.REFERENCED | PG.UPTODATE | PG.ACTIVE | PG.WORKINGSET | PG.DIRTY;

function copyRows(m: HugeState, { from, to, order }: MigrateOp): void {
  const { frames } = m;
  const nr = 1 << order;
  if ((frames.flags[from] & PG.DEFERRED) !== 0) leaveDeferredQueue(m, from);
  forgetSharers(m, from);
  frames.flags[to] = frames.flags[from] & MOVED;
  frames.owner[to] = frames.owner[from];
  frames.indexRegion[to] = frames.indexRegion[from];
  frames.indexPte[to] = frames.indexPte[from];
  frames.tag.copyWithin(to, from, from + nr);
  if ((frames.flags[from] & PG.LRU) !== 0) lruAdd(m, to);
  if (order === 0) return;
  m.thpStats[order * NR_THP_STATS + THP_STAT.nr_anon]++;
  queueMaybeUnderused(m, to);
}

/** Every entry that is still there maps `head` and what follows it. */
function mapAgain(m: HugeState, op: MigrateOp, head: Pfn): void {
  if ((m.anonVmas[op.anonVma] ?? null) === null) return;
  const place = { anonVma: op.anonVma, index: op.index, nrPages: 1 << op.order };
  forEachMigrationPmd(m, place, op.from, (mm, vma, _region, slot) =>
    restoreHugePmd(m, mm, vma, slot, head),
  );
  forEachMigrationPte(m, place, op.from, (mm, vma, slot) =>
    restorePte(m, mm, vma, slot, head + (m.tables.payload[slot] - op.from)),
  );
}

function putBack(m: HugeState, op: MigrateOp): MigratePhase {
  mapAgain(m, op, op.from);
  noteHoles(m, op.from);
  putFolio(m, op.to, 1);
  op.to = NO_PFN;
  forgetAnonVmaIfUnused(m, op.anonVma);
  return "done";
}

/** Entries that were unmapped meanwhile were no mappings, so that nothing was noted when they went. */
function noteHoles(m: HugeState, head: Pfn): void {
  const { order, entireMapcount, nrPagesMapped, flags } = m.frames;
  if (order[head] === 0 || entireMapcount[head] > 0) return;
  const nr = nrPagesMapped[head];
  const isNoted = (flags[head] & PG.PARTIALLY_MAPPED) !== 0;
  if (nr > 0 && nr < 1 << order[head] && !isNoted) markPartiallyMapped(m, head);
}

function heldFrames(_m: HugeState, op: MigrateOp): readonly FrameHold[] {
  const held: FrameHold[] = [{ pfn: op.from, nrMigrating: 1 << op.order, references: 0 }];
  if (op.to !== NO_PFN) held.push({ pfn: op.to, nrMigrating: 0, references: 1 });
  return held;
}
