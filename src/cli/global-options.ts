/**
 * Options that several commands share, declared once so that they read the same everywhere.
 */

import type { Command } from "commander";
import { oneOf } from "../base/nearest.ts";
import { findConfig, readConfig } from "./config-file.ts";
import { PLAIN_OPTIONS, type Sources, strangeVariables } from "./resolve.ts";
import { type GlobalOptions, type Terminal, terminalFor } from "./terminal.ts";
import { TRACE_FORMATS } from "./trace-format.ts";

export type { GlobalOptions };

/** The machine to replay on. */
export function addMachineOptions(command: Command): Command {
  return command
    .option("--mem <size>", "memory of the machine, e.g. 16g")
    .option("--cpus <n>", "CPUs of the machine")
    .option("--profile <name>", "kernel whose behaviour is simulated: see `list profiles`")
    .option("--geometry <name>", "TLB geometry: see `list geometries`; default: this CPU's")
    .option(
      "--translation <how>",
      "auto (this CPU's), native, nested, nested:4k, nested:2m or nested:1g",
    )
    .option("--costs <table>", "file of `calibrate --json` or builtin:NAME")
    .option("--seed <n>", "seed of everything random");
}

/** How the result is printed. */
export function addReportOptions(command: Command): Command {
  return command
    .option("--format <form>", FORMATS.join(", "), parseFormat)
    .option("--json", "one versioned JSON document; the same as --format json")
    .option("-o, --output <file>", "write there instead of stdout; - is stdout")
    .option("--bytes", "sizes as exact numbers of bytes");
}

/** Help of --from. */
export const FROM_HELP = `form of the recording: ${TRACE_FORMATS.join(", ")}; default: by its first bytes`;

export const FORMATS = ["table", "md", "html", "json", "ndjson"] as const;
export type Format = (typeof FORMATS)[number];

/** Collects the values of a repeatable option. */
export function collect(value: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), value];
}

/** The terminal as the global options want it. */
export function terminalOf(command: Command): Terminal {
  return terminalFor(command.optsWithGlobals<GlobalOptions>());
}

/** Flags, environment and hugelab.yaml; warns of variables that are probably misspelt. */
export function sourcesOf(flags: Readonly<Record<string, unknown>>, terminal: Terminal): Sources {
  const path = findConfig(process.cwd());
  const config = path === undefined ? undefined : readConfig(path, process.cwd(), PLAIN_OPTIONS);
  for (const sentence of strangeVariables(process.env)) terminal.note(sentence);
  return { flags, env: process.env, config };
}

function parseFormat(text: string): Format {
  return text === "markdown" ? "md" : oneOf(text, FORMATS, "--format");
}
