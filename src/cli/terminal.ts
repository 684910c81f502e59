/**
 * The three streams as a command sees them: results on stdout, all else on stderr, colour and progress only where a
 * person looks.
 *
 * Entry: terminalFor. Owns: nothing; a progress line that was drawn is erased by its end().
 * Holds: nothing but results goes to stdout; a closed stdout ends the process quietly with 0.
 */

import pc from "picocolors";
import { oneOf } from "../base/nearest.ts";
import { NO_PAINT, type Paint } from "../lab/paint.ts";

export const COLOR_WHEN = ["auto", "always", "never"] as const;

/** What the global options say; absent means not given. */
export interface GlobalOptions {
  readonly color?: string;
  readonly quiet?: boolean;
  readonly progress?: boolean;
}

export interface Terminal {
  /** Columns of stdout; 100 where it is no terminal, so that a pasted report does not depend on the window. */
  readonly width: number;
  readonly paint: Paint;
  /** A line on stderr for people, unless --quiet. */
  note(text: string): void;
  /** Resolves when `text` is written, so that a large report is whole. */
  print(text: string): Promise<void>;
  /** A progress line; draws nothing where there is no terminal or the user wants none. */
  startProgress(label: string): Progress;
}

export interface Progress {
  /** `share` 0..1 of the work is done. */
  update(share: number, detail: string): void;
  /** Erases the line. */
  end(): void;
}

const MIN_WIDTH = 40;
const PASTE_WIDTH = 100;

/** The terminal under the user's global options. Throws UsageError for an unknown --color. */
export function terminalFor(options: GlobalOptions): Terminal {
  const { stdout, stderr } = process;
  const isColoured = wantsColour(options.color);
  const isShown = stderr.isTTY === true && options.quiet !== true && options.progress !== false;
  return {
    width: stdout.isTTY ? Math.max(MIN_WIDTH, stdout.columns ?? PASTE_WIDTH) : PASTE_WIDTH,
    paint: isColoured ? colours() : NO_PAINT,
    note: (text) => {
      if (options.quiet !== true) stderr.write(`hugelab: ${text}\n`);
    },
    print: (text) => new Promise((resolve) => stdout.write(text, () => resolve())),
    startProgress: (label) => (isShown ? drawnProgress(label) : HIDDEN_PROGRESS),
  };
}

/** A closed pipe is the reader's way of saying that it has enough. */
export function quietOnClosedPipe(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EPIPE") process.exit(0);
      throw error;
    });
  }
}

function wantsColour(when: string | undefined): boolean {
  const wanted = when === undefined ? "auto" : oneOf(when, COLOR_WHEN, "--color");
  if (wanted !== "auto") return wanted === "always";
  const { env, stdout } = process;
  const isRefused = (env.NO_COLOR ?? "") !== "" || env.TERM === "dumb";
  if ((env.FORCE_COLOR ?? "") !== "") return env.FORCE_COLOR !== "0";
  return !isRefused && stdout.isTTY === true;
}

function colours(): Paint {
  const { bold, dim, green, red } = pc.createColors(true);
  return { bold, dim, good: green, bad: red };
}

const HIDDEN_PROGRESS: Progress = { update: () => {}, end: () => {} };
const REDRAW_MS = 100;
const BAR_WIDTH = 24;

function drawnProgress(label: string): Progress {
  const startMs = performance.now();
  let drawnMs = -Infinity;
  return {
    update: (share, detail) => {
      const nowMs = performance.now();
      if (nowMs - drawnMs < REDRAW_MS) return;
      drawnMs = nowMs;
      const filled = Math.round(Math.min(1, Math.max(0, share)) * BAR_WIDTH);
      const bar = "#".repeat(filled) + ".".repeat(BAR_WIDTH - filled);
      const seconds = ((nowMs - startMs) / 1000).toFixed(1);
      const line = `${label} [${bar}] ${(share * 100).toFixed(0)} % ${seconds} s ${detail}`;
      process.stderr.write(`\r${line.slice(0, (process.stderr.columns ?? 80) - 1)}\x1b[K`);
    },
    end: () => {
      if (drawnMs > 0) process.stderr.write("\r\x1b[K");
    },
  };
}
