/**
 * The commands there are, each with what a help shows of it and how it is loaded.
 *
 * Holds: a summary here is the one the command itself declares (commands.test.ts).
 */

import type { Command } from "commander";

export interface CommandEntry {
  readonly name: string;
  readonly summary: string;
  /** Resolves to what adds the complete command to the program. */
  readonly load: () => Promise<(program: Command) => void>;
}

/** In the order of the help. */
export const COMMANDS: readonly CommandEntry[] = [
  {
    name: "compare",
    summary: "one real program under several THP settings, side by side",
    load: async () => (await import("./compare.ts")).registerCompare,
  },
  {
    name: "record",
    summary: "record a real program",
    load: async () => (await import("./record.ts")).registerRecord,
  },
  {
    name: "replay",
    summary: "one recording under one setting",
    load: async () => (await import("./replay.ts")).registerReplay,
  },
  {
    name: "explain",
    summary: "why memory of a replay is not huge, window by window",
    load: async () => (await import("./explain.ts")).registerExplain,
  },
  {
    name: "run",
    summary: "scenario files on the model, the live kernel or both",
    load: async () => (await import("./run.ts")).registerRun,
  },
  {
    name: "explore",
    summary: "all orders in which the tasks of a scenario can run",
    load: async () => (await import("./explore.ts")).registerExplore,
  },
  {
    name: "verify",
    summary: "the library of scenarios against what the kernel showed",
    load: async () => (await import("./verify.ts")).registerVerify,
  },
  {
    name: "fuzz",
    summary: "random scenarios on the model, or on model and kernel side by side",
    load: async () => (await import("./fuzz.ts")).registerFuzz,
  },
  {
    name: "calibrate",
    summary: "measure this host's fault, zeroing, copy and page-walk costs",
    load: async () => (await import("./calibrate.ts")).registerCalibrate,
  },
  {
    name: "largepages3",
    summary: "the benchmark of the 2011 log: its figures, the model's prediction and a native run",
    load: async () => (await import("./largepages3.ts")).registerLargepages3,
  },
  {
    name: "khugepaged-growth",
    summary: "memory given back that khugepaged fills again, on the model and on this kernel",
    load: async () => (await import("./khugepaged-growth.ts")).registerKhugepagedGrowth,
  },
  {
    name: "experiment",
    summary: "what a mode that no kernel has would do for a recorded program",
    load: async () => (await import("./experiment-command.ts")).registerExperiment,
  },
  {
    name: "bench",
    summary: "the project's own speed, against the live kernel where it can be had",
    load: async () => (await import("./bench.ts")).registerBench,
  },
  {
    name: "list",
    summary: "knobs, counters, events, reasons, policies, profiles and more",
    load: async () => (await import("./list.ts")).registerList,
  },
  {
    name: "completion",
    summary: "completion for bash, zsh or fish",
    load: async () => (await import("./completion.ts")).registerCompletion,
  },
];
