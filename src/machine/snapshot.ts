/**
 * Saving and restoring a whole machine, at any moment between two calls.
 *
 * Entry: snapshot, restore. The ports (events, reclaim, mmuNotifier, phaseTables, vmaObserver) belong to whoever plugged them in and are
 *        not saved. Operations between two phases are part of the state, like everything else.
 * Cost:  a copy of every column, so it is for tests and small machines.
 */

import type { Machine } from "./machine.ts";

const PORTS: readonly string[] = ["events", "reclaim", "mmuNotifier", "phaseTables", "vmaObserver"];

/** A machine's state, detached from the machine. */
export interface Snapshot {
  readonly state: Readonly<Record<string, unknown>>;
}

/** A deep copy of the state; shared and cyclic references stay shared and cyclic. */
export function snapshot(m: Machine): Snapshot {
  return { state: structuredClone(stateOf(m)) };
}

/** Puts the machine back; the snapshot can be used again. References into the old state are dead afterwards. */
export function restore(m: Machine, saved: Snapshot): void {
  Object.assign(m, structuredClone(saved.state));
}

/** Everything but the ports. */
export function stateOf(m: Machine): Record<string, unknown> {
  return Object.fromEntries(Object.entries(m).filter(([key]) => !PORTS.includes(key)));
}
