/**
 * One random history of the machine, beside the naive model: every step is carried out on both and compared.
 *
 * Entry: FuzzRun. The steps are in fuzz-steps.ts. Used by tests only.
 * Holds after every step: checkMachine finds nothing; every read gives what the naive model says; a pinned page stays where
 *        it is mapped; no translation that a TLB may have kept is stale.
 */

import { HUGE_SIZE, PAGE_SIZE, PTES_PER_REGION, pteIndexOf, regionOf } from "../base/address.ts";
import type { Profile } from "../base/profile.ts";
import { handleFault, isAccessible, translateToPfn } from "../fault/fault.ts";
import { shrinkDeferred } from "../huge/deferred-split-phases.ts";
import { shrinkHugeZero } from "../huge/huge-zero.ts";
import { writeKnob } from "../huge/knobs.ts";
import type { FileObject } from "../mm/file-object.ts";
import { NO_TABLE, pteTableOf } from "../mm/page-tables.ts";
import type { Mm } from "../mm/state.ts";
import { headOf } from "../phys/frame-table.ts";
import { createMemcg } from "../phys/memcg.ts";
import { createFile } from "../shmem/page-cache.ts";
import { MADV, sysMadvise } from "../syscall/madvise.ts";
import { MLOCK_ONFAULT, sysMlock2, sysMunlock } from "../syscall/mlock.ts";
import {
  MAP,
  MREMAP,
  sysBrk,
  sysMmap,
  sysMprotect,
  sysMremap,
  sysMunmap,
} from "../syscall/mmap.ts";
import { sysSwapoff, sysSwapon } from "../syscall/swap.ts";
import { NO_FAULT, pageTag, readPage, writePage } from "./access.ts";
import { checkMachine } from "./check.ts";
import { digestOf } from "./digest.ts";
import { FuzzCollapse } from "./fuzz-collapse.ts";
import { FuzzHolds } from "./fuzz-holds.ts";
import { FuzzSplit } from "./fuzz-split.ts";
import {
  DEVICE_PAGES,
  KNOB_WRITES,
  LENGTHS,
  MOST_PROCESSES,
  PROTS,
  rangeOf,
  type Step,
  WINDOW,
  WINDOW_PAGES,
} from "./fuzz-steps.ts";
import { createMachine, type Machine } from "./machine.ts";
import {
  contentsOf,
  dropPages,
  forkSpace,
  guardPages,
  lockPages,
  loosenPages,
  mapPages,
  movePages,
  type NaiveObject,
  type NaivePage,
  type NaiveSpace,
  protectPages,
  unmapPages,
  writeTo,
} from "./naive-memory.ts";
import { NaiveTlb } from "./naive-tlb.ts";
import { execProcess, exitProcess, forkProcess } from "./process.ts";
import { restore, snapshot } from "./snapshot.ts";

export interface FuzzConfig {
  readonly profile: Profile;
  readonly memoryMb: number;
  readonly nrNodes: number;
}

interface Process {
  /** Looked up again after a restore, which makes new records. */
  mm: Mm;
  readonly space: NaiveSpace;
  readonly stackTop: number;
}

export class FuzzRun {
  readonly m: Machine;
  private readonly processes: Process[] = [];
  private readonly holds: FuzzHolds<Process>;
  private file: FileObject;
  private readonly fileObject: NaiveObject;
  private readonly tlb = new NaiveTlb();
  private readonly split: FuzzSplit;
  private readonly collapser: FuzzCollapse;
  private nextTag = 1;

  constructor(config: FuzzConfig) {
    const memoryBytes = config.memoryMb * 2 ** 20;
    const { profile, nrNodes } = config;
    this.m = createMachine({ memoryBytes, profile, nrNodes, randomizeAddresses: false });
    this.m.mmuNotifier = this.tlb;
    this.holds = new FuzzHolds(this.m);
    writeKnob(this.m, "thp.enabled", "always");
    writeKnob(this.m, "thp.use_zero_page", "1");
    writeKnob(this.m, "thp.shrink_underused", "1");
    const memcg = createMemcg(this.m, "small", 0);
    this.m.memcgs[memcg]!.max = 1500;
    this.file = createFile(this.m, "file", "/lib/fuzz");
    this.fileObject = { fileId: this.file.id, written: new Map() };
    this.split = new FuzzSplit(this.m, (pfn, nr) => this.holds.note(pfn, nr));
    this.collapser = new FuzzCollapse(this.m);
    sysSwapon(this.m, { nrSlots: DEVICE_PAGES[0] });
    this.start(0);
  }

