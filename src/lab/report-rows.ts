/**
 * The rows of a comparison: which figures every report shows, under which names, in which order and group.
 *
 * Entry: reportSections. The terminal table, markdown and HTML lay the same rows out, so that a figure has one name.
 * Holds: a row that no setting has a value for is left out; a cell without a value reads "-".
 * Units: in the text of each cell; simulated times say so in the row's name.
 */

import {
  type ByteStyle,
  formatBytes,
  formatChange,
  formatCount,
  formatMs,
  formatNs,
  formatShare,
} from "../base/units.ts";
import type { ComparisonResult, HugeUse, KhugepagedResult, SettingResult } from "./result.ts";

export interface ReportSection {
  readonly title: string;
  /** What the section's figures mean, where their names do not say it. */
  readonly note?: string;
  readonly rows: readonly ReportRow[];
}

export interface ReportRow {
  readonly name: string;
  readonly cells: readonly ReportCell[];
}

export interface ReportCell {
  readonly text: string;
  /** Best or worst of its row, if the row has a better direction and the settings differ by more than a percent. */
  readonly mark: "best" | "worst" | "none";
}

/** How a row is made: one value per setting, null where it has none. */
interface RowSpec {
  readonly name: string;
  readonly value: (setting: SettingResult) => number | null;
  readonly print: (value: number) => string;
  readonly better?: "lower" | "higher";
}

/** Differences below this share are not marked. */
const MARKED_DIFFERENCE = 0.01;
const NO_VALUE = "-";

/** All sections that have rows. */
export function reportSections(
  result: ComparisonResult,
  bytes: ByteStyle = "scaled",
): readonly ReportSection[] {
  const { settings } = result;
  const size = (value: number) => formatBytes(value, bytes);
  const sections: (Omit<ReportSection, "rows"> & { specs: RowSpec[] })[] = [
    { title: "Run time", specs: timeRows(settings) },
    { title: "Memory", specs: memoryRows(result, size) },
    {
      title: "Anonymous memory at the peak",
      note: "permitted by knobs and advice; eligible: in an aligned block inside its mapping; in use: what lies in folios of each size",
      specs: hugeUseRows(settings, size),
    },
    { title: "Huge pages", specs: hugeRows() },
    {
      title: "khugepaged",
      note: "in the virtual time of the recording; its CPU time is not part of the predicted time",
      specs: khugepagedRows(size),
    },
    { title: "Faults", specs: faultRows(settings) },
    { title: "Address translation, whole run", specs: tlbRows() },
  ];
  return sections
    .map(({ specs, ...rest }) => ({
      ...rest,
      rows: specs.flatMap((spec) => rowOf(spec, settings)),
    }))
    .filter((section) => section.rows.length > 0);
}

/** Names of the settings, the heads of the columns. */
export function settingNames(result: ComparisonResult): readonly string[] {
  return result.settings.map((setting) => setting.name);
}

/** What was run and on what, one fact a line. */
export function reportFacts(
  result: ComparisonResult,
  bytes: ByteStyle = "scaled",
): readonly string[] {
  const { trace, machine } = result;
  const { header } = trace;
  const touched = `${formatCount(trace.nrPagesTouched)} pages (${formatBytes(trace.nrPagesTouched * 4096, bytes)}) touched`;
  const who = `${plural(trace.nrProcesses, "process", "processes")}, ${plural(trace.nrThreads, "thread", "threads")}`;
  const plain = header.plainRun;
  const facts = [
    `program    ${shortened(shellWords(header.command))}`,
    `recording  ${trace.name} (${header.source}): ${who}, ${formatCount(trace.nrTicks)} instructions, ` +
      `${formatCount(trace.nrAccesses)} accesses, ${touched}`,
    `machine    ${formatBytes(machine.memoryBytes, bytes)}, ${machine.profile}, ${machine.translation}, seed ${machine.seed}`,
    `TLB        ${machine.geometry}`,
    `costs      ${machine.costs}`,
    `clock      ${formatNs(trace.clock.nsPerTick)} an instruction, ${trace.clock.from === "nominal" ? "nominal" : "from the plain run"}: the time in which khugepaged sleeps`,
  ];
  if (plain) {
    const runs = plural(plain.nrRuns, "run", "runs");
    facts.splice(
      2,
      0,
      `plain run  ${formatMs(plain.wallMs)}, peak RSS ${formatBytes(plain.peakRssBytes, bytes)}, median of ${runs} with THP off on ${plain.cpu}, Linux ${plain.kernel}`,
    );
  }
  return facts;
}

