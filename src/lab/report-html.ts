/**
 * The comparison as one self-contained HTML file: advice, key figures, plots over the run, the whole table, the data.
 *
 * Entry: renderHtml. No network, no font, no library: it can be mailed and opened years later.
 * Holds: every text from a recording or a command line is escaped; embedded data cannot end its script element.
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
import { modelledMs, sysfsCommands } from "./advice.ts";
import { type Chart, escapeHtml, lineChart, stepsOf } from "./chart.ts";
import { REPORT_SCRIPT, REPORT_STYLE } from "./report-html-assets.ts";
import { renderMarkdown } from "./report-markdown.ts";
import { type ReportCell, reportFacts, reportSections, shellWords } from "./report-rows.ts";
import type { ComparisonResult, SettingResult } from "./result.ts";

const NR_COLOURS = 8;

/** The whole document. */
export function renderHtml(result: ComparisonResult, bytes: ByteStyle = "scaled"): string {
  const program = result.trace.header.command[0]?.split("/").at(-1) ?? result.trace.name;
  const title = `Transparent huge pages for ${program}`;
  const charts = chartsOf(result, bytes);
  const body = [
    `<div class="tools"></div><p class="brand">hugelab</p><h1>${escapeHtml(title)}</h1>`,
    `<p class="command soft"><code>${escapeHtml(shellWords(result.trace.header.command))}</code></p>`,
    adviceCard(result),
    `<h2>Side by side</h2>${figures(result, bytes)}`,
    `<h2>Over the run</h2>${legend(result.settings)}${chartGrid(charts)}`,
    partsSection(result.settings),
    `<h2>All figures</h2>${fullTable(result, bytes)}`,
    `<h2>What was run</h2>${facts(result, bytes)}`,
    "<footer>Made by hugelab; simulated times come from a cost model, not from a clock. This file needs no network.</footer>",
  ];
  return [
    "<!doctype html>",
    `<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">`,
    `<title>${escapeHtml(title)}</title><style>${REPORT_STYLE}</style></head>`,
    `<body><main>${body.join("\n")}</main>`,
    dataElement("report", result),
    dataElement("markdown", renderMarkdown(result, bytes)),
    dataElement("plots", plotData(result, charts)),
    `<script>${REPORT_SCRIPT}</script></body></html>\n`,
  ].join("\n");
}

function dataElement(id: string, data: unknown): string {
  const json = JSON.stringify(data).replaceAll("<", "\\u003c");
  return `<script type="application/json" id="${id}">${json}</script>`;
}

function adviceCard(result: ComparisonResult): string {
  const chosen = result.settings.find((setting) => setting.name === result.advice.setting);
  const commands = chosen ? sysfsCommands(chosen) : [];
  const code = commands.length > 0 ? `<pre>${escapeHtml(commands.join("\n"))}</pre>` : "";
  return `<section class="card advice"><h2>${chosen ? `Advice: ${escapeHtml(chosen.name)}` : "No advice"}</h2><p>${prose(result.advice.text)}</p>${code}</section>`;
}

/** One line per setting: bars for predicted time, peak memory and huge coverage, and the slowest fault. */
function figures(result: ComparisonResult, bytes: ByteStyle): string {
  const { settings } = result;
  const longest = Math.max(0, ...settings.map((s) => timeWithMargin(s) ?? modelledMs(s)));
  const largest = Math.max(0, ...settings.map((s) => s.memory.peakTotalRssBytes));
  const isPredicted = settings.some((s) => s.time.predictedMs !== null);
  const heads = [
    "",
    isPredicted ? "predicted run time, ± uncertainty" : "modelled cost (simulated)",
    "peak RSS, all processes; hatched: never written",
    settings.some((s) => s.huge.atPeak)
      ? "anonymous memory at the peak: in use as huge / eligible / permitted"
      : "PMD-mapped share of anonymous memory at the peak",
    "slowest fault",
  ];
  const rows = settings.flatMap((setting, i) => [
    `<div class="name">${swatch(i)}${escapeHtml(setting.name)}</div>`,
    timeFigure(setting, settings[0], longest, i),
    memoryFigure(setting, settings[0], largest, i, bytes),
    hugeFigure(setting, i),
    `<div class="number">${formatNs(setting.faults.latencyNs.max)}</div>`,
  ]);
  const head = heads.map((text) => `<div class="head">${text}</div>`).join("");
  return `<section class="card figures">${head}${rows.join("")}</section>`;
}

