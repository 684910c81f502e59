/**
 * The schedule explorer: every order in which tasks can take their steps, or a sample of them.
 *
 * Entry: exploreAll (depth first), exploreSamples (seeded), followSchedule (one that is given). What a step is, and what an
 *        end means, is the World's.
 * Holds: orders that come to the same state have the same continuations, so from there on they are run once and counted by
 *        addition. "Executed" are the runs that were carried to an end; "covered" are the schedules they stand for: all of
 *        them, each once.
 */

import { nextBelow, type Random } from "../base/random.ts";

/** Something with tasks, which can be put back to where it was. */
export interface World<Saved> {
  /** Tasks that can take a step now, ascending. Empty: the end, or a deadlock. */
  runnable(): readonly number[];
  /** One step of a task that is runnable. False if it broke something: nothing runs behind it. */
  step(task: number, schedule: readonly number[]): boolean;
  /** Nobody can take a step: the number of the outcome. Outcomes are numbered from 0 in the order of their discovery. */
  finish(schedule: readonly number[]): number;
  save(): Saved;
  restore(saved: Saved): void;
  /** The state saved is not needed any more. */
  discard(saved: Saved): void;
  /** Equal keys: equal continuations. */
  keyOf(saved: Saved): string;
}

/** The outcome of a schedule whose last step broke something. */
export const BROKEN = -1;

export interface ExploreOptions {
  /** "runs": every schedule is run on its own. */
  readonly merge: "states" | "runs";
  /** Runs after which it stops. */
  readonly mostRuns: number;
  /** Called after each run with the share of all schedules that is done, 0..1. */
  readonly onRun?: (share: number, nrExecuted: number) => void;
}

export interface Explored {
  /** Schedules by outcome. Above 2^53 a count is rounded. */
  readonly counts: ReadonlyMap<number, number>;
  readonly nrExecuted: number;
  readonly nrCovered: number;
  readonly nrSteps: number;
  /** Different states at which more than one task could go on. */
  readonly nrBranches: number;
  /** False if it stopped before the end. */
  readonly isComplete: boolean;
}

/** Runs every schedule from the state that `world` is in; it is in some end state afterwards. */
export function exploreAll<Saved>(world: World<Saved>, options: ExploreOptions): Explored {
  return new Search(world, options).run();
}

type Counts = Map<number, number>;

class Search<Saved> {
  private readonly world: World<Saved>;
  private readonly options: ExploreOptions;
  private readonly known = new Map<string, Counts>();
  private readonly schedule: number[] = [];
  private nrExecuted = 0;
  private nrSteps = 0;
  private nrBranches = 0;
  private share = 0;

  constructor(world: World<Saved>, options: ExploreOptions) {
    this.world = world;
    this.options = options;
  }

  run(): Explored {
    const counts = this.from(1);
    let nrCovered = 0;
    for (const nr of counts.values()) nrCovered += nr;
    const { nrExecuted, nrSteps, nrBranches } = this;
    return { counts, nrExecuted, nrCovered, nrSteps, nrBranches, isComplete: !this.isStopped };
  }

  private get isStopped(): boolean {
    return this.nrExecuted >= this.options.mostRuns;
  }

  /** All continuations of the state now. `share` of all schedules lies behind it, if all branches are alike. */
  private from(share: number): Counts {
    const { world, schedule } = this;
    const depth = schedule.length;
    for (;;) {
      const tasks = world.runnable();
      if (tasks.length > 1) {
        const counts = this.branch(tasks, share);
        schedule.length = depth;
        return counts;
      }
      const isWhole = tasks.length === 1 && this.step(tasks[0]);
      if (isWhole) continue;
      const outcome = tasks.length === 0 ? world.finish(schedule) : BROKEN;
      this.noteRun(share);
      schedule.length = depth;
      return new Map([[outcome, 1]]);
    }
  }

  private branch(tasks: readonly number[], share: number): Counts {
    const { world, known, schedule, options } = this;
    const saved = world.save();
    const key = options.merge === "states" ? world.keyOf(saved) : "";
    const before = options.merge === "states" ? known.get(key) : undefined;
    if (before !== undefined) {
      world.discard(saved);
      this.share += share;
      return before;
    }
    this.nrBranches++;
    const counts: Counts = new Map();
    const depth = schedule.length;
    for (const [i, task] of tasks.entries()) {
      if (this.isStopped) break;
      if (i > 0) world.restore(saved);
      const part = share / tasks.length;
      if (this.step(task)) addCounts(counts, this.from(part));
      else {
        addCounts(counts, new Map([[BROKEN, 1]]));
        this.noteRun(part);
      }
      schedule.length = depth;
    }
    world.discard(saved);
    if (options.merge === "states" && !this.isStopped) known.set(key, counts);
    return counts;
  }

  private step(task: number): boolean {
    this.schedule.push(task);
    this.nrSteps++;
    return this.world.step(task, this.schedule);
  }

  private noteRun(share: number): void {
    this.nrExecuted++;
    this.share += share;
    this.options.onRun?.(this.share, this.nrExecuted);
  }
}

function addCounts(sum: Counts, counts: Counts): void {
  for (const [outcome, nr] of counts) sum.set(outcome, (sum.get(outcome) ?? 0) + nr);
}

export interface SampleOptions {
  readonly nrSamples: number;
  readonly random: Random;
  readonly onRun?: (share: number, nrExecuted: number) => void;
}

/** Runs schedules in which each step is drawn among the tasks that can take one. */
export function exploreSamples<Saved>(world: World<Saved>, options: SampleOptions): Explored {
  const { nrSamples, random, onRun } = options;
  const counts: Counts = new Map();
  const seen = new Set<string>();
  const start = world.save();
  let nrSteps = 0;
  for (let nr = 1; nr <= nrSamples; nr++) {
    if (nr > 1) world.restore(start);
    const schedule: number[] = [];
    const outcome = drawOne(world, random, schedule);
    nrSteps += schedule.length;
    seen.add(schedule.join());
    addCounts(counts, new Map([[outcome, 1]]));
    onRun?.(nr / nrSamples, nr);
  }
  world.discard(start);
  const nrCovered = seen.size;
  return { counts, nrExecuted: nrSamples, nrCovered, nrSteps, nrBranches: 0, isComplete: false };
}

function drawOne<Saved>(world: World<Saved>, random: Random, schedule: number[]): number {
  for (;;) {
    const tasks = world.runnable();
    if (tasks.length === 0) return world.finish(schedule);
    const task = tasks[tasks.length > 1 ? nextBelow(random, tasks.length) : 0];
    schedule.push(task);
    if (!world.step(task, schedule)) return BROKEN;
  }
}

/**
 * Runs the schedule given, and from its end on the first task that can go on. `onStep` is called after each step. Returns the
 * outcome, or the place in the schedule of a task that could not take its step.
 */
export function followSchedule<Saved>(
  world: World<Saved>,
  given: readonly number[],
  onStep: (task: number) => void,
): { readonly outcome: number } | { readonly stuckAt: number } {
  const schedule: number[] = [];
  for (;;) {
    const tasks = world.runnable();
    const place = schedule.length;
    if (place < given.length && !tasks.includes(given[place])) return { stuckAt: place };
    if (tasks.length === 0) return { outcome: world.finish(schedule) };
    const task = place < given.length ? given[place] : tasks[0];
    schedule.push(task);
    const isWhole = world.step(task, schedule);
    onStep(task);
    if (!isWhole) return { outcome: BROKEN };
  }
}
