/**
 * Readable scenarios for tests of the engine: a small machine, ranges of memory, and what can be observed of them.
 *
 * Entry: machine(). After every operation the whole machine is checked, so a test fails at the step that broke it.
 * Units: pages of 4 KiB; smaps() in kB as the kernel prints them; memory in MiB.
 * Used by tests only; nothing of the product imports it.
 */

import {
  type Addr,
  addrOf,
  HUGE_SIZE,
  PAGE_SIZE,
  type Pfn,
  pteIndexOf,
  regionOf,
} from "../base/address.ts";
import { NR_THP_STATS, THP_STAT_NAMES, VMSTAT_NAMES } from "../base/counters.ts";
import { PROFILES } from "../base/profile.ts";
import { runKhugepagedPass } from "../collapse/khugepaged.ts";
import { translateToPfn } from "../fault/fault.ts";
import {
  FAULT_MARK,
  FAULT_SIGBUS,
  FAULT_SIGSEGV,
  FAULT_WAIT,
  faultKindOf,
  faultOrderOf,
  poisonOf,
} from "../fault/kinds.ts";
import { ANON_ORDERS, writeKnob } from "../huge/knobs.ts";
import { dropSlab } from "../huge/shrinkers.ts";
import { ENTRY, pmdSlotOf, pteTableOf } from "../mm/page-tables.ts";
import { getPage, pinPages, putPage, unpinPages } from "../mm/pins.ts";
import { pageMapcount } from "../mm/rmap.ts";
import type { Mm } from "../mm/state.ts";
import { findVma, VM, type Vma } from "../mm/vma.ts";
import { allocFolio, GFP_HIGHUSER_MOVABLE } from "../phys/alloc.ts";
import { headOf, NO_PFN, PG } from "../phys/frame-table.ts";
import { createMemcg } from "../phys/memcg.ts";
import { swapCountOf } from "../swap/state.ts";
import { MADV, sysMadvise } from "../syscall/madvise.ts";
import { MLOCK_ONFAULT, sysMlock2, sysMunlock } from "../syscall/mlock.ts";
import { MAP, MREMAP, PROT, sysMmap, sysMprotect, sysMremap, sysMunmap } from "../syscall/mmap.ts";
import { sysSwapoff, sysSwapon } from "../syscall/swap.ts";
import { NO_FAULT, pageTag, readPage, writePage } from "./access.ts";
import { checkMachine } from "./check.ts";
import { createMachine, type Machine } from "./machine.ts";
import { execProcess, exitProcess, forkProcess } from "./process.ts";

/** Knobs by name as huge/knobs.ts lists them are written through `knobs`; the frequent ones have words of their own. */
export interface KitOptions {
  readonly enabled?: string;
  readonly defrag?: string;
  readonly useZeroPage?: boolean;
  /** Policy by size, e.g. { "64kB": "always" }. */
  readonly sizes?: Readonly<Record<string, string>>;
  readonly profile?: string;
  /** MiB of RAM; default 64. */
  readonly memory?: number;
  readonly nrNodes?: number;
  /** The kernel can handle failing memory. */
  readonly memoryFailure?: "on" | "off";
  /** The mode that no kernel has, switched on. */
  readonly sharedCollapse?: "on";
}

/** Pages of one address space, usually one VMA. */
export interface Range {
  readonly mm: Mm;
  readonly start: Addr;
  readonly nrPages: number;
}

export interface MapOptions {
  /** Length: pages, or 2 MiB units. */
  readonly pages?: number;
  readonly huge?: number;
  /** Pages by which the start lies above a 2 MiB boundary; default 0. */
  readonly offset?: number;
  readonly prot?: number;
  /** MAP bits besides PRIVATE or SHARED, ANONYMOUS and FIXED. */
  readonly flags?: number;
  /** Shared anonymous memory instead of private. */
  readonly shared?: boolean;
  readonly advice?: "HUGEPAGE" | "NOHUGEPAGE";
  readonly mm?: Mm;
  /** Byte address; default: a fresh place, far from all others. */
  readonly at?: Addr;
}