function timeFigure(setting: SettingResult, baseline: SettingResult, longest: number, i: number) {
  const { predictedMs, uncertainty } = setting.time;
  if (predictedMs === null) {
    const cost = modelledMs(setting);
    return `<div>${bar(cost / (longest || 1), colour(i))}<span class="number">${formatMs(cost)}</span></div>`;
  }
  const low = (predictedMs * (1 - uncertainty)) / (longest || 1);
  const high = (predictedMs * (1 + uncertainty)) / (longest || 1);
  const whisker = `<i class="whisker" style="left:${percent(low)};width:${percent(high - low)}"></i>`;
  const change = changeText(
    predictedMs,
    baseline.time.predictedMs,
    setting === baseline,
    uncertainty,
  );
  const value = `<span class="number">${formatMs(predictedMs)}${change}</span>`;
  return `<div>${bar(predictedMs / (longest || 1), colour(i), whisker)}${value}</div>`;
}

function memoryFigure(
  setting: SettingResult,
  baseline: SettingResult,
  largest: number,
  i: number,
  bytes: ByteStyle,
): string {
  const peak = setting.memory.peakTotalRssBytes;
  const unused = Math.min(setting.memory.peakNeverWrittenBytes, peak);
  const left = percent((peak - unused) / (largest || 1));
  const hatch = `<i class="unused" style="left:${left};width:${percent(unused / (largest || 1))}"></i>`;
  const change = changeText(peak, baseline.memory.peakTotalRssBytes, setting === baseline, 0.001);
  const value = `<span class="number">${formatBytes(peak, bytes)}${change}</span>`;
  return `<div>${bar(peak / (largest || 1), colour(i), hatch)}${value}</div>`;
}

/** Three shares of the anonymous memory, never mixed up: in use solid, eligible and permitted fainter. */
function hugeFigure({ huge }: SettingResult, i: number): string {
  const use = huge.atPeak;
  if (use === undefined || use.anonymousBytes === 0) {
    return `<div>${bar(huge.coverageAtPeak, colour(i))}<span class="number">${formatShare(huge.coverageAtPeak)}</span></div>`;
  }
  const share = (bytes: number) => bytes / use.anonymousBytes;
  const inUse = share(use.anonymousBytes - (use.bySize["4kB"] ?? 0));
  const layer = (name: string, bytes: number) =>
    `<i class="${name}" style="width:${percent(share(bytes))};background:${colour(i)}"></i>`;
  const fainter = layer("permitted", use.permittedBytes) + layer("eligible", use.eligibleBytes);
  const rest = [use.eligibleBytes, use.permittedBytes].map((bytes) => formatShare(share(bytes)));
  const words = `${formatShare(inUse)} <span class="soft">/ ${rest.join(" / ")}</span>`;
  return `<div>${bar(inUse, colour(i), fainter)}<span class="number">${words}</span></div>`;
}

/** Escaped text in which a number stays with its unit. */
function prose(text: string): string {
  return escapeHtml(text).replace(/(\d) (?=%|[kMGTKn]?i?[Bs]\b|[um]s\b|\d)/g, "$1&nbsp;");
}

/** " (-11.0 %)", green or red only beyond what counts as no difference. */
function changeText(value: number, before: number | null, isBaseline: boolean, same: number) {
  if (isBaseline || before === null || before === 0) return "";
  const change = value / before - 1;
  const tone = Math.abs(change) <= same ? "soft" : change < 0 ? "good" : "bad";
  return ` <span class="${tone}">${formatChange(change)}</span>`;
}

function timeWithMargin({ time }: SettingResult): number | null {
  return time.predictedMs === null ? null : time.predictedMs * (1 + time.uncertainty);
}

