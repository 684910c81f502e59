/**
 * Port: a machine that carries out the statements of a scenario, the model's or the live kernel's.
 *
 * Entry: Backend, implemented by model-backend.ts here and by the kernel back end in cli/. Calls are synchronous on both.
 * Holds: addresses are the scenario's own (statements carry spans by range name; the back end knows where ranges are).
 */

import type { Observation } from "./observation.ts";
import type { Header, Statement } from "./syntax.ts";

/** What a statement gave: 0 or a non-negative value, a negative errno, or a signal. */
export type StepResult =
  | { readonly kind: "value"; readonly value: number }
  | { readonly kind: "signal"; readonly signal: "SIGSEGV" | "SIGBUS" }
  /** A read saw something else than what was last written: always a failure of the run. `page` of the span's range. */
  | { readonly kind: "wrongContents"; readonly page: number };

/** What to look at besides results; dearer looks are taken only when asked for. */
export interface Look {
  /** Drain LRU batches first, so that the second-tier PAGE_BITs are exact. */
  readonly isDrained: boolean;
}

export interface Backend {
  readonly name: "model" | "kernel";
  /** A fresh machine with one process "main", knobs and swap as the header says. */
  begin(header: Header): void;
  /** Carries out one statement that is no expectation. */
  step(statement: Statement): StepResult;
  observe(look: Look): Observation;
  /** Value of a knob by name. */
  readKnob(name: string): string;
  /** Ends every process of the scenario and restores what it changed. */
  end(): void;
}
