/**
 * What must be undone when a command ends early: workers to stop, temporary files to remove.
 *
 * Owns:  the list of pending undos of one command. Holds: each runs once, the latest first, also after Ctrl-C.
 */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export class Cleanup {
  private readonly pending: (() => void | Promise<void>)[] = [];

  /** Runs `undo` when the command ends, however it ends. */
  add(undo: () => void | Promise<void>): void {
    this.pending.push(undo);
  }

  /** A new folder that is removed at the end. */
  temporaryFolder(): string {
    const folder = mkdtempSync(join(tmpdir(), "hugelab-"));
    this.add(() => rmSync(folder, { recursive: true, force: true }));
    return folder;
  }

  /** Undoes everything. */
  async run(): Promise<void> {
    for (let undo = this.pending.pop(); undo !== undefined; undo = this.pending.pop()) await undo();
  }
}

/** Runs `work`; afterwards, after a failure and after Ctrl-C everything registered with the cleanup is undone. */
export async function withCleanup<T>(work: (cleanup: Cleanup) => Promise<T>): Promise<T> {
  const cleanup = new Cleanup();
  const onSignal = (signal: NodeJS.Signals) => {
    const status = signal === "SIGINT" ? 130 : 143;
    void cleanup.run().finally(() => process.exit(status));
  };
  process.once("SIGINT", onSignal);
  process.once("SIGTERM", onSignal);
  try {
    return await work(cleanup);
  } finally {
    process.off("SIGINT", onSignal);
    process.off("SIGTERM", onSignal);
    await cleanup.run();
  }
}