  step(step: Step): void {
    const p = this.processes[step.who % this.processes.length];
    this[step.name](p, step);
    this.checkHeld(step.name);
    const stale = this.tlb.stale(this.m);
    if (stale !== null) throw new Error(`after ${step.name} a translation is stale: ${stale}`);
    this.checkMachine(step.name);
  }

  /** Saves the machine, carries out a few steps of its own, and puts the machine back as it was. */
  detour(): void {
    const before = digestOf(this.m);
    const saved = snapshot(this.m);
    const [{ mm }] = this.processes;
    forkProcess(this.m, mm);
    sysMadvise(this.m, mm, WINDOW * PAGE_SIZE, WINDOW_PAGES * PAGE_SIZE, MADV.POPULATE_WRITE);
    sysMunmap(this.m, mm, WINDOW * PAGE_SIZE, 700 * PAGE_SIZE);
    restore(this.m, saved);
    for (const p of this.processes) p.mm = this.m.mms[p.mm.id]!;
    this.file = this.m.files[this.file.id]!;
    if (digestOf(this.m) !== before) throw new Error("a restored machine differs");
  }

  /** Reads everything, then ends everything: nothing may be left. */
  finish(): void {
    this.release();
    this.split.end(this.m);
    this.collapser.end(this.m);
    for (const p of this.processes) for (const at of p.space.keys()) this.readAt(p, at);
    this.checkMachine("reading everything");
    for (const p of this.processes) exitProcess(this.m, p.mm);
    while (this.holds.pages.length > 0) this.holds.letGo(0);
    this.checkMachine("the end");
  }

  private checkMachine(after: string): void {
    const problems = checkMachine(this.m, this.holds.references);
    if (problems.length > 0) throw new Error(`after ${after}: ${problems.slice(0, 8).join("\n")}`);
  }

  /** A page pinned for a device stays the page its owner sees (ANON-154). */
  private checkHeld(after: string): void {
    for (const { kind, pfn, owner, at, page } of this.holds.pages) {
      if (kind !== "pin") continue;
      if (!this.processes.includes(owner) || owner.space.get(at) !== page) continue;
      const now = translateToPfn(this.m, owner.mm, ...split(at));
      if (now !== pfn) throw new Error(`after ${after}: page ${at} pinned at ${pfn} is now ${now}`);
    }
  }

  private start(memcg: number): void {
    const image = execProcess(this.m, 16, memcg);
    if (image === null) return;
    const { mm, plan } = image;
    const space: NaiveSpace = new Map();
    for (const vma of mm.vmas)
      mapPages(space, vma.start / PAGE_SIZE, (vma.end - vma.start) / PAGE_SIZE, 3, null);
    this.processes.push({ mm, space, stackTop: plan.stackTop / PAGE_SIZE });
  }

  /** A page that is mapped, if there is any near. */
  private place(p: Process, step: Step): number {
    const { first } = rangeOf(step);
    for (let at = first; at < first + 2048; at++) if (p.space.has(at)) return at;
    return first;
  }

  write(p: Process, step: Step): void {
    this.writeAt(p, this.place(p, step) + (step.variant % 5));
  }

  fill(p: Process, step: Step): void {
    const first = this.place(p, step);
    const stride = step.variant % 3 === 0 ? 37 : 1;
    for (let at = first; at < first + 600; at += stride) if (p.space.has(at)) this.writeAt(p, at);
  }

