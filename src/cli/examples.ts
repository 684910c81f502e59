/**
 * Help is short for -h and has examples for --help and `help`.
 */

import type { Command } from "commander";

/** The command line as it was typed, from the top of the program. */
export function typedArguments(command: Command): readonly string[] {
  let top = command;
  while (top.parent) top = top.parent;
  // Commander keeps it and does not declare it.
  return (top as Command & { readonly rawArgs: readonly string[] }).rawArgs;
}

/** True if the user asked for the long form. */
export function wantsExamples(command: Command): boolean {
  const typed = typedArguments(command);
  const dashes = typed.indexOf("--");
  const own = dashes < 0 ? typed : typed.slice(0, dashes);
  return own.includes("--help") || own[2] === "help";
}
