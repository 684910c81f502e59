/**
 * Line charts as SVG text, for the HTML report: axes with round ticks, one line per setting, readable without a script.
 *
 * Entry: lineChart. Colours are CSS variables (--s0, --s1, ...), so that a page's theme decides them.
 * Holds: the drawing depends on nothing but its arguments; every text is escaped.
 */

export interface ChartLine {
  readonly name: string;
  /** Which colour variable; also the class `line-<index>` by which a script shows and hides it. */
  readonly index: number;
  readonly values: readonly number[];
}

export interface Chart {
  readonly title: string;
  /** What the vertical axis shows, in words. */
  readonly unit: string;
  /** Share of the run, 0..1, ascending; as long as each line's values. */
  readonly at: readonly number[];
  readonly lines: readonly ChartLine[];
  readonly print: (value: number) => string;
  /** Steps between ticks: "binary" for bytes (multiples of powers of two), "decimal" for counts. */
  readonly ticks: "binary" | "decimal";
}

const WIDTH = 560;
const HEIGHT = 236;
const LEFT = 74;
const RIGHT = 14;
const TOP = 12;
const BOTTOM = 30;
const PLOT_WIDTH = WIDTH - LEFT - RIGHT;
const PLOT_HEIGHT = HEIGHT - TOP - BOTTOM;
/** Lines nearer than this share of the axis everywhere look the same. */
const SAME = 0.004;

/** A quantity counted between samples, as steps of equal width: what a rate looks like however uneven the samples are. */
export interface Steps {
  /** Each step's begin and end, so that a line through them has right angles. */
  readonly at: readonly number[];
  readonly values: readonly number[];
}

/** `counts[i]` happened between at[i - 1] and at[i]; they are spread evenly there and gathered in `nrSteps` steps. */
export function stepsOf(at: readonly number[], counts: readonly number[], nrSteps: number): Steps {
  const sums = new Array<number>(nrSteps).fill(0);
  counts.forEach((count, i) => {
    const end = at[i];
    const start = i === 0 ? 0 : at[i - 1];
    const last = Math.min(nrSteps - 1, Math.max(0, Math.ceil(end * nrSteps) - 1));
    const first = Math.min(last, Math.floor(start * nrSteps));
    for (let step = first; step <= last; step++) {
      const covered = Math.min(end, (step + 1) / nrSteps) - Math.max(start, step / nrSteps);
      const share = end > start ? Math.max(0, covered) / (end - start) : 1 / (last - first + 1);
      sums[step] = sums[step] + count * share;
    }
  });
  return {
    at: sums.flatMap((_, step) => [step / nrSteps, (step + 1) / nrSteps]),
    values: sums.flatMap((sum) => [sum, sum]),
  };
}

/** An <svg> element. Lines that hide behind an earlier one are dashed, so that both colours show. */
export function lineChart(chart: Chart): string {
  const top = niceTop(Math.max(0, ...chart.lines.flatMap((line) => line.values)), chart.ticks);
  const x = (share: number) => LEFT + share * PLOT_WIDTH;
  const y = (value: number) => TOP + (1 - value / top.high) * PLOT_HEIGHT;
  const parts = [
    ...tickValues(top).map((value) => horizontalTick(y(value), chart.print(value))),
    ...[0, 0.25, 0.5, 0.75, 1].map((share) => verticalTick(x(share), share)),
    ...chart.lines.map((line, i) => {
      const isHidden = chart.lines.slice(0, i).some((other) => isSame(line, other, top.high));
      return path(line, chart.at.map(x), line.values.map(y), isHidden);
    }),
    `<line class="cursor" x1="0" x2="0" y1="${TOP}" y2="${TOP + PLOT_HEIGHT}" visibility="hidden"/>`,
  ];
  const label = escapeHtml(`${chart.title}: ${chart.unit}, over the run's instructions`);
  return (
    `<svg class="chart" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${label}" ` +
    `data-left="${LEFT}" data-width="${PLOT_WIDTH}">${parts.join("")}</svg>`
  );
}

/** `text` safe inside an element or a double-quoted attribute. */
export function escapeHtml(text: string): string {
  const names: Readonly<Record<string, string>> = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    '"': "&quot;",
    "'": "&#39;",
  };
  return text.replace(/[&<>"']/g, (mark) => names[mark]);
}

/** Highest tick and step of an axis that holds `largest` with three to five ticks. */
function niceTop(largest: number, ticks: Chart["ticks"]): { high: number; step: number } {
  if (largest <= 0) return { high: 1, step: 1 };
  const base = ticks === "binary" ? 1024 ** Math.floor(Math.log(largest) / Math.log(1024)) : 1;
  const rough = largest / base / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough)! * power * base;
  return { high: Math.ceil(largest / step) * step, step };
}

function tickValues({ high, step }: { high: number; step: number }): number[] {
  return Array.from({ length: Math.round(high / step) + 1 }, (_, i) => i * step);
}

function horizontalTick(y: number, text: string): string {
  return (
    `<line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${fixed(y)}" y2="${fixed(y)}"/>` +
    `<text class="tick" x="${LEFT - 8}" y="${fixed(y + 4)}" text-anchor="end">${escapeHtml(text)}</text>`
  );
}

function verticalTick(x: number, share: number): string {
  // The last label would be cut off at the edge if it were centred.
  const anchor = share === 1 ? "end" : "middle";
  const place = `x="${fixed(x)}" y="${HEIGHT - 8}" text-anchor="${anchor}"`;
  return `<text class="tick" ${place}>${share * 100} %</text>`;
}

function path(line: ChartLine, xs: number[], ys: number[], isDashed: boolean): string {
  const points = xs.map((x, i) => `${fixed(x)} ${fixed(ys[i])}`).join("L");
  const dash = isDashed ? ' stroke-dasharray="7 7"' : "";
  return (
    `<path class="line line-${line.index}" stroke="var(--s${line.index})"${dash} d="M${points}">` +
    `<title>${escapeHtml(line.name)}</title></path>`
  );
}

function isSame(a: ChartLine, b: ChartLine, high: number): boolean {
  return a.values.every((value, i) => Math.abs(value - b.values[i]) <= SAME * high);
}

function fixed(value: number): string {
  return String(Math.round(value * 10) / 10);
}