/** Amounts in kB, as smaps prints them. */
export interface Smaps {
  readonly Rss: number;
  readonly Pss: number;
  readonly Shared: number;
  readonly Private: number;
  readonly Referenced: number;
  readonly Anonymous: number;
  readonly LazyFree: number;
  readonly AnonHugePages: number;
  /** Pss in locked VMAs. */
  readonly Locked: number;
  readonly Swap: number;
  readonly SwapPss: number;
}

const KIB_PER_PAGE = 4;
const FIRST_ADDRESS: Addr = 2 ** 40;
/** One PMD table apart, so that ranges share nothing. */
const DISTANCE = 2 ** 30;
/** What the allocator counts for itself: depends on where free pages lie. */
const ALLOCATOR_OWN = /^(nr_free_pages|pgalloc_.*|pgfree|numa_.*)$/;

/** A machine with one process; THP as on a large one: enabled=madvise, defrag=madvise, zero page used. */
export function machine(options: KitOptions = {}): Kit {
  return new Kit(options);
}

/** The part of a range that begins at `page` and has `nrPages`. */
export function part(range: Range, page: number, nrPages: number): Range {
  return { mm: range.mm, start: range.start + page * PAGE_SIZE, nrPages };
}

/** The same pages in another address space. */
export function of(mm: Mm, range: Range): Range {
  return { ...range, mm };
}

export class Kit {
  readonly m: Machine;
  readonly mm: Mm;
  private readonly extra = new Map<Pfn, number>();
  private readonly held: Pfn[] = [];
  private nextAddress = FIRST_ADDRESS;
  private nextTag = 1;

  constructor(options: KitOptions) {
    const profile = PROFILES.find((p) => p.name === (options.profile ?? "linux-6.18"));
    if (profile === undefined) throw new Error("no such profile");
    this.m = createMachine({
      memoryBytes: (options.memory ?? 64) * 2 ** 20,
      nrNodes: options.nrNodes ?? 1,
      memoryFailure: options.memoryFailure ?? "off",
      sharedCollapse: options.sharedCollapse === "on" ? "present" : "absent",
      profile,
    });
    if (options.sharedCollapse === "on") this.knob("khugepaged.shared_collapse", "1");
    this.knob("thp.enabled", options.enabled ?? "madvise");
    this.knob("thp.defrag", options.defrag ?? "madvise");
    this.knob("thp.use_zero_page", options.useZeroPage === false ? "0" : "1");
    this.knob("thp.shrink_underused", "1");
    for (const [size, policy] of Object.entries(options.sizes ?? {}))
      this.knob(`thp.hugepages-${size}.enabled`, policy);
    this.mm = this.exec();
  }

  /** Writes a knob; the test fails if it is refused. */
  knob(name: string, value: string): void {
    const result = writeKnob(this.m, name, value);
    if (result !== 0) throw new Error(`knob ${name}=${value} gave ${result}`);
  }

  /** A new process, in a memory cgroup if one is given. */
  exec(memcg = 0): Mm {
    const image = execProcess(this.m, 16, memcg);
    if (image === null) throw new Error("no memory for a process");
    this.check();
    return image.mm;
  }

  /** A memory cgroup that holds at most `pages`. */
  memcg(pages: number): number {
    const id = createMemcg(this.m, "test", 0);
    this.m.memcgs[id]!.max = pages;
    return id;
  }

  map(options: MapOptions): Range {
    const nrPages = options.pages ?? (options.huge ?? 1) * 512;
    const mm = options.mm ?? this.mm;
    let start = options.at;
    if (start === undefined) {
      start = this.nextAddress + (options.offset ?? 0) * PAGE_SIZE;
      this.nextAddress += DISTANCE;
    }
    const sharing = options.shared === true ? MAP.SHARED : MAP.PRIVATE;
    const flags = sharing | MAP.ANONYMOUS | MAP.FIXED | (options.flags ?? 0);
    const prot = options.prot ?? PROT.READ | PROT.WRITE;
    const at = sysMmap(this.m, mm, { address: start, length: nrPages * PAGE_SIZE, prot, flags });
    if (at !== start) throw new Error(`mmap gave ${at}`);
    const range = { mm, start, nrPages };
    if (options.advice !== undefined) this.madvise(range, options.advice);
    this.check();
    return range;
  }

