/**
 * Importer of strace's text: who forks, and every mapping call. Nothing is known of accesses.
 *
 *     strace -f -ttt -o FILE PROGRAM
 *
 * Entry: createStraceImporter; push the file's bytes in chunks of any size, then finish.
 * Owns:  calls begun and not resumed, forks whose child is still to be named, open files.
 * Holds: works without -f (one process), without times, and with -t, -tt or -ttt. The child of a fork may act before the
 *        parent's call returns: a task never seen before belongs to the oldest fork that still lacks its child.
 * Units: a tick is a microsecond since the first line, or a line where there are no times.
 */

import { UsageError } from "../base/usage-error.ts";
import { type AddressBook, createAddressBook } from "./address-book.ts";
import { LineSplitter } from "./line-splitter.ts";
import { type CallTarget, isMemoryCall, tellCall } from "./linux-calls.ts";
import type { TraceReader } from "./reader.ts";
import {
  argumentNumber,
  quotedText,
  resultNumber,
  signalNumber,
  splitArguments,
} from "./strace-words.ts";
import { type Task, Tasks } from "./tasks.ts";
import type { TraceSink } from "./trace-sink.ts";
import { createValidatingSink } from "./validate.ts";

/** A reader of strace's text. `name` is the file as the user knows it. push and finish throw UsageError. */
export function createStraceImporter(sink: TraceSink, name: string): TraceReader {
  return new StraceImporter(sink, name);
}

/** A fork, vfork or clone whose result has not been seen. */
interface PendingFork {
  readonly parent: Task;
  readonly how: "fork" | "vfork" | "thread";
  child: number | undefined;
}

interface Call {
  readonly name: string;
  readonly args: string;
  readonly fork: PendingFork | undefined;
}

const PREFIX =
  /^\s*(?:\[pid\s+(\d+)\]\s+|(\d+)\s+(?=\S))?(?:(\d\d:\d\d:\d\d(?:\.\d+)?|\d+\.\d+)\s+)?/;
const CALL = /^(\w+)\((.*)\)\s+=\s+(.*)$/;
const UNFINISHED = /^(\w+)\((.*?)\s*<unfinished \.\.\.>\)?(?:\s+=\s+\?)?$/;
const RESUMED = /^<\.\.\. (\w+) resumed>\s*(.*)\)\s+=\s+(.*)$/;
const ENDED = /^\+\+\+ (?:exited with (\d+)|killed by (\w+)).*\+\+\+$/;
const IGNORED =
  /^(?:--- .* ---|\+\+\+ superseded by .*|(?:strace: )?Process \d+ (?:at|de)tached.*|strace: .*|)$/;
const NO_PID = 0;

class StraceImporter implements TraceReader {
  private readonly sink: TraceSink;
  private readonly book: AddressBook;
  private readonly tasks: Tasks;
  private readonly target: CallTarget;
  private readonly lines: LineSplitter;
  private readonly pending = new Map<number, Call>();
  private readonly forks: PendingFork[] = [];
  /** Path by process and descriptor; a child's descriptors are looked up in its parent too. */
  private readonly files = new Map<string, string>();
  private readonly parents = new Map<number, number>();
  private firstTime: number | undefined;
  /** The first line is usually the exec by which the first process starts: it replaces nothing. */
  private isAtStart = true;
  private tick = 0;

  constructor(sink: TraceSink, name: string) {
    this.lines = new LineSplitter(name, (line) => this.line(line));
    this.sink = createValidatingSink(sink, () => this.lines.place());
    this.book = createAddressBook(this.sink);
    this.tasks = new Tasks(this.book, this.sink);
    this.target = {
      book: this.book,
      sink: this.sink,
      pathOf: (process, fd) => this.pathOf(process, fd),
    };
  }

  push(chunk: Uint8Array): void {
    this.lines.push(chunk);
  }

  finish(): void {
    this.lines.finish();
    if (this.tasks.isEmpty) {
      const found = this.lines.offset === 0 ? "an empty file" : "the end of the file";
      throw new UsageError(this.lines.place(), found, "strace's text with system calls");
    }
    this.sink.end(this.tick);
  }

  private line(line: string): void {
    const [prefix, bracketed, plain, time] = PREFIX.exec(line) ?? [""];
    const text = line.slice(prefix.length).trimEnd();
    const tid = Number(bracketed ?? plain ?? NO_PID);
    if (IGNORED.test(text)) return;
    const ended = ENDED.exec(text);
    if (ended !== null) {
      this.tasks.end(tid, ended[1] === undefined ? 256 + signalNumber(ended[2]) : Number(ended[1]));
      return;
    }
    const resumed = RESUMED.exec(text);
    const unfinished = UNFINISHED.exec(text);
    const call = CALL.exec(text);
    if (resumed === null && unfinished === null && call === null) {
      const found = JSON.stringify(line.slice(0, 60));
      throw new UsageError(this.lines.place(), found, "a system call as strace prints it");
    }
    const task = this.taskOf(tid, call);
    this.tellTime(time);
    if (unfinished !== null) this.begun(tid, task, unfinished[1], unfinished[2]);
    else if (resumed !== null) this.resumed(tid, task, resumed);
    else if (call !== null) {
      const fork = this.forkOf(task, call[1], call[2]);
      this.done(tid, task, { name: call[1], args: call[2], fork }, call[3]);
    }
    this.isAtStart = false;
  }

