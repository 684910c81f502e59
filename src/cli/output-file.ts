/**
 * Results go to a file whole or not at all: written under a temporary name beside the target, then renamed.
 *
 * Entry: checkOutput before the work, writeOutput after it. Holds: a failed or interrupted write leaves the target as it was and no temporary file.
 */

import {
  accessSync,
  closeSync,
  constants,
  fsyncSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname } from "node:path";
import { NotPossibleHere } from "./not-possible.ts";
import type { Terminal } from "./terminal.ts";

/** Throws NotPossibleHere if `path` could not be written now: better said before minutes of work than after. */
export function checkOutput(path: string | undefined): void {
  if (path === undefined || path === "-") return;
  try {
    if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) {
      throw Object.assign(new Error(), { code: "EISDIR" });
    }
    accessSync(isSpecialFile(path) ? path : dirname(path), constants.W_OK);
  } catch (error) {
    throw cannotWrite(path, error);
  }
}

/** Writes `text` to `path`, or to stdout if it is "-". Throws NotPossibleHere if the file cannot be written. */
export async function writeOutput(terminal: Terminal, path: string, text: string): Promise<void> {
  if (path === "-") return terminal.print(text);
  try {
    if (isSpecialFile(path)) writeFileSync(path, text);
    else replaceFile(path, text);
  } catch (error) {
    throw cannotWrite(path, error);
  }
}

/** A device or a pipe must be written to; a rename would put a file in its place. */
function isSpecialFile(path: string): boolean {
  const stat = statSync(path, { throwIfNoEntry: false });
  return stat !== undefined && !stat.isFile();
}

function replaceFile(path: string, text: string): void {
  const temporary = temporaryName(path);
  try {
    const file = openSync(temporary, "w");
    try {
      writeFileSync(file, text);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}

/** A name beside `path` that no other process uses. */
function temporaryName(path: string): string {
  return `${path}.tmp-${process.pid}`;
}

function cannotWrite(path: string, error: unknown): Error {
  const { code } = error as NodeJS.ErrnoException;
  const reasons: Readonly<Record<string, string>> = {
    ENOENT: "its folder does not exist",
    EACCES: "permission denied",
    EPERM: "permission denied",
    EROFS: "the file system is read-only",
    EISDIR: "it is a folder",
    ENOSPC: "the disk is full",
    EDQUOT: "the disk quota is used up",
  };
  const reason = code === undefined ? undefined : reasons[code];
  if (reason === undefined) return error as Error;
  return new NotPossibleHere(`${path} cannot be written: ${reason}`, "name another file");
}
