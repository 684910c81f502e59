/**
 * `hugelab verify [RULE|FILE...]`: the library of scenarios on the model, compared statement by statement with what the kernel
 * showed: as recorded, or live.
 *
 * Entry: registerVerify. Exit status: 0 as the kernel but for the ledger, 1 a difference or an entry of the ledger that is not
 * needed, 2 a mistake in a file, 3 not possible here.
 */

import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, relative } from "node:path";
import { Argument, type Command } from "commander";
import { UsageError } from "../base/usage-error.ts";
import { CannotDo } from "../scenario/backend.ts";
import { createModelBackend, type ModelBackend } from "../scenario/model-backend.ts";
import {
  compareRecordings,
  type Recorded,
  type RecordingDifference,
  readRecording,
  recordScenario,
  writeRecording,
} from "../scenario/recording.ts";
import type { Scenario } from "../scenario/syntax.ts";
import { wantsExamples } from "./examples.ts";
import { type GlobalOptions, terminalOf } from "./global-options.ts";
import { createKernelBackend, type KernelBackend } from "./kernel-backend.ts";
import { environmentText } from "./kernel-environment.ts";
import { KernelFailure } from "./kernel-supervisor.ts";
import { NotPossibleHere } from "./not-possible.ts";
import { readScenarios } from "./scenario-files.ts";
import {
  environmentPath,
  findLibrary,
  type LedgerEntry,
  readLedger,
  recordingPath,
} from "./scenario-library.ts";
import { findingText } from "./scenario-report.ts";
import type { Terminal } from "./terminal.ts";

const EXAMPLES = `
Examples:
  hugelab verify
  hugelab verify ANON-151
  hugelab verify scenarios/anon/fork-write.scn --live
  hugelab verify --renew
`;

const RULE = /^[A-Z]+-\d{3}$/;
/** Recordings of one scenario until two in a row are equal. */
const MOST_TAKES = 6;

interface VerifyFlags extends GlobalOptions {
  readonly live?: boolean;
  readonly recorded?: boolean;
  readonly renew?: boolean;
  readonly json?: boolean;
}

/** What became of one scenario. */
interface Verdict {
  readonly scenario: Scenario;
  readonly status: "ok" | "failed" | "not possible";
  /** Lines for people, indented. */
  readonly text: string;
  /** Differences that the ledger accepts. */
  readonly nrAccepted: number;
}

/** Adds the command to the program. */
export function registerVerify(program: Command): void {
  program
    .command("verify")
    .summary("the library of scenarios against what the kernel showed")
    .description(
      "Compares the model with recordings of the live kernel, or with the kernel itself.",
    )
    .addArgument(new Argument("[what...]", "rules such as ANON-151, scenario files or folders"))
    .option("--recorded", "against the recordings that come with the library (the default)")
    .option("--live", "against the running kernel")
    .option("--renew", "write the recordings anew from the running kernel")
    .option("--json", "one JSON document")
    .addHelpText("after", ({ command }) => (wantsExamples(command) ? EXAMPLES : ""))
    .action(verify);
}

async function verify(words: string[], _: VerifyFlags, command: Command): Promise<void> {
  const flags = command.optsWithGlobals<VerifyFlags>();
  const isLive = flags.live === true || flags.renew === true;
  if (isLive && flags.recorded === true)
    throw new UsageError("--recorded", "--live or --renew besides", "one of them");
  const library = findLibrary();
  const scenarios = chosen(words, library);
  const terminal = terminalOf(command);
  const kernel = isLive ? createKernelBackend() : null;
  try {
    const job: Job = {
      library,
      kernel,
      isRenewing: flags.renew === true,
      model: createModelBackend(),
      met: new Set(),
    };
    const verdicts = await verifyAll(job, scenarios, terminal, flags);
    const unused = unusedEntries(job, words.length === 0);
    if (job.isRenewing) writeFileSync(environmentPath(library), environmentText());
    await report(verdicts, unused, terminal, flags);
  } finally {
    kernel?.close();
  }
}

interface Job {
  readonly library: string;
  readonly model: ModelBackend;
  /** Null: against recordings. */
  readonly kernel: KernelBackend | null;
  readonly isRenewing: boolean;
  /** Differences that were met, as "scenario key". */
  readonly met: Set<string>;
}

/** The scenarios that name one of the rules, and those of the files; all of the library without words. */
function chosen(words: readonly string[], library: string): Scenario[] {
  const rules = words.filter((word) => RULE.test(word));
  const files = words.filter((word) => !RULE.test(word));
  const found = readScenarios(files);
  if (files.length > 0 && rules.length === 0) return found;
  const all = readScenarios([library]);
  if (rules.length === 0) return all;
  const named = all.filter(({ header }) => header.rules.some((rule) => rules.includes(rule)));
  if (named.length === 0)
    throw new UsageError("verify", rules.join(" "), "a rule that a scenario of the library names");
  return [...found, ...named];
}

async function verifyAll(
  job: Job,
  scenarios: readonly Scenario[],
  terminal: Terminal,
  flags: VerifyFlags,
): Promise<Verdict[]> {
  const ledger = readLedger(job.library);
  const verdicts: Verdict[] = [];
  const progress = terminal.startProgress("verify");
  for (const [i, scenario] of scenarios.entries()) {
    const verdict = verdictOf(job, scenario, ledger);
    verdicts.push(verdict);
    progress.update((i + 1) / scenarios.length, scenario.file);
    if (verdict.status === "ok" || flags.json === true) continue;
    progress.end();
    await terminal.print(`${verdict.status}  ${scenario.file}\n${verdict.text}`);
  }
  progress.end();
  return verdicts;
}

