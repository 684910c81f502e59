/**
 * The live kernel as a back end of the scenario language.
 *
 * Entry: createKernelBackend. Each scenario runs in fresh processes of a native supervisor; docs/decisions/0010 says how.
 * Owns:  the supervisor. Whoever creates a back end calls close() at the end; if this program dies the supervisor notices.
 * Errors: NotPossibleHere where the host cannot do it, or lacks what a scenario needs; KernelFailure where a process of the
 *         scenario died or hung. After either the back end can begin the next scenario.
 */

import type { Backend, Look, PageContents, StepResult, TracedEvent } from "../scenario/backend.ts";
import { addressesOf, createLayout } from "../scenario/layout.ts";
import type { Observation } from "../scenario/observation.ts";
import { Shadow } from "../scenario/shadow.ts";
import type { Header, Span, Statement } from "../scenario/syntax.ts";
import { KNOBS_AT_START, knobPath } from "./kernel-knobs.ts";
import { type KernelNames, observeKernel } from "./kernel-observe.ts";
import { carryOut, type KernelRun, taskNamed } from "./kernel-statements.ts";
import { checkHost, KernelFailure, type Supervisor, startSupervisor } from "./kernel-supervisor.ts";
import { FrameWriter, VERB } from "./kernel-wire.ts";

export interface KernelBackend extends Backend {
  readonly name: "kernel";
  /** The last scenario met what is not its doing: no memory for a huge page though none was held back. It says nothing. */
  wasDisturbed(): boolean;
  close(): void;
  /** Process number of the supervisor, for tests that kill it. */
  readonly supervisorPid: number;
}

export interface KernelOptions {
  /** Other kernels than 6.18 may be tried. */
  readonly kernels?: "6.18" | "any 6.x";
  /** How long to wait for others that use the kernel. */
  readonly lockWaitS?: number;
}

const LOCK_WAIT_S = 120;
const CONTENTS: readonly PageContents[] = ["none", "zero", "written"];
const MIB = 2 ** 20;

/** A scenario that is run once and thrown away: what the kernel sets up on first use is set up then. */
const WARM_UP: Header = {
  title: "warm-up",
  rules: [],
  on: "both",
  machine: {
    memoryBytes: 256 * MIB,
    nrCpus: 2,
    nrNodes: 1,
    profile: "linux-6.18",
    seed: 1,
    hasMemoryFailure: false,
  },
  knobs: [],
  swapBytes: 0,
};

/** Builds and starts the supervisor. */
export function createKernelBackend(options: KernelOptions = {}): KernelBackend {
  checkHost(options.kernels ?? "6.18");
  return new LiveKernel(options.lockWaitS ?? LOCK_WAIT_S);
}

class LiveKernel implements KernelBackend {
  readonly name = "kernel";
  private readonly lockWaitS: number;
  private supervisor: Supervisor;
  private names: KernelNames | undefined;
  private run: KernelRun | undefined;
  private isDisturbed = false;

  constructor(lockWaitS: number) {
    this.lockWaitS = lockWaitS;
    this.supervisor = startSupervisor();
  }

  get supervisorPid(): number {
    return this.supervisor.process.pid ?? 0;
  }

  begin(header: Header): void {
    if (this.names === undefined) this.warmUp();
    this.open(header);
  }

  step(statement: Statement): StepResult {
    return carryOut(this.running(), statement);
  }

  /** Always drained: smaps counts a page as lazily freed only when its batch is (ANON-321). */
  observe(_look: Look): Observation {
    return observeKernel(this.running(), this.knownNames());
  }

  peek(actor: string, span: Span): readonly PageContents[] {
    const run = this.running();
    const { start, end } = addressesOf(run.layout, span);
    const nr = Math.ceil((end - start) / 4096 / span.step);
    const { channel } = taskNamed(run, actor);
    const answer = run.supervisor.ask(
      new FrameWriter(VERB.PEEK).u32(channel).u64(start).u32(nr).u32(span.step),
    );
    return Array.from({ length: nr }, () => CONTENTS[answer.u8()]);
  }

  events(): readonly TracedEvent[] | null {
    return this.running().events;
  }

  readKnob(name: string): string {
    const answer = this.running().supervisor.ask(
      new FrameWriter(VERB.READ_KNOB).text(knobPath(name)),
    );
    return answer.s64() < 0 ? "" : `${answer.text()}\n`;
  }

  end(): void {
    if (this.run === undefined) return;
    this.run = undefined;
    this.isDisturbed = this.supervisor.ask(new FrameWriter(VERB.END)).u32() !== 0;
  }

  wasDisturbed(): boolean {
    return this.isDisturbed;
  }

  close(): void {
    this.run = undefined;
    this.supervisor.stop();
  }

  private running(): KernelRun {
    if (this.run === undefined) throw new KernelFailure("no scenario runs on the live kernel");
    return this.run;
  }

  private knownNames(): KernelNames {
    return this.names ?? { vmstat: [], stats: [], ownTablesKb: 0 };
  }

  private open(header: Header): void {
    if (this.supervisor.isOver) this.supervisor = startSupervisor();
    this.run = undefined;
    const knobs = [
      ...KNOBS_AT_START,
      ...header.knobs.map((knob) => [knob.name, knob.value] as const),
    ];
    const frame = new FrameWriter(VERB.BEGIN).u32(this.lockWaitS).u64(header.swapBytes);
    // Later ones win: one write for each.
    const wanted = new Map(knobs);
    frame.u32(wanted.size);
    for (const [name, value] of wanted) frame.text(knobPath(name)).text(value);
    this.supervisor.ask(frame);
    this.run = {
      supervisor: this.supervisor,
      layout: createLayout(),
      shadows: new Map([["main", new Shadow()]]),
      nextValue: 1,
      heapPages: new Map(),
      tasks: new Map([["main", { name: "main", channel: 0, process: "main" }]]),
      pins: new Map(),
      nrPins: 0,
      events: [],
      hugeZeroBefore: "unknown",
    };
  }

  private warmUp(): void {
    const hello = this.supervisor.ask(new FrameWriter(VERB.HELLO));
    const [vmstat, stats] = [hello.text(), hello.text()].map((text) => text.trim().split("\n"));
    this.open(WARM_UP);
    const whole: Span = { range: "R", first: 0, end: -1, step: 1 };
    const statement = (action: Statement["action"]) => ({ line: 0, actor: "main", action });
    const before = this.observe({ isDrained: false });
    this.names = { vmstat, stats, ownTablesKb: before.processes[0].status.VmPTE };
    this.step(
      statement({
        verb: "map",
        range: "R",
        sizeBytes: 4 * MIB,
        skewPages: 0,
        prot: "rw",
        flags: [],
      }),
    );
    this.step(statement({ verb: "madvise", span: whole, advice: 14 }));
    this.step(statement({ verb: "write", span: { ...whole, end: 512 } }));
    this.step(statement({ verb: "fork", name: "C" }));
    this.observe({ isDrained: true });
    this.end();
  }
}
