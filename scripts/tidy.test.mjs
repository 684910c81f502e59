/**
 * The tidy checks on small files that break one rule each, and on near misses that break none.
 */
import { describe, expect, test } from "vitest";
import { definedRules, malformedIds, ruleIds, testedRules, testTitles } from "./rule-coverage.mjs";
import * as docs from "./tidy/docs.mjs";
import { checkImports, checkPurity } from "./tidy/layers.mjs";
import { checkCitedRules, checkTitles } from "./tidy/rules.mjs";
import { lineAt, source } from "./tidy/source.mjs";
import { checkColumns, checkHeader, checkName, checkSyntax } from "./tidy/style.mjs";

const messages = (findings) => findings.map((f) => f.message);
const lines = (findings) => findings.map((f) => f.line);
const anyFile = () => true;

describe("source", () => {
  test("comments and strings are blanked and every offset stays", () => {
    const text = 'const a = "Date()"; // Date()\nconst b = 1; /* Date() */ Date();\n';
    const { code, bare } = source("src/mm/a.ts", text);
    expect(code.length).toBe(text.length);
    expect(code.match(/Date\(\)/g)).toHaveLength(1);
    expect(bare.match(/Date\(\)/g)).toHaveLength(2);
    expect(lineAt(code, code.indexOf("Date()"))).toBe(2);
  });

  test("the code inside a template is code and the text around it is not", () => {
    const { code } = source("a.ts", "f(`Date() ${g({ a: Date() })} Date()`); h();");
    expect(code.match(/Date\(\)/g)).toHaveLength(1);
    expect(code.endsWith("h();")).toBe(true);
  });

  test("a regular expression with a quote does not open a string, and a division is none", () => {
    const { code } = source("a.ts", "const r = /[\"'/]/g; const q = a / b; const s = c / d; x();");
    expect(code).toContain("x();");
    expect(code).toContain("a / b");
    expect(code).not.toContain("'");
  });
});

describe("layers", () => {
  const imports = (path, target) =>
    messages(checkImports(source(path, `import { x } from "${target}";`), anyFile));

  test("a file may import its own folder and folders to the left", () => {
    expect(imports("src/mm/a.ts", "./b.ts")).toEqual([]);
    expect(imports("src/mm/a.ts", "../phys/b.ts")).toEqual([]);
    expect(imports("src/cli/a.ts", "../lab/b.ts")).toEqual([]);
  });

  test("an import to the right or sideways is refused", () => {
    expect(imports("src/phys/a.ts", "../mm/b.ts")).toEqual([
      "src/phys imports to the right: src/mm/b.ts",
    ]);
    expect(imports("src/hw/a.ts", "../huge/b.ts")).toEqual([
      "src/hw imports sideways: src/huge/b.ts",
    ]);
  });

  test("re-exports, types, dynamic imports and bare imports count as imports", () => {
    const text = [
      'export { a } from "../mm/a.ts";',
      'import type { B } from "../mm/b.ts";',
      'const c = import("../mm/c.ts");',
      'import "../mm/d.ts";',
      'const text = `it comes from "../mm/e.ts"`;',
    ].join("\n");
    expect(lines(checkImports(source("src/phys/a.ts", text), anyFile))).toEqual([1, 2, 3, 4]);
  });

  test("a test may use all that belongs to the machine, and nothing behind it", () => {
    expect(imports("src/mm/a.test.ts", "../machine/b.ts")).toEqual([]);
    expect(imports("src/mm/a.test.ts", "../syscall/b.ts")).toEqual([]);
    expect(imports("src/mm/a.test.ts", "../lab/b.ts")).toHaveLength(1);
    expect(imports("src/trace/a.test.ts", "../scenario/b.ts")).toHaveLength(1);
    expect(imports("src/mm/a.ts", "../machine/b.ts")).toHaveLength(1);
  });

  test("nothing imports bench or conformance, and they may import all", () => {
    expect(imports("src/cli/a.ts", "../../bench/b.ts")).toEqual(["nothing imports bench/"]);
    expect(imports("src/cli/a.ts", "../conformance/b.ts")).toEqual([
      "nothing imports src/conformance",
    ]);
    expect(imports("bench/a.ts", "../src/hw/b.ts")).toEqual([]);
    expect(imports("src/conformance/a.ts", "../machine/b.ts")).toEqual([]);
  });

  test("a folder of no layer, a missing file and a missing ending are named", () => {
    expect(imports("src/tools/a.ts", "./b.ts")).toHaveLength(1);
    expect(imports("src/mm/a.ts", "./b")).toEqual(['import "./b" must end in .ts']);
    const nowhere = checkImports(source("src/mm/a.ts", 'import "./b.ts";'), () => false);
    expect(messages(nowhere)).toEqual(['import "./b.ts": there is no src/mm/b.ts']);
  });
});

