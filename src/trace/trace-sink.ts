/**
 * What a recording says, as calls in program order. The reader and the importers call a TraceSink; the writer, the
 * replay and the summary are TraceSinks. The encoding is in docs/trace-format.md.
 *
 * Memory is named by identity and offset, never by address: a *mapping* is what one call (mmap, the stack, brk's heap, a
 * program segment) created, numbered from 0 over the whole recording; a *page* is an offset in it, in 4 KiB pages. After
 * fork the child has the same mapping numbers with contents of its own. Replay places mappings by the engine's own address
 * choice, because emulators choose addresses of their own.
 *
 * Units: `tick` = instructions executed by the whole program since its start (integer below 2^53); pages are 4 KiB.
 * Hot calls (touch, counts, access) take plain numbers so that nothing is allocated per record.
 */

/** How the recording was made and what it therefore holds. */
export type TraceSource =
  | "qemu-plugin"
  | "perf"
  | "lackey"
  | "strace"
  | "perf-script"
  | "synthetic";

export interface TraceHeader {
  /** The recorded command, first element the program. */
  readonly command: readonly string[];
  readonly source: TraceSource;
  /** What the stream contains; a replay must not invent what is absent. */
  readonly has: {
    /** touch records are exact: every first read and first write of a page since map, fork or drop. */
    readonly exactTouches: boolean;
    /** counts records: accesses per page per interval. */
    readonly counts: boolean;
    /** access records: order of accesses, in sampled windows or throughout. */
    readonly order: "none" | "windows" | "full";
  };
  /** A run of the same command without the recorder and with THP off by prctl; absent if none was made. */
  readonly plainRun?: PlainRun;
  /** Free text for people: tool versions, host. */
  readonly notes?: string;
}

/** Median of the plain runs. */
export interface PlainRun {
  readonly nrRuns: number;
  readonly wallMs: number;
  readonly userMs: number;
  readonly systemMs: number;
  readonly minorFaults: number;
  readonly majorFaults: number;
  /** Largest resident set of any one process of the run (bytes). */
  readonly peakRssBytes: number;
  readonly kernel: string;
  readonly cpu: string;
}

/** What is behind a new mapping. */
export type Backing =
  | { readonly kind: "anonymous" }
  /** The main thread's stack: grows down. `page` 0 is the lowest page of the largest extent it can reach. */
  | { readonly kind: "stack" }
  /** brk's heap; its length is set by brk records. */
  | { readonly kind: "heap" }
  /** `firstPage`: offset of the mapping's page 0 in the file, in pages. `path` identifies the file. */
  | { readonly kind: "file"; readonly path: string; readonly firstPage: number };

/** Where a new mapping goes. */
export type Placement =
  | { readonly kind: "any" }
  /** mmap with a hint address that was free, as in Go's arenas. Byte address. */
  | { readonly kind: "hint"; readonly address: number }
  /** MAP_FIXED over (or next to) an existing mapping: at its page `page` (may be outside its length). */
  | { readonly kind: "at"; readonly mapping: number; readonly page: number }
  /** MAP_FIXED where nothing was known, or a program segment: relative to the image base chosen at exec. */
  | { readonly kind: "image"; readonly offsetPages: number };

/** A mapping call that succeeded, or a segment that exec mapped. */
export interface MapCall {
  readonly mapping: number;
  readonly nrPages: number;
  /** PROT_READ 1, PROT_WRITE 2, PROT_EXEC 4. */
  readonly prot: number;
  readonly isShared: boolean;
  readonly backing: Backing;
  readonly placement: Placement;
  /** MAP_POPULATE, MAP_LOCKED, MAP_STACK, MAP_NORESERVE as given. */
  readonly flags: readonly ("populate" | "locked" | "stack" | "noreserve")[];
}

/** A run of pages of one mapping. */
export interface PageRange {
  readonly mapping: number;
  readonly page: number;
  readonly nrPages: number;
}

export type ProcessStart = "exec" | "fork" | "vfork";
export type AccessKind = "read" | "write";

/** Receives a recording in order. Every method is called between `begin` and `end`. */
export interface TraceSink {
  begin(header: TraceHeader): void;
  /** Time moves on; all following records happen at `tick` or later. Never goes back. */
  time(tick: number): void;

  /** A process appears. `parent` is -1 for the first ("exec" starts an empty address space). Ids from 0 in order. */
  process(process: number, parent: number, how: ProcessStart): void;
  /** An existing process starts another program: its mappings are gone. */
  exec(process: number): void;
  /** Thread ids are unique in the recording; the first thread of a process is announced too. */
  thread(thread: number, process: number): void;
  threadExit(thread: number): void;
  /** Status as wait gives it: 0..255 exit code, or 256 + signal. */
  exit(process: number, status: number): void;

  map(process: number, call: MapCall): void;
  unmap(process: number, range: PageRange): void;
  protect(process: number, range: PageRange, prot: number): void;
  /** `to` is a new mapping number if the range moved, else `range.mapping`; `nrPages` is the new length. */
  remap(process: number, range: PageRange, to: number, nrPages: number, dontUnmap: boolean): void;
  /** The heap's new length in pages; `mapping` was announced by map with kind "heap". */
  brk(process: number, mapping: number, nrPages: number): void;
  /** `advice` is MADV_*'s number; `result` 0 or a negative errno as recorded. */
  advise(process: number, range: PageRange, advice: number, result: number): void;
  /** mlock, mlock2 (onFault) and munlock. */
  lock(process: number, range: PageRange, how: "lock" | "onFault" | "unlock"): void;
  /** prctl(PR_SET_THP_DISABLE, arg2, arg3). */
  prctlThpDisable(process: number, value: number, flags: number): void;

  /** First read or first write since map, fork or drop, of each page of the run, in ascending order. */
  touch(thread: number, mapping: number, page: number, nrPages: number, isWrite: boolean): void;

  /** Counts of the interval that ends now: `reads` and `writes` for each page of the run (equal for all of them). */
  counts(
    process: number,
    mapping: number,
    page: number,
    nrPages: number,
    reads: number,
    writes: number,
  ): void;

  /** The full order of one thread's accesses follows until windowEnd. */
  windowBegin(thread: number): void;
  /** `count` consecutive accesses of one page by the window's thread; `isWrite` if any of them writes. */
  access(thread: number, mapping: number, page: number, count: number, isWrite: boolean): void;
  /** How many accesses of the thread this window stands for (at least those in it). */
  windowEnd(thread: number, nrRepresented: number): void;

  /** The recording is complete; `tick` is the whole run's instruction count. */
  end(tick: number): void;
}
