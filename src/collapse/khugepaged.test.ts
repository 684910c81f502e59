import { expect, test } from "vitest";
import { machine } from "../machine/test-kit.ts";

test("smoke", () => {
  const t = machine();
  const r = t.map({ huge: 3 });
  t.fill(r);
  t.madvise(r, "HUGEPAGE");
  expect(t.m.khugepaged.mms).toEqual([t.mm.id]);
  expect(t.khugepaged()).toBe(3);
  expect(t.m.khugepaged).toBe(0);
});
