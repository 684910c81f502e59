/**
 * Layers and purity: who may import whom, and what the engine may not touch.
 *
 * The order of the folders is the one in docs/architecture.md. A file imports its own folder and folders of a lower
 * rank; a test may besides drive the assembled machine by all that belongs to it. bench/ and src/conformance/ stand beside: they import what they
 * measure or compare, and nothing imports them.
 */
import { dirname, join, normalize } from "node:path/posix";
import { finding } from "./source.mjs";

/** Folders of src by rank; those in one row may not import each other. */
export const RANKS = [
  ["base"],
  ["sched"],
  ["phys"],
  ["swap"],
  ["mm"],
  ["huge", "hw"],
  ["shmem"],
  ["fault"],
  ["reclaim"],
  ["collapse"],
  ["syscall", "report"],
  ["machine"],
  ["scenario", "trace", "exec"],
  ["lab"],
  ["cli", "web"],
];
const RANK = new Map(RANKS.flatMap((folders, rank) => folders.map((f) => [f, rank])));
const FIRST_IMPURE = RANKS.length - 1;
const MACHINE = RANK.get("machine");
const BESIDE = new Set(["conformance"]);

const isTest = (path) => /\.test\.ts$/.test(path);

/** The folder of src that a path is in, or undefined. */
function folderOf(path) {
  return /^src\/([^/]+)\//.exec(path)?.[1];
}

