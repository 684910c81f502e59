/**
 * What recording needs on this host, found before anything is started: the program, the emulator, the recorder.
 *
 * Entry: findProgram, findRecorder.
 * Errors: UsageError for a command that cannot be started; NotPossibleHere for what is not installed and for programs
 *         that are not x86-64 Linux's.
 */

import { spawnSync } from "node:child_process";
import { accessSync, closeSync, constants, openSync, readSync, statSync } from "node:fs";
import { delimiter, join } from "node:path";
import { UsageError } from "../base/usage-error.ts";
import { nativePlugin, nativeProgram } from "./native-build.ts";
import { NotPossibleHere } from "./not-possible.ts";

/** The pieces of the recorder. */
export interface Recorder {
  readonly launcher: string;
  readonly plugin: string;
  readonly emulator: string;
  /** For the recording's notes. */
  readonly emulatorVersion: string;
}

const MOST_SCRIPTS = 4;
const HEAD_SIZE = 512;
const EM_X86_64 = 62;

/** Path of the program a shell would start for `name`, known to be an x86-64 program or a script run by one. */
export function findProgram(name: string): string {
  const path = name.includes("/") ? name : inPath(name);
  if (path === undefined) {
    throw new UsageError("--", `"${name}"`, "a program: there is none of this name in PATH");
  }
  mustBeExecutable(path, name);
  mustBeRecordable(path);
  return path;
}

/** Builds and finds what records. */
export function findRecorder(): Recorder {
  mustBeX86Linux();
  const emulator = inPath("qemu-x86_64");
  if (emulator === undefined) {
    throw new NotPossibleHere(
      "recording needs qemu-x86_64, which is not installed",
      'install Debian\'s package "qemu-user", or record with --light',
    );
  }
  const version = spawnSync(emulator, ["--version"], { encoding: "utf8" }).stdout ?? "";
  return {
    launcher: nativeProgram("recorder/launcher.c"),
    plugin: nativePlugin("recorder/plugin.c"),
    emulator,
    emulatorVersion: /version ([0-9.]+)/.exec(version)?.[1] ?? "unknown",
  };
}

/** Builds what starts a program without the emulator. */
export function findLauncher(): string {
  mustBeX86Linux();
  return nativeProgram("recorder/launcher.c");
}

/** First executable file called `name` in PATH. */
export function inPath(name: string): string | undefined {
  for (const folder of (process.env.PATH ?? "").split(delimiter)) {
    const path = join(folder === "" ? "." : folder, name);
    if (isExecutableFile(path)) return path;
  }
  return undefined;
}

function mustBeX86Linux(): void {
  if (process.platform === "linux" && process.arch === "x64") return;
  throw new NotPossibleHere(
    `recording works on x86-64 Linux, not on ${process.platform} ${process.arch}`,
    "record there and bring the recording here",
  );
}

function isExecutableFile(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

function mustBeExecutable(path: string, name: string): void {
  const stat = statSync(path, { throwIfNoEntry: false });
  const wrong = (why: string) => new UsageError("--", `"${name}"`, `a program: ${why}`);
  if (stat === undefined) throw wrong("there is no such file");
  if (stat.isDirectory()) throw wrong("this is a folder");
  if (!isExecutableFile(path)) throw wrong("this file may not be executed");
}

/** Follows "#!" lines to a program and looks at what it is for. */
function mustBeRecordable(path: string): void {
  let at = path;
  for (let depth = 0; depth <= MOST_SCRIPTS; depth++) {
    const head = headOf(at);
    const isElf = head.readUInt32BE(0) === 0x7f454c46;
    if (isElf && head[4] === 2 && head.readUInt16LE(18) === EM_X86_64) return;
    if (isElf) {
      throw new NotPossibleHere(
        `${at} is an ELF program, but not for x86-64`,
        "only x86-64 programs can be recorded",
      );
    }
    const interpreter = /^#!\s*(\S+)/.exec(head.toString("latin1"))?.[1];
    if (interpreter === undefined) break;
    mustBeExecutable(interpreter, interpreter);
    at = interpreter;
  }
  throw new NotPossibleHere(
    `${path} is neither an x86-64 ELF program nor a script that names its interpreter`,
    'for a shell script without "#!" record "sh SCRIPT"',
  );
}

function headOf(path: string): Buffer {
  const head = Buffer.alloc(HEAD_SIZE);
  const file = openSync(path, "r");
  try {
    readSync(file, head, 0, HEAD_SIZE, 0);
  } finally {
    closeSync(file);
  }
  return head;
}
