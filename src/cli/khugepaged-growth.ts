/**
 * `hugelab khugepaged-growth`: memory that was given back and comes again by khugepaged, on the model and on this kernel.
 *
 * Entry: registerKhugepagedGrowth. On the kernel it is a scenario like any other: knobs are restored, the daemon is woken for it.
 */

import type { Command } from "commander";
import { parseInteger } from "../base/units.ts";
import type { GrowthRequest, GrowthRun } from "../lab/khugepaged-growth.ts";
import { MOMENTS, runGrowth } from "../lab/khugepaged-growth.ts";
import type { Backend } from "../scenario/backend.ts";
import { createModelBackend } from "../scenario/model-backend.ts";
import { wantsExamples } from "./examples.ts";
import { collect, terminalOf } from "./global-options.ts";
import { createKernelBackend, type KernelBackend } from "./kernel-backend.ts";
import { NotPossibleHere } from "./not-possible.ts";
import type { Terminal } from "./terminal.ts";

interface GrowthOptions {
  readonly size: string;
  readonly keep: string;
  readonly rounds: string;
  readonly maxPtesNone?: readonly string[];
  readonly native: boolean;
  readonly json?: boolean;
}

const EXAMPLES = `
Examples:
  hugelab khugepaged-growth                       max_ptes_none of 511, 64 and 0, here and on the model
  hugelab khugepaged-growth --keep 480 --max-ptes-none 31 --max-ptes-none 32
  hugelab khugepaged-growth --no-native           the model only: needs no root
`;

const MIB_PER_REGION = 2;
const MOST_MIB = 256;
const BY_DEFAULT = ["511", "64", "0"];

/** Adds the command to the program. */
export function registerKhugepagedGrowth(program: Command): void {
  program
    .command("khugepaged-growth")
    .summary("memory given back that khugepaged fills again, on the model and on this kernel")
    .description(
      "An allocator fills an arena of huge pages, gives most of each back with MADV_DONTNEED, and khugepaged looks at what is " +
        "left: with max_ptes_none=511 it fills the holes with zeroes and memory is as large as before, with 0 it lets them be. " +
        "Prints resident memory at each moment as the model and this kernel have it, and what is given back but not yet split.",
    )
    .option("--size <MiB>", "the arena", "32")
    .option("--keep <pages>", "pages of each 2 MiB that stay in use", "32")
    .option("--rounds <n>", "how often it is filled and given back", "2")
    .option("--max-ptes-none <n>", "a limit to try; may be repeated; default: 511, 64, 0", collect)
    .option("--no-native", "only the model")
    .option("--json", "print one JSON document")
    .addHelpText("after", ({ command: c }) => (wantsExamples(c) ? EXAMPLES : ""))
    .action(khugepagedGrowth);
}

/** One limit on both. */
interface Tried {
  readonly maxPtesNone: number;
  readonly model: GrowthRun;
  readonly kernel: GrowthRun | null;
}

async function khugepagedGrowth(options: GrowthOptions, command: Command): Promise<void> {
  const terminal = terminalOf(command);
  const request = {
    nrRegions: Math.ceil(parseInteger(options.size, 2, MOST_MIB, "--size") / MIB_PER_REGION),
    nrKept: parseInteger(options.keep, 1, 511, "--keep"),
    nrRounds: parseInteger(options.rounds, 1, 10, "--rounds"),
  };
  const limits = (options.maxPtesNone ?? BY_DEFAULT).map((text) =>
    parseInteger(text, 0, 511, "--max-ptes-none"),
  );
  const kernel = options.native ? openKernel(terminal) : null;
  try {
    const tried = limits.map((maxPtesNone) => tryLimit({ ...request, maxPtesNone }, kernel));
    if (options.json === true) {
      const document = { schema: "hugelab.khugepaged-growth", version: 1, ...request, tried };
      await terminal.print(`${JSON.stringify(document, null, 2)}\n`);
    } else await terminal.print(report(request, tried));
  } finally {
    kernel?.close();
  }
}

/** Null, with a note, where it cannot be had. */
function openKernel(terminal: Terminal): KernelBackend | null {
  try {
    return createKernelBackend();
  } catch (error) {
    if (!(error instanceof NotPossibleHere)) throw error;
    terminal.note(`no native run: ${error.message}`);
    return null;
  }
}

/** A run on the kernel that others disturbed says nothing. */
const MOST_DISTURBED = 5;

function tryLimit(request: GrowthRequest, kernel: KernelBackend | null): Tried {
  const { maxPtesNone } = request;
  const model: Backend = createModelBackend({ checkEvery: 0 });
  return { maxPtesNone, model: runGrowth(request, model), kernel: runHere(request, kernel) };
}

function runHere(request: GrowthRequest, kernel: KernelBackend | null): GrowthRun | null {
  if (kernel === null) return null;
  for (let nr = 0; nr < MOST_DISTURBED; nr++) {
    const run = runGrowth(request, kernel);
    if (!kernel.wasDisturbed()) return run;
  }
  throw new NotPossibleHere(
    "other programs disturbed every run on the kernel",
    "try again in a quiet moment",
  );
}

/** A block of rows for each moment, a pair of columns for each limit. */
function report(request: Omit<GrowthRequest, "maxPtesNone">, tried: readonly Tried[]): string {
  const columns = tried.flatMap(({ model, kernel }) =>
    kernel === null ? [model] : [model, kernel],
  );
  const heads = tried.flatMap(({ maxPtesNone, kernel }) =>
    kernel === null ? [`${maxPtesNone}`] : [`${maxPtesNone} model`, "here"],
  );
  const rows = [["max_ptes_none", ...heads]];
  for (let round = 1; round <= request.nrRounds; round++)
    for (const [i, moment] of MOMENTS.entries()) {
      const at = (round - 1) * MOMENTS.length + i;
      rows.push([
        `round ${round}, ${moment}`,
        ...columns.map((run) => mib(run.points[at].rssBytes)),
      ]);
      rows.push(["  huge", ...columns.map((run) => mib(run.points[at].hugeBytes))]);
      rows.push(["  not yet split", ...columns.map((run) => mib(run.points[at].notYetSplitBytes))]);
    }
  rows.push(["regions collapsed", ...columns.map((run) => String(run.regionsCollapsed))]);
  const sizeMib = request.nrRegions * MIB_PER_REGION;
  return [
    `Resident memory in MiB of an arena of ${sizeMib} MiB; ${request.nrKept} pages of each 2 MiB stay in use.`,
    "",
    aligned(rows),
    "not yet split: given back by the program, and kept as part of a huge page of which something is in use.",
    "",
  ].join("\n");
}

function mib(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(1);
}

function aligned(rows: readonly (readonly string[])[]): string {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const line = (row: readonly string[]) =>
    row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join("  ");
  return `${rows.map(line).join("\n")}\n`;
}
