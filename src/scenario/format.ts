/**
 * A scenario as text, from its parts: what the fuzzer writes for a failure, and the inverse of the parser.
 *
 * Entry: formatScenario, formatStatement. Holds: parsing what is written gives the same header and steps, but for line and
 *        column numbers.
 */

import { WINDOW_PAGES } from "./layout.ts";
import { MAIN } from "./names.ts";
import { DEFAULT_HEADER } from "./parse-header.ts";
import { adviceName } from "./parse-values.ts";
import type {
  Action,
  Claim,
  Condition,
  Expectation,
  Exploration,
  Header,
  ProcessMadvise,
  Scenario,
  Span,
  Statement,
  Step,
  TaskResult,
  WantedValue,
} from "./syntax.ts";

/** The file's text: header, an empty line, one step a line. */
export function formatScenario(
  scenario: Pick<Scenario, "header" | "steps" | "exploration">,
): string {
  const lines = [...headerLines(scenario.header), "", ...scenario.steps.map(formatStep)];
  if (scenario.exploration !== undefined) lines.push("", ...explorationLines(scenario.exploration));
  return `${lines.join("\n")}\n`;
}

function explorationLines({ tasks, claims }: Exploration): string[] {
  const ofTasks = tasks.flatMap(({ name, statements }) =>
    statements.map(({ statement, wanted }) => {
      const either = wanted.length > 0 ? ` -> ${wanted.join("|")}` : "";
      return `task ${name}: ${formatStatement(statement)}${either}`;
    }),
  );
  return [...ofTasks, ...claims.map(formatClaim)];
}

/** "always R[0] huge if A -> 0". */
export function formatClaim({ kind, what, given }: Claim): string {
  const claim =
    what.kind === "results"
      ? formatResults(what.results)
      : formatExpectation(what.expectation).slice("expect ".length);
  return words(kind, claim, given.length > 0 ? `if ${formatResults(given)}` : undefined);
}

function formatResults(results: readonly TaskResult[]): string {
  return results
    .map(({ task, index, wanted }) => {
      const which = index < 0 ? task : `${task}.${index + 1}`;
      return `${which} -> ${wanted.join("|")}`;
    })
    .join(" ");
}

export function formatStep(step: Step): string {
  return step.kind === "statement"
    ? formatStatement(step.statement)
    : formatExpectation(step.expectation);
}

export function formatStatement(statement: Statement): string {
  const actor = statement.actor === MAIN ? "" : `${statement.actor}: `;
  return `${actor}${withWanted(statement)}`;
}

function withWanted({ action, wanted }: Statement): string {
  const text = formatAction(action);
  return wanted === undefined ? text : `${text} -> ${wanted}`;
}

function headerLines(header: Header): string[] {
  const { machine } = header;
  const lines = [`scenario: ${header.title}`];
  if (header.rules.length > 0) lines.push(`rules: ${header.rules.join(" ")}`);
  if (header.on === "model") lines.push("on: model");
  const given: string[] = [];
  const standard = DEFAULT_HEADER.machine;
  if (machine.memoryBytes !== standard.memoryBytes)
    given.push(`memory=${formatSize(machine.memoryBytes)}`);
  if (machine.nrCpus !== standard.nrCpus) given.push(`cpus=${machine.nrCpus}`);
  if (machine.nrNodes !== standard.nrNodes) given.push(`nodes=${machine.nrNodes}`);
  if (machine.profile !== standard.profile) given.push(`profile=${machine.profile}`);
  if (machine.seed !== standard.seed) given.push(`seed=${machine.seed}`);
  if (machine.hasMemoryFailure) given.push("memory_failure=on");
  if (given.length > 0) lines.push(`machine: ${given.join(" ")}`);
  for (const { name, value } of header.knobs) lines.push(`knobs: ${name}=${value}`);
  if (header.swapBytes > 0) lines.push(`swap: ${formatSize(header.swapBytes)}`);
  return lines;
}

/** "R", "R[3]", "R[0..8]" or "R[0..512 by 16]". */
export function formatSpan(span: Span): string {
  if (span.end < 0) return span.range;
  const by = span.step === 1 ? "" : ` by ${span.step}`;
  if (span.end === span.first + 1 && by === "" && span.first < WINDOW_PAGES)
    return `${span.range}[${formatPage(span.first)}]`;
  return `${span.range}[${formatPage(span.first)}..${formatPage(span.end)}${by}]`;
}

function formatPage(page: number): string {
  return page > 0 && page % 512 === 0 ? `${page / 512}hp` : String(page);
}

/** Bytes in the largest unit that is exact. */
export function formatSize(bytes: number): string {
  const size = Math.abs(bytes);
  for (const [unit, letter] of [
    [2 ** 30, "g"],
    [2 ** 20, "m"],
    [2 ** 10, "k"],
  ] as const)
    if (size >= unit && size % unit === 0) return `${bytes / unit}${letter}`;
  return String(bytes);
}

function words(...parts: readonly (string | undefined)[]): string {
  return parts.filter((part) => part !== undefined && part !== "").join(" ");
}

