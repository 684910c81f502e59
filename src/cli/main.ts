#!/usr/bin/env node
/**
 * The command `hugelab`: which commands there are, and how any of them ends.
 *
 * Entry: this file. Holds: results on stdout, all else on stderr; exit 0 fine, 1 a finding, 2 usage, 3 not possible here,
 * 4 a defect of ours (failure.ts). Only the commands named on the command line are loaded, so that help is quick.
 */

import { Command, Option } from "commander";
import { COMMANDS } from "./commands.ts";
import { wantsExamples } from "./examples.ts";
import { failureOf } from "./failure.ts";
import { inlineHotPaths } from "./inlining.ts";
import { COLOR_WHEN, quietOnClosedPipe } from "./terminal.ts";

/** Set when the file is bundled. */
declare const HUGELAB_VERSION: string;

const EXAMPLES = `
Examples:
  hugelab compare -- ./my-program --with arguments
  hugelab record -o my.hlt -- ./my-program
  hugelab compare my.hlt --html report.html
  hugelab replay my.hlt --set thp.enabled=always
  hugelab list knobs

Options may also stand in hugelab.yaml, here or in a folder above, and in HUGELAB_MEM, HUGELAB_SET and so on.
`;

/** The program with the commands among `words` complete, the others as a line of the help. */
async function createProgram(words: readonly string[]): Promise<Command> {
  const program = new Command("hugelab")
    .description(
      "What each transparent-huge-page setting does to a real program's speed and memory.",
    )
    .version(HUGELAB_VERSION, "-V, --version", "print the version")
    .addOption(new Option("--color <when>", COLOR_WHEN.join(", ")).default("auto"))
    .option("-q, --quiet", "no notes and no progress on stderr")
    .option("--no-progress", "no progress on stderr")
    .helpOption("-h, --help", "short help; --help adds examples")
    .configureHelp({ subcommandTerm: (command) => command.name() })
    .showSuggestionAfterError(true)
    // Errors become exceptions with their text; failure.ts prints them in one line.
    .exitOverride()
    .configureOutput({ outputError: () => {} })
    .addHelpText("after", ({ command }) => (wantsExamples(command) ? EXAMPLES : ""));
  const needsAll = words.includes("completion");
  for (const { name, summary, load } of COMMANDS) {
    if (needsAll || words.includes(name)) (await load())(program);
    else program.command(name).summary(summary);
  }
  return program;
}

async function main(): Promise<void> {
  inlineHotPaths();
  quietOnClosedPipe();
  const dashes = process.argv.indexOf("--");
  const own = process.argv.slice(2, dashes < 0 ? undefined : dashes);
  try {
    const program = await createProgram(own);
    if (process.argv.length <= 2) program.help({ error: false });
    await program.parseAsync();
  } catch (error) {
    const { status, text } = failureOf(error);
    process.stderr.write(text);
    process.exitCode = status;
  }
}

await main();
