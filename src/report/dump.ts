/**
 * Every text interface under one name each, for `--dump NAME`.
 *
 * Entry: DUMP_NAMES, dumpNeedsProcess, dump.
 * Names: those of /proc; pagemap and kpageflags as readable lines of what is not empty; "thp" is the whole sysfs tree, one
 *        `path: text` line per file; a path below /sys/kernel/mm/transparent_hugepage is that file.
 */

import { UsageError } from "../base/usage-error.ts";
import type { HugeState } from "../huge/knobs.ts";
import { ENTRY } from "../mm/page-tables.ts";
import type { Mm } from "../mm/state.ts";
import { kpfNames, pageCountOf, pageFlagsOf } from "./kpage.ts";
import { pagemapText } from "./pagemap.ts";
import { procGlobalNames, procNames, readProc, readProcGlobal } from "./proc.ts";
import { readSysfs, sysfsFiles, THP_SYSFS } from "./sysfs.ts";
import { forEachEntry } from "./vma-entries.ts";

const OF_PROCESS: readonly string[] = [...procNames(), "pagemap", "kpageflags"];

/** What can be dumped, in the order of lists. */
export const DUMP_NAMES: readonly string[] = [...OF_PROCESS, ...procGlobalNames(), "thp"];

/** True if the dump is of one process. */
export function dumpNeedsProcess(name: string): boolean {
  return OF_PROCESS.includes(name);
}

/** The text called `name`; `pid` (an address space's id) is null for what belongs to the machine. Throws UsageError. */
export function dump(m: HugeState, pid: number | null, name: string): string {
  if (name === "thp") return thpTree(m);
  if (name.startsWith(`${THP_SYSFS}/`)) return textOf(name, readSysfs(m, name));
  if (!DUMP_NAMES.includes(name)) {
    const wanted = `one of ${DUMP_NAMES.join(", ")}, or a file below ${THP_SYSFS}`;
    throw new UsageError("--dump", `"${name}"`, wanted);
  }
  if (!dumpNeedsProcess(name)) return textOf(name, readProcGlobal(m, name));
  const mm = pid === null ? undefined : m.mms[pid];
  if (mm === null || mm === undefined)
    throw new UsageError(
      `--dump ${name}`,
      pid === null ? "no process" : `process ${pid}`,
      "one that runs",
    );
  if (name === "pagemap") return pagemapText(m, mm);
  return name === "kpageflags" ? kpageText(m, mm) : textOf(name, readProc(m, mm.id, name));
}

function textOf(name: string, text: string | number): string {
  if (typeof text === "number") throw new UsageError("--dump", `"${name}"`, "a file that exists");
  return text;
}

function thpTree(m: HugeState): string {
  return sysfsFiles(m)
    .map((path) => `${path.slice(THP_SYSFS.length + 1)}: ${readSysfs(m, path)}`)
    .join("");
}

/** Runs of equal pages a process maps: number of pages, mappings of each, flags. */
function kpageText(m: HugeState, mm: Mm): string {
  const lines: { nr: number; text: string }[] = [];
  for (const vma of mm.vmas)
    forEachEntry(m, mm, vma, (flags, payload, nr) => {
      if ((flags & ENTRY.PRESENT) === 0) return;
      for (let pfn = payload; pfn < payload + nr; pfn++) {
        const text = `${pageCountOf(m, pfn)} ${kpfNames(pageFlagsOf(m, pfn)).join("|")}`;
        const last = lines.at(-1);
        if (last?.text === text) last.nr++;
        else lines.push({ nr: 1, text });
      }
    });
  return lines.map(({ nr, text }) => `${nr} x ${text}\n`).join("");
}