describe("purity", () => {
  const pure = (text, path = "src/mm/a.ts") => checkPurity(source(path, text));

  test.each([
    "const t = Date.now();",
    "const t = new Date();",
    "const t = performance.now();",
    "const x = Math.random();",
    "setTimeout(f, 1);",
    'console.log("x");',
    "export async function f() {}",
    "const p = new Promise(f);",
    'const e = process.env["X"];',
    "const b = Buffer.alloc(1);",
    "const u = import.meta.url;",
    "const n = 5n;",
    'import { readFileSync } from "node:fs";',
    'import { parse } from "yaml";',
  ])("the engine may not say %s", (text) => {
    expect(pure(text)).toHaveLength(1);
  });

  test("words of the field that a host also uses are fine", () => {
    const text = [
      "function f(process: number, window: Window) {",
      "  m.process(process); window.thread; report.performance = 1; x.Date();",
      '  return "Math.random"; // console.log',
      "}",
    ].join("\n");
    expect(pure(text)).toEqual([]);
  });

  test("cli, bench and tests may use the host", () => {
    const text = 'import { readFileSync } from "node:fs"; console.log(Date.now());';
    expect(pure(text, "src/cli/a.ts")).toEqual([]);
    expect(pure(text, "bench/a.ts")).toEqual([]);
    expect(pure(text, "src/mm/a.test.ts")).toEqual([]);
  });

  test("module-level let, exported containers and tables written by functions are state", () => {
    expect(pure("let next = 0;")).toHaveLength(1);
    expect(pure("export const cache = new Map();")).toHaveLength(1);
    expect(pure("export const names = [1, 2];")).toHaveLength(1);
    const written = "const seen = new Map();\nfunction f() {\n  seen.set(1, 2);\n}\n";
    expect(lines(pure(written))).toEqual([3]);
    const scratch = "const view = new Float64Array(1);\nexport function f() {\n  view[0] = 1;\n}\n";
    expect(lines(pure(scratch))).toEqual([3]);
  });

  test("constants, lookup tables filled at load and local variables are not state", () => {
    expect(pure("export const NAMES = [1, 2] as const;")).toEqual([]);
    expect(pure("export const NAMES: readonly number[] = [1];")).toEqual([]);
    expect(pure("export const M: ReadonlyMap<string, number> = new Map();")).toEqual([]);
    expect(pure("const T = new Uint32Array(4);\nfor (const i of T) {\n  T[i] = i;\n}\n")).toEqual(
      [],
    );
    expect(pure("function f() {\n  let x = 0;\n  const seen = [];\n  seen.push(x);\n}\n")).toEqual(
      [],
    );
    const shadow = "const a = [];\nfunction f(a: number[]) {\n  a.push(1);\n}\n";
    expect(pure(shadow)).toEqual([]);
  });
});

describe("style", () => {
  test("a file without a contract, or with an empty one, is refused; a test needs none", () => {
    expect(checkHeader(source("src/mm/a.ts", "const a = 1;"))).toHaveLength(1);
    expect(checkHeader(source("src/mm/a.ts", "/** Hm. */\n"))).toHaveLength(1);
    expect(checkHeader(source("src/mm/a.ts", "/** Maps one page of a region. */\n"))).toEqual([]);
    expect(
      checkHeader(source("src/cli/a.ts", "#!/usr/bin/env node\n/** The entry point. */\n")),
    ).toEqual([]);
    expect(checkHeader(source("src/mm/a.test.ts", "test();"))).toEqual([]);
  });

  test("each typed array of an interface needs a comment of its own", () => {
    const text = [
      "export interface Table {",
      "  /** References. */",
      "  readonly refs: Int32Array;",
      "  readonly maps: Int32Array;",
      "  count: number;",
      "}",
    ].join("\n");
    const found = checkColumns(source("src/phys/a.ts", text));
    expect(found).toEqual([
      {
        path: "src/phys/a.ts",
        line: 4,
        message: "column Table.maps has no comment: meaning, unit, rows",
      },
    ]);
  });

  test("any, enum, namespace, parameter properties and bare TODOs are refused", () => {
    const text = [
      "const a = b as any;",
      "enum Kind { A }",
      "namespace N {}",
      "class C { constructor(private readonly x: number) {} }",
      "// TODO later",
    ].join("\n");
    expect(lines(checkSyntax(source("a.ts", text))).sort()).toEqual([1, 2, 3, 4, 5]);
    expect(checkSyntax(source("a.ts", 'const s = "as any"; const anyone: anything = 1;'))).toEqual(
      [],
    );
  });

  test("a file named after nothing is refused", () => {
    expect(checkName("src/mm/utils.ts")).toHaveLength(1);
    expect(checkName("src/mm/helpers.test.ts")).toHaveLength(1);
    expect(checkName("src/mm/vma.ts")).toEqual([]);
  });
});

