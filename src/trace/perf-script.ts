/**
 * Importer of `perf script`: first touches (page faults) and mapping calls of a program that ran at full speed.
 *
 *     perf record -d -c 1 -e exceptions:page_fault_user -e page-faults \
 *       -e 'syscalls:sys_*_mmap,syscalls:sys_*_munmap,syscalls:sys_*_mremap,syscalls:sys_*_brk' \
 *       -e 'syscalls:sys_*_madvise,syscalls:sys_*_mprotect' PROGRAM
 *     perf script -F comm,pid,tid,time,event,addr,trace --show-mmap-events --show-task-events
 *
 * Entry: createPerfScriptImporter; push the text's bytes in chunks of any size, then finish.
 * Owns:  calls entered and not left, tasks that have ended.
 * Holds: each of these is enough alone: exceptions:page_fault_user says read or write; page-faults does not, and counts as a
 *        write of anonymous and a read of file memory, unless it repeats the other. Without the calls' events,
 *        mappings come from PERF_RECORD_MMAP2; then what is unmapped is not seen. Faults tell every first touch only if
 *        THP was off, and say nothing of pages that the kernel mapped around a file fault.
 * Units: a tick is a microsecond since the first line; `at` = recorded page.
 */

import { PAGE_SIZE, pageOf } from "../base/address.ts";
import { UsageError } from "../base/usage-error.ts";
import { type AddressBook, createAddressBook, type RecordedMap } from "./address-book.ts";
import { type AddressLayout, ensureKnown } from "./implied-memory.ts";
import { LineSplitter } from "./line-splitter.ts";
import { type CallTarget, isMemoryCall, tellCall } from "./linux-calls.ts";
import {
  callResult,
  hexNumbers,
  type PerfLine,
  type PerfMap,
  parsePerfLine,
  parsePerfMap,
  splitEvent,
} from "./perf-lines.ts";
import type { TraceReader } from "./reader.ts";
import { type Task, Tasks } from "./tasks.ts";
import type { Backing, TraceSink } from "./trace-sink.ts";
import { createValidatingSink } from "./validate.ts";

/** A reader of perf script's text. `name` is the file as the user knows it. push and finish throw UsageError. */
export function createPerfScriptImporter(sink: TraceSink, name: string): TraceReader {
  return new PerfScriptImporter(sink, name);
}

interface EnteredCall {
  readonly name: string;
  readonly args: readonly number[];
  /** From the MMAP2 between enter and exit. */
  path: string | undefined;
}

const FIELDS = "perf script -F comm,pid,tid,time,event,addr,trace";
const FAULT_EVENTS = new Set(["page-faults", "faults", "minor-faults", "major-faults"]);
/** Bit of the page fault error code: the access was a write. */
const FAULT_WRITE = 2;
const STACK_PAGES = 2048;
/** Pages from here on are the stack's on x86-64: the top of the user half less what address randomisation takes. */
const STACK_AREA = 0x7ff000000;
/** Pages of arguments and environment that may lie above the first stack page seen. */
const ABOVE_FIRST_STACK_PAGE = 34;
/** How far below the heap (in pages) memory counts as the program's. */
const PROGRAM_REACH = 2 ** 20;

class PerfScriptImporter implements TraceReader {
  private readonly sink: TraceSink;
  private readonly book: AddressBook;
  private readonly tasks: Tasks;
  private readonly target: CallTarget;
  private readonly lines: LineSplitter;
  private readonly entered = new Map<number, EnteredCall>();
  /** Process of the recording for each pid that lives. */
  private readonly byPid = new Map<number, number>();
  /** Parent's tid of tasks that were forked and have not been seen. */
  private readonly forkedBy = new Map<number, number>();
  private readonly gone = new Set<number>();
  /** Per process since its exec: the program's file; undefined before the first file. */
  private readonly programs = new Map<number, string>();
  /** Processes that mapped something by a call. */
  private readonly hasMapped = new Set<number>();
  /** Page and task of the page_fault_user before this line, which a page-faults may repeat. */
  private lastFault = { tid: -1, at: -1 };
  private areExecsRecords = false;
  private current = 0;
  private firstTime = 0;
  private tick = 0;

  constructor(sink: TraceSink, name: string) {
    this.lines = new LineSplitter(name, (line) => this.line(line));
    this.sink = createValidatingSink(sink, () => this.lines.place());
    this.book = createAddressBook(this.sink);
    this.tasks = new Tasks(this.book, this.sink);
    this.target = { book: this.book, sink: this.sink, pathOf: () => undefined };
  }

  push(chunk: Uint8Array): void {
    this.lines.push(chunk);
  }

  finish(): void {
    this.lines.finish();
    if (this.tasks.isEmpty) {
      const found = this.lines.offset === 0 ? "an empty file" : "the end of the file";
      throw new UsageError(this.lines.place(), found, `events of a program (${FIELDS})`);
    }
    this.sink.end(this.tick);
  }