/** Specifiers of all static and dynamic imports with their offsets. */
export function importsOf(file) {
  const found = [];
  for (const match of file.bare.matchAll(/\b(?:from|import)\s*\(?\s*["']([^"'\n]+)["']/g)) {
    // The keyword is blanked in `code` where it stands inside a string.
    const keyword = match[0].startsWith("from") ? "from" : "import";
    if (file.code.startsWith(keyword, match.index)) {
      found.push({ specifier: match[1], offset: match.index });
    }
  }
  return found;
}

/** Imports that go right or sideways, leave out ".ts", or lead nowhere. `exists` answers for project paths. */
export function checkImports(file, exists) {
  const findings = [];
  const folder = folderOf(file.path);
  const rank = RANK.get(folder);
  if (folder !== undefined && rank === undefined && !BESIDE.has(folder)) {
    findings.push(
      finding(file, 0, `src/${folder} is no layer: see RANKS in scripts/tidy/layers.mjs`),
    );
  }
  for (const { specifier, offset } of importsOf(file)) {
    if (!specifier.startsWith(".")) continue;
    const target = normalize(join(dirname(file.path), specifier));
    if (!/\.(ts|json)$/.test(specifier)) {
      findings.push(finding(file, offset, `import "${specifier}" must end in .ts`));
    } else if (!exists(target)) {
      findings.push(finding(file, offset, `import "${specifier}": there is no ${target}`));
    }
    const message = layerMessage(file.path, rank, target);
    if (message !== undefined) findings.push(finding(file, offset, message));
  }
  return findings;
}

function layerMessage(path, rank, target) {
  const folder = folderOf(path);
  const targetFolder = folderOf(target);
  if (targetFolder === undefined) {
    const isBench = /^bench\//.test(target) && !/^bench\//.test(path);
    return isBench ? "nothing imports bench/" : undefined;
  }
  if (BESIDE.has(targetFolder) && folder !== targetFolder) {
    return `nothing imports src/${targetFolder}`;
  }
  if (rank === undefined || folder === targetFolder) return undefined;
  const targetRank = RANK.get(targetFolder);
  const highest = isTest(path) ? Math.max(rank - 1, MACHINE) : rank - 1;
  if (targetRank === undefined || targetRank <= highest) return undefined;
  const way = targetRank === rank ? "sideways" : "to the right";
  return `src/${folder} imports ${way}: ${target}`;
}

/** What the engine may not name, and why. `process`, `window` and the like are words of the field, so members decide. */
const IMPURE = [
  [/(?<![\w.])new Date\b|(?<![\w.])Date(?:\.\w+)?\(/g, "host clock"],
  [/(?<![\w.])performance\.(?:now|mark|measure|timeOrigin)\b/g, "host clock"],
  [/\bMath\.random\b/g, "unseeded chance: use base/random.ts"],
  [
    /(?<![\w.])(?:setTimeout|setInterval|setImmediate|queueMicrotask|requestAnimationFrame)\b/g,
    "timer",
  ],
  [/(?<![\w.])console\.\w+/g, "console"],
  [
    /(?<![\w.])(?:Promise\b|async\s+(?:function\b|\()|async\s+\w+\s*(?:\(|=>))|\bawait\b/g,
    "promise",
  ],
  [/(?<![\w.])(?:fetch\(|XMLHttpRequest\b|WebSocket\b|Worker\()/g, "input or output"],
  [/(?<![\w.])(?:globalThis|navigator|localStorage|HTMLElement)\b/g, "host object"],
  [/(?<![\w.])document\.(?:create|get|query|body|head|add)\w*/g, "DOM"],
  [/(?<![\w.])window\.(?:document|location|addEventListener|performance)\b/g, "DOM"],
  [/(?<![\w.])(?:Buffer\.|require\(|__dirname\b|__filename\b|import\.meta\b)/g, "Node API"],
  [
    /(?<![\w.])process\.(?:env|argv|exit|exitCode|std(?:in|out|err)|cwd|hrtime|memoryUsage|nextTick|platform|uptime)\b/g,
    "Node API",
  ],
  [/(?<![\w.])(?:BigInt\b|Big(?:Ui|I)nt64Array\b|\d+n\b)/g, "BigInt"],
];

/** Host APIs, chance, promises and module-level state in the folders left of cli; tests are free. */
export function checkPurity(file) {
  const rank = RANK.get(folderOf(file.path));
  if (rank === undefined || rank >= FIRST_IMPURE || isTest(file.path)) return [];
  const findings = [];
  for (const { specifier, offset } of importsOf(file)) {
    if (!specifier.startsWith(".")) {
      findings.push(finding(file, offset, `the engine imports a package: "${specifier}"`));
    }
  }
  for (const [pattern, why] of IMPURE) {
    for (const match of file.code.matchAll(pattern)) {
      findings.push(finding(file, match.index, `not pure (${why}): ${match[0].trim()}`));
    }
  }
  return [...findings, ...checkModuleState(file)];
}

const CONTAINER =
  "(?:Map|Set|WeakMap|WeakSet|Array|ArrayBuffer|(?:Int|Uint|Float)(?:8|16|32|64)Array)";

/** State that two machines of one process would share. Formatted code: column 0 is module level. */
function checkModuleState(file) {
  const findings = [];
  for (const match of file.code.matchAll(/^(?:export\s+)?(let|var)\s+(\w+)/gm)) {
    findings.push(
      finding(file, match.index, `module-level ${match[1]} ${match[2]}: state is the machine's`),
    );
  }
  for (const match of file.code.matchAll(
    /^(export\s+)?const\s+(\w+)([^=\n]*)=\s*(new\s+\w+|\[)?/gm,
  )) {
    const [, isExported, name, annotation, value] = match;
    const makesContainer = value === "[" || new RegExp(`^new\\s+${CONTAINER}$`).test(value ?? "");
    if (isExported && makesContainer && !isReadonly(file, match.index, annotation, value)) {
      findings.push(
        finding(
          file,
          match.index,
          `exported ${name} can be changed: give it a Readonly type or "as const"`,
        ),
      );
    }
    const write = writeInFunction(file.code, name);
    if (write !== undefined) {
      findings.push(
        finding(file, write, `a function writes the module-level ${name}: state is the machine's`),
      );
    }
  }
  return findings;
}

function isReadonly(file, offset, annotation, value) {
  if (/\breadonly\b|\bReadonly/.test(annotation)) return true;
  const end = /^\S.*;$|^[\])}].*;$/m.exec(file.code.slice(offset));
  const statement = file.code.slice(
    offset,
    end === null ? undefined : offset + end.index + end[0].length,
  );
  // A typed array has no read-only type: a table of constants is checked for writes instead.
  return /\bas const\b|\bas (?:readonly|Readonly)/.test(statement) || /Array$/.test(value ?? "");
}

/** A top-level function or class that is not closed again in the text before. */
const OPEN_FUNCTION = /^(?:export\s+)?(?:function\b|class\b|const\s+\w+\s*=\s*\()(?![\s\S]*^\})/m;

/** Offset of the first change of a module-level constant's contents inside a top-level function. */
function writeInFunction(code, name) {
  const change = new RegExp(
    `(?<![\\w.])${name}(?:\\[[^\\]\\n]*\\]\\s*(?:[-+*|&^]|<<|>>>?)?=(?!=)|\\.(?:push|pop|set|add|delete|clear|fill|splice|shift|unshift|sort)\\(|\\.length\\s*=(?!=))`,
    "g",
  );
  const shadow = new RegExp(`\\b(?:const|let)\\s+${name}\\b|[(,]\\s*${name}\\s*:`);
  for (const match of code.matchAll(change)) {
    const before = code.slice(0, match.index);
    const start = before.search(OPEN_FUNCTION);
    if (start >= 0 && !shadow.test(code.slice(start, match.index))) return match.index;
  }
  return undefined;
}
