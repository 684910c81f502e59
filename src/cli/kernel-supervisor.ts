/**
 * The native program that carries out scenarios on the running kernel, as a synchronous partner.
 *
 * Entry: startSupervisor; then ask, one request after the other; stop.
 * Owns:  the process and two FIFOs in a temporary folder, which is gone once both sides have opened them.
 * Holds: ask never waits for ever: the supervisor has deadlines for everything it waits for, and when it ends in whatever way
 *        the FIFO ends, which is reported. The kernel's knobs are put back by a watchdog of its own.
 * Errors: NotPossibleHere where the host cannot do it, CannotDo where it cannot do one scenario; KernelFailure where a run
 *         went wrong.
 */

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { closeSync, constants, mkdtempSync, openSync, readSync, rmSync, writeSync } from "node:fs";
import { release, tmpdir } from "node:os";
import { join } from "node:path";
import { errnoName } from "../base/errno.ts";
import { CannotDo } from "../scenario/backend.ts";
import { FAILED, FrameReader, type FrameWriter } from "./kernel-wire.ts";
import { nativeProgram } from "./native-build.ts";
import { NotPossibleHere } from "./not-possible.ts";

/** Taken with flock(1) by whoever changes the kernel's knobs or reads its global counters. */
export function kernelLockPath(): string {
  return join(tmpdir(), "hugelab-kernel.lock");
}

/** The supervisor said that a scenario cannot go on, or said nothing more. */
export class KernelFailure extends Error {
  override readonly name = "KernelFailure";
}

const FIRST_BYTES = 1 << 20;

export class Supervisor {
  readonly process: ChildProcess;
  private readonly toIt: number;
  private readonly fromIt: number;
  private answer = Buffer.alloc(FIRST_BYTES);
  isOver = false;

  constructor(process: ChildProcess, toIt: number, fromIt: number) {
    this.process = process;
    this.toIt = toIt;
    this.fromIt = fromIt;
  }

  /** Sends a request and waits for its answer, which is valid until the next one. */
  ask(frame: FrameWriter): FrameReader {
    if (this.isOver) throw new KernelFailure("the supervisor of the live kernel has ended");
    const bytes = frame.bytes();
    try {
      for (let done = 0; done < bytes.length; ) done += writeSync(this.toIt, bytes, done);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EPIPE") throw error;
      this.stop();
      throw new KernelFailure("the supervisor of the live kernel ended unexpectedly");
    }
    this.read(0, 4);
    const length = this.answer.readUInt32LE(0);
    if (length + 4 > this.answer.length) this.answer = Buffer.alloc(length + 4);
    this.read(4, length);
    const reader = new FrameReader(this.answer.subarray(0, length + 4));
    if (reader.status < 0) throw failureOf(reader.status, reader.text());
    return reader;
  }

  /** Ends it; it puts back what it changed. */
  stop(): void {
    if (this.isOver) return;
    this.isOver = true;
    closeSync(this.toIt);
    // Its end of the FIFO closes when everything is put back.
    const rest = Buffer.alloc(4096);
    while (readSync(this.fromIt, rest) > 0);
    closeSync(this.fromIt);
  }

  private read(at: number, nrBytes: number): void {
    for (let done = 0; done < nrBytes; ) {
      const got = readSync(this.fromIt, this.answer, at + done, nrBytes - done, null);
      if (got === 0) {
        this.isOver = true;
        closeSync(this.toIt);
        closeSync(this.fromIt);
        throw new KernelFailure("the supervisor of the live kernel ended unexpectedly");
      }
      done += got;
    }
  }
}

function failureOf(status: number, what: string): Error {
  switch (status) {
    case FAILED.LOCK:
      return new NotPossibleHere(`the kernel is in use: ${what}`, "try again when it is free");
    case FAILED.MEMORY:
      return new NotPossibleHere(`too little free memory: ${what}`, "free memory and try again");
    case FAILED.FACILITY:
      return new CannotDo(0, `this kernel cannot do it: ${what}`);
    case FAILED.DEAD:
    case FAILED.STUCK:
    case FAILED.PROTOCOL:
      return new KernelFailure(what);
    default:
      return new NotPossibleHere(`${what} (${errnoName(status)})`, "run it on the model");
  }
}

/** What a host must have; `anyKernel`: another 6.x than 6.18 will do. */
export function checkHost(kernels: "6.18" | "any 6.x"): void {
  const remedy = "run it with --on model";
  if (process.platform !== "linux" || process.arch !== "x64")
    throw new NotPossibleHere("scenarios run live on Linux on x86-64 only", remedy);
  const wanted = kernels === "6.18" ? /^6\.18(\.|-|$)/ : /^6\./;
  if (!wanted.test(release()))
    throw new NotPossibleHere(
      `this kernel is ${release()}, the model is of Linux 6.18`,
      kernels === "6.18" ? `${remedy}, or try --any-kernel` : remedy,
    );
  if (process.getuid?.() !== 0)
    throw new NotPossibleHere("running scenarios on the live kernel needs root", remedy);
}

/** Builds it if need be and starts it. */
export function startSupervisor(): Supervisor {
  const program = nativeProgram("scenario/supervisor.c", ["-static", "-no-pie"]);
  const folder = mkdtempSync(join(tmpdir(), "hugelab-kernel-"));
  try {
    return connect(program, join(folder, "to"), join(folder, "from"));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * Both FIFOs are opened for reading and writing first, which never blocks, then each end alone: so the supervisor's death is an
 * end of file here.
 */
function connect(program: string, to: string, from: string): Supervisor {
  if (spawnSync("mkfifo", [to, from]).status !== 0)
    throw new NotPossibleHere("mkfifo failed", "install coreutils");
  const both = [to, from].map((path) => openSync(path, constants.O_RDWR));
  const [itsInput, toIt] = [constants.O_RDONLY, constants.O_WRONLY].map((way) => openSync(to, way));
  const [fromIt, itsOutput] = [constants.O_RDONLY, constants.O_WRONLY].map((way) =>
    openSync(from, way),
  );
  const child = spawn(program, [kernelLockPath()], { stdio: [itsInput, itsOutput, "inherit"] });
  child.unref();
  for (const fd of [...both, itsInput, itsOutput]) closeSync(fd);
  return new Supervisor(child, toIt, fromIt);
}
