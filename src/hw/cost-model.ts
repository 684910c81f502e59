/**
 * What each counted event costs: the cost table, its JSON form, and the price of a run.
 *
 * Entry: parseCostTable (JSON to table), pricesOf (table to a column for hot paths), costParts (events to times).
 * Owns:  nothing; tables are data, event columns belong to the caller.
 * Units: every figure is in simulated nanoseconds per event. An event column is a Float64Array indexed by COST.
 *
 * The engine counts, this file prices: no figure here changes what the machine does. PHYS-245 lists what must be exposed.
 */

import { UsageError } from "../base/usage-error.ts";

/** Parts of a run's time that a report shows apart. */
export const COST_PARTS = [
  "page faults",
  "zeroing",
  "swap and files",
  "system calls",
  "unmap",
  "splits",
  "fork and exit",
  "khugepaged and compaction",
  "TLB shootdowns",
  "page walks",
] as const;

export type CostPart = (typeof COST_PARTS)[number];

/** Of one figure: the part it belongs to, what one event is, and how a basis line calls the events. */
export interface CostMeaning {
  readonly part: CostPart;
  /** Plural, for "12 034 <events> x 1.37 us". */
  readonly events: string;
  readonly meaning: string;
}

function cost(part: CostPart, events: string, meaning: string): CostMeaning {
  return { part, events, meaning };
}

/** Every figure by name. The order is that of the numbers in COST; new figures go to the end of their part. */
export const COST_MEANINGS = {
  faultAnon: cost("page faults", "4K faults", "first write to a 4K page: allocate, zero, map"),
  faultZero: cost("page faults", "zero page faults", "first read: map the 4K zero page"),
  faultReuse: cost("page faults", "reuse faults", "write to an own write-protected 4K page"),
  faultCow: cost("page faults", "copy-on-write faults", "copy of one 4K page and map"),
  faultSpurious: cost("page faults", "spurious faults", "entry and exit, nothing to do"),
  faultHuge: cost("page faults", "2M faults", "2M fault without the clearing"),
  faultHugeZero: cost("page faults", "huge zero faults", "first read: map the huge zero folio"),
  faultHugeReuse: cost("page faults", "2M reuse faults", "write to an own write-protected PMD"),
  faultLarge: cost("page faults", "mTHP faults", "fault of an order 1..8 folio without its pages"),
  faultFile: cost(
    "page faults",
    "file faults",
    "minor fault on a cached file page, without the mapping",
  ),
  faultFileAround: cost(
    "page faults",
    "pages faulted around",
    "one more entry mapped by fault-around",
  ),
  faultShmem: cost("page faults", "shmem 4K faults", "allocate, zero, cache and map a shmem page"),
  faultShmemHuge: cost("page faults", "shmem 2M faults", "map a cached 2M folio"),
  clearHuge: cost("zeroing", "2M clearings", "zero 2 MiB"),
  clearLargePage: cost("zeroing", "mTHP pages", "zero and map one page of an mTHP"),
  copyHuge: cost("zeroing", "2M copies", "copy 2 MiB"),
  faultSwapIn: cost("swap and files", "swap-in faults", "4K page read back, mapped"),
  swapOutPage: cost("swap and files", "pages swapped out", "4K page written and unmapped"),
  swapOutHuge: cost("swap and files", "2M folios swapped out", "2M folio written whole"),
  readFilePage: cost("swap and files", "file pages read", "one page from the device"),
  syscall: cost("system calls", "system calls", "entry and exit of any call"),
  mmap: cost("system calls", "mmap calls", "mmap without population, entry included"),
  munmap: cost("system calls", "munmap calls", "munmap of an empty range, entry included"),
  mprotect: cost("system calls", "mprotect calls", "mprotect of an empty range, entry included"),
  mprotectPte: cost("system calls", "entries protected", "one present 4K entry in mprotect"),
  mprotectHuge: cost("system calls", "2M entries protected", "one huge entry in mprotect"),
  mremap: cost("system calls", "mremap calls", "mremap, entry included, entries apart"),
  movePte: cost("system calls", "entries moved", "one 4K entry moved by mremap"),
  moveHuge: cost("system calls", "2M entries moved", "one huge entry moved by mremap"),
  brk: cost("system calls", "brk calls", "brk, entry included"),
  madvise: cost("system calls", "madvise calls", "madvise of an empty range, entry included"),
  unmapPage: cost("unmap", "pages unmapped", "one 4K page zapped and freed"),
  unmapHuge: cost("unmap", "2M unmapped", "one huge entry zapped and its folio freed"),
  zapPte: cost("unmap", "entries zapped", "one entry zapped, nothing freed"),
  lazyFreePage: cost("unmap", "pages lazily freed", "one 4K page in MADV_FREE"),
  lazyFreeHuge: cost("unmap", "2M lazily freed", "one huge folio in MADV_FREE"),
  splitPmd: cost("splits", "PMD splits", "one mapping from a huge entry to 512"),
  splitFolioPage: cost("splits", "pages of split folios", "folio split, per page of the folio"),
  fork: cost("fork and exit", "forks", "fork, exit and wait of a tiny process"),
  forkPte: cost("fork and exit", "entries copied", "one 4K entry copied and write-protected"),
  forkHuge: cost("fork and exit", "2M entries copied", "one huge entry copied"),
  exec: cost("fork and exit", "execs", "exec of a small dynamic program"),
  unmapShared: cost(
    "fork and exit",
    "shared pages unmapped",
    "one 4K page zapped, still mapped elsewhere",
  ),
  unmapSharedHuge: cost(
    "fork and exit",
    "shared 2M unmapped",
    "one huge entry zapped, still mapped elsewhere",
  ),
  scanPte: cost("khugepaged and compaction", "entries scanned", "one entry read by khugepaged"),
  collapse: cost(
    "khugepaged and compaction",
    "collapses",
    "one collapse without the copies, folio zeroed",
  ),
  collapsePage: cost(
    "khugepaged and compaction",
    "pages collapsed",
    "one page copied and freed in a collapse",
  ),
  scanPass: cost(
    "khugepaged and compaction",
    "khugepaged wake-ups",
    "one pass of khugepaged besides what it looks at: it drains the LRU batches of all CPUs",
  ),
  migratePage: cost("khugepaged and compaction", "pages migrated", "one page moved by compaction"),
  reclaimPage: cost(
    "khugepaged and compaction",
    "pages reclaimed",
    "one clean page scanned and freed",
  ),
  flushLocal: cost("TLB shootdowns", "local flushes", "flush on the calling CPU"),
  shootdown: cost("TLB shootdowns", "remote CPUs flushed", "one other CPU interrupted to flush"),
  cycle: cost("page walks", "exposed cycles", "one core cycle"),
  l2TlbHit: cost("page walks", "L2 TLB hits", "not hidden part of an L2 TLB hit"),
} as const satisfies Record<string, CostMeaning>;

