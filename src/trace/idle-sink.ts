/**
 * A TraceSink that does nothing: what sinks interested in a few calls start from.
 */

import type { TraceSink } from "./trace-sink.ts";

const ignore = (): void => {};

/** Spread it and put your own methods behind it. */
export const IDLE_SINK: TraceSink = {
  begin: ignore,
  time: ignore,
  process: ignore,
  exec: ignore,
  thread: ignore,
  threadExit: ignore,
  exit: ignore,
  map: ignore,
  unmap: ignore,
  protect: ignore,
  remap: ignore,
  brk: ignore,
  advise: ignore,
  lock: ignore,
  prctlThpDisable: ignore,
  touch: ignore,
  counts: ignore,
  windowBegin: ignore,
  access: ignore,
  windowEnd: ignore,
  end: ignore,
};
