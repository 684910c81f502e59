/**
 * `hugelab experiment shared-collapse`: what the mode that no kernel has would have gained and cost a recorded program that
 * forks.
 *
 * Entry: registerExperiment. The recording is read four times: once to choose the fork, once for each way.
 */

import { closeSync, existsSync, fstatSync, openSync, readSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Command } from "commander";
import { oneOf } from "../base/nearest.ts";
import { UsageError } from "../base/usage-error.ts";
import {
  ForkFinder,
  SHARING_WAYS,
  type SharingOutcome,
  SharingReplay,
} from "../lab/shared-experiment.ts";
import type { Replay } from "../trace/replay/replay.ts";
import { withCleanup } from "./cleanup.ts";
import { wantsExamples } from "./examples.ts";
import { type Experiment, experimentFor, parseGeometry } from "./experiment.ts";
import { addMachineOptions, FROM_HELP, sourcesOf, terminalOf } from "./global-options.ts";
import { NotPossibleHere } from "./not-possible.ts";
import { resolveMachine } from "./resolve.ts";
import { findLibrary } from "./scenario-library.ts";
import type { Terminal } from "./terminal.ts";
import { chunkBytesOf, createReaderFor } from "./trace-format.ts";
import { openTraceInput, type TraceInput } from "./trace-input.ts";

interface ExperimentOptions {
  readonly from?: string;
  readonly json?: boolean;
}

const EXPERIMENTS = ["shared-collapse"] as const;

const EXAMPLES = `
Examples:
  hugelab experiment shared-collapse                 the bundled recording: Redis and its BGSAVE
  hugelab experiment shared-collapse server.hlt      a recording of your own that forks
  hugelab experiment shared-collapse --json
`;

/** Adds the command to the program. */
export function registerExperiment(program: Command): void {
  const command = program
    .command("experiment")
    .summary("what a mode that no kernel has would do for a recorded program")
    .description(
      "shared-collapse: the recording is replayed up to the fork at which most memory becomes shared. There the memory is left " +
        "alone, collapsed as khugepaged does it, which copies, or collapsed without losing the sharing. The rest of the " +
        "recording shows what follows: LRU entries, huge mappings, page walks and memory against changed entries, stalls and " +
        "CPU time.",
    )
    .argument("<experiment>", EXPERIMENTS.join(", "))
    .argument("[trace]", "a recording of a program that forks; - is stdin; default: Redis")
    .option("--from <form>", FROM_HELP)
    .option("--json", "print one JSON document");
  addMachineOptions(command)
    .addHelpText("after", ({ command: c }) => (wantsExamples(c) ? EXAMPLES : ""))
    .action(experiment);
}

async function experiment(
  name: string,
  trace: string | undefined,
  options: ExperimentOptions,
  command: Command,
): Promise<void> {
  oneOf(name, EXPERIMENTS, "experiment");
  const terminal = terminalOf(command);
  const plan = experimentFor(resolveMachine(sourcesOf(command.opts(), terminal), parseGeometry));
  await withCleanup(async (cleanup) => {
    const input = await openTraceInput(trace ?? bundledRecording(), options.from, cleanup);
    const found = runAll(input, plan, terminal);
    const document = {
      schema: "hugelab.experiment",
      version: 1,
      experiment: name,
      trace: input.name,
      machine: plan.summary,
      ...found,
    };
    await terminal.print(
      options.json === true ? `${JSON.stringify(document, null, 2)}\n` : report(found, plan),
    );
  });
}

/** The recording of Redis that comes with the program, beside the library of scenarios. */
function bundledRecording(): string {
  const path = join(dirname(findLibrary()), "recordings", "redis.hlt");
  if (existsSync(path)) return path;
  throw new NotPossibleHere("the bundled recordings are not installed", "name a recording");
}

interface Found {
  /** Number of the fork in the recording, from 0, and the anonymous pages that it shared. */
  readonly fork: number;
  readonly pages: number;
  readonly ways: readonly SharingOutcome[];
}

function runAll(input: TraceInput, plan: Experiment, terminal: Terminal): Found {
  const progress = terminal.startProgress("experiment");
  const nrReads = 1 + SHARING_WAYS.length;
  let nrDone = 0;
  const read = (sink: Replay, detail: string) => {
    readInto(input, sink, (share) => progress.update((nrDone + share) / nrReads, detail));
    nrDone++;
  };
  try {
    const finder = new ForkFinder(plan);
    read(finder, "choosing the fork");
    const best = finder.best();
    if (best === null)
      throw new UsageError(
        input.name,
        "a recording in which no process shares memory with a child",
        "a program that forks and goes on",
      );
    const ways = SHARING_WAYS.map((way) => {
      const replay = new SharingReplay({ ...plan, way, fork: best.fork });
      read(replay, way);
      return replay.outcome();
    });
    return { ...best, ways };
  } finally {
    progress.end();
  }
}

