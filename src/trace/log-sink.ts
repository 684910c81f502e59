/**
 * A TraceSink that writes down every call as a list: what tests compare.
 *
 * Neighbouring touches and accesses that say the same as one folded record are folded, because a writer may do so too.
 */

import type { TraceSink } from "./trace-sink.ts";

/** One call: the method's name and its arguments. */
export type LoggedCall = readonly [method: string, ...args: unknown[]];

/** A sink and the calls it has received, oldest first. */
export function createLogSink(): { readonly sink: TraceSink; readonly calls: LoggedCall[] } {
  const calls: LoggedCall[] = [];
  const log =
    (method: string) =>
    (...args: unknown[]): void => {
      const folded = foldedWithLast(calls, [method, ...args]);
      if (folded === undefined) calls.push([method, ...args]);
      else calls[calls.length - 1] = folded;
    };
  const sink: TraceSink = {
    begin: log("begin"),
    time: log("time"),
    process: log("process"),
    exec: log("exec"),
    thread: log("thread"),
    threadExit: log("threadExit"),
    exit: log("exit"),
    map: log("map"),
    unmap: log("unmap"),
    protect: log("protect"),
    remap: log("remap"),
    brk: log("brk"),
    advise: log("advise"),
    lock: log("lock"),
    prctlThpDisable: log("prctlThpDisable"),
    touch: log("touch"),
    counts: log("counts"),
    windowBegin: log("windowBegin"),
    access: log("access"),
    windowEnd: log("windowEnd"),
    end: log("end"),
  };
  return { sink, calls };
}

/** The last call and this one as one, or undefined if they cannot be folded. */
function foldedWithLast(calls: readonly LoggedCall[], call: LoggedCall): LoggedCall | undefined {
  const last = calls.at(-1);
  if (last === undefined || last[0] !== call[0]) return undefined;
  const [method, thread, mapping, page, amount, isWrite] = call as [string, ...number[]];
  const [, lastThread, lastMapping, lastPage, lastAmount, lastWrites] = last as [
    string,
    ...number[],
  ];
  if (thread !== lastThread || mapping !== lastMapping) return undefined;
  if (method === "touch" && page === lastPage + lastAmount && isWrite === lastWrites) {
    return [method, thread, mapping, lastPage, lastAmount + amount, isWrite];
  }
  if (method === "access" && page === lastPage) {
    return [method, thread, mapping, page, lastAmount + amount, lastWrites || isWrite];
  }
  return undefined;
}
