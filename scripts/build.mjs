#!/usr/bin/env node
/**
 * Builds the command and its workers into dist/: `npm run build`.
 *
 * Each entry becomes one file with everything it needs inside, so that a start reads one file and node_modules is not
 * needed at run time. Entries whose source is not there are left out. Also writes docs/schema/compare-1.json.
 */
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { build } from "esbuild";

const PROJECT = resolve(import.meta.dirname, "..");
const DIST = join(PROJECT, "dist");

/** Source, and name in dist/. */
const ENTRIES = [
  ["src/cli/main.ts", "hugelab.mjs"],
  ["src/cli/compare-worker.ts", "compare-worker.mjs"],
  ["bench/main.ts", "bench.mjs"],
  ["bench/accuracy.ts", "accuracy.mjs"],
];

/** Packages written for require() find it through this. */
const REQUIRE =
  'import { createRequire as hugelabCreateRequire } from "node:module";' +
  "const require = hugelabCreateRequire(import.meta.url);";

async function bundle(source, outfile) {
  const isCommand = outfile.endsWith("hugelab.mjs");
  await build({
    entryPoints: [join(PROJECT, source)],
    outfile,
    bundle: true,
    platform: "node",
    target: "node20",
    format: "esm",
    banner: { js: `${isCommand ? "#!/usr/bin/env node\n" : ""}${REQUIRE}` },
    define: { HUGELAB_VERSION: JSON.stringify(version()) },
    legalComments: "none",
    logLevel: "warning",
  });
}

function version() {
  return JSON.parse(readFileSync(join(PROJECT, "package.json"), "utf8")).version;
}

/** The published schema is made from the one in the code. */
async function writeSchema() {
  const module = join(DIST, "schema.tmp-build.mjs");
  await bundle("src/cli/report-schema.ts", module);
  const { comparisonJsonSchema } = await import(pathToFileURL(module));
  rmSync(module);
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
for (const [source, name] of ENTRIES) {
  if (existsSync(join(PROJECT, source))) await bundle(source, join(DIST, name));
}
chmodSync(join(DIST, "hugelab.mjs"), 0o755);
await writeSchema();
linkForNpx();
