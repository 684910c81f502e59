/**
 * The running kernel's THP knobs, borrowed: nobody else of ours has them meanwhile, and they are put back whatever happens.
 *
 * Entry: withLiveKnobs.
 * Owns:  the lock file of everything here that changes knobs or reads global counters.
 */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { nativeProgram } from "../cli/native-build.ts";

const WAIT_S = 60;

/** Runs `work` with these files set (path to value); they and only they are restored, also if this process is killed. */
export async function withLiveKnobs<T>(
  files: Readonly<Record<string, string>>,
  work: () => T | Promise<T>,
): Promise<T> {
  const settings = Object.entries(files).map(([path, value]) => `${path}=${value}`);
  const lock = join(tmpdir(), "hugelab-kernel.lock");
  const keeper = spawn(
    "flock",
    ["--wait", String(WAIT_S), lock, nativeProgram("livebench/keep-knobs.c"), ...settings],
    { stdio: ["pipe", "pipe", "inherit"] },
  );
  const ended = once(keeper, "exit");
  const isReady = await Promise.race([
    once(keeper.stdout, "data").then(() => true),
    ended.then(() => false),
  ]);
  if (!isReady) throw new Error(`the kernel's knobs are not to be had in ${WAIT_S} s`);
  try {
    return await work();
  } finally {
    keeper.stdin.end();
    await ended;
  }
}
