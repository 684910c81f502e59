/**
 * Processes as far as memory is concerned: an address space with its stack, and its end.
 *
 * Threads share the address space and need nothing here.
 */

import { type Addr, PAGE_SIZE } from "../base/address.ts";
import { assert } from "../base/assert.ts";
import { type AddressPlan, planAddresses } from "../mm/address-choice.ts";
import { forkMm } from "../mm/fork.ts";
import { createMm, destroyMm } from "../mm/mm.ts";
import { enterMm } from "../mm/mmap-lock.ts";
import type { Mm } from "../mm/state.ts";
import { createVma, VM } from "../mm/vma.ts";
import { insertVma } from "../mm/vma-edit.ts";
import { releaseUnusedShmem } from "../shmem/page-cache.ts";
import type { Machine } from "./machine.ts";

/** Stack pages mapped at exec: arguments and environment, and what Linux adds below them. */
const INITIAL_STACK_PAGES = 33;

/** A fresh program: its address space and where its parts go. */
export interface ExecImage {
  readonly mm: Mm;
  readonly plan: AddressPlan;
}

/**
 * Starts a program: an address space with only a stack. The heap begins behind `imagePages` pages of program; a caller
 * that maps segments later corrects it with setBrkStart. Null if no frame is free.
 */
export function execProcess(m: Machine, imagePages = 0, memcg = 0): ExecImage | null {
  const plan = planAddresses(m.layout, m.random);
  const brkStart: Addr = plan.imageBase + (imagePages + plan.brkGapPages) * PAGE_SIZE;
  const mm = createMm(m, plan, brkStart, memcg);
  if (mm === null) return null;
  const start = plan.stackTop - INITIAL_STACK_PAGES * PAGE_SIZE;
  const flags = VM.READ | VM.WRITE | VM.GROWSDOWN | VM.ACCOUNT;
  insertVma(m, mm, createVma(mm.id, start, plan.stackTop, flags, null, start / PAGE_SIZE));
  return { mm, plan };
}

/** Puts the start of a heap that is still empty at `start` (bytes, page aligned): behind the program's last segment. */
export function setBrkStart(mm: Mm, start: Addr): void {
  assert(mm.brk === mm.brkStart, "the start of a heap in use is moved");
  mm.brkStart = start;
  mm.brk = start;
}

/** A child that shares every private page copy-on-write; null if memory ran out. */
export function forkProcess(m: Machine, parent: Mm): Mm | null {
  enterMm(m, parent, "write");
  return forkMm(m, parent);
}

/** The last user of an address space is gone. */
export function exitProcess(m: Machine, mm: Mm): void {
  enterMm(m, mm, "write");
  destroyMm(m, mm);
  releaseUnusedShmem(m);
}
