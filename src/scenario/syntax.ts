/**
 * The parts of a scenario file, as the parser gives them and the back ends take them. docs/scenarios.md is the manual.
 *
 * Holds: plain data; every node knows its line, so that a failure can show the place.
 * Units: pages of 4 KiB relative to the start of a range; sizes in bytes.
 */

/** Pages `first`, `first + step`, ... below `end` of a range. A whole range has end -1 until the range's length is known. */
export interface Span {
  readonly range: string;
  readonly first: number;
  /** Exclusive; -1 for "to the end of the range". */
  readonly end: number;
  readonly step: number;
}

/** What a statement must give: an errno name ("EINVAL"), a signal, a number, "?" for anything; undefined: success. */
export type Wanted = string | number;

/** Model-only statements are marked in the list of verbs of the parser. */
export type Action =
  | {
      readonly verb: "map";
      readonly range: string;
      readonly sizeBytes: number;
      readonly at?: Span;
      readonly skewPages: number;
      /** Letters of "rwx"; "" for PROT_NONE. */
      readonly prot: string;
      readonly flags: readonly MapFlag[];
    }
  | { readonly verb: "unmap" | "munlock" | "mlock" | "mseal" | "mincore"; readonly span: Span }
  | { readonly verb: "mlock2"; readonly span: Span; readonly flags: readonly "onfault"[] }
  | { readonly verb: "protect"; readonly span: Span; readonly prot: string }
  | {
      readonly verb: "remap";
      readonly span: Span;
      /** Name of the new place. */
      readonly to: string;
      readonly sizeBytes?: number;
      readonly at?: Span;
      readonly flags: readonly ("inplace" | "dontunmap" | "anywhere")[];
    }
  | { readonly verb: "brk"; readonly sizeBytes: number }
  | {
      readonly verb: "madvise";
      readonly span: Span;
      readonly advice: number;
      /** The raw call: bytes added to the start of the span, and a length that is not that of the span. */
      readonly offsetBytes?: number;
      readonly lengthBytes?: number;
    }
  | ProcessMadvise
  | { readonly verb: "khugepaged"; readonly nrPasses: number }
  | { readonly verb: "read" | "write"; readonly span: Span }
  | { readonly verb: "mlockall"; readonly flags: readonly ("current" | "future" | "onfault")[] }
  | { readonly verb: "munlockall" | "exit" | "swapon" | "swapoff" | "drop-caches" | "mark" }
  /** op 41 SET or 42 GET with its four arguments. */
  | { readonly verb: "prctl"; readonly op: "set" | "get"; readonly args: readonly number[] }
  | { readonly verb: "fork" | "thread"; readonly name: string }
  | { readonly verb: "pin" | "hold-page"; readonly name: string; readonly span: Span }
  | {
      readonly verb: "release" | "join" | "snapshot" | "restore" | "continue";
      readonly name: string;
    }
  | { readonly verb: "knob"; readonly name: string; readonly value: string }
  | { readonly verb: "memcg" | "limit"; readonly name: string; readonly maxBytes: number | null }
  | { readonly verb: "hold"; readonly phase: string; readonly statement: Statement }
  | {
      readonly verb: "fail";
      readonly what: "alloc" | "charge";
      readonly order: number;
      readonly count: number;
    }
  | { readonly verb: "fragment"; readonly order: number }
  | { readonly verb: "defragment" }
  | { readonly verb: "shrink"; readonly nr: number }
  | { readonly verb: "poison" | "soft-offline"; readonly span: Span }
  | { readonly verb: "split"; readonly span: Span; readonly order: number };

/** Whom process_madvise names by its pidfd. */
export const PIDFD_WORDS = ["self", "bad", "zombie", "reaped", "kernel-thread"] as const;

export interface ProcessMadvise {
  readonly verb: "process-madvise";
  /** A process of the scenario, or a word for something else. */
  readonly target: { readonly process: string } | { readonly pidfd: (typeof PIDFD_WORDS)[number] };
  /** Elements of the vector. */
  readonly spans: readonly Span[];
  readonly advice: number;
  readonly flags: number;
  /** Number of elements as the call gives it; those behind the spans repeat the last. */
  readonly nrElements?: number;
  /** Of every element: bytes added to its start, and its length. */
  readonly offsetBytes?: number;
  readonly lengthBytes?: number;
  /** The call gives an address where there is no vector. */
  readonly isUnreadable?: true;
}

