/**
 * From any error to an exit status and the lines that say it: the one place where statuses are decided.
 *
 * 0 fine, 1 a finding, 2 the user's mistake, 3 not possible here, 4 our own defect.
 */

import { CommanderError } from "commander";
import { AssertionFailure } from "../base/assert.ts";
import { UsageError } from "../base/usage-error.ts";
import { NotPossibleHere } from "./not-possible.ts";

export interface Failure {
  readonly status: number;
  /** For stderr; empty if there is nothing to say. */
  readonly text: string;
}

/** A defect of ours met while running something that can be run again. */
export class DefectFound extends Error {
  override readonly name = "DefectFound";
  readonly seed: number;
  /** The command that meets the defect again. */
  readonly command: string;

  constructor(message: string, seed: number, command: string, stack: string | undefined) {
    super(message);
    this.seed = seed;
    this.command = command;
    if (stack !== undefined) this.stack = stack;
  }
}

/** `error` with the command that meets it again, if it is a defect; any other error as it is. */
export function withReplayCommand(error: unknown, seed: number, command: string): unknown {
  if (!(error instanceof AssertionFailure)) return error;
  return new DefectFound(error.message, seed, command, error.stack);
}

/** Errors of the operating system that a user causes by naming a wrong file. */
const FILE_MISTAKES: Readonly<Record<string, string>> = {
  ENOENT: "no such file",
  ENOTDIR: "a part of the path is not a folder",
  EISDIR: "is a folder",
  ENAMETOOLONG: "the name is too long",
};

/** Errors of the operating system about what this host allows. */
const HOST_LIMITS: Readonly<Record<string, string>> = {
  EACCES: "permission denied",
  EPERM: "permission denied",
  ENOSPC: "the disk is full",
  EMFILE: "too many open files",
  ENOMEM: "not enough memory",
};

export function failureOf(error: unknown): Failure {
  if (error instanceof CommanderError) return commanderFailure(error);
  if (error instanceof UsageError) return { status: 2, text: usageText(error) };
  if (error instanceof NotPossibleHere) return { status: 3, text: line(error.message) };
  if (error instanceof DefectFound) return { status: 4, text: defectText(error) };
  if (error instanceof AssertionFailure) return { status: 4, text: unexpectedText(error) };
  return systemFailure(error) ?? { status: 4, text: unexpectedText(error) };
}

/** One line, and under it the place where the mistake is. */
function usageText({ message, excerpt }: UsageError): string {
  if (excerpt === undefined) return line(message);
  // A caret under a text of several lines would point nowhere.
  if (/[\r\n\t]/.test(excerpt.text)) return line(message);
  return `${line(message)}  ${excerpt.text}\n  ${" ".repeat(excerpt.column)}^\n`;
}

function commanderFailure({ exitCode, message }: CommanderError): Failure {
  if (exitCode === 0) return { status: 0, text: "" };
  const text = message
    .replace(/^error: /, "")
    .replace(/\s*\(Did you mean (?:one of )?(.*?)\?\)/s, "; did you mean $1?");
  return { status: 2, text: line(text) };
}

function systemFailure(error: unknown): Failure | undefined {
  if (!(error instanceof Error) || !("code" in error)) return undefined;
  const { code, path } = error as NodeJS.ErrnoException;
  const where = path ?? "system";
  const mistake = FILE_MISTAKES[code!];
  if (mistake !== undefined) return { status: 2, text: line(`${where}: ${mistake}`) };
  const limit = HOST_LIMITS[code!];
  return limit === undefined ? undefined : { status: 3, text: line(`${where}: ${limit}`) };
}

function defectText({ message, seed, command, stack }: DefectFound): string {
  return (
    `${line(`a defect of hugelab: ${message} (seed ${seed})`)}${line(`again with: ${command}`)}` +
    `${stackLines(stack)}`
  );
}

function unexpectedText(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return `${line(`a defect of hugelab: ${message}`)}${stackLines(error instanceof Error ? error.stack : undefined)}`;
}

function stackLines(stack: string | undefined): string {
  const calls = (stack ?? "").split("\n").filter((text) => /^\s+at /.test(text));
  return calls.length === 0 ? "" : `${calls.slice(0, 12).join("\n")}\n`;
}

function line(text: string): string {
  return `hugelab: ${text.replace(/\s*\n\s*/g, " ")}\n`;
}