  /** A range of fresh huge pages, the first page of each written. */
  mapHuge(nr = 1): Range {
    const range = this.map({ huge: nr, advice: "HUGEPAGE" });
    for (let i = 0; i < nr; i++) this.write(range, i * 512);
    return range;
  }

  /** Writes a fresh tag to one page. "none" if no fault was needed, else the fault's kind, or the signal. */
  write(range: Range, page = 0): string {
    const addr = range.start + page * PAGE_SIZE;
    const tag = this.nextTag++;
    return this.done(writePage(this.m, range.mm, regionOf(addr), pteIndexOf(addr), tag));
  }

  /** Reads one page: as write. */
  read(range: Range, page = 0): string {
    const addr = range.start + page * PAGE_SIZE;
    return this.done(readPage(this.m, range.mm, regionOf(addr), pteIndexOf(addr)));
  }

  /** Writes every page of the range. */
  fill(range: Range): void {
    for (let page = 0; page < range.nrPages; page++) {
      const addr = range.start + page * PAGE_SIZE;
      writePage(this.m, range.mm, regionOf(addr), pteIndexOf(addr), this.nextTag++);
    }
    this.check();
  }

  private done(result: number): string {
    this.check();
    if (result === NO_FAULT) return "none";
    if (result === FAULT_WAIT) return "wait";
    const poison = poisonOf(result);
    if (poison !== null) return `SIGBUS ${poison.code} ${poison.addrLsb}`;
    if (result === FAULT_SIGSEGV) return "SIGSEGV";
    if (result < 0) return result === FAULT_SIGBUS ? "SIGBUS" : "OOM";
    const kind = faultKindOf(result);
    const isMthp = kind === "anon mTHP" || (kind === "swap-in" && faultOrderOf(result) > 0);
    const what = isMthp ? `${kind} ${4 << faultOrderOf(result)}kB` : kind;
    return (result & FAULT_MARK.MAJOR) !== 0 ? `major ${what}` : what;
  }

  /** Contents without touching anything: tags of the last writes, 0 for zeroes, -1 for nothing mapped. */
  contents(range: Range): number[] {
    return this.pages(range, (addr) => pageTag(this.m, range.mm, regionOf(addr), pteIndexOf(addr)));
  }

  /** Frames, -1 where nothing is mapped. */
  pfns(range: Range): number[] {
    return this.pages(range, (addr) =>
      translateToPfn(this.m, range.mm, regionOf(addr), pteIndexOf(addr)),
    );
  }

  /** /proc/kpagecount of the mapped pages, -1 where nothing is. */
  kpagecount(range: Range): number[] {
    return this.pfns(range).map((pfn) => {
      if (pfn < 0) return -1;
      const isZero = (this.m.frames.flags[pfn] & PG.ZERO) !== 0;
      return isZero ? 0 : pageMapcount(this.m, pfn);
    });
  }

  /** Swap entries, -1 where there is none. */
  swapEntries(range: Range): number[] {
    const { flags, payload } = this.m.tables;
    return this.pages(range, (addr) => {
      const table = pteTableOf(this.m.tables, range.mm.root, regionOf(addr));
      const slot = table * 512 + pteIndexOf(addr);
      return (flags[slot] & ENTRY.SWAP) !== 0 ? payload[slot] : -1;
    });
  }

  /** Every page's state in runs, e.g. "swap*4 small*508": none, swap, zero, small, large, huge. */
  states(range: Range): string {
    const runs: { state: string; nr: number }[] = [];
    for (let page = 0; page < range.nrPages; page++) {
      const state = this.stateOf(part(range, page, 1));
      const last = runs.at(-1);
      if (last?.state === state) last.nr++;
      else runs.push({ state, nr: 1 });
    }
    return runs.map(({ state, nr }) => `${state}*${nr}`).join(" ");
  }

  private stateOf(page: Range): string {
    const pfn = this.pfns(page)[0];
    if (pfn < 0) return this.swapEntries(page)[0] >= 0 ? "swap" : "none";
    if ((this.m.frames.flags[pfn] & PG.ZERO) !== 0) return "zero";
    if (this.isHuge(page)) return "huge";
    return this.m.frames.order[pfn] > 0 ? "large" : "small";
  }