  private writeAt(p: Process, at: number): void {
    const page = p.space.get(at);
    // Regular files are read-only here; a shared writable mapping of one does not exist.
    const tag = this.nextTag++;
    const result = writePage(this.m, p.mm, ...split(at), tag);
    const isAllowed = page !== undefined && (page.prot & 2) !== 0 && !page.isGuard;
    if (result === NO_FAULT || result >= 0) {
      if (!isAllowed) throw new Error(`page ${at} was written but must not be`);
      writeTo(page, tag);
      this.tlb.remember(this.m, p.mm, at);
    } else if (isAllowed && result !== -12) throw new Error(`write to page ${at} gave ${result}`);
  }

  read(p: Process, step: Step): void {
    this.readAt(p, this.place(p, step) + (step.variant % 5));
  }

  private readAt(p: Process, at: number): void {
    const page = p.space.get(at);
    const result = readPage(this.m, p.mm, ...split(at));
    const isAllowed = page !== undefined && page.prot !== 0 && !page.isGuard;
    if (result === NO_FAULT || result >= 0) {
      if (!isAllowed) throw new Error(`page ${at} was read but must not be`);
      this.tlb.remember(this.m, p.mm, at);
      const seen = pageTag(this.m, p.mm, ...split(at));
      // Once a page given up reads as zeroes it stays so.
      if (seen === 0 && page.mayBeLost) page.tag = null;
      if (seen !== contentsOf(page))
        throw new Error(`mm ${p.mm.id} page ${at} reads ${seen}, not ${contentsOf(page)}`);
    } else if (isAllowed && result !== -12) throw new Error(`read of page ${at} gave ${result}`);
  }

  map(p: Process, step: Step): void {
    const { first, nr } = rangeOf(step);
    const kind = step.variant % 8;
    const prot = PROTS[(step.variant >>> 3) % PROTS.length];
    const isFile = kind === 0;
    const isShared = kind === 1;
    const populates = kind === 2 ? MAP.POPULATE : 0;
    const isFree = kind === 3;
    const flags =
      (isShared ? MAP.SHARED : MAP.PRIVATE) |
      (isFile ? 0 : MAP.ANONYMOUS) |
      (isFree ? MAP.FIXED_NOREPLACE : MAP.FIXED) |
      populates;
    const index = step.at % 40;
    const start = sysMmap(this.m, p.mm, {
      address: first * PAGE_SIZE,
      length: nr * PAGE_SIZE,
      prot,
      flags,
      ...(isFile ? { file: this.file, offset: index * PAGE_SIZE } : {}),
    });
    if (isFree && start < 0) return;
    if (start !== first * PAGE_SIZE) throw new Error(`mmap gave ${start}`);
    const shared: NaiveObject = { fileId: null, written: new Map() };
    if (isFile)
      mapPages(p.space, first, nr, prot, { object: this.fileObject, index, isShared: false });
    else if (isShared) mapPages(p.space, first, nr, prot, { object: shared, index: 0, isShared });
    else mapPages(p.space, first, nr, prot, null);
  }

  /** Fresh aligned memory that may be huge, its first pages touched. */
  huge(p: Process, step: Step): void {
    const first = WINDOW + (step.at % 7) * PTES_PER_REGION;
    const nr = (1 + (step.length % 2)) * PTES_PER_REGION;
    const flags = MAP.PRIVATE | MAP.ANONYMOUS | MAP.FIXED;
    const args = { address: first * PAGE_SIZE, length: nr * PAGE_SIZE, prot: 3, flags };
    if (sysMmap(this.m, p.mm, args) !== args.address) throw new Error("mmap failed");
    mapPages(p.space, first, nr, 3, null);
    this.advise(p, first, nr, MADV.HUGEPAGE);
    for (let at = first; at < first + nr; at += PTES_PER_REGION)
      if (step.variant % 5 === 0) this.readAt(p, at);
      else this.writeAt(p, at + (step.variant % PTES_PER_REGION));
  }

  unmap(p: Process, step: Step): void {
    const { first, nr } = rangeOf(step);
    expectZero(sysMunmap(this.m, p.mm, first * PAGE_SIZE, nr * PAGE_SIZE), "munmap");
    unmapPages(p.space, first, nr);
  }