export type CostName = keyof typeof COST_MEANINGS;
export const COST_NAMES = Object.keys(COST_MEANINGS) as readonly CostName[];
export const NR_COSTS = COST_NAMES.length;

/** Index of each figure in event and price columns. */
export const COST = Object.fromEntries(COST_NAMES.map((name, i) => [name, i])) as Readonly<
  Record<CostName, number>
>;

/** Latencies (ns) that, where measured, replace those of the geometry (PHYS-173). All optional. */
export const LATENCY_NAMES = ["l1Ns", "l2Ns", "l3Ns", "memoryNs"] as const;
export type LatencyName = (typeof LATENCY_NAMES)[number];

/**
 * What was measured of a host's translation hardware and, where it is measured, replaces a parameter of the geometry or a
 * guess (docs/hardware-model.md). All optional.
 */
export const HARDWARE_NAMES = [
  /** Size of the pages that the hypervisor maps a guest's memory with. */
  "hostPageBytes",
  /** What one program gets of the last cache: neighbours hold the rest. */
  "lastLevelBytes",
  /** Pages that lie together in guest-physical memory when a program faults 4K pages in order. A power of two, 1 to 512. */
  "frameRunPages",
  /** Share (0..1) of a walk hidden behind other work. */
  "walkOverlap",
] as const;
export type HardwareName = (typeof HARDWARE_NAMES)[number];

/** A number in the unit of its name, and where it comes from. */
export interface HardwareFigure {
  readonly value: number;
  readonly source: string;
}

/** A number and where it comes from. */
export interface CostFigure {
  readonly ns: number;
  /** A rule ID, a measurement or a document; never empty. */
  readonly source: string;
}

/** The prices of one CPU. The JSON form is the same; see CostTableJson. */
export interface CostTable {
  readonly schema: "hugelab.costs";
  readonly version: 1;
  readonly name: string;
  /** What it was measured on: CPU, kernel, native or virtual. */
  readonly description: string;
  readonly figures: Readonly<Record<CostName, CostFigure>>;
  /** Dependent-load latencies of the data caches and memory, where they were measured. */
  readonly latencies: Readonly<Partial<Record<LatencyName, CostFigure>>>;
  /** What was measured of the translation hardware; nothing in a built-in table. */
  readonly hardware: Readonly<Partial<Record<HardwareName, HardwareFigure>>>;
}

