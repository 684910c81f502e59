/**
 * Constants written into the bundle: right values, and nothing but members of imported tables is touched.
 */
import { resolve } from "node:path";
import { expect, test } from "vitest";
import { fold, foldConstants, numbersOf, TABLES, withoutNumbers } from "./fold-constants.mjs";

const PROJECT = resolve(import.meta.dirname, "..");
const values = { PG: { LRU: 128, DIRTY: 2048, NAMES: ["a"] }, VM: { READ: -1 } };
const folded = (text) => fold(PROJECT, resolve(PROJECT, "src/mm/x.ts"), text, values);

test("members of an imported table become numbers", () => {
  const head = 'import { NO_PFN, PG } from "../phys/frame-table.ts";\n';
  expect(folded(`${head}f(PG.LRU | PG.DIRTY, x.PG.LRU, MYPG.LRU);`)).toBe(
    `${head}f(128 | 2048, x.PG.LRU, MYPG.LRU);`,
  );
});

test("what is no number, no member, called or computed stays", () => {
  const head = 'import { PG } from "../phys/frame-table.ts";\n';
  for (const text of ["PG.NAMES", "PG.OTHER", "PG.LRU()", "PG[x]", "f(PG)", "PG.LRUX", 'PG["X"]']) {
    expect(folded(head + text)).toBe(head + text);
  }
});

test("members named in quotes, and those in the table's own module, become numbers", () => {
  expect(folded('import { PG } from "../phys/frame-table.ts";\nPG["LRU"] | 1;')).toContain(
    "\n128 | 1;",
  );
  const own = resolve(PROJECT, "src/phys/frame-table.ts");
  const text = "export const PG = { LRU: 128 };\n";
  expect(fold(PROJECT, own, `${text}x & PG.LRU;`, values)).toBe(`${text}x & 128;`);
});

test("a table of the same name from elsewhere stays", () => {
  const text = 'import { PG } from "./own.ts";\nPG.LRU;\n';
  expect(folded(text)).toBe(text);
  expect(folded("const PG = { LRU: 1 };\nPG.LRU;")).toBe("const PG = { LRU: 1 };\nPG.LRU;");
});

test("negative numbers are bracketed", () => {
  expect(folded('import { VM } from "./vma.ts";\nx -VM.READ;')).toContain("x -(-1);");
});

test("every table exists and has numbers", async () => {
  const plugin = await foldConstants(PROJECT);
  let load;
  plugin.setup({
    onLoad: ({ namespace }, callback) => {
      if (namespace === "file") load = callback;
    },
    onResolve: () => {},
  });
  const { contents } = load({ path: resolve(PROJECT, "src/phys/lru.ts") });
  expect(contents).not.toMatch(/\bPG\.[A-Z]/);
  expect(Object.keys(TABLES).length).toBeGreaterThan(10);
});

/** Two modules, the second importing from the first. */
const MODULES = {
  "/p/low.ts":
    "export const ONE = 1;\nconst OWN = 7;\n/** Doc. */\nexport const EMPTY: Pfn = -ONE;\n",
  "/p/high.ts": [
    'import { EMPTY, ONE, OWN } from "./low.ts";',
    'import { FAR } from "a-package";',
    "const SHIFT = (ONE << 4) | 3;",
    "const MASK = 2 ** SHIFT - 1;",
    "const FROM_EMPTY = EMPTY * 0.5;",
    "const UNKNOWN = OWN + 1;",
    "const LIST = [ONE];",
    "const TEXT = name(ONE);",
    "const DISTANT = FAR;",
    "  const INNER = 5;",
    "let LATER = 5;",
    "",
  ].join("\n"),
};
const readModule = (path) => MODULES[path];
const high = (work) => work("/p/high.ts", MODULES["/p/high.ts"], readModule, new Map());

test("constants that follow from numbers and from imported constants get a module of their own", () => {
  expect(high(numbersOf)).toBe(
    `export const SHIFT = 19;\nexport const MASK = ${2 ** 19 - 1};\nexport const FROM_EMPTY = (-0.5);\n`,
  );
});

test("a module imports its numbers, exports what it exported, and keeps every other line", () => {
  const text = withoutNumbers("/p/low.ts", MODULES["/p/low.ts"], readModule, new Map());
  expect(text.split("\n").filter((line) => line !== "")).toEqual([
    'import { ONE, OWN, EMPTY } from "/p/low.ts?numbers";',
    "export { ONE, EMPTY };",
    "/** Doc. */",
  ]);
  const kept = high(withoutNumbers);
  for (const name of ["UNKNOWN", "LIST", "TEXT", "DISTANT", "INNER"]) {
    expect(kept).toContain(`const ${name} = `);
  }
  expect(kept).not.toMatch(/const (SHIFT|MASK|FROM_EMPTY) = /);
});

test("a module without constant numbers stays as it is", () => {
  const text = 'import { x } from "./low.ts";\nx();\n';
  expect(withoutNumbers("/p/none.ts", text, readModule, new Map())).toBe(text);
});
