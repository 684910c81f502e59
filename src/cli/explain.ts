/**
 * `hugelab explain`: why memory of a replay is not huge at a moment of it.
 *
 * Entry: registerExplain.
 */

import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import type { Command } from "commander";
import type { Addr } from "../base/address.ts";
import { formatNs, parseDuration } from "../base/units.ts";
import { UsageError } from "../base/usage-error.ts";
import { createExplainer, type Explanation, MomentReached } from "../lab/explain.ts";
import { explanationText } from "../lab/explain-table.ts";
import type { ReplayRequest } from "../lab/replay.ts";
import { END_BLOCK_BYTES, endTickOf } from "../trace/end-block.ts";
import { withCleanup } from "./cleanup.ts";
import { wantsExamples } from "./examples.ts";
import { experimentFor, parseGeometry } from "./experiment.ts";
import { addMachineOptions, collect, FROM_HELP, sourcesOf, terminalOf } from "./global-options.ts";
import { resolveMachine, resolveReplaySetting } from "./resolve.ts";
import { chunkBytesOf, createReaderFor } from "./trace-format.ts";
import { openTraceInput, type TraceInput } from "./trace-input.ts";

interface ExplainOptions {
  readonly at: string;
  readonly addr?: string;
  readonly from?: string;
  readonly json?: boolean;
}

const EXAMPLES = `
Examples:
  hugelab explain redis.hlt --at 500ms --preset always
  hugelab explain redis.hlt --at 2s --addr 0x7f0012345678 --json
`;

/** Adds the command to the program. */
export function registerExplain(program: Command): void {
  const command = program
    .command("explain")
    .summary("why memory of a replay is not huge, window by window")
    .description(
      "Replays a recording up to a moment and says of each 2 MiB window whether it may be huge, is huge, and why not.",
    )
    .argument("<trace>", "a recording; - is stdin")
    .requiredOption("--at <time>", "the moment, as virtual time from the start, such as 500ms")
    .option("--addr <address>", "only the window of this address")
    .option("--from <form>", FROM_HELP)
    .option("--preset <name>", "start from never, madvise, always, always+defrag or 64kB")
    .option("--set <knob=value>", "set a knob; may be repeated", collect)
    .option("--json", "one document, hugelab.explain version 1");
  addMachineOptions(command)
    .addHelpText("after", ({ command: c }) => (wantsExamples(c) ? EXAMPLES : ""))
    .action(explain);
}

async function explain(trace: string, options: ExplainOptions, command: Command): Promise<void> {
  const terminal = terminalOf(command);
  const at = { ns: parseDuration(options.at, "--at"), address: parseAddress(options.addr) };
  const sources = sourcesOf(command.opts(), terminal);
  const { setting } = resolveReplaySetting(sources);
  const { machine, geometry, mode, costs } = experimentFor(resolveMachine(sources, parseGeometry));
  const request = { setting, machine, geometry, mode, costs };
  const explanation = await withCleanup(async (cleanup) =>
    readUntil(await openTraceInput(trace, options.from, cleanup), request, at),
  );
  await terminal.print(
    options.json === true
      ? `${JSON.stringify(explanation, null, 2)}\n`
      : explanationText(explanation),
  );
}

/** Null if none was asked for. */
function parseAddress(text: string | undefined): Addr | null {
  if (text === undefined) return null;
  const address = /^(0x[0-9a-f]+|\d+)$/i.test(text) ? Number(text) : Number.NaN;
  if (!(address < 2 ** 47))
    throw new UsageError("--addr", text, "a user address such as 0x7f0012345678");
  return address;
}

/** Reads no further than the moment. */
function readUntil(
  input: TraceInput,
  request: ReplayRequest,
  at: { readonly ns: number; readonly address: Addr | null },
): Explanation {
  const file = openSync(input.path, "r");
  try {
    const nrTicks = input.format === "hugelab" ? lengthOf(file) : null;
    const sink = createExplainer(request, input.name, nrTicks, at);
    const reader = createReaderFor(input.format, sink, input.name);
    const chunk = new Uint8Array(chunkBytesOf(input.format));
    for (let n = readSync(file, chunk); n > 0; n = readSync(file, chunk))
      reader.push(chunk.subarray(0, n));
    reader.finish();
    const end = formatNs(sink.nrTicks * sink.clock.nsPerTick);
    throw new UsageError("--at", formatNs(at.ns), `a moment before the recording's end, ${end}`);
  } catch (error) {
    if (error instanceof MomentReached) return error.explanation;
    throw error;
  } finally {
    closeSync(file);
  }
}

/** Ticks of a recording, as its last bytes say; null if they say nothing. */
function lengthOf(file: number): number | null {
  const { size } = fstatSync(file);
  const tail = new Uint8Array(Math.min(size, END_BLOCK_BYTES));
  readSync(file, tail, 0, tail.length, size - tail.length);
  return endTickOf(tail);
}