/** Rates are drawn over steps of this share of the run. */
const NR_STEPS = 50;

function chartsOf({ settings }: ComparisonResult, bytes: ByteStyle): readonly Chart[] {
  const { at } = settings[0].series;
  const size = (value: number) => formatBytes(value, bytes);
  const linesOf = (pick: (setting: SettingResult) => readonly number[]) =>
    settings.map((s, i) => ({ name: s.name, index: i % NR_COLOURS, values: pick(s) }));
  const levels = (title: string, unit: string, pick: (s: SettingResult) => readonly number[]) =>
    ({ title, unit, at, lines: linesOf(pick), print: size, ticks: "binary" }) as const;
  const rates = (title: string, pick: (s: SettingResult) => readonly number[]): Chart => ({
    title,
    unit: `per ${100 / NR_STEPS} % of the run`,
    at: stepsOf(at, [], NR_STEPS).at,
    lines: linesOf((s) => stepsOf(s.series.at, pick(s), NR_STEPS).values),
    print: formatCount,
    ticks: "decimal",
  });
  return [
    levels("RSS", "all processes", (s) => s.series.rssBytes),
    levels("Huge coverage", "AnonHugePages", (s) => s.series.hugeBytes),
    rates("Faults", (s) => s.series.faults),
    ...(settings.some((s) => s.tlb !== null)
      ? [rates("Walk cycles", (s) => s.series.walkCycles)]
      : []),
  ];
}

function chartGrid(charts: readonly Chart[]): string {
  const cards = charts.map(
    (chart) =>
      `<section class="card"><header><h3>${chart.title}</h3><span class="unit">${chart.unit}</span></header>${lineChart(chart)}</section>`,
  );
  return `<div class="charts">${cards.join("")}</div><p class="soft">Horizontal: share of the program's instructions. A dashed line lies on another.</p>`;
}

function plotData(result: ComparisonResult, charts: readonly Chart[]) {
  return {
    names: result.settings.map((setting) => setting.name),
    charts: charts.map((chart) => ({
      at: chart.at,
      lines: chart.lines.map((line) => line.values.map(chart.print)),
    })),
  };
}

function legend(settings: readonly SettingResult[]): string {
  const buttons = settings.map(
    (setting, i) =>
      `<button type="button" data-index="${i % NR_COLOURS}" aria-pressed="true">${swatch(i)}${escapeHtml(setting.name)}</button>`,
  );
  return `<div class="legend">${buttons.join("")}</div>`;
}

/** What differs between the settings, stacked, and how each part was computed. */
function partsSection(settings: readonly SettingResult[]): string {
  const names = [...new Set(settings.flatMap((s) => s.time.parts.map((part) => part.name)))];
  if (names.length === 0) return "";
  const longest = Math.max(...settings.map(modelledMs)) || 1;
  const rows = settings.map((setting, i) => {
    const pieces = setting.time.parts.map((part) => {
      const number = names.indexOf(part.name) % NR_COLOURS;
      const hint = escapeHtml(`${part.name}: ${formatMs(part.ms)} = ${part.basis}`);
      return `<i style="width:${percent(part.ms / longest)};background:var(--p${number})" title="${hint}"></i>`;
    });
    return `<div>${swatch(i)}${escapeHtml(setting.name)}</div><div class="stack">${pieces.join("")}</div><div class="number">${formatMs(modelledMs(setting))}</div>`;
  });
  const key = names.map((name, i) => `<span>${swatch(i, "p")}${escapeHtml(name)}</span>`).join("");
  const basis = settings.flatMap((setting) =>
    setting.time.parts.map(
      (part) =>
        `<tr><td>${escapeHtml(setting.name)}</td><td class="text">${escapeHtml(part.name)}</td><td>${formatMs(part.ms)}</td><td class="text">${escapeHtml(part.basis)}</td></tr>`,
    ),
  );
  return (
    `<h2>What the prediction is made of</h2><section class="card"><div class="parts">${rows.join("")}</div>` +
    `<div class="key soft">${key}</div><details><summary>How each part was computed</summary><div class="scroll"><table>` +
    `<thead><tr><th>setting</th><th class="text">part</th><th>simulated</th><th class="text">basis</th></tr></thead><tbody>${basis.join("")}</tbody></table></div></details></section>`
  );
}

