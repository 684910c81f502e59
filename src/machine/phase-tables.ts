/**
 * Every phase table of the machine, by name: what the runner looks up and `hugelab list phases` prints.
 */

import { collapsePhases } from "../collapse/collapse-phases.ts";
import { khugepagedPhases } from "../collapse/khugepaged-phases.ts";
import { madviseCollapsePhases } from "../collapse/madvise-collapse.ts";
import { sharedCollapsePhases } from "../collapse/shared-phases.ts";
import { sharedPmdPhases } from "../collapse/shared-pmd-phases.ts";
import { hugeFaultPhases } from "../fault/huge-fault-phases.ts";
import { swapInPhases } from "../fault/swap-in-phases.ts";
import { swapOffPhases } from "../fault/swap-off-phases.ts";
import { shrinkPhases } from "../huge/deferred-split-phases.ts";
import { dropCachesPhases } from "../huge/drop-caches-phases.ts";
import { splitPagePhases } from "../huge/split-page-phases.ts";
import { splitPhases } from "../huge/split-phases.ts";
import { memoryFailurePhases } from "../reclaim/memory-failure-phases.ts";
import { migratePhases } from "../reclaim/migrate-phases.ts";
import { reclaimPhases } from "../reclaim/reclaim-phases.ts";
import { softOfflinePhases } from "../reclaim/soft-offline-phases.ts";
import type { PhaseTables } from "../sched/state.ts";
import { advisePhases } from "../syscall/advise-phases.ts";

export const PHASE_TABLES: PhaseTables = {
  [hugeFaultPhases.name]: hugeFaultPhases,
  [swapInPhases.name]: swapInPhases,
  [swapOffPhases.name]: swapOffPhases,
  [splitPhases.name]: splitPhases,
  [splitPagePhases.name]: splitPagePhases,
  [shrinkPhases.name]: shrinkPhases,
  [dropCachesPhases.name]: dropCachesPhases,
  [migratePhases.name]: migratePhases,
  [reclaimPhases.name]: reclaimPhases,
  [advisePhases.name]: advisePhases,
  [memoryFailurePhases.name]: memoryFailurePhases,
  [softOfflinePhases.name]: softOfflinePhases,
  [collapsePhases.name]: collapsePhases,
  [madviseCollapsePhases.name]: madviseCollapsePhases,
  [khugepagedPhases.name]: khugepagedPhases,
  [sharedCollapsePhases.name]: sharedCollapsePhases,
  [sharedPmdPhases.name]: sharedPmdPhases,
};