  private line(line: string): void {
    if (line.trim() === "" || line.startsWith("#")) return;
    const parsed = parsePerfLine(line);
    if (parsed === undefined) this.refuse(JSON.stringify(line.slice(0, 60)), `a line of ${FIELDS}`);
    // The idle task stands for perf itself and for the kernel's own maps.
    if (parsed.pid <= 0 || parsed.tid <= 0) return;
    const repeated = this.lastFault;
    this.lastFault = { tid: -1, at: -1 };
    if (parsed.rest.startsWith("PERF_RECORD_")) this.record(parsed);
    else this.event(parsed, repeated);
  }

  private record(line: PerfLine): void {
    const { rest, pid, tid } = line;
    const task = /^PERF_RECORD_(FORK|EXIT)\((\d+):(\d+)\):\(\d+:(\d+)\)/.exec(rest);
    if (task?.[1] === "EXIT") return this.end(Number(task[3]));
    if (task?.[1] === "FORK") return this.fork(Number(task[2]), Number(task[3]), Number(task[4]));
    if (rest.startsWith("PERF_RECORD_COMM exec:")) {
      this.areExecsRecords = true;
      return this.exec(line);
    }
    const map = parsePerfMap(rest);
    const known = map === undefined ? undefined : this.taskOf(line);
    if (map === undefined || known === undefined) return;
    this.tellTime(line);
    const call = this.entered.get(tid);
    if (call === undefined) this.mapped(known.process, map);
    else if (call.name === "mmap" && pid > 0) call.path = map.name;
  }

  private event(line: PerfLine, repeated: { readonly tid: number; readonly at: number }): void {
    const { name, text } = splitEvent(line.rest);
    if (name === "sched:sched_process_fork") {
      const child = Number(/child_pid=(\d+)/.exec(text)?.[1] ?? 0);
      if (this.tasks.get(child) === undefined) this.forkedBy.set(child, line.tid);
      this.gone.delete(child);
      return;
    }
    if (name === "sched:sched_process_exec")
      return this.areExecsRecords ? undefined : this.exec(line);
    if (name === "sched:sched_process_exit") return this.end(line.tid);
    const call = /^(?:syscalls:)?sys_(enter|exit)_(\w+)$/.exec(name);
    if (call === null && name !== "exceptions:page_fault_user" && !FAULT_EVENTS.has(name)) return;
    const task = this.taskOf(line);
    if (task === undefined) return;
    this.tellTime(line);
    if (call !== null) this.call(task, line.tid, call[1], call[2], text);
    else this.fault(task, line.tid, name, text, repeated);
  }

  private call(task: Task, tid: number, side: string, name: string, text: string): void {
    if (!isMemoryCall(name)) return;
    if (side === "enter") {
      this.entered.set(tid, { name, args: hexNumbers(text), path: undefined });
      return;
    }
    const call = this.entered.get(tid);
    this.entered.delete(tid);
    if (call === undefined || call.name !== name) return;
    const { process } = task;
    if (name === "mmap") this.hasMapped.add(process);
    const { path } = call;
    const target = path === undefined ? this.target : { ...this.target, pathOf: () => path };
    tellCall(target, process, name, call.args, callResult(text));
  }

  private fault(
    task: Task,
    tid: number,
    name: string,
    text: string,
    repeated: { readonly tid: number; readonly at: number },
  ): void {
    const isExact = name === "exceptions:page_fault_user";
    const digits = (isExact ? /address=0x([0-9a-f]+)/ : /^([0-9a-f]+)\s*$/).exec(text)?.[1];
    if (digits === undefined) this.refuse(`${name} without an address`, `addr in ${FIELDS}`);
    const at = pageOf(Number.parseInt(digits, 16));
    if (at >= 2 ** 35) return;
    if (isExact) this.lastFault = { tid, at };
    else if (repeated.tid === tid && repeated.at === at) return;

    this.current = task.process;
    ensureKnown(this.book, task.process, at, this.layout);
    this.book.find(task.process, at);
    const { mapping, page } = this.book;
    const code = Number.parseInt(/error_code=0x([0-9a-f]+)/.exec(text)?.[1] ?? "0", 16);
    const isWrite = isExact
      ? (code & FAULT_WRITE) !== 0
      : this.book.backingOf(mapping).kind !== "file";
    this.sink.touch(task.thread, mapping, page, 1, isWrite);
  }

  private readonly layout: AddressLayout = {
    stackTop: (at) => (at >= STACK_AREA ? at + ABOVE_FIRST_STACK_PAGE : -1),
    kindOf: (at) => {
      const heapStart = this.book.heapStartOf(this.current);
      if (heapStart > at && heapStart - at < PROGRAM_REACH) return "program";
      return this.hasMapped.has(this.current) ? "memory" : "loader";
    },
  };

  /** A mapping that no recorded call made: by exec, or by a call where calls are not recorded. */
  private mapped(process: number, map: PerfMap): void {
    const { address, length, name } = map;
    if (length === 0 || address + length > 2 ** 47) return;
    if (name === "[stack]") return this.stack(process, pageOf(address + length));
    if (name === "[heap]") {
      if (this.book.heapStartOf(process) < 0) this.book.heapAt(process, address);
      return this.book.brk(process, address + length);
    }
    if (name === "//anon" || name === "") return this.anonymous(process, map);
    this.file(process, map);
  }

