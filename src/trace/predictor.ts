/**
 * What encoder and decoder both remember so that a record says only what its forerunners do not: the registers of
 * docs/trace-format.md. Both update it by the same rules, across blocks.
 */

import { NR_SLOTS } from "./format.ts";

export class Predictor {
  /** Mappings announced so far; the next one gets this number. */
  nrMappings = 0;
  /** Processes announced so far. */
  nrProcesses = 0;
  tick = 0;
  /** Thread of the touch and access records that follow. */
  thread = 0;
  /** Process of the counts records that follow. */
  process = 0;

  touchMapping = 0;
  /** Page behind the last run of first reads. Rows: mappings. */
  readEnd = new Float64Array(64);
  /** Page behind the last run of first writes. Rows: mappings. */
  writeEnd = new Float64Array(64);

  countsMapping = 0;
  /** Page behind the last counts record; 0 after a change of mapping or process. */
  countsEnd = 0;
  countsReads = 0;
  countsWrites = 0;

  accessMapping = 0;
  /** Page of the last access outside the slots. Rows: mappings. */
  accessPage = new Float64Array(64);
  /** Mapping of the page in each slot; -1: empty. */
  readonly slotMapping = new Int32Array(NR_SLOTS).fill(-1);
  /** Page in each slot. */
  readonly slotPage = new Float64Array(NR_SLOTS);

  /** Makes rows for one more mapping and gives its number. */
  addMapping(): number {
    const mapping = this.nrMappings++;
    if (mapping < this.readEnd.length) return mapping;
    this.readEnd = doubled(this.readEnd);
    this.writeEnd = doubled(this.writeEnd);
    this.accessPage = doubled(this.accessPage);
    return mapping;
  }
}

function doubled(column: Float64Array<ArrayBuffer>): Float64Array<ArrayBuffer> {
  const grown = new Float64Array(2 * column.length);
  grown.set(column);
  return grown;
}