describe("rules", () => {
  const rules = new Set(["ANON-021", "COLL-031"]);

  test("IDs are read from lines, list items and table rows that open with them", () => {
    const text = "ANON-001 a\n- **ANON-002** b\n| ANON-003 | c |\nsee ANON-004\n";
    expect(definedRules(text)).toEqual(["ANON-001", "ANON-002", "ANON-003"]);
    expect(ruleIds("see ANON-004 and SHM-010, not ANON-12 or XANON-123")).toEqual([
      "ANON-004",
      "SHM-010",
    ]);
    expect(malformedIds("ANON-004 ANON-12 COLL_031 SHM0101")).toEqual([
      "ANON-12",
      "COLL_031",
      "SHM0101",
    ]);
  });

  test("titles of tests and rules lines of scenarios count, other text does not", () => {
    const tests = [
      'test("ANON-021 a", f); // COLL-031',
      "it(`COLL-031 ${x}`, f); describe('ANON-022 b', f); other('ANON-023 c');",
      'const x = "ANON-024";',
    ].join("\n");
    expect(testTitles(tests).map((t) => t.title)).toEqual([
      "ANON-021 a",
      "COLL-031 ${x}",
      "ANON-022 b",
    ]);
    expect(testedRules("src/a.test.ts", tests)).toEqual(["ANON-021", "COLL-031", "ANON-022"]);
    expect(testedRules("src/a.ts", tests)).toEqual([]);
    expect(testedRules("a.scn", "# rules: ANON-021 COLL-031\nmmap ANON-022\n")).toEqual([
      "ANON-021",
      "COLL-031",
    ]);
  });

  test("a cited rule must exist and be written in full", () => {
    const found = checkCitedRules(
      source("a.ts", "// ANON-021, ANON-999 and COLL-31; UTF-8"),
      rules,
    );
    expect(messages(found)).toEqual([
      "ANON-999 is not in docs/rules",
      "COLL-31 is no rule ID: three digits behind a dash",
    ]);
  });

  test("rule IDs come first in a title", () => {
    const titles = (title) => checkTitles(source("a.test.ts", `test("${title}", f);`));
    expect(titles("ANON-021 a huge fault")).toEqual([]);
    expect(titles("ANON-021, COLL-031 a huge fault")).toEqual([]);
    expect(titles("a huge fault")).toEqual([]);
    expect(titles("a huge fault (ANON-021)")).toHaveLength(1);
    expect(titles("ANON-021")).toHaveLength(1);
    expect(titles("ANON-021 a fault, as COLL-031 says")).toHaveLength(1);
  });

  test("tests that do not run or would not be counted are named", () => {
    const found = (text) => checkTitles(source("a.test.ts", text));
    expect(found('test.skip("later", f);')).toHaveLength(1);
    expect(found('describe.only("this", f);')).toHaveLength(1);
    expect(found('test.each([1, 2])("ANON-021 %i pages", f);')).toHaveLength(1);
    expect(found('test.each([1, 2])("%i pages", f);')).toEqual([]);
  });
});

describe("documents", () => {
  const exists = (path) => ["README.md", "docs/a.md", "scripts/x.mjs", "src/mm"].includes(path);
  const read = () => "# Life of a `fault`\n\n## Lock tree\n";

  test("links to files and headings must lead somewhere", () => {
    const text = [
      "[a](a.md) [b](../README.md) [c](a.md#lock-tree) [d](#here) [e](https://x.org/y)",
      "[bad](b.md)",
      "[bad](a.md#nowhere)",
      "```",
      "[in code](nowhere.md)",
      "```",
    ].join("\n");
    const file = { path: "docs/a.md", text };
    const heads = (path) => (path === "docs/a.md" ? `# Here\n${read()}` : read());
    expect(lines(docs.checkLinks(file, exists, heads))).toEqual([2, 3]);
  });

  test("commands must be scripts of package.json and files of the project", () => {
    const text = [
      "`npm test`, `npm run check`, `npm ci`, node scripts/x.mjs; Node 20 and npm only",
      "    npm run nothing",
      "`npm start`",
      "node scripts/y.mjs",
    ].join("\n");
    const found = docs.checkCommands({ path: "a.md", text }, { check: "", test: "" }, exists);
    expect(lines(found).sort()).toEqual([2, 3, 4]);
  });

  test("files named in code and identifiers of the glossary must exist", () => {
    const text = "`src/mm/` and `src/nothing`\n| term | `headOf` | x |\n| t | `PG.X` | y |\n";
    const file = { path: "docs/glossary.md", text };
    expect(messages(docs.checkNamedFiles(file, exists))).toEqual(["there is no src/nothing"]);
    const words = new Set(["headOf", "PG"]);
    expect(messages(docs.checkGlossary(file, words))).toEqual([
      "the sources do not contain `PG.X`",
    ]);
  });

  test("paths of one machine are found, also in the middle of a binary file", () => {
    const own = (text) => docs.checkOwnPaths({ path: "a", text });
    expect(own(`\0\x01/${"root"}/x.ts\0`)).toHaveLength(1);
    expect(own(`see /${"work"}/main`)).toHaveLength(1);
    expect(own(`/home/user/x, src/${"work"}/x, /tmp/x`)).toEqual([]);
  });
});
