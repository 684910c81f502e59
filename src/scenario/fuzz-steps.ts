/**
 * Random scenarios from lists of plain integers: every list means some well-formed scenario, so a failing one shrinks well.
 *
 * Entry: FUZZ_WEIGHTS, fuzzScenario. Pure: where the integers come from is the caller's business.
 * Holds: every name that is used exists at that point; a system call may give anything ("?"), the same on both back ends.
 */

import { MADV } from "../syscall/madvise.ts";
import { MAIN } from "./names.ts";
import { DEFAULT_HEADER } from "./parse-header.ts";
import type { Action, MapFlag, Scenario, Span, Statement, Step } from "./syntax.ts";

/** What a step does, and how often. */
export const FUZZ_WEIGHTS = {
  map: 8,
  mapOver: 3,
  hugeAdvice: 7,
  write: 14,
  read: 8,
  fill: 3,
  stride: 2,
  unmap: 5,
  protect: 4,
  remap: 5,
  brk: 1,
  dontneed: 5,
  free: 4,
  pageOut: 7,
  cold: 2,
  willNeed: 2,
  swap: 2,
  collapse: 6,
  collapseOther: 1,
  khugepaged: 4,
  forkAdvice: 1,
  otherAdvice: 1,
  populate: 4,
  guard: 2,
  lock: 3,
  unlock: 2,
  lockAll: 1,
  seal: 1,
  mincore: 2,
  fork: 5,
  exit: 3,
  pin: 2,
  holdPage: 1,
  release: 2,
  knob: 4,
  prctl: 1,
  dropCaches: 1,
} as const;

export type FuzzKind = keyof typeof FUZZ_WEIGHTS;

/** The numbers choose process, range, place, length and variant; any integers from 0 on will do. */
export interface FuzzStep {
  readonly kind: FuzzKind;
  readonly who: number;
  readonly range: number;
  readonly at: number;
  readonly length: number;
  readonly variant: number;
}

const MOST_PROCESSES = 3;
const MOST_RANGES = 6;
const MOST_PINS = 3;
/** Pages of a new mapping. */
const SIZES = [512, 1024, 512, 16, 64, 600, 1536, 1, 200, 513, 1024];
/** Pages above a 2 MiB boundary at which it begins. */
const SKEWS = [0, 0, 0, 0, 256, 1, 511, 16];
/** Pages of a part of a range. */
const LENGTHS = [1, 1, 2, 4, 8, 16, 17, 64, 100, 256, 511, 512, 512, 513, 1024];
/** Places in a range: mostly near boundaries of folios. */
const PLACES = [
  0, 0, 0, 512, 1, 3, 4, 16, 15, 64, 255, 256, 300, 496, 510, 511, 513, 520, 768, 1023,
];
const PROTS = ["rw", "rw", "rw", "rw", "r", "", "rwx"];
const REPROTS = ["r", "rw", "", "rw", "rx"];
const MAP_FLAG_SETS: readonly (readonly MapFlag[])[] = [
  [],
  [],
  [],
  [],
  ["populate"],
  ["shared"],
  ["noreserve"],
  ["stack"],
  ["locked"],
];
const KNOB_WRITES = [
  ["thp.enabled", "always"],
  ["thp.enabled", "always"],
  ["thp.enabled", "madvise"],
  ["thp.enabled", "never"],
  ["thp.use_zero_page", "0"],
  ["thp.use_zero_page", "1"],
  ["thp.shrink_underused", "0"],
  ["thp.defrag", "never"],
  ["thp.hugepages-2048kB.enabled", "always"],
  ["thp.hugepages-2048kB.enabled", "never"],
  ["thp.hugepages-2048kB.enabled", "inherit"],
  ["thp.hugepages-64kB.enabled", "always"],
  ["thp.hugepages-64kB.enabled", "inherit"],
  ["thp.hugepages-64kB.enabled", "never"],
  ["thp.hugepages-16kB.enabled", "madvise"],
  ["thp.hugepages-1024kB.enabled", "inherit"],
  ["khugepaged.max_ptes_none", "0"],
  ["khugepaged.max_ptes_none", "100"],
  ["khugepaged.max_ptes_none", "511"],
  ["khugepaged.max_ptes_shared", "0"],
  ["khugepaged.max_ptes_swap", "0"],
  // Whole regions or one page: with others a live process's own VMAs count (docs/scenarios.md).
  ["khugepaged.pages_to_scan", "1"],
  ["khugepaged.pages_to_scan", "512"],
  ["khugepaged.pages_to_scan", "4096"],
] as const;
const FORK_ADVICE = [MADV.DONTFORK, MADV.DOFORK, MADV.WIPEONFORK, MADV.KEEPONFORK];
const OTHER_ADVICE = [MADV.SEQUENTIAL, MADV.RANDOM, MADV.NORMAL, MADV.DONTDUMP, MADV.DODUMP];

