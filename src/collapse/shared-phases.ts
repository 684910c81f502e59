/**
 * Shared collapse as a phase table: small pages that several processes share become one compound folio, and stay shared. No
 * kernel has it.
 *
 * Entry: sharedCollapsePhases; shared-collapse.ts runs it at once, khugepaged calls it where the mode is on.
 * Locks: named per phase. The folios that were taken are locked from "isolate" to the end, and the new one while it is mapped.
 *        Nothing is held between "freeze" and "remap" besides: who maps the pages may fork, move or unmap them, or exit.
 * Holds: until "copy" has run, every phase can still give up, and then all entries are as they were. Between "freeze" and
 *        "remap" no entry that anyone could use maps a source page (COLL-438).
 * Rules: COLL-410..441. "allocate" is step S1, "isolate" S2, "recount" S3, "freeze" S4, "checkPins" S5, "copy" S6, "remap" S7,
 *        "release" S8; "identify" comes before all of them.
 */

import type { Pfn } from "../base/address.ts";
import { PTES_PER_REGION } from "../base/address.ts";
import { assert } from "../base/assert.ts";
import { FAULT_WAIT } from "../fault/kinds.ts";
import { faultSwap } from "../fault/swap-in.ts";
import type { HugeState } from "../huge/knobs.ts";
import { putFolio } from "../mm/folio.ts";
import { ENTRY, pmdSlotOf } from "../mm/page-tables.ts";
import { folioMapcount } from "../mm/rmap.ts";
import { NO_PFN, PG } from "../phys/frame-table.ts";
import { lruDel } from "../phys/lru.ts";
import { chargeFolio } from "../phys/memcg.ts";
import { definePhases, type FrameHold, type Phase } from "../sched/phase-table.ts";
import { allocOn, gfpOf } from "./collapse-phases.ts";
import { revalidate } from "./eligible.ts";
import { busiestNodes } from "./scan.ts";
import { ACTOR, SCAN } from "./scan-result.ts";
import { findSharers, findSources } from "./shared-find.ts";
import { account, modeOf, nrSourcesOf, type SharedOp, stalledNs } from "./shared-op.ts";
import {
  copySources,
  freezeSources,
  giveSourcesBack,
  mapCompound,
  retireSources,
  thawSources,
} from "./shared-pages.ts";
import { SHARED, type SharedResult } from "./shared-result.ts";

type SharedPhase =
  | "identify"
  | "allocate"
  | "swapIn"
  | "isolate"
  | "recount"
  | "freeze"
  | "checkPins"
  | "copy"
  | "remap"
  | "release"
  | "undo"
  | "giveUp"
  | "done";
type SharedRows = Readonly<
  Record<Exclude<SharedPhase, "done">, Phase<HugeState, SharedOp, SharedPhase>>
>;

const rows: SharedRows = {
  identify: { holds: "mmap:read", run: identify },
  allocate: { holds: "", run: allocate },
  swapIn: { holds: "mmap:read", run: swapIn },
  isolate: { holds: "mmap:read", run: isolate },
  recount: { holds: "mmap:read", run: recount },
  freeze: { holds: "anonVma", run: freeze },
  checkPins: { holds: "", run: checkPins },
  copy: { holds: "", run: copy },
  remap: { holds: "anonVma", run: remap },
  release: { holds: "", run: release },
  undo: { holds: "anonVma", run: undo },
  giveUp: { holds: "", run: giveUp },
};

export const sharedCollapsePhases = definePhases<HugeState, SharedOp>({
  name: "sharedCollapse",
  about:
    "4K pages shared by several processes become one compound folio that they share (no kernel has it)",
  first: "identify",
  phases: rows,
  lockId: (op, name) => (name === "mmap" ? op.mmId : op.anonVma),
  takesCallerLocks: true,
  locksFolio: hasLocked,
  frames: heldFrames,
});

/** COLL-410..423: nothing is modified, allocated or charged. Ends with the mmap lock still held, for the caller to go on under it. */
function identify(m: HugeState, op: SharedOp): SharedPhase {
  let result = findSources(m, op);
  if (result === SHARED.SUCCEED) result = findSharers(m, op);
  const cost = PTES_PER_REGION + 2 * op.nrPtes;
  if (result === SHARED.SUCCEED && cost > op.mostProgress) result = SHARED.POSTPONED;
  if (result === SHARED.SUCCEED) return "allocate";
  op.result = result;
  if (isOperation(result)) account(m, op, 0);
  return "done";
}

/** False for regions that were only looked at. */
function isOperation(result: SharedResult): boolean {
  return result < SHARED.NOT_SHARED;
}

/** COLL-430 (S1). The pages' cgroup pays for the compound, whoever the pivot is (COLL-416). */
function allocate(m: HugeState, op: SharedOp): SharedPhase {
  const { vmstat } = modeOf(m);
  const gfp = gfpOf(m, ACTOR.khugepaged);
  op.folio = allocOn(m, gfp, nodesOf(m, op));
  if (op.folio === NO_PFN) {
    vmstat.thp_shared_collapse_alloc_failed++;
    return abort(op, SHARED.ALLOC);
  }
  vmstat.thp_shared_collapse_alloc++;
  if (op.memcg !== 0 && chargeFolio(m, op.folio, op.memcg, gfp) !== 0)
    return abort(op, SHARED.CHARGE);
  return op.nrSwapped > 0 ? "swapIn" : "isolate";
}