  private stack(process: number, top: number): void {
    if (this.book.find(process, top - 1)) return;
    const start = (top - STACK_PAGES) * PAGE_SIZE;
    const length = STACK_PAGES * PAGE_SIZE;
    this.book.mmap(process, plain(start, length, { kind: "stack" }));
  }

  /** perf names the whole area that the new mapping became part of: only what was not known is new. */
  private anonymous(process: number, { address, length, prot, isShared }: PerfMap): void {
    const end = pageOf(address + length - 1) + 1;
    let at = pageOf(address);
    while (at < end) {
      if (this.book.find(process, at)) {
        const nrKnown = Math.min(end - at, this.book.nrFollowing);
        this.book.mprotect(process, at * PAGE_SIZE, nrKnown * PAGE_SIZE, prot);
        at += nrKnown;
        continue;
      }
      const gapEnd = Math.min(end, this.book.gapAround(process, at).end);
      const call = plain(at * PAGE_SIZE, (gapEnd - at) * PAGE_SIZE, { kind: "anonymous" });
      this.book.mmap(process, { ...call, prot, isShared });
      at = gapEnd;
    }
  }

  private file(process: number, { address, length, offset, prot, isShared, name }: PerfMap): void {
    const at = pageOf(address);
    const backing: Backing = { kind: "file", path: name, firstPage: pageOf(offset) };
    const isKnown = this.book.find(process, at);
    const there = isKnown ? this.book.backingOf(this.book.mapping) : undefined;
    const isSame =
      there?.kind === "file" &&
      there.path === name &&
      there.firstPage + this.book.page === backing.firstPage;
    if (isSame) return this.book.mprotect(process, address, length, prot);

    if (!this.programs.has(process) && name.startsWith("/")) this.programs.set(process, name);
    const isProgram = this.programs.get(process) === name;
    const request = isProgram ? "image" : isKnown ? "fixed" : "any";
    this.book.mmap(process, { ...plain(address, length, backing), request, prot, isShared });
  }

  /** The task of a line, made if it is new; undefined for a line that comes behind its task's end. */
  private taskOf({ pid, tid, command, microseconds }: PerfLine): Task | undefined {
    const known = this.tasks.get(tid);
    if (known !== undefined) return known;
    if (this.gone.has(tid)) return undefined;
    if (this.tasks.isEmpty) {
      this.firstTime = microseconds;
      this.sink.begin({
        command: [command],
        source: "perf-script",
        has: { exactTouches: false, counts: false, order: "none" },
      });
      this.byPid.set(pid, 0);
      return this.tasks.first(tid);
    }
    const process = this.byPid.get(pid);
    if (process !== undefined) return this.tasks.thread(tid, process);
    const parent = this.tasks.get(this.forkedBy.get(tid) ?? -1);
    if (parent === undefined) {
      this.refuse(`process ${pid} without its fork`, "--show-task-events, or sched_process_fork");
    }
    return this.child(pid, tid, parent);
  }

  private fork(pid: number, tid: number, parentTid: number): void {
    const parent = this.tasks.get(parentTid);
    if (parent === undefined) return;
    this.gone.delete(tid);
    const process = this.byPid.get(pid);
    if (process === undefined) this.child(pid, tid, parent);
    else if (this.tasks.get(tid) === undefined) this.tasks.thread(tid, process);
  }

  private child(pid: number, tid: number, parent: Task): Task {
    const task = this.tasks.process(tid, parent.process, "fork");
    this.byPid.set(pid, task.process);
    const program = this.programs.get(parent.process);
    if (program !== undefined) this.programs.set(task.process, program);
    if (this.hasMapped.has(parent.process)) this.hasMapped.add(task.process);
    return task;
  }

  private exec(line: PerfLine): void {
    const isFirst = this.tasks.isEmpty;
    const task = this.taskOf(line);
    if (task === undefined || isFirst) return;
    this.tellTime(line);
    this.tasks.exec(line.tid, line.pid);
    this.programs.delete(task.process);
    this.hasMapped.delete(task.process);
  }

  private end(tid: number): void {
    const task = this.tasks.get(tid);
    if (task === undefined) return;
    this.gone.add(tid);
    this.entered.delete(tid);
    this.tasks.end(tid, 0);
    if (!this.tasks.lives(task.process)) {
      for (const [pid, process] of this.byPid) {
        if (process === task.process) this.byPid.delete(pid);
      }
    }
  }

  private tellTime({ microseconds }: PerfLine): void {
    const tick = microseconds - this.firstTime;
    if (tick <= this.tick) return;
    this.tick = tick;
    this.sink.time(tick);
  }

  private refuse(found: string, wanted: string): never {
    throw new UsageError(this.lines.place(), found, wanted);
  }
}

/** A private mapping, readable and writable, wherever it came to lie. */
function plain(address: number, length: number, backing: Backing): RecordedMap {
  return { address, length, request: "any", prot: 3, isShared: false, backing, flags: [] };
}
