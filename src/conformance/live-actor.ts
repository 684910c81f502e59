/**
 * The running kernel's side: a small native process that performs steps, seen through /proc.
 *
 * Entry: startLiveActor, reasonAgainstLive.
 * Owns:  the process, which ends with the caller or with `stop`.
 */

import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { closeSync, openSync, readFileSync, readSync } from "node:fs";
import { release } from "node:os";
import { createInterface } from "node:readline";
import { PAGE_SIZE } from "../base/address.ts";
import { EINVAL } from "../base/errno.ts";
import { nativeProgram } from "../cli/native-build.ts";
import { type Actor, addressOf, type Step, type View } from "./steps.ts";

const PR_SET_THP_DISABLE = 41;
const PRESENT = 2 ** 31;
/** Bits 0..54 of a pagemap word, as bits of its upper half. */
const PFN_HIGH = 2 ** 23;

/** Why there can be no live actor here, or null. */
export function reasonAgainstLive(): string | null {
  if (process.platform !== "linux") return "this is not Linux";
  if (!release().startsWith("6.18.")) return `this kernel is ${release()}, not 6.18`;
  if (process.getuid?.() !== 0) return "root is needed for frame numbers";
  try {
    nativeProgram("live/actor.c");
  } catch (error) {
    return (error as Error).message;
  }
  const enabled = readFileSync("/sys/kernel/mm/transparent_hugepage/enabled", "utf8");
  return enabled.includes("[never]") ? "transparent huge pages are switched off" : null;
}

export class LiveActor implements Actor {
  private readonly child: ChildProcessWithoutNullStreams;
  private readonly answers: AsyncIterator<string>;
  private readonly pids: number[];

  constructor() {
    this.child = spawn(nativeProgram("live/actor.c"), [], { stdio: "pipe" });
    this.answers = createInterface({ input: this.child.stdout })[Symbol.asyncIterator]();
    this.pids = [this.child.pid ?? 0];
  }

  async settle(): Promise<void> {
    const result = await this.ask("drain");
    // A process with huge pages disabled may not collapse; those that use it need no draining.
    if (result !== 0 && result !== -EINVAL) throw new Error(`draining gave ${result}`);
  }

  private async ask(line: string): Promise<number> {
    this.child.stdin.write(`${line}\n`);
    const answer = await this.answers.next();
    if (answer.done === true) throw new Error(`the native process ended at: ${line}`);
    return Number(answer.value);
  }

  async perform(step: Step): Promise<number> {
    if (step[0] === "exit") return this.ask(`reap ${this.pids[step[1]]}`);
    const result = await this.ask(lineOf(step));
    if (step[0] !== "fork" || result < 0) return result;
    this.pids.push(result);
    return this.pids.length - 1;
  }

  view(process: number): View {
    const pid = this.pids[process];
    return {
      read: (name) => readFileSync(`/proc/${pid}/${name}`, "latin1"),
      pagemap: (page, nr) => words(`/proc/${pid}/pagemap`, addressOf(page) / PAGE_SIZE, nr),
      frames: (page, nr) =>
        words(`/proc/${pid}/pagemap`, addressOf(page) / PAGE_SIZE, nr).map(frameFacts),
    };
  }

  stop(): void {
    this.child.stdin.end();
    this.child.kill("SIGKILL");
  }
}

function lineOf(step: Exclude<Step, readonly ["exit", number]>): string {
  const [op, first, second, third, fourth] = step;
  if (op === "fork") return "fork";
  if (op === "thpDisable") return `prctl ${PR_SET_THP_DISABLE} ${first} ${second}`;
  const isTouch = op === "read" || op === "write";
  const length = isTouch ? second : second * PAGE_SIZE;
  return `${op} ${addressOf(first)} ${length} ${third ?? 0} ${fourth ?? 0}`;
}

function frameFacts(word: readonly [low: number, high: number]) {
  const [low, high] = word;
  if (high < PRESENT) return null;
  const pfn = low + (high % PFN_HIGH) * 2 ** 32;
  const [flagsLow, flagsHigh] = words("/proc/kpageflags", pfn, 1)[0];
  const [count] = words("/proc/kpagecount", pfn, 1)[0];
  return [flagsLow + flagsHigh * 2 ** 32, count] as const;
}

/** 64-bit words of a file from word `first`; those behind its end are left out. */
function words(path: string, first: number, nr: number): (readonly [number, number])[] {
  const buffer = Buffer.alloc(nr * 8);
  const file = openSync(path, "r");
  const nrBytes = readSync(file, buffer, 0, buffer.length, first * 8);
  closeSync(file);
  return Array.from({ length: nrBytes / 8 }, (_, i) => [
    buffer.readUInt32LE(i * 8),
    buffer.readUInt32LE(i * 8 + 4),
  ]);
}
