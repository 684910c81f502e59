import { describe, expect, test } from "vitest";
import { UsageError } from "../base/usage-error.ts";
import { checkKnob, KNOBS, knobNamed, parseKnob, sysfsPath } from "./knob-files.ts";

function lineOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof UsageError) return error.message;
    throw error;
  }
  throw new Error("nothing was thrown");
}

describe("knobs by name", () => {
  test("a knob and its value are read", () => {
    expect(parseKnob("thp.enabled=always", "--set")).toEqual({
      name: "thp.enabled",
      value: "always",
    });
    expect(parseKnob("khugepaged.max_ptes_none=0", "--set").value).toBe("0");
    expect(parseKnob("thp.hugepages-64kB.enabled=inherit", "--set").value).toBe("inherit");
  });

  test("sizes may be spelled with kb and a bare file name stands for the knob", () => {
    expect(parseKnob("thp.hugepages-64kb.enabled=always", "--set").name).toBe(
      "thp.hugepages-64kB.enabled",
    );
    expect(parseKnob("shrink_underused=0", "--set").name).toBe("thp.shrink_underused");
  });

  test("a misspelt knob names the nearest one", () => {
    expect(lineOf(() => parseKnob("thp.enabledd=always", "--set"))).toBe(
      '--set: found unknown knob "thp.enabledd", expected one of `hugelab list knobs`; did you mean thp.enabled?',
    );
    expect(lineOf(() => parseKnob("khugepaged.max_pte_none=0", "--set"))).toContain(
      "did you mean khugepaged.max_ptes_none?",
    );
  });

  test("a knob like none has no suggestion", () => {
    expect(lineOf(() => parseKnob("swappiness=1", "--set"))).not.toContain("did you mean");
  });

  test("a wrong word lists the accepted ones, in the caret's text at the value", () => {
    expect(lineOf(() => checkKnob("thp.enabled", "allways", "--set"))).toBe(
      '--set thp.enabled: found "allways", expected always, madvise or never; did you mean always?',
    );
    try {
      parseKnob("thp.enabled=on", "--set");
    } catch (error) {
      expect((error as UsageError).excerpt).toEqual({ text: "thp.enabled=on", column: 12 });
    }
  });

  test("a knob without a value is refused", () => {
    expect(lineOf(() => parseKnob("thp.enabled", "--set"))).toContain("expected KNOB=VALUE");
  });

  test("files that the kernel does not let anyone write are refused as such", () => {
    expect(lineOf(() => parseKnob("khugepaged.full_scans=0", "--set"))).toBe(
      "--set: found khugepaged.full_scans, which is read-only, expected a knob that can be written",
    );
  });

  test("there is no anonymous policy for 8 kB folios", () => {
    expect(lineOf(() => parseKnob("thp.hugepages-8kB.enabled=always", "--set"))).toContain(
      "unknown knob",
    );
    expect(parseKnob("thp.hugepages-8kB.shmem_enabled=always", "--set").value).toBe("always");
  });
});

describe("values as the kernel's files take them", () => {
  const accepts = (name: string, value: string): boolean => {
    try {
      checkKnob(name, value, "x");
      return true;
    } catch {
      return false;
    }
  };

  test("ANON-001 the words of enabled are exact", () => {
    const values = ["always", "madvise", "never", "Always", " always", "1", "inherit", "defer"];
    expect(values.filter((v) => accepts("thp.enabled", v))).toEqual(["always", "madvise", "never"]);
  });

  test("ANON-005 defrag has five words", () => {
    const values = ["always", "defer", "defer+madvise", "madvise", "never", "1", "inherit"];
    expect(values.filter((v) => accepts("thp.defrag", v))).toEqual(values.slice(0, 5));
  });

  test("ANON-006 use_zero_page is a decimal 0 or 1", () => {
    const values = ["0", "1", "+1", "2", "-1", "yes", "0x1", ""];
    expect(values.filter((v) => accepts("thp.use_zero_page", v))).toEqual(["0", "1", "+1"]);
  });

  test("ANON-007 the first letter decides for shrink_underused", () => {
    const canonical = (value: string) => checkKnob("thp.shrink_underused", value, "x").value;
    expect(["y", "True", "1", "on", "only"].map(canonical)).toEqual(["1", "1", "1", "1", "1"]);
    expect(["n", "False", "0", "off"].map(canonical)).toEqual(["0", "0", "0", "0"]);
    expect(["2", "o", "x"].filter((v) => accepts("thp.shrink_underused", v))).toEqual([]);
  });

  test("COLL-010 numbers are decimal, may have a plus and leading zeros, and have limits", () => {
    expect(checkKnob("khugepaged.max_ptes_none", "+007", "x").value).toBe("7");
    const refused = ["512", "-1", "0x1", "1.5", " 1", "1 ", ""];
    expect(refused.filter((v) => accepts("khugepaged.max_ptes_none", v))).toEqual([]);
    expect(accepts("khugepaged.max_ptes_none", "511")).toBe(true);
    expect(accepts("khugepaged.scan_sleep_millisecs", "4294967295")).toBe(true);
    expect(accepts("khugepaged.scan_sleep_millisecs", "4294967296")).toBe(false);
  });

  test("COLL-005 pages_to_scan refuses 0", () => {
    expect(accepts("khugepaged.pages_to_scan", "0")).toBe(false);
    expect(accepts("khugepaged.pages_to_scan", "1")).toBe(true);
  });

  test("every default is a value its knob accepts", () => {
    const odd = KNOBS.filter((k) => checkKnob(k.name, k.byDefault, "x").value !== k.byDefault);
    expect(odd).toEqual([]);
  });

  test("a knob knows its file", () => {
    expect(sysfsPath(knobNamed("thp.hugepages-64kB.enabled", "x"))).toBe(
      "/sys/kernel/mm/transparent_hugepage/hugepages-64kB/enabled",
    );
  });
});