interface KnownRange {
  readonly name: string;
  readonly nrPages: number;
  /** Memory of a file: the model does not reclaim its pages. */
  readonly isShared: boolean;
}

/** Of the header's swap device, where there is one. */
const SWAP_BYTES = 16 * 2 ** 20;

/** What is the same for many scenarios: making or removing a swap device costs the live kernel more than a scenario. */
export interface FuzzSetting {
  /** Goes into the header. */
  readonly title: string;
  readonly swap: "on" | "none";
}

/** The scenario that the steps mean. */
export function fuzzScenario(steps: readonly FuzzStep[], { title, swap }: FuzzSetting): Scenario {
  const writer = new ScenarioWriter(swap);
  for (const step of steps) writer.take(step);
  const header = {
    ...DEFAULT_HEADER,
    title,
    swapBytes: swap === "on" ? SWAP_BYTES : 0,
    machine: { ...DEFAULT_HEADER.machine, memoryBytes: 128 * 2 ** 20 },
    knobs: [{ name: "thp.enabled", value: "always" }],
  };
  return { file: "fuzz", text: [], header, steps: writer.steps };
}

class ScenarioWriter {
  readonly steps: Step[] = [];
  private readonly tasks: string[] = [MAIN];
  private readonly ranges: KnownRange[] = [];
  private pins: { readonly name: string; readonly owner: string }[] = [];
  private nrNames = 0;
  /** Some memory may be locked from here on. */
  private mayBeLocked = false;
  private swap: "on" | "off" | "none";

  constructor(swap: "on" | "none") {
    this.swap = swap;
  }

  take(step: FuzzStep): void {
    const action = this.actionOf(step);
    if (action === null) return;
    const actor = this.tasks[step.who % this.tasks.length];
    const wanted = action.verb === "read" || action.verb === "write" || canFail(action);
    const statement: Statement = { line: this.steps.length + 1, actor, action };
    this.steps.push({
      kind: "statement",
      statement: wanted ? { ...statement, wanted: "?" } : statement,
    });
    this.note(action, actor);
  }

  /** What the step means here; null if nothing. */
  private actionOf(step: FuzzStep): Action | null {
    const { kind, variant } = step;
    if (kind === "map" || this.ranges.length === 0) return this.map(step);
    switch (kind) {
      case "mapOver":
        return this.mapOver(step);
      case "fork":
        return this.tasks.length < MOST_PROCESSES
          ? { verb: "fork", name: this.fresh("P") }
          : this.exit(step);
      case "exit":
        return this.exit(step);
      case "release": {
        if (this.pins.length === 0) return null;
        return { verb: "release", name: this.pins[variant % this.pins.length].name };
      }
      case "pin":
      case "holdPage": {
        if (this.pins.length >= MOST_PINS) return null;
        const span = kind === "pin" ? this.span(step) : this.page(step);
        return { verb: kind === "pin" ? "pin" : "hold-page", name: this.fresh("X"), span };
      }
      case "remap":
        return this.remap(step);
      case "brk":
        return { verb: "brk", sizeBytes: [2, 4, 1, 0][variant % 4] * 2 ** 20 };
      case "knob": {
        const [name, value] = KNOB_WRITES[variant % KNOB_WRITES.length];
        return { verb: "knob", name, value };
      }
      case "prctl":
        return {
          verb: "prctl",
          op: "set",
          args: [
            [0, 0, 0, 0],
            [1, 0, 0, 0],
            [1, 2, 0, 0],
          ][variant % 3],
        };
      case "khugepaged":
        return { verb: "khugepaged", nrPasses: 1 + (variant % 2) };
      case "collapseOther": {
        const process = this.tasks[variant % this.tasks.length];
        const spans = variant % 3 === 0 ? [this.span(step), this.page(step)] : [this.span(step)];
        const advice = variant % 5 === 0 ? MADV.COLD : MADV.COLLAPSE;
        return { verb: "process-madvise", target: { process }, spans, advice, flags: 0 };
      }
      case "dropCaches":
        return { verb: "drop-caches" };
      case "swap":
        return this.swap === "none" ? null : { verb: this.swap === "on" ? "swapoff" : "swapon" };
      case "lockAll":
        return variant % 3 === 0
          ? { verb: "munlockall" }
          : { verb: "mlockall", flags: variant % 3 === 1 ? ["future"] : ["future", "onfault"] };
      default:
        return this.onSpan(step);
    }
  }

