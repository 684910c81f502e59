/**
 * From what native/calibrate measured to the cost table that the model prices with.
 *
 * Entry: parseMeasurements (the helper's JSON), costsFrom (measurements to a cost table). What it says of the translation
 *        hardware comes from calibrate-hardware.ts.
 * Owns:  nothing; pure functions.
 * Units: nanoseconds. A figure that could not be measured is left out and comes from the built-in base table.
 */

import { AssertionFailure } from "../base/assert.ts";
import type { CostFigure, CostName, CostTableJson, LatencyName } from "../hw/cost-model.ts";
import { hardwareFrom, l2TlbHitFrom, l3LatencyFrom } from "./calibrate-hardware.ts";

/** One measured quantity; p10, median and p90 over `n` samples. */
export interface Measurement {
  readonly name: string;
  readonly unit: string;
  readonly n: number;
  readonly p10: number;
  readonly median: number;
  readonly p90: number;
}

export interface Measurements {
  readonly measurements: readonly Measurement[];
  /** What could not be measured, and why. */
  readonly skipped: readonly { readonly name: string; readonly why: string }[];
}

/** Where a table was measured. */
export interface HostName {
  readonly cpu: string;
  readonly kernel: string;
  readonly isVirtual: boolean;
}

/** The helper's output; anything else from it is our defect. */
export function parseMeasurements(text: string): Measurements {
  const json = JSON.parse(text) as Measurements & { schema?: string };
  if (json.schema !== "hugelab.measurements") {
    throw new AssertionFailure("the calibration program printed something else than measurements");
  }
  return json;
}

/** The cost table of a host, completed by the built-in table `base`. */
export function costsFrom(found: Measurements, host: HostName, base: string): CostTableJson {
  const measured = new Map(found.measurements.map((m) => [m.name, m]));
  const figures: Partial<Record<CostName, CostFigure>> = {};
  for (const [name, formula] of FORMULAS) put(figures, name, evaluate(formula, measured));
  Object.assign(figures, largeFolioFigures(measured));
  const clock = measured.get("core_cycles_per_ns");
  if (clock) {
    const source = `calibrate: dependent additions, ${clock.median.toFixed(2)} GHz`;
    figures.cycle = { ns: 1 / clock.median, source };
  }

  put(figures, "l2TlbHit", l2TlbHitFrom(measured));

  const latencies: Partial<Record<LatencyName, CostFigure>> = {};
  for (const [name, formula] of LATENCY_FORMULAS) put(latencies, name, evaluate(formula, measured));
  put(latencies, "l3Ns", l3LatencyFrom(measured));
  return {
    schema: "hugelab.costs",
    version: 1,
    name: "this host",
    description: describeHost(host),
    base,
    figures,
    latencies,
    hardware: hardwareFrom(measured, host.isVirtual),
  };
}

/** E.g. "AMD EPYC, virtual machine, Linux 6.18.0": also how a stored table is known to be this host's. */
export function describeHost(host: HostName): string {
  return `${host.cpu}, ${host.isVirtual ? "virtual machine" : "bare metal"}, Linux ${host.kernel}`;
}

/** A figure as (a - b - ...) / divisor of medians. */
interface Formula {
  readonly plus: string;
  readonly minus: readonly string[];
  readonly divisor: number;
}

function of(plus: string, minus: readonly string[] = [], divisor = 1): Formula {
  return { plus, minus, divisor };
}

const FORMULAS: readonly (readonly [CostName, Formula])[] = [
  ["faultAnon", of("fault_4k_write")],
  ["faultZero", of("fault_zero_page_read")],
  ["faultReuse", of("fault_cow_reuse")],
  ["faultCow", of("fault_cow_copy")],
  ["faultHuge", of("fault_huge_zero_read")],
  ["faultHugeZero", of("fault_huge_zero_read")],
  ["faultHugeReuse", of("fault_2m_cow_reuse")],
  ["faultShmem", of("fault_shmem_write")],
  ["clearHuge", of("fault_2m_write", ["fault_huge_zero_read"])],
  ["copyHuge", of("copy_4k", [], 1 / 512)],
  ["syscall", of("syscall_base")],
  ["mmap", of("syscall_mmap")],
  ["munmap", of("syscall_munmap")],
  ["mprotect", of("syscall_mprotect")],
  ["mprotectPte", of("mprotect_4k_page")],
  ["mprotectHuge", of("mprotect_2m_page")],
  ["movePte", of("mremap_4k_page")],
  ["moveHuge", of("mremap_2m_page")],
  ["brk", of("syscall_brk")],
  ["madvise", of("syscall_madvise")],
  ["unmapPage", of("munmap_4k_page")],
  ["unmapHuge", of("munmap_2m_page")],
  ["zapPte", of("munmap_file_page")],
  ["lazyFreePage", of("lazyfree_4k_page")],
  ["lazyFreeHuge", of("lazyfree_2m_page")],
  ["splitPmd", of("split_pmd")],
  ["splitFolioPage", of("split_folio", ["split_pmd"], 512)],
  ["fork", of("fork_exit_wait")],
  ["forkPte", of("fork_4k_page")],
  ["forkHuge", of("fork_2m_page")],
  ["exec", of("exec_exit_wait")],
  ["unmapShared", of("exit_shared_4k_page")],
  ["unmapSharedHuge", of("exit_shared_2m_page")],
  ["collapsePage", of("collapse_512", ["collapse_1"], 511)],
  ["collapse", of("collapse_1")],
];

