/**
 * The files of /proc by name.
 *
 * Entry: readProc for a process's text files, readProcGlobal for the machine's, procNames and procGlobalNames for lists.
 * Names: as below /proc/PID and /proc. `pid` is the address space's id in the machine. The binary files pagemap, kpageflags,
 *        kpagecount and kpagecgroup have readers of their own (pagemap.ts, kpage.ts).
 */

import { ENOENT, type Err, ESRCH } from "../base/errno.ts";
import type { HugeState } from "../huge/knobs.ts";
import type { Mm } from "../mm/state.ts";
import { buddyinfoText, pagetypeinfoText } from "./buddyinfo.ts";
import { meminfoText } from "./meminfo.ts";
import { numaMapsText } from "./numa-maps.ts";
import { mapsText, smapsRollupText, smapsText } from "./smaps.ts";
import { statmText, statusText } from "./status.ts";
import { swapsText } from "./swap-words.ts";
import { vmstatText } from "./vmstat.ts";
import { zoneinfoText } from "./zoneinfo.ts";

type ProcessFile = (m: HugeState, mm: Mm) => string;
type GlobalFile = (m: HugeState) => string;

const OF_PROCESS: Readonly<Record<string, ProcessFile>> = {
  maps: (_m, mm) => mapsText(mm),
  smaps: smapsText,
  smaps_rollup: smapsRollupText,
  status: (_m, mm) => statusText(mm),
  statm: (_m, mm) => statmText(mm),
  numa_maps: numaMapsText,
};

const OF_MACHINE: Readonly<Record<string, GlobalFile>> = {
  meminfo: meminfoText,
  vmstat: vmstatText,
  zoneinfo: zoneinfoText,
  buddyinfo: buddyinfoText,
  pagetypeinfo: pagetypeinfoText,
  swaps: swapsText,
};

/** Files that only their owner, or root, may open; clear_refs is for writing (PROC-036, PROC-040, PROC-050). */
const MODES: Readonly<Record<string, number>> = {
  pagemap: 0o400,
  clear_refs: 0o200,
  kpageflags: 0o400,
  kpagecount: 0o400,
  kpagecgroup: 0o400,
  pagetypeinfo: 0o400,
};

/** Permission bits of a file below /proc or /proc/PID that this folder knows; -ENOENT for any other. */
export function modeOfProc(name: string): number | Err {
  if (Object.hasOwn(MODES, name)) return MODES[name];
  return Object.hasOwn(OF_PROCESS, name) || Object.hasOwn(OF_MACHINE, name) ? 0o444 : -ENOENT;
}

/** Names that readProc knows. */
export function procNames(): string[] {
  return Object.keys(OF_PROCESS);
}

/** Names that readProcGlobal knows. */
export function procGlobalNames(): string[] {
  return Object.keys(OF_MACHINE);
}

/** /proc/`pid`/`name`; -ESRCH if there is no such process, -ENOENT if there is no such file. */
export function readProc(m: HugeState, pid: number, name: string): string | Err {
  if (!Object.hasOwn(OF_PROCESS, name)) return -ENOENT;
  const mm = m.mms[pid];
  return mm === null || mm === undefined ? -ESRCH : OF_PROCESS[name](m, mm);
}

/** /proc/`name`; -ENOENT if there is no such file. */
export function readProcGlobal(m: HugeState, name: string): string | Err {
  return Object.hasOwn(OF_MACHINE, name) ? OF_MACHINE[name](m) : -ENOENT;
}
