import { expect, test } from "vitest";
import { createRandom } from "../base/random.ts";
import { BROKEN, exploreAll, exploreSamples, followSchedule, type World } from "./explorer.ts";

/** Tasks of so many steps each; a task that is blocked by another's place cannot go on. The outcome is told by `end`. */
interface Toy {
  readonly lengths: readonly number[];
  readonly isBlocked?: (task: number, at: readonly number[]) => boolean;
  readonly breaks?: (task: number, at: readonly number[]) => boolean;
  /** What is remembered of the order, so that states differ; nothing by default. */
  readonly memory?: (before: string, task: number) => string;
}

class ToyWorld implements World<string> {
  private at: number[];
  private memory = "";
  readonly outcomes: string[] = [];
  readonly ends: string[] = [];
  private readonly toy: Toy;

  constructor(toy: Toy) {
    this.toy = toy;
    this.at = toy.lengths.map(() => 0);
  }

  runnable(): number[] {
    const { lengths, isBlocked = () => false } = this.toy;
    return [...lengths.keys()].filter(
      (task) => this.at[task] < lengths[task] && !isBlocked(task, this.at),
    );
  }

  step(task: number): boolean {
    if (this.toy.breaks?.(task, this.at)) return false;
    this.at[task]++;
    this.memory = this.toy.memory?.(this.memory, task) ?? "";
    return true;
  }

  finish(schedule: readonly number[]): number {
    this.ends.push(schedule.join(""));
    const text = `${this.at}${this.memory}`;
    if (!this.outcomes.includes(text)) this.outcomes.push(text);
    return this.outcomes.indexOf(text);
  }

  save(): string {
    return JSON.stringify([this.at, this.memory]);
  }

  restore(saved: string): void {
    [this.at, this.memory] = JSON.parse(saved);
  }

  discard(): void {}

  keyOf(saved: string): string {
    return saved;
  }
}

const all = (toy: Toy, merge: "states" | "runs") => {
  const world = new ToyWorld(toy);
  return { world, ...exploreAll(world, { merge, mostRuns: Number.POSITIVE_INFINITY }) };
};

test("tasks that never wait have as many orders as the multinomial coefficient says, each run once", () => {
  const { world, ...found } = all({ lengths: [3, 2, 2] }, "runs");
  const wanted = 210; // 7! / (3! 2! 2!)
  expect([found.nrCovered, found.nrExecuted, found.isComplete]).toEqual([wanted, wanted, true]);
  expect(new Set(world.ends).size).toBe(wanted);
});

test("orders that come to the same state are counted without being run", () => {
  const { nrCovered, nrExecuted, counts } = all({ lengths: [10, 10] }, "states");
  expect([nrCovered, [...counts]]).toEqual([184756, [[0, 184756]]]);
  expect(nrExecuted).toBeLessThan(100);
});

const LAST_OF_TWO = (before: string, task: number) => (before + task).slice(-2);

for (const [name, toy] of Object.entries<Toy>({
  "tasks whose last steps matter": { lengths: [3, 3, 2], memory: LAST_OF_TWO },
  "a lock that the second takes after its first step": {
    lengths: [4, 4],
    memory: LAST_OF_TWO,
    isBlocked: (task, at) => task === 0 && at[1] > 0 && at[1] < 3,
  },
  "a deadlock": {
    lengths: [3, 3],
    isBlocked: (task, at) => at[task] === 1 && at[1 - task] >= 1 && at[1 - task] < 3,
  },
  "a step that breaks something": {
    lengths: [3, 3],
    breaks: (task, at) => task === 1 && at[0] === 2,
  },
})) {
  test(`the counts by outcome are the same whether states are merged or not: ${name}`, () => {
    const merged = all(toy, "states");
    const plain = all(toy, "runs");
    const named = ({ counts, world }: typeof merged) =>
      Object.fromEntries([...counts].map(([i, nr]) => [world.outcomes[i] ?? "broken", nr]));
    expect(named(merged)).toEqual(named(plain));
    expect(merged.nrCovered).toBe(plain.nrExecuted);
    expect(merged.nrExecuted).toBeLessThanOrEqual(plain.nrExecuted);
  });
}

test("an end that leaves tasks unfinished is an outcome of its own", () => {
  const { world } = all(
    { lengths: [2, 2], isBlocked: (task, at) => at[task] === 1 && at[1 - task] === 1 },
    "runs",
  );
  expect(world.outcomes.toSorted()).toEqual(["1,1", "2,2"]);
});

test("nothing runs behind a step that broke something", () => {
  const { counts, nrExecuted } = all({ lengths: [1, 1], breaks: (task) => task === 0 }, "runs");
  expect([[...counts], nrExecuted]).toEqual([[[BROKEN, 2]], 2]);
});

test("it stops after the runs that it may make, and says so", () => {
  const world = new ToyWorld({ lengths: [5, 5] });
  const { nrExecuted, isComplete } = exploreAll(world, { merge: "runs", mostRuns: 7 });
  expect([nrExecuted, isComplete, world.ends.length]).toEqual([7, false, 7]);
});

test("the share of what is done rises to one", () => {
  const shares: number[] = [];
  exploreAll(new ToyWorld({ lengths: [3, 4, 2] }), {
    merge: "states",
    mostRuns: 1e9,
    onRun: (share) => shares.push(share),
  });
  expect(shares).toEqual(shares.toSorted((a, b) => a - b));
  expect(shares.at(-1)).toBeGreaterThan(0.5);
  expect(shares.at(-1)).toBeLessThanOrEqual(1.000001);
});

test("the same seed draws the same orders, another seed others", () => {
  const drawn = (seed: number) => {
    const world = new ToyWorld({ lengths: [4, 4] });
    const found = exploreSamples(world, { nrSamples: 20, random: createRandom(seed) });
    expect(found.nrCovered).toBe(new Set(world.ends).size);
    return world.ends.join();
  };
  expect(drawn(1)).toBe(drawn(1));
  expect(drawn(1)).not.toBe(drawn(2));
});

test("a schedule that is given is followed; behind its end the first that can goes on", () => {
  const steps: number[] = [];
  const world = new ToyWorld({ lengths: [2, 2] });
  const end = followSchedule(world, [1, 0], (task) => steps.push(task));
  expect([end, steps]).toEqual([{ outcome: 0 }, [1, 0, 0, 1]]);
});

test("a schedule that names a task that cannot go on says where", () => {
  const world = new ToyWorld({ lengths: [1, 1] });
  expect(followSchedule(world, [0, 0], () => {})).toEqual({ stuckAt: 1 });
});