function readInto(input: TraceInput, sink: Replay, onShare: (share: number) => void): void {
  const reader = createReaderFor(input.format, sink, input.name);
  const file = openSync(input.path, "r");
  try {
    const size = fstatSync(file).size;
    const chunk = new Uint8Array(chunkBytesOf(input.format));
    let nrRead = 0;
    for (let n = readSync(file, chunk); n > 0; n = readSync(file, chunk)) {
      reader.push(chunk.subarray(0, n));
      nrRead += n;
      onShare(nrRead / size);
    }
    reader.finish();
  } finally {
    closeSync(file);
  }
}

type Line = readonly [label: string, value: (outcome: SharingOutcome) => string];

const LINES: readonly (Line | string)[] = [
  "right after the fork",
  ["LRU entries", ({ memory }) => whole(memory.lruFolios)],
  ["huge mappings", ({ memory }) => whole(memory.pmds)],
  ["anonymous memory, MiB", ({ memory }) => mib(memory.anonPages)],
  ["of it shared, MiB", ({ memory }) => mib(memory.sharedPages)],
  ["RSS of all, MiB", ({ memory }) => mib(memory.rssPages)],
  ["walk cycles, one cold read", ({ memory }) => whole(memory.coldReadCycles)],
  "what it cost",
  ["regions collapsed", ({ cost }) => whole(cost.collapsed)],
  ["regions refused", ({ cost }) => refusals(cost.refused)],
  ["page-table entries changed", ({ cost }) => whole(cost.ptesUpdated)],
  ["most for one region", ({ cost }) => whole(cost.ptesMax)],
  ["faults stalled, ms", ({ cost }) => ms(cost.stallNsTotal)],
  ["longest stall, ms", ({ cost }) => ms(cost.stallNsMax)],
  ["khugepaged's CPU, ms", ({ cost }) => ms(cost.cpuNs)],
  "the rest of the recording",
  ["page faults", ({ rest }) => whole(rest.faults)],
  ["of them copies of 4 kB", ({ rest }) => whole(rest.copyFaults)],
  ["huge mappings split", ({ rest }) => whole(rest.pmdSplits)],
  ["anonymous memory at most, MiB", ({ rest }) => mib(rest.peakAnonPages)],
  ["L2 TLB misses", ({ rest }) => orNone(rest.l2TlbMisses)],
  ["walk cycles", ({ rest }) => orNone(rest.walkCycles)],
];

function report({ fork, pages, ways }: Found, { summary }: Experiment): string {
  const head = ["", ...ways.map(({ way }) => way)];
  const rows = LINES.map((line) =>
    typeof line === "string" ? [line] : [`  ${line[0]}`, ...ways.map(line[1])],
  );
  const notes = [
    `Fork ${fork} of the recording: parent and child share ${mib(pages)} MiB of 4 kB pages.`,
    "left alone: nothing is collapsed. copied: khugepaged with max_ptes_shared=511. shared: the mode shared_collapse, which no",
    "kernel has. Times are simulated; a cold read is one read of each anonymous page by each process, with empty TLBs.",
    `Model: ${summary.geometry}; costs ${summary.costs}.`,
  ];
  return `${aligned([head, ...rows])}\n${notes.join("\n")}\n`;
}

function whole(value: number): string {
  return Math.round(value).toString();
}

function mib(pages: number): string {
  return (pages / 256).toFixed(1);
}

function ms(ns: number): string {
  return (ns / 1e6).toFixed(3);
}

function orNone(value: number | null): string {
  return value === null ? "-" : whole(value);
}

function refusals(refused: Readonly<Record<string, number>>): string {
  const words = Object.entries(refused).map(([reason, nr]) => `${nr} ${reason}`);
  return words.length > 0 ? words.join(", ") : "0";
}

function aligned(rows: readonly (readonly string[])[]): string {
  const nrColumns = Math.max(...rows.map((row) => row.length));
  const widths = Array.from({ length: nrColumns }, (_, column) =>
    Math.max(...rows.map((row) => row[column]?.length ?? 0)),
  );
  const line = (row: readonly string[]) =>
    row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join("  ");
  return rows.map((row) => `${line(row).trimEnd()}\n`).join("");
}
