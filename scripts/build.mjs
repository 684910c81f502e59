#!/usr/bin/env node
/**
 * Builds the command and its workers into dist/: `npm run build`.
 *
 * Packages are bundled, so that node_modules is not needed at run time. Entries whose source is not there are left out. Also writes docs/schema/compare-1.json.
 */
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { build } from "esbuild";
import { foldConstants } from "./fold-constants.mjs";

const PROJECT = resolve(import.meta.dirname, "..");
const DIST = join(PROJECT, "dist");

/** Source, and name in dist/ without ".mjs". */
const ENTRIES = [
  ["src/cli/main.ts", "hugelab"],
  ["src/cli/compare-worker.ts", "compare-worker"],
  ["bench/main.ts", "bench"],
  ["bench/accuracy.ts", "accuracy"],
];

/** Packages written for require() find it through this. */
const REQUIRE =
  'import { createRequire as hugelabCreateRequire } from "node:module";' +
  "const require = hugelabCreateRequire(import.meta.url);";

/**
 * Bundles entries that exist. What is imported on demand goes to files of its own beside them, so that a start reads only
 * what it needs; all lie in one folder because they find each other by their own address.
 */
async function bundle(entries, outdir) {
  const sources = entries.filter(([source]) => existsSync(join(PROJECT, source)));
  await build({
    entryPoints: sources.map(([source, name]) => ({ in: join(PROJECT, source), out: name })),
    outdir,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    splitting: true,
    platform: "node",
    target: "node20",
    format: "esm",
    banner: { js: REQUIRE },
    define: { HUGELAB_VERSION: JSON.stringify(version()) },
    legalComments: "none",
    minifySyntax: true,
    plugins: [await foldConstants(PROJECT)],
    logLevel: "warning",
  });
}

function version() {
  return JSON.parse(readFileSync(join(PROJECT, "package.json"), "utf8")).version;
}

/** The published schema is made from the one in the code. */
async function writeSchema() {
  const folder = mkdtempSync(join(DIST, "schema.tmp-"));
  await bundle([["src/cli/report-schema.ts", "schema"]], folder);
  const { comparisonJsonSchema } = await import(pathToFileURL(join(folder, "schema.mjs")));
  rmSync(folder, { recursive: true });
  const text = `${JSON.stringify(comparisonJsonSchema(), null, 2)}\n`;
  const target = join(PROJECT, "docs", "schema", "compare-1.json");
  const isCurrent = existsSync(target) && readFileSync(target, "utf8") === text;
  if (!isCurrent) writeFileSync(target, text);
}

/** `npx hugelab` finds the project's own command only where a package's would be. */
function linkForNpx() {
  const modules = join(PROJECT, "node_modules");
  const bin = join(modules, ".bin");
  const isOwn = existsSync(bin) && lstatSync(modules).isDirectory();
  if (!isOwn) return;
  const link = join(bin, "hugelab");
  rmSync(link, { force: true });
  symlinkSync("../../dist/hugelab.mjs", link);
}

mkdirSync(DIST, { recursive: true });
mkdirSync(join(PROJECT, "docs", "schema"), { recursive: true });
for (const name of readdirSync(DIST)) {
  if (name.endsWith(".mjs")) rmSync(join(DIST, name));
}
await bundle(ENTRIES, DIST);
chmodSync(join(DIST, "hugelab.mjs"), 0o755);
await writeSchema();
linkForNpx();
