/**
 * Constants written into the bundle: right values, and nothing but members of imported tables is touched.
 */
import { resolve } from "node:path";
import { expect, test } from "vitest";
import { fold, foldConstants, TABLES } from "./fold-constants.mjs";

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
  for (const text of ["PG.NAMES", "PG.OTHER", "PG.LRU()", "PG[x]", "f(PG)", "PG.LRUX"]) {
    expect(folded(head + text)).toBe(head + text);
  }
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
    onLoad: (_, callback) => {
      load = callback;
    },
  });
  const { contents } = load({ path: resolve(PROJECT, "src/phys/lru.ts") });
  expect(contents).not.toMatch(/\bPG\.[A-Z]/);
  expect(Object.keys(TABLES).length).toBeGreaterThan(10);
});