/** What `calibrate` writes: figures it could not measure are left out and come from the table named in `base`. */
export interface CostTableJson {
  readonly schema: "hugelab.costs";
  readonly version: 1;
  readonly name: string;
  readonly description: string;
  /** Name of the built-in table that completes this one. Without it every figure must be given. */
  readonly base?: string;
  readonly figures: Readonly<Partial<Record<CostName, CostFigure>>>;
  readonly latencies?: Readonly<Partial<Record<LatencyName, CostFigure>>>;
  readonly hardware?: CostTable["hardware"];
}

/** A figure above this is a unit mistaken: one event cannot take a minute. */
const MAX_FIGURE_NS = 60e9;

/** A cost table from parsed JSON; `builtIn` are the tables that `base` may name. Throws UsageError naming the field. */
export function parseCostTable(json: unknown, builtIn: readonly CostTable[]): CostTable {
  const top = recordAt("cost table", json);
  refuseUnknown("cost table", top, TOP_FIELDS);
  if (top.schema !== "hugelab.costs") throw wrong("schema", top.schema, '"hugelab.costs"');
  if (top.version !== 1) throw wrong("version", top.version, "1");
  const name = textAt("name", top.name);
  const description = textAt("description", top.description);
  const base = baseTable(top.base, builtIn);

  const given = recordAt("figures", top.figures);
  refuseUnknown("figures", given, COST_NAMES);
  const figures = Object.fromEntries(
    COST_NAMES.map((figure) => [figure, figureOrBase(figure, given[figure], base)]),
  ) as Record<CostName, CostFigure>;
  return {
    schema: "hugelab.costs",
    version: 1,
    name,
    description,
    figures,
    latencies: parseLatencies(top.latencies, base),
    hardware: parseHardware(top.hardware),
  };
}

const TOP_FIELDS = [
  "schema",
  "version",
  "name",
  "description",
  "base",
  "figures",
  "latencies",
  "hardware",
];

function baseTable(base: unknown, builtIn: readonly CostTable[]): CostTable | null {
  if (base === undefined) return null;
  const found = builtIn.find((table) => table.name === base);
  if (found) return found;
  throw wrong("base", base, `one of ${builtIn.map((table) => `"${table.name}"`).join(", ")}`);
}

function figureOrBase(name: CostName, given: unknown, base: CostTable | null): CostFigure {
  if (given !== undefined) return figureAt(`figures.${name}`, given);
  if (base === null) throw wrong(`figures.${name}`, undefined, "a figure, or a base table");
  return inherited(base, base.figures[name]);
}

function parseLatencies(json: unknown, base: CostTable | null): CostTable["latencies"] {
  const given = json === undefined ? {} : recordAt("latencies", json);
  refuseUnknown("latencies", given, LATENCY_NAMES);
  const latencies: Partial<Record<LatencyName, CostFigure>> = {};
  for (const name of LATENCY_NAMES) {
    const fromBase = base?.latencies[name];
    if (given[name] !== undefined) latencies[name] = figureAt(`latencies.${name}`, given[name]);
    else if (base && fromBase) latencies[name] = inherited(base, fromBase);
  }
  return latencies;
}

function parseHardware(json: unknown): CostTable["hardware"] {
  const given = json === undefined ? {} : recordAt("hardware", json);
  refuseUnknown("hardware", given, HARDWARE_NAMES);
  const hardware: Partial<Record<HardwareName, HardwareFigure>> = {};
  for (const name of HARDWARE_NAMES) {
    if (given[name] === undefined) continue;
    const where = `hardware.${name}`;
    const figure = recordAt(where, given[name]);
    refuseUnknown(where, figure, ["value", "source"]);
    const { wanted, allows } = HARDWARE_RANGES[name];
    const { value } = figure;
    if (typeof value !== "number" || !allows(value)) throw wrong(`${where}.value`, value, wanted);
    hardware[name] = { value, source: textAt(`${where}.source`, figure.source) };
  }
  return hardware;
}

const HARDWARE_RANGES: Readonly<
  Record<HardwareName, { readonly wanted: string; readonly allows: (value: number) => boolean }>
> = {
  hostPageBytes: {
    wanted: "4096, 2097152 or 1073741824",
    allows: (value) => [2 ** 12, 2 ** 21, 2 ** 30].includes(value),
  },
  lastLevelBytes: {
    wanted: "bytes, 64 KiB to 4 GiB",
    allows: (value) => value >= 2 ** 16 && value <= 2 ** 32,
  },
  frameRunPages: {
    wanted: "a power of two, 1 to 512",
    allows: (value) => value >= 1 && value <= 512 && Number.isInteger(Math.log2(value)),
  },
  walkOverlap: { wanted: "a share, 0 to 1", allows: (value) => value >= 0 && value <= 1 },
};

