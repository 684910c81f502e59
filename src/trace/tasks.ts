/**
 * From the numbers Linux gave to tasks (which it gives again) to the recording's processes and threads (which it does not).
 *
 * Owns:  which live task is which thread of which process. Tells the address book and the sink who appears and ends.
 */

import type { AddressBook } from "./address-book.ts";
import type { ProcessStart, TraceSink } from "./trace-sink.ts";

export interface Task {
  readonly process: number;
  readonly thread: number;
}

export class Tasks {
  private readonly book: AddressBook;
  private readonly sink: TraceSink;
  private readonly byTid = new Map<number, Task>();
  private nrProcesses = 0;
  private nrThreads = 0;

  constructor(book: AddressBook, sink: TraceSink) {
    this.book = book;
    this.sink = sink;
  }

  /** True before the first process. */
  get isEmpty(): boolean {
    return this.nrProcesses === 0;
  }

  /** The live task `tid`, or undefined. */
  get(tid: number): Task | undefined {
    return this.byTid.get(tid);
  }

  /** True while a process of the recording has a thread. */
  lives(process: number): boolean {
    return [...this.byTid.values()].some((task) => task.process === process);
  }

  /** The recording's first process. */
  first(tid: number): Task {
    return this.process(tid, -1, "exec");
  }

  /** A new process with one thread. `parent` is a process of the recording. */
  process(tid: number, parent: number, how: ProcessStart): Task {
    const process = this.nrProcesses++;
    this.book.start(process, parent, how);
    return this.thread(tid, process);
  }

  /** A new thread of a process of the recording. */
  thread(tid: number, process: number): Task {
    const task = { process, thread: this.nrThreads++ };
    this.byTid.set(tid, task);
    this.sink.thread(task.thread, process);
    return task;
  }

  /** A thread ends; the last one of a process takes it along, with `status` as wait gives it (256 + signal). */
  end(tid: number, status: number): void {
    const task = this.byTid.get(tid);
    if (task === undefined) return;
    this.byTid.delete(tid);
    if (this.lives(task.process)) this.sink.threadExit(task.thread);
    else this.book.exit(task.process, status);
  }

  /** A task starts another program: its process's other threads end. `tid` is from now on the leader's, `pid`. */
  exec(tid: number, pid: number): void {
    const task = this.byTid.get(tid);
    if (task === undefined) return;
    for (const [other, { process, thread }] of [...this.byTid]) {
      if (process !== task.process) continue;
      this.byTid.delete(other);
      if (thread !== task.thread) this.sink.threadExit(thread);
    }
    this.byTid.set(pid, task);
    this.book.exec(task.process);
  }
}
