/**
 * Documents that stay true: their links, the commands and files they name, and the identifiers of the glossary.
 */
import { dirname, join, normalize } from "node:path/posix";
import { finding } from "./source.mjs";

/** Text of a Markdown file outside fenced code, with the same offsets. */
function prose(text) {
  return text.replace(/^```[\s\S]*?^```/gm, (block) => block.replace(/[^\n]/g, " "));
}

/** Anchor that a heading gets on the common forges. */
function anchorOf(heading) {
  const words = heading
    .replace(/[`*_]/g, (c) => (c === "_" ? c : ""))
    .trim()
    .toLowerCase();
  return words.replace(/[^\p{L}\p{N} _-]/gu, "").replace(/ /g, "-");
}

function anchorsOf(text) {
  return new Set([...prose(text).matchAll(/^#+ (.*)$/gm)].map((match) => anchorOf(match[1])));
}

/** Relative links that lead to no file or no heading. `read` gives a project file's text or undefined. */
export function checkLinks(file, exists, read) {
  const findings = [];
  for (const match of prose(file.text).matchAll(/\]\(([^)\s]+)\)|\bsrc="([^"]+)"/g)) {
    const link = match[1] ?? match[2];
    if (/^[a-z]+:/.test(link)) continue;
    const [path, anchor] = link.split("#");
    const target = path === "" ? file.path : normalize(join(dirname(file.path), path));
    if (!exists(target)) {
      findings.push(finding(file, match.index, `link to ${link}: there is no ${target}`));
    } else if (anchor !== undefined && !anchorsOf(read(target) ?? "").has(anchor)) {
      findings.push(finding(file, match.index, `link to ${link}: ${target} has no such heading`));
    }
  }
  return findings;
}

/** Commands of npm's that are not scripts of package.json. */
const NPM_OWN = new Set(["ci", "install", "i", "exec", "pack", "test"]);

/** `npm run NAME` and `node FILE` of a document that do not exist. */
export function checkCommands(file, scripts, exists) {
  const findings = [];
  for (const match of file.text.matchAll(/\bnpm (?:run )?(?:-s |--silent )?([a-z][\w:-]*)/g)) {
    const isRun = /\brun\b/.test(match[0]);
    // "npm and ..." is prose: without "run" only what stands in code counts.
    if (!isRun && !inCode(file.text, match.index)) continue;
    const known = match[1] in scripts || (!isRun && match[1] !== "test" && NPM_OWN.has(match[1]));
    if (!known) {
      findings.push(
        finding(file, match.index, `"${match[0]}": package.json has no script ${match[1]}`),
      );
    }
  }
  for (const match of file.text.matchAll(/\bnode ((?:scripts|bench|dist)\/[\w./-]+\.m?js)/g)) {
    if (!match[1].startsWith("dist/") && !exists(match[1])) {
      findings.push(finding(file, match.index, `"${match[0]}": there is no ${match[1]}`));
    }
  }
  return findings;
}

function inCode(text, offset) {
  const lineStart = text.lastIndexOf("\n", offset) + 1;
  const isFenced = (text.slice(0, offset).match(/^```/gm) ?? []).length % 2 === 1;
  const isIndented = /^(?: {4}|\t)/.test(text.slice(lineStart));
  return isFenced || isIndented || text.slice(lineStart, offset).split("`").length % 2 === 0;
}

/** Files and folders of the project that a document names in code and that do not exist. */
export function checkNamedFiles(file, exists) {
  const findings = [];
  for (const match of file.text.matchAll(
    /`((?:src|docs|scripts|bench|native|recordings)\/[\w./-]*)`/g,
  )) {
    if (!exists(match[1].replace(/\/$/, ""))) {
      findings.push(finding(file, match.index, `there is no ${match[1]}`));
    }
  }
  return findings;
}

/** Identifiers of the glossary's table (second column, in code) that the sources do not contain. */
export function checkGlossary(file, words) {
  const findings = [];
  for (const row of file.text.matchAll(/^\|[^|\n]*\|([^|\n]*)\|.*$/gm)) {
    for (const [, name] of row[1].matchAll(/`([A-Za-z_][\w.]*)`/g)) {
      const missing = name.split(".").find((word) => !words.has(word));
      if (missing !== undefined) {
        findings.push(finding(file, row.index, `the sources do not contain \`${name}\``));
      }
    }
  }
  return findings;
}

// Put together from pieces so that this file does not contain what it looks for.
const OWN_PATHS = new RegExp(
  `(?<![\\w.-])/(?:${["work", "root", "farm"].join("|")})/|/tmp/${"bash"}_jobs`,
  "g",
);

/** Paths that exist on one developer's machine only. */
export function checkOwnPaths(file) {
  const found = [...file.text.matchAll(OWN_PATHS)];
  return found.map((match) => {
    const path = file.text.slice(match.index, match.index + 40).split(/[\s"'`)]/)[0];
    return finding(file, match.index, `path of one machine: ${path.replace(/[^ -~]/g, "?")}`);
  });
}
