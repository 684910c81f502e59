/**
 * `hugelab compare -- CMD`: records the program into a temporary file with the defaults of `record`.
 *
 * Entry: recordForCompare. Holds: the recording is removed when the comparison ends.
 */

import { join } from "node:path";
import type { Cleanup } from "./cleanup.ts";
import { type RecordRequest, recordProgram } from "./record-run.ts";
import type { Terminal } from "./terminal.ts";
import type { TraceInput } from "./trace-input.ts";

/** As `hugelab record` without options: windows of 200 000 accesses, one fiftieth of all; three plain runs. */
const DEFAULTS: Omit<RecordRequest, "command" | "output"> = {
  driver: "",
  nrPlainRuns: 3,
  intervalTicks: 0,
  windowAccesses: 200_000,
  sampleEvery: 10_000_000,
  programOutput: "stderr",
};

/** Runs the program under the recorder; its own output goes to stderr, since stdout is for the report. */
export async function recordForCompare(
  command: readonly string[],
  cleanup: Cleanup,
  terminal: Terminal,
): Promise<TraceInput> {
  const path = join(cleanup.temporaryFolder(), "program.hlt");
  const startMs = performance.now();
  const progress = terminal.startProgress("record");
  const { status } = await recordProgram(
    { ...DEFAULTS, command, output: path },
    {
      note: (text) => terminal.note(text),
      progress: ({ nrAccesses }) => {
        const seconds = (performance.now() - startMs) / 1000;
        // How long the program will run is not known: the bar stays empty, the counts move.
        progress.update(0, `${(nrAccesses / 1e6).toFixed(0)} M accesses, ${seconds.toFixed(0)} s`);
      },
    },
  ).finally(() => progress.end());
  if (status !== 0) terminal.note(`the program ended with status ${status}`);
  return { path, name: command[0].split("/").at(-1)!, format: "hugelab" };
}