  /** Flags of the folio that holds the range's first page, e.g. "ANON LRU ACTIVE". */
  flags(range: Range): string {
    const bits = this.m.frames.flags[this.folio(range)];
    const names = Object.keys(PG) as (keyof typeof PG)[];
    return names.filter((name) => (bits & PG[name]) !== 0).join(" ");
  }

  /** Starts swapping to a new device of `pages` slots, the header included. Returns its number. */
  swapon(options: { pages: number; priority?: number }): number {
    const { pages, priority } = options;
    const given = priority === undefined ? {} : { priority };
    const type = sysSwapon(this.m, { nrSlots: pages, ...given });
    if (type < 0) throw new Error(`swapon gave ${type}`);
    this.check();
    return type;
  }

  swapoff(type = 0): number {
    const result = sysSwapoff(this.m, type);
    this.check();
    return result;
  }

  /** Head frame of the folio that the range's first page is in. */
  folio(range: Range): Pfn {
    return headOf(this.m.frames, this.pfns(range)[0]);
  }

  isHuge(range: Range): boolean {
    const slot = pmdSlotOf(this.m.tables, range.mm.root, regionOf(range.start));
    return slot >= 0 && (this.m.tables.flags[slot] & ENTRY.HUGE) !== 0;
  }

  /** Bits of the entry that maps the range's first page, e.g. "WRITE YOUNG DIRTY HUGE"; "" if none. */
  entry(range: Range): string {
    const { flags, payload } = this.m.tables;
    let slot = pmdSlotOf(this.m.tables, range.mm.root, regionOf(range.start));
    if (slot < 0) return "";
    if ((flags[slot] & ENTRY.TABLE) !== 0) slot = payload[slot] * 512 + pteIndexOf(range.start);
    const names = Object.keys(ENTRY) as (keyof typeof ENTRY)[];
    const isShown = (name: keyof typeof ENTRY) => name !== "PRESENT" && name !== "SOFT_DIRTY";
    return names.filter((name) => isShown(name) && (flags[slot] & ENTRY[name]) !== 0).join(" ");
  }

  /** What smaps would say of the range, counted page by page. */
  smaps(range: Range): Smaps {
    const sum = { Rss: 0, Pss: 0, Shared: 0, Private: 0, Referenced: 0 };
    const more = { Anonymous: 0, LazyFree: 0, AnonHugePages: 0, Locked: 0, Swap: 0, SwapPss: 0 };
    const { frames } = this.m;
    for (let page = 0; page < range.nrPages; page++) {
      const at = part(range, page, 1);
      const swapEntry = this.swapEntries(at)[0];
      if (swapEntry >= 0) {
        more.Swap += KIB_PER_PAGE;
        more.SwapPss += KIB_PER_PAGE / swapCountOf(this.m, swapEntry);
      }
      const pfn = this.pfns(at)[0];
      if (pfn < 0 || (frames.flags[pfn] & PG.ZERO) !== 0) continue;
      const head = headOf(frames, pfn);
      const nr = pageMapcount(this.m, pfn);
      sum.Rss += KIB_PER_PAGE;
      sum.Pss += KIB_PER_PAGE / nr;
      if ((this.vma(at).flags & VM.LOCKED) !== 0) more.Locked += KIB_PER_PAGE / nr;
      if (nr > 1) sum.Shared += KIB_PER_PAGE;
      else sum.Private += KIB_PER_PAGE;
      const bits = this.entry(at).split(" ");
      if (bits.includes("YOUNG")) sum.Referenced += KIB_PER_PAGE;
      if (bits.includes("HUGE")) more.AnonHugePages += KIB_PER_PAGE;
      if ((frames.flags[head] & PG.ANON) === 0) continue;
      more.Anonymous += KIB_PER_PAGE;
      const isLazy = (frames.flags[head] & (PG.SWAPBACKED | PG.DIRTY)) === 0;
      if (isLazy && !bits.includes("DIRTY")) more.LazyFree += KIB_PER_PAGE;
    }
    return { ...sum, ...more };
  }

