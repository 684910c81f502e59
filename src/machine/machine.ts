/**
 * The machine: all state of one simulated computer in one record, and its creation.
 *
 * Entry: createMachine. What can be done with it: process.ts (exec, fork, exit), access.ts (reads and writes), the
 *        functions of syscall/, knobs.ts of huge/, check.ts, snapshot.ts.
 * Holds: same seed and same calls give the same state, in Node and in a browser.
 */

import { HUGE_SIZE } from "../base/address.ts";
import { assert } from "../base/assert.ts";
import { PROFILES, type Profile } from "../base/profile.ts";
import { createRandom, type Random } from "../base/random.ts";
import { applyBootParameters } from "../huge/boot-parameters.ts";
import { OFFERS_TO_KHUGEPAGED, startOrStopKhugepaged } from "../huge/khugepaged-thread.ts";
import {
  defaultKnobs,
  type HugeState,
  policyOf,
  type ThpKnobs,
  type ThpSupport,
} from "../huge/knobs.ts";
import { createSharedCollapse } from "../huge/shared-knobs.ts";
import { createKhugepaged } from "../mm/khugepaged-list.ts";
import { createPageTables } from "../mm/page-tables.ts";
import { createPoison } from "../mm/poison.ts";
import { allocFolio } from "../phys/alloc.ts";
import { createPhys } from "../phys/boot.ts";
import { NO_PFN, PG } from "../phys/frame-table.ts";
import { GFP_KERNEL } from "../phys/gfp.ts";
import { createSwapSpace } from "../swap/state.ts";
import { PHASE_TABLES } from "./phase-tables.ts";

/** Everything; each folder to the left sees the part it extends. */
export interface Machine extends HugeState {
  readonly seed: number;
  /** The one source of chance. */
  readonly random: Random;
}

export interface MachineConfig {
  /** RAM in bytes: a multiple of 4 MiB, 16 MiB or more. */
  readonly memoryBytes: number;
  readonly nrCpus: number;
  readonly nrNodes: number;
  readonly profile: Profile;
  readonly seed: number;
  /** Per-CPU free lists, as on Linux; "off" makes every free visible to the buddy at once. */
  readonly pcp: "on" | "off";
  /** Random stack, mmap and program addresses, drawn from the seed. */
  readonly randomizeAddresses: boolean;
  /** The kernel is built to handle failing memory; the live one the rules were made on is not (ANON-284). */
  readonly memoryFailure: "on" | "off";
  /** RLIMIT_STACK. */
  readonly stackLimitBytes: number;
  readonly thpSupport: ThpSupport;
  /** The kernel's command line: transparent_hugepage= and thp_anon= are read, the rest is passed over. */
  readonly bootParameters: string;
  /** The mode `shared_collapse`, which no kernel has; present it is still off until its knob is written. */
  readonly sharedCollapse: "present" | "absent";
  /** Memory at the top of each node that only movable requests may use; a multiple of 4 MiB. */
  readonly movableBytesPerNode: number;
}

export const DEFAULT_MACHINE: MachineConfig = {
  memoryBytes: 16 * 1024 ** 3,
  nrCpus: 2,
  nrNodes: 1,
  profile: PROFILES[0],
  seed: 1,
  pcp: "on",
  randomizeAddresses: true,
  memoryFailure: "off",
  stackLimitBytes: 8 * 1024 * 1024,
  thpSupport: "supported",
  bootParameters: "",
  sharedCollapse: "absent",
  movableBytesPerNode: 0,
};

/** A machine that has just booted: no process, THP knobs at Linux's defaults. */
export function createMachine(options: Partial<MachineConfig> = {}): Machine {
  const config = { ...DEFAULT_MACHINE, ...options };
  const phys = createPhys({
    memoryBytes: config.memoryBytes,
    nrCpus: config.nrCpus,
    nrNodes: config.nrNodes,
    profile: config.profile,
    pcp: config.pcp,
    movableBytesPerNode: config.movableBytesPerNode,
  });
  const zeroPfn = allocFolio(phys, 0, GFP_KERNEL, 0);
  assert(zeroPfn !== NO_PFN, "no frame for the zero page at boot");
  phys.frames.flags[zeroPfn] = PG.ZERO;
  const isSmallMemory = config.memoryBytes < config.profile.smallMemoryBytes;
  const knobs: ThpKnobs = defaultKnobs(isSmallMemory);
  applyBootParameters(knobs, config.bootParameters, config.profile);
  const m = Object.assign(phys, {
    swap: createSwapSpace(phys),
    tables: createPageTables(phys.frames.nrFrames),
    mms: [],
    anonVmas: [null],
    freeAnonVmaIds: [],
    files: [null],
    unmappedFiles: [],
    zeroPfn,
    hugeZero: { pfn: NO_PFN, refcount: 0 },
    poison: createPoison(config.memoryFailure === "on"),
    deferredLength: new Int32Array(phys.memcgs.length * config.nrNodes),
    queuesUnderused: true,
    khugepaged: createKhugepaged(),
    mmuNotifier: null,
    vmaObserver: OFFERS_TO_KHUGEPAGED,
    layout: {
      randomize: config.randomizeAddresses,
      stackLimitBytes: config.stackLimitBytes,
    },
    thpSupport: config.thpSupport,
    isKhugepagedRunning: false,
    knobs,
    policy: policyOf(knobs, config.thpSupport),
    sharedCollapse: config.sharedCollapse === "present" ? createSharedCollapse() : null,
    phaseTables: PHASE_TABLES,
    seed: config.seed,
    random: createRandom(config.seed),
  });
  startOrStopKhugepaged(m);
  return m;
}

/** True if `bytes` can be the memory of a machine; else a sentence saying what is wanted. */
export function memoryProblem(bytes: number): string | null {
  if (!Number.isInteger(bytes) || bytes % (2 * HUGE_SIZE) !== 0) return "a multiple of 4M";
  if (bytes < 16 * 1024 * 1024) return "at least 16M";
  return bytes > 4 * 1024 ** 4 ? "at most 4T" : null;
}