const LATENCY_FORMULAS: readonly (readonly [LatencyName, Formula])[] = [
  ["l1Ns", of("dependent_read_2m_16k", ["dependent_arithmetic"])],
  ["l2Ns", of("dependent_read_2m_256k", ["dependent_arithmetic"])],
  ["l3Ns", of("dependent_read_2m_4m", ["dependent_arithmetic"])],
  ["memoryNs", of("dependent_read_2m_64m", ["dependent_arithmetic"])],
];

function put<Name extends string>(
  figures: Partial<Record<Name, CostFigure>>,
  name: Name,
  figure: CostFigure | null,
): void {
  if (figure) figures[name] = figure;
}

/** null if a part was not measured or the difference drowned in noise. */
function evaluate(formula: Formula, measured: ReadonlyMap<string, Measurement>): CostFigure | null {
  const plus = measured.get(formula.plus);
  if (!plus) return null;
  let ns = plus.median;
  for (const name of formula.minus) {
    const minus = measured.get(name);
    if (!minus) return null;
    ns -= minus.median;
  }
  if (!(ns > 0)) return null;

  const less = formula.minus.map((name) => ` less ${name}`).join("");
  const spread = `p10 ${short(plus.p10)}, p90 ${short(plus.p90)} of ${plus.n}`;
  return { ns: ns / formula.divisor, source: `calibrate: ${formula.plus}${less} (${spread})` };
}

/** Fault of an mTHP = faultLarge + pages x clearLargePage: least squares over the sizes, relative errors. */
function largeFolioFigures(
  measured: ReadonlyMap<string, Measurement>,
): Partial<Record<CostName, CostFigure>> {
  const points: { pages: number; ns: number }[] = [];
  for (const kb of [16, 32, 64, 128, 256, 512, 1024]) {
    const fault = measured.get(`fault_${kb}k_write`);
    if (fault) points.push({ pages: kb / 4, ns: fault.median });
  }
  const around = measured.get("fault_file_around_pages");
  const file = measured.get("fault_file_read");
  const figures: Partial<Record<CostName, CostFigure>> = {};
  if (points.length >= 3) {
    const line = fitLine(points);
    const source = `calibrate: line through ${points.length} sizes of mTHP faults`;
    if (line.slope > 0 && line.start > 0) {
      figures.clearLargePage = { ns: line.slope, source };
      figures.faultLarge = { ns: line.start, source };
    }
  }
  const zero = measured.get("fault_zero_page_read");
  if (around && file && zero && around.median > 1 && file.median > zero.median) {
    const ns = (file.median - zero.median) / (around.median - 1);
    const source = `calibrate: fault_file_read less fault_zero_page_read, per page around`;
    figures.faultFile = { ns: zero.median, source: "calibrate: as fault_zero_page_read" };
    figures.faultFileAround = { ns, source };
  }
  return figures;
}

/** ns = start + slope x pages, minimising squared relative errors. */
function fitLine(points: readonly { pages: number; ns: number }[]): {
  start: number;
  slope: number;
} {
  let sw = 0;
  let sx = 0;
  let sy = 0;
  let sxx = 0;
  let sxy = 0;
  for (const { pages, ns } of points) {
    const weight = 1 / (ns * ns);
    sw += weight;
    sx += weight * pages;
    sy += weight * ns;
    sxx += weight * pages * pages;
    sxy += weight * pages * ns;
  }
  const slope = (sw * sxy - sx * sy) / (sw * sxx - sx * sx);
  return { slope, start: (sy - slope * sx) / sw };
}

/** Nanoseconds in three digits with a unit. */
export function short(ns: number): string {
  const [value, unit] = ns >= 1e6 ? [ns / 1e6, "ms"] : ns >= 1e3 ? [ns / 1e3, "us"] : [ns, "ns"];
  return `${Number(value.toPrecision(3))} ${unit}`;
}
