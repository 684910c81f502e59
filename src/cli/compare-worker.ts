/**
 * The worker of a comparison: replays one recording under one setting and posts the outcome.
 *
 * Entry: this file, run as a worker thread with a WorkerJob as workerData. Posts WorkerMessages.
 */

import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { parentPort, workerData } from "node:worker_threads";
import { UsageError } from "../base/usage-error.ts";
import { createReplay, type SettingReplay } from "../lab/replay.ts";
import { END_BLOCK_BYTES, endTickOf } from "../trace/end-block.ts";
import type { WorkerFailure, WorkerJob, WorkerMessage } from "./compare-workers.ts";
import { chunkBytesOf, createReaderFor } from "./trace-format.ts";

/** Progress is worth a message only so often. */
const PROGRESS_STEP = 0.01;

function post(message: WorkerMessage): void {
  parentPort!.postMessage(message);
}

function run({ tracePath, traceName, format, request }: WorkerJob): void {
  const file = openSync(tracePath, "r");
  let replay: SettingReplay;
  try {
    const size = fstatSync(file).size;
    replay = createReplay(request, traceName, format === "hugelab" ? lengthOf(file, size) : null);
    const reader = createReaderFor(format, replay.sink, traceName);
    const chunk = new Uint8Array(chunkBytesOf(format));
    let nrRead = 0;
    let told = 0;
    for (let n = readSync(file, chunk); n > 0; n = readSync(file, chunk)) {
      reader.push(chunk.subarray(0, n));
      nrRead += n;
      if (nrRead / size - told >= PROGRESS_STEP) {
        told = nrRead / size;
        post({ type: "progress", share: told });
      }
    }
    reader.finish();
  } finally {
    closeSync(file);
  }
  post({ type: "done", outcome: replay.outcome() });
}

/** Ticks of a recording, as its last bytes say; null if they say nothing. */
function lengthOf(file: number, size: number): number | null {
  const tail = new Uint8Array(Math.min(size, END_BLOCK_BYTES));
  readSync(file, tail, 0, tail.length, size - tail.length);
  return endTickOf(tail);
}

function failureOf(error: unknown): WorkerFailure {
  if (error instanceof UsageError) {
    const { where, found, wanted, excerpt } = error;
    return { kind: "usage", where, found, wanted, excerpt };
  }
  const { message, stack } = error instanceof Error ? error : new Error(String(error));
  return { kind: "defect", message, stack };
}

try {
  run(workerData as WorkerJob);
} catch (error) {
  post({ type: "failed", failure: failureOf(error) });
}