  protect(p: Process, step: Step): void {
    const { first, nr } = rangeOf(step);
    const prot = PROTS[step.variant % PROTS.length];
    sysMprotect(this.m, p.mm, first * PAGE_SIZE, nr * PAGE_SIZE, prot);
    protectPages(p.space, first, nr, prot);
  }

  /** mremap to a fixed place or one the kernel chooses, same or another length. */
  move(p: Process, step: Step): void {
    const first = this.place(p, step);
    const nr = LENGTHS[step.length % LENGTHS.length];
    const newNr = step.variant % 4 === 0 ? LENGTHS[(step.variant >>> 3) % LENGTHS.length] : nr;
    const isFixed = step.variant % 3 !== 0;
    // Only of one mapping: a call over several that runs out of memory does not tell how far it came.
    const isOne = p.mm.vmas.some(
      (vma) => vma.start <= first * PAGE_SIZE && (first + nr) * PAGE_SIZE <= vma.end,
    );
    const keepsSource = isOne && newNr === nr && step.variant % 5 === 0;
    const target = WINDOW + ((step.variant * 97) % WINDOW_PAGES);
    const aligned = step.variant % 2 === 0 ? target - (target % PTES_PER_REGION) : target;
    const flags =
      MREMAP.MAYMOVE | (isFixed ? MREMAP.FIXED : 0) | (keepsSource ? MREMAP.DONTUNMAP : 0);
    const to = sysMremap(
      this.m,
      p.mm,
      first * PAGE_SIZE,
      nr * PAGE_SIZE,
      newNr * PAGE_SIZE,
      flags,
      aligned * PAGE_SIZE,
    );
    this.noteRemap(p, first, nr, newNr, to, { isFixed: isFixed, at: aligned, keepsSource });
  }

  /** mremap that may not move. */
  resize(p: Process, step: Step): void {
    const first = this.place(p, step);
    const nr = LENGTHS[step.length % LENGTHS.length];
    const newNr = LENGTHS[step.variant % LENGTHS.length];
    const to = sysMremap(this.m, p.mm, first * PAGE_SIZE, nr * PAGE_SIZE, newNr * PAGE_SIZE, 0);
    this.noteRemap(p, first, nr, newNr, to, { isFixed: false, at: 0, keepsSource: false });
  }

  private noteRemap(
    p: Process,
    first: number,
    nr: number,
    newNr: number,
    to: number,
    how: { isFixed: boolean; at: number; keepsSource: boolean },
  ): void {
    if (to < 0) {
      // What was moved stays moved. A fixed target, and what the range is shortened by, are gone even if the move then fails.
      if (to === -12 && how.isFixed) this.noteMoved(p, first, how.at, Math.min(nr, newNr));
      if (to === -12 && how.isFixed) this.forgetUnmapped(p, how.at, newNr);
      if (to === -12 && newNr < nr) this.forgetUnmapped(p, first + newNr, nr - newNr);
      return;
    }
    const target = to / PAGE_SIZE;
    const last = p.space.get(first + nr - 1);
    const kept = Math.min(nr, newNr);
    if (target === first) {
      if (newNr < nr) unmapPages(p.space, first + newNr, nr - newNr);
      else this.growTail(p, first + nr, newNr - nr, last);
      return;
    }
    const tail = last === undefined ? undefined : { ...last };
    if (newNr < nr) unmapPages(p.space, first + newNr, nr - newNr);
    if (newNr !== nr) unmapPages(p.space, target, newNr);
    movePages(p.space, first, target, kept, how.keepsSource);
    this.growTail(p, target + nr, newNr - nr, tail);
  }

  /** After a failed call that may have moved pages: those that are mapped at the target and no longer at the source. */
  private noteMoved(p: Process, first: number, target: number, nr: number): void {
    for (let i = 0; i < nr; i++)
      if (!this.isMapped(p, first + i) && this.isMapped(p, target + i))
        movePages(p.space, first + i, target + i, 1, false);
  }

