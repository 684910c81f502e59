/**
 * An esbuild plugin that writes the numbers of constant tables into the bundle: `PG.LRU` becomes 128.
 *
 * In a bundle a table is a variable like any other, so that each member the engine reads costs a load, a check of the
 * object's shape and another load; a fault reads about a hundred. With the numbers in place (and esbuild's `minifySyntax`,
 * which does the same for constants that are plain numbers) the engine runs about a sixth faster.
 *
 * Only modules that import the table by its own name are changed, and only members that are numbers. Tables that are read
 * in other ways (by a computed name, as a whole) stay as they are.
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
  TRANSLATED: "src/hw/translate.ts",
};

const IMPORT = /import\s*\{([^}]*)\}\s*from\s*"(\.[^"]+)"/g;

/** The plugin for a project in this folder. */
export async function foldConstants(project) {
  const values = await readTables(project);
  return {
    name: "fold-constants",
    setup(builder) {
      builder.onLoad({ filter: /[\\/](?:src|bench)[\\/].*\.ts$/ }, ({ path }) => ({
        contents: fold(project, path, readFileSync(path, "utf8"), values),
        loader: "ts",
      }));
    },
  };
}

/** A module's text with the members of the tables it imports replaced. */
export function fold(project, path, text, values) {
  for (const [, names, from] of text.matchAll(IMPORT)) {
    const module = resolve(dirname(path), from);
    for (const name of names.split(",").map((part) => part.trim())) {
      if (TABLES[name] === undefined || join(project, TABLES[name]) !== module) continue;
      const member = new RegExp(`(?<![\\w.$])${name}\\.(\\w+)(?![\\w(])`, "g");
      text = text.replace(member, (whole, key) => literal(values[name][key]) ?? whole);
    }
  }
  return text;
}

/** The number as it is written, or undefined if it is none. */
function literal(value) {
  if (typeof value !== "number") return undefined;
  return value < 0 ? `(${value})` : String(value);
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
