/**
 * Records one run of a program under the emulator.
 *
 * Entry: recordProgram.
 * Owns:  the launcher process and the output file while it runs.
 * Holds: memory is bounded: events are converted as they come, and a slow disk slows the program down. Whatever ends the
 *        run (its end, a signal, Ctrl-C), the recording is complete up to there; only a failed write leaves nothing.
 * Errors: UsageError, NotPossibleHere.
 */

import { spawn } from "node:child_process";
import { constants, cpus, release } from "node:os";
import type { Readable } from "node:stream";
import { UsageError } from "../base/usage-error.ts";
import type { PlainRun, TraceHeader } from "../trace/trace-sink.ts";
import { RecordConverter, type RecordSummary } from "./record-convert.ts";
import { RecordOutput } from "./record-output.ts";
import { isInputRepeatable, plainRun } from "./record-plain.ts";
import { findProgram, findRecorder, type Recorder } from "./record-program.ts";
import { RawStreamDecoder } from "./record-stream.ts";

/** What to record and how much of it. */
export interface RecordRequest {
  readonly command: readonly string[];
  /** File to write. */
  readonly output: string;
  /** Shell command that runs beside the program; when it ends, the program is asked to end. Empty: none. */
  readonly driver: string;
  /** Runs without the recorder, for real time, faults and RSS; 0: none. */
  readonly nrPlainRuns: number;
  /** Length of a counting interval in instructions; 0: 20 million at first, longer as the run grows. */
  readonly intervalTicks: number;
  /** Accesses in a sampled window; 0: no windows. */
  readonly windowAccesses: number;
  /** Accesses from one window's begin to the next; equal to windowAccesses: everything is in one. */
  readonly sampleEvery: number;
  /** Where the program's own output goes: "stderr" where stdout is for results. Default: where ours goes. */
  readonly programOutput?: "stdout" | "stderr";
}

/** Who watches. */
export interface RecordWatcher {
  /** A line for people. */
  note(text: string): void;
  /** The run goes on. */
  progress(summary: RecordSummary, elapsedMs: number): void;
}

export interface RecordResult {
  /** What a shell would call the program's status: 0..255, 128 + signal if it was killed. */
  readonly status: number;
  readonly sizeBytes: number;
  readonly elapsedMs: number;
  readonly summary: RecordSummary;
}

/** Records `request.command` into `request.output`. */
export async function recordProgram(
  request: RecordRequest,
  watcher: RecordWatcher,
): Promise<RecordResult> {
  const program = findProgram(request.command[0]);
  const recorder = findRecorder();
  // Before the plain runs: a file that cannot be written should be said at once.
  const output = new RecordOutput(request.output);
  const plain = await plainRunOf(request, recorder, program, watcher);
  output.begin(headerOf(request, recorder, plain, []));
  const startMs = performance.now();
  const converter = new RecordConverter(output.sink, () => {
    watcher.progress(converter.summary, performance.now() - startMs);
  });
  try {
    await run(request, recorder, program, converter, output);
  } catch (error) {
    output.discard();
    throw error;
  }
  const { summary } = converter;
  if (summary.failure !== undefined) {
    output.discard();
    throw new UsageError("--", summary.failure, "a program that can be started");
  }
  output.sink.end(summary.tick);
  const sizeBytes = output.keep(headerOf(request, recorder, plain, endingNotes(summary)));
  for (const text of summary.notes) watcher.note(text);
  const elapsedMs = performance.now() - startMs;
  return { status: shellStatus(summary.status), sizeBytes, elapsedMs, summary };
}

async function plainRunOf(
  request: RecordRequest,
  recorder: Recorder,
  program: string,
  watcher: RecordWatcher,
): Promise<PlainRun | undefined> {
  if (request.nrPlainRuns === 0) return undefined;
  if (!isInputRepeatable()) {
    watcher.note(
      "no plain run: standard input is a pipe, read only once; give a file or </dev/null",
    );
    return undefined;
  }
  return plainRun({
    launcher: recorder.launcher,
    program,
    command: request.command,
    driver: request.driver,
    nrRuns: request.nrPlainRuns,
  });
}

/** Starts the launcher and takes in its stream until both end. */
async function run(
  request: RecordRequest,
  recorder: Recorder,
  program: string,
  converter: RecordConverter,
  output: RecordOutput,
): Promise<void> {
  const decoder = new RawStreamDecoder(converter);
  const child = spawn(
    recorder.launcher,
    [
      "record",
      String(request.intervalTicks),
      String(request.windowAccesses),
      String(request.sampleEvery),
      recorder.emulator,
      recorder.plugin,
      request.driver,
      program,
      ...request.command,
    ],
    { stdio: ["inherit", request.programOutput === "stderr" ? 2 : "inherit", "inherit", "pipe"] },
  );
  // The program gets the terminal's Ctrl-C itself; a signal to this process alone must reach it too.
  const stop = () => void child.kill("SIGTERM");
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  for (const signal of signals) process.on(signal, stop);
  const stream = child.stdio[3] as Readable;
  const damage: { error: Error | undefined } = { error: undefined };
  stream.on("data", (chunk: Buffer) => {
    try {
      if (damage.error === undefined) decoder.push(chunk);
    } catch (error) {
      damage.error = error instanceof Error ? error : new Error(String(error));
    }
    if (damage.error !== undefined || output.failure !== undefined) {
      stream.destroy();
      stop();
    }
  });
  try {
    await new Promise<void>((resolve, reject) => {
      child.on("error", reject);
      child.on("close", () => resolve());
    });
  } finally {
    for (const signal of signals) process.off(signal, stop);
  }
  if (damage.error !== undefined) throw damage.error;
}

function headerOf(
  request: RecordRequest,
  recorder: Recorder,
  plain: PlainRun | undefined,
  ending: readonly string[],
): TraceHeader {
  const isFull = request.windowAccesses > 0 && request.windowAccesses === request.sampleEvery;
  const order = request.windowAccesses === 0 ? "none" : isFull ? "full" : "windows";
  const cpu = cpus()[0]?.model ?? "unknown";
  const made = `recorded by qemu-x86_64 ${recorder.emulatorVersion} on Linux ${release()}, ${cpu}`;
  return {
    command: request.command,
    source: "qemu-plugin",
    has: { exactTouches: true, counts: true, order },
    ...(plain === undefined ? {} : { plainRun: plain }),
    notes: [made, ...ending].join("; "),
  };
}

/** What the reader of a recording should know of its end. */
function endingNotes(summary: RecordSummary): string[] {
  const notes = [...summary.notes];
  const { status } = summary;
  if (status === undefined) notes.push("ended early: the recorder was killed");
  else if (summary.wasAsked) notes.push("ended early: interrupted");
  if (status !== undefined && status >= 256) {
    notes.push(`the program died by ${signalName(status - 256)}`);
  }
  if (summary.nrUnexplained > 0) {
    notes.push(`${summary.nrUnexplained} pages used outside all known mappings were left out`);
  }
  return notes;
}

/** "SIGSEGV" for 11. */
export function signalName(number: number): string {
  const found = Object.entries(constants.signals).find(([, value]) => value === number);
  return found?.[0] ?? `signal ${number}`;
}

function shellStatus(status: number | undefined): number {
  if (status === undefined) return 128 + constants.signals.SIGKILL;
  return status >= 256 ? 128 + (status - 256) : status;
}