  private isMapped(p: Process, at: number): boolean {
    const addr = at * PAGE_SIZE;
    return p.mm.vmas.some((vma) => vma.start <= addr && addr < vma.end);
  }

  /** After a failed call that may have unmapped pages: those that are in no VMA any more. */
  private forgetUnmapped(p: Process, first: number, nr: number): void {
    for (let at = first; at < first + nr; at++) if (!this.isMapped(p, at)) p.space.delete(at);
  }

  /** Pages that a longer mapping has gained: like its last page, never written. */
  private growTail(p: Process, first: number, nr: number, last: NaivePage | undefined): void {
    if (nr <= 0) return;
    if (last === undefined) throw new Error("mremap made a hole longer");
    for (let i = 0; i < nr; i++)
      p.space.set(first + i, { ...last, index: last.index + 1 + i, tag: null, isGuard: false });
  }

  dontneed(p: Process, step: Step): void {
    const { first, nr } = rangeOf(step);
    const ignoresLocks = step.variant % 4 === 0;
    this.advise(p, first, nr, ignoresLocks ? MADV.DONTNEED_LOCKED : MADV.DONTNEED);
    dropPages(p.space, first, nr, ignoresLocks ? "ignored" : "respected");
  }

  free(p: Process, step: Step): void {
    const { first, nr } = rangeOf(step);
    this.advise(p, first, nr, MADV.FREE);
    loosenPages(p.space, first, nr);
  }

  cold(p: Process, step: Step): void {
    const { nr } = rangeOf(step);
    this.advise(p, this.place(p, step), nr, MADV.COLD);
  }

  /** MADV_PAGEOUT: contents must survive, unless they were given up before. */
  pageOut(p: Process, step: Step): void {
    const { first, nr } = rangeOf(step);
    this.advise(p, step.variant % 2 === 0 ? first : this.place(p, step), nr, MADV.PAGEOUT);
  }

  willNeed(p: Process, step: Step): void {
    const { first, nr } = rangeOf(step);
    this.advise(p, first, nr, MADV.WILLNEED);
  }

  /** Up to two devices at a time. */
  swapOn(_p: Process, step: Step): void {
    const { devices } = this.m.swap;
    if (devices.filter((device) => device !== null).length >= 2) return;
    const nrSlots = DEVICE_PAGES[step.variant % DEVICE_PAGES.length];
    const type = sysSwapon(this.m, { nrSlots, priority: step.length % 2 });
    if (type < 0) throw new Error(`swapon gave ${type}`);
  }

  swapOff(_p: Process, step: Step): void {
    const type = step.variant % 2;
    const wasThere = this.m.swap.devices[type] != null;
    const isClosing = this.m.swap.devices[type]?.isWritable === false;
    const result = sysSwapoff(this.m, type);
    const allowed = wasThere && !isClosing ? [0, -12] : [-22];
    if (!allowed.includes(result)) throw new Error(`swapoff gave ${result}`);
  }

  hugeAdvice(p: Process, step: Step): void {
    const { first, nr } = rangeOf(step);
    this.advise(p, first, nr, step.variant % 3 === 0 ? MADV.NOHUGEPAGE : MADV.HUGEPAGE);
  }

  forkAdvice(p: Process, step: Step): void {
    const { first, nr } = rangeOf(step);
    const advice = [MADV.DONTFORK, MADV.DOFORK, MADV.WIPEONFORK, MADV.KEEPONFORK][step.variant % 4];
    this.advise(p, first, nr, advice);
    for (let at = first; at < first + nr; at++) {
      const page = p.space.get(at);
      if (page === undefined) continue;
      if (advice === MADV.WIPEONFORK && page.object !== null) return; // EINVAL stops the walk
      if (advice === MADV.DONTFORK || advice === MADV.DOFORK)
        page.isDroppedAtFork = advice === MADV.DONTFORK;
      else page.isWipedAtFork = advice === MADV.WIPEONFORK;
    }
  }

  otherAdvice(p: Process, step: Step): void {
    const { first, nr } = rangeOf(step);
    const advice = [MADV.SEQUENTIAL, MADV.RANDOM, MADV.NORMAL, MADV.MERGEABLE];
    this.advise(p, first, nr, advice[step.variant % advice.length]);
  }

