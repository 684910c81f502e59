/**
 * `hugelab list`: what there is to name on the command line and in reports.
 *
 * Entry: registerList.
 */

import { Argument, type Command } from "commander";
import { oneOf } from "../base/nearest.ts";
import { CATALOGUES, type Catalogue } from "../lab/catalogue.ts";
import type { Paint } from "../lab/paint.ts";
import { wantsExamples } from "./examples.ts";
import { terminalOf } from "./global-options.ts";

interface ListOptions {
  readonly json?: boolean;
  readonly ndjson?: boolean;
}

const NAMES = CATALOGUES.map((catalogue) => catalogue.name);

/** Adds the command to the program. */
export function registerList(program: Command): void {
  const lists = CATALOGUES.map(({ name, meaning }) => `  ${name.padEnd(12)}${meaning}\n`).join("");
  program
    .command("list")
    .summary("knobs, counters, events, reasons, policies, profiles and more")
    .description("Lists what can be named on the command line and in reports.")
    .addArgument(new Argument("<what>", NAMES.join(", ")))
    .option("--json", "one JSON document")
    .option("--ndjson", "one line of JSON per item")
    .addHelpText("after", ({ command }) =>
      wantsExamples(command)
        ? `\nLists:\n${lists}\nExamples:\n  hugelab list knobs\n  hugelab list counters --json\n`
        : "",
    )
    .action(list);
}

async function list(what: string, options: ListOptions, command: Command): Promise<void> {
  const terminal = terminalOf(command);
  const name = oneOf(what, NAMES, "list");
  const catalogue = CATALOGUES.find((candidate) => candidate.name === name)!;
  await terminal.print(listText(catalogue, options, terminal.paint));
}

function listText(catalogue: Catalogue, options: ListOptions, paint: Paint): string {
  const { name, columns } = catalogue;
  const items = catalogue.items();
  if (options.json) {
    return `${JSON.stringify({ schema: "hugelab.list", version: 1, list: name, items }, null, 2)}\n`;
  }
  if (options.ndjson) return items.map((item) => `${JSON.stringify(item)}\n`).join("");

  const widths = columns.map((column) =>
    Math.max(column.length, ...items.map((item) => (item[column] ?? "").length)),
  );
  const line = (texts: readonly string[]) =>
    texts
      .map((text, i) => (i === texts.length - 1 ? text : text.padEnd(widths[i])))
      .join("  ")
      .trimEnd();
  const rows = items.map((item) => line(columns.map((column) => item[column] ?? "")));
  return `${[paint.bold(line(columns)), ...rows].join("\n")}\n`;
}