  /** Steps that act on a part of a range and change no names. */
  private onSpan(step: FuzzStep): Action {
    const { kind, variant } = step;
    const span = this.span(step);
    const advise = (advice: number): Action => ({ verb: "madvise", span, advice });
    switch (kind) {
      case "write":
      case "read":
        return { verb: kind, span: this.page(step) };
      case "fill":
        return { verb: variant % 4 === 0 ? "read" : "write", span };
      case "stride":
        return { verb: "write", span: { ...span, end: this.endOf(span), step: 16 } };
      case "unmap":
        return { verb: "unmap", span };
      case "protect":
        return { verb: "protect", span, prot: REPROTS[variant % REPROTS.length] };
      case "hugeAdvice":
        return advise(variant % 4 === 0 ? MADV.NOHUGEPAGE : MADV.HUGEPAGE);
      case "dontneed":
        return advise(variant % 5 === 0 ? MADV.DONTNEED_LOCKED : MADV.DONTNEED);
      case "free":
        return advise(MADV.FREE);
      case "collapse":
        return advise(MADV.COLLAPSE);
      case "pageOut":
        return advise(this.rangeOf(span).isShared ? MADV.COLD : MADV.PAGEOUT);
      case "cold":
        return advise(MADV.COLD);
      case "willNeed":
        return advise(MADV.WILLNEED);
      case "forkAdvice":
        return advise(FORK_ADVICE[variant % FORK_ADVICE.length]);
      case "otherAdvice":
        return advise(OTHER_ADVICE[variant % OTHER_ADVICE.length]);
      case "populate":
        return advise(variant % 3 === 0 ? MADV.POPULATE_READ : MADV.POPULATE_WRITE);
      case "guard":
        return advise(variant % 3 === 0 ? MADV.GUARD_REMOVE : MADV.GUARD_INSTALL);
      case "lock":
        return variant % 3 === 0
          ? { verb: "mlock2", span, flags: ["onfault"] }
          : { verb: "mlock", span };
      case "unlock":
        return { verb: "munlock", span };
      case "seal":
        return { verb: "mseal", span };
      default:
        return { verb: "mincore", span };
    }
  }

  private map({ length, at, variant }: FuzzStep): Action | null {
    if (this.ranges.length >= MOST_RANGES) return null;
    return {
      verb: "map",
      range: this.fresh("R"),
      sizeBytes: SIZES[length % SIZES.length] * 4096,
      skewPages: SKEWS[at % SKEWS.length],
      prot: PROTS[variant % PROTS.length],
      flags: MAP_FLAG_SETS[(variant >>> 4) % MAP_FLAG_SETS.length],
    };
  }