function verdictOf(job: Job, scenario: Scenario, ledger: readonly LedgerEntry[]): Verdict {
  const name = relative(job.library, scenario.file);
  try {
    const model = recordScenario(scenario, job.model);
    const failures = model.result.findings.map((finding) => findingText(scenario, finding));
    if (scenario.header.on === "model") return judged(scenario, failures, 0);
    const kernel = kernelSteps(job, scenario);
    failures.push(...kernel.failures);
    const differences = compareRecordings(model.steps, kernel.steps);
    const isAccepted = ({ key }: RecordingDifference) => accepted(ledger, name, key) !== undefined;
    for (const { key } of differences) job.met.add(`${name} ${key}`);
    const open = differences.filter((difference) => !isAccepted(difference));
    failures.push(...open.map((difference) => differenceText(scenario, difference)));
    return judged(scenario, failures, differences.length - open.length);
  } catch (error) {
    const isExpected =
      error instanceof CannotDo ||
      error instanceof KernelFailure ||
      error instanceof NotPossibleHere;
    if (!isExpected) throw error;
    const text = `  ${error.message}\n`;
    return { scenario, status: "not possible", text, nrAccepted: 0 };
  }
}

function judged(scenario: Scenario, failures: readonly string[], nrAccepted: number): Verdict {
  const status = failures.length === 0 ? "ok" : "failed";
  return { scenario, status, text: failures.join(""), nrAccepted };
}

function accepted(ledger: readonly LedgerEntry[], scenario: string, key: string) {
  return ledger.find((entry) => entry.scenario === scenario && entry.key === key);
}

/** Entries of the ledger that no difference needed; only a run of the whole library can tell. */
function unusedEntries(job: Job, isWhole: boolean): LedgerEntry[] {
  if (!isWhole) return [];
  return readLedger(job.library).filter(({ scenario, key }) => !job.met.has(`${scenario} ${key}`));
}

/** What the kernel gave and showed, and what of it is not as the scenario says. */
function kernelSteps(job: Job, scenario: Scenario) {
  const path = recordingPath(job.library, scenario.file);
  if (job.kernel === null) {
    if (path === undefined || !existsSync(path))
      throw new CannotDo(0, "there is no recording of it; --renew makes one, --live needs none");
    return { steps: readRecording(path, readFileSync(path, "utf8")), failures: [] };
  }
  const { steps, result } = steadyTake(job.kernel, scenario);
  const failures = result.findings.map((finding) => findingText(scenario, finding));
  if (job.isRenewing && failures.length === 0 && path !== undefined) {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, writeRecording(steps));
  }
  return { steps, failures };
}

/** A recording that a second one confirms. */
function steadyTake(kernel: KernelBackend, scenario: Scenario): Recorded {
  let before: string | undefined;
  for (let nr = 0; nr < MOST_TAKES; nr++) {
    const take = recordScenario(scenario, kernel);
    if (kernel.wasDisturbed()) continue;
    const text = writeRecording(take.steps);
    if (text === before) return take;
    before = text;
  }
  throw new CannotDo(0, `the kernel showed something else each of ${MOST_TAKES} times`);
}

function differenceText(scenario: Scenario, difference: RecordingDifference): string {
  const { line, statement, key, model, kernel } = difference;
  const place = line > 0 ? `${scenario.file}:${line}` : scenario.file;
  const [left, right] = shortened(model, kernel);
  return `  ${place}: ${statement}\n    ${key}\n      model   ${left}\n      kernel  ${right}\n`;
}

const MOST_SHOWN = 200;

/** Long texts from shortly before the place at which they part. */
function shortened(left: string, right: string): [string, string] {
  let same = 0;
  while (same < left.length && left[same] === right[same]) same++;
  const from = same > 60 ? same - 40 : 0;
  const cut = (text: string) =>
    (from > 0 ? "... " : "") +
    text.slice(from, from + MOST_SHOWN) +
    (text.length > from + MOST_SHOWN ? " ..." : "");
  return [cut(left), cut(right)];
}

async function report(
  verdicts: readonly Verdict[],
  unused: readonly LedgerEntry[],
  terminal: Terminal,
  flags: VerifyFlags,
): Promise<void> {
  const count = (status: Verdict["status"]) =>
    verdicts.filter((verdict) => verdict.status === status).length;
  const nrAccepted = verdicts.reduce((sum, verdict) => sum + verdict.nrAccepted, 0);
  process.exitCode = count("failed") + unused.length > 0 ? 1 : count("not possible") > 0 ? 3 : 0;
  if (flags.json === true) {
    const files = verdicts.map(({ scenario, status, text }) => ({
      file: scenario.file,
      rules: scenario.header.rules,
      status,
      findings: text,
    }));
    const document = { schema: "hugelab.verify", version: 1, files, unusedLedgerEntries: unused };
    await terminal.print(`${JSON.stringify(document, null, 2)}\n`);
    return;
  }
  for (const { scenario, key } of unused)
    await terminal.print(`failed  ledger.yaml: nothing differs any more at ${scenario} ${key}\n`);
  const parts = [`${count("ok")} ok`];
  if (count("failed") > 0) parts.push(`${count("failed")} failed`);
  if (count("not possible") > 0) parts.push(`${count("not possible")} not possible`);
  if (nrAccepted > 0) parts.push(`${nrAccepted} accepted differences`);
  await terminal.print(`${verdicts.length} scenarios: ${parts.join(", ")}\n`);
}
