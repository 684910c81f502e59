/**
 * Replaying lackey text, everything included: scanning, first touches, faults, shadow memory, TLB and walks.
 *
 * Entry: replayRows.
 * Units: million references per second; a reference is a line of the text (instruction fetch, load, store or modify).
 */

import { createRandom, nextBelow } from "../src/base/random.ts";
import { COST_TABLES } from "../src/hw/cost-tables.ts";
import { geometryByName } from "../src/hw/presets.ts";
import { DEFAULT_MACHINE } from "../src/lab/machine-options.ts";
import { createReplay } from "../src/lab/replay.ts";
import { presetNamed } from "../src/lab/setting.ts";
import { createLackeyImporter } from "../src/trace/lackey.ts";
import { cpuNs } from "./clock.ts";
import { inFreshProcess } from "./part.ts";
import { type BenchRow, row } from "./row.ts";

const CHUNK_BYTES = 1 << 20;
const NR_CHUNKS = 48;
/** The text's length in all, 384 MiB: real ones have gigabytes. The start, before all is compiled, counts too. */
const NR_PASSES = 8;
/** The program's heap, and its part that is used most. */
const HEAP_START = 0x4035000;
const HEAP_BYTES = 64 * 1024 ** 2;
const HOT_BYTES = 256 * 1024;
const STACK = 0x1ffefff000;

interface LackeyText {
  readonly chunks: readonly Uint8Array[];
  readonly nrReferences: number;
  readonly nrData: number;
}

/** One row: the text of a made-up program, replayed with THP off. */
export function replayRows(): BenchRow[] {
  const { lines, data, bytes } = inFreshProcess("replay", NR_PASSES) as Rates;
  return [
    row("replay of lackey text", lines / 1e6, "M references/s", {
      target: { of: "value", better: "higher", floor: 11, goal: 30 },
      note:
        `${(bytes / 1e6).toFixed(0)} MB/s; lines count, instruction fetches too: ` +
        `${(data / 1e6).toFixed(1)} M of them are data accesses`,
    }),
  ];
}

/** Per second of CPU time. */
interface Rates {
  readonly lines: number;
  readonly data: number;
  readonly bytes: number;
}

/** One long text, the same one over and over, in a process that does nothing else, as an import of a file is. */
export function replayPart(nrPasses: number): Rates {
  const text = lackeyText();
  const replay = createReplay(
    {
      setting: presetNamed("never", "bench"),
      machine: DEFAULT_MACHINE,
      geometry: geometryByName("generic"),
      mode: { kind: "native" },
      costs: COST_TABLES[0],
    },
    "bench",
  );
  const start = cpuNs();
  const importer = createLackeyImporter(replay.sink, "bench");
  for (let pass = 0; pass < nrPasses; pass++) {
    for (const chunk of text.chunks) importer.push(chunk);
  }
  importer.finish();
  const seconds = (cpuNs() - start) / 1e9;
  const { trace } = replay.outcome();
  const nrData = text.nrData * nrPasses;
  if (trace.nrAccesses < nrData * 0.99) throw new Error("accesses were lost in the replay");
  return {
    lines: (text.nrReferences * nrPasses) / seconds,
    data: nrData / seconds,
    bytes: (NR_CHUNKS * CHUNK_BYTES * nrPasses) / seconds,
  };
}

/** Three instructions to two data accesses; of those half stack, three in ten in a hot part, the rest a walk and a scatter. */
function lackeyText(): LackeyText {
  const random = createRandom(7);
  const chunks: Uint8Array[] = [];
  let nrReferences = 0;
  let nrData = 0;
  let pc = 0x401000;
  let cursor = 0;
  for (let chunk = 0; chunk < NR_CHUNKS; chunk++) {
    const lines: string[] = [];
    let length = 0;
    while (length < CHUNK_BYTES - 64) {
      pc = nextBelow(random, 12) === 0 ? 0x401000 + nextBelow(random, 0x20000) : pc + 4;
      const isData = nextBelow(random, 5) < 2;
      let line = `I  ${hex(pc)},4\n`;
      if (isData) {
        const draw = nextBelow(random, 100);
        cursor = (cursor + 8) % HEAP_BYTES;
        const address =
          draw < 50
            ? STACK - nextBelow(random, 512) * 8
            : HEAP_START +
              (draw < 80
                ? nextBelow(random, HOT_BYTES / 8) * 8
                : draw < 95
                  ? cursor
                  : nextBelow(random, HEAP_BYTES / 8) * 8);
        line += ` ${draw % 3 === 0 ? "S" : "L"} ${hex(address)},8\n`;
        nrData++;
      }
      nrReferences += isData ? 2 : 1;
      lines.push(line);
      length += line.length;
    }
    chunks.push(new TextEncoder().encode(lines.join("")));
  }
  return { chunks, nrReferences, nrData };
}

/** As valgrind prints addresses: eight digits at least. */
function hex(address: number): string {
  return address.toString(16).padStart(8, "0");
}
