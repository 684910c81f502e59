/**
 * The comparison as markdown for an issue or a design document: a heading, the advice, one table, the facts.
 *
 * Entry: renderMarkdown. Every text that comes from outside is escaped.
 */

import type { ByteStyle } from "../base/units.ts";
import { sysfsCommands } from "./advice.ts";
import { reportFacts, reportSections, settingNames } from "./report-rows.ts";
import type { ComparisonResult } from "./result.ts";

/** The whole report, ending with a newline. */
export function renderMarkdown(result: ComparisonResult, bytes: ByteStyle = "scaled"): string {
  const names = settingNames(result);
  const title = result.trace.header.command[0]?.split("/").at(-1) ?? result.trace.name;
  const chosen = result.settings.find((setting) => setting.name === result.advice.setting);
  const blocks = [
    `## Transparent huge pages for ${inline(title)}`,
    table([
      ["", ...names.map(inline)],
      ["---", ...names.map(() => "---:")],
      ...reportSections(result, bytes).flatMap((section) => [
        [`**${section.title}**`, ...names.map(() => "")],
        ...section.rows.map((row) => [
          row.name.startsWith("  ") ? `&emsp;${inline(row.name.trim())}` : inline(row.name),
          ...row.cells.map((cell) => (cell.mark === "best" ? `**${cell.text}**` : cell.text)),
        ]),
      ]),
    ]),
    fence(reportFacts(result, bytes).join("\n")),
    ...(result.notModelled.length === 0
      ? []
      : [`Not modelled:\n\n${result.notModelled.map((s) => `- ${inline(s)}`).join("\n")}`]),
    ...(chosen ? [fence(sysfsCommands(chosen).join("\n"))] : []),
    inline(result.advice.text),
  ];
  return `${blocks.join("\n\n")}\n`;
}

function table(rows: readonly (readonly string[])[]): string {
  return rows.map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

/** A code block whose fence is longer than any run of backticks in it. */
function fence(text: string): string {
  const longest = Math.max(2, ...[...text.matchAll(/`+/g)].map((run) => run[0].length));
  const mark = "`".repeat(longest + 1);
  return `${mark}text\n${text}\n${mark}`;
}

/** Text as text: what markdown would read as markup is escaped, line breaks become blanks. */
function inline(text: string): string {
  return text
    .replace(/[\r\n]+/g, " ")
    .replace(/[\\`*{}[\]<>|#~]|(?<!\w)_|_(?!\w)/g, (mark) => `\\${mark}`)
    .replace(/&(?=\w+;|#)/g, "\\&");
}