  /** Faults that write nothing: what is copied must keep its contents. */
  populate(p: Process, step: Step): void {
    const first = this.place(p, step);
    const { nr } = rangeOf(step);
    this.advise(p, first, nr, step.variant % 3 === 0 ? MADV.POPULATE_READ : MADV.POPULATE_WRITE);
  }

  guard(p: Process, step: Step): void {
    if (!this.m.profile.guardPages) return;
    const { first, nr } = rangeOf(step);
    if (step.variant % 3 === 0) {
      this.release(); // half of it done for want of a page table would be no history the model knows
      this.advise(p, first, nr, MADV.GUARD_INSTALL);
      guardPages(p.space, first, nr);
      return;
    }
    this.advise(p, first, nr, MADV.GUARD_REMOVE);
    for (let at = first; at < first + nr; at++) {
      const page = p.space.get(at);
      if (page !== undefined) page.isGuard = false;
    }
  }

  lock(p: Process, step: Step): void {
    const { first, nr } = rangeOf(step);
    const flags = step.variant % 3 === 0 ? MLOCK_ONFAULT : 0;
    sysMlock2(this.m, p.mm, first * PAGE_SIZE, nr * PAGE_SIZE, flags);
    lockPages(p.space, first, nr, true);
  }

  unlock(p: Process, step: Step): void {
    const { first, nr } = rangeOf(step);
    sysMunlock(this.m, p.mm, first * PAGE_SIZE, nr * PAGE_SIZE);
    lockPages(p.space, first, nr, false);
  }

  private advise(p: Process, first: number, nr: number, advice: number): void {
    sysMadvise(this.m, p.mm, first * PAGE_SIZE, nr * PAGE_SIZE, advice);
  }

  brk(p: Process, step: Step): void {
    const first = p.mm.brkStart / PAGE_SIZE;
    const before = Math.ceil(p.mm.brk / PAGE_SIZE);
    const wanted = p.mm.brkStart + (step.at % 1200) * PAGE_SIZE + (step.variant % 3) * 100;
    sysBrk(this.m, p.mm, wanted);
    const after = Math.ceil(p.mm.brk / PAGE_SIZE);
    if (after > before) mapPages(p.space, before, after - before, 3, null);
    else unmapPages(p.space, after, before - after);
    if (after > first) this.writeAt(p, first + (step.length % (after - first)));
  }

  /** Touches the stack, or below it so that it grows. */
  stack(p: Process, step: Step): void {
    const at = p.stackTop - 1 - (step.at % 300);
    let lowest = p.stackTop;
    while (p.space.has(lowest - 1)) lowest--;
    if (lowest === p.stackTop) return;
    const top = p.space.get(p.stackTop - 1);
    if (top === undefined || lowest > at + 300) return;
    const before = translateToPfn(this.m, p.mm, ...split(at));
    const isMapped = p.space.has(at);
    const hasRoom = p.mm.vmas.some(
      (vma) => vma.end === p.stackTop * PAGE_SIZE && vma.start === lowest * PAGE_SIZE,
    );
    if (!isMapped && hasRoom && before < 0)
      for (let page = at; page < lowest; page++) mapPages(p.space, page, 1, top.prot, null);
    if (isMapped || hasRoom) this.writeAt(p, at);
  }

  fork(p: Process): void {
    if (this.processes.length >= MOST_PROCESSES) return;
    const child = forkProcess(this.m, p.mm);
    if (child === null) return;
    this.processes.push({ mm: child, space: forkSpace(p.space), stackTop: p.stackTop });
  }

  exit(p: Process): void {
    if (this.processes.length === 1) return;
    this.processes.splice(this.processes.indexOf(p), 1);
    exitProcess(this.m, p.mm);
  }

  exec(_p: Process, step: Step): void {
    if (this.processes.length < MOST_PROCESSES) this.start(step.variant % 2);
  }