/** Most elements that a vector can be said to have: one more than Linux takes. */
export const MOST_ELEMENTS = 1025;

export const MAP_FLAGS = [
  "shared",
  "populate",
  "locked",
  "stack",
  "noreserve",
  "growsdown",
  "droppable",
  "zerofile",
  "anywhere",
] as const;

export type MapFlag = (typeof MAP_FLAGS)[number];

/** Something done in a process or thread. */
export interface Statement {
  readonly line: number;
  /** Process or thread that acts. */
  readonly actor: string;
  readonly action: Action;
  readonly wanted?: Wanted;
}

/** One wanted value: exact or a closed interval. Words keep their text. */
export type WantedValue =
  | { readonly kind: "number"; readonly low: number; readonly high: number }
  | { readonly kind: "word"; readonly text: string };

export interface Condition {
  readonly key: string;
  readonly value: WantedValue;
  /** Column of the condition in its line, for the caret. */
  readonly column: number;
}

export type Subject =
  /** `state` is one of PAGE_STATES or "present". */
  | { readonly kind: "span"; readonly span: Span; readonly state?: string }
  /** The VMAs that begin in the span. */
  | { readonly kind: "smaps"; readonly span: Span }
  | { readonly kind: "status" | "faults" | "counters" | "knob" }
  /** `events`: names of exactly the events there were, in order; else the conditions are on those of the one name. */
  | { readonly kind: "trace"; readonly events: readonly string[]; readonly isExact: boolean };

export interface Expectation {
  readonly line: number;
  readonly actor: string;
  readonly subject: Subject;
  readonly conditions: readonly Condition[];
}

export type Step =
  | { readonly kind: "statement"; readonly statement: Statement }
  | { readonly kind: "expect"; readonly expectation: Expectation };

export interface Header {
  readonly title: string;
  readonly rules: readonly string[];
  readonly on: "both" | "model";
  readonly machine: {
    readonly memoryBytes: number;
    readonly nrCpus: number;
    readonly nrNodes: number;
    readonly profile: string;
    readonly seed: number;
    readonly hasMemoryFailure: boolean;
  };
  /** In order; later ones win. */
  readonly knobs: readonly { readonly name: string; readonly value: string }[];
  /** Size of the swap device, 0 none. */
  readonly swapBytes: number;
}

/** What must hold at the end of every schedule, of at least one, or of none. */
export type ClaimKind = "always" | "sometimes" | "never";

/** The result of one statement of a task; of several given, one must be it. */
export interface TaskResult {
  readonly task: string;
  /** Which of the task's statements, from 0; -1: the last. */
  readonly index: number;
  readonly wanted: readonly Wanted[];
}

/** A line `always ...`, `sometimes ...` or `never ...`: a state, or results, at the ends where all of `given` came out. */
export interface Claim {
  readonly line: number;
  readonly kind: ClaimKind;
  readonly what:
    | { readonly kind: "state"; readonly expectation: Expectation }
    | { readonly kind: "results"; readonly results: readonly TaskResult[] };
  readonly given: readonly TaskResult[];
}

/** One statement of a task, and the results it may have; none named: success. */
export interface TaskStatement {
  readonly statement: Statement;
  readonly wanted: readonly Wanted[];
}

/** What a task does, one statement after the other. */
export interface TaskScript {
  readonly name: string;
  readonly statements: readonly TaskStatement[];
}

/** Tasks that go on side by side after the steps, in any order, and what is claimed of the ends. */
export interface Exploration {
  /** In the order of their first lines. */
  readonly tasks: readonly TaskScript[];
  readonly claims: readonly Claim[];
}

export interface Scenario {
  /** As given on the command line. */
  readonly file: string;
  /** The file's lines, to show a failing one. */
  readonly text: readonly string[];
  readonly header: Header;
  readonly steps: readonly Step[];
  /** Absent: the scenario is one sequence. */
  readonly exploration?: Exploration;
}