function inherited(base: CostTable, figure: CostFigure): CostFigure {
  return { ns: figure.ns, source: `${base.name}: ${figure.source}` };
}

function figureAt(where: string, value: unknown): CostFigure {
  const figure = recordAt(where, value);
  refuseUnknown(where, figure, ["ns", "source"]);
  const { ns } = figure;
  if (typeof ns !== "number" || !(ns >= 0 && ns <= MAX_FIGURE_NS)) {
    throw wrong(`${where}.ns`, ns, "nanoseconds, 0 to 60e9");
  }
  return { ns, source: textAt(`${where}.source`, figure.source) };
}

function recordAt(where: string, value: unknown): Readonly<Record<string, unknown>> {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    return value as Readonly<Record<string, unknown>>;
  }
  throw wrong(where, value, "an object");
}

function textAt(where: string, value: unknown): string {
  if (typeof value === "string" && value.trim() !== "") return value;
  throw wrong(where, value, "text that is not empty");
}

function refuseUnknown(
  where: string,
  record: Readonly<Record<string, unknown>>,
  known: readonly string[],
): void {
  for (const field of Object.keys(record)) {
    if (!known.includes(field)) {
      throw new UsageError(where, `unknown field "${field}"`, `only ${known.join(", ")}`);
    }
  }
}

function wrong(where: string, found: unknown, wanted: string): UsageError {
  const shown = found === undefined ? "nothing" : JSON.stringify(found);
  return new UsageError(where, shown, wanted);
}

/** An event column with nothing counted: `events[COST.faultAnon] += 1`. */
export function createCostEvents(): Float64Array {
  return new Float64Array(NR_COSTS);
}

/** The figures (ns) as a column indexed by COST, for code that prices each fault as it happens. */
export function pricesOf(table: CostTable): Float64Array {
  return Float64Array.from(COST_NAMES, (name) => table.figures[name].ns);
}

/** What one fault that maps a folio of `order` takes (ns): 0 a 4K page, 9 a PMD, between them mTHP (PHYS-180, 184, 187). */
export function anonFaultNs(prices: Float64Array, order: number): number {
  if (order === 0) return prices[COST.faultAnon];
  if (order === 9) return prices[COST.faultHuge] + prices[COST.clearHuge];
  return prices[COST.faultLarge] + prices[COST.clearLargePage] * 2 ** order;
}

/** Counts the events of one anonymous fault of `order`, so that costNs gives anonFaultNs. */
export function countAnonFault(events: Float64Array, order: number): void {
  if (order === 0) {
    events[COST.faultAnon] += 1;
  } else if (order === 9) {
    events[COST.faultHuge] += 1;
    events[COST.clearHuge] += 1;
  } else {
    events[COST.faultLarge] += 1;
    events[COST.clearLargePage] += 2 ** order;
  }
}

/** Time (ns) of all counted events. */
export function costNs(prices: Float64Array, events: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < NR_COSTS; i++) sum += prices[i] * events[i];
  return sum;
}

/** Time of one part of a run. */
export interface CostShare {
  readonly part: CostPart;
  readonly ns: number;
  /** How it was computed, e.g. "12034 4K faults x 1.37 us". Largest term first. */
  readonly basis: string;
}

/** Time by part, in the order of COST_PARTS; parts without events are left out. */
export function costParts(table: CostTable, events: Float64Array): CostShare[] {
  const shares: CostShare[] = [];
  for (const part of COST_PARTS) {
    const terms = COST_NAMES.filter(
      (name) => COST_MEANINGS[name].part === part && events[COST[name]] > 0,
    ).map((name) => termOf(table, name, events[COST[name]]));
    if (terms.length === 0) continue;
    terms.sort((a, b) => b.ns - a.ns);
    shares.push({
      part,
      ns: terms.reduce((sum, term) => sum + term.ns, 0),
      basis: terms.map((term) => term.text).join(" + "),
    });
  }
  return shares;
}

function termOf(table: CostTable, name: CostName, nrEvents: number): { ns: number; text: string } {
  const { ns } = table.figures[name];
  const count = Math.round(nrEvents);
  return {
    ns: ns * nrEvents,
    text: `${count} ${COST_MEANINGS[name].events} x ${formatNs(ns)}`,
  };
}

function formatNs(ns: number): string {
  if (ns >= 1e6) return `${significant(ns / 1e6)} ms`;
  if (ns >= 1e3) return `${significant(ns / 1e3)} us`;
  return `${significant(ns)} ns`;
}

function significant(value: number): string {
  return String(Number(value.toPrecision(3)));
}