  vma(range: Range): Vma {
    const vma = findVma(range.mm.vmas, range.start);
    if (vma === null) throw new Error("no VMA there");
    return vma;
  }

  /** Start and length in pages of every VMA that lies in the range, relative to its start. */
  vmas(range: Range): string[] {
    const end = range.start + range.nrPages * PAGE_SIZE;
    return range.mm.vmas
      .filter((vma) => vma.start >= range.start && vma.end <= end)
      .map((vma) => {
        const first = (vma.start - range.start) / PAGE_SIZE;
        return `${first}+${(vma.end - vma.start) / PAGE_SIZE}`;
      });
  }

  madvise(range: Range, advice: keyof typeof MADV): number {
    const length = range.nrPages * PAGE_SIZE;
    const result = sysMadvise(this.m, range.mm, range.start, length, MADV[advice]);
    this.check();
    return result;
  }

  mlock(range: Range, how: "now" | "onFault" = "now"): number {
    const flags = how === "onFault" ? MLOCK_ONFAULT : 0;
    const length = range.nrPages * PAGE_SIZE;
    const result = sysMlock2(this.m, range.mm, range.start, length, flags);
    this.check();
    return result;
  }

  munlock(range: Range): number {
    const result = sysMunlock(this.m, range.mm, range.start, range.nrPages * PAGE_SIZE);
    this.check();
    return result;
  }

  /** Which pages are of a mlocked folio. */
  mlocked(range: Range): boolean[] {
    const { flags } = this.m.frames;
    return this.pfns(range).map(
      (pfn) => pfn >= 0 && (flags[headOf(this.m.frames, pfn)] & PG.MLOCKED) !== 0,
    );
  }

  munmap(range: Range): number {
    const result = sysMunmap(this.m, range.mm, range.start, range.nrPages * PAGE_SIZE);
    this.check();
    return result;
  }

  mprotect(range: Range, prot: number): number {
    const result = sysMprotect(this.m, range.mm, range.start, range.nrPages * PAGE_SIZE, prot);
    this.check();
    return result;
  }

  /** mremap of the range to `pages` at `target` (MREMAP_FIXED) or where the kernel likes. */
  mremap(range: Range, pages: number, options: { at?: Addr; keepSource?: boolean } = {}): Range {
    const fixed = options.at === undefined ? 0 : MREMAP.FIXED;
    const flags = MREMAP.MAYMOVE | fixed | (options.keepSource === true ? MREMAP.DONTUNMAP : 0);
    const oldBytes = range.nrPages * PAGE_SIZE;
    const newBytes = pages * PAGE_SIZE;
    const at = options.at ?? 0;
    const to = sysMremap(this.m, range.mm, range.start, oldBytes, newBytes, flags, at);
    this.check();
    if (to < 0) throw new Error(`mremap gave ${to}`);
    return { mm: range.mm, start: to, nrPages: pages };
  }

  fork(parent: Mm = this.mm): Mm {
    const child = forkProcess(this.m, parent);
    this.check();
    if (child === null) throw new Error("fork failed");
    return child;
  }

  exit(mm: Mm): void {
    exitProcess(this.m, mm);
    this.check();
  }

  /** FOLL_PIN on the first `nr` pages of the range, which are pages of one folio. */
  pin(range: Range, nr = 1): void {
    const pfn = this.pfns(range)[0];
    const isSmall = this.m.frames.order[pfn] === 0;
    pinPages(this.m, range.mm, pfn, nr);
    this.note(pfn, isSmall ? nr * 1024 : nr);
    this.check();
  }

  /** Drops pins; by frame, because the mapping may be gone. */
  unpin(pfn: Pfn, nr = 1): void {
    const isSmall = this.m.frames.order[pfn] === 0;
    this.note(pfn, isSmall ? -nr * 1024 : -nr);
    unpinPages(this.m, pfn, nr);
    this.check();
  }

  /** A reference that is no pin, as vmsplice takes; returns the frame for `put`. */
  get(range: Range): Pfn {
    const pfn = this.pfns(range)[0];
    getPage(this.m, pfn);
    this.note(pfn, 1);
    this.check();
    return pfn;
  }

