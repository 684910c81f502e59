/**
 * `hugelab bench`: the project's own speed; runs the built benchmark with what follows.
 *
 * Entry: registerBench.
 */

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Command } from "commander";
import { NotPossibleHere } from "./not-possible.ts";

/** Adds the command to the program. */
export function registerBench(program: Command): void {
  program
    .command("bench")
    .summary("the project's own speed, against the live kernel where it can be had")
    .description("Runs the benchmarks; options such as --json are theirs.")
    .argument("[args...]")
    .allowUnknownOption()
    .helpOption(false)
    .action(bench);
}

async function bench(args: readonly string[]): Promise<void> {
  const script = fileURLToPath(new URL("./bench.mjs", import.meta.url));
  if (!existsSync(script)) {
    throw new NotPossibleHere(
      "the benchmarks are not built",
      "run npm run build in a clone of the project",
    );
  }
  const child = spawn(process.execPath, ["--expose-gc", script, ...args], { stdio: "inherit" });
  // Ctrl-C reaches the child too; we wait for it and end as it did.
  const ignore = () => {};
  process.on("SIGINT", ignore);
  const status = await new Promise<number>((resolve, reject) => {
    child.on("error", reject);
    child.on("exit", (code, signal) => resolve(code ?? (signal === "SIGINT" ? 130 : 143)));
  });
  process.off("SIGINT", ignore);
  process.exitCode = status;
}
