/**
 * The numbers of a recording that every report begins with.
 *
 * Entry: createSummarySink; `summary` answers after `end`.
 * Owns:  which pages were touched; at most MOST_CHUNKS of 512 pages (1 TiB touched), beyond which a page touched twice
 *        counts twice.
 */

import { IDLE_SINK } from "./idle-sink.ts";
import { PageFlags } from "./page-flags.ts";
import type { TraceHeader, TraceSink } from "./trace-sink.ts";

/** As lab/result.ts shows it. */
export interface RecordingSummary {
  readonly name: string;
  readonly header: TraceHeader;
  readonly nrTicks: number;
  readonly nrProcesses: number;
  readonly nrThreads: number;
  /** From the counts where there are any, else what the windows stand for; 0 if the recording has neither. */
  readonly nrAccesses: number;
  /** Different pages of mappings read or written, in whatever process; 4 KiB each. */
  readonly nrPagesTouched: number;
}

export interface SummarySink extends TraceSink {
  /** The summary, or undefined before the recording's end. */
  summary(): RecordingSummary | undefined;
}

const MOST_CHUNKS = 2 ** 19;
const MOST_MARKED_AT_ONCE = 2 ** 20;

/** A sink that adds up; `name` is the recording's as the user knows it. */
export function createSummarySink(name: string): SummarySink {
  let header: TraceHeader | undefined;
  let result: RecordingSummary | undefined;
  let nrProcesses = 0;
  let nrThreads = 0;
  let nrCounted = 0;
  let nrRepresented = 0;
  let nrPagesTouched = 0;
  const touched = new Map<number, PageFlags>();
  let nrChunks = 0;

  const mark = (mapping: number, page: number, nrPages: number): void => {
    if (nrChunks > MOST_CHUNKS || nrPages > MOST_MARKED_AT_ONCE) {
      nrPagesTouched += nrPages;
      return;
    }
    let pages = touched.get(mapping);
    if (pages === undefined) {
      pages = new PageFlags();
      touched.set(mapping, pages);
    }
    nrChunks -= pages.nrChunks;
    for (let i = 0; i < nrPages; i++) {
      if (pages.get(page + i) !== 0) continue;
      pages.add(page + i, 1);
      nrPagesTouched++;
    }
    nrChunks += pages.nrChunks;
  };

  return {
    ...IDLE_SINK,
    begin(recorded) {
      header = recorded;
    },
    process() {
      nrProcesses++;
    },
    thread() {
      nrThreads++;
    },
    touch(_thread, mapping, page, nrPages) {
      mark(mapping, page, nrPages);
    },
    counts(_process, _mapping, _page, nrPages, reads, writes) {
      nrCounted += nrPages * (reads + writes);
    },
    windowEnd(_thread, nrAccesses) {
      nrRepresented += nrAccesses;
    },
    end(nrTicks) {
      if (header === undefined) return;
      const nrAccesses = header.has.counts ? nrCounted : nrRepresented;
      const totals = { nrTicks, nrProcesses, nrThreads, nrAccesses, nrPagesTouched };
      result = { name, header, ...totals };
    },
    summary: () => result,
  };
}
