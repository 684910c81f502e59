/**
 * System calls about mappings, on the model: the call, then what the shadow has to know of it.
 *
 * Entry: callMap, callRemap, callUnmap, callProtect, callBrk, callLock, callMseal, callMadvise.
 * Returns: 0 or a negative errno.
 */

import { PAGE_SIZE } from "../base/address.ts";
import { ENOMEM, ENOSYS } from "../base/errno.ts";
import { sysMadvise } from "../syscall/madvise.ts";
import {
  MCL,
  MLOCK_ONFAULT,
  sysMlock,
  sysMlock2,
  sysMlockall,
  sysMunlock,
} from "../syscall/mlock.ts";
import {
  MAP,
  MREMAP,
  sysBrk,
  sysMmap,
  sysMprotect,
  sysMremap,
  sysMunmap,
} from "../syscall/mmap.ts";
import { sysMseal } from "../syscall/mseal.ts";
import { sysProcessMadvise } from "../syscall/process-madvise.ts";
import { CannotDo } from "./backend.ts";
import { addressesOf, elementsOf, HEAP, noteRange, nrPagesNamed, placeOf } from "./layout.ts";
import type { ModelProcess, ModelState } from "./model-state.ts";
import { adviceName } from "./parse-values.ts";
import { noteAdvice, noteProcessAdvice, pagesTouched } from "./shadow-advice.ts";
import type { Action, MapFlag, Span } from "./syntax.ts";

type ActionOf<V extends Action["verb"]> = Extract<Action, { verb: V }>;

const MAP_BITS: Readonly<Record<MapFlag, number>> = {
  shared: MAP.SHARED,
  populate: MAP.POPULATE,
  locked: MAP.LOCKED,
  stack: MAP.STACK,
  noreserve: MAP.NORESERVE,
  growsdown: MAP.GROWSDOWN,
  droppable: MAP.DROPPABLE,
  zerofile: 0,
  anywhere: 0,
};

/** PROT bits of letters of "rwx". */
export function protBits(prot: string): number {
  return (prot.includes("r") ? 1 : 0) + (prot.includes("w") ? 2 : 0) + (prot.includes("x") ? 4 : 0);
}

export function callMap(
  state: ModelState,
  { mm, shadow }: ModelProcess,
  action: ActionOf<"map">,
): number {
  const place = placeOf(state.layout, action);
  const nrPages = nrPagesNamed(state.layout, action);
  const isShared = action.flags.includes("shared");
  const isPrivate = !isShared && !action.flags.includes("droppable");
  let flags: number =
    MAP.ANONYMOUS | (isPrivate ? MAP.PRIVATE : 0) | (place === null ? 0 : MAP.FIXED);
  for (const flag of action.flags) flags |= MAP_BITS[flag];
  // A private mapping of /dev/zero is anonymous memory in everything that can be seen (ANON-024).
  const start = sysMmap(state.m, mm, {
    address: place ?? 0,
    length: action.sizeBytes,
    prot: protBits(action.prot),
    flags,
  });
  if (place !== null) noteRange(state.layout, action.range, place, nrPages);
  if (start < 0) {
    if (place !== null) shadow.doubt(place / PAGE_SIZE, nrPages);
    return start;
  }
  if (place === null) noteRange(state.layout, action.range, start, nrPages);
  shadow.map(start / PAGE_SIZE, nrPages, isShared ? { written: new Map() } : null);
  return 0;
}

export function callRemap(
  state: ModelState,
  { mm, shadow }: ModelProcess,
  action: ActionOf<"remap">,
): number {
  const { layout } = state;
  const { start, end } = addressesOf(layout, action.span);
  const nrPages = nrPagesNamed(layout, action);
  const place = placeOf(layout, action);
  const isInPlace = action.flags.includes("inplace");
  const keepsSource = action.flags.includes("dontunmap");
  const isFixed = place !== null && !isInPlace;
  const flags =
    (isInPlace ? 0 : MREMAP.MAYMOVE) |
    (isFixed ? MREMAP.FIXED : 0) |
    (keepsSource ? MREMAP.DONTUNMAP : 0);
  const newBytes = nrPages * PAGE_SIZE;
  const to = sysMremap(state.m, mm, start, end - start, newBytes, flags, place ?? 0);
  if (place !== null) noteRange(layout, action.to, place, nrPages);
  const first = start / PAGE_SIZE;
  const oldNr = (end - start) / PAGE_SIZE;
  if (to < 0) {
    // A fixed target, and what the range is shortened by, may be gone even if the call then fails.
    if (isFixed) shadow.doubt(place / PAGE_SIZE, nrPages);
    shadow.doubt(first, oldNr);
    return to;
  }
  if (place === null) noteRange(layout, action.to, to, nrPages);
  shadow.move(first, oldNr, to / PAGE_SIZE, nrPages, keepsSource);
  return 0;
}

