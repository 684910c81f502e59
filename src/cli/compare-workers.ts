/**
 * Replays in worker threads: one setting each, as many at a time as there are CPUs.
 *
 * Entry: replayInWorkers. Protocol: WorkerJob in, WorkerMessage out.
 * Holds: results come in the order of the settings; the first failure stops all workers; so does the cleanup.
 */

import { Worker } from "node:worker_threads";
import { AssertionFailure } from "../base/assert.ts";
import { type Excerpt, UsageError } from "../base/usage-error.ts";
import type { ReplayOutcome, ReplayRequest } from "../lab/replay.ts";
import type { Cleanup } from "./cleanup.ts";
import { NotPossibleHere } from "./not-possible.ts";
import type { TraceFormat } from "./trace-format.ts";

/** What one worker does: plain data, as workerData. */
export interface WorkerJob {
  /** A regular file: each worker reads it for itself. */
  readonly tracePath: string;
  /** As the user named it, for messages. */
  readonly traceName: string;
  readonly format: TraceFormat;
  readonly request: ReplayRequest;
}

export type WorkerMessage =
  /** Bytes of the file read so far. */
  | { readonly type: "progress"; readonly share: number }
  | { readonly type: "done"; readonly outcome: ReplayOutcome }
  | { readonly type: "failed"; readonly failure: WorkerFailure };

/** An error of a worker as data; classes do not survive the way between threads. */
export type WorkerFailure =
  | {
      readonly kind: "usage";
      readonly where: string;
      readonly found: string;
      readonly wanted: string;
      readonly excerpt: Excerpt | undefined;
    }
  | {
      readonly kind: "defect";
      readonly message: string;
      readonly stack: string | undefined;
    };

export interface WorkerRun {
  readonly jobs: readonly WorkerJob[];
  readonly nrWorkers: number;
  readonly cleanup: Cleanup;
  /** Share 0..1 of job `index` done. */
  readonly onProgress: (index: number, share: number) => void;
  /** Called once per job, in the order of jobs. */
  readonly onOutcome: (index: number, outcome: ReplayOutcome) => Promise<void> | void;
}

/** Runs all jobs. Throws what the first failing worker threw. */
export async function replayInWorkers(run: WorkerRun): Promise<void> {
  const running = new Set<Worker>();
  const stopAll = async () => {
    await Promise.all([...running].map((worker) => worker.terminate()));
  };
  run.cleanup.add(stopAll);

  const outcomes: (ReplayOutcome | undefined)[] = run.jobs.map(() => undefined);
  let nextJob = 0;
  let nextReported = 0;
  const lane = async () => {
    for (let index = nextJob++; index < run.jobs.length; index = nextJob++) {
      outcomes[index] = await runJob(run, index, running);
      while (outcomes[nextReported] !== undefined) {
        const reported = nextReported++;
        await run.onOutcome(reported, outcomes[reported]!);
      }
    }
  };
  try {
    const nrLanes = Math.max(1, Math.min(run.nrWorkers, run.jobs.length));
    await Promise.all(Array.from({ length: nrLanes }, lane));
  } finally {
    nextJob = run.jobs.length;
    await stopAll();
  }
}

function runJob(run: WorkerRun, index: number, running: Set<Worker>): Promise<ReplayOutcome> {
  const script = new URL("./compare-worker.mjs", import.meta.url);
  return new Promise((resolve, reject) => {
    const worker = new Worker(script, { workerData: run.jobs[index] });
    running.add(worker);
    worker.on("message", (message: WorkerMessage) => {
      if (message.type === "progress") run.onProgress(index, message.share);
      else if (message.type === "done") resolve(message.outcome);
      else reject(errorOf(message.failure));
    });
    worker.on("error", (error) => reject(workerError(error)));
    worker.on("exit", () => {
      running.delete(worker);
      reject(new AssertionFailure("a replay worker ended without a result"));
    });
  });
}

function errorOf(failure: WorkerFailure): Error {
  if (failure.kind === "usage") {
    const { where, found, wanted, excerpt } = failure;
    return new UsageError(where, found, wanted, excerpt);
  }
  const error = new AssertionFailure(failure.message);
  if (failure.stack !== undefined) error.stack = failure.stack;
  return error;
}

function workerError(error: Error): Error {
  const isMemory = (error as NodeJS.ErrnoException).code === "ERR_WORKER_OUT_OF_MEMORY";
  if (!isMemory) return error;
  return new NotPossibleHere(
    "a replay needs more memory than there is",
    "try --jobs 1 or a smaller --mem",
  );
}
