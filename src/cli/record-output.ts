/**
 * The recording as a file: written under a temporary name, given its final header, renamed.
 *
 * Entry: RecordOutput. Call begin, use `sink`, then keep or discard.
 * Owns:  the temporary file beside the target.
 * Holds: the target appears whole or not at all. The header stands first in the file but some of it is only known at the
 *        end; if it changed, the file is copied behind the new header.
 * Errors: NotPossibleHere if the file cannot be written; `failure` keeps the first error of the calls in between.
 */

import {
  closeSync,
  fsyncSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { UsageError } from "../base/usage-error.ts";
import type { TraceHeader, TraceSink } from "../trace/trace-sink.ts";
import { createTraceWriter } from "../trace/writer.ts";
import { DEFLATE_CODEC } from "./block-codec.ts";
import { NotPossibleHere } from "./not-possible.ts";

const COPY_SIZE = 1 << 20;

export class RecordOutput {
  readonly sink: TraceSink;
  /** The first write that failed; nothing is written after it. */
  failure: Error | undefined;
  private readonly path: string;
  private readonly temporary: string;
  private file: number;
  private header: Uint8Array = new Uint8Array(0);
  private size = 0;

  /** Removes the temporary file if the process ends in between. */
  private readonly onExit = () => this.discard();

  /** Creates the temporary file. Throws NotPossibleHere, or UsageError for what is no file. */
  constructor(path: string) {
    const stat = statSync(path, { throwIfNoEntry: false });
    if (stat !== undefined && !stat.isFile()) {
      const found = stat.isDirectory() ? "a folder" : "a device or pipe";
      throw new UsageError(path, found, "a file to write the recording to");
    }
    this.path = path;
    this.temporary = `${path}.tmp-${process.pid}`;
    this.sink = createTraceWriter((chunk) => this.write(chunk), DEFLATE_CODEC);
    try {
      this.file = openSync(this.temporary, "w+");
    } catch (error) {
      throw cannotWrite(path, error);
    }
    process.on("exit", this.onExit);
  }

  begin(header: TraceHeader): void {
    this.header = headerBytes(header);
    this.sink.begin(header);
    this.mustBeWritten();
  }

  /** Gives the file its final header and its name; its size in bytes. */
  keep(header: TraceHeader): number {
    this.mustBeWritten();
    try {
      const final = headerBytes(header);
      if (!isEqual(final, this.header)) this.replaceHeader(final);
      fsyncSync(this.file);
      closeSync(this.file);
      renameSync(this.temporary, this.path);
      process.off("exit", this.onExit);
      return this.size;
    } catch (error) {
      this.discard();
      throw cannotWrite(this.path, error);
    }
  }

  /** Leaves nothing behind. */
  discard(): void {
    process.off("exit", this.onExit);
    try {
      closeSync(this.file);
    } catch {
      // Closed before: the file is removed all the same.
    }
    rmSync(this.temporary, { force: true });
    rmSync(`${this.temporary}.new`, { force: true });
  }

  private mustBeWritten(): void {
    if (this.failure === undefined) return;
    this.discard();
    throw this.failure;
  }

  private write(chunk: Uint8Array): void {
    if (this.failure !== undefined) return;
    try {
      writeAll(this.file, chunk);
      this.size += chunk.length;
    } catch (error) {
      this.failure = cannotWrite(this.path, error);
    }
  }

  private replaceHeader(final: Uint8Array): void {
    const name = `${this.temporary}.new`;
    const to = openSync(name, "w");
    writeAll(to, final);
    const buffer = new Uint8Array(COPY_SIZE);
    for (let at = this.header.length; at < this.size; ) {
      const nr = readSync(this.file, buffer, 0, COPY_SIZE, at);
      writeAll(to, buffer.subarray(0, nr));
      at += nr;
    }
    closeSync(this.file);
    this.file = to;
    this.size += final.length - this.header.length;
    renameSync(name, this.temporary);
  }
}

/** The bytes a writer begins with. */
function headerBytes(header: TraceHeader): Uint8Array {
  const chunks: Uint8Array[] = [];
  createTraceWriter((chunk) => chunks.push(chunk.slice()), DEFLATE_CODEC).begin(header);
  return new Uint8Array(Buffer.concat(chunks));
}

function isEqual(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

function writeAll(file: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at, bytes.length - at);
}

function cannotWrite(path: string, error: unknown): Error {
  const { code, message } = error as NodeJS.ErrnoException;
  const reasons: Readonly<Record<string, string>> = {
    ENOENT: "its folder does not exist",
    ENOTDIR: "its folder is no folder",
    EACCES: "permission denied",
    EPERM: "permission denied",
    EROFS: "the file system is read-only",
    EISDIR: "it is a folder",
    ENOSPC: "the disk is full",
    EFBIG: "it would exceed the limit on file sizes",
    EDQUOT: "the disk quota is used up",
  };
  const reason = (code === undefined ? undefined : reasons[code]) ?? message;
  return new NotPossibleHere(`${path} cannot be written: ${reason}`, "nothing was left behind");
}
