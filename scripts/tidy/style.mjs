/**
 * What a reader should find in every file: a contract at the top, a comment on every column, names of the field, and none
 * of the syntax the project does without.
 */
import { basename } from "node:path/posix";
import { finding } from "./source.mjs";

const isTest = (path) => /\.test\.ts$/.test(path);

/** A non-test TypeScript file opens with a contract: a block comment of at least one sentence. */
export function checkHeader(file) {
  if (isTest(file.path) || !file.path.endsWith(".ts")) return [];
  const body = file.text.replace(/^#!.*\n/, "");
  const header = /^\/\*\*([\s\S]*?)\*\//.exec(body)?.[1];
  if (header === undefined)
    return [finding(file, 0, "no contract: the file must open with /** ... */")];
  const words = header.replace(/[\s*]+/g, " ").trim();
  return words.length < 12 ? [finding(file, 0, "the contract at the top says nothing")] : [];
}

const COLUMN =
  /^\s*(?:readonly\s+)?(\w+)\??:\s*(?:Int|Uint|Float)(?:8|16|32|64)(?:Clamped)?Array\b.*;/;

/** Every typed array of an interface says what it holds, in a doc comment directly above it. */
export function checkColumns(file) {
  if (isTest(file.path)) return [];
  const findings = [];
  for (const match of file.code.matchAll(/^(?:export )?interface (\w+)[^{]*\{/gm)) {
    const start = match.index + match[0].length;
    const end = file.code.indexOf("\n}", start);
    const codeLines = file.code.slice(start, end).split("\n");
    const textLines = file.text.slice(start, end).split("\n");
    let offset = start;
    for (let i = 0; i < codeLines.length; i++) {
      const column = COLUMN.exec(codeLines[i]);
      if (column !== null && !/\*\/\s*$/.test(textLines[i - 1] ?? "")) {
        findings.push(
          finding(
            file,
            offset + 1,
            `column ${match[1]}.${column[1]} has no comment: meaning, unit, rows`,
          ),
        );
      }
      offset += textLines[i].length + 1;
    }
  }
  return findings;
}

const REFUSED = [
  [/\bas any\b|:\s*any\b(?!\w)|<any>/g, "no any"],
  [
    /^\s*(?:export\s+)?(?:declare\s+)?(?:const\s+)?enum\s+\w+/gm,
    "no enum: use an `as const` object",
  ],
  [/^\s*(?:export\s+)?(?:declare\s+)?namespace\s+\w+/gm, "no namespace"],
  [
    /constructor\([^)]*\b(?:private|public|protected|readonly)\s+\w+\s*[?:]/g,
    "no parameter properties",
  ],
];

/** Syntax the project does without, notes to oneself, and suppressed errors without a reason. */
export function checkSyntax(file) {
  const findings = [];
  for (const [pattern, message] of REFUSED) {
    for (const match of file.code.matchAll(pattern)) {
      findings.push(finding(file, match.index + match[0].search(/\S/), message));
    }
  }
  for (const match of file.text.matchAll(/\/\/.*\b(?:TODO|FIXME|XXX)\b/g)) {
    findings.push(
      finding(file, match.index, "no bare TODO: an issue or a sentence that says what is missing"),
    );
  }
  for (const match of file.text.matchAll(/@ts-(?:ignore|nocheck)|eslint-disable(?!.*--)/g)) {
    findings.push(finding(file, match.index, `${match[0]} hides an error without a reason`));
  }
  return findings;
}

/** A file is named after what it holds. */
export function checkName(path) {
  const stem = basename(path).replace(/\..*$/, "").toLowerCase();
  if (!/^(?:utils?|helpers?|misc|common|stuff|shared|lib)$/.test(stem)) return [];
  return [{ path, line: 1, message: `"${stem}" says nothing: name the file after what it holds` }];
}