  /** A mapping on top of, or right behind, a part of another. */
  private mapOver(step: FuzzStep): Action | null {
    if (this.ranges.length >= MOST_RANGES) return null;
    const span = this.span(step);
    const at = step.variant % 3 === 0 ? { ...span, first: this.endOf(span) } : span;
    const sizeBytes = Math.min(LENGTHS[step.length % LENGTHS.length], 600) * 4096;
    return {
      verb: "map",
      range: this.fresh("R"),
      sizeBytes,
      at: { range: at.range, first: at.first, end: at.first + 1, step: 1 },
      skewPages: 0,
      prot: PROTS[step.variant % PROTS.length],
      flags: [],
    };
  }

  private remap(step: FuzzStep): Action | null {
    if (this.ranges.length >= MOST_RANGES) return null;
    const { variant } = step;
    const span = this.span(step);
    const nr = this.endOf(span) - span.first;
    const newNr = variant % 3 === 0 ? LENGTHS[(variant >>> 3) % LENGTHS.length] : nr;
    // On a live kernel a locked VMA of which a part is moved so loses its lock and keeps its pages locked: not modelled.
    const dontunmap = this.mayBeLocked ? [] : (["dontunmap"] as const);
    const flags = ([[], [], ["inplace"], dontunmap, []] as const)[variant % 5];
    return { verb: "remap", span, to: this.fresh("R"), sizeBytes: newNr * 4096, flags };
  }

  private exit({ who }: FuzzStep): Action | null {
    return this.tasks[who % this.tasks.length] === MAIN ? null : { verb: "exit" };
  }

  private fresh(letter: string): string {
    this.nrNames++;
    return `${letter}${this.nrNames}`;
  }

  private page(step: FuzzStep): Span {
    const { name, nrPages } = this.ranges[step.range % this.ranges.length];
    const first = PLACES[step.at % PLACES.length] % nrPages;
    return { range: name, first, end: first + 1, step: 1 };
  }

  private span(step: FuzzStep): Span {
    const { name, nrPages } = this.ranges[step.range % this.ranges.length];
    if (step.length % 4 === 0) return { range: name, first: 0, end: -1, step: 1 };
    const first = PLACES[step.at % PLACES.length] % nrPages;
    const nr = LENGTHS[step.length % LENGTHS.length];
    return { range: name, first, end: Math.min(first + nr, nrPages), step: 1 };
  }

  private isOverShared(at: Span | undefined): boolean {
    return at !== undefined && this.rangeOf(at).isShared;
  }

  private rangeOf(span: Span): KnownRange {
    return this.ranges.find(({ name }) => name === span.range)!;
  }

  private endOf(span: Span): number {
    return span.end < 0 ? this.rangeOf(span).nrPages : span.end;
  }

  private note(action: Action, actor: string): void {
    switch (action.verb) {
      case "mlock":
      case "mlock2":
      case "mlockall":
        this.mayBeLocked = true;
        break;
      case "map":
        if (action.flags.includes("locked")) this.mayBeLocked = true;
        this.ranges.push({
          name: action.range,
          nrPages: action.sizeBytes / 4096,
          // Where a mapping on top of another fails, its name stands for the other.
          isShared: action.flags.includes("shared") || this.isOverShared(action.at),
        });
        break;
      case "remap":
        this.ranges.push({
          name: action.to,
          nrPages: action.sizeBytes! / 4096,
          isShared: this.rangeOf(action.span).isShared,
        });
        break;
      case "fork":
        this.tasks.push(action.name);
        break;
      case "exit":
        this.tasks.splice(this.tasks.indexOf(actor), 1);
        this.pins = this.pins.filter(({ owner }) => owner !== actor);
        break;
      case "pin":
      case "hold-page":
        this.pins.push({ name: action.name, owner: actor });
        break;
      case "release":
        this.pins = this.pins.filter(({ name }) => name !== action.name);
        break;
      case "swapon":
      case "swapoff":
        this.swap = action.verb === "swapon" ? "on" : "off";
        break;
      default: // gives and takes no name
    }
  }
}

const CANNOT_FAIL: ReadonlySet<Action["verb"]> = new Set([
  "khugepaged",
  "exit",
  "release",
  "drop-caches",
  "mark",
]);

function canFail({ verb }: Action): boolean {
  return !CANNOT_FAIL.has(verb);
}
