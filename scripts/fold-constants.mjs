/**
 * An esbuild plugin that writes constant numbers into the bundle: `PG.LRU` becomes 128, `NO_PFN` becomes 0.
 *
 * In a bundle a constant is a variable like any other, so that each one the engine reads costs a load and a check of its
 * type, and a member of a table a check of the object's shape and another load; a fault reads about a hundred.
 *
 * Tables: only modules that import the table by its own name are changed, and only members that are numbers. Tables that
 * are read in other ways (by a computed name, as a whole) stay as they are.
 * Constants: a `const` of capital letters at the left margin whose value follows from numbers, from tables and from other
 * such constants moves to a module of its own, which has nothing but such numbers. esbuild's `minifySyntax` writes a number
 * wherever it is read, but only one that comes from another module and stands there before any other statement.
 */
import { readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { build } from "esbuild";

/** Where each table comes from. */
export const TABLES = {
  EVENT: "src/base/events.ts",
  VMSTAT: "src/base/counters.ts",
  THP_STAT: "src/base/counters.ts",
  PG: "src/phys/frame-table.ts",
  GFP: "src/phys/gfp.ts",
  MIGRATE: "src/phys/state.ts",
  ZONE: "src/phys/state.ts",
  LRU: "src/phys/state.ts",
  ENTRY: "src/mm/page-tables.ts",
  VM: "src/mm/vma.ts",
  FAULT: "src/fault/kinds.ts",
  FAULT_MARK: "src/fault/kinds.ts",
  HW_COUNTER: "src/hw/translate.ts",
  COST: "src/hw/cost-model.ts",
  TRANSLATED: "src/hw/translate.ts",
};

const IMPORT = /import\s*\{([^}]*)\}\s*from\s*"(\.[^"]+)"/g;

/** Added to a module's path: its numbers. */
const NUMBERS = "?numbers";
const CONSTANT = /^(export )?const ([A-Z][A-Z0-9_]*)(?:: \w+)? =\s+([^;]+);$/gm;

/** The plugin for a project in this folder. */
export async function foldConstants(project) {
  const values = await readTables(project);
  const read = (path) => fold(project, path, readFileSync(path, "utf8"), values);
  const known = new Map();
  return {
    name: "fold-constants",
    setup(builder) {
      const filter = /[\\/](?:src|bench)[\\/].*\.ts$/;
      builder.onLoad({ filter, namespace: "file" }, ({ path }) => ({
        contents: withoutNumbers(path, read(path), read, known),
        loader: "ts",
      }));
      builder.onResolve({ filter: /\?numbers$/ }, ({ path }) => ({ path, namespace: "numbers" }));
      builder.onLoad({ filter: /./, namespace: "numbers" }, ({ path }) => {
        const module = path.slice(0, -NUMBERS.length);
        return { contents: numbersOf(module, read(module), read, known), loader: "ts" };
      });
    },
  };
}

/**
 * A module's text with its constant numbers imported from their own module instead of declared. `read` gives the text of
 * an imported module; `known` keeps the constants of modules seen, by path.
 */
export function withoutNumbers(path, text, read, known) {
  const constants = constantsOf(path, text, read, known);
  if (constants.size === 0) return text;
  const names = [...constants.keys()];
  const exported = names.filter((name) => constants.get(name).isExported);
  const rest = text.replace(CONSTANT, (whole, _, name) => (constants.has(name) ? "" : whole));
  return (
    `import { ${names.join(", ")} } from ${JSON.stringify(path + NUMBERS)};\n` +
    `export { ${exported.join(", ")} };\n${rest}`
  );
}

/** The text of the module that has only the constant numbers of the module at `path`. */
export function numbersOf(path, text, read, known) {
  const constants = constantsOf(path, text, read, known);
  return [...constants]
    .map(([name, { value }]) => `export const ${name} = ${literal(value)};\n`)
    .join("");
}

/** The constant numbers of a module, by name: { value, isExported }. */
function constantsOf(path, text, read, known) {
  const found = known.get(path) ?? new Map();
  if (known.has(path)) return found;
  known.set(path, found);
  const visible = importedConstants(path, text, read, known);
  for (const [, exported, name, expression] of text.matchAll(CONSTANT)) {
    const value = evaluate(expression, visible);
    if (value === undefined) continue;
    visible.set(name, value);
    found.set(name, { value, isExported: exported !== undefined });
  }
  return found;
}

/** Values of the constants that a module imports under their own names. */
function importedConstants(path, text, read, known) {
  const visible = new Map();
  for (const [, names, from] of text.matchAll(IMPORT)) {
    const module = resolve(dirname(path), from);
    if (!module.endsWith(".ts")) continue;
    const constants = constantsOf(module, read(module), read, known);
    for (const name of names.split(",").map((part) => part.trim())) {
      const constant = constants.get(name);
      if (constant?.isExported) visible.set(name, constant.value);
    }
  }
  return visible;
}

/** The number that an expression of numbers and known constants gives, or undefined. */
function evaluate(expression, visible) {
  if (!/^[\w\s.+\-*/%()<>|&^~]+$/.test(expression)) return undefined;
  const names = expression.match(/(?<![\w.])[A-Za-z_]\w*/g) ?? [];
  if (names.some((name) => !visible.has(name))) return undefined;
  const value = new Function(...visible.keys(), `return (${expression});`)(...visible.values());
  return Number.isFinite(value) ? value : undefined;
}

/** A module's text with the members of the tables it has or imports replaced. */
export function fold(project, path, text, values) {
  for (const name of tablesIn(project, path, text)) {
    const member = new RegExp(`(?<![\\w.$])${name}(?:\\.(\\w+)|\\["([^"]+)"\\])(?![\\w(])`, "g");
    text = text.replace(
      member,
      (whole, key, quoted) => literal(values[name][key ?? quoted]) ?? whole,
    );
  }
  return text;
}

/** Names of the tables that are declared in a module, or imported by it from where they are declared. */
function tablesIn(project, path, text) {
  const isFrom = (name, module) => TABLES[name] && join(project, TABLES[name]) === module;
  const own = Object.keys(TABLES).filter((name) => isFrom(name, path));
  const imported = [...text.matchAll(IMPORT)].flatMap(([, names, from]) => {
    const module = resolve(dirname(path), from);
    return names
      .split(",")
      .map((part) => part.trim())
      .filter((name) => isFrom(name, module));
  });
  return [...own, ...imported];
}

/** The number as it is written, or undefined if it is none. */
function literal(value) {
  if (typeof value !== "number") return undefined;
  return value < 0 || Object.is(value, -0) ? `(${value})` : String(value);
}

/** Every table as an object, from the source itself. */
async function readTables(project) {
  const lines = Object.entries(TABLES).map(
    ([name, module]) => `export { ${name} } from "./${module}";`,
  );
  const { outputFiles } = await build({
    stdin: { contents: lines.join("\n"), resolveDir: project, loader: "ts" },
    bundle: true,
    write: false,
    format: "esm",
    logLevel: "warning",
  });
  const code = Buffer.from(outputFiles[0].contents).toString("base64");
  return import(`data:text/javascript;base64,${code}`);
}
