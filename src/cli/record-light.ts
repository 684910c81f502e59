/**
 * Records a program at nearly full speed: its page faults and memory calls, by perf.
 *
 * Entry: recordLight.
 * Owns:  a temporary folder with perf's data.
 * Holds: huge pages are off while the program runs, so that every first touch of a page is a fault of its own. There are no
 *        counts and no order of accesses; pages that the kernel maps around a file fault are not seen.
 * Errors: UsageError, NotPossibleHere.
 */

import { spawn, spawnSync } from "node:child_process";
import { accessSync, existsSync, constants as fsConstants, mkdtempSync, rmSync } from "node:fs";
import { cpus, release, constants as systemConstants, tmpdir } from "node:os";
import { join } from "node:path";
import { createPerfScriptImporter } from "../trace/perf-script.ts";
import type { TraceHeader, TraceSink } from "../trace/trace-sink.ts";
import { NotPossibleHere } from "./not-possible.ts";
import { RecordOutput } from "./record-output.ts";
import { isInputRepeatable, plainRun } from "./record-plain.ts";
import { findLauncher, findProgram, inPath } from "./record-program.ts";
import type { RecordWatcher } from "./record-run.ts";

/** What to record. */
export interface LightRequest {
  readonly command: readonly string[];
  readonly output: string;
  readonly nrPlainRuns: number;
}

export interface LightResult {
  /** As a shell calls it. */
  readonly status: number;
  readonly sizeBytes: number;
  readonly elapsedMs: number;
}

const CALLS = ["mmap", "munmap", "mremap", "brk", "madvise", "mprotect"];
const FIELDS = "comm,pid,tid,time,event,addr,trace";
const TRACING = "/sys/kernel/tracing/events/exceptions/page_fault_user/id";

/** Records `request.command` into `request.output`. */
export async function recordLight(
  request: LightRequest,
  watcher: RecordWatcher,
): Promise<LightResult> {
  const program = findProgram(request.command[0]);
  const launcher = findLauncher();
  const perf = inPath("perf");
  if (perf === undefined) {
    throw new NotPossibleHere(
      "--light needs perf, which is not installed",
      'install Debian\'s package "linux-perf"',
    );
  }
  const output = new RecordOutput(request.output);
  if (request.nrPlainRuns > 0 && !isInputRepeatable()) {
    watcher.note(
      "no plain run: standard input is a pipe, read only once; give a file or </dev/null",
    );
  }
  const { command, nrPlainRuns } = request;
  const plain = isInputRepeatable()
    ? await plainRun({ launcher, program, command, driver: "", nrRuns: nrPlainRuns })
    : undefined;
  const folder = mkdtempSync(join(tmpdir(), "hugelab-light-"));
  try {
    const startMs = performance.now();
    const data = join(folder, "perf.data");
    const status = await runUnderPerf(launcher, perf, data, [program, ...command.slice(1)]);
    const elapsedMs = performance.now() - startMs;
    if (!existsSync(data)) {
      throw new NotPossibleHere(
        "perf recorded nothing",
        "run as root, or lower kernel.perf_event_paranoid to 1",
      );
    }
    const notes = [`recorded by perf on Linux ${release()}, ${cpus()[0]?.model ?? "unknown"}`];
    if (!hasTracepoints()) notes.push("without tracepoints: reads and writes are not told apart");
    const fields = {
      command,
      source: "perf" as const,
      notes: notes.join("; "),
      ...(plain === undefined ? {} : { plainRun: plain }),
    };
    const header = await convert(perf, data, output, fields);
    return { status, sizeBytes: output.keep(header), elapsedMs };
  } catch (error) {
    output.discard();
    throw error;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Tracepoints say whether a fault was a read or a write, and show the calls. */
export function hasTracepoints(): boolean {
  try {
    accessSync(TRACING, fsConstants.R_OK);
    return true;
  } catch {
    return false;
  }
}

function events(): string[] {
  if (!hasTracepoints()) return ["-e", "page-faults:u"];
  const calls = CALLS.flatMap((name) => [
    `syscalls:sys_enter_${name}`,
    `syscalls:sys_exit_${name}`,
  ]);
  return ["-e", "exceptions:page_fault_user", "-e", calls.join(",")];
}

/** Runs the program to its end; its status. Ctrl-C ends the program, and perf keeps what it has. */
async function runUnderPerf(
  launcher: string,
  perf: string,
  data: string,
  command: readonly string[],
): Promise<number> {
  const args = ["exec", perf, "perf", "record", "-q", "-d", "-c", "1", "-o", data];
  const child = spawn(launcher, [...args, ...events(), "--", ...command], { stdio: "inherit" });
  const stop = () => void child.kill("SIGINT");
  const signals = ["SIGINT", "SIGTERM"] as const;
  for (const signal of signals) process.on(signal, stop);
  try {
    return await new Promise<number>((resolve, reject) => {
      child.on("error", reject);
      child.on("close", (code, signal) => {
        resolve(code ?? 128 + (signal === null ? 0 : systemConstants.signals[signal]));
      });
    });
  } finally {
    for (const signal of signals) process.off(signal, stop);
  }
}

/** Reads perf's data into the output; the header that was written. */
async function convert(
  perf: string,
  data: string,
  output: RecordOutput,
  fields: Pick<TraceHeader, "command" | "source" | "notes" | "plainRun">,
): Promise<TraceHeader> {
  let header: TraceHeader | undefined;
  const sink = withBegin(output.sink, (imported) => {
    header = { ...imported, ...fields };
    output.begin(header);
  });
  const importer = createPerfScriptImporter(sink, "perf script");
  const child = spawn(
    perf,
    ["script", "-i", data, "-F", FIELDS, "--show-mmap-events", "--show-task-events"],
    { stdio: ["ignore", "pipe", "ignore"] },
  );
  for await (const chunk of child.stdout) importer.push(chunk as Buffer);
  importer.finish();
  if (header === undefined) {
    const missing = spawnSync(perf, ["--version"]).error !== undefined;
    throw new NotPossibleHere(
      missing ? "perf cannot be started" : "perf script gave nothing",
      "try `perf script` by hand",
    );
  }
  return header;
}

/** `sink` with another `begin`. */
function withBegin(sink: TraceSink, begin: (header: TraceHeader) => void): TraceSink {
  return new Proxy(sink, {
    get: (target, name) => {
      if (name === "begin") return begin;
      const method = target[name as keyof TraceSink];
      return method.bind(target);
    },
  });
}
