/**
 * Port: a machine that carries out the statements of a scenario, the model's or the live kernel's.
 *
 * Entry: Backend, implemented by model-backend.ts here and by the kernel back end in cli/. Calls are synchronous on both.
 * Holds: layout.ts says where ranges are; addresses are the scenario's own (statements carry spans by range name).
 */

import type { Observation } from "./observation.ts";
import type { Header, Span, Statement } from "./syntax.ts";

/**
 * What a statement gave. `value` is 0 for success, a negative errno, or for `prctl thp-disable get` what it returned: a `map`,
 * `remap`, `brk`, `fork`, `pin` that succeeds gives 0, not an address or a number of pages. A `brk` that leaves the break
 * where it was gives -ENOMEM.
 */
export type StepResult =
  | {
      readonly kind: "value";
      readonly value: number;
      /** mincore: 1 for each resident page of the span, else 0. */
      readonly resident?: readonly number[];
    }
  | { readonly kind: "signal"; readonly signal: "SIGSEGV" | "SIGBUS" }
  /** A read saw something else than what was last written: always a failure of the run. `page` of the span's range. */
  | { readonly kind: "wrongContents"; readonly page: number };

/** What to look at besides results; dearer looks are taken only when asked for. */
export interface Look {
  /** Drain LRU batches first, so that the second-tier PAGE_BITs are exact. */
  readonly isDrained: boolean;
}

/** One event of a huge_memory tracepoint (COLL-280), without frames and addresses. */
export interface TracedEvent {
  /** Process whose address space it is about. */
  readonly process: string;
  readonly name: EventName;
  /** The kernel's fields by its names. `scan_pfn` is "none" for -1, else "page". */
  readonly fields: Readonly<Record<string, string | number>>;
}

/** Events by their names in scenarios: mm_khugepaged_scan_pmd and mm_collapse_huge_page with its two parts. */
export const TRACED_EVENTS = ["scan_pmd", "collapse", "isolate", "swapin"] as const;
export type EventName = (typeof TRACED_EVENTS)[number];

/** Fields of each, in the kernel's order. */
export const EVENT_FIELDS: Readonly<Record<EventName, readonly string[]>> = {
  scan_pmd: ["scan_pfn", "referenced", "none_or_zero", "status", "unmapped"],
  collapse: ["isolated", "status"],
  isolate: ["scan_pfn", "none_or_zero", "referenced", "status"],
  swapin: ["swapped_in", "referenced", "ret"],
};

export type PageContents = "none" | "zero" | "written";

export interface Backend {
  readonly name: "model" | "kernel";
  /** A fresh machine with one process "main", knobs and swap as the header says. */
  begin(header: Header): void;
  /** Carries out one statement that is no expectation. */
  step(statement: Statement): StepResult;
  observe(look: Look): Observation;
  /** What the mapped pages of a span hold, without touching any: "none" for a page that is not present. */
  peek(actor: string, span: Span): readonly PageContents[];
  /** Events of the last statement, oldest first; null if they cannot be known here. */
  events(): readonly TracedEvent[] | null;
  /** What reading the knob's file gives, with its newline. */
  readKnob(name: string): string;
  /** Ends every process of the scenario and restores what it changed. */
  end(): void;
  /** Model only: why the first page of the span is not in a huge page; "" if it is. A name of `hugelab list reasons`. */
  reasonOf?(actor: string, span: Span): string;
}

/** What a back end cannot do at all, here or yet: the run is not possible (exit 3), neither passed nor failed. */
export class CannotDo extends Error {
  override readonly name = "CannotDo";
  /** Line of the statement, 0 if it is about the whole file. */
  readonly line: number;

  constructor(line: number, problem: string) {
    super(problem);
    this.line = line;
  }
}