  /** The task of a line; the first line makes the first process, a new task is the child of a pending fork. */
  private taskOf(tid: number, call: readonly string[] | null): Task {
    const known = this.tasks.get(tid);
    if (known !== undefined) return known;
    if (this.tasks.isEmpty) {
      const isExec = call?.[1] === "execve";
      this.sink.begin({
        command: isExec ? commandOf(call[2]) : ["(unknown)"],
        source: "strace",
        has: { exactTouches: false, counts: false, order: "none" },
      });
      return this.tasks.first(tid);
    }
    const fork = this.forks.find(({ child }) => child === undefined);
    // strace -p attaches to threads that were there before.
    if (fork === undefined) return this.tasks.thread(tid, 0);
    return this.born(fork, tid);
  }

  private born(fork: PendingFork, tid: number): Task {
    fork.child = tid;
    if (fork.how === "thread") return this.tasks.thread(tid, fork.parent.process);
    const task = this.tasks.process(tid, fork.parent.process, fork.how);
    this.parents.set(task.process, fork.parent.process);
    return task;
  }

  private begun(tid: number, task: Task, name: string, args: string): void {
    const fork = this.forkOf(task, name, args);
    if (fork !== undefined) this.forks.push(fork);
    this.pending.set(tid, { name, args, fork });
  }

  private resumed(tid: number, task: Task, [, name, args, result]: readonly string[]): void {
    const call = this.pending.get(tid);
    this.pending.delete(tid);
    // A call that was under way when strace attached says too little.
    if (call === undefined || call.name !== name) return;
    if (call.fork !== undefined) this.forks.splice(this.forks.indexOf(call.fork), 1);
    this.done(tid, task, { ...call, args: call.args + args }, result);
  }

  private done(tid: number, task: Task, { name, args, fork }: Call, resultText: string): void {
    const result = resultNumber(resultText);
    if (result === undefined) return;
    const { process } = task;
    if (fork !== undefined) {
      if (result > 0 && fork.child === undefined) this.born(fork, result);
    } else if (name === "execve" || name === "execveat") {
      if (result === 0 && !this.isAtStart) this.tasks.exec(tid, tid);
    } else if (name === "open" || name === "openat" || name === "memfd_create") {
      const list = splitArguments(args);
      const path = quotedText(list[name === "openat" ? 1 : 0] ?? "");
      if (result >= 0 && path !== undefined) this.files.set(`${process}:${result}`, path);
    } else if (isMemoryCall(name)) {
      const numbers = splitArguments(args).map(argumentNumber);
      tellCall(this.target, process, name, numbers, result);
    }
  }

  private forkOf(parent: Task, name: string, args: string): PendingFork | undefined {
    if (name === "fork" || name === "vfork") return { parent, how: name, child: undefined };
    if (name !== "clone" && name !== "clone3") return undefined;
    if (args.includes("CLONE_THREAD")) return { parent, how: "thread", child: undefined };
    return { parent, how: args.includes("CLONE_VM") ? "vfork" : "fork", child: undefined };
  }

  private pathOf(process: number, fd: number): string | undefined {
    for (let owner: number | undefined = process; owner !== undefined; ) {
      const path = this.files.get(`${owner}:${fd}`);
      if (path !== undefined) return path;
      owner = this.parents.get(owner);
    }
    return undefined;
  }

  private tellTime(text: string | undefined): void {
    const now = text === undefined ? this.tick + 1 : microseconds(text);
    this.firstTime ??= now;
    const tick = Math.max(this.tick, now - this.firstTime);
    if (text !== undefined && tick === this.tick) return;
    this.tick = text === undefined ? now : tick;
    this.sink.time(this.tick);
  }
}

/** The argument list of execve as words. */
function commandOf(args: string): readonly string[] {
  const list = /^\[(.*)\]$/.exec(splitArguments(args)[1] ?? "");
  const words = splitArguments(list?.[1] ?? "").map(quotedText);
  const known = words.filter((word) => word !== undefined);
  return known.length > 0 ? known : ["(unknown)"];
}

/** "1795224420.830130" or "13:27:00.123". */
function microseconds(text: string): number {
  const seconds = text.split(":").reduce((sum, part) => sum * 60 + Number(part), 0);
  return Math.round(seconds * 1e6);
}
