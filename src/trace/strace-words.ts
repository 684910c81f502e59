/**
 * What strace prints for arguments and results, as numbers.
 */

import { EINVAL, errnoName } from "../base/errno.ts";

/** Values of the words in memory calls' arguments. Words that change nothing here are left out and count as 0. */
const WORDS: Readonly<Record<string, number>> = {
  NULL: 0,
  PROT_NONE: 0,
  PROT_READ: 1,
  PROT_WRITE: 2,
  PROT_EXEC: 4,
  MAP_SHARED: 1,
  MAP_PRIVATE: 2,
  MAP_SHARED_VALIDATE: 3,
  MAP_FIXED: 0x10,
  MAP_ANONYMOUS: 0x20,
  MAP_LOCKED: 0x2000,
  MAP_NORESERVE: 0x4000,
  MAP_POPULATE: 0x8000,
  MAP_STACK: 0x20000,
  MAP_FIXED_NOREPLACE: 0x100000,
  MREMAP_MAYMOVE: 1,
  MREMAP_FIXED: 2,
  MREMAP_DONTUNMAP: 4,
  MADV_NORMAL: 0,
  MADV_RANDOM: 1,
  MADV_SEQUENTIAL: 2,
  MADV_WILLNEED: 3,
  MADV_DONTNEED: 4,
  MADV_FREE: 8,
  MADV_REMOVE: 9,
  MADV_DONTFORK: 10,
  MADV_DOFORK: 11,
  MADV_MERGEABLE: 12,
  MADV_UNMERGEABLE: 13,
  MADV_HUGEPAGE: 14,
  MADV_NOHUGEPAGE: 15,
  MADV_DONTDUMP: 16,
  MADV_DODUMP: 17,
  MADV_WIPEONFORK: 18,
  MADV_KEEPONFORK: 19,
  MADV_COLD: 20,
  MADV_PAGEOUT: 21,
  MADV_POPULATE_READ: 22,
  MADV_POPULATE_WRITE: 23,
  MADV_DONTNEED_LOCKED: 24,
  MADV_COLLAPSE: 25,
  MLOCK_ONFAULT: 1,
  PR_SET_THP_DISABLE: 41,
};

/** Numbers of the signals that end programs, by name. */
const SIGNALS: Readonly<Record<string, number>> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGILL: 4,
  SIGTRAP: 5,
  SIGABRT: 6,
  SIGBUS: 7,
  SIGFPE: 8,
  SIGKILL: 9,
  SIGUSR1: 10,
  SIGSEGV: 11,
  SIGUSR2: 12,
  SIGPIPE: 13,
  SIGALRM: 14,
  SIGTERM: 15,
  SIGXCPU: 24,
  SIGXFSZ: 25,
  SIGSYS: 31,
};

/** The signal's number; SIGKILL's for names not known here. */
export function signalNumber(name: string): number {
  return SIGNALS[name] ?? 9;
}

/** An argument such as "0x1000", "4096", "NULL", "PROT_READ|PROT_WRITE", "AT_FDCWD"; unknown words count as 0. */
export function argumentNumber(text: string): number {
  let value = 0;
  for (const word of text.replace(/\/\*.*?\*\//g, "").split("|")) {
    const trimmed = word.trim();
    const number = /^-?(?:0x[0-9a-f]+|\d+)$/.test(trimmed) ? Number(trimmed) : WORDS[trimmed];
    value += Number.isSafeInteger(number) ? (number ?? 0) : 0;
  }
  return value;
}

/** Arguments at the top level: commas within quotes, brackets and braces do not separate. */
export function splitArguments(text: string): readonly string[] {
  const found: string[] = [];
  let depth = 0;
  let isQuoted = false;
  let from = 0;
  for (let at = 0; at < text.length; at++) {
    const c = text[at];
    if (isQuoted) {
      if (c === "\\") at++;
      else if (c === '"') isQuoted = false;
    } else if (c === '"') isQuoted = true;
    else if (c === "[" || c === "{" || c === "(") depth++;
    else if (c === "]" || c === "}" || c === ")") depth--;
    else if (c === "," && depth === 0) {
      found.push(text.slice(from, at).trim());
      from = at + 1;
    }
  }
  found.push(text.slice(from).trim());
  return found;
}

/** The text in quotes, its usual escapes undone; undefined if there is none. */
export function quotedText(argument: string): string | undefined {
  const match = /^"((?:[^"\\]|\\.)*)"/.exec(argument);
  return match?.[1].replace(/\\(["\\])/g, "$1");
}

/** "0x7f00", "3", "-1 ENOMEM (Cannot allocate memory)"; undefined for "?". */
export function resultNumber(text: string): number | undefined {
  const failed = /^-1 (E\w+)/.exec(text);
  if (failed !== null) return -errnoNumber(failed[1]);
  const match = /^(?:0x[0-9a-f]+|\d+)/.exec(text);
  return match === null ? undefined : Number(match[0]);
}

/** EINVAL for names that base/errno.ts does not have. */
function errnoNumber(name: string): number {
  for (let errno = 1; errno <= 133; errno++) if (errnoName(errno) === name) return errno;
  return EINVAL;
}