  put(pfn: Pfn): void {
    this.note(pfn, -1);
    putPage(this.m, pfn);
    this.check();
  }

  /** Fragments memory: every other block of half the size is taken, so no `order` is left but half of memory is free. */
  exhaust(order: number): void {
    const half = order - 1;
    this.take(half, GFP_HIGHUSER_MOVABLE);
    const isOdd = (pfn: Pfn) => ((pfn >>> half) & 1) === 1;
    for (const pfn of this.held.splice(0)) {
      if (isOdd(pfn)) this.putHeld(pfn);
      else this.held.push(pfn);
    }
    this.take(order, GFP_HIGHUSER_MOVABLE); // what the watermarks had kept back whole
  }

  /** Leaves no page for anyone who may not use the reserves. */
  exhaustAll(): void {
    for (let order = 9; order >= 0; order--) this.take(order, GFP_HIGHUSER_MOVABLE);
  }

  private take(order: number, gfp: number): void {
    for (;;) {
      const pfn = allocFolio(this.m, order, gfp, 0);
      if (pfn === NO_PFN) break;
      this.held.push(pfn);
      this.note(pfn, 1);
    }
    this.check();
  }

  /** Gives back what exhaust took: all of it, or the last `nr` blocks. */
  release(nr = this.held.length): void {
    for (const pfn of this.held.splice(this.held.length - nr)) this.putHeld(pfn);
    this.check();
  }

  private putHeld(pfn: Pfn): void {
    this.note(pfn, -1);
    putPage(this.m, pfn);
  }

  /** What drop_caches=2 does to huge pages: the huge zero folio and the deferred queues. Folios split. */
  dropSlab(maxPtesNone = 511): number {
    const nrSplit = dropSlab(this.m, maxPtesNone);
    this.check();
    return nrSplit;
  }

  /** One pass of khugepaged. Regions collapsed; null if none could be made. */
  khugepaged(): number | null {
    const nr = runKhugepagedPass(this.m);
    this.check();
    return nr;
  }

  /** Every counter that `action` changed, by the kernel's name or "2048kB/name"; the allocator's own left out. */
  deltas(action: () => void): Record<string, number> {
    const before = this.counters();
    action();
    const changed: Record<string, number> = {};
    for (const [name, value] of this.counters()) {
      const delta = value - before.get(name)!;
      if (delta !== 0) changed[name] = delta;
    }
    return changed;
  }

  /** The part of deltas() that is about huge pages: thp_*, nr_anon_transparent_hugepages, stats of each size. */
  thpDeltas(action: () => void): Record<string, number> {
    const isThp = (name: string) =>
      name.startsWith("thp_") || name.includes("/") || name === "nr_anon_transparent_hugepages";
    return Object.fromEntries(Object.entries(this.deltas(action)).filter(([name]) => isThp(name)));
  }

  private counters(): Map<string, number> {
    const values = new Map<string, number>();
    for (const [i, name] of VMSTAT_NAMES.entries())
      if (!ALLOCATOR_OWN.test(name)) values.set(name, this.m.vmstat[i]);
    for (const order of ANON_ORDERS)
      for (const [i, name] of THP_STAT_NAMES.entries())
        values.set(`${4 << order}kB/${name}`, this.m.thpStats[order * NR_THP_STATS + i]);
    return values;
  }

  /** Throws the list of broken invariants, if any. */
  check(): void {
    const problems = checkMachine(this.m, this.extra);
    if (problems.length > 0) throw new Error(problems.slice(0, 10).join("\n"));
  }

  private note(pfn: Pfn, nr: number): void {
    const total = (this.extra.get(pfn) ?? 0) + nr;
    if (total === 0) this.extra.delete(pfn);
    else this.extra.set(pfn, total);
  }

  private pages<T>(range: Range, visit: (addr: Addr) => T): T[] {
    const region = regionOf(range.start);
    const first = pteIndexOf(range.start);
    return Array.from({ length: range.nrPages }, (_, i) => visit(addrOf(region, first + i)));
  }
}

/** Address of the next 2 MiB boundary at or above the range. */
export function alignedUp(range: Range): Addr {
  return Math.ceil(range.start / HUGE_SIZE) * HUGE_SIZE;
}
