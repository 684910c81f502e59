/**
 * What the simulation itself takes: host bytes per faulted page, how much memory can be simulated, and booting 1 TB.
 *
 * Entry: memoryRows; the parts run in a fresh process each, so that nothing else is in its resident set.
 * Units: bytes of this process's resident set, everything included (typed arrays, heap, code).
 */

import { readFileSync } from "node:fs";
import { createMachine } from "../src/machine/machine.ts";
import { MADV } from "../src/syscall/madvise.ts";
import { cpuNs } from "./clock.ts";
import { mapAdvised, testBed, writeAll } from "./engine.ts";
import { inFreshProcess } from "./part.ts";
import { type BenchRow, row } from "./row.ts";

const GIB = 1024 ** 3;
const HOST_BUDGET = 8 * GIB;
/** Simulated gigabytes faulted by default, and the most that --large tries. */
const SCALED_GB = 16;
const LARGE_GB = 512;
/** The machine has more memory than is faulted: its own structures are part of the price. */
const SPARE = 1.125;

/** `--large` maps until the host budget is used up or 512 GB are mapped; without it 16 GB are mapped and multiplied. */
export function memoryRows(isLarge: "large" | "scaled"): BenchRow[] {
  const gb = isLarge === "large" ? LARGE_GB : SCALED_GB;
  const pages = inFreshProcess("pages", gb) as { mappedGb: number; bytes: number; seconds: number };
  const perPage = pages.bytes / ((pages.mappedGb * GIB) / 4096);
  const simulated = isLarge === "large" ? pages.mappedGb : HOST_BUDGET / (perPage / 4096) / GIB;
  const boot = inFreshProcess("boot", 1024) as { ms: number; bytes: number };
  return [
    row("host bytes per faulted 4K page", perPage, "B", {
      target: { of: "value", better: "lower", floor: 72, goal: 48 },
      note: `${pages.mappedGb} GB mapped in ${pages.seconds.toFixed(1)} s`,
    }),
    row("simulated memory in 8 GB of host memory", simulated, "GB", {
      target: { of: "value", better: "higher", floor: 256, goal: 512 },
      note:
        isLarge === "large"
          ? `mapped, ${(pages.bytes / GIB).toFixed(2)} GB used`
          : `scaled up from ${pages.mappedGb} GB; --large maps it all`,
    }),
    row("boot of a 1 TB machine", boot.ms, "ms", {
      target: { of: "value", better: "lower", floor: 100, goal: 100 },
    }),
    row("host memory of a 1 TB machine after boot", boot.bytes / 1e6, "MB", {
      target: { of: "value", better: "lower", floor: 100, goal: 100 },
    }),
  ];
}

/** Boots a machine of `gb`. */
export function bootPart(gb: number): { ms: number; bytes: number } {
  const before = residentBytes();
  const start = cpuNs();
  const m = createMachine({ memoryBytes: gb * GIB });
  const ms = (cpuNs() - start) / 1e6;
  const bytes = residentBytes() - before;
  if (m.nrCpus < 1) throw new Error("a machine without a CPU");
  return { ms, bytes };
}

/** Maps 1 GB at a time with 4K pages until all is mapped or the host budget is used up. */
export function pagesPart(gb: number): { mappedGb: number; bytes: number; seconds: number } {
  globalThis.gc?.();
  const before = residentBytes();
  const start = cpuNs();
  const bed = testBed(Math.ceil((gb * SPARE * GIB) / (4 * 1024 ** 2)) * 4 * 1024 ** 2);
  let mappedGb = 0;
  let bytes = residentBytes() - before;
  while (mappedGb < gb && bytes < HOST_BUDGET * 0.99) {
    writeAll(bed, mapAdvised(bed, GIB, MADV.NOHUGEPAGE), GIB);
    mappedGb++;
    bytes = residentBytes() - before;
  }
  if (bed.mm.rssAnon < (mappedGb * GIB) / 4096) throw new Error("not every page was mapped");
  return { mappedGb, bytes, seconds: (cpuNs() - start) / 1e9 };
}

/** Resident set; the kernel's own figure where there is one, because Node's may lag. */
function residentBytes(): number {
  try {
    const found = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync("/proc/self/status", "utf8"));
    if (found) return Number(found[1]) * 1024;
  } catch {
    // Not Linux.
  }
  return process.memoryUsage().rss;
}