/** COLL-122: the nodes of the pivot's pages. The mapping may have changed by now; then any will do. */
function nodesOf(m: HugeState, op: SharedOp): number {
  if (m.nodes.length === 1) return 1;
  const mm = m.mms[op.mmId] ?? null;
  const slot = mm === null ? -1 : pmdSlotOf(m.tables, mm.root, op.region);
  const isTable = slot >= 0 && (m.tables.flags[slot] & ENTRY.TABLE) !== 0;
  return isTable ? busiestNodes(m, m.tables.payload[slot]) : (1 << m.nodes.length) - 1;
}

/** COLL-413. */
function swapIn(m: HugeState, op: SharedOp): SharedPhase {
  const { tables } = m;
  if (revalidate(m, op.mmId, op.region, ACTOR.khugepaged) !== SCAN.SUCCEED)
    return abort(op, SHARED.VMA);
  const mm = m.mms[op.mmId]!;
  const slot = pmdSlotOf(tables, mm.root, op.region);
  if (slot < 0 || (tables.flags[slot] & ENTRY.TABLE) === 0) return abort(op, SHARED.VMA);
  for (let i = 0; i < PTES_PER_REGION; i++) {
    const pte = tables.payload[slot] * 512 + i;
    if ((tables.flags[pte] & ENTRY.SWAP) === 0) continue;
    const result = faultSwap(m, mm, op.region, i, pte, "read");
    if (result < 0) return abort(op, result === FAULT_WAIT ? SHARED.LOCK : SHARED.VMA);
  }
  return "isolate";
}

/** COLL-431 (S2): nobody was kept out until now, so everything is looked at again. */
function isolate(m: HugeState, op: SharedOp): SharedPhase {
  const result = findSources(m, op);
  if (result !== SHARED.SUCCEED) return abort(op, isOperation(result) ? result : SHARED.VMA);
  if (op.nrSwapped > 0) return abort(op, SHARED.VMA);
  for (const head of op.heads) {
    m.frames.refcount[head]++;
    lruDel(m, head);
    m.frames.flags[head] |= PG.LOCKED;
    op.nrTaken++;
  }
  return "recount";
}

/** COLL-432 (S3). */
function recount(m: HugeState, op: SharedOp): SharedPhase {
  const result = findSharers(m, op);
  return result === SHARED.SUCCEED ? "freeze" : abort(op, result);
}

/** COLL-433 (S4): from here on nobody reaches the pages. */
function freeze(m: HugeState, op: SharedOp): SharedPhase {
  op.frozenAtNs = m.sched.nowNs;
  op.isFrozen = 1;
  freezeSources(m, op);
  return "checkPins";
}

/** COLL-434 (S5), COLL-441. */
function checkPins(m: HugeState, op: SharedOp): SharedPhase {
  const boundMs = modeOf(m).knobs.shared_collapse_batch_ms;
  if (boundMs > 0 && stalledNs(m, op) > boundMs * 1e6) return abort(op, SHARED.STALL);
  for (const head of op.heads) {
    const isCached = (m.frames.flags[head] & PG.SWAPCACHE) !== 0;
    const own = 1 + (isCached ? 1 << m.frames.order[head] : 0);
    if (folioMapcount(m, head) > 0 || m.frames.refcount[head] !== own)
      return abort(op, SHARED.PINNED);
  }
  return "copy";
}

/** COLL-435 (S6). */
function copy(m: HugeState, op: SharedOp): SharedPhase {
  return copySources(m, op) ? "remap" : abort(op, SHARED.COPY_MC);
}

/** COLL-436 (S7). */
function remap(m: HugeState, op: SharedOp): SharedPhase {
  mapCompound(m, op);
  op.stallNs = stalledNs(m, op);
  op.isFrozen = 0;
  return "release";
}

/** COLL-437 (S8). */
function release(m: HugeState, op: SharedOp): SharedPhase {
  const nrFreed = nrSourcesOf(op);
  retireSources(m, op);
  op.result = SHARED.SUCCEED;
  const record = account(m, op, nrFreed);
  const { queue } = modeOf(m);
  for (let i = 0; i < op.deferred.length; i += 2) {
    const [mmId, region] = op.deferred.slice(i, i + 2);
    queue.push({ mmId, region, folio: op.folio, nrRequeued: 0, record });
  }
  op.folio = NO_PFN;
  return "done";
}

function abort(op: SharedOp, result: SharedResult): SharedPhase {
  op.result = result;
  return op.isFrozen === 1 ? "undo" : "giveUp";
}

/** COLL-439: the entries map the old pages again, with the bits they had. */
function undo(m: HugeState, op: SharedOp): SharedPhase {
  thawSources(m, op);
  op.stallNs = stalledNs(m, op);
  op.isFrozen = 0;
  return "giveUp";
}

/** Everything that was taken goes back, in the opposite order. */
function giveUp(m: HugeState, op: SharedOp): SharedPhase {
  giveSourcesBack(m, op);
  if (op.folio !== NO_PFN) putFolio(m, op.folio, 1);
  op.folio = NO_PFN;
  account(m, op, 0);
  return "done";
}

function hasLocked(m: HugeState, op: SharedOp, head: Pfn): boolean {
  if ((m.frames.flags[head] & PG.LOCKED) === 0) return false;
  return head === op.folio || (op.nrTaken > 0 && op.heads.includes(head));
}

function heldFrames(m: HugeState, op: SharedOp): readonly FrameHold[] {
  const held: FrameHold[] = [];
  for (const head of op.nrTaken > 0 ? op.heads : []) {
    const size = 1 << m.frames.order[head];
    held.push({ pfn: head, nrMigrating: op.isFrozen * size, references: 1 });
  }
  assert(op.nrTaken === 0 || op.nrTaken === op.heads.length, "source folios are taken in part");
  if (op.folio !== NO_PFN) held.push({ pfn: op.folio, nrMigrating: 0, references: 1 });
  return held;
}
