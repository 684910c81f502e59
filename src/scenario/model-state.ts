/**
 * What the model back end keeps beside the machine: the scenario's processes by name, what they must read, and references that
 * no page table shows.
 */

import type { Pfn } from "../base/address.ts";
import type { Machine } from "../machine/machine.ts";
import type { Snapshot } from "../machine/snapshot.ts";
import type { Mm } from "../mm/state.ts";
import type { Layout } from "./layout.ts";
import type { EventLog } from "./model-events.ts";
import type { StartedStatement } from "./model-operations.ts";
import type { Observer } from "./observe-model.ts";
import type { Shadow } from "./shadow.ts";

export interface ModelProcess {
  /** Looked up anew after a restore, which makes new records. */
  mm: Mm;
  shadow: Shadow;
}

/** References taken by one `pin` or `hold-page`. */
export interface ModelPin {
  readonly kind: "pin" | "hold-page";
  readonly process: string;
  /** One entry for each page referenced, in order. */
  readonly pfns: readonly Pfn[];
  /** Pages charged to VmPin: a registered buffer pays for every folio it touches, whole (ANON-251). */
  readonly nrCharged: number;
}

export interface ModelState {
  readonly m: Machine;
  layout: Layout;
  /** Living processes in the order of their creation. */
  processes: Map<string, ModelProcess>;
  /** Process of each living process and thread. */
  tasks: Map<string, string>;
  pins: Map<string, ModelPin>;
  /** Tasks that are held, by name. */
  holds: Map<string, StartedStatement>;
  /** Group ids by name. */
  memcgs: Map<string, number>;
  /** Blocks that `fragment` holds. */
  blocks: Pfn[];
  /** Size of the header's swap device, 0 none. */
  readonly nrSwapSlots: number;
  readonly snapshots: Map<string, SavedState>;
  /** References by head frame that the invariant walk cannot see. */
  extra: Map<Pfn, number>;
  /** Value that the next write stores. */
  nextTag: number;
  readonly observer: Observer;
  readonly eventLog: EventLog;
}

export interface SavedState {
  readonly machine: Snapshot;
  readonly processes: ReadonlyMap<string, { readonly mmId: number; readonly shadow: Shadow }>;
  readonly tasks: ReadonlyMap<string, string>;
  readonly pins: ReadonlyMap<string, ModelPin>;
  readonly holds: ReadonlyMap<string, StartedStatement>;
  readonly memcgs: ReadonlyMap<string, number>;
  readonly blocks: readonly Pfn[];
  readonly extra: ReadonlyMap<Pfn, number>;
  readonly nextTag: number;
}
