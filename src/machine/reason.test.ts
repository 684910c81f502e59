import { expect, test } from "vitest";
import { regionOf } from "../base/address.ts";
import { sysSetThpDisable } from "../syscall/prctl.ts";
import { digestOf } from "./digest.ts";
import { explainWindow, REASONS } from "./reason.ts";
import { type Kit, machine, part, type Range } from "./test-kit.ts";

/** "permitted eligible huge" as letters or dashes, then the reason. Asking changes nothing. */
function why(t: Kit, range: Range): string {
  const before = digestOf(t.m);
  const seen = explainWindow(t.m, range.mm, regionOf(range.start));
  expect(digestOf(t.m)).toBe(before);
  const letters = `${seen.isPermitted ? "p" : "-"}${seen.isEligible ? "e" : "-"}${seen.isHuge ? "h" : "-"}`;
  return `${letters} ${seen.reason?.name ?? ""}`.trim();
}

test("a huge page needs no reason", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  expect(why(t, range)).toBe("pe- untouched");
  t.read(range);
  expect(why(t, range)).toBe("pe- huge-zero");
  t.write(range);
  expect(why(t, range)).toBe("peh");
});

test("ANON-021 ANON-022 ANON-030 the policy, the advice and the process forbid in this order", () => {
  const t = machine({ enabled: "madvise" });
  const plain = t.map({ huge: 1 });
  t.fill(plain);
  expect(why(t, plain)).toBe("--- not-advised");
  t.knob("thp.enabled", "never");
  expect(why(t, plain)).toBe("--- policy");
  t.knob("thp.enabled", "always");
  t.madvise(plain, "NOHUGEPAGE");
  expect(why(t, plain)).toBe("--- no-hugepage");
  t.madvise(plain, "HUGEPAGE");
  sysSetThpDisable(t.m, t.mm, 1, 0, 0, 0);
  expect(why(t, plain)).toBe("--- thp-disabled");
});

test("ANON-027 a mapping that covers a window only in part is permitted, not eligible", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ pages: 511 });
  t.fill(range);
  expect(why(t, range)).toBe("p-- bounds");
  expect(why(t, { ...range, start: range.start + 2 ** 21 })).toBe("--- unmapped");
});

test("files and shared memory are another matter", () => {
  const t = machine({ enabled: "always" });
  expect(why(t, t.map({ huge: 1, shared: true }))).toBe("--- not-anonymous");
});

test("COLL-101 COLL-104 with 4K entries in the way the reason is what khugepaged's scan says", () => {
  const t = machine({ enabled: "never" });
  const range = t.map({ huge: 1 });
  t.write(range, 3);
  t.knob("thp.enabled", "always");
  expect(why(t, range)).toBe("pe- pte-table");
  t.knob("khugepaged.max_ptes_none", "510");
  expect(why(t, range)).toBe("pe- exceed_none_pte");
  t.knob("khugepaged.max_ptes_none", "511");
  t.pin(part(range, 3, 1));
  expect(why(t, range)).toBe("pe- not_suitable_page_count");
  t.unpin(t.pfns(range)[3]);
});

test("ANON-041 a huge folio mapped by pages", () => {
  const t = machine({ enabled: "always" });
  const range = t.map({ huge: 1 });
  t.fill(range);
  t.madvise(part(range, 3, 1), "NOHUGEPAGE");
  t.madvise(part(range, 3, 1), "HUGEPAGE");
  t.madvise(range, "HUGEPAGE");
  expect(why(t, range)).toBe("pe- pte-mapped");
});

test("every reason names a rule", () => {
  for (const { rule, text } of Object.values(REASONS))
    expect([rule, text]).toEqual([
      expect.stringMatching(/^(ANON|COLL)-\d{3}$/),
      expect.stringMatching(/^\S.{10,}/),
    ]);
});
