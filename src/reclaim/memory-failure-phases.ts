/**
 * What is done when a page of memory fails, as a phase table: isolate the one page, tell those who map it, lose nothing else.
 *
 * Entry: memoryFailurePhases; memory-failure.ts runs it.
 * Holds: the reference taken in "mark" stays for ever: a failed frame is never given out again.
 * Rules: ANON-280..283, 286.
 */

import { HUGE_SIZE, PAGE_SIZE, type Pfn } from "../base/address.ts";
import { EBUSY, EHWPOISON } from "../base/errno.ts";
import { BUS_MCEERR_AO, BUS_MCEERR_AR } from "../fault/kinds.ts";
import type { HugeState } from "../huge/knobs.ts";
import { splitWithin } from "../huge/split-folio.ts";
import { markPoisoned, poisonPte, retirePage } from "../mm/poison.ts";
import { forEachPmdMapping, forEachPteMapping } from "../mm/rmap-walk.ts";
import { headOf, PG } from "../phys/frame-table.ts";
import { definePhases, type Phase } from "../sched/phase-table.ts";
import type { Operation } from "../sched/state.ts";

export interface MemoryFailureOp extends Operation {
  readonly pfn: Pfn;
  /** Address space that consumed the bad data, -1 if nobody has yet. */
  readonly consumer: number;
  /** Head of the folio the page is in now. */
  head: Pfn;
  anonVma: number;
}

type FailurePhase = "mark" | "split" | "judge" | "unmap" | "giveUp" | "done";
type FailureRows = Readonly<
  Record<Exclude<FailurePhase, "done">, Phase<HugeState, MemoryFailureOp, FailurePhase>>
>;

const rows: FailureRows = {
  mark: { holds: "", run: markPage },
  split: { holds: "folio", run: splitAround },
  judge: { holds: "", run: judgeSplit },
  unmap: { holds: "folio anonVma", run: unmapPage },
  giveUp: { holds: "folio anonVma", run: tellAll },
};

export const memoryFailurePhases = definePhases<HugeState, MemoryFailureOp>({
  name: "memoryFailure",
  about: "a page that failed is taken away from those who map it, and only it",
  first: "mark",
  phases: rows,
  lockId: (op, name) => (name === "folio" ? op.head : op.anonVma),
  // Its reference is known by the mark on the frame.
  frames: () => [],
});

function markPage(m: HugeState, op: MemoryFailureOp): FailurePhase {
  const { frames } = m;
  op.head = headOf(frames, op.pfn);
  const isFailed = (frames.flags[op.pfn] & PG.HWPOISON) !== 0;
  const isAnon = (frames.flags[op.head] & PG.ANON) !== 0;
  if (isFailed || !isAnon) {
    op.result = isFailed ? -EHWPOISON : -EBUSY;
    return "done";
  }
  frames.refcount[op.head]++;
  markPoisoned(m, op.pfn, op.head);
  op.anonVma = frames.owner[op.head];
  return "split";
}

/** The page that failed keeps the reference, so it alone cannot be freed (ANON-280). */
function splitAround(m: HugeState, op: MemoryFailureOp): FailurePhase {
  const { frames } = m;
  // No lock was held: somebody else may have split it.
  op.head = headOf(frames, op.pfn);
  if (frames.order[op.head] === 0) return "unmap";
  splitWithin(m, op, op.head, 0, op.pfn);
  return "judge";
}

/** The page is in a folio of its own now, or still in the old one: another lock. */
function judgeSplit(m: HugeState, op: MemoryFailureOp): FailurePhase {
  op.head = headOf(m.frames, op.pfn);
  return op.callResult === 0 ? "unmap" : "giveUp";
}

/** A folio that cannot be split stays as it is, and who uses it is told about all of it (ANON-283). */
function tellAll(m: HugeState, op: MemoryFailureOp): FailurePhase {
  op.result = -EHWPOISON;
  if ((m.anonVmas[op.anonVma] ?? null) === null) return "done";
  forEachPmdMapping(m, op.head, (mm, _vma, region) =>
    tell(m, op, mm.id, region * HUGE_SIZE + (op.pfn - op.head) * PAGE_SIZE, 21),
  );
  forEachPteMapping(m, op.head, (mm, _vma, slot, page) => {
    if (m.tables.payload[slot] === op.pfn) tell(m, op, mm.id, page * PAGE_SIZE, 12);
  });
  return "done";
}

function unmapPage(m: HugeState, op: MemoryFailureOp): FailurePhase {
  if ((m.anonVmas[op.anonVma] ?? null) !== null)
    forEachPteMapping(m, op.pfn, (mm, vma, slot, page) => {
      poisonPte(m, mm, vma, slot, page);
      tell(m, op, mm.id, page * PAGE_SIZE, 12);
    });
  retirePage(m, op.pfn);
  return "done";
}

/** SIGBUS to the one who consumed it; to the others too if they are to be told early, else they find out by touching it. */
function tell(m: HugeState, op: MemoryFailureOp, mmId: number, address: number, addrLsb: number) {
  const isConsumer = mmId === op.consumer;
  if (!isConsumer && !m.poison.killsEarly) return;
  const code = isConsumer ? BUS_MCEERR_AR : BUS_MCEERR_AO;
  m.poison.signals.push({ mmId, code, address, addrLsb });
}
