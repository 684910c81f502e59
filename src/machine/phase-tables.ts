/**
 * Every phase table of the machine, by name: what the runner looks up and `hugelab list phases` prints.
 */

import { splitPhases } from "../huge/split-phases.ts";
import type { PhaseTables } from "../sched/state.ts";

export const PHASE_TABLES: PhaseTables = {
  [splitPhases.name]: splitPhases,
};
