/**
 * The model's side: steps performed on a machine's process, seen through the report folder.
 *
 * Entry: ModelActor.
 * Holds: the machine passes its own check after every step.
 */

import { PAGE_SIZE, pteIndexOf, regionOf } from "../base/address.ts";
import { assert } from "../base/assert.ts";
import { readPage, writePage } from "../machine/access.ts";
import { checkMachine } from "../machine/check.ts";
import { createMachine, type Machine } from "../machine/machine.ts";
import { execProcess, exitProcess, forkProcess } from "../machine/process.ts";
import type { Mm } from "../mm/state.ts";
import { pageCountOf, pageFlagsOf } from "../report/kpage.ts";
import { type PagemapWords, PM_HIGH, readPagemap } from "../report/pagemap.ts";
import { readProc } from "../report/proc.ts";
import { sysMadvise } from "../syscall/madvise.ts";
import { sysMlock, sysMlock2, sysMunlock } from "../syscall/mlock.ts";
import { sysMmap, sysMprotect, sysMunmap } from "../syscall/mmap.ts";
import { sysSetThpDisable } from "../syscall/prctl.ts";
import { type Actor, addressOf, type Step, type View } from "./steps.ts";

const MEMORY_BYTES = 256 * 2 ** 20;

export class ModelActor implements Actor {
  readonly m: Machine;
  private readonly mms: Mm[] = [];
  private nextTag = 1;

  constructor() {
    this.m = createMachine({ memoryBytes: MEMORY_BYTES });
    this.start(execProcess(this.m, 16)?.mm);
  }

  perform(step: Step): Promise<number> {
    const result = this.done(step);
    const problems = checkMachine(this.m, new Map());
    assert(problems.length === 0, problems.join("\n"));
    return Promise.resolve(result);
  }

  /** The model keeps no batches. */
  settle(): Promise<void> {
    return Promise.resolve();
  }

  private done(step: Step): number {
    const { m } = this;
    const mm = this.mms[0];
    if (step[0] === "fork") return this.start(forkProcess(m, mm));
    if (step[0] === "exit") return this.end(step[1]);
    if (step[0] === "thpDisable") return sysSetThpDisable(m, mm, step[1], step[2]);
    const start = addressOf(step[1]);
    const length = step[2] * PAGE_SIZE;
    switch (step[0]) {
      case "map": {
        const at = sysMmap(m, mm, { address: start, length, prot: step[3], flags: step[4] });
        return at === start ? 0 : at;
      }
      case "unmap":
        return sysMunmap(m, mm, start, length);
      case "madvise":
        return sysMadvise(m, mm, start, length, step[3]);
      case "mprotect":
        return sysMprotect(m, mm, start, length, step[3]);
      case "mlock":
        return sysMlock(m, mm, start, length);
      case "mlock2":
        return sysMlock2(m, mm, start, length, step[3]);
      case "munlock":
        return sysMunlock(m, mm, start, length);
      default:
        return this.touch(step[0], step[1], step[2]);
    }
  }

  private touch(access: "read" | "write", page: number, nr: number): number {
    for (let i = page; i < page + nr; i++) {
      const [region, pte] = [regionOf(addressOf(i)), pteIndexOf(addressOf(i))];
      if (access === "read") readPage(this.m, this.mms[0], region, pte);
      else writePage(this.m, this.mms[0], region, pte, this.nextTag++);
    }
    return 0;
  }

  private end(process: number): number {
    exitProcess(this.m, this.mms[process]);
    return 0;
  }

  private start(mm: Mm | null | undefined): number {
    assert(mm !== null && mm !== undefined, "the model has no memory for a process");
    return this.mms.push(mm) - 1;
  }

  view(process: number): View {
    const { m } = this;
    const mm = this.mms[process];
    const words = (page: number, nr: number) => {
      const offset = (addressOf(page) / PAGE_SIZE) * 8;
      const { low, high } = readPagemap(m, mm, offset, nr * 8) as PagemapWords;
      return Array.from(low, (word, i) => [word, high[i]] as const);
    };
    return {
      read: (name) => String(readProc(m, mm.id, name)),
      pagemap: words,
      frames: (page, nr) =>
        words(page, nr).map(([pfn, high]) =>
          high < PM_HIGH.PRESENT ? null : ([pageFlagsOf(m, pfn), pageCountOf(m, pfn)] as const),
        ),
    };
  }
}