function fullTable(result: ComparisonResult, bytes: ByteStyle): string {
  const { settings } = result;
  const heads = settings.map((s, i) => `<th>${swatch(i)}${escapeHtml(s.name)}</th>`).join("");
  const rows = reportSections(result, bytes).flatMap((section) => [
    `<tr class="section"><th colspan="${settings.length + 1}">${escapeHtml(section.title)}${section.note ? `<br><span class="soft">${escapeHtml(section.note)}</span>` : ""}</th></tr>`,
    ...section.rows.map((row) => {
      const isPart = row.name.startsWith("  ");
      const cells = row.cells.map(tableCell).join("");
      return `<tr><td${isPart ? ' class="sub"' : ""}>${escapeHtml(row.name.trim())}</td>${cells}</tr>`;
    }),
  ]);
  return `<section class="card scroll"><table><thead><tr><th></th>${heads}</tr></thead><tbody>${rows.join("")}</tbody></table></section>`;
}

function tableCell({ text, mark }: ReportCell): string {
  if (mark === "none") return `<td>${escapeHtml(text)}</td>`;
  return `<td><span class="${mark} ${mark === "best" ? "good" : "bad"}">${escapeHtml(text)}</span></td>`;
}

function facts(result: ComparisonResult, bytes: ByteStyle): string {
  const lines = reportFacts(result, bytes).map((fact) => {
    const [name, ...words] = fact.split(/\s{2,}/);
    return `<tr><td>${escapeHtml(name)}</td><td class="text">${escapeHtml(words.join("  "))}</td></tr>`;
  });
  const knobs = result.settings.map((setting) => {
    const text = Object.entries(setting.knobs).map(([name, value]) => `${name}=${value}`);
    return `<tr><td>${escapeHtml(setting.name)}</td><td class="text mono">${escapeHtml(text.join(" ") || "kernel defaults")}</td></tr>`;
  });
  const missing = result.notModelled.map((sentence) => `<li>${escapeHtml(sentence)}</li>`);
  return (
    `<section class="card"><table><tbody>${lines.join("")}</tbody></table>` +
    `<details><summary>Knobs of each setting</summary><table><tbody>${knobs.join("")}</tbody></table></details>` +
    `<details><summary>Kernel counters</summary><div class="scroll">${counters(result.settings)}</div></details></section>` +
    (missing.length > 0
      ? `<h2>Not modelled</h2><section class="card"><ul>${missing.join("")}</ul></section>`
      : "")
  );
}

function counters(settings: readonly SettingResult[]): string {
  const names = [...new Set(settings.flatMap((setting) => Object.keys(setting.counters)))].sort();
  const heads = settings.map((setting) => `<th>${escapeHtml(setting.name)}</th>`).join("");
  const rows = names.map((name) => {
    const cells = settings.map((s) => `<td>${formatCount(s.counters[name] ?? 0)}</td>`).join("");
    return `<tr><td class="mono">${escapeHtml(name)}</td>${cells}</tr>`;
  });
  return `<table><thead><tr><th></th>${heads}</tr></thead><tbody>${rows.join("")}</tbody></table>`;
}

function bar(share: number, background: string, over = ""): string {
  return `<div class="bar"><i style="width:${percent(share)};background:${background}"></i>${over}</div>`;
}

/** `palette`: "s" colours settings, "p" parts of a time, so that one is not taken for the other. */
function swatch(index: number, palette: "s" | "p" = "s"): string {
  const background = `var(--${palette}${index % NR_COLOURS})`;
  return `<span class="swatch" style="background:${background}"></span>`;
}

function colour(index: number): string {
  return `var(--s${index % NR_COLOURS})`;
}

function percent(share: number): string {
  return `${Math.max(0, Math.min(100, share * 100)).toFixed(2)}%`;
}
