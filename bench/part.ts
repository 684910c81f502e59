/**
 * Parts of the benchmark that need a process of their own: this program again, with a part's name.
 */

import { spawnSync } from "node:child_process";

/** Runs one part in a fresh Node with these flags and returns what it printed as JSON. */
export function inFreshProcess(
  part: string,
  argument: number,
  nodeFlags: readonly string[] = [],
): unknown {
  const script = process.argv[1];
  if (script === undefined) throw new Error("the bench does not know its own file");
  const flags = ["--expose-gc", ...nodeFlags];
  const run = spawnSync(process.execPath, [...flags, script, "--part", part, String(argument)], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
  });
  if (run.status !== 0)
    throw new Error(`bench part ${part} ended with ${run.status ?? run.signal}`);
  return JSON.parse(run.stdout);
}
