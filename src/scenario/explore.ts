/**
 * Exploring a scenario: every order of its tasks' steps, a sample of them, or one that is given.
 *
 * Entry: exploreScenario, replaySchedule, parseSchedule, scheduleText.
 */

import { assert } from "../base/assert.ts";
import { createRandom } from "../base/random.ts";
import { UsageError } from "../base/usage-error.ts";
import { type Explored, exploreAll, exploreSamples, followSchedule } from "../sched/explorer.ts";
import { waitText } from "./explore-tasks.ts";
import {
  type CheckWhen,
  type ExploreFinding,
  type Outcome,
  ScenarioWorld,
  type Schedule,
} from "./explore-world.ts";
import { createModelBackend } from "./model-backend.ts";
import { type Finding, runScenario } from "./run.ts";
import type { Exploration, Scenario } from "./syntax.ts";

export interface ScenarioExploreOptions {
  /** Schedules to draw; 0: all of them. */
  readonly nrSamples: number;
  readonly seed: number;
  readonly check: CheckWhen;
  /** "runs": no schedule is covered by another that came to the same state. */
  readonly merge: "states" | "runs";
  /** Runs after which it stops. */
  readonly mostRuns: number;
  readonly onRun?: (share: number, nrExecuted: number) => void;
}

export interface ScenarioExplored {
  readonly scenario: Scenario;
  /** What is wrong in the set-up part; then nothing was explored. */
  readonly setUp: readonly Finding[];
  readonly explored: Explored;
  readonly outcomes: readonly Outcome[];
  readonly findings: readonly ExploreFinding[];
}

const NOTHING: Explored = {
  counts: new Map(),
  nrExecuted: 0,
  nrCovered: 0,
  nrSteps: 0,
  nrBranches: 0,
  isComplete: false,
};

/** Throws CannotDo for what the model cannot do, and UsageError for a scenario without tasks. */
export function exploreScenario(
  scenario: Scenario,
  options: ScenarioExploreOptions,
): ScenarioExplored {
  const { nrSamples, seed, check, merge, mostRuns, onRun } = options;
  return inWorld(scenario, check, (world, exploration) => {
    const watch = onRun === undefined ? {} : { onRun };
    const explored =
      nrSamples > 0
        ? exploreSamples(world, { nrSamples, random: createRandom(seed), ...watch })
        : exploreAll(world, { merge, mostRuns, ...watch });
    const findings = [...world.findings];
    if (explored.isComplete)
      for (const claim of exploration.claims)
        if (claim.kind === "sometimes" && !world.seen.has(claim))
          findings.push({
            kind: "unseen",
            line: claim.line,
            text: "no schedule ends so",
            witness: [],
          });
    return { scenario, setUp: [], explored, outcomes: world.outcomes, findings };
  });
}

/** One step of a replayed schedule. */
export interface ReplayedStep {
  readonly task: string;
  readonly text: string;
}

export interface Replayed extends ScenarioExplored {
  readonly steps: readonly ReplayedStep[];
}

/** Runs the schedule, and from its end on the first task that can go on. Throws UsageError if a task cannot take its step. */
export function replaySchedule(scenario: Scenario, schedule: Schedule): Replayed {
  const steps: ReplayedStep[] = [];
  const result = inWorld(scenario, "every", (world, exploration) => {
    world.wantsText = true;
    const names = exploration.tasks.map(({ name }) => name);
    const end = followSchedule(world, schedule, (task) =>
      steps.push({ task: names[task], text: world.lastStep }),
    );
    if ("stuckAt" in end) {
      const task = world.tasks[schedule[end.stuckAt]];
      const why = waitText(world.state, task);
      throw new UsageError(
        "--replay",
        `step ${end.stuckAt + 1}, ${task.script.name}, which ${why === "" ? "is over" : `waits for ${why}`}`,
        "a task that can go on there",
      );
    }
    const counts = new Map([[end.outcome, 1]]);
    const explored = { ...NOTHING, counts, nrExecuted: 1, nrCovered: 1, nrSteps: steps.length };
    return { scenario, setUp: [], explored, outcomes: world.outcomes, findings: world.findings };
  });
  return { ...result, steps };
}

/** "A A*3 B": names of tasks in the order of their steps. Throws UsageError. */
export function parseSchedule(text: string, { tasks }: Exploration): Schedule {
  const names = tasks.map(({ name }) => name);
  return text
    .split(/[\s,]+/)
    .filter((word) => word !== "")
    .flatMap((word) => {
      const [name, times = "1"] = word.split("*");
      const task = names.indexOf(name);
      if (task < 0 || !/^[1-9]\d{0,5}$/.test(times))
        throw new UsageError(
          "--replay",
          JSON.stringify(word),
          `tasks by name (${names.join(", ")}), such as "A A B" or "A*2 B"`,
        );
      return new Array<number>(Number(times)).fill(task);
    });
}

/** The inverse of parseSchedule. */
export function scheduleText(schedule: Schedule, { tasks }: Exploration): string {
  const words: string[] = [];
  for (let at = 0; at < schedule.length; ) {
    let end = at + 1;
    while (schedule[end] === schedule[at]) end++;
    const { name } = tasks[schedule[at]];
    words.push(end - at > 1 ? `${name}*${end - at}` : name);
    at = end;
  }
  return words.join(" ");
}

/** Runs the set-up part and, if nothing is wrong with it, `explore`. */
function inWorld(
  scenario: Scenario,
  check: CheckWhen,
  explore: (world: ScenarioWorld, exploration: Exploration) => ScenarioExplored,
): ScenarioExplored {
  const { exploration, ...setUp } = scenario;
  if (exploration === undefined)
    throw new UsageError(
      scenario.file,
      "no tasks",
      "lines such as `task A: write R[0]` (docs/scenarios.md)",
    );
  const backend = createModelBackend();
  let result: ScenarioExplored | null = null;
  const run = runScenario(setUp, backend, {
    atEnd: (findings) => {
      if (findings.length > 0) return;
      result = explore(new ScenarioWorld(backend, exploration, check), exploration);
    },
  });
  if (run.findings.length > 0)
    return { scenario, setUp: run.findings, explored: NOTHING, outcomes: [], findings: [] };
  assert(result !== null, "a run ends without its end");
  return result;
}