export function callUnmap(
  { m, layout }: ModelState,
  { mm, shadow }: ModelProcess,
  span: Span,
): number {
  const { start, end } = addressesOf(layout, span);
  const result = sysMunmap(m, mm, start, end - start);
  const nr = (end - start) / PAGE_SIZE;
  if (result === 0) shadow.unmap(start / PAGE_SIZE, nr);
  else shadow.doubt(start / PAGE_SIZE, nr);
  return result;
}

export function callProtect(
  { m, layout }: ModelState,
  { mm }: ModelProcess,
  { span, prot }: ActionOf<"protect">,
): number {
  const { start, end } = addressesOf(layout, span);
  return sysMprotect(m, mm, start, end - start, protBits(prot));
}

/** The break `sizeBytes` above its start; -ENOMEM if it stays where it was. */
export function callBrk(
  { m, layout }: ModelState,
  { mm, shadow }: ModelProcess,
  sizeBytes: number,
): number {
  const pageOf = (address: number) => Math.ceil(address / PAGE_SIZE);
  const before = pageOf(mm.brk);
  const wanted = mm.brkStart + sizeBytes;
  const isMoved = sysBrk(m, mm, wanted) === wanted;
  const after = pageOf(mm.brk);
  if (after > before) shadow.map(before, after - before, null);
  else if (after < before) shadow.unmap(after, before - after);
  const known = layout.ranges.get(HEAP)?.nrPages ?? 0;
  const nrPages = after - mm.brkStart / PAGE_SIZE;
  // Pages that the heap had once are still looked at.
  const nrSeen = Math.max(known, nrPages);
  if (isMoved && nrSeen > 0) noteRange(layout, HEAP, mm.brkStart, nrSeen);
  return isMoved ? 0 : -ENOMEM;
}

/** mlock(2), mlock2(2) and munlock(2). */
export function callLock(
  { m, layout }: ModelState,
  { mm }: ModelProcess,
  span: Span,
  how: "mlock" | "mlock2" | "mlock2 onfault" | "munlock",
): number {
  const { start, end } = addressesOf(layout, span);
  const length = end - start;
  switch (how) {
    case "mlock":
      return sysMlock(m, mm, start, length);
    case "munlock":
      return sysMunlock(m, mm, start, length);
    default:
      return sysMlock2(m, mm, start, length, how === "mlock2" ? 0 : MLOCK_ONFAULT);
  }
}

const MLOCKALL_BITS = { current: MCL.CURRENT, future: MCL.FUTURE, onfault: MCL.ONFAULT } as const;

export function callMlockall(
  { m }: ModelState,
  { mm }: ModelProcess,
  { flags }: ActionOf<"mlockall">,
): number {
  let bits = 0;
  for (const flag of flags) bits |= MLOCKALL_BITS[flag];
  return sysMlockall(m, mm, bits);
}

export function callMseal({ m, layout }: ModelState, { mm }: ModelProcess, span: Span): number {
  const { start, end } = addressesOf(layout, span);
  return sysMseal(m, mm, start, end - start);
}

const PIDFDS = {
  self: "self",
  bad: "notAPidfd",
  zombie: "noMemory",
  reaped: "noMemory",
  "kernel-thread": "noMemory",
} as const;

export function callMadvise(
  { m, layout }: ModelState,
  { mm, shadow }: ModelProcess,
  { span, advice, offsetBytes = 0, lengthBytes }: ActionOf<"madvise">,
  line: number,
): number {
  const { start, end } = addressesOf(layout, span);
  const at = start + offsetBytes;
  const length = lengthBytes ?? end - start;
  const result = sysMadvise(m, mm, at, length, advice);
  if (result === -ENOSYS)
    throw new CannotDo(line, `the model does not know MADV_${adviceName(advice)} yet`);
  noteAdvice(shadow, advice, ...pagesTouched(at, length), result);
  return result;
}

export function callProcessMadvise(
  state: ModelState,
  process: ModelProcess,
  action: ActionOf<"process-madvise">,
  line: number,
): number {
  const { target, advice, flags } = action;
  const elements = elementsOf(state.layout, action);
  const vector = action.isUnreadable ? null : elements;
  const other = "process" in target ? state.processes.get(target.process)! : process;
  const pidfd = "process" in target ? { mm: other.mm } : PIDFDS[target.pidfd];
  const result = sysProcessMadvise(state.m, process.mm, pidfd, vector, advice, flags);
  if (result === -ENOSYS)
    throw new CannotDo(line, `the model does not know MADV_${adviceName(advice)} yet`);
  noteProcessAdvice(other.shadow, advice, elements, result);
  return result;
}