function formatAction(action: Action): string {
  const { verb } = action;
  switch (verb) {
    case "map":
      return words(
        `map ${action.range} ${formatSize(action.sizeBytes)}`,
        action.at && `at=${formatSpan(action.at)}`,
        action.skewPages > 0 ? `skew=${action.skewPages}` : undefined,
        action.prot === "rw" ? undefined : `prot=${formatProt(action.prot)}`,
        ...action.flags,
      );
    case "protect":
      return `protect ${formatSpan(action.span)} ${formatProt(action.prot)}`;
    case "remap":
      return words(
        `remap ${formatSpan(action.span)} ${action.to}`,
        action.sizeBytes === undefined ? undefined : `size=${formatSize(action.sizeBytes)}`,
        action.at && `at=${formatSpan(action.at)}`,
        ...action.flags,
      );
    case "brk":
      return `brk ${formatSize(action.sizeBytes)}`;
    case "madvise":
      return words(
        `madvise ${formatSpan(action.span)} ${adviceName(action.advice)}`,
        ...formatRaw(action),
      );
    case "process-madvise":
      return formatProcessMadvise(action);
    case "khugepaged":
      return `khugepaged passes=${action.nrPasses}`;
    case "mlock2":
      return words(`mlock2 ${formatSpan(action.span)}`, ...action.flags);
    case "mlockall":
      return words("mlockall", ...action.flags);
    case "prctl":
      return `prctl thp-disable ${formatPrctl(action.op, action.args)}`;
    case "pin":
    case "hold-page":
      return `${verb} ${action.name} ${formatSpan(action.span)}`;
    case "knob":
      return `knob ${action.name}=${formatText(action.value)}`;
    case "memcg":
      return words(
        `memcg ${action.name}`,
        action.maxBytes === null ? undefined : `max=${formatSize(action.maxBytes)}`,
      );
    case "limit":
      return `limit ${action.name} ${action.maxBytes === null ? "none" : formatSize(action.maxBytes)}`;
    case "hold":
      return `hold ${action.statement.actor} at ${action.phase}: ${withWanted(action.statement)}`;
    case "fail":
      return words(
        `fail ${action.what}`,
        action.what === "alloc" ? `order=${action.order}` : undefined,
        `count=${action.count}`,
      );
    case "split":
      return words(
        `split ${formatSpan(action.span)}`,
        action.order > 0 ? `order=${action.order}` : undefined,
      );
    case "fragment":
      return `fragment order=${action.order}`;
    case "shrink":
      return `shrink nr=${action.nr}`;
    default:
      if ("span" in action) return `${verb} ${formatSpan(action.span)}`;
      return "name" in action ? `${verb} ${action.name}` : verb;
  }
}

function formatRaw(raw: { offsetBytes?: number; lengthBytes?: number }): (string | undefined)[] {
  const { offsetBytes, lengthBytes } = raw;
  return [
    offsetBytes === undefined ? undefined : `offset=${offsetBytes}`,
    lengthBytes === undefined ? undefined : `length=${formatSize(lengthBytes)}`,
  ];
}

function formatProcessMadvise(action: ProcessMadvise): string {
  const { target, spans, advice, flags, nrElements, isUnreadable } = action;
  return words(
    "process-madvise",
    "process" in target ? target.process : `pidfd=${target.pidfd}`,
    ...spans.map(formatSpan),
    adviceName(advice),
    flags === 0 ? undefined : `flags=${flags}`,
    nrElements === undefined ? undefined : `vlen=${nrElements}`,
    ...formatRaw(action),
    isUnreadable && "vector=unreadable",
  );
}

function formatProt(prot: string): string {
  return prot === "" ? "none" : prot;
}

function formatPrctl(op: "set" | "get", args: readonly number[]): string {
  const text = args.join(" ");
  if (op === "get") return text === "0 0 0 0" ? "get" : `get ${text}`;
  if (text === "1 0 0 0") return "on";
  if (text === "0 0 0 0") return "off";
  return text === "1 2 0 0" ? "except-advised" : text;
}

function formatText(text: string): string {
  return /^[^\s#"[\]]+$/.test(text) ? text : JSON.stringify(text);
}

function formatExpectation({ actor, subject, conditions }: Expectation): string {
  const isOfMain = actor === MAIN;
  const end = conditions.map(formatCondition);
  const label = isOfMain ? "expect" : `expect ${actor}:`;
  switch (subject.kind) {
    case "span":
      return words(label, formatSpan(subject.span), subject.state, ...end);
    case "smaps":
      return words(label, formatSpan(subject.span), "smaps", ...end);
    case "trace":
      return words(label, "trace", subject.events.join(",") || "none", ...end);
    case "counters":
      return words(label, "counters", ...(end.length === 0 ? ["none"] : end));
    default:
      return words(label, subject.kind, ...end);
  }
}

function formatCondition({ key, value }: Condition): string {
  return `${key}=${formatValue(value)}`;
}

export function formatValue(value: WantedValue): string {
  if (value.kind === "word") return formatText(value.text);
  const { low, high } = value;
  return low === high ? formatSize(low) : `${formatSize(low)}..${formatSize(high)}`;
}
