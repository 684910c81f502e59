/**
 * The lines of lackey's text that are no accesses: system calls (--trace-syscalls=yes) and valgrind's own words.
 *
 *     SYSCALL[123,1](9) sys_mmap ( 0x0, 8192, 3, 34, 4294967295, 0 ) --> [pre-success] Success(0x4835000)
 *     SYSCALL[123,1](10) sys_mprotect ( 0x4031000, 8192, 1 )[sync] --> Success(0x0)
 *     SYSCALL[123,1](28) sys_madvise ( 0x4a2b000, 8192, 4 ) --> [async] ...
 *     SYSCALL[123,1](28) ... [async] --> Success(0x0)
 *
 * Owns:  calls whose result is still to come (by thread), open files, the exit status.
 */

import { PAGE_SIZE, pageOf } from "../base/address.ts";
import { UsageError } from "../base/usage-error.ts";
import type { AddressBook } from "./address-book.ts";
import {
  type CallTarget,
  isMemoryCall,
  MADV_DONTNEED,
  MADV_REMOVE,
  type MemoryCall,
  tellCall,
} from "./linux-calls.ts";
import type { TraceSink } from "./trace-sink.ts";

/** Told what became of the contents of recorded pages [start, end). */
export interface PageFates {
  /** They are gone: unmapped, mapped anew or dropped. */
  dropped(start: number, end: number): void;
  /** They now are at `to`. */
  moved(start: number, end: number, to: number): void;
}

interface Call {
  readonly name: string;
  readonly args: readonly string[];
}

const CALL = /^SYSCALL\[(\d+),(\d+)\]\( ?\d+\) /;
const NAME_AND_ARGS = /^(?:sys_)?(\w+) ?\( ?(.*?) ?\)(?= ?-->|\[| {3}clone|$)/;
const RESULT =
  /^ ?(?:\.\.\. )?(?:\[\w+\])? ?--> (?:\[[\w-]+\] )?(Success|Failure)\(0x([0-9a-f]+)\) ?/;
const LATER = /^ ?--> \[async\] \.\.\. ?/;

export class LackeyCalls {
  /** Status as TraceSink.exit takes it, -1 while the process has not ended. */
  exitStatus = -1;

  private readonly target: CallTarget;
  private readonly fates: PageFates;
  private readonly place: () => string;
  private readonly pending = new Map<string, Call>();
  private readonly files = new Map<number, string>();
  private pid = "";
  private heapEnd = 0;

  constructor(book: AddressBook, sink: TraceSink, fates: PageFates, place: () => string) {
    this.target = { book, sink, pathOf: (_process, fd) => this.files.get(fd) };
    this.fates = fates;
    this.place = place;
  }

  /** Takes one line; gives what follows on it behind a call's result, usually nothing. Refuses what valgrind never writes. */
  line(line: string): string {
    let rest = line;
    while (rest !== "") {
      if (rest.startsWith("SYSCALL[")) rest = this.call(rest);
      else if (/^ ?-->/.test(rest)) rest = this.strayResult(rest);
      else if (/^(?:I {2}| [LSM] )/.test(rest)) return rest;
      else return this.words(rest);
    }
    return "";
  }

  /** Valgrind's own words: only how the process ended is of interest. */
  private words(line: string): "" {
    const word = /^(?:==|--|\*\*)(\d+)(?:==|--|\*\*)(.*)/.exec(line);
    if (word === null) {
      const found = JSON.stringify(line.slice(0, 40));
      throw new UsageError(this.place(), found, "an access, a system call or valgrind's words");
    }
    const signal = /Process terminating with default action of signal (\d+)/.exec(word[2]);
    if (signal !== null) this.exitStatus = 256 + (Number(signal[1]) & 127);
    return "";
  }

  private call(line: string): string {
    const [head, pid, tid] = CALL.exec(line) ?? ["", "", ""];
    if (head === "") return "";
    if (this.pid === "") this.pid = pid;
    if (pid !== this.pid) {
      const wanted = `process ${this.pid} only (record with --log-file=NAME.%p)`;
      throw new UsageError(this.place(), `a call of process ${pid}`, wanted);
    }
    const body = line.slice(head.length);
    const pending = this.pending.get(tid);
    if (body.startsWith("... [async]")) {
      this.pending.delete(tid);
      return this.result(body, pending);
    }
    const match = NAME_AND_ARGS.exec(body);
    if (match === null) return "";
    const call = { name: match[1], args: match[2].split(", ") };
    if (call.name === "exit_group") this.exitStatus = Number(call.args[0]) & 255;
    const after = body.slice(match[0].length);
    const later = LATER.exec(after);
    if (later === null) return this.result(after, call);
    this.pending.set(tid, call);
    return after.slice(later[0].length);
  }

  /** A fork's result comes on a line of its own, in the parent and in the child. */
  private strayResult(line: string): string {
    const match = RESULT.exec(line);
    return match === null ? "" : line.slice(match[0].length);
  }

  private result(text: string, call: Call | undefined): string {
    const match = RESULT.exec(text);
    if (match === null) return "";
    const value = Number.parseInt(match[2], 16);
    if (call !== undefined) this.done(call, match[1] === "Success" ? value : -value);
    return text.slice(match[0].length);
  }

  private done({ name, args }: Call, result: number): void {
    if (name === "open" || name === "openat") {
      const path = /\((.*)\)$/.exec(args[name === "open" ? 0 : 1] ?? "")?.[1];
      if (result >= 0 && path !== undefined) this.files.set(result, path);
      return;
    }
    if (!isMemoryCall(name)) return;
    const numbers = args.map(numberOf);
    this.tellFates(name, numbers, result);
    tellCall(this.target, 0, name, numbers, result);
  }

  private tellFates(name: MemoryCall, [a = 0, b = 0, c = 0]: number[], result: number): void {
    if (result < 0) return;
    const { fates } = this;
    if (name === "mmap") fates.dropped(pageOf(result), endPage(result, b));
    if (name === "munmap") fates.dropped(pageOf(a), endPage(a, b));
    if (name === "madvise" && (c === MADV_DONTNEED || c === MADV_REMOVE)) {
      fates.dropped(pageOf(a), endPage(a, b));
    }
    if (name === "mremap" && c < b) fates.dropped(endPage(a, c), endPage(a, b));
    if (name === "mremap" && result !== a) {
      fates.moved(pageOf(a), endPage(a, Math.min(b, c)), pageOf(result));
    }
    if (name === "brk") {
      if (result < this.heapEnd) fates.dropped(endPage(result, 0), endPage(this.heapEnd, 0));
      this.heapEnd = result;
    }
  }
}

function endPage(address: number, length: number): number {
  return Math.ceil((address + length) / PAGE_SIZE);
}

/** "0x1000", "4096", "0x4030(text)"; 0 for what is no number. */
function numberOf(text: string): number {
  const value = Number(/^(?:0x[0-9a-f]+|\d+)/.exec(text)?.[0] ?? 0);
  return Number.isSafeInteger(value) ? value : 0;
}