  /** A write pin, as a device buffer would take it. */
  pin(p: Process, step: Step): void {
    const at = this.place(p, step);
    const page = p.space.get(at);
    if (page === undefined || page.object !== null || (page.prot & 2) === 0) return;
    if (!isAccessible(this.m, p.mm, ...split(at), "write"))
      if (handleFault(this.m, p.mm, ...split(at), "write") < 0) return;
    const pfn = translateToPfn(this.m, p.mm, ...split(at));
    this.holds.pin(p, pfn, at, page);
  }

  /** A plain reference, as a pipe would take it. */
  get(p: Process, step: Step): void {
    const at = this.place(p, step);
    const page = p.space.get(at);
    if (page === undefined || page.object !== null || page.prot === 0 || page.isGuard) return;
    if (handleFault(this.m, p.mm, ...split(at), "read") < 0) return;
    const pfn = translateToPfn(this.m, p.mm, ...split(at));
    if (pfn === this.m.zeroPfn || this.m.hugeZero.pfn === headOf(this.m.frames, pfn)) return;
    this.holds.get(p, pfn, at, page);
  }

  letGo(_p: Process, step: Step): void {
    const nr = this.holds.pages.length;
    if (nr > 0) this.holds.letGo(step.variant % nr);
  }

  knob(_p: Process, step: Step): void {
    const [name, value] = KNOB_WRITES[step.variant % KNOB_WRITES.length];
    expectZero(writeKnob(this.m, name, value), name);
  }

  shrink(_p: Process, step: Step): void {
    if (step.variant % 4 === 0) shrinkHugeZero(this.m);
    const maxPtesNone = [511, 0, 100, 500][step.length % 4];
    for (let queue = 0; queue < this.m.deferredLength.length; queue++)
      shrinkDeferred(this.m, queue, 1 + (step.at % 10), maxPtesNone);
  }

  /** A long operation begins, or goes on by one phase. */
  splitFolio(p: Process, step: Step): void {
    const at = this.place(p, step) + (step.variant % PTES_PER_REGION);
    this.split.step(this.m, p.mm, at, step.variant);
  }

  /** A collapse begins, or goes on by some phases. */
  collapse(p: Process, step: Step): void {
    const regions = this.smallRegions(p);
    const [near] = split(this.place(p, step));
    const region = regions.length > 0 ? regions[step.at % regions.length] : near;
    this.collapser.step(this.m, p.mm, region, step.variant);
  }

  /** Regions of the window in one VMA that are mapped by pages. */
  private smallRegions(p: Process): number[] {
    const first = WINDOW / PTES_PER_REGION;
    const all = Array.from({ length: WINDOW_PAGES / PTES_PER_REGION }, (_, i) => first + i);
    return all.filter((region) => {
      const start = region * HUGE_SIZE;
      const isInside = p.mm.vmas.some((vma) => vma.start <= start && vma.end >= start + HUGE_SIZE);
      return isInside && pteTableOf(this.m.tables, p.mm.root, region) !== NO_TABLE;
    });
  }

  /** MADV_COLLAPSE of a range: contents stay, whatever it returns. */
  collapseNow(p: Process, step: Step): void {
    const { first, nr } = rangeOf(step);
    this.advise(p, first, nr, MADV.COLLAPSE);
  }

  /** Takes some blocks, so that memory becomes short or fragmented. */
  hold(_p: Process, step: Step): void {
    const order = step.variant % 11;
    for (let i = 0; i < 1 + (step.at % 20); i++) this.holds.takeBlock(order);
  }

  /** Takes all but a few pages. */
  holdAll(_p: Process, step: Step): void {
    for (let order = 10; order >= 0; order--) while (this.holds.takeBlock(order));
    for (let i = 0; i < step.at % 12; i++) this.holds.giveBlock();
  }

  release(): void {
    while (this.holds.giveBlock());
  }
}

function split(page: number): [region: number, pteIndex: number] {
  const addr = page * PAGE_SIZE;
  return [regionOf(addr), pteIndexOf(addr)];
}

function expectZero(result: number, what: string): void {
  if (result !== 0) throw new Error(`${what} gave ${result}`);
}