/** A command as a shell would need it, in one line. */
export function shellWords(command: readonly string[]): string {
  return command.map(shellWord).join(" ");
}

function shellWord(word: string): string {
  if (/^[\w@%+=:,./-]+$/.test(word)) return word;
  const quoted = word.replaceAll("'", "'\\''");
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not reach a terminal
  if (!/[\x00-\x1f\x7f]/.test(word)) return `'${quoted}'`;
  const escaped = word.replace(/[\\']/g, "\\$&").replaceAll("\n", "\\n");
  // biome-ignore lint/suspicious/noControlCharactersInRegex: as above
  return `$'${escaped.replace(/[\x00-\x1f\x7f]/g, hexEscape)}'`;
}

function hexEscape(mark: string): string {
  return `\\x${mark.charCodeAt(0).toString(16).padStart(2, "0")}`;
}

const MAX_COMMAND = 200;

function shortened(text: string): string {
  return text.length <= MAX_COMMAND ? text : `${text.slice(0, MAX_COMMAND - 3)}...`;
}

function plural(count: number, one: string, many: string): string {
  return `${formatCount(count)} ${count === 1 ? one : many}`;
}

function rowOf(spec: RowSpec, settings: readonly SettingResult[]): ReportRow[] {
  const values = settings.map(spec.value);
  if (values.every((value) => value === null)) return [];
  const marks = marksOf(values, spec.better);
  const cells = values.map((value, i) => ({
    text: value === null ? NO_VALUE : spec.print(value),
    mark: marks[i],
  }));
  return [{ name: spec.name, cells }];
}

function marksOf(
  values: readonly (number | null)[],
  better: RowSpec["better"],
): readonly ReportCell["mark"][] {
  const known = values.filter((value) => value !== null);
  const low = Math.min(...known);
  const high = Math.max(...known);
  const isSpread = high - low > MARKED_DIFFERENCE * Math.max(Math.abs(high), Math.abs(low));
  if (better === undefined || !isSpread) return values.map(() => "none");
  const [best, worst] = better === "lower" ? [low, high] : [high, low];
  return values.map((value) => (value === best ? "best" : value === worst ? "worst" : "none"));
}

function timeRows(settings: readonly SettingResult[]): RowSpec[] {
  const baseline = settings[0].time.predictedMs;
  const change = (setting: SettingResult) => {
    const { predictedMs } = setting.time;
    return predictedMs === null || !baseline ? null : predictedMs / baseline - 1;
  };
  const partNames = new Set(settings.flatMap((s) => s.time.parts.map((part) => part.name)));
  return [
    { name: "recorded", value: (s) => s.time.recordedMs, print: formatMs },
    { name: "predicted", value: (s) => s.time.predictedMs, print: formatMs, better: "lower" },
    { name: `against ${settings[0].name}`, value: change, print: formatChange },
    {
      name: "uncertainty",
      value: (s) => (s.time.predictedMs === null ? null : s.time.uncertainty),
      print: (share) => `±${formatShare(share)}`,
    },
    ...[...partNames].map(
      (name): RowSpec => ({
        name: `  ${name} (simulated)`,
        value: (s) => s.time.parts.find((part) => part.name === name)?.ms ?? null,
        print: formatMs,
      }),
    ),
  ];
}

function memoryRows(result: ComparisonResult, size: (bytes: number) => string): RowSpec[] {
  const isOne = result.trace.nrProcesses === 1;
  const total: RowSpec = {
    name: "peak RSS, all processes",
    value: (s) => s.memory.peakTotalRssBytes,
    print: size,
    better: "lower",
  };
  return [
    {
      name: isOne ? "peak RSS" : "peak RSS, largest process",
      value: (s) => s.memory.peakRssBytes,
      print: size,
      better: "lower",
    },
    ...(isOne ? [] : [total]),
    { name: "  never written", value: (s) => s.memory.peakNeverWrittenBytes, print: size },
    {
      name: "    brought by faults",
      value: (s) => s.memory.growth?.byFaultBytes ?? null,
      print: size,
    },
    {
      name: "    filled by collapse",
      value: (s) => s.memory.growth?.byCollapseBytes ?? null,
      print: size,
    },
    {
      name: "  beyond it: not yet split",
      value: (s) => s.memory.growth?.notYetSplitBytes ?? null,
      print: size,
    },
    { name: "final RSS", value: (s) => s.memory.finalRssBytes, print: size, better: "lower" },
    { name: "  never written", value: (s) => s.memory.finalNeverWrittenBytes, print: size },
    {
      name: "peak page tables",
      value: (s) => s.memory.peakPageTableBytes,
      print: size,
      better: "lower",
    },
  ];
}

function hugeUseRows(
  settings: readonly SettingResult[],
  size: (bytes: number) => string,
): RowSpec[] {
  const of = (pick: (use: HugeUse) => number) => (s: SettingResult) =>
    s.huge.atPeak === undefined ? null : pick(s.huge.atPeak);
  const sizes = new Set(settings.flatMap((s) => Object.keys(s.huge.atPeak?.bySize ?? {})));
  return [
    { name: "resident", value: of((use) => use.anonymousBytes), print: size },
    { name: "permitted", value: of((use) => use.permittedBytes), print: size },
    { name: "eligible", value: of((use) => use.eligibleBytes), print: size },
    ...[...sizes].sort(bySizeName).map(
      (name): RowSpec => ({
        name: `in use: ${name}`,
        value: of((use) => use.bySize[name] ?? 0),
        print: size,
      }),
    ),
  ];
}

function bySizeName(a: string, b: string): number {
  return Number.parseInt(a, 10) - Number.parseInt(b, 10) || (a < b ? -1 : 1);
}

function hugeRows(): RowSpec[] {
  return [
    { name: "huge coverage at the peak", value: (s) => s.huge.coverageAtPeak, print: formatShare },
    { name: "huge coverage at the end", value: (s) => s.huge.coverageAtEnd, print: formatShare },
    { name: "thp_split_pmd", value: (s) => s.huge.splitPmd, print: formatCount },
    { name: "thp_split_page", value: (s) => s.huge.splitFolio, print: formatCount },
    { name: "thp_deferred_split_page", value: (s) => s.huge.deferredSplit, print: formatCount },
  ];
}

function khugepagedRows(size: (bytes: number) => string): RowSpec[] {
  const of = (pick: (found: KhugepagedResult) => number | null) => (s: SettingResult) =>
    s.khugepaged === undefined ? null : pick(s.khugepaged);
  return [
    {
      name: "CPU time (simulated)",
      value: of((k) => k.cpuMs),
      print: formatMs,
      better: "lower",
    },
    { name: "passes", value: of((k) => k.passes), print: formatCount },
    { name: "regions scanned", value: of((k) => k.regionsScanned), print: formatCount },
    { name: "regions collapsed", value: of((k) => k.regionsCollapsed), print: formatCount },
    { name: "filled with zeroes", value: of((k) => k.filledBytes), print: size },
    {
      name: "90 % of most huge memory after",
      value: of((k) => k.msUntilCoverage),
      print: formatMs,
      better: "lower",
    },
  ];
}

function faultRows(settings: readonly SettingResult[]): RowSpec[] {
  const kinds = new Set(settings.flatMap((s) => Object.keys(s.faults.byKind)));
  return [
    { name: "faults", value: (s) => s.faults.total, print: formatCount, better: "lower" },
    ...[...kinds].map(
      (kind): RowSpec => ({
        name: `  ${kind}`,
        value: (s) => s.faults.byKind[kind] ?? 0,
        print: formatCount,
      }),
    ),
    { name: "major faults", value: (s) => s.faults.majorFaults, print: formatCount },
    ...(settings.some((s) => s.faults.outOfMemory !== undefined)
      ? [
          {
            name: "found no memory",
            value: (s: SettingResult) => s.faults.outOfMemory ?? 0,
            print: formatCount,
            better: "lower" as const,
          },
        ]
      : []),
    { name: "latency p50 (simulated)", value: (s) => s.faults.latencyNs.p50, print: formatNs },
    { name: "latency p99 (simulated)", value: (s) => s.faults.latencyNs.p99, print: formatNs },
    {
      name: "latency max (simulated)",
      value: (s) => s.faults.latencyNs.max,
      print: formatNs,
      better: "lower",
    },
  ];
}

function tlbRows(): RowSpec[] {
  const of = (pick: (tlb: NonNullable<SettingResult["tlb"]>) => number) => (s: SettingResult) =>
    s.tlb === null ? null : pick(s.tlb);
  return [
    { name: "accesses", value: of((tlb) => tlb.accesses), print: formatCount },
    {
      name: "L1 TLB misses",
      value: of((tlb) => tlb.l1Misses),
      print: formatCount,
      better: "lower",
    },
    {
      name: "L2 TLB misses",
      value: of((tlb) => tlb.l2Misses),
      print: formatCount,
      better: "lower",
    },
    {
      name: "walk references",
      value: of((tlb) => tlb.walkReferences),
      print: formatCount,
      better: "lower",
    },
    {
      name: "walk cycles",
      value: of((tlb) => tlb.walkCycles),
      print: formatCount,
      better: "lower",
    },
  ];
}
